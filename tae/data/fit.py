"""An image to a model's size: padded, cropped or stretched.

Images are float32 (H, W) in [0, 1], 0 black; what was done to them is said in notes. Sizes in words are width x height.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tae.data.decode import ImageError

FIT_MODES = {"pad": "Whole image, padded", "crop": "Fill the frame, cropped", "stretch": "Stretch to the frame"}
"""How an image comes to the model's size."""


@dataclass(frozen=True)
class Fitted:
    """An image as a model sees it."""

    pixels: np.ndarray  # (H, W) float32 in [0, 1], of exactly the size asked for
    notes: tuple[str, ...]  # what was done to its size; empty if nothing


def fit_image(
    pixels: np.ndarray,
    input_size: tuple[int, int | None],
    mode: str = "pad",
    max_width: int = 1280,
    background: float | None = None,
) -> Fitted:
    """Bring an image to a model's size.

    Args:
        pixels: (H, W) float in [0, 1].
        input_size: (height, width); width None: the image is scaled to the height and keeps its proportions.
        mode: One of `FIT_MODES`.
        max_width: Widest image where the width is None.
        background: Grey of the padding in [0, 1]; None: that of the image's border.

    Returns:
        An image of that size; untouched, bit for bit, where it had it.

    Raises:
        ImageError: If the width is free, the mode is "pad", and the image would be wider than `max_width`.
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
                f"an image of {old_width}x{old_height} becomes {width} wide at the model's height of {height}, and "
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
    """Where mode "pad" puts an image of `old_size` in a frame of `size`, both (height, width): its rows and columns."""
    scale = min(new / old for new, old in zip(size, old_size, strict=True))
    inner = [min(new, max(1, round(old * scale))) for new, old in zip(size, old_size, strict=True)]
    rows, columns = (slice((new - side) // 2, (new - side) // 2 + side) for new, side in zip(size, inner, strict=True))
    return rows, columns


def background_of(pixels: np.ndarray) -> float:
    """Median grey of an image's border, (H, W) in [0, 1]: what padding should look like."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


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
