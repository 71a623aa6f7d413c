"""An image file of a stranger to pixels: a `DecodedImage`, or one clear `ImageError`, whatever the bytes are.

What a file is, its content decides, never its name. Sizes are checked in the header, before anything is decoded; what a
parser would turn into millions of objects, or read wrongly, is refused.
"""

import io
import itertools
import math
import re
import struct
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageChops, features
from PIL.ImageFile import ImageFile

from tae.data import jpeg, tiff
from tae.data.encode import to_uint8
from tae.data.foreign import what_it_is
from tae.data.limits import (
    MAX_PIXELS,
    ImageError,
    check_bytes,
    check_pieces,
    check_size,
    too_large,
)
from tae.data.white import AS_FILE, Extent, White, extent_of
from tae.store.refusals import refusals_logged

MAX_SHOWN_SIDE = 1280
MAX_SCANNED_PIXELS = 100 * MAX_PIXELS
"""Pixels times scans of a JPEG: at 40 bytes a scan, a progressive file could keep its decoder busy for hours."""


class Format(NamedTuple):
    """A kind of image file."""

    title: str
    start: bytes  # pattern of its first bytes
    endings: tuple[str, ...]  # the first is the usual one


FORMATS = {
    "PNG": Format("PNG", rb"\x89PNG\r\n\x1a\n", (".png", ".apng")),
    "JPEG": Format("JPEG", rb"\xff\xd8\xff", (".jpg", ".jpeg", ".jfif", ".jpe")),
    "WEBP": Format("WebP", rb"RIFF.{4}WEBP", (".webp",)),
    "BMP": Format("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", (".bmp",)),
    "GIF": Format("GIF", rb"GIF8[79]a", (".gif",)),
    "TIFF": Format("TIFF", rb"II[*+]\0|MM\0[*+]", (".tif", ".tiff")),
    "PPM": Format("PGM", rb"P[1-6][\s#]", (".pgm", ".ppm", ".pnm", ".pbm")),
    "AVIF": Format("AVIF", rb".{4}ftyp(avif|avis)", (".avif",)),
    "JPEG2000": Format("JPEG 2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", (".jp2", ".j2k")),
    "NPY": Format("NumPy array", rb"\x93NUMPY", (".npy",)),
}
"""What is read, by Pillow's names; the last two of Pillow's where this Pillow has them."""
for _name, _feature in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")):
    if not features.check(_feature):
        del FORMATS[_name]
