"""What attention maps say, in numbers: maps in, numbers out; none of them says what a weight was good for.

Maps are (B, N, N) tensors or arrays turned into tensors, rows = query, columns = key, rows sum to 1; rows and columns of
padding are 0. "x uniform" is a weight times the number of real tokens: 1 where all are treated alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tae.layers import attention_weights
from tae.model import TransformerAutoencoder

UNIFORM_LIMIT = 1.5
"""A map whose largest weight stays under this many times the uniform weight is practically uniform."""
SINK_LIMIT = 5.0
"""A key that receives more than this many times the uniform weight, averaged over queries, is a sink."""


def x_uniform(maps: Tensor) -> Tensor:
    """Weights (B, N, N) in multiples of the uniform weight: times the number of real tokens of each image."""
    return maps * _num_real(maps)[:, None, None]


def is_practically_uniform(attention_map: Tensor) -> bool:
    """Whether no weight of one map (N, N) reaches 1.5 x uniform."""
    return float(x_uniform(attention_map[None]).max()) < UNIFORM_LIMIT


def entropy(maps: Tensor) -> Tensor:
    """Entropy of each query's weights, in nats: 0 where one key takes all, log N where all get the same.

    Returns:
        (B, N); 0 for padding.
    """
    return torch.special.entr(maps).sum(dim=-1)


def distance(maps: Tensor, grid: tuple[int, int], patch_size: float) -> Tensor:
    """Mean distance in pixels between a query's patch and the patches that it places weight on.

    Dosovitskiy 2021 (An image is worth 16x16 words), figure 7.

    Args:
        maps: (B, N, N).
        grid: (rows, columns) of patches, N = rows * columns.
        patch_size: Side of a patch in pixels.

    Returns:
        (B, N); 0 for padding.
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).to(maps) * patch_size
    return (maps * torch.cdist(places, places)).sum(dim=-1)


def received(maps: Tensor) -> Tensor:
    """What each key gets, as a mean over real queries: (B, N), sums to 1."""
    return maps.sum(dim=1) / _num_real(maps)[:, None]


def sinks(attention_map: Tensor, limit: float = SINK_LIMIT) -> tuple[Tensor, float]:
    """Keys of one map (N, N) that draw weight from all queries (Xiao 2024, "attention sinks").

    Returns:
        Token numbers, the strongest first, and the share of all weight that they take, in [0, 1].
    """
    shares = received(attention_map[None])[0]
    found = (shares * _num_real(attention_map[None])[0] > limit).nonzero().flatten()
    found = found[shares[found].argsort(descending=True)]
    return found, float(shares[found].sum())


def head_spread(heads: Tensor) -> Tensor:
    """Standard deviation between heads: (..., heads, N, N) -> (..., N, N), in weight."""
    return heads.std(dim=-3, correction=0)


@dataclass(frozen=True)
class MapSummary:
    """One map in four numbers.

    Attributes:
        largest: Its largest weight, in x uniform.
        entropy_share: Mean entropy of its queries over log N, in [0, 1]; 1: all weight is spread evenly.
        distance: Mean attention distance in pixels.
        on_itself: Mean weight of a patch on itself, in x uniform.
    """

    largest: float
    entropy_share: float
    distance: float
    on_itself: float


def summarise(attention_map: Tensor, grid: tuple[int, int], patch_size: float) -> MapSummary:
    """Summary of one map (N, N) without padding, N >= 2."""
    num_tokens = len(attention_map)
    one = attention_map[None]
    return MapSummary(
        largest=float(x_uniform(one).max()),
        entropy_share=float(entropy(one).mean()) / math.log(num_tokens),
        distance=float(distance(one, grid, patch_size).mean()),
        on_itself=float(attention_map.diagonal().mean()) * num_tokens,
    )


def rollout(maps: Sequence[Tensor], residual: float = 0.5) -> Tensor:
    """Attention rollout: how weights chain through the layers, if the residual stream carried half of the flow.

    Abnar & Zuidema 2020: each layer's map is mixed with the identity, rows sum to 1 again, and the layers are multiplied,
    the last one leftmost.

    Args:
        maps: Each layer's (B, N, N), the first layer first.
        residual: Share of the residual stream, in [0, 1].

    Returns:
        (B, N, N), rows sum to 1; rows of padding are 0.
    """
    chained: Tensor | None = None
    for layer_map in maps:
        real = (layer_map.sum(dim=-1) > 0).to(layer_map)
        mixed = (1 - residual) * layer_map + residual * torch.diag_embed(real)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        chained = mixed if chained is None else mixed @ chained
    if chained is None:
        raise ValueError("maps must hold at least one layer, got none")
    return chained


def map_correlation(maps: Tensor) -> float:
    """Mean Pearson correlation between the maps of two images, over all pairs of a batch (B, N, N), B >= 2.

    Near 1: the map is a fixed layout that does not depend on the image.
    """
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    pairs = flat @ flat.T
    count = len(maps)
    return float((pairs.sum() - pairs.trace()) / (count * (count - 1)))


@torch.no_grad()
def recomputation_error(
    model: TransformerAutoencoder, images: Tensor, layer: int, part: str = "encoder", widths: Tensor | None = None
) -> float:
    """How far recomputed weights @ V are from what fused attention really computed, at their worst.

    Args:
        model: The autoencoder; nothing about it is changed.
        images: (B, 1, H, W) in [0, 1].
        layer: 0 is the first.
        part: "encoder" or "decoder".
        widths: (B,) or None.

    Returns:
        The largest absolute difference; float32 rounding where all is well.
    """
    tokens, mask = model.layer_input(images, layer, part, widths)
    block = (model.encoder if part == "encoder" else model.decoder).blocks[layer]
    q, k, v = block.attn.qkv_heads(block.norm1(tokens))
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])
    worst = 0.0
    for head in range(q.shape[1]):  # one head's weights at a time
        own = attention_weights(q[:, head], k[:, head], mask) @ v[:, head]
        worst = max(worst, float((own - fused[:, head]).abs().max()))
    return worst


def _num_real(maps: Tensor) -> Tensor:
    """(B,) tokens that are not padding: their rows hold weight."""
    return (maps.sum(dim=-1) > 0).sum(dim=-1).clamp_min(1)
