"""Pictures from strangers to a model's input, and arrays to files; how a stranger's names are shown and stored.

Images are float32 (H, W) in [0, 1], 0 black; what was done to them is said in notes. Sizes in words are width x height.
"""

import io
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tae.imagefile import ImageError, Picture, read_image

__all__ = [
    "FIT_MODES",
    "SUFFIXES",
    "Fitted",
    "ImageError",
    "Picture",
    "background_of",
    "encode_png",
    "escape_markdown",
    "find_images",
    "fit_image",
    "natural_order",
    "padded_box",
    "plain_text",
    "read_image",
    "safe_name",
    "to_uint8",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy")
"""Endings of the files that `read_image` can read, for upload widgets and folders."""

FIT_MODES = {
    "pad": "Whole picture, padded",
    "crop": "Fill the frame, cropped",
    "stretch": "Stretch to the frame",
}
"""How a picture comes to the model's size."""

_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_INVISIBLE = "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
"""Characters without a shape that Unicode counts as letters or marks."""


@dataclass(frozen=True)
class Fitted:
    """A picture as a model sees it."""

    pixels: np.ndarray
    """(H, W) float32 in [0, 1], of exactly the size asked for."""
    notes: tuple[str, ...]
    """What was done to its size; empty if nothing."""


def find_images(folder: Path) -> list[Path]:
    """Picture files of a folder and its subfolders, by their endings, in natural order (img2 before img10).

    Passed over: what is hidden or cannot be listed, anything but regular files, links that leave the folder.
    """
    home = folder.resolve()
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            try:
                if path.suffix.lower() not in SUFFIXES or not path.is_file():
                    continue
                if not path.is_symlink() or path.resolve().is_relative_to(home):  # os.walk follows no linked folder
                    found.append(path)
            except (OSError, RuntimeError):  # not allowed to look; a loop of links
                continue
    return sorted(found, key=lambda path: natural_order(path.as_posix()))


def natural_order(name: str) -> str:
    """Key that sorts names as people do: img2 before img10.

    Numbers by value, letters whatever their case; last the exact spelling, so that no two are equal. One short text, for
    a million names are sorted at once.
    """

    def by_value(found: re.Match) -> str:
        digits = str(int(found[0]))
        return f"\1{len(digits):03}{digits}"  # \1: before any letter

    return re.sub(r"\d+", by_value, name.lower()) + "\0" + name


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
        ImageError: If the width is free, the mode is "pad", and the picture would be wider than `max_width`.
        ValueError: If the mode is unknown or the background leaves its range.
    """
    if mode not in FIT_MODES:
        raise ValueError(f"unknown mode {mode!r}; choose from: {', '.join(FIT_MODES)}")
    if background is not None and not 0 <= background <= 1:
        raise ValueError(f"background must be in [0, 1] or None, got {background}")
    pixels = np.asarray(pixels, np.float32)
    old_height, old_width = pixels.shape
    height, width = input_size
    if width is None:
        width = max(1, round(old_width * height / old_height))
        if width <= max_width:
            mode = "stretch"  # by rounding only
        elif mode == "pad":
            raise ImageError(
                f"a picture of {old_width}x{old_height} becomes {width} wide at the model's height of {height}, and "
                f"the model takes at most {max_width}; crop it, or cut it into windows"
            )
        width = min(width, max_width)
    if pixels.shape == (height, width):
        return Fitted(pixels, ())
    if mode == "crop":
        return _cropped(pixels, height, width)
    if mode == "pad":
        return _padded(pixels, height, width, background)
    is_kept = round(old_width * height / old_height) == width or round(old_height * width / old_width) == height
    verb = "scaled" if is_kept else "stretched"
    return Fitted(_resize(pixels, height, width), (f"{verb} from {old_width}x{old_height} to {width}x{height}",))


def padded_box(old_size: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Where mode "pad" puts a picture of `old_size` in a frame of `size`, both (height, width): its rows and columns."""
    scale = min(new / old for new, old in zip(size, old_size, strict=True))
    inner = [min(new, max(1, round(old * scale))) for new, old in zip(size, old_size, strict=True)]
    rows, columns = (slice((new - side) // 2, (new - side) // 2 + side) for new, side in zip(size, inner, strict=True))
    return rows, columns


def background_of(pixels: np.ndarray) -> float:
    """Median grey of a picture's border, (H, W) in [0, 1]: what padding should look like."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Float in [0, 1] to uint8, clipped and rounded; uint8 stays as it is. Any shape."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3), float in [0, 1] or uint8 -> a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


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


def _padded(pixels: np.ndarray, height: int, width: int, background: float | None) -> Fitted:
    old_height, old_width = pixels.shape
    rows, columns = padded_box(pixels.shape, (height, width))
    new_height, new_width = rows.stop - rows.start, columns.stop - columns.start
    grey = background_of(pixels) if background is None else background
    steps = []
    if pixels.shape != (new_height, new_width):
        steps.append(f"scaled from {old_width}x{old_height} to {new_width}x{new_height}")
        pixels = _resize(pixels, new_height, new_width)
    if pixels.shape != (height, width):
        frame = np.full((height, width), grey, np.float32)
        frame[rows, columns] = pixels
        pixels = frame
        colour = "white" if grey > 0.995 else "black" if grey < 0.005 else f"grey {grey:.2f}"
        steps.append(f"padded with {colour}{', like its border,' if background is None else ''} to {width}x{height}")
    return Fitted(pixels, (", ".join(steps),))


def _cropped(pixels: np.ndarray, height: int, width: int) -> Fitted:
    old_height, old_width = pixels.shape
    # The largest middle part of the frame's proportions, cut before scaling: a long strip is never enlarged whole.
    new_height = min(old_height, max(1, round(old_width * height / width)))
    new_width = min(old_width, max(1, round(old_height * width / height)))
    top, left = (old_height - new_height) // 2, (old_width - new_width) // 2
    steps = []
    if (new_height, new_width) != pixels.shape:
        steps.append(f"cropped in the middle from {old_width}x{old_height} to {new_width}x{new_height}")
    if (new_height, new_width) != (height, width):
        steps.append(f"scaled from {new_width}x{new_height} to {width}x{height}")
    pixels = _resize(pixels[top : top + new_height, left : left + new_width], height, width)
    return Fitted(pixels, (", ".join(steps),))


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lanczos, antialiased, clipped to [0, 1]; untouched where the size is right."""
    if pixels.shape == (height, width):
        return pixels
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(resized), 0, 1)
