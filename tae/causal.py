"""Interventions: attention replaced, patches covered; what that does to the reconstruction.

A model is never changed, not even for a moment (no hooks, no state): one model serves many sessions at once. Whatever
is put in place of weights or pixels leads away from the data that trained the network; it is named beside each figure.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from tae.config import ModelConfig
from tae.layers import TransformerBlock, attention_weights, merge_heads, patchify
from tae.metrics import INK_THRESHOLD
from tae.model import Blocks, TransformerAutoencoder

Replacement = Callable[[int, Tensor], Tensor]
"""(layer, weights (B, heads, N, N)) -> the weights to use instead, of the same shape.

Rows are queries and sum to 1; rows and columns of padding are 0, and what is placed on padding is ignored. Rows may be
returned that sum to something else: a row of zeros is a query that reads nothing.
"""


@torch.no_grad()
def reconstruct_with(
    model: TransformerAutoencoder,
    images: Tensor,
    replace: Replacement,
    part: str = "encoder",
    layers: Sequence[int] | None = None,
    widths: Tensor | None = None,
) -> Tensor:
    """Reconstruct with attention weights replaced, without retraining.

    Args:
        model: The autoencoder, in evaluation mode.
        images: (B, 1, H, W) in [0, 1].
        replace: Gets each chosen layer's own weights, computed from what reaches the layer.
        part: "encoder" or "decoder".
        layers: Which; None: all.
        widths: (B,) or None.

    Returns:
        (B, 1, H, W), near [0, 1]; where `replace` returns what it got, `model(images)[0]`.

    Raises:
        ValueError: If an argument does not fit, or a replacement has another shape.
    """
    x, mask = model.layer_input(images, 0, part, widths)
    blocks = _blocks(model, part)
    chosen = range(len(blocks)) if layers is None else layers
    if any(layer not in range(len(blocks)) for layer in chosen):
        raise ValueError(f"layers must be from 0 to {len(blocks) - 1}, got {list(chosen)}")
    for layer, block in enumerate(blocks):
        x = _block_with(block, x, mask, layer, replace) if layer in chosen else block(x, mask)
    return model.finish(x, part, images.shape[-1], widths)


def uniform(layer: int, weights: Tensor) -> Tensor:
    """The replacement by 1/N: every query treats all real keys alike."""
    real = _real(weights)
    return (real[..., :, None] & real[..., None, :]) / real.sum(dim=-1)[..., None, None].to(weights)


def swapped(layer: int, weights: Tensor) -> Tensor:
    """The replacement by the attention of the image before, in the same batch, the first taking the last one's.

    Above the first replaced layer, these are weights of images that are disturbed themselves; `from_images` gives
    undisturbed ones.

    Raises:
        ValueError: If the batch holds one image only, or images of narrower neighbours.
    """
    if len(weights) < 2:
        raise ValueError("images must be at least 2 to swap their attention, got 1")
    return _on_real_tokens(weights.roll(1, dims=0), weights)


@torch.no_grad()
def from_images(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> Replacement:
    """The replacement by other images' attention, as they have it in an undisturbed pass, head by head.

    Args:
        model: The autoencoder, in evaluation mode.
        images: (B, 1, H, W), as many as will be reconstructed, or one for all; at least as wide as those.
        part: "encoder" or "decoder".
        widths: (B,) or None.
    """
    blocks = _blocks(model, part)
    # What enters the layers is kept, not the weights: D numbers a token, instead of heads * N.
    inputs, mask = _layer_inputs(model, images, part, widths)
    return lambda layer, weights: _on_real_tokens(blocks[layer].head_weights(inputs[layer], mask), weights)


@torch.no_grad()
def mean_map(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> Replacement:
    """The replacement by the mean of images' attention, head by head: what stays when nothing depends on the image.

    Args:
        model: The autoencoder, in evaluation mode.
        images: (B, 1, H, W), any number; the widest at least as wide as those that will be reconstructed.
        part: "encoder" or "decoder".
        widths: (B,) or None; a query's mean is over the images in which it is real.
    """
    inputs, mask = _layer_inputs(model, images, part, widths)
    means = []
    for block, tokens in zip(_blocks(model, part), inputs, strict=True):
        total = block.head_weights(tokens, mask).sum(dim=0, keepdim=True)  # (1, heads, N, N)
        means.append(_normalised(total))
    return lambda layer, weights: _on_real_tokens(means[layer], weights)


@torch.no_grad()
def occlusion_effect(
    model: TransformerAutoencoder,
    image: Tensor,
    baseline: float | str | Tensor = 1.0,
    tokens: Tensor | Sequence[int] | None = None,
    batch_size: int = 32,
) -> Tensor:
    """How much the reconstruction changes when one patch of the image is covered.

    Args:
        model: The autoencoder, in evaluation mode.
        image: (1, 1, H, W) in [0, 1].
        baseline: What covers a patch: a grey in [0, 1] (1 is white), "mean" for the image's mean grey, or an image
            (1, 1, H, W) that lends its own patch.
        tokens: (T,) token numbers; None: all N.
        batch_size: Covered images that go through the model at once.

    Returns:
        (T,) mean squared change of the reconstruction over all its pixels; exactly 0 where the cover changes nothing.

    Raises:
        ValueError: If an argument does not fit.
    """
    if image.ndim != 4 or image.shape[:2] != (1, 1):
        raise ValueError(f"image must be (1, 1, H, W), got {tuple(image.shape)}")
    plain = model(image)[0]
    width = image.shape[3]
    rows, columns = model.config.grid_for(width)
    if tokens is None:
        tokens = torch.arange(rows * columns)
    tokens = torch.as_tensor(tokens, dtype=torch.long, device=image.device)
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < rows * columns:
        raise ValueError(f"tokens must be from 0 to {rows * columns - 1}, got {tokens.tolist()}")
    cover = _cover(image, baseline)
    tile_height, tile_width = model.config.tile_size
    row = torch.arange(image.shape[2], device=image.device) // tile_height
    column = torch.arange(width, device=image.device) // tile_width
    token_of_pixel = row[:, None] * columns + column  # (H, W)
    effect = image.new_zeros(len(tokens))
    # Covering blank with blank is not computed: rounding would put an order into what must be ties.
    changes = _tiles(cover != image, model.config).any(dim=1)[tokens]
    for chunk in changes.nonzero().flatten().split(batch_size):
        covered = torch.where(token_of_pixel == tokens[chunk, None, None, None], cover, image)
        effect[chunk] = ((model(covered)[0] - plain) ** 2).mean(dim=(1, 2, 3))
    return effect


def foreground_tokens(image: Tensor, config: ModelConfig) -> Tensor:
    """Token numbers (T,) of the patches of an image (1, 1, H, W) that hold a foreground pixel (darker than .95)."""
    return _tiles(image < 1 - INK_THRESHOLD, config).any(dim=1).nonzero().flatten()


def trivial_predictors(image: Tensor, config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Guesses at a patch's effect that need no network; attention that predicts no better has told nothing new.

    Args:
        image: (1, 1, H, W) in [0, 1].
        config: Says where the patches are.
        seed: Of the random order, which is drawn anew for each picture and the same for the same picture.

    Returns:
        {name: (N,), larger = more effect expected}.
    """
    ink = _tiles(1 - image, config)
    rows, columns = config.grid_for(image.shape[3])
    tile_height, tile_width = config.tile_size
    down = (torch.arange(rows) + 0.5) * tile_height - image.shape[2] / 2
    across = (torch.arange(columns) + 0.5) * tile_width - image.shape[3] / 2
    picture = zlib.crc32(image.cpu().numpy().tobytes())
    order = torch.rand(rows * columns, generator=torch.Generator().manual_seed(seed + picture))
    return {
        "ink in the patch": ink.mean(dim=1),
        "contrast in the patch": ink.std(dim=1, correction=0),
        "nearness to the centre": -torch.hypot(down[:, None], across).flatten().to(image),
        "random": order.to(image),
    }


