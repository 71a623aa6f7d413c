"""Numbers as texts spell them: a true minus sign, no space before the percent sign."""


def signed(value: float, digits: int = 1) -> str:
    """Such as "+1.5" or "−29.6"; what rounds to nothing has no minus."""
    return f"{value:+z.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 0) -> str:
    """A share as "46%"."""
    return f"{100 * share:z.{digits}f}%".replace("-", "−")
