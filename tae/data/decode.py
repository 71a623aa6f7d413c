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
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from tae.data.encode import to_uint8

MAX_FILE_BYTES = 20 * 1024**2
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000
MAX_SHOWN_SIDE = 1280
MAX_PIECES = 400_000  # reads, chunks or strips of one file: Pillow makes Python objects of each
MAX_SCANNED_PIXELS = 100 * MAX_PIXELS
"""Pixels times scans of a JPEG: at 40 bytes a scan, a progressive file could keep its decoder busy for hours."""

_MAGIC = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "NPY": rb"\x93NUMPY",
}
_FOREIGN = {
    "HEIC or AVIF": rb".{4}ftyp(hei|hev|mif|avi)",
    "PDF": rb"%PDF",
    "SVG, HTML or XML": rb"(\xef\xbb\xbf)?\s*<",
    "ZIP": rb"PK\x03\x04",
    "PSD": rb"8BPS",
}
_ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".apng": "PNG"}
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


class ImageError(ValueError):
    """An image is refused: one sentence for its user, without a path."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as it came."""

    pixels: np.ndarray  # (H, W) float32 in [0, 1], 0 black
    notes: tuple[str, ...]  # what was converted on the way, a phrase each
    format: str  # PNG, JPEG, WEBP, BMP, GIF, TIFF or NPY
    original: np.ndarray
    """Upright and in its own colours, for showing: uint8 (h, w) or (h, w, 3), at most `shown_side` pixels a side."""
    limits: tuple[float, float] | None = None
    """Smallest and largest number of the file, where their type does not say which number is white."""


def read_image(
    data: bytes, name: str = "", limits: tuple[float, float] | None = None, shown_side: int = MAX_SHOWN_SIDE
) -> DecodedImage:
    """Decode a file's bytes.

    Colours turn to grey by luma (.299 R + .587 G + .114 B), transparency lies on white, EXIF rotation is applied,
    colour profiles are not. 16-bit grey is divided by 65535, 16-bit colours are read with 8 bits a channel. Floats and
    integers of 32 bits stay as they are in [0, 1], are divided by 255 in [0, 255], and are otherwise stretched from
    their minimum to their maximum (one value everywhere becomes middle grey). Of animations and pages the first is
    read. Arrays are (H, W), (1, H, W), else (H, W, 1, 3 or 4), the fourth channel opacity.

    Args:
        data: The whole file.
        name: The file's name, only for a note if its ending does not fit the content.
        limits: Smallest and largest number of the whole stack that this is a frame of: the range rule is applied to
            them in place of the frame's own, so that frames do not flicker.
        shown_side: Longest side of the image's `original`; whoever shows nothing saves most of the time that a large
            photograph takes with 1.

    Raises:
        ImageError: If it is not a whole image of a supported format, or passes a limit.
    """
    if not data:
        raise ImageError("the file is empty; choose a file that holds an image")
    check_bytes(len(data))
    kind = format_of(data)
    if kind is None:
        raise ImageError(
            "not a supported image: expected PNG, JPEG, WebP, BMP, GIF, TIFF or .npy, got "
            f"{_first_match(_FOREIGN, data) or 'something else'}; save it as one of these"
        )
    try:
        read = partial(_read_npy, data) if kind == "NPY" else partial(_read_image, data, kind)
        image = read(limits, shown_side)
    except ImageError:
        raise
    except Exception as error:  # broken files make parsers raise nearly anything, MemoryError included
        raise ImageError(
            f"the {kind} file is damaged, cut short, or of a kind that is not read; save it again, for example as PNG"
        ) from error
    ending = Path(name).suffix.lower()
    if re.fullmatch(r"\.[a-z]\w{1,7}", ending, re.ASCII) and _ENDINGS.get(ending, ending[1:].upper()) != kind:
        image = replace(image, notes=(f"the name ends in {ending}, the content is {kind}", *image.notes))
    return image


