"""JPEG files that are not whole, or of a kind that is not read: what is the matter with them."""

import hashlib
import io
import re
from collections.abc import Iterator

from PIL import Image

_END = b"\xff\xd9"
_FILLERS = (b"", bytes(64), b"\x55" * 64, b"\xaa" * 64, b"\xfe\x31" * 32)
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in a scan: neither a stuffed byte nor a restart
_SEQUENTIAL, _PROGRESSIVE, _ARITHMETIC = (0xC0, 0xC1), 0xC2, (0xC9, 0xCA)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def mended(data: bytes) -> bytes | None:
    """The file with its end mark, where it lacks that alone; None where pixels are missing, too.

    If all pixels are there, what comes behind them is passed over; if not, it is read as pixels, and other bytes give others.
    """
    if data.endswith(_END) or not _scans_are_complete(data):
        return None
    whole = data.removesuffix(b"\xff")
    try:
        found = set()
        for filler in _FILLERS:
            with Image.open(io.BytesIO(whole + filler + _END), formats=("JPEG",)) as image:
                found.add(hashlib.sha256(image.tobytes()).digest())
    except Exception:  # broken files make parsers raise nearly anything
        return None
    return whole + _END if len(found) == 1 else None


def kind_not_read(data: bytes) -> str | None:
    """A sentence about a JPEG of a kind that is not read; None where it is of one that is."""
    for marker, body in _segments(data):
        if marker in _FRAMES:
            if len(body) > 0 and body[0] != 8:
                return f"a JPEG of {body[0]} bits is not read; save it as 16-bit PNG or TIFF"
            if marker not in (*_SEQUENTIAL, _PROGRESSIVE, *_ARITHMETIC):
                return "a lossless or hierarchical JPEG is not read; save it as PNG or TIFF"
            return None
    return None


def _scans_are_complete(data: bytes) -> bool:
    """Whether each component has had all its coefficients, to the last bit."""
    components: dict[int, list[int]] = {}  # lowest bit that came so far, of each coefficient; 99: none
    for marker, body in _segments(data):
        if marker in _FRAMES and len(body) >= 6:
            components = {component: [99] * 64 for component in body[6::3]}
        elif marker == 0xDA:
            count = body[0] if body else 0
            if not count or len(body) < 4 + 2 * count:
                return False
            first, last, bit = body[1 + 2 * count : 4 + 2 * count]
            for component in body[1 : 1 + 2 * count : 2]:
                if component not in components or last > 63:
                    return False
                for place in range(first, last + 1):
                    components[component][place] = bit & 15
    return bool(components) and all(bit == 0 for bits in components.values() for bit in bits)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) in order; of scans their headers."""
    place = 2
    for _ in range(100_000):
        found = _MARKER.search(data, place)
        if found is None or found[1] == b"\xd9":
            return
        marker, place = found[1][0], found.end()
        if marker == 0x01:
            continue
        length = int.from_bytes(data[place : place + 2])
        yield marker, data[place + 2 : place + length]
        place += max(2, length)
