"""Attention maps in numbers: maps in, numbers out.

They tell where weight was placed, not what it was good for: `tae.causal` measures that.

Maps are (..., N, N) tensors or numpy arrays of one or many images (and heads): rows = query, columns = key, rows sum to
1, rows and columns of padding are 0. "x uniform" is a weight times the number of real tokens: 1 where a query treats
all keys alike.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tae.analysis.facts import SINK_SHARE, SINK_THRESHOLD, UNIFORM_LIMIT
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.layers import ROWS_AT_ONCE, TransformerBlock, attention_weights

FUSIONS = ("mean", "max", "min")
"""How the heads of a layer become one map: their mean, or for each pair of patches the largest or smallest weight.

Rows of "max" and "min" are made to sum to 1 again, for display as for rollout: "x uniform" keeps its meaning, and what
is seen is what is chained.
"""
WEIGHTINGS = ("weights", "values")
"""Attention weights as they are, or each times the length of the value vector that it moves: a large weight on a short
vector moves little.

Kobayashi 2020, "Attention is not only a weight: analyzing transformers with vector norms": ||alpha f(x)||, head by
head, with f(x) = (x W_V + b_V) W_O without the output's bias, which belongs to no token. Each row is made to sum to 1,
so that "x uniform" keeps its meaning: shares of the total length that a query reads, not lengths.
"""

Maps = Tensor | np.ndarray


def is_practically_uniform(maps: Maps) -> bool:
    """Whether no weight of the maps (..., N, N) reaches 1.5 x uniform; each image counts its own real tokens."""
    maps = _tensor(maps)
    largest = maps.amax(dim=(-2, -1)) * _num_real(maps)
    return float(largest.max()) < UNIFORM_LIMIT


def entropy(maps: Maps) -> Tensor:
    """Entropy (..., N) of each query's weights in nats, from 0, where one key takes all, to log N; 0 for padding."""
    return torch.special.entr(_tensor(maps)).sum(dim=-1)