def format_of(start: bytes) -> str | None:
    """What the first bytes of a file, 64 are enough, say it is: PNG, JPEG, WEBP, BMP, GIF, TIFF, NPY; else None."""
    return _first_match(_MAGIC, start)


class _Metered(io.BytesIO):
    """A file that gives up after many reads: Pillow walks chunks, segments, blocks and tags one by one in Python."""

    pieces = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.pieces += 1
        _check_pieces(self.pieces)
        return super().read(size)


def _read_image(data: bytes, kind: str, limits: tuple[float, float] | None, shown_side: int) -> DecodedImage:
    notes: list[str] = []
    is_animated = False
    if kind == "PNG":
        data, is_animated = _bare_png(data)
    elif kind == "TIFF":
        _check_tiff(data)
    try:
        opened = Image.open(_Metered(data), formats=(kind,))  # headers only
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    with opened as image:
        width, height = image.size
        check_size(width, height)
        if kind == "JPEG" and data.count(b"\xff\xda") * width * height > MAX_SCANNED_PIXELS:
            raise ImageError("the JPEG has far too many scans; save it again, for example as PNG")
        if is_animated or getattr(image, "is_animated", False):  # looks one frame ahead at most, never counts them
            notes.append("the first of several frames or pages")
        raw_mode = _raw_mode(image)
        if isinstance(image, TiffImageFile):
            _refuse_misread(image, raw_mode)
            orientation, is_negative = image.tag_v2.get(274), image.tag_v2.get(262) == 0
            image.load()  # turns it upright, too
            upright = image
        else:
            image.load()
            orientation, is_negative = _orientation(image), False
            upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
        if orientation in _UPRIGHT:
            notes.append("turned upright as its EXIF data say")
        if upright.mode == "F" or upright.mode.startswith("I"):
            values = _deep_values(upright, raw_mode)
            found = value_range(values)
            pixels = _deep_pixels(values, upright, raw_mode, notes, limits or found)
            if is_negative:  # Pillow heeds TIFF's WhiteIsZero in 8 bits only
                pixels = 1 - pixels
            return replace(_grey_image(pixels, notes, kind, shown_side), limits=found)
        return _colour_image(_on_white(upright, raw_mode, notes), notes, kind, shown_side)


def _read_npy(data: bytes, limits: tuple[float, float] | None, shown_side: int) -> DecodedImage:
    file = io.BytesIO(data)
    shape, is_fortran, dtype = npy_header(file)
    axes = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if not (len(axes) == 2 or (len(axes) == 3 and axes[2] in (1, 3, 4))):
        raise ImageError(f"the array must be (H, W), (1, H, W) or (H, W, 1, 3 or 4), got {str(shape)[:60]}; reshape it")
    check_size(axes[1], axes[0])
    values = np.frombuffer(data, dtype, math.prod(shape), file.tell())  # a view, which a lying header cannot pass
    return image_of(values.reshape(shape, order="F" if is_fortran else "C").reshape(axes), limits, shown_side)


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
    values: np.ndarray, limits: tuple[float, float] | None = None, shown_side: int = MAX_SHOWN_SIDE
) -> DecodedImage:
    """An array's real numbers, (H, W) or (H, W, 1, 3 or 4), as an image, by the rules of `read_image`.

    Raises ImageError if it is too large, or its numbers are not finite, or its opacity is out of range.
    """
    check_size(values.shape[1], values.shape[0])
    notes: list[str] = []
    if values.ndim == 2 or values.shape[2] == 1:
        found = value_range(values)
        pixels = _to_unit(values.reshape(values.shape[:2]), notes, limits or found)
        return replace(_grey_image(pixels, notes, "NPY", shown_side), limits=found)
    found = value_range(values[..., :3])
    colours = to_uint8(_to_unit(values[..., :3], notes, limits or found))
    if values.shape[2] == 4:
        opacity = values[..., 3]
        if not is_narrow(values.dtype) and not 0 <= opacity.min() <= opacity.max() <= 255:
            raise ImageError("the array's fourth channel is opacity and must be in [0, 1] or [0, 255]; scale it")
        colours = np.dstack([colours, to_uint8(_to_unit(opacity, [], value_range(opacity)))])
    if values.dtype != np.uint8:
        notes.append("colours read with 8 bits a channel")
    image = _on_white(Image.fromarray(colours), "", notes)
    return replace(_colour_image(image, notes, "NPY", shown_side), limits=found)


