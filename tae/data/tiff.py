"""The pages of a TIFF file, found and read one at a time.

`tifffile` finds pages lazily, but does not keep these limits: it notices a circle of pages only at the hundredth one, and else
goes on to 2^32 pages; it takes a chain that is cut for its end; and Pillow, which must decode all pages so that each has the
numbers that it has alone, would read a whole stack into memory for one compressed page. So the little that is needed of the
format, a page's list of tags, is read here, and a page is handed to Pillow as a file of its own.
"""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from tae.data.decode import MAX_PIECES, DecodedImage, ImageError, check_bytes, read_image

MAX_PAGES = 1_000_000

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}
"""TIFF's types of numbers."""
_PAGE_TAGS = {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325}
_PAGE_TAGS |= {338, 339, 347, 529, 530, 531, 532}
"""TIFF's tags that a page's pixels depend on."""


@dataclass(frozen=True)
class PageStack:
    """A TIFF file of several pages, whose directories lie at `places`."""

    order: str
    is_big: bool
    places: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.places)

    def read(self, file: BinaryIO, frame: int, limits: tuple[float, float] | None) -> DecodedImage:
        try:
            page = _page_alone(file, int(self.places[frame]), self.order, self.is_big)
        except (struct.error, KeyError, EOFError):
            raise ImageError(
                "the TIFF page is damaged, cut short, or of a kind that is not read; save it again"
            ) from None
        return read_image(page, limits=limits, shown_side=1)

    def limits(self, file: BinaryIO) -> tuple[float, float] | None:
        pages = (self.read(file, frame, None).limits for frame in range(self.num_frames))
        lows, highs = [], []
        for found in pages:
            if found is None:  # by the type of the first page, all are read
                return None
            lows.append(found[0])
            highs.append(found[1])
        return min(lows), max(highs)


def page_stack(file: BinaryIO, start: bytes) -> PageStack | None:
    """Find the pages of an open TIFF file that begins with `start`; None: it has one, and is an image like any other.

    Raises ImageError if the pages are too many, lie in a circle, or none is a full one; struct.error or EOFError if the file is
    cut short.
    """
    order, is_big = "<" if start[:2] == b"II" else ">", start[2 if start[:2] == b"II" else 3] == 43
    place = struct.unpack_from(order + ("Q" if is_big else "I"), start, 8 if is_big else 4)[0]
    seen, places = set(), []
    while place:
        if place in seen or len(seen) >= MAX_PAGES:
            raise ImageError(f"the file must have at most {MAX_PAGES:,} pages, and no circle of them")
        seen.add(place)
        entries, following = _directory(file, place, order, is_big)
        kind = entries.get(254)
        if kind is None or not struct.unpack(order + "I", kind[2][:4])[0] & 0b101:  # a smaller copy; a mask
            places.append(place)
        place = following
    if not places:
        raise ImageError("the file has no full page")
    return PageStack(order, is_big, np.array(places, np.uint64)) if len(seen) > 1 else None


def _directory(file: BinaryIO, place: int, order: str, is_big: bool) -> tuple[dict[int, tuple[int, int, bytes]], int]:
    """A TIFF page's tags that we know, each with type, count and the bytes of its value or place; the next page's place."""
    entry = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
    count = struct.Struct(order + ("Q" if is_big else "H"))
    following = struct.Struct(order + ("Q" if is_big else "I"))
    (num_tags,) = count.unpack(_bytes_at(file, place, count.size))
    if num_tags > 4096:
        raise ImageError(f"a TIFF page must have at most 4096 tags, got {num_tags}")
    body = _bytes_at(file, place + count.size, num_tags * entry.size + following.size)
    entries = {
        tag: (kind, length, value)
        for tag, kind, length, value in entry.iter_unpack(body[: -following.size])
        if tag in _PAGE_TAGS and kind in _TYPE_BYTES
    }
    return entries, following.unpack(body[-following.size :])[0]


def _page_alone(file: BinaryIO, place: int, order: str, is_big: bool) -> bytes:
    """One page as a TIFF file of its own, so that it passes through all checks that a stranger's file passes."""
    offset = struct.Struct(order + ("Q" if is_big else "I"))
    entries, _ = _directory(file, place, order, is_big)
    values = {}
    for tag, (kind, count, value) in entries.items():
        size = _TYPE_BYTES[kind] * count
        check_bytes(size, "page")
        values[tag] = value[:size] if size <= offset.size else _bytes_at(file, offset.unpack(value)[0], size)
    where = 273 if 273 in entries else 324  # strips or tiles
    starts, sizes = (
        _whole_numbers(values[tag], entries[tag][0], order) for tag in (where, 279 if where == 273 else 325)
    )
    if len(starts) != len(sizes) or len(starts) > MAX_PIECES:
        raise ImageError("the TIFF page is cut into far too many pieces; save it again")
    check_bytes(sum(sizes), "page")
    pieces = [_bytes_at(file, start, size) for start, size in zip(starts, sizes, strict=True)]

    head = struct.pack(order + "2sHHHQ", b"", 43, 8, 0, 16) if is_big else struct.pack(order + "2sHI", b"", 42, 8)
    head = (b"II" if order == "<" else b"MM") + head[2:]
    entries[where] = (4, len(starts), b"")
    values[where] = bytes(4 * len(starts))  # filled in as soon as it is known where the pieces come to lie
    entry_size = 20 if is_big else 12
    end = len(head) + (8 if is_big else 2) + len(entries) * entry_size + offset.size
    places = {}
    for tag, value in values.items():
        if len(value) > offset.size:
            places[tag] = end
            end += len(value)
    piece_starts = end + np.cumsum([0, *sizes])[:-1]
    values[where] = piece_starts.astype(order + "u4").tobytes()
    directory = struct.pack(order + ("Q" if is_big else "H"), len(entries))
    for tag in sorted(entries):
        kind, count, _ = entries[tag]
        value = offset.pack(places[tag]) if tag in places else values[tag].ljust(offset.size, b"\0")
        directory += struct.pack(order + ("HHQ" if is_big else "HHI"), tag, kind, count) + value
    return b"".join([head, directory, offset.pack(0), *(values[tag] for tag in places), *pieces])


def _whole_numbers(value: bytes, kind: int, order: str) -> list[int]:
    return np.frombuffer(value, order + {3: "u2", 4: "u4", 16: "u8"}[kind]).tolist()


def _bytes_at(file: BinaryIO, place: int, size: int) -> bytes:
    if place + size > os.fstat(file.fileno()).st_size:
        raise EOFError
    file.seek(place)
    return file.read(size)
