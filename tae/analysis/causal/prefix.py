"""The undisturbed pass, kept: what enters each layer, so that an intervention starts where it begins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tae.model.autoencoder import Blocks, TransformerAutoencoder
from tae.model.config import ModelConfig

Progress = Callable[[float], object]
TOKENS_AT_ONCE = 4096
"""Tokens of one batch in a sweep: 24 images of 169, 6 of 676. Larger batches leave the processor's caches (measured)."""


@dataclass(frozen=True)
class Prefix:
    """Images and all that an undisturbed pass makes of them on the way."""

    images: Tensor  # (B, 1, H, W) in [0, 1]
    widths: Tensor | None  # (B,)
    mask: Tensor | None  # (B, N), True = real; None where there is no padding
    tokens: dict[str, tuple[Tensor, ...]]  # {part: (B, N, D) as they enter each layer}
    recon: Tensor  # (B, 1, H, W), `model(images)[0]` to the bit


@torch.no_grad()
def make_prefix(model: TransformerAutoencoder, images: Tensor, widths: Tensor | None = None) -> Prefix:
    """Run a model once and keep the way: D numbers for each token and layer."""
    x, mask = model.layer_input(images, 0, "encoder", widths)
    encoder, x = run_through(model.encoder.blocks, x, mask)
    x = model.decoder.start_tokens(model.encoder.pool(x, mask), model.config.grid_for(images.shape[3])[1])
    decoder, x = run_through(model.decoder.blocks, x, mask)
    recon = model.finish(x, "decoder", images.shape[3], widths)
    return Prefix(images, widths, mask, {"encoder": encoder, "decoder": decoder}, recon)


def images_at_once(config: ModelConfig, width: int) -> int:
    """How many images of a width a sweep computes together."""
    rows, columns = config.grid_for(width)
    return max(1, TOKENS_AT_ONCE // (rows * columns))


def silent(share: float) -> None:
    """The progress of work that nobody watches."""


def slices(count: int, size: int, progress: Progress = silent) -> Iterator[slice]:
    """Slices of so many, one after another; progress is told of each that is done."""
    for start in range(0, count, size):
        yield slice(start, start + size)
        progress(min(start + size, count) / count)


def check_one(image: Tensor) -> None:
    """Raise ValueError if it is not one image (1, 1, H, W)."""
    if image.ndim != 4 or image.shape[:2] != (1, 1):
        raise ValueError(f"image must be (1, 1, H, W), got {tuple(image.shape)}")


def prefix_of_one(model: TransformerAutoencoder, image: Tensor | Prefix) -> Prefix:
    """The prefix of one image (1, 1, H, W), or the one given. Raises ValueError if it is not of one image."""
    check_one(image.images if isinstance(image, Prefix) else image)
    return image if isinstance(image, Prefix) else make_prefix(model, image)


def run_through(blocks: Blocks, x: Tensor, mask: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
    """Tokens (B, N, D) as they enter each layer, and as they leave the last."""
    inputs = []
    for block in blocks:
        inputs.append(x)
        x = block(x, mask)
    return tuple(inputs), x
