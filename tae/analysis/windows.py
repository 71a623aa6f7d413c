"""A wide image as a sequence of windows of one width: one latent each, and their images blended into one.

One latent holds a few objects, whatever the width of its image; a strip in windows holds a few for each. Neighbours overlap,
and where they do, the image goes over from one to the other in a straight ramp. A strip may be of any width: only a few
windows are computed at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.data.decode import ImageError
from tae.data.fit import Fitted, fit_image
from tae.model.autoencoder import TransformerAutoencoder, eval_mode
from tae.model.config import ModelConfig

CHUNK = 16  # windows embedded or decoded at once
MAX_STRIP_PIXELS = 5_000_000
"""Pixels of a strip that `fit_strip` makes: a narrow ribbon, enlarged to a model's height, would take all memory."""


@dataclass(frozen=True)
class Windows:
    """A strip as its latents."""

    latents: Tensor  # (n, latent_dim) on the CPU, from left to right: a sequence like any other
    starts: list[int]  # first column of each window
    window: int  # width of each, in pixels
    width: int  # of the strip, in pixels


def window_width(config: ModelConfig) -> int:
    """The width of a model's windows, unless asked otherwise: its own; where it takes any, twice its height
    (benchmarks/windows.py).
    """
    height, width = config.input_size
    return min(2 * height, config.max_width) if width is None else width


def strip_width(height: int, width: int, config: ModelConfig) -> int:
    """The width that an image of this height and width has at the model's height."""
    return max(1, round(width * config.input_size[0] / height))


def fit_strip(pixels: np.ndarray, config: ModelConfig) -> Fitted:
    """An image (H, W) in [0, 1] at the model's height: nothing cropped, nothing padded, however wide it becomes.

    Raises ImageError if it becomes narrower than a window, or larger than `MAX_STRIP_PIXELS`.
    """
    height, window = config.input_size[0], window_width(config)
    old_height, old_width = pixels.shape
    width = strip_width(old_height, old_width, config)
    most = MAX_STRIP_PIXELS // height
    if not window <= width <= most:
        raise ImageError(
            f"a strip must be from {window} to {most} pixels wide at the model's height of {height}; "
            f"an image of {old_width}x{old_height} becomes {width} wide"
        )
    return fit_image(pixels, (height, width), "stretch")


def window_starts(width: int, window: int, overlap: int | None = None) -> list[int]:
    """First columns of the windows that cover `width` pixels; the last one is moved left to end with the strip.

    Neighbours share `overlap` pixels, the last two maybe more; None is half of the window, where two images are
    averaged nearly everywhere.
    """
    if not 1 <= window <= width:
        raise ValueError(f"window must be from 1 to the strip's {width} pixels, got {window}; pad the strip")
    overlap = window // 2 if overlap is None else overlap
    if not 0 <= overlap < window:
        raise ValueError(f"overlap must be from 0 to one less than the window's {window} pixels, got {overlap}")
    last = width - window
    return [*range(0, last, window - overlap), last]


@torch.no_grad()
def embed_windows(
    model: TransformerAutoencoder,
    image: Tensor | np.ndarray,
    window: int | None = None,
    overlap: int | None = None,
    chunk: int = CHUNK,
    embedded: Callable[[int], object] = lambda count: None,
) -> Windows:
    """Embed a strip (H, W) or (1, H, W) in [0, 1], at least as wide as a window, window by window.

    `window` is in pixels, None `window_width`; a model of fixed width takes no other. `overlap` is as for
    `window_starts`, `chunk` is windows at once, and `embedded` is told after each chunk how many there are by now.
    """
    weight = model.encoder.norm.weight
    strip = torch.as_tensor(image).to(weight)
    if strip.ndim == 3 and strip.shape[0] == 1:
        strip = strip[0]
    if strip.ndim != 2:
        raise ValueError(f"image must be (H, W) or (1, H, W), got {tuple(strip.shape)}")
    window = window or window_width(model.config)
    starts = window_starts(strip.shape[1], window, overlap)
    with eval_mode(model):
        latents = []
        for some in _chunks(starts, chunk):
            latents += model.embed(torch.stack([strip[None, :, start : start + window] for start in some])).cpu()
            embedded(len(latents))
    return Windows(torch.stack(latents), starts, window, strip.shape[1])


@torch.no_grad()
def decode_windows(
    model: TransformerAutoencoder,
    windows: Windows,
    chunk: int = CHUNK,
    drawn: Callable[[int, Tensor], object] = lambda number, image: None,
) -> Tensor:
    """Draw the windows of `embed_windows` as the strip (H, W) on the CPU, near [0, 1] but not clipped to it.

    `chunk` is windows at once; `drawn` gets each window's number and its own image (H, window), before that is blended
    with its neighbours'.
    """
    weight = model.decoder.expand.weight
    strip = torch.zeros(model.config.input_size[0], windows.width, dtype=weight.dtype)
    shares = blend_weights(windows.starts, windows.window, windows.width).to(weight.dtype)
    with eval_mode(model):
        for some in _chunks(range(len(windows.starts)), chunk):
            images = model.decode(windows.latents[some[0] : some[-1] + 1].to(weight), windows.window).cpu()
            for number, image in zip(some, images[:, 0], strict=True):
                start = windows.starts[number]
                strip[:, start : start + windows.window] += image * shares[number]
                drawn(number, image)
    return strip


def blend_weights(starts: list[int], window: int, width: int) -> Tensor:
    """The share (n, window) float64 of each window in each of its columns: in every column of the strip they sum to 1.

    Between two neighbours the share goes over in a straight ramp across what they have in common; where a third window
    reaches into that, all three share it. Starts rise, and the windows cover the strip.
    """
    columns = torch.arange(window, dtype=torch.float64)
    shares = torch.ones(len(starts), window, dtype=torch.float64)
    for number, (left, right) in enumerate(zip(starts, starts[1:], strict=False)):
        common = left + window - right
        if common > 0:
            ramp = ((columns + 0.5) / common).clamp(max=1)
            shares[number + 1] *= ramp
            shares[number] *= ramp.flip(0)
    total = torch.zeros(width, dtype=torch.float64)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + window] += share
    return torch.stack([share / total[start : start + window] for start, share in zip(starts, shares, strict=True)])


def _chunks(items: list[int] | range, size: int) -> list[list[int]]:
    if size < 1:
        raise ValueError(f"chunk must be at least 1, got {size}")
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
