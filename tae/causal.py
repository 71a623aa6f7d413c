"""Interventions: attention replaced, patches covered; their effect on the reconstruction.

A model is never changed: no hooks, no state, so that one model serves many sessions. Weights that leave the data's
distribution can break a network that did not need them; whatever is replaced is named beside every figure.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tae.config import ModelConfig
from tae.layers import TransformerBlock, attention_weights, merge_heads, patchify
from tae.metrics import INK_THRESHOLD
from tae.model import TransformerAutoencoder

Replacement = Callable[[int, Tensor], Tensor]
"""(layer, weights (B, heads, N, N)) -> the weights to use instead, of the same shape."""


@torch.no_grad()
def reconstruct_with(
    model: TransformerAutoencoder,
    images: Tensor,
    replace: Replacement,
    part: str = "encoder",
    layers: Sequence[int] | None = None,
    widths: Tensor | None = None,
) -> Tensor:
    """Reconstruct with some attention weights replaced.

    Args:
        model: The autoencoder.
        images: (B, 1, H, W) in [0, 1].
        replace: Gets each chosen layer's own weights, computed from what reaches it.
        part: "encoder" or "decoder".
        layers: Which; None: all.
        widths: (B,) or None.

    Returns:
        (B, 1, H, W); where `replace` returns what it got, the plain reconstruction.
    """

    x, mask = model.layer_input(images, 0, part, widths)
    for layer, block in enumerate((model.encoder if part == "encoder" else model.decoder).blocks):
        if layers is None or layer in layers:
            x = _block_with(block, x, mask, partial(replace, layer))
        else:
            x = block(x, mask)
    return model.finish(x, part, images.shape[-1], widths)


def uniform(layer: int, weights: Tensor) -> Tensor:
    """Every real key gets the same weight."""
    real = (weights > 0).to(weights)
    return real / real.sum(dim=-1, keepdim=True)


def from_images(model: TransformerAutoencoder, images: Tensor, part: str = "encoder") -> Replacement:
    """Other images' attention: theirs in each layer, as they have it themselves.

    Args:
        model: The autoencoder.
        images: (B, 1, H, W), as many as will be reconstructed.
        part: "encoder" or "decoder".
    """
    captured = _captured(model, images, part)
    return lambda layer, weights: captured[layer]


def mean_map(model: TransformerAutoencoder, images: Tensor, part: str = "encoder") -> Replacement:
    """The mean of images' attention, head by head: what is left when nothing depends on the image."""
    captured = [weights.mean(dim=0, keepdim=True) for weights in _captured(model, images, part)]
    return lambda layer, weights: captured[layer].expand_as(weights)


@torch.no_grad()
def occlusion_effect(
    model: TransformerAutoencoder,
    image: Tensor,
    baseline: float | Tensor = 1.0,
    tokens: Tensor | None = None,
    batch_size: int = 32,
) -> Tensor:
    """How much the reconstruction changes when one patch is covered.

    Args:
        model: The autoencoder.
        image: (1, 1, H, W) in [0, 1].
        baseline: What covers a patch: a grey, or an image (1, 1, H, W) whose patch is laid there.
        tokens: (T,) token numbers; None: all N.
        batch_size: Patches tried at once.

    Returns:
        (T,) mean squared change of the reconstruction over all its pixels.
    """
    height, width = image.shape[2:]
    rows, columns = model.config.grid_for(width)
    tile_height, tile_width = model.config.tile_size
    tokens = torch.arange(rows * columns) if tokens is None else tokens
    cover = torch.full_like(image, baseline) if isinstance(baseline, (int, float)) else baseline
    plain = model(image)[0]
    row_of = torch.arange(height, device=image.device) // tile_height
    column_of = torch.arange(width, device=image.device) // tile_width
    token_of = row_of[:, None] * columns + column_of  # (H, W)
    effects = []
    for chunk in tokens.to(image.device).split(batch_size):
        covered = torch.where(token_of == chunk[:, None, None, None], cover, image)
        effects.append(((model(covered)[0] - plain) ** 2).mean(dim=(1, 2, 3)))
    return torch.cat(effects)


def foreground_tokens(image: Tensor, config: ModelConfig) -> Tensor:
    """Patches of an image (1, 1, H, W) with at least one pixel darker than .95; covering others changes nothing."""
    return (_patches_of_ink(image, config).amax(dim=-1) > INK_THRESHOLD).nonzero().flatten()


def trivial_predictors(image: Tensor, config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """What anybody could guess without looking at attention; (N,) each, for one image (1, 1, H, W)."""
    ink = _patches_of_ink(image, config)
    rows, columns = config.grid_for(image.shape[-1])
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    from_centre = torch.hypot(down - (rows - 1) / 2, across - (columns - 1) / 2).flatten()
    return {
        "ink in the patch": ink.mean(dim=-1),
        "contrast in the patch": ink.std(dim=-1, correction=0),
        "nearness to the centre": -from_centre,
        "random": torch.rand(rows * columns, generator=torch.Generator().manual_seed(seed)),
    }


def spearman(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two (T,) tensors; 0 where one of them is constant."""
    score = float(stats.spearmanr(np.asarray(a), np.asarray(b)).statistic)
    return score if np.isfinite(score) else 0.0


def _captured(model: TransformerAutoencoder, images: Tensor, part: str) -> list[Tensor]:
    captured: list[Tensor] = []

    def keep(layer: int, weights: Tensor) -> Tensor:
        captured.append(weights)
        return weights

    reconstruct_with(model, images, keep, part)
    return captured


def _block_with(block: TransformerBlock, x: Tensor, mask: Tensor | None, change: Callable[[Tensor], Tensor]) -> Tensor:
    q, k, v = block.attn.qkv_heads(block.norm1(x))
    weights = change(attention_weights(q, k, mask))
    x = x + block.attn.proj(merge_heads(weights.to(v.dtype) @ v))
    return x + block.mlp(block.norm2(x))


def _patches_of_ink(image: Tensor, config: ModelConfig) -> Tensor:
    """(1, 1, H, W) -> (N, pixels) of 1 - image, padded with white."""
    rows, columns = config.grid_for(image.shape[-1])
    height, width = config.tile_size
    padding = (0, columns * width - image.shape[-1], 0, rows * height - image.shape[-2])
    return patchify(torch.nn.functional.pad(1 - image, padding), config.tile_size)[0]