SUFFIXES = tuple(ending for one in FORMATS.values() for ending in one.endings)
"""Endings of the files that are read: dropped, in folders and in ZIPs alike."""
EXPECTED = ", ".join(one.title for kind, one in FORMATS.items() if kind != "NPY") + " or .npy"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as it came."""

    pixels: np.ndarray  # (H, W) float32 in [0, 1], 0 black
    notes: tuple[str, ...]  # what was converted on the way, a phrase each
    format: str  # one of `FORMATS`
    original: np.ndarray
    """Upright and in its own colours, for showing: uint8 (h, w) or (h, w, 3), at most `shown_side` pixels a side."""
    white: str = ""
    """What was done about which number is white, one of the notes; empty where the type says it."""
    extent: Extent | None = None
    """What its numbers are, by which `tae.data.white` tells which of them is white; None where it was no file."""


@refusals_logged(lambda data: format_of(data[:64]))
def read_image(
    data: bytes, name: str = "", white: White = AS_FILE, shown_side: int = MAX_SHOWN_SIDE, frame: int | None = None
) -> DecodedImage:
    """Decode a file's bytes.

    Which number is white, `tae.data.white` says. Colours turn to grey by luma (.299 R + .587 G + .114 B) once they have 8 bits a
    channel, transparency lies on white, EXIF rotation is applied, colour profiles are not. Of animations, pages and stacks the
    first is read. Arrays are as `frame_shape` says.

    Args:
        data: The whole file.
        name: The file's name, only for a note if its ending does not fit the content, and to call what is not read by name.
        white: What becomes black and white; of several files, what was decided for all.
        shown_side: Longest side of the image's `original`; whoever shows nothing saves most of the time that a large
            photograph takes with 1.
        frame: Of a stack or several pages (`count_frames_in`), from 0; None: the first, which a note then says.

    Raises:
        ImageError: If it is not a whole image of a supported format, or passes a limit.
    """
    if not data:
        raise ImageError("the file is empty; choose a file that holds an image")
    check_bytes(len(data))
    kind = format_of(data)
    if kind is None:
        raise ImageError(f"not a supported image: expected {EXPECTED}, got {what_it_is(data, name)}")
    readers = {"NPY": partial(_read_npy, frame=frame), "TIFF": partial(_read_tiff, frame=frame)}
    try:
        image = readers.get(kind, partial(_read_pillow, kind=kind))(data, white=white, shown_side=shown_side)
    except ImageError:
        raise
    except Exception as error:  # broken files make parsers raise nearly anything, MemoryError included
        if kind == "JPEG" and (mended := jpeg.mended(data)):
            image = _read_pillow(mended, white, shown_side, kind)
            image = replace(image, notes=("its end mark is missing, every pixel is there", *image.notes))
        else:
            raise ImageError(kind == "JPEG" and jpeg.kind_not_read(data) or broken(kind)) from error
    ending = Path(name).suffix.lower()
    if re.fullmatch(r"\.[a-z]\w{1,7}", ending, re.ASCII) and ending not in FORMATS[kind].endings:
        image = replace(image, notes=(f"the name ends in {ending}, the content is {FORMATS[kind].title}", *image.notes))
    return image


def count_frames_in(data: bytes) -> int:
    """How many images the bytes of a file hold: frames of an array, pages of a TIFF; 1 of whatever else, or is broken."""
    try:
        if format_of(data) == "NPY":
            return max(1, frame_shape(npy_header(io.BytesIO(data))[0])[0])
        if format_of(data) == "TIFF":
            return sum(1 for _ in tiff.frames(io.BytesIO(data)))
    except Exception:  # reading it says what is wrong
        return 1
    return 1


def read_page(
    file: BinaryIO, place: tiff.Place, white: White = AS_FILE, shown_side: int = MAX_SHOWN_SIDE
) -> DecodedImage:
    """One frame of an open TIFF file, as `read_image` reads it. Errors that are no ImageError mean that it is damaged."""
    found = tiff.numbers_of(file, place)
    if found is None:
        return _read_pillow(tiff.alone(file, place), white, shown_side, "TIFF")
    notes = [*found.notes]
    values, opacity = (_upright(array, found.orientation) for array in (found.values, found.opacity))
    if found.orientation in _UPRIGHT:
        notes.append("turned upright as its EXIF data say")
    assert values is not None
    if found.is_cmyk:
        ink, _, _ = _scaled(values, white, notes, found.bits)
        notes.append("CMYK turned to RGB")
        return _colour_image(Image.fromarray(to_uint8(ink), "CMYK").convert("RGB"), notes, "TIFF", shown_side)
    return image_of(
        values,
        white,
        shown_side,
        opacity,
        kind="TIFF",
        bits=found.bits,
        notes=notes,
        is_negative=found.is_negative,
        is_premultiplied=found.is_premultiplied,
    )


def broken(kind: str) -> str:
    """The sentence about a file that its reader gives up."""
    title = FORMATS[kind].title
    return f"the {title} file is damaged, cut short, or of a kind that is not read; save it again, for example as PNG"


def format_of(start: bytes) -> str | None:
    """What the first bytes of a file, 64 are enough, say it is: one of `FORMATS`, or None."""
    return next((kind for kind, one in FORMATS.items() if re.match(one.start, start[:64], re.DOTALL)), None)


def has_8_bits(start: bytes) -> bool:
    """Whether the first bytes of a file, 64 are enough, say that it has 8 bits a channel, or fewer."""
    kind = format_of(start)
    return kind in ("JPEG", "WEBP", "BMP", "GIF", "AVIF") or kind == "PNG" and len(start) > 24 and start[24] <= 8


class _Metered(io.BytesIO):
    """A file that gives up after many reads: Pillow walks chunks, segments, blocks and tags one by one in Python."""

    pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.pieces += 1
        check_pieces(self.pieces)
        return super().read(size)


def _read_tiff(data: bytes, white: White, shown_side: int, frame: int | None = None) -> DecodedImage:
    file = io.BytesIO(data)
    if frame is not None:
        return read_page(file, next(itertools.islice(tiff.frames(file), frame, None)), white, shown_side)
    found = [*itertools.islice(tiff.frames(file), 2)]
    image = read_page(file, found[0], white, shown_side)
    return replace(image, notes=("the first of several frames or pages", *image.notes)) if len(found) > 1 else image


def _read_pillow(data: bytes, white: White, shown_side: int, kind: str) -> DecodedImage:
    notes: list[str] = []
    is_animated = False
    if kind == "PNG":
        data, is_animated = _bare_png(data)
    elif kind == "JPEG2000" and b"\xff\xd9" not in data:  # what is missing would be decoded as black
        raise ImageError(broken(kind))
    elif kind == "PPM" and (found := _anymap(data)):
        values, extent_kind = found
        return image_of(values, white, shown_side, kind=kind, stated=extent_kind)
    try:
        opened = Image.open(_Metered(data), formats=(kind,))  # headers only
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large() from None
    with opened as image:
        width, height = image.size
        check_size(width, height)
        if kind == "JPEG" and data.count(b"\xff\xda") * width * height > MAX_SCANNED_PIXELS:
            raise ImageError("the JPEG has far too many scans; save it again, for example as PNG")
        if kind != "TIFF" and (is_animated or getattr(image, "is_animated", False)):  # looks one frame ahead at most
            notes.append("the first of several frames or pages")
        raw_mode = _raw_mode(image)
        if kind == "TIFF":
            orientation = image.tag_v2.get(274)  # type: ignore[attr-defined]
            image.load()  # turns it upright, too
            upright: Image.Image = image
        else:
            orientation = _orientation(image)
            image.load()
            upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
        if orientation in _UPRIGHT:
            notes.append("turned upright as its EXIF data say")
        if upright.mode == "F" or upright.mode.startswith("I"):
            values = np.asarray(upright)
            if values.dtype == np.int32:
                values = values.astype(np.uint16)  # PNG, JPEG 2000 and their like have 16 bits at most
            key = upright.info.get("transparency")
            opacity = (values != key) if isinstance(key, int) else None
            return image_of(values, white, shown_side, opacity, kind=kind, notes=notes)
        if kind == "PNG" and ";16" in raw_mode:
            return _deep_png(data, upright, raw_mode, white, notes, shown_side, orientation)
        return _colour_image(_on_white(upright, raw_mode, notes), notes, kind, shown_side, white)


def _deep_png(
    data: bytes,
    image: Image.Image,
    raw_mode: str,
    white: White,
    notes: list[str],
    shown_side: int,
    orientation: int | None,
) -> DecodedImage:
    """Colours, or grey with opacity, of 16 bits a channel: Pillow gives the upper 8, which are enough where these are used."""
    high = max(high for _, high in image.convert("RGB").getextrema())  # type: ignore[misc]
    extent = Extent("uint16", 0, 257 * high)
    ends = white.ends(extent)
    if (ends.black, ends.white) == (0, 65535):
        return replace(_colour_image(_on_white(image, raw_mode, notes), notes, "PNG", shown_side), extent=extent)
    import av  # takes a while, and few images need it

    with av.open(io.BytesIO(data), "r", format="png_pipe") as container:
        frame = next(container.decode(video=0))  # type: ignore[call-overload]
        values = _upright(frame.to_ndarray(format="rgb48le"), orientation or 1)
    assert values is not None and values.shape[:2] == image.size[::-1]
    over = None
    if image.has_transparency_data:
        over = np.asarray(_with_opacity(image, raw_mode).getchannel("A"))
    return image_of(values, white, shown_side, over, kind="PNG", notes=notes)


def _anymap(data: bytes) -> tuple[np.ndarray, str] | None:
    """Numbers of a PGM or PPM, (H, W) or (H, W, 3), and their kind by the largest that it allows; None of one of 1 bit.

    Raises ValueError if it is cut short.
    """
    gap = rb"(?:\s|#[^\r\n]*[\r\n])++"
    head = re.match(rb"P([2356])" + 3 * (gap + rb"(\d{1,9})") + rb"\s", data)
    if head is None:
        return None
    width, height, top = map(int, head.groups()[1:])
    check_size(width, height)
    if not 0 < top < 65536:
        raise ValueError("no such largest number")
    shape = (height, width, 3) if head[1] in b"36" else (height, width)
    dtype = np.dtype("u1" if top < 256 else ">u2")
    if head[1] in b"56":
        values = np.frombuffer(data, dtype, math.prod(shape), head.end())
    else:
        text = re.sub(rb"#[^\r\n]*", b"", data[head.end() :])
        values = np.array(text.split(maxsplit=math.prod(shape))[: math.prod(shape)], np.uint16)
    values = values.reshape(shape)
    if values.max() > top:
        raise ValueError("a number is larger than the largest")
    return values, f"uint{top.bit_length()}" if top == 255 or top > 255 and top & (top + 1) == 0 else f"0-{top}"


def _read_npy(data: bytes, white: White, shown_side: int, frame: int | None = None) -> DecodedImage:
    file = io.BytesIO(data)
    shape, is_fortran, dtype = npy_header(file)
    count, each = frame_shape(shape)
    check_size(each[1], each[0])
    values = np.frombuffer(data, dtype, math.prod(shape), file.tell())  # a view, which a lying header cannot pass
    values = values.reshape(shape, order="F" if is_fortran else "C").reshape(count, *each)
    if count == 1 or frame is not None:
        return image_of(values[frame or 0], white, shown_side)
    if count < 1:
        raise ImageError("the stack must have at least one frame, got none")
    image = image_of(values[0], white.decide(extents_of_array(values)), shown_side)
    return replace(image, notes=("the first of several frames or pages", *image.notes))


def frame_shape(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """How many images an array holds, and the shape of each, (H, W) or (H, W, 1, 3 or 4): the same at every door.

    One image is (H, W), (1, H, W), (1, 1, H, W), or (H, W, 1, 3 or 4); a stack is (T, H, W), (T, 1, H, W) or
    (T, H, W, 1, 3 or 4). Three axes whose last is 1, 3 or 4 are a colour image, four axes whose second is 1 grey frames.

    Raises ImageError of another shape, with the way out where the channels come first.
    """
    said = str(shape)[:60]
    if len(shape) == 2:
        return 1, shape
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] != 1:
        return 1, shape
    if len(shape) == 3 and shape[0] == 3:
        raise ImageError(
            f"an array {said} may be colours before rows, or three grey frames; for colours save "
            "np.moveaxis(array, 0, -1), for frames array[..., None]"
        )
    if len(shape) == 3:
        return shape[0], shape[1:]
    if len(shape) == 4 and shape[1] == 1:
        return shape[0], shape[2:]
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return shape[0], shape[1:]
    if len(shape) == 4 and shape[1] in (3, 4):
        raise ImageError(f"the colours of an array must come last, got {said}; save np.moveaxis(array, 1, -1)")
    raise ImageError(
        f"an array must be (H, W), (1, H, W) or (H, W, 1, 3 or 4), a stack must be (T, H, W), (T, 1, H, W) or "
        f"(T, H, W, 1, 3 or 4), got {said}; reshape it"
    )


def extents_of_array(values: np.ndarray) -> list[Extent]:
    """The extents of frames (T, H, W) or (T, H, W, 1, 3 or 4), opacity left out."""
    colours = values[..., :3] if values.ndim == 4 else values
    try:
        return [extent_of(frame) for frame in colours]
    except ValueError as error:
        raise ImageError(str(error)) from None


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and type of an array file, which is left where the numbers begin.

    Raises ImageError if they are no real numbers, ValueError if it is no such header, or one of more than 10,000
    characters.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.kind not in "buif":
        raise ImageError(f"the array must hold real numbers, got {dtype.name}; convert it, for example to float32")
    return shape, is_fortran, dtype


def image_of(
    values: np.ndarray,
    white: White = AS_FILE,
    shown_side: int = MAX_SHOWN_SIDE,
    opacity: np.ndarray | None = None,
    *,
    kind: str = "NPY",
    bits: int | None = None,
    stated: str = "",
    notes: list[str] | None = None,
    is_negative: bool = False,
    is_premultiplied: bool = False,
) -> DecodedImage:
    """An array's real numbers, (H, W) or (H, W, 1, 3 or 4), as an image, by the rules of `read_image`.

    Args:
        values: The numbers; of four channels the last is opacity.
        white: What becomes black and white.
        shown_side: As for `read_image`.
        opacity: (H, W), where it is not the fourth channel.
        kind: One of `FORMATS`.
        bits: Of each number, where the type has more.
        stated: Kind of number, where the file says more than the type.
        notes: What was done so far.
        is_negative: Whether 0 is white.
        is_premultiplied: Whether what is transparent is dark.

    Raises ImageError if it is too large, or its numbers are not finite, or its opacity is out of range.
    """
    check_size(values.shape[1], values.shape[0])
    notes = [] if notes is None else notes
    if values.ndim == 3 and values.shape[2] == 4:
        values, opacity = values[..., :3], values[..., 3]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    pixels, extent, said = _scaled(values, white, notes, bits, stated)
    if is_negative:
        pixels = 1 - pixels
    over = None if opacity is None else _opacity(opacity, bits if opacity.dtype == values.dtype else None)
    if over is not None and (over < 1).any():
        notes.append("transparency laid on white")
        if is_premultiplied:  # black where nothing is
            share = over[..., None] if pixels.ndim == 3 else over
            pixels = np.clip(np.divide(pixels, share, out=np.ones_like(pixels), where=share > 0), 0, 1)
    if pixels.ndim == 2:
        if over is not None:
            pixels = pixels * over + (1 - over)
        return replace(_grey_image(pixels, notes, kind, shown_side), extent=extent, white=said)
    colours = to_uint8(pixels)
    if values.dtype != np.uint8 or said:
        notes.append("colours read with 8 bits a channel")
    image = Image.fromarray(colours)
    if over is not None:
        image = laid_on_white(Image.fromarray(np.dstack([colours, to_uint8(over)])))
    return replace(_colour_image(image, notes, kind, shown_side), extent=extent, white=said)


def _scaled(
    values: np.ndarray, white: White, notes: list[str], bits: int | None = None, stated: str = ""
) -> tuple[np.ndarray, Extent, str]:
    """Numbers as float32 in [0, 1], what they are, and the note on which of them is white."""
    try:
        extent = extent_of(values, bits)
    except ValueError as error:
        raise ImageError(str(error)) from None
    if stated:
        extent = replace(extent, kind=stated)
    ends = white.ends(extent)
    if ends.why:
        notes.append(ends.why)
    return ends(values), extent, ends.why


def _opacity(values: np.ndarray, bits: int | None) -> np.ndarray:
    """(H, W) float32 in [0, 1]."""
    if values.dtype.kind == "b":
        return values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        if not 0 <= low <= high <= 255:
            raise ImageError("the array's fourth channel is opacity and must be in [0, 1] or [0, 255]; scale it")
        top = 1 if high <= 1 else 255
    else:
        top = 2 ** (bits or 8 * values.dtype.itemsize) - 1
    return values.astype(np.float32) / np.float32(top)


def _grey_image(pixels: np.ndarray, notes: list[str], kind: str, shown_side: int) -> DecodedImage:
    return DecodedImage(pixels, tuple(notes), kind, _for_showing(Image.fromarray(to_uint8(pixels)), shown_side))


def _colour_image(
    image: Image.Image, notes: list[str], kind: str, shown_side: int, white: White | None = None
) -> DecodedImage:
    """From mode L or RGB; `white` where the 8 bits have not been brought to it yet."""
    extremes = np.array(image.getextrema())
    extent = Extent("uint8", float(extremes.min()), float(extremes.max()))
    ends = white.ends(extent) if white else None
    if ends and (ends.black, ends.white) != (0, 255):
        notes.append(ends.why)
        image = Image.fromarray(to_uint8(ends(np.asarray(image))))
    grey = image
    if image.mode == "RGB":
        red, green, blue = image.split()
        if ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox():
            grey = image.convert("L")
            notes.append("converted to greyscale (Rec. 601)")
        else:
            image = grey = red
    pixels = np.array(grey, np.float32)
    pixels /= 255
    said = ends.why if ends else ""
    return DecodedImage(pixels, tuple(notes), kind, _for_showing(image, shown_side), said, extent)


def _for_showing(image: Image.Image, side: int) -> np.ndarray:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(image)


def _on_white(image: Image.Image, raw_mode: str, notes: list[str]) -> Image.Image:
    """Modes of 8 bits a channel to L or RGB; transparency is laid on white."""
    if ";16" in raw_mode:
        notes.append("16 bits a channel, read with 8")
    if image.mode in ("P", "PA"):
        notes.append("palette colours looked up")
    elif image.mode in ("CMYK", "YCbCr", "LAB"):
        notes.append(f"{image.mode} turned to RGB")
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    layered = _with_opacity(image, raw_mode)
    if layered.getchannel("A").getextrema() != (255, 255):
        notes.append("transparency laid on white")
    return laid_on_white(layered)


def _with_opacity(image: Image.Image, raw_mode: str) -> Image.Image:
    """The image in mode RGBA."""
    key = image.info.get("transparency")
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):  # Pillow widens the pixels, but not the key
        image.info["transparency"] = key * (85 if raw_mode == "L;2" else 17)
    elif isinstance(key, tuple) and ";16" in raw_mode:
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA")


def laid_on_white(image: Image.Image) -> Image.Image:
    """From mode RGBA to RGB."""
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _bare_png(data: bytes) -> tuple[bytes, bool]:
    """The chunks of a PNG's first image, and whether it has more. Text, profiles and later frames can hide bombs.

    Raises ImageError if it is too large or has too many chunks, ValueError or struct.error if it is cut short or a
    checksum is wrong.
    """
    check_size(*struct.unpack_from(">II", data, 16))
    kept, start, is_animated = [data[:8]], 8, False
    for piece in itertools.count():
        check_pieces(piece)
        length, chunk = struct.unpack_from(">I4s", data, start)
        end = start + length + 12
        if chunk == b"acTL":
            is_animated = struct.unpack_from(">I", data, start + 8)[0] > 1
        elif chunk in _PNG_CHUNKS:
            if struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(data[start + 4 : end - 4]):
                raise ValueError(f"wrong checksum of {chunk!r}")
            kept.append(data[start:end])
        if chunk == b"IEND":
            break
        start = end
    return b"".join(kept), is_animated


def _upright(array: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """(H, W) or (H, W, channels), turned as EXIF says."""
    if array is None or orientation not in _UPRIGHT:
        return array
    turn = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    return turn[orientation](array)


def _raw_mode(image: ImageFile) -> str:
    """Pillow's name of how the file lays out its bits; empty where it has none."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _orientation(image: ImageFile) -> int | None:
    try:
        return image.getexif().get(274)
    except Exception:  # what is broken beside the image does not spoil it
        return None
