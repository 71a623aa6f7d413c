"""Training images slightly changed at every look: mirrored, moved, zoomed, with other contrast and brightness."""

import numpy as np
from PIL import Image

from tae.data.fit import background_of


def augment(
    image: np.ndarray,
    rng: np.random.Generator,
    flip: float = 0.0,
    shift: float = 0.0,
    zoom: float = 0.0,
    contrast: float = 0.0,
    background: int | None = None,
) -> np.ndarray:
    """One changed copy of an image (H, W) uint8, of the same size; with every share 0 the image itself, bit for bit.

    The image is zoomed about its middle (antialiased), then moved by whole pixels; what this uncovers takes the
    background's grey. Brightness multiplies all values, contrast spreads them about middle grey; both are clipped.

    Args:
        image: Is returned itself where nothing is to be changed.
        rng: Asked for six numbers, whatever the shares are.
        flip: Probability, in [0, 1], to be mirrored left to right.
        shift: Largest move, as a share of the sides.
        zoom: The scale is drawn from [1 - zoom, 1 + zoom]; below 1.
        contrast: Factors of brightness and of contrast are drawn from [1 - contrast, 1 + contrast].
        background: Grey in [0, 255]; None: the median of the image's border.
    """
    chance = rng.random()
    down, right, size, bright, spread = rng.uniform(-1, 1, 5)
    height, width = image.shape
    if chance < flip:
        image = image[:, ::-1]
    new_height, new_width = (max(1, round(side * (1 + zoom * size))) for side in (height, width))
    top = (height - new_height) // 2 + round(down * shift * height)
    left = (width - new_width) // 2 + round(right * shift * width)
    if (new_height, new_width, top, left) != (height, width, 0, 0):
        grey = round(background_of(image)) if background is None else background
        image = _placed(_resized(image, new_height, new_width), height, width, top, left, grey)
    if contrast:
        # All greys at once, in a table.
        greys = (np.arange(256) * (1 + contrast * bright) - 127.5) * (1 + contrast * spread) + 127.5
        image = np.round(greys.clip(0, 255)).astype(np.uint8)[image]
    return image


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape == (height, width):
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BICUBIC))


def _placed(image: np.ndarray, height: int, width: int, top: int, left: int, grey: int) -> np.ndarray:
    """The image at (top, left) of a frame, either of which may be negative; what lies outside is cut off."""
    frame = np.full((height, width), grey, np.uint8)
    seen = image[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    place = frame[max(0, top) :, max(0, left) :]
    place[: seen.shape[0], : seen.shape[1]] = seen
    return frame
