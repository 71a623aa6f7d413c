"""The pages of a TIFF file, found and read one at a time.

`tifffile` reads a page's tags. It is not asked for the pages, since it notices a circle of them only at the hundredth and takes
a chain that is cut for its end; and not for pixels, since what is packed it reads with imagecodecs only: 26 MB of decoders,
each of them a way for a stranger's file to end the server. So 8 bits go to Pillow, and of everything deeper Pillow's libtiff
unpacks the bytes (LZW, Deflate, PackBits, LZMA, Zstandard), which are turned to numbers here. JPEG, JPEG 2000, JPEG XL, JPEG
XR, LERC and WebP within a TIFF are read with 8 bits or not at all.
"""

import io
import json
import logging
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2
from tifffile import COMPRESSION, TiffFile, TiffPage

from tae.data.limits import MAX_PIECES, MAX_PIXELS, ImageError, check_bytes, check_pieces, check_size

MAX_PAGES = 1_000_000

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""TIFF's types of numbers."""
_PIECES = {273, 279, 324, 325}
"""Tags that say where strips and tiles are, and how long."""
_PAGE_TAGS = {254, 256, 257, 258, 259, 262, 266, 274, 277, 278, 284, 292, 293, 317, 320, 322, 323}
_PAGE_TAGS |= {332, 338, 339, 347, 529, 530, 531, 532}
"""Tags that a page's pixels depend on."""
_SMALL = {"<": b"II*\0\0\0\0\0", ">": b"MM\0*\0\0\0\0"}
_OF_BYTES = (5, 8, 32946, 32773, 34925, 50000)
"""Compressions of bytes, which libtiff unpacks whatever the bytes mean."""
_UNPACKED_AT_ONCE = 64 * 1024**2
_BIT_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


@dataclass(frozen=True)
class Place:
    """A frame of a TIFF file."""

    page: int
    """Where its page's list of tags begins."""
    number: int = 0
    """Its number among frames that lie one after the other under one list of tags, as ImageJ writes them above 4 GB."""


@dataclass(frozen=True)
class Numbers:
    """A page's numbers."""

    values: np.ndarray  # (H, W), or (H, W, 3) colours; as stored, not turned upright
    bits: int  # of each
    opacity: np.ndarray | None  # (H, W)
    is_premultiplied: bool
    is_negative: bool  # 0 is white
    is_cmyk: bool
    orientation: int
    notes: tuple[str, ...]


class _AtPage(io.RawIOBase):
    """A TIFF file whose header points to another page than its first: for readers that would go through all pages to it."""

    def __init__(self, file: BinaryIO, page: int) -> None:
        self._file, self._at, self._size, self._pieces = file, 0, _size_of(file), 0
        file.seek(0)
        head = bytearray(file.read(16).ljust(16, b"\0"))
        order, is_big = _header(head)
        struct.pack_into(order + ("Q" if is_big else "I"), head, 8 if is_big else 4, page)
        self._head = bytes(head)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        self._pieces += 1
        check_pieces(self._pieces)  # tags are read one by one
        start = self._at
        self._file.seek(start)
        data = self._file.read(-1 if size is None else size)
        self._at += len(data)
        return self._head[start : start + len(data)] + data[max(0, 16 - start) :] if start < 16 else data


def frames(file: BinaryIO) -> Iterator[Place]:
    """The frames of an open TIFF file: its pages but for masks and smaller copies; found as they are asked for.

    Raises ImageError if they are too many, lie in a circle, or none is a full one; struct.error, EOFError or an error of
    tifffile if the file is cut short.
    """
    order, is_big = _header(_bytes_at(file, 0, 8))
    place = _first(file)
    seen: set[int] = set()
    num_found, is_only = 0, False
    while place:
        if place in seen or len(seen) >= MAX_PAGES:
            raise ImageError(f"the file must have at most {MAX_PAGES:,} pages, and no circle of them")
        seen.add(place)
        kind, following = _look(file, place, order, is_big)
        if not kind & 0b101:  # a smaller copy; a mask
            is_only = not num_found and not following
            num_found += 1
            yield Place(place)
            if is_only:
                yield from (Place(place, number) for number in range(1, _frames_in(file, place)))
        place = following
    if not num_found:
        raise ImageError(
            "the TIFF file has no full page, as camera RAW files have none (DNG, NEF, ARW); develop it and export it as PNG"
        )


