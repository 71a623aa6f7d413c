"""What attention maps say, in numbers: maps in, numbers out.

They tell where weight was placed, not what it was good for: `tae.causal` measures that.

Maps are (..., N, N) tensors or numpy arrays of one or many images (and heads): rows = query, columns = key, rows sum
to 1, rows and columns of padding are 0. "x uniform" is a weight times the number of real tokens: 1 where a query treats
all keys alike.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tae.layers import attention_weights
from tae.model import TransformerAutoencoder

UNIFORM_LIMIT = 1.5
"""A map whose largest weight stays under this many times the uniform weight is practically uniform."""
SINK_THRESHOLD = 5.0
"""A key that receives more than this many times the uniform weight, averaged over queries, is a sink."""

Maps = Tensor | np.ndarray


def x_uniform(weights: Maps, num_tokens: int) -> Tensor:
    """Weights of one image in multiples of the uniform weight 1 / num_tokens, its number of real tokens."""
    return _tensor(weights) * num_tokens


def is_practically_uniform(maps: Maps) -> bool:
    """Whether no weight of the maps (..., N, N) reaches 1.5 x uniform; each image counts its own real tokens."""
    maps = _tensor(maps)
    largest = maps.amax(dim=(-2, -1)) * _num_real(maps)
    return float(largest.max()) < UNIFORM_LIMIT


def entropy(maps: Maps) -> Tensor:
    """Entropy of each query's weights in nats, 0 log 0 = 0.

    Returns:
        (..., N), from 0, where one key takes all, to log N, where all keys get the same; 0 for padding.
    """
    return torch.special.entr(_tensor(maps)).sum(dim=-1)


def distance(maps: Maps, grid: tuple[int, int], patch_size: float) -> Tensor:
    """Mean distance in pixels from the middle of a query's patch to those of the keys, weighed by attention.

    Dosovitskiy 2021, "An image is worth 16x16 words", figure 7 (mean attention distance).

    Args:
        maps: (..., N, N).
        grid: (rows, columns) of patches, N = rows * columns.
        patch_size: Side of a patch in pixels.

    Returns:
        (..., N); 0 for padding.

    Raises:
        ValueError: If the grid does not hold N patches.
    """
    maps = _tensor(maps)
    rows, columns = grid
    if rows * columns != maps.shape[-1]:
        raise ValueError(f"grid must hold {maps.shape[-1]} patches, got {rows} x {columns}")
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    places = torch.stack([row.flatten(), column.flatten()], dim=1).to(maps) * patch_size  # (N, 2)
    # The matrix-product form of cdist, the default for many points, is not exact: not even 0 from a point to itself.
    distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.einsum("...qk,qk->...q", maps, distances)


def received(maps: Maps) -> Tensor:
    """What each key gets, as a mean over the real queries, in weight.

    Returns:
        (..., N), sums to 1; 0 for padding. Times the number of real tokens it is in x uniform.
    """
    maps = _tensor(maps)
    return maps.sum(dim=-2) / _num_real(maps)[..., None]


def sinks(attention_map: Maps, threshold: float = SINK_THRESHOLD) -> tuple[Tensor, float]:
    """Keys that draw weight from all queries (Xiao 2024, "Efficient streaming language models with attention sinks").

    Args:
        attention_map: (N, N), one map: each has sinks of its own.
        threshold: In x uniform, of what a key receives as a mean over queries.

    Returns:
        Token numbers (K,), the strongest first, and the share of all weight that they take, in [0, 1].
    """
    attention_map = _tensor(attention_map)
    shares = received(attention_map)
    order = shares.argsort(descending=True)
    tokens = order[x_uniform(shares, int(_num_real(attention_map)))[order] > threshold]
    return tokens, float(shares[tokens].sum())


def head_spread(heads: Maps) -> Tensor:
    """Standard deviation between heads (..., heads, N, N) -> (..., N, N), in weight: 0 where all heads agree."""
    return _tensor(heads).std(dim=-3, correction=0)


def rollout(maps: Sequence[Maps] | Maps, residual: float = 0.5) -> Tensor:
    """Attention rollout: how weights chain through the layers, if the residual stream carries a fixed share.

    Abnar & Zuidema 2020, "Quantifying attention flow in transformers": each layer's map is mixed with the identity,
    its rows are made to sum to 1 again, also where weights were discarded before, and the layers are multiplied,
    last @ ... @ first.

    Args:
        maps: Each layer's map (..., N, N), heads averaged, the first layer first; a list or a stack (L, ..., N, N).
        residual: Share of the residual stream, in [0, 1].

    Returns:
        (..., N, N): row = token after the last layer, column = token before the first. Rows sum to 1; rows and columns
        of padding, tokens without weight in every layer, are 0.

    Raises:
        ValueError: If there is no layer, or the share is out of range.
    """
    layers = [_tensor(layer_map) for layer_map in maps]
    if not layers:
        raise ValueError("maps must hold at least one layer, got none")
    if not 0 <= residual <= 1:
        raise ValueError(f"residual must be from 0 to 1, got {residual}")
    is_real = torch.stack([layer_map.sum(dim=-1) > 0 for layer_map in layers]).any(dim=0)
    identity = torch.eye(layers[0].shape[-1]).to(layers[0])
    chained: Tensor | None = None
    for layer_map in layers:
        mixed = (1 - residual) * layer_map + residual * identity
        sums = mixed.sum(dim=-1, keepdim=True)
        # A row without any weight, and without a residual, stays where it is.
        mixed = torch.where(sums > 0, mixed / sums, identity)
        chained = mixed if chained is None else mixed @ chained
    assert chained is not None
    return chained * is_real[..., None]


def map_correlation(maps: Maps) -> float:
    """Mean Pearson correlation between the maps of two images, over all pairs of a batch (B, N, N) without padding.

    Near 1: the map is a fixed layout, whatever the image. nan where a map is constant (one token).

    Raises:
        ValueError: If there are fewer than two images.
    """
    maps = _tensor(maps)
    count = len(maps)
    if count < 2:
        raise ValueError(f"maps must be of at least 2 images, got {count}")
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    pairs = flat @ flat.T  # (B, B), 1 on the diagonal
    return float((pairs.sum() - pairs.trace()) / (count * (count - 1)))


@torch.no_grad()
def recomputation_error(
    model: TransformerAutoencoder, images: Tensor, layer: int, part: str = "encoder", widths: Tensor | None = None
) -> float:
    """How far recomputed weights @ V are from the output of fused attention in one layer, before its projection.

    Fused attention has no weights; maps recompute them from the same queries and keys. This is the check that they are
    the weights which made the output. One head's weights are held at a time.

    Args:
        model: The autoencoder.
        images: (B, 1, H, W) in [0, 1].
        layer: 0 is the first.
        part: "encoder" or "decoder".
        widths: (B,) or None.

    Returns:
        The largest absolute difference, in the units of V; rounding where all is well.

    Raises:
        ValueError: If an argument does not fit.
    """
    tokens, mask = model.layer_input(images, layer, part, widths)
    block = (model.encoder if part == "encoder" else model.decoder).blocks[layer]
    q, k, v = block.attn.qkv_heads(block.norm1(tokens))
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])
    worst = 0.0
    for head in range(q.shape[1]):
        recomputed = attention_weights(q[:, head], k[:, head], mask).to(v.dtype) @ v[:, head]
        worst = max(worst, float((recomputed - fused[:, head]).abs().max()))
    return worst


def _tensor(maps: Maps) -> Tensor:
    # torch.tensor copies: a read-only array, as the app's caches hand out, must not become a tensor one can write to.
    return maps if isinstance(maps, Tensor) else torch.tensor(maps)


def _num_real(maps: Tensor) -> Tensor:
    """(...,) tokens that are no padding: their rows hold weight."""
    return (maps.sum(dim=-1) > 0).sum(dim=-1)
