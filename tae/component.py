"""What the components in the browser share: each is one JavaScript file and one style sheet, without a build step."""

from pathlib import Path


def read_script(path: Path) -> str:
    """A component as a JavaScript module; its default export mounts it."""
    return path.read_text(encoding="utf-8")


def read_style(path: Path) -> str:
    """Its style sheet, after what all share: colours, notes, everything about `.tae-component`."""
    return Path(__file__).with_name("component.css").read_text(encoding="utf-8") + path.read_text(encoding="utf-8")
