"""Texts of strangers: file names and captions in natural order, safe on a disk, on a page, in Markdown."""

import re
import unicodedata
from itertools import pairwise

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

    return re.sub(r"\d{1,999}", by_value, name.lower()) + "\0" + name


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


def likely_text(raw: bytes) -> str:
    """What the bytes of a name most likely mean, where nothing says how they are to be read.

    UTF-8 where they are that; else Japanese, Chinese or Korean where most characters are, two or more in a row; else the
    European encoding of DOS or Windows that makes letters of most of them.
    """
    are_pairs = re.fullmatch(rb"(?:[\0-\x7f]|[\x81-\xfe]{2})*+", raw)  # not so a lone accented letter of Europe
    for encoding, script in (("utf-8", ""), ("cp932", "HIRAGANA|KATAKANA"), ("cp949", "HANGUL"), ("gb18030", "CJK")):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8":
            return text
        other = [unicodedata.name(one, "") for one in text if not one.isascii()]
        share = sum(re.match(script, name) is not None for name in other) / max(1, len(other))
        least = {"cp932": 0.3, "cp949": 1, "gb18030": 0.8}[encoding]
        if re.search(r"[^\0-\x7f]{2}", text) and share >= least and (are_pairs or encoding == "cp932"):
            return text

    def letters(encoding: str) -> int:
        text = raw.decode(encoding, "replace")
        odd = sum(one.islower() and after.isupper() and not after.isascii() for one, after in pairwise(text))
        return sum(unicodedata.name(one, "").startswith("LATIN") for one in text) - odd

    return raw.decode(max(("cp437", "cp850", "cp1252"), key=letters), "replace")
