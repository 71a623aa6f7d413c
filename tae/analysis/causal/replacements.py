"""Attention weights replaced by others, without retraining: functions from weights to weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tae.analysis.attention import each_layer, normalised
from tae.analysis.causal.prefix import Prefix
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.layers import TransformerBlock, attention_weights, merge_heads

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
    prefix: Prefix | None = None,
) -> Tensor:
    """Reconstruct with attention weights replaced, without retraining.

    Args:
        replace: Gets each chosen layer's own weights, computed from what reaches the layer.
        layers: The layers to replace in; None: all.
        prefix: Prefix of these images and widths: the layers before the first chosen one are then not run again.

    Returns:
        (B, 1, H, W), near [0, 1]; where `replace` returns what it got, `model(images)[0]`.
    """
    blocks = model.blocks(part)
    chosen = range(len(blocks)) if layers is None else layers
    if any(layer not in range(len(blocks)) for layer in chosen):
        raise ValueError(f"layers must be from 0 to {len(blocks) - 1}, got {list(chosen)}")
    first = min(chosen, default=0)
    if prefix is None:
        x, mask = model.layer_input(images, first, part, widths)
    else:
        x, mask = prefix.tokens[part][first], prefix.mask
    for layer, block in enumerate(blocks):
        if layer < first:
            continue
        x = _block_with(block, x, mask, layer, replace) if layer in chosen else block(x, mask)
    return model.finish(x, part, images.shape[-1], widths)


def uniform(layer: int, weights: Tensor) -> Tensor:
    """The replacement by 1/N: every query treats all real keys alike."""
    real = _real(weights)
    return (real[..., :, None] & real[..., None, :]) / real.sum(dim=-1)[..., None, None].to(weights)


def identity(layer: int, weights: Tensor) -> Tensor:
    """The replacement by the identity: every token reads itself only, so that nothing is exchanged."""
    return torch.eye(weights.shape[-1]).to(weights) * _real(weights)[..., None]


def permuted_keys(seed: int = 0) -> Replacement:
    """The replacement by an image's own weights on other keys: each head's keys permuted at random, alike for all queries.

    As sharp as what it replaces, row by row, so that what is lost is lost for the places. The permutation is that of the
    seed, layer and head, the same for all images of one grid.
    """

    def replace(layer: int, weights: Tensor) -> Tensor:
        real = _real(weights)
        drawn = torch.rand(weights.shape[1:3], generator=torch.Generator().manual_seed(seed * 1000 + layer))
        places = (~real).int().argsort(dim=-1, stable=True)  # the real tokens first
        order = drawn.to(weights.device).masked_fill(~real, torch.inf).argsort(dim=-1)
        keys = torch.empty_like(order).scatter_(-1, places, order)
        return weights.gather(-1, keys[:, :, None, :].expand_as(weights))

    return replace


@torch.no_grad()
def from_images(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> Replacement:
    """The replacement by other images' attention, as they have it in an undisturbed pass, head by head.

    The images (B, 1, H, W) are as many as will be reconstructed, or one for all; at least as wide as those.
    """
    # What enters the layers is kept, not the weights: D numbers a token, instead of heads * N.
    layers = list(each_layer(model, images, part, widths))

    def replace(layer: int, weights: Tensor) -> Tensor:
        block, tokens, mask = layers[layer]
        return on_real_tokens(block.head_weights(tokens, mask), weights)

    return replace


@torch.no_grad()
def mean_map(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> Replacement:
    """The replacement by the mean of images' attention, head by head: what stays when nothing depends on the image.

    The widest of the images (B, 1, H, W) is at least as wide as those that will be reconstructed; a query's mean is
    over the images in which it is real.
    """
    layers = each_layer(model, images, part, widths)
    sums = (block.head_weights(tokens, mask).sum(dim=0, keepdim=True) for block, tokens, mask in layers)
    means = [normalised(total) for total in sums]  # (1, heads, N, N)
    return lambda layer, weights: on_real_tokens(means[layer], weights)


def _block_with(block: TransformerBlock, x: Tensor, mask: Tensor | None, layer: int, replace: Replacement) -> Tensor:
    """`TransformerBlock.forward` with replaced weights: (B, N, D) -> (B, N, D)."""
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


def on_real_tokens(others: Tensor, weights: Tensor) -> Tensor:
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
    return normalised(kept)


def _real(weights: Tensor) -> Tensor:
    """(B, heads, N), True where a token is no padding: its row holds weight."""
    return weights.sum(dim=-1) > 0
