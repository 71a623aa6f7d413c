"""An image to a model's size: padded, cropped, stretched, or cut out about a drop.

Images are float32 (H, W) in [0, 1], 0 black; what was done to them is said in notes. Sizes in words are width x height.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from tae.data.decode import ImageError

FitMode = Literal["pad", "crop", "stretch", "drop"]
FIT_MODES: dict[FitMode, str] = {
    "pad": "Whole image, padded",
    "crop": "Fill the frame, cropped",
    "stretch": "Stretch to the frame",
    "drop": "Cut out about the drop",
}
"""How an image comes to the model's size; "drop" does it as the frames of `tae.data.drops` do."""
DIFFERS = 0.1
"""By how much a pixel's grey differs from the background where it shows something."""


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
        mode: One of `FIT_MODES`. "pad" leaves what touches one edge only, as a plate does, at that edge. "drop" gives a size
            more than seven times as wide as high the whole frame, any other the drop and a margin, stretched.
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
    height, width = input_size
    if mode == "drop":
        return _about_drop(pixels, height, width, max_width)
    old_height, old_width = pixels.shape
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


def padded_box(pixels: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Where mode "pad" puts an image in a frame of `size`, (height, width): its rows and columns."""
    scale = min(new / old for new, old in zip(size, pixels.shape, strict=True))
    inner = [min(new, max(1, round(old * scale))) for new, old in zip(size, pixels.shape, strict=True)]
    shows = np.abs(pixels - background_of(pixels)) > DIFFERS
    boxes = []
    for new, side, edges in zip(size, inner, (shows[[0, -1]], shows.T[[0, -1]]), strict=True):
        first, last = edges.mean(axis=1) > 0.5
        start = (new - side) * (0 if first and not last else 2 if last and not first else 1) // 2
        boxes.append(slice(start, start + side))
    rows, columns = boxes
    return rows, columns


def background_of(pixels: np.ndarray) -> float:
    """Median grey of an image's border, (H, W) in [0, 1]: what padding should look like."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def _padded(pixels: np.ndarray, height: int, width: int, background: float | None) -> Fitted:
    old_height, old_width = pixels.shape
    rows, columns = padded_box(pixels, (height, width))
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
        missing = rows.start, height - rows.stop, columns.start, width - columns.stop
        sides = [side for side, count in zip(("above", "below", "left", "right"), missing, strict=True) if count]
        where = f"{sides[0]} " if len(sides) == 1 and max(missing) > 1 else ""
        steps.append(
            f"padded {where}with {colour}{', like its border,' if background is None else ''} to {width}x{height}"
        )
    return Fitted(pixels, (", ".join(steps),))


def _about_drop(pixels: np.ndarray, height: int, width: int | None, max_width: int) -> Fitted:
    from tae.data.drops.measure import LONGEST, MARGIN, crop_columns
    from tae.data.drops.render import STRIP

    if pixels.shape == (height, width or min(pixels.shape[1], LONGEST * height, max_width)):
        return Fitted(pixels, ())
    steps = []
    frame = max(pixels.shape[0], round(pixels.shape[1] * STRIP[0] / STRIP[1])), pixels.shape[1]
    if frame != pixels.shape:
        whole = np.full(frame, background_of(pixels), np.float32)
        whole[-pixels.shape[0] :] = pixels
        pixels = whole
        steps.append(f"padded above to {frame[1]}x{frame[0]}")
    if width is None or width <= LONGEST * height:
        first, last = crop_columns((255 * pixels).astype(np.uint8), round(MARGIN * frame[1] / STRIP[1]))
        steps.append(
            f"cut out about the drop, {last - first} pixels wide" if last - first < frame[1] else "no drop found"
        )
        pixels = pixels[:, first:last]
    if width is None:
        width = min(max_width, max(1, round(pixels.shape[1] * height / pixels.shape[0])))
    if pixels.shape != (height, width):
        steps.append(f"stretched to {width}x{height}")
    return Fitted(_resize(pixels, height, width), (", ".join(steps),) if steps else ())


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
