"""The parts of the network: patches, positions, attention, the transformer block, the way back to pixels.

Axes: B batch, H, W pixels, h, w patch grid, N = h * w tokens in row order, D embedding; heads are written out.
Masks are True where a token is real and False where it is padding.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tae.model.config import ModelConfig

ROWS_AT_ONCE = 512
"""Query rows whose weights are held at once; full softmax below, blocks above (measured fastest on CPUs)."""
TOKENS_OF_ALL_HEADS = 256
"""Tokens up to which the weights of all heads are held at once (measured fastest on CPUs)."""


def patchify(images: Tensor, tile_size: tuple[int, int]) -> Tensor:
    """Cut images into flat patches, row by row: (B, 1, H, W) -> (B, N, height * width), N in row order.

    `tile_size` is (height, width) of a patch in pixels. Raises ValueError if it does not divide H and W: images are padded
    before.
    """
    batch, channels, height, width = images.shape
    tile_height, tile_width = tile_size
    if channels != 1 or height % tile_height or width % tile_width:
        raise ValueError(
            f"images must be (B, 1, H, W) with H, W multiples of {tile_height}, {tile_width}, got {tuple(images.shape)}"
        )
    rows, columns = height // tile_height, width // tile_width
    tiles = images.reshape(batch, rows, tile_height, columns, tile_width)
    return tiles.transpose(2, 3).reshape(batch, rows * columns, tile_height * tile_width)


def unpatchify(
    tiles: Tensor, grid: tuple[int, int], tile_size: tuple[int, int], overlap: int = 0, mask: Tensor | None = None
) -> Tensor:
    """Lay tiles back on the image; where they overlap they blend smoothly, so that no seam shows.

    Tiles (B, N, (height + 2 overlap) * (width + 2 overlap)) on a grid of (rows, columns), for patches of `tile_size` (height,
    width) in pixels, become (B, 1, rows * height, columns * width). Each tile covers its patch and `overlap` pixels, at most
    half a patch, more on every side. Within that band a tile's weight runs from 0 to 1 as sin^2, its neighbour's from 1 to 0.
    With overlap 0 this is the inverse of `patchify`. What a padding tile says, False in `mask` (B, N), is left out of the blend.
    """
    (rows, columns), (tile_height, tile_width) = grid, tile_size
    if overlap == 0:
        batch = tiles.shape[0]
        images = tiles.reshape(batch, rows, columns, tile_height, tile_width).transpose(2, 3)
        return images.reshape(batch, 1, rows * tile_height, columns * tile_width)
    kernel = (tile_height + 2 * overlap, tile_width + 2 * overlap)
    canvas = (rows * tile_height + 2 * overlap, columns * tile_width + 2 * overlap)
    tiles = tiles.float() if tiles.dtype in (torch.bfloat16, torch.float16) else tiles
    window = blend_window(tile_height, overlap, tiles)[:, None] * blend_window(tile_width, overlap, tiles)
    weight = window.reshape(1, 1, -1).expand(1, rows * columns, -1)
    if mask is not None:
        weight = weight * mask[..., None]

    def lay(values: Tensor) -> Tensor:
        return F.fold(values.transpose(1, 2), canvas, kernel, stride=(tile_height, tile_width))

    # Where every weight is 0 (padding), the image is 0 as well; the tiny floor only keeps 0 / 0 away.
    images = lay(tiles * weight) / lay(weight).clamp_min(1e-6)
    return images[..., overlap : canvas[0] - overlap, overlap : canvas[1] - overlap]


def blend_window(side: int, overlap: int, like: Tensor) -> Tensor:
    """(side + 2 overlap,) weights of a tile along one axis; with its neighbours' they sum to 1 everywhere."""
    ramp = (torch.arange(2 * overlap, device=like.device, dtype=like.dtype) + 0.5) / (2 * overlap)
    ramp = torch.sin(ramp * (math.pi / 2)) ** 2
    return torch.cat([ramp, ramp.new_ones(side - 2 * overlap), ramp.flip(0)])


def sinusoids_2d(rows: int, columns: int, dim: int, base: float = 100.0) -> Tensor:
    """Two-dimensional sinusoids (rows, columns, dim): half of the numbers tell the row, half the column.

    Vaswani 2017 in each direction, `sin` and `cos` of position / base^(i / n) in turn for i < n = dim / 4. The
    base is 100 instead of 10,000 because patch grids are small.
    """
    count = dim // 4
    frequencies = base ** -(torch.arange(count) / count)

    def waves(length: int) -> Tensor:
        angles = torch.arange(length)[:, None] * frequencies  # (length, count)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (length, dim / 2)

    by_row = waves(rows)[:, None].expand(rows, columns, -1)
    by_column = waves(columns)[None].expand(rows, columns, -1)
    return torch.cat([by_row, by_column], dim=-1)