def spearman(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Spearman's rank correlation of two (T,); nan where it is undefined: one of them constant, or fewer than 2."""
    a, b = (np.asarray(values.cpu() if isinstance(values, Tensor) else values) for values in (a, b))
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)  # type: ignore[union-attr]


def _blocks(model: TransformerAutoencoder, part: str) -> Blocks:
    return (model.encoder if part == "encoder" else model.decoder).blocks


def _block_with(block: TransformerBlock, x: Tensor, mask: Tensor | None, layer: int, replace: Replacement) -> Tensor:
    """What `TransformerBlock.forward` does, with replaced weights: (B, N, D) -> (B, N, D)."""
    q, k, v = block.attn.qkv_heads(block.norm1(x))
    own = attention_weights(q, k, mask)
    if mask is not None:
        own = own * mask[:, None, :, None]
    weights = replace(layer, own)
    if weights.shape != own.shape:
        raise ValueError(f"replaced weights must be {tuple(own.shape)}, got {tuple(weights.shape)}")
    if mask is not None:
        weights = weights * mask[:, None, None, :]
    x = x + block.attn.proj(merge_heads(weights.to(v.dtype) @ v))
    return x + block.mlp(block.norm2(x))


def _layer_inputs(
    model: TransformerAutoencoder, images: Tensor, part: str, widths: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """Tokens (B, N, D) as they enter each layer in an undisturbed pass, and the mask (B, N) or None."""
    x, mask = model.layer_input(images, 0, part, widths)
    inputs = []
    for block in _blocks(model, part):
        inputs.append(x)
        x = block(x, mask)
    return inputs, mask


def _on_real_tokens(others: Tensor, weights: Tensor) -> Tensor:
    """Others' weights on the tokens that are real in `weights`: what they place elsewhere goes, rows sum to 1 again."""
    if others.shape[1:] != weights.shape[1:] or len(others) not in (1, len(weights)):
        raise ValueError(
            "other images must be one or as many as those reconstructed, in a batch of the same width, got attention "
            f"{tuple(others.shape)} for {tuple(weights.shape)}"
        )
    real = _real(weights)
    kept = others * (real[..., :, None] & real[..., None, :])
    if bool((real & ~_real(kept)).any()):
        raise ValueError("other images must be at least as wide as those reconstructed")
    return _normalised(kept)


def _real(weights: Tensor) -> Tensor:
    """(B, heads, N), True where a token is no padding: its row holds weight."""
    return weights.sum(dim=-1) > 0


def _normalised(weights: Tensor) -> Tensor:
    """Rows sum to 1; rows of zeros stay."""
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / sums.where(sums > 0, 1)


def _cover(image: Tensor, baseline: float | str | Tensor) -> Tensor:
    """The image (1, 1, H, W) that a baseline stands for."""
    if isinstance(baseline, Tensor):
        if baseline.shape != image.shape:
            raise ValueError(f"baseline must be {tuple(image.shape)} like the image, got {tuple(baseline.shape)}")
        return baseline.to(image)
    if isinstance(baseline, str):
        if baseline != "mean":
            raise ValueError(f"baseline must be a grey, 'mean', or an image, got {baseline!r}")
        return image.mean().expand_as(image)
    return torch.full_like(image, baseline)


def _tiles(values: Tensor, config: ModelConfig) -> Tensor:
    """Values of each pixel (1, 1, H, W) -> those of each patch (N, pixels), 0 beyond the image."""
    rows, columns = config.grid_for(values.shape[3])
    tile_height, tile_width = config.tile_size
    padding = (0, columns * tile_width - values.shape[3], 0, rows * tile_height - values.shape[2])
    return patchify(F.pad(values, padding), config.tile_size)[0]
