"""Files and arrays from strangers to grayscale images, and images to files.

What a file is, its content decides, never its name. Images are float32 (H, W) in [0, 1], 0 black; whatever was done on
the way is said in notes. Sizes in words are width x height.
"""

import io
import re
import struct
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy")
MAX_FILE_BYTES = 20 * 1024**2
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000
MAX_SHOWN_SIDE = 1280
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FIT_MODES = {
    "pad": "Whole picture, padded",
    "crop": "Fill the frame, cropped",
    "stretch": "Stretch to the frame",
}
"""How a picture comes to the model's size."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

_SUPPORTED = "PNG, JPEG, WebP, BMP, GIF, TIFF and .npy"
_SUFFIX_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}


class ImageError(ValueError):
    """A picture is refused; one sentence for its user, without a path."""


@dataclass(frozen=True)
class Picture:
    """A picture as it came.

    Attributes:
        pixels: (H, W) float32 in [0, 1], 0 black.
        notes: What was converted on the way.
        format: "PNG", ..., "NPY".
        original: Upright, in its own colours, for showing: uint8 (h, w) or (h, w, 3), at most 1280 pixels a side.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]
    format: str
    original: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A picture as a model sees it.

    Attributes:
        pixels: (H, W) float32 in [0, 1].
        notes: What was done to its size.
    """

    pixels: np.ndarray
    notes: tuple[str, ...]


def read_image(data: bytes, name: str = "") -> Picture:
    """Decode a file's bytes.

    8-bit colours turn to grey by luma, transparency lies on white, 16-bit values are divided by 65535. Floats and 32-bit
    integers in [0, 1] stay as they are, in [0, 255] are divided by 255, else stretched from their minimum to their
    maximum. Of animations and multi-page files the first frame is read.

    Raises:
        ImageError: If it is not a whole picture of a supported format, or passes a limit.
    """
    if not data:
        raise ImageError("the file is empty; expected a picture")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"the file must be at most {MAX_FILE_BYTES // 1024**2} MB, got {len(data) / 1024**2:.0f} MB")
    picture = _read_npy(data) if data.startswith(b"\x93NUMPY") else _read_with_pillow(data)
    suffix = Path(name).suffix.lower()
    named = _SUFFIX_FORMATS.get(suffix, suffix.lstrip(".").upper())
    if suffix and named != picture.format:
        note = f"the name ends in {plain_text(suffix)}, the content is {picture.format}"
        picture = Picture(picture.pixels, (note, *picture.notes), picture.format, picture.original)
    return picture


def find_images(folder: Path) -> list[Path]:
    """Picture files of a folder and its subfolders, by their endings, in natural order (img2 before img10).

    Hidden files, and links that leave the folder, are passed over.
    """
    home = folder.resolve()
    found = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in inside.parts):
            continue
        try:
            if path.is_file() and path.resolve().is_relative_to(home):
                found.append(path)
        except (OSError, RuntimeError):  # a dangling link, a loop
            continue
    return sorted(found, key=lambda path: _natural_order(path.relative_to(folder).as_posix()))


def fit_image(
    pixels: np.ndarray,
    input_size: tuple[int, int | None],
    mode: str = "pad",
    max_width: int = 1280,
    background: float | None = None,
) -> Fitted:
    """Bring a picture to a model's size.

    Args:
        pixels: (H, W) float in [0, 1].
        input_size: (height, width); width None: the picture is scaled to the height and keeps its proportions.
        mode: One of `FIT_MODES`.
        max_width: Widest picture where the width is None.
        background: Grey of the padding in [0, 1]; None: that of the picture's border.

    Returns:
        A picture of that size; untouched, bit for bit, where it had it.

    Raises:
        ImageError: If the width is free and the picture would be wider than `max_width` with its proportions kept.
        ValueError: If the mode is unknown.
    """
    if mode not in FIT_MODES:
        raise ValueError(f"unknown mode {mode!r}; choose from: {', '.join(FIT_MODES)}")
    pixels = np.asarray(pixels, np.float32)
    old_height, old_width = pixels.shape
    height, width = input_size
    if width is None:
        width = max(1, round(old_width * height / old_height))
        if width > max_width and mode == "pad":
            raise ImageError(
                f"scaled to {height} pixels of height it would be {width} wide, and this model takes at most {max_width}; "
                "crop it, cut it into windows, or choose another way to fit it"
            )
        width = min(width, max_width)
    if (old_height, old_width) == (height, width):
        return Fitted(pixels, ())
    old = f"{old_width}x{old_height}"
    if mode == "stretch":
        return Fitted(_resize(pixels, height, width), (f"stretched from {old} to {width}x{height}",))
    scales = (height / old_height, width / old_width)
    scale = min(scales) if mode == "pad" else max(scales)
    # At least a pixel; never beyond the frame when padding, never short of it when cropping.
    bound = min if mode == "pad" else max
    new_height = bound(height, max(1, round(old_height * scale)))
    new_width = bound(width, max(1, round(old_width * scale)))
    if mode == "crop":
        pixels = _centre_crop_to(pixels, height, width)  # first, or a very long picture would be enlarged whole
        notes = (
            [f"cropped in the middle to {pixels.shape[1]}x{pixels.shape[0]}"]
            if pixels.shape != (old_height, old_width)
            else []
        )
        if pixels.shape != (height, width):
            notes.append(f"scaled from {pixels.shape[1]}x{pixels.shape[0]} to {width}x{height}")
        return Fitted(_resize(pixels, height, width), tuple(notes))
    grey = background_of(pixels) if background is None else background
    scaled = _resize(pixels, new_height, new_width)
    notes = [f"scaled from {old} to {new_width}x{new_height}"] if scaled.shape != (old_height, old_width) else []
    if scaled.shape != (height, width):
        canvas = np.full((height, width), grey, np.float32)
        top, left = (height - new_height) // 2, (width - new_width) // 2
        canvas[top : top + new_height, left : left + new_width] = scaled
        scaled = canvas
        notes.append(f"padded with {_grey_word(grey)} to {width}x{height}")
    return Fitted(scaled, tuple(notes))


def background_of(pixels: np.ndarray) -> float:
    """Median grey of a picture's border: what padding should look like."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return float(np.median(border))


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """[0, 1] float to uint8, clipped and rounded; uint8 stays as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3), float in [0, 1] or uint8 -> a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def safe_name(name: str) -> str:
    """A stranger's name as a file name: ASCII letters, digits, - _ . only, at most 60 characters, never empty."""
    last = re.split(r"[/\\]", name)[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")[:60].rstrip("._-")
    if not plain or re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", plain.lower()):
        return f"image_{plain}".rstrip("_")
    return plain


def plain_text(name: str, limit: int = 60) -> str:
    """A stranger's text for showing: no control, bidirectional or zero-width characters, shortened in the middle."""
    kept = "".join(c for c in name[:20_000] if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
    if len(kept) > limit:
        half = (limit - 1) // 2
        kept = f"{kept[:half]}…{kept[-half:]}"
    return kept or "unnamed"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands: no link, image, HTML, formula or :icon: survives."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])", r"\\\1", text)


def _read_with_pillow(data: bytes) -> Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                return _decode(image)
    except UnidentifiedImageError:
        raise ImageError(f"not a supported picture; expected {_SUPPORTED}") from None
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the picture must have at most {MAX_PIXELS // 10**6} million pixels") from None
    # Broken files make Pillow raise nearly anything.
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error) as error:
        raise ImageError("the picture is damaged or cut short; save it again and retry") from error
    except (ZeroDivisionError, OverflowError, MemoryError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ImageError("the picture is damaged or cut short; save it again and retry") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"the picture must have at most {MAX_PIXELS // 10**6} million pixels and {MAX_SIDE} a side, got {width}x{height}"
        )


def _decode(image: Image.Image) -> Picture:
    kind, notes = image.format or "", []
    if getattr(image, "is_animated", False):  # for GIF, WebP and PNG from headers, for TIFF from the first links
        notes.append("first frame only; the file has more")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright as its EXIF data say")
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        values = np.asarray(upright)
        if kind == "PNG" or upright.mode.startswith("I;16"):
            notes.append("16 bits a pixel, divided by 65535")
            pixels = values.astype(np.float32) / 65535
        else:
            pixels, note = _by_range(values)
            notes += note
        pixels = np.clip(pixels, 0, 1).astype(np.float32)
        return Picture(pixels, tuple(notes), kind, _shown(Image.fromarray(to_uint8(pixels))))
    colours = _on_white(upright, notes)
    if colours.mode == "L":
        pixels = np.asarray(colours, np.float32) / 255
    else:
        rgb = np.asarray(colours, np.float32) / 255
        pixels = (rgb @ np.array(LUMA, np.float32)).astype(np.float32)
        if np.ptp(np.asarray(colours), axis=2).any():
            notes.append("colour turned to grey (.299 red + .587 green + .114 blue)")
    return Picture(np.clip(pixels, 0, 1), tuple(notes), kind, _shown(colours))


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any 8-bit mode to L or RGB; transparency is laid on white."""
    if image.mode == "LAB":
        to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, to_rgb)
        assert converted is not None
        notes.append("LAB colours converted")
        return converted
    if image.mode in ("CMYK", "YCbCr", "HSV"):
        notes.append(f"{image.mode} colours converted")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if np.asarray(layered.getchannel("A")).min() < 255:
            notes.append("transparency laid on white")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _by_range(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbers of any range to [0, 1], and what was done."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError("the picture holds NaN or infinite values; expected finite numbers")
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return values, ["values in [0, 1], taken as they are"]
    if low >= 0 and high <= 255:
        return values / 255, ["values in [0, 255], divided by 255"]
    if high == low:
        return np.full_like(values, 0.5), [f"one value everywhere ({low:g}), shown as middle grey"]
    scale = max(abs(low), abs(high), 1.0)  # so that high - low cannot overflow
    stretched = (values / scale - low / scale) / (high / scale - low / scale)
    return stretched, [f"values from {low:g} to {high:g}, stretched to black and white"]


def _read_npy(data: bytes) -> Picture:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, OSError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ImageError("the .npy file's header is damaged") from error
    if dtype.kind not in "buif" or dtype.hasobject:
        raise ImageError(f"the array must hold numbers, got type {plain_text(str(dtype))}")
    squeezed = tuple(shape)
    if len(squeezed) == 3 and squeezed[0] == 1:
        squeezed = squeezed[1:]
    if not (len(squeezed) == 2 or (len(squeezed) == 3 and squeezed[2] in (1, 3, 4))):
        raise ImageError(f"the array must be (H, W), (1, H, W) or (H, W, 1, 3 or 4), got {plain_text(str(shape))}")
    _check_size(squeezed[1], squeezed[0])
    count = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) - file.tell() < count:
        raise ImageError("the .npy file is cut short")
    file.seek(0)
    try:
        array = np.load(file, allow_pickle=False).reshape(squeezed)
    except (ValueError, OSError, EOFError) as error:
        raise ImageError("the .npy file is damaged") from error
    notes = []
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype.kind == "b":
        values = array.astype(np.float64)
    elif array.dtype == np.uint8:
        values = array / 255.0
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        values, notes = array / 65535.0, ["16 bits a pixel, divided by 65535"]
    else:
        values, notes = _by_range(array)
    original = to_uint8(values[..., :3] if values.ndim == 3 else values)
    if values.ndim == 3:
        if values.shape[2] == 4:
            values = values[..., :3] * values[..., 3:] + (1 - values[..., 3:])
            original = to_uint8(values)
            notes.append("transparency laid on white")
        values = values @ np.array(LUMA)
        notes.append("colour turned to grey (.299 red + .587 green + .114 blue)")
    pixels = np.clip(values, 0, 1).astype(np.float32)
    return Picture(pixels, tuple(notes), "NPY", _shown(Image.fromarray(original)))


def _shown(image: Image.Image) -> np.ndarray:
    image = image.copy()
    image.thumbnail((MAX_SHOWN_SIDE, MAX_SHOWN_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lanczos, antialiased, clipped to [0, 1]; untouched where the size is right."""
    if pixels.shape == (height, width):
        return pixels
    resized = Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(resized, np.float32), 0, 1)


def _centre_crop_to(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest middle part that has the proportions of a frame."""
    old_height, old_width = pixels.shape
    new_height = min(old_height, max(1, round(old_width * height / width)))
    new_width = min(old_width, max(1, round(old_height * width / height)))
    top, left = (old_height - new_height) // 2, (old_width - new_width) // 2
    return pixels[top : top + new_height, left : left + new_width]


def _grey_word(grey: float) -> str:
    if grey > 0.98:
        return "white"
    return "black" if grey < 0.02 else f"the grey of its border ({grey:.2f})"


def _natural_order(name: str) -> list[tuple[int, str | int]]:
    return [(1, int(part)) if part.isdecimal() else (0, part.lower()) for part in re.split(r"(\d+)", name)]