def numbers_of(file: BinaryIO, place: Place) -> Numbers | None:
    """A frame's numbers; None where Pillow reads the page as it is meant.

    Raises ImageError if the page passes a limit or is of a kind that is not read; other errors if it is damaged.
    """
    page = _page(file, place.page)
    width, height, samples = int(page.imagewidth), int(page.imagelength), int(page.samplesperpixel)
    check_size(width, height)
    check_pieces(len(page.dataoffsets))
    packed = sum(page.databytecounts)  # of several frames under one list of tags, all
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    check_bytes(packed if page.compression != 1 else min(packed, -(-width * height * samples * bits // 8)), "page")
    if 50706 in page.tags or page.photometric in (32803, 34892):
        raise ImageError("a camera RAW file (DNG) is not read; develop it and export it as TIFF or PNG")
    bits, sample_format = page.bitspersample, int(page.sampleformat) if isinstance(page.sampleformat, int) else 0
    if not isinstance(bits, int):
        raise _not_read(f"channels of {', '.join(map(str, bits[:4]))} bits")
    is_plain = bits in (1, 2, 4, 8) and sample_format in (1, 4) and not place.number
    is_plain = is_plain and not (samples == 2 and _extras(page) != (2,))  # Pillow drops a channel, or fails
    if page.compression not in COMPRESSION_INFO or (not is_plain and page.compression not in (1, *_OF_BYTES)):
        raise _not_read(f"the compression {_name_of(page.compression)}{'' if is_plain else ' of such numbers'}")
    if is_plain and _pillow_reads(file, place.page):
        return None
    is_number = (
        sample_format == 1 and 1 <= bits <= 32 and bits not in (17, 24) or bits == 64 and sample_format in (1, 2, 3)
    )
    if not is_number and (sample_format, bits) not in ((2, 8), (2, 16), (2, 32), (3, 16), (3, 32), (4, bits)):
        kinds = {1: "unsigned", 2: "signed", 3: "floating", 5: "complex", 6: "complex"}
        raise _not_read(f"{kinds.get(sample_format, 'unknown')} numbers of {bits} bits")
    if page.photometric not in (0, 1, 2, 5) and not (page.photometric == 3 and samples == 1):
        raise _not_read(f"the colour space {getattr(page.photometric, 'name', page.photometric)} with {bits} bits")
    if page.photometric == 3:
        raise _not_read(f"a palette of {bits} bits")
    dtype = np.dtype({1: "u", 2: "i", 3: "f", 4: "u"}[sample_format] + str(max(1, 2 ** math.ceil(math.log2(bits / 8)))))
    values = _values(file, page, place.number, dtype, bits)
    return _meant(page, values, bits)


def alone(file: BinaryIO, place: Place) -> bytes:
    """A page as a TIFF file of its own, for Pillow, which would read a whole stack into memory for one compressed page."""
    if isinstance(file, io.BytesIO) and place.page == _first(file):
        return file.getvalue()
    page = _page(file, place.page)
    with Image.open(_AtPage(file, place.page), formats=("TIFF",)) as image:  # type: ignore[arg-type]
        tags = image.tag_v2  # type: ignore[attr-defined]
        kept = ImageFileDirectory_v2(_SMALL[page.parent.byteorder])
        for tag in _PAGE_TAGS & set(tags):
            kept.tagtype[tag], kept[tag] = tags.tagtype[tag], tags[tag]
    pieces = [_bytes_at(file, *each) for each in zip(page.dataoffsets, page.databytecounts, strict=False)]
    places, where = np.cumsum([0, *map(len, pieces)]), 324 if 324 in page.tags else 273
    kept.tagtype |= {where: 4, where + (1 if where == 324 else 6): 4}
    kept[where + (1 if where == 324 else 6)] = tuple(map(len, pieces))
    kept[where] = tuple(places[:-1].tolist())
    if where == 324:  # of strips Pillow knows that the list of tags comes before them
        kept[where] = tuple((places[:-1] + 8 + len(kept.tobytes(8))).tolist())
    target = io.BytesIO()
    kept.save(target)
    for piece in pieces:
        target.write(piece)
    return target.getvalue()


def _meant(page: TiffPage, values: np.ndarray, bits: int) -> Numbers:
    """What the channels of an array (H, W, channels) are."""
    samples = values.shape[2]
    extras = _extras(page)
    num_colours = {2: 3, 5: 4}.get(int(page.photometric), 1)
    if num_colours > samples:
        raise _not_read(f"{samples} channels as {getattr(page.photometric, 'name', page.photometric)}")
    kind = next((extra for extra in extras if extra in (1, 2)), 0) if samples == num_colours + 1 else 0
    notes, opacity = (), values[..., num_colours] if kind else None
    if samples > num_colours and opacity is None:
        notes = (
            f"the first of {samples} channels"
            if num_colours == 1
            else f"{samples - num_colours} more channels left out",
        )
    colours = values[..., 0] if num_colours == 1 else values[..., :num_colours]
    orientation = page.tags.valueof(274) or 1
    return Numbers(
        colours,
        bits,
        opacity,
        kind == 1,
        page.photometric == 0,
        num_colours == 4,
        int(orientation) if isinstance(orientation, int) else 1,
        notes,
    )


def _extras(page: TiffPage) -> tuple[int, ...]:
    """What the channels beyond colours are: 0 unspecified, 1 and 2 opacity, colours premultiplied or not."""
    found = page.extrasamples if isinstance(page.extrasamples, tuple) else (page.extrasamples,)
    return tuple(int(extra) for extra in found)


def _values(file: BinaryIO, page: TiffPage, number: int, dtype: np.dtype, bits: int) -> np.ndarray:
    """(H, W, channels) of one frame."""
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if height * width * samples * dtype.itemsize > 8 * MAX_PIXELS:
        raise ImageError(
            f"the page must have at most {8 * MAX_PIXELS // 10**6} MB of numbers, got {width}x{height} with {samples} channels "
            f"of {bits} bits; scale it down"
        )
    planes, own = (samples, 1) if page.planarconfig == 2 else (1, samples)
    is_tiled = page.tilewidth > 0
    wide, high = (int(page.tilewidth), int(page.tilelength)) if is_tiled else (width, max(1, int(page.rowsperstrip)))
    check_size(wide, high)
    across, down = -(-width // wide), -(-height // high)
    if len(page.dataoffsets) < planes * across * down or len(page.databytecounts) < planes * across * down:
        raise EOFError
    stride = -(-wide * own * bits // 8)
    order = page.parent.byteorder
    sizes = [
        stride * (high if is_tiled else min(high, height - row * high)) for row in range(down) for _ in range(across)
    ]
    pieces = _unpacked(file, page, number * sum(sizes) * planes, sizes * planes, stride)
    out = np.empty((planes, down * high if is_tiled else height, across * wide, own), dtype)
    for index, raw in enumerate(pieces):
        plane, place = divmod(index, across * down)
        row, column = place // across * high, place % across * wide
        rows = len(raw) // stride
        found = _to_numbers(raw.reshape(rows, stride), dtype, bits, wide, own, order, int(page.predictor))
        out[plane, row : row + rows, column : column + wide] = found
    return np.moveaxis(out, 0, 2).reshape(*out.shape[1:3], samples)[:height, :width]


def _unpacked(file: BinaryIO, page: TiffPage, skip: int, sizes: list[int], stride: int) -> Iterator[np.ndarray]:
    """The bytes of strips and tiles in order, of these sizes, as uint8."""
    starts, lengths = page.dataoffsets, page.databytecounts
    if page.compression == 1:
        begin = starts[0]
        are_joined = all(starts[number] == begin + sum(sizes[:number]) for number in range(min(3, len(sizes))))
        if skip and not are_joined:
            raise _not_read("a stack in scattered pieces")
        for start, size in zip(starts, sizes, strict=False):
            raw = np.frombuffer(_bytes_at(file, start + skip, size), np.uint8)
            yield _BIT_REVERSED[raw] if page.fillorder == 2 else raw
        return
    first = 0
    while first < len(sizes):
        last = first + 1
        while last < len(sizes) and sum(sizes[first : last + 1]) <= _UNPACKED_AT_ONCE and last - first < 1000:
            if sizes[last - 1] != sizes[first]:
                break  # a last strip with fewer rows ends a plane
            last += 1
        packed = [_bytes_at(file, starts[number], lengths[number]) for number in range(first, last)]
        whole = _by_libtiff(packed, page, sizes[first:last], stride)
        for size in sizes[first:last]:
            yield whole[:size]
            whole = whole[size:]
        first = last


def _by_libtiff(packed: list[bytes], page: TiffPage, sizes: list[int], stride: int) -> np.ndarray:
    """Packed pieces, unpacked as the strips of a grey image of 8 bits."""
    if sum(sizes) > 85_000_000:  # beyond which Pillow would warn
        raise ImageError(
            "the TIFF page is packed in too large a piece; save it with smaller strips or tiles, or as .npy"
        )
    tags = ImageFileDirectory_v2()
    places = np.cumsum([0, *map(len, packed)]).tolist()
    fields = {
        256: stride,
        257: sum(sizes) // stride,
        258: 8,
        259: int(page.compression),
        262: 1,
        266: int(page.fillorder),
    }
    for tag, value in (fields | {277: 1, 278: sizes[0] // stride}).items():
        tags[tag] = value
    tags.tagtype |= {273: 4, 279: 4}
    tags[273], tags[279] = tuple(places[:-1]), tuple(map(len, packed))
    target = io.BytesIO()
    tags.save(target)
    for piece in packed:
        target.write(piece)
    target.seek(0)
    with Image.open(target, formats=("TIFF",)) as image:
        return np.asarray(image).reshape(-1)


def _to_numbers(
    raw: np.ndarray, dtype: np.dtype, bits: int, wide: int, own: int, order: Any, predictor: int
) -> np.ndarray:
    """Rows of bytes to (rows, wide, own)."""
    rows = len(raw)
    if predictor == 3 and dtype.kind == "f":
        size = dtype.itemsize
        summed = np.cumsum(raw.reshape(rows, -1, own), axis=1, dtype=np.uint8).reshape(rows, size, wide * own)
        return np.ascontiguousarray(summed.transpose(0, 2, 1)).view(f">f{size}").reshape(rows, wide, own)
    if bits == 8 * dtype.itemsize:
        found = np.ascontiguousarray(raw).view(dtype.newbyteorder(order)).reshape(rows, wide, own)
        if predictor == 2:
            whole = found.view(found.dtype.str.replace("f", "u"))
            found = np.cumsum(whole, axis=1, dtype=whole.dtype.newbyteorder("=")).view(dtype.newbyteorder("="))
        return found
    if predictor != 1:
        raise _not_read(f"differences of {bits} bits")
    # Packed without gaps, the highest bit first, whatever the order of bytes.
    found, weights = np.empty((rows, wide * own), dtype), 2.0 ** np.arange(bits)[::-1]
    at_once = max(1, 2**20 // max(1, wide * own))
    for row in range(0, rows, at_once):
        unpacked = np.unpackbits(raw[row : row + at_once], axis=1)[:, : wide * own * bits]
        found[row : row + at_once] = unpacked.reshape(-1, wide * own, bits) @ weights
    return found.reshape(rows, wide, own)


def _frames_in(file: BinaryIO, place: int) -> int:
    """How many frames lie one after the other under the only list of tags: 1, but for stacks of ImageJ, MetaMorph, tifffile."""
    page = _page(file, place)
    count = int(page.imagedepth)
    if page.description.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,7})\s*$", page.description, re.MULTILINE)
        count = int(found[1]) if found else 1
    elif page.description.startswith('{"shape"'):
        try:
            shape = json.loads(page.description)["shape"]
            each = page.imagewidth * page.imagelength * page.samplesperpixel
            count = math.prod(shape) // each if all(isinstance(one, int) and one > 0 for one in shape) else 1
        except (KeyError, RecursionError, TypeError, ValueError, ZeroDivisionError):
            count = 1
    elif 33628 in page.tags and 33629 in page.tags:
        count = page.tags[33629].count
    if count <= 1 or page.compression != 1 or not isinstance(page.bitspersample, int):
        return 1
    stride = -(-page.imagewidth * page.samplesperpixel * page.bitspersample // 8)
    return max(1, min(count, MAX_PAGES, (_size_of(file) - page.dataoffsets[0]) // max(1, stride * page.imagelength)))


def _page(file: BinaryIO, place: int) -> TiffPage:
    order, is_big = _header(_bytes_at(file, 0, 8))
    _check_tags(file, place, order, is_big)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds odd is no business of the terminal's
    return TiffFile(_AtPage(file, place), name="").pages.first  # type: ignore[arg-type]


def _check_tags(file: BinaryIO, place: int, order: str, is_big: bool) -> None:
    """Refuse a list of tags that would become millions of objects, or gigabytes."""
    offset = struct.Struct(order + ("Q" if is_big else "I"))
    for tag, kind, length, value in _tags(file, place, order, is_big)[0]:
        size = _TYPE_BYTES.get(kind, 1)
        check_bytes(size * length, "page")
        if tag in _PAGE_TAGS | _PIECES and size * length > offset.size:
            _bytes_at(file, offset.unpack(value)[0], size * length)  # tifffile would go on without it
        if size > 1 or tag in _PIECES:
            check_pieces(length)


def _look(file: BinaryIO, place: int, order: str, is_big: bool) -> tuple[int, int]:
    """A page's kind (TIFF's tag 254) and the next page's place."""
    entries, following = _tags(file, place, order, is_big)
    kind = next((value for tag, _, _, value in entries if tag == 254), bytes(4))
    return struct.unpack(order + "I", kind[:4])[0], following


def _tags(file: BinaryIO, place: int, order: str, is_big: bool) -> tuple[list[tuple[int, int, int, bytes]], int]:
    """(tag, type, count, value or its place) of all tags of a page, and the next page's place."""
    count = struct.Struct(order + ("Q" if is_big else "H"))
    entry = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
    following = struct.Struct(order + ("Q" if is_big else "I"))
    (num_tags,) = count.unpack(_bytes_at(file, place, count.size))
    if num_tags > 4096:
        check_pieces(MAX_PIECES + 1)
    body = _bytes_at(file, place + count.size, num_tags * entry.size + following.size)
    return [*entry.iter_unpack(body[: -following.size])], following.unpack(body[-following.size :])[0]


def _pillow_reads(file: BinaryIO, place: int) -> bool:
    """Whether Pillow knows such a page of 8 bits."""
    try:
        with Image.open(_AtPage(file, place), formats=("TIFF",)):  # type: ignore[arg-type]
            return True
    except Image.UnidentifiedImageError:
        return False


def _first(file: BinaryIO) -> int:
    """Where the header says that the first page is."""
    start = _bytes_at(file, 0, 8)
    order, is_big = _header(start)
    return struct.unpack(order + ("Q" if is_big else "I"), _bytes_at(file, 8, 8) if is_big else start[4:])[0]


def _header(start: bytes | bytearray) -> tuple[str, bool]:
    order = "<" if start[:2] == b"II" else ">"
    return order, start[2 if order == "<" else 3] == 43


def _name_of(compression: int) -> str:
    try:
        return f"{COMPRESSION(compression).name} ({int(compression)})"
    except ValueError:
        return str(compression)


def _not_read(what: str) -> ImageError:
    return ImageError(f"a TIFF with {what} is not read; save it as 8- or 16-bit PNG, with LZW or Deflate, or as .npy")


def _size_of(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(at)
    return size


def _bytes_at(file: BinaryIO, place: int, size: int) -> bytes:
    if place + size > _size_of(file):
        raise EOFError
    file.seek(place)
    return file.read(size)
