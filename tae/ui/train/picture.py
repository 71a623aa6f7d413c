"""A picture that the page carries in itself."""

import base64

import numpy as np

from tae.images import encode_png


def in_page(pixels: np.ndarray, factor: int) -> str:
    """A picture as an address that holds it: one that the browser has to fetch may be gone before it does.

    Each pixel becomes a square of `factor` pixels a side, so that the browser's smoothing adds nothing.
    """
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    return f"data:image/png;base64,{base64.b64encode(encode_png(enlarged)).decode()}"
