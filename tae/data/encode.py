"""Images as bytes: PNG and GIF."""

import base64
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image


def encode_gif(frames: Iterable[np.ndarray], frame_ms: int = 120) -> bytes:
    """Frames (H, W) of one size, float in [0, 1] or uint8 -> a GIF file that runs for ever; all 256 greys are kept.

    Raises ValueError if there is no frame, or they differ in size.
    """
    images = [Image.fromarray(to_uint8(np.asarray(frame))) for frame in frames]
    if not images or any(image.size != images[0].size for image in images):
        raise ValueError("frames must be at least one, and all of one size")
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=frame_ms, loop=0, optimize=False)
    return buffer.getvalue()


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


def png_url(pixels: np.ndarray) -> str:
    """The PNG file of `encode_png` as a data URL, for a page that fetches nothing."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"