class PatchEmbed(nn.Module):
    """Patches to tokens: the diagram's linear projection, applied to each patch."""

    def __init__(self, tile_size: tuple[int, int], latent_dim: int) -> None:
        super().__init__()
        self.tile_size = tile_size
        self.proj = nn.Linear(tile_size[0] * tile_size[1], latent_dim)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W), padded -> (B, N, D)."""
        return self.proj(patchify(images, self.tile_size))


class PositionalEncoding(nn.Module):
    """Learnable positions of the patch grid, initialised with two-dimensional sinusoids."""

    def __init__(self, grid: tuple[int, int], latent_dim: int) -> None:
        super().__init__()
        weight = torch.empty(*grid, latent_dim)
        # A model on the meta device has shapes only; arithmetic there would import PyTorch's compiler, which takes seconds.
        self.weight = nn.Parameter(weight if weight.is_meta else sinusoids_2d(*grid, latent_dim))

    def forward(self, columns: int) -> Tensor:
        """(N, D) for a grid cut to its first `columns` columns: positions are absolute, never stretched."""
        return self.weight[:, :columns].flatten(0, 1)


class LowRankStart(nn.Module):
    """The latent's share at each position, through a bottleneck of rank r: U(V_i y).

    Lets the decoder start from a coarse image instead of the same token everywhere, which doubles the speed of
    learning without touching the encoder's attention.
    """

    def __init__(self, grid: tuple[int, int], latent_dim: int, rank: int) -> None:
        super().__init__()
        down = torch.empty(*grid, rank, latent_dim)
        self.down = nn.Parameter(down if down.is_meta else down.normal_() / math.sqrt(latent_dim))
        self.up = nn.Linear(rank, latent_dim, bias=False)

    def forward(self, expanded: Tensor, columns: int) -> Tensor:
        """(B, D) -> (B, N, D)."""
        down = self.down[:, :columns].flatten(0, 1)  # (N, rank, D)
        coarse = F.linear(expanded, down.flatten(0, 1)).unflatten(1, down.shape[:2])  # (B, N, rank)
        return self.up(coarse)


class Attention(nn.Module):
    """Multi-head self-attention with one fused qkv projection.

    `forward` never makes the weights when attention is fused; `forward_with_map` and `head_weights` do.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, use_flash_attention: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_flash_attention = use_flash_attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self._init_mimetic(dim)

    @torch.no_grad()
    def _init_mimetic(self, dim: int) -> None:
        """Start as trained transformers end: keys near queries, output near minus the values' inverse.

        In the spirit of Trockman & Kolter 2023, "Mimetic initialization of self-attention layers". The gain sets how
        sharply a token starts by looking at those like it: with 1.2 its own score is about 0.7 * 1.44 * sqrt(head_dim)
        above the others', enough that content decides where to look before the fixed layout of positions does.
        """
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)
        query, key, value = self.qkv.weight.chunk(3)
        if value.is_meta:  # a model on the meta device has shapes only
            return
        for weight, gain in ((query, 1.2), (key, 1.2), (value, 1.0)):
            nn.init.orthogonal_(weight, gain)
        key.add_(query).mul_(math.sqrt(0.5))
        self.proj.weight.copy_(-0.5 * value.T)

    def qkv_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> q, k, v, each (B, heads, N, head_dim)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D); `mask` (B, N) keeps every query away from padding keys."""
        q, k, v = self.qkv_heads(x)
        dtype, dropout = v.dtype, self.dropout if self.training else 0.0
        if self.use_flash_attention:
            key_mask = None if mask is None else mask[:, None, None, :]
            if q.requires_grad and q.dtype in (torch.bfloat16, torch.float16) and q.device.type == "cpu":
                # The CPU's fused backward takes 2.7 times as long in bf16 as in float32 (benchmarks/attention_maps.py).
                q, k, v = q.float(), k.float(), v.float()
            with torch.autocast("cpu", enabled=False):
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask, dropout_p=dropout).to(dtype)
        else:
            weights = attention_weights(q, k, mask)
            y = F.dropout(weights, dropout).to(dtype) @ v
        return self.proj(merge_heads(y))

    def forward_with_map(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same output (B, N, D), without dropout, and the map (B, N, N) that made it.

        The map is the mean over heads, a running sum; padding has 0 in it. What is held at a time stays in a processor's
        caches: all heads of one image where tokens are few, else a block of rows of one head. Elsewhere: of all images.
        """
        q, k, v = self.qkv_heads(x)
        batch, num_tokens = x.shape[:2]
        on_cpu, all_at_once = x.device.type == "cpu", num_tokens <= TOKENS_OF_ALL_HEADS
        dtype = torch.promote_types(q.dtype, torch.float32)
        total = (q.new_empty if all_at_once else q.new_zeros)(batch, num_tokens, num_tokens, dtype=dtype)
        y = v.new_empty(batch, num_tokens, self.num_heads, v.shape[-1])
        scratch = None
        if on_cpu and q.dtype == dtype and not q.requires_grad:  # taken again for each block: new memory costs a tenth
            shape = (self.num_heads, num_tokens) if all_at_once else (min(num_tokens, ROWS_AT_ONCE),)
            scratch = q.new_empty(*shape, num_tokens)
        everything = slice(None)
        # Numbers in place of slices of one: a product of matrices is faster than of a batch of one.
        for image in range(batch) if on_cpu else [everything]:
            own_mask = None if mask is None else mask[image].reshape(-1, num_tokens)
            for rows in _row_blocks(num_tokens):
                out = None if scratch is None else scratch[..., : rows.stop - rows.start, :]
                for head in [everything] if all_at_once else range(self.num_heads):
                    weights = attention_weights(q[image, head, rows], k[image, head], own_mask, out)
                    if not all_at_once:
                        total[image, rows] += weights
                    elif out is None:
                        total[image, rows] = weights.sum(dim=-3)
                    else:
                        torch.sum(weights, dim=-3, out=total[image, rows])
                    moved = weights.to(v.dtype) @ v[image, head]
                    y[image, rows, head] = moved.transpose(-3, -2) if all_at_once else moved
                    del weights  # else it would be held while the next ones are made
        total = total.div_(self.num_heads)
        if mask is not None:
            total = total.mul_(mask[:, :, None])
        return self.proj(y.flatten(2)), total

    def head_weights(self, x: Tensor, mask: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        """Weights (B, heads, Q, N) of every head, for all queries or only for some; rows of padding are 0.

        x (B, N, D) comes from the block's first norm; mask (B, N), True = real; queries are token numbers (Q,), None: all N.
        """
        q, k, _ = self.qkv_heads(x)
        real = mask
        if queries is not None:
            q = q[:, :, queries]
            real = None if mask is None else mask[:, queries]
        weights = attention_weights(q, k, mask)
        return weights if real is None else weights * real[:, None, :, None]


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)), in float32 at least; rows sum to 1.

    q (B, ..., Q, head_dim) and k (B, ..., N, head_dim) -> (B, ..., Q, N); keys that are padding in `mask` (B, N) get weight 0.
    Of one or two axes before the last, and without a gradient, they may be written into `out`, of q's precision.
    """
    dtype, scale = torch.promote_types(q.dtype, torch.float32), q.shape[-1] ** -0.5
    if out is None:
        scores = ((q * scale) @ k.mT).to(dtype)
    else:
        product = torch.addmm if q.ndim == 2 else torch.baddbmm
        scores = product(out, q, k.mT, beta=0, alpha=scale, out=out)
    if mask is not None:
        shape = (mask.shape[0],) + (1,) * (scores.ndim - 2) + (mask.shape[1],)
        scores = scores.masked_fill_(~mask.view(shape), -torch.inf)
    # In place where no gradient needs the scores: half the memory, the same bits.
    return scores.softmax(dim=-1) if scores.requires_grad else torch.softmax(scores, dim=-1, out=scores)


def merge_heads(y: Tensor) -> Tensor:
    """(B, heads, N, head_dim) -> (B, N, heads * head_dim)."""
    return y.transpose(1, 2).flatten(2)


def _row_blocks(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, num_rows))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.latent_dim
        hidden = int(dim * config.mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, config.norm_eps)
        self.attn = Attention(dim, config.num_heads, config.dropout, config.use_flash_attention)
        self.norm2 = nn.LayerNorm(dim, config.norm_eps)
        widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.mlp = nn.Sequential(widen, nn.GELU(), narrow)
        self.drop = nn.Dropout(config.dropout)
        for linear in (widen, narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.drop(self.attn(self.norm1(x), mask))
        return x + self.drop(self.mlp(self.norm2(x)))

    def forward_with_map(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> (B, N, D) and the attention map (B, N, N)."""
        y, attention_map = self.attn.forward_with_map(self.norm1(x), mask)
        x = x + self.drop(y)
        return x + self.drop(self.mlp(self.norm2(x))), attention_map

    def head_weights(self, x: Tensor, mask: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        """Weights of every head for this block's input; see `Attention.head_weights`."""
        return self.attn.head_weights(self.norm1(x), mask, queries)