def _grey_image(pixels: np.ndarray, notes: list[str], kind: str, shown_side: int) -> DecodedImage:
    return DecodedImage(pixels, tuple(notes), kind, _for_showing(Image.fromarray(to_uint8(pixels)), shown_side))


def _colour_image(image: Image.Image, notes: list[str], kind: str, shown_side: int) -> DecodedImage:
    """From mode L or RGB."""
    grey = image
    if image.mode == "RGB":
        red, green, blue = image.split()
        if ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox():
            grey = image.convert("L")
            notes.append("colour turned to grey (luma .299 R + .587 G + .114 B)")
        else:
            image = grey = red
    pixels = np.array(grey, np.float32)
    pixels /= 255
    return DecodedImage(pixels, tuple(notes), kind, _for_showing(image, shown_side))


def _for_showing(image: Image.Image, side: int) -> np.ndarray:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(image)


def _deep_values(image: Image.Image, raw_mode: str) -> np.ndarray:
    """The numbers of an image whose mode has more than 8 bits."""
    values = np.asarray(image)
    if image.mode == "I" and not raw_mode.endswith("S"):
        values = values.view(np.uint32)  # Pillow has signed integers only
    return values


def _deep_pixels(
    values: np.ndarray, image: Image.Image, raw_mode: str, notes: list[str], limits: tuple[float, float] | None
) -> np.ndarray:
    """Those numbers as float32 in [0, 1]."""
    if raw_mode == "I;12":
        notes.append("12-bit values divided by 4095")
        pixels = values.astype(np.float32) / np.float32(4095)
    else:
        pixels = _to_unit(values, notes, limits)
    key = image.info.get("transparency")
    if isinstance(key, int):
        notes.append("transparency laid on white")
        pixels[values == key] = 1
    return pixels


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
    key = image.info.get("transparency")
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):  # Pillow widens the pixels, but not the key
        image.info["transparency"] = key * (85 if raw_mode == "L;2" else 17)
    elif isinstance(key, tuple) and ";16" in raw_mode:
        image.info["transparency"] = tuple(value >> 8 for value in key)
    layered = image.convert("RGBA")
    opacity = layered.getchannel("A")
    if opacity.getextrema() != (255, 255):
        notes.append("transparency laid on white")
    return laid_on_white(layered)


def laid_on_white(image: Image.Image) -> Image.Image:
    """From mode RGBA to RGB."""
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def value_range(values: np.ndarray) -> tuple[float, float] | None:
    """Smallest and largest number; None where the type alone says which number is white.

    Raises ImageError if they are not finite.
    """
    if is_narrow(values.dtype):
        return None
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise ImageError("the image holds NaN, infinite or far too large values; replace them, best by ones in [0, 1]")
    return low, high


def _to_unit(values: np.ndarray, notes: list[str], limits: tuple[float, float] | None) -> np.ndarray:
    """Numbers of any real type to float32 in [0, 1], by the rules of `read_image`; `limits` as `value_range` gives."""
    if is_narrow(values.dtype) or limits is None:
        top = 1 if values.dtype.kind == "b" else 256**values.dtype.itemsize - 1
        if top == 65535:
            notes.append("16-bit values divided by 65535")
        return values.astype(np.float32) / np.float32(top)
    low, high = limits
    if low >= 0 and high <= 255:
        notes.append("values in [0, 1] taken as they are" if high <= 1 else "values in [0, 255] divided by 255")
        return values.astype(np.float32) / np.float32(1 if high <= 1 else 255)
    if low == high:
        notes.append(f"one value everywhere ({low:g}), shown as middle grey")
        return np.full(values.shape, 0.5, np.float32)
    notes.append(f"values from {low:g} to {high:g} stretched from black to white")
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)


