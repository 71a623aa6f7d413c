"""Texts of strangers: file names and captions in natural order, safe on a disk, on a page, in Markdown."""

import re
import unicodedata

PICKLES = (".pt", ".pth", ".ckpt")
"""Endings of checkpoints that PyTorch pickled: what `tae.convert` opens, and nothing else does."""
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_INVISIBLE = "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
"""Characters without a shape that Unicode counts as letters or marks."""


def natural_order(name: str) -> str:
    """Key that sorts names as people do: img2 before img10.

    Numbers by value, letters whatever their case; last the exact spelling, so that no two are equal. One short text, for
    a million names are sorted at once.
    """

    def by_value(found: re.Match) -> str:
        digits = str(int(found[0]))
        return f"\1{len(digits):03}{digits}"  # \1: before any letter

    return re.sub(r"\d+", by_value, name.lower()) + "\0" + name


def safe_name(name: str) -> str:
    """A stranger's name as a file name: ASCII letters, digits, - _ . only, at most 60 characters, never empty.

    Without folders, leading or trailing dots, and names that Windows reserves.
    """
    last = re.split(r"[/\\]", name)[-1][:1000]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:60].rstrip("._-")
    if re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", plain, re.IGNORECASE):
        plain = f"file_{plain}"[:60].rstrip("._-")
    return plain or "unnamed"


def plain_text(name: str, limit: int = 60) -> str:
    """A stranger's text for showing: no control, bidirectional or invisible characters, shortened in the middle."""
    if len(name) > 10_000:
        name = name[:5000] + name[-5000:]
    kept = "".join(c for c in name if unicodedata.category(c) not in _UNSEEN and not re.match(_INVISIBLE, c)).strip()
    if len(kept) > limit:
        tail = (limit - 1) // 2
        kept = f"{kept[: limit - 1 - tail]}…{kept[len(kept) - tail :]}"
    return kept or "unnamed"


def escape_markdown(text: str) -> str:
    """Text, put on one line, that Streamlit's Markdown shows as it stands: no link, image, HTML, formula or icon.

    Escapes alone do not do it: Streamlit looks for addresses, :icons: and arrows once more, after the escapes are
    gone. A character of no width, put where such a thing begins, breaks it.
    """
    escaped = re.sub(r"([\\`*_{}\[\]()<>#+\-=.!|~$:&^])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?i)([:@](?=\S)|www(?=\\\.)|[-<>~](?=\\[-=>]))", "\\1\u200b", escaped)