def distance(maps: Maps, grid: tuple[int, int], patch_size: float) -> Tensor:
    """Mean distance (..., N) in pixels from a query's patch to the keys', weighed by attention; 0 for padding.

    Dosovitskiy 2021, "An image is worth 16x16 words", figure 7. The grid is (rows, columns) of the N patches.
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
    """The weight (..., N) that each key gets, as a mean over the real queries; sums to 1, and is 0 for padding."""
    maps = _tensor(maps)
    return maps.sum(dim=-2) / _num_real(maps)[..., None]


def sinks(attention_map: Maps, threshold: float = SINK_THRESHOLD, share: float = SINK_SHARE) -> tuple[Tensor, float]:
    """Keys that nearly all queries feed (Xiao 2024, "Efficient streaming language models with attention sinks").

    At least `share` of the real queries of one map (N, N) give each of them more than `threshold` x uniform: a few queries
    that give much make no sink (as Gu 2025, "When attention sink emerges", counts them, query by query). Returns their token
    numbers (K,), the strongest first, and the part of all weight that they take, in [0, 1].
    """
    attention_map = _tensor(attention_map)
    num_real = int(_num_real(attention_map))
    feeds = (attention_map * num_real > threshold).sum(dim=-2)
    shares = received(attention_map)
    order = shares.argsort(descending=True)
    tokens = order[(feeds >= share * num_real)[order] & (num_real > 0)]
    return tokens, float(shares[tokens].sum())


def discard_smallest(maps: Maps, discard: float) -> tuple[Tensor, Tensor]:
    """Drop a share of the smallest weights of each row of maps (..., N, N) and make it sum to 1 again.

    The discard ratio of the published rollouts for images (Gildenblat 2020, "Exploring explainability for vision
    transformers") drops a share of the whole map, which can empty the row of a query that spreads its weight. Here it
    is a share of each row's real keys, in [0, 1), rounded down; at least one stays. Equal weights share one fate: those
    as large as the smallest kept weight stay, so that no order of patches decides, and a uniform map stays as it is.

    Returns what is left, and the share of each row's weight that was dropped (..., N), 0 for padding.
    """
    maps = _tensor(maps)
    if not 0 <= discard < 1:
        raise ValueError(f"discard must be from 0 to less than 1, got {discard}")
    num_tokens = maps.shape[-1]
    flat = maps.reshape(-1, num_tokens, num_tokens)
    smallest_kept = []
    for one, num_real in zip(flat, _num_real(flat).tolist(), strict=True):
        dropped = min(math.floor(discard * num_real + 1e-9), num_real - 1)  # 0.29 * 100 is 28.999...
        rank = num_tokens - num_real + dropped + 1  # the zeros of padding come first
        smallest_kept.append(one.kthvalue(rank, dim=-1, keepdim=True).values if num_real else one[:, :1])
    kept = maps * (maps >= torch.stack(smallest_kept).reshape(*maps.shape[:-1], 1))
    before, after = maps.sum(dim=-1), kept.sum(dim=-1)
    hidden = ((before - after) / before.where(before > 0, 1)).clamp_min(0)
    return normalised(kept), hidden


def rollout(maps: Iterable[Maps] | Maps) -> Tensor:
    """Attention rollout: how weights chain through the layers, if half of the flow passes through the residual stream.

    Abnar & Zuidema 2020, "Quantifying attention flow in transformers": each layer's map is mixed with the identity, its
    rows are made to sum to 1 again, also where weights were discarded before (`discard_smallest`), and the layers are
    multiplied, last @ ... @ first.

    Args:
        maps: Each layer's map (..., N, N), heads fused, the first layer first; of an iterator one is held at a time.

    Returns:
        (..., N, N): row = token after the last layer, column = token before the first. Rows sum to 1; rows and columns
        of padding, tokens without weight in every layer, are 0.
    """
    chained: Tensor | None = None
    is_real: Tensor | None = None
    for layer_map in maps:
        layer_map = _tensor(layer_map)
        holds_weight = layer_map.sum(dim=-1) > 0
        is_real = holds_weight if is_real is None else is_real | holds_weight
        mixed = (layer_map + torch.eye(layer_map.shape[-1]).to(layer_map)) / 2
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        chained = mixed if chained is None else mixed @ chained
    if chained is None or is_real is None:
        raise ValueError("maps must hold at least one layer, got none")
    return chained * is_real[..., None]


@torch.no_grad()
def each_layer(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> Iterator[tuple[TransformerBlock, Tensor, Tensor | None]]:
    """One layer after another: the block, the tokens (B, N, D) that enter it, and the mask (B, N) or None."""
    tokens, mask = model.layer_input(images, 0, part, widths)
    for block in model.blocks(part):
        yield block, tokens, mask
        tokens = block(tokens, mask)


@torch.no_grad()
def each_head(
    block: TransformerBlock,
    tokens: Tensor,
    mask: Tensor | None = None,
    weighting: str = "weights",
    heads: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """A layer's maps (B, N, N), one head after another; rows sum to 1, rows and columns of padding are 0.

    `tokens` (B, N, D) are those that enter the layer, `mask` (B, N) is True where they are real, `weighting` is one of
    `WEIGHTINGS`, `heads` None is all. One map is held at a time.
    """
    q, k, _ = block.attn.qkv_heads(block.norm1(tokens))
    lengths = _value_factors(block, tokens).norm(dim=-2) if weighting == "values" else None  # (B, N, heads)
    for head in range(block.attn.num_heads) if heads is None else heads:
        weights = attention_weights(q[:, head], k[:, head], mask)
        if mask is not None:
            weights = weights.mul_(mask[:, :, None])
        yield weights if lengths is None else normalised(weights.mul_(lengths[:, None, :, head]))


@torch.no_grad()
def key_norms(
    model: TransformerAutoencoder,
    image: Tensor,
    part: str = "encoder",
    layer: int | None = None,
    head: int | None = None,
) -> tuple[Tensor, Tensor]:
    """How long each token's value vector is, and the token itself, as multiples of the median token's: (N,) each.

    What a sink holds back: weight on a key whose value is short moves little (Kobayashi 2020, Gu 2025). Of one image
    (1, 1, H, W) without padding; means over heads and layers where none is named.
    """
    values, lengths = [], []
    for number, (block, tokens, _) in enumerate(each_layer(model, image, part)):
        if layer is None or layer == number:
            norms = _value_factors(block, tokens)[0].norm(dim=-2)  # (N, heads)
            values.append(norms.mean(dim=1) if head is None else norms[:, head])
            lengths.append(tokens[0].norm(dim=-1))
    value, length = torch.stack(values).mean(dim=0), torch.stack(lengths).mean(dim=0)
    return value / value.median(), length / length.median()


@torch.no_grad()
def value_weighted_sum(block: TransformerBlock, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """All heads together, weighted by values: the length of the sum of what they move, ||sum_h alpha_h f_h(x)||.

    Kobayashi 2020, section 4. Heads that move a token in opposite directions cancel here, as they do in the network; a
    mean over heads would not show it. Arguments as for `each_head`; (B, N, N), rows made to sum to 1, padding is 0.
    """
    q, k, _ = block.attn.qkv_heads(block.norm1(tokens))
    factors = _value_factors(block, tokens)  # (B, N, R, heads)
    num_tokens = tokens.shape[1]
    total = factors.new_zeros(len(tokens), num_tokens, num_tokens)
    rows_at_once = max(1, 2 * ROWS_AT_ONCE // block.attn.num_heads)
    for start in range(0, num_tokens, rows_at_once):
        rows = slice(start, start + rows_at_once)
        weights = attention_weights(q[:, :, rows], k, mask).permute(0, 3, 1, 2)  # (B, N, heads, rows)
        moved = factors @ weights.to(factors.dtype)  # (B, N, R, rows): key by key, all heads together
        total[:, rows] = moved.square_().sum(dim=2).mT
    total = total.sqrt_()
    return normalised(total if mask is None else total.mul_(mask[:, :, None]))


@torch.no_grad()
def recomputation_errors(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> list[float]:
    """How far recomputed weights @ V are from the output of fused attention, before its projection, layer by layer.

    Fused attention has no weights; maps recompute them from the same queries and keys. This is the check that they are
    the weights which made the output: each layer's largest absolute difference, in the units of V, is rounding where
    all is well. One head's weights are held at a time.
    """
    found = []
    for block, tokens, mask in each_layer(model, images, part, widths):
        q, k, v = block.attn.qkv_heads(block.norm1(tokens))
        fused = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])
        heads = range(block.attn.num_heads)
        again = (attention_weights(q[:, head], k[:, head], mask).to(v.dtype) @ v[:, head] for head in heads)
        found.append(max(float((one - fused[:, head]).abs().max()) for head, one in enumerate(again)))
    return found


def normalised(maps: Maps) -> Tensor:
    """Maps (..., N, N) whose rows sum to 1; rows of zeros stay."""
    maps = _tensor(maps)
    sums = maps.sum(dim=-1, keepdim=True)
    return maps / sums.where(sums > 0, 1)


def _value_factors(block: TransformerBlock, tokens: Tensor) -> Tensor:
    """R (B, N, R, heads) of each token with ||R a|| = ||sum_h a_h f_h(x)|| for all a (heads,).

    The QR decomposition of the heads' vectors f_h(x) (D, heads), whose Q turns without changing a length: a few numbers
    for each token instead of D for each head, and no difference of squares that would lose digits.
    """
    _, _, v = block.attn.qkv_heads(block.norm1(tokens))  # (B, heads, N, head_dim)
    weight = block.attn.proj.weight.unflatten(1, (block.attn.num_heads, -1))  # (D, heads, head_dim)
    dtype = torch.promote_types(v.dtype, torch.float32)
    v, weight = v.to(dtype), weight.to(dtype)
    chunks = []
    for start in range(0, tokens.shape[1], ROWS_AT_ONCE):
        vectors = torch.einsum("bhne,dhe->bndh", v[:, :, start : start + ROWS_AT_ONCE], weight)
        chunks.append(torch.linalg.qr(vectors, mode="r").R)
    return torch.cat(chunks, dim=1)


def _tensor(maps: Maps) -> Tensor:
    # torch.tensor copies: a read-only array, as the app's caches hand out, must not become a tensor one can write to.
    return maps if isinstance(maps, Tensor) else torch.tensor(maps)


def _num_real(maps: Tensor) -> Tensor:
    """(...,) tokens that are no padding: their rows hold weight."""
    return (maps.sum(dim=-1) > 0).sum(dim=-1)