def is_narrow(dtype: np.dtype) -> bool:
    """Whether the type alone says which number is white: truth values, 8 or 16 unsigned bits."""
    return dtype.kind in "bu" and dtype.itemsize <= 2


def _bare_png(data: bytes) -> tuple[bytes, bool]:
    """The chunks of a PNG's first image, and whether it has more. Text, profiles and later frames can hide bombs.

    Raises ImageError if it is too large or has too many chunks, ValueError or struct.error if it is cut short or a
    checksum is wrong.
    """
    check_size(*struct.unpack_from(">II", data, 16))
    kept, start, is_animated = [data[:8]], 8, False
    for piece in itertools.count():
        _check_pieces(piece)
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


def _check_tiff(data: bytes) -> None:
    """Refuse a directory that would become millions of objects.

    Raises ImageError if it has too many tags, strips or tiles; struct.error if it does not lie inside the file.
    """
    order, is_big = "<" if data[:2] == b"II" else ">", data[2] == 43
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    count = struct.Struct(order + ("Q" if is_big else "H"))
    entry = struct.Struct(order + ("HHQ8x" if is_big else "HHI4x"))
    (num_tags,) = count.unpack_from(data, start)
    if num_tags > 4096:
        raise _too_many_pieces()
    for number in range(num_tags):
        tag, _, length = entry.unpack_from(data, start + count.size + number * entry.size)
        if tag in (273, 324):  # where the strips, the tiles are
            _check_pieces(length)


def _refuse_misread(image: TiffImageFile, raw_mode: str) -> None:
    """Kinds of TIFF that Pillow 13 opens with wrong numbers."""
    is_libtiff = bool(image.tile) and image.tile[0].codec_name == "libtiff"
    is_swapped = is_libtiff and raw_mode.endswith(("BS", "BF"))
    is_planar = not is_libtiff and image.tag_v2.get(284) == 2 and max(image.tag_v2.get(258, (1,))) > 8
    is_signed = image.mode == "L" and image.tag_v2.get(339) == (2,)
    if is_swapped or is_planar or is_signed:
        raise ImageError("this kind of TIFF is not read; save it as 8- or 16-bit PNG, or as .npy")


def _raw_mode(image: ImageFile) -> str:
    """Pillow's name of how the file lays out its bits; empty where it has none."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _orientation(image: ImageFile) -> int | None:
    try:
        return image.getexif().get(274)
    except Exception:  # what is broken beside the image does not spoil it
        return None


def check_bytes(size: int, what: str = "file") -> None:
    """Refuse what is too large to be read whole."""
    if size > MAX_FILE_BYTES:
        raise ImageError(
            f"the {what} must be at most {MAX_FILE_BYTES // 1024**2} MB, got {size / 1024**2:.1f} MB; "
            "scale the image down or save it with compression"
        )


def check_size(width: int, height: int) -> None:
    """Refuse an image without pixels, or with too many."""
    if width < 1 or height < 1:
        raise ImageError(f"the image must have at least one pixel, got {width}x{height}; choose another")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise _too_large(f", got {width}x{height}")


def _too_large(got: str = "") -> ImageError:
    limits = f"{MAX_PIXELS // 10**6} million pixels and {MAX_SIDE} a side"
    return ImageError(f"the image must have at most {limits}{got}; scale it down or crop it")


def _check_pieces(count: int) -> None:
    if count > MAX_PIECES:
        raise _too_many_pieces()


def _too_many_pieces() -> ImageError:
    return ImageError("the file is cut into far too many pieces; save it again, for example as PNG")


def _first_match(patterns: dict[str, bytes], data: bytes) -> str | None:
    return next((kind for kind, start in patterns.items() if re.match(start, data[:64], re.DOTALL)), None)
