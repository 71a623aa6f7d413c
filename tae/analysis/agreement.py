"""How alike two attention maps are: correlation, Jensen-Shannon distance, shared strongest keys, signed difference.

Two maps can agree and both say nothing: how alike they are is no measure of how good they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.attention import Maps
from tae.analysis.numbers import percent
from tae.model.layers import ROWS_AT_ONCE

TOP_KEYS = 10
ROUNDING = 1e-5
"""A map whose weights differ by less than this, in x uniform, is constant: the rest is rounding of float32."""


@dataclass(frozen=True)
class Agreement:
    """Two maps of the same patches, compared."""

    correlation: float  # Pearson's, over all pairs of query and key; nan where a map is constant
    constant: tuple[bool, bool]  # which of the two maps have the same weight everywhere
    distance: np.ndarray
    """(N,) Jensen-Shannon distance of each query's weights, from 0, the same, to 1, no key in common; nan for
    padding, and where a query holds no weight."""
    overlap: np.ndarray
    """(N,) share of each query's `top_keys` strongest keys that both maps have; nan where keys tie for the last
    place."""
    top_keys: int  # how many strongest keys `overlap` counts
    difference: np.ndarray  # (N, N) float32, first minus second, in x uniform; 0 for padding
    num_tokens: int  # without padding

    @property
    def mean_distance(self) -> float:
        """The mean over the queries that have one; nan if none does."""
        return _mean(self.distance)

    @property
    def mean_overlap(self) -> float:
        """The mean over the queries that have one; nan if none does."""
        return _mean(self.overlap)

    @property
    def chance_overlap(self) -> float:
        """The `mean_overlap` to expect of keys drawn at random."""
        return self.top_keys / self.num_tokens

    def sentence(self, first: str = "the first map", second: str = "the second map") -> str:
        """The agreement in words, with the numbers; `first` and `second` are names for the maps."""
        if any(self.constant):
            names = " and in ".join(name for name, flat in zip((first, second), self.constant, strict=True) if flat)
            parts = [f"correlation undefined, the same weight everywhere in {names}"]
        else:
            parts = [f"correlation {self.correlation:.2f}"]
        if np.isnan(self.mean_distance):
            parts.append("Jensen-Shannon distance undefined: no query places weight in both maps")
        else:
            query = int(np.nanargmax(self.distance))
            parts.append(
                f"Jensen-Shannon distance {self.mean_distance:.2f} (largest {self.distance[query]:.2f}, query patch {query})"
            )
        if np.isnan(self.mean_overlap):
            parts.append(f"top-{self.top_keys} overlap cannot be told: weights tie")
        else:
            parts.append(
                f"top-{self.top_keys} overlap {percent(self.mean_overlap)} (chance {percent(self.chance_overlap)})"
            )
        said = "; ".join(parts)
        return f"{said[0].upper()}{said[1:]}."


def compare(first: Maps, second: Maps, top_keys: int = TOP_KEYS) -> Agreement:
    """Compare two maps (N, N) of the same number of patches; rows and columns of padding are 0.

    The Jensen-Shannon distance (Endres & Schindelin 2003) is the square root of the Jensen-Shannon divergence to base
    2. Rows are made to sum to 1 for it, so that it is defined for the spread between heads as well. `top_keys`
    strongest keys of each query are compared, fewer where there are fewer patches.
    """
    a, b = (one.numpy(force=True) if isinstance(one, Tensor) else one for one in (first, second))
    for name, one in (("first", a), ("second", b)):
        if one.ndim != 2 or one.shape[0] != one.shape[1]:
            raise ValueError(f"{name} map must be (N, N), got {one.shape}")
    if top_keys < 1:
        raise ValueError(f"top_keys must be at least 1, got {top_keys}")
    real = _real(a)
    if len(a) != len(b) or not np.array_equal(real, _real(b)):
        raise ValueError(
            f"maps must be of the same number of patches to be compared pair by pair, got {int(real.sum())} and "
            f"{int(_real(b).sum())}; choose two images of the same size, or look at them side by side"
        )
    if not real.all():
        a, b = a[np.ix_(real, real)], b[np.ix_(real, real)]
    num_tokens = len(a)
    top_keys = min(top_keys, num_tokens)
    distance, overlap = np.full(len(real), np.nan), np.full(len(real), np.nan)
    difference = np.zeros((len(real), len(real)), np.float32)
    places = np.flatnonzero(real)
    for start in range(0, num_tokens, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        p, q = a[rows].astype(np.float64), b[rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            shares = [torch.from_numpy(one / one.sum(axis=1, keepdims=True)) for one in (p, q)]
        distance[places[rows]] = jensen_shannon(*shares).numpy()
        overlap[places[rows]] = _overlap(p, q, top_keys)
        difference[np.ix_(places[rows], places)] = (p - q) * num_tokens
    constant = (_is_constant(a), _is_constant(b))
    correlation = float("nan") if any(constant) else _pearson(a, b)
    return Agreement(correlation, constant, distance, overlap, top_keys, difference, num_tokens)


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon distance of weights (..., N) that sum to 1, pair by pair: (...) in [0, 1], exactly 0 of equal ones."""
    both, one, other = (entropy_of(weights) for weights in ((first + second) / 2, first, second))
    return distance_of(both - (one + other) / 2)


def entropy_of(weights: Tensor) -> Tensor:
    """(..., N) -> (...) in nats: a few times as fast as `torch.special.entr`."""
    return -(weights.clamp_min(1e-38).log_().mul_(weights)).sum(dim=-1)


def distance_of(divergence: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats, a little below 0 from rounding perhaps, to the distance."""
    return (divergence / math.log(2)).clamp(0, 1).sqrt()


def _overlap(p: np.ndarray, q: np.ndarray, top_keys: int) -> np.ndarray:
    """Rows (R, N) -> (R,); nan where the last place among the strongest is shared with a key outside."""
    count = p.shape[1]
    strongest, is_defined = [], np.ones(len(p), bool)
    for rows in (p, q):
        if top_keys == count:
            strongest.append(np.ones(rows.shape, bool))
            continue
        ordered = np.partition(rows, (count - top_keys - 1, count - top_keys), axis=1)
        last = ordered[:, count - top_keys, None]
        is_defined &= ordered[:, count - top_keys - 1] < last[:, 0]
        strongest.append(rows >= last)
    return np.where(is_defined, (strongest[0] & strongest[1]).sum(axis=1) / top_keys, np.nan)


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Over all entries, in float64 sums of a block of rows at a time."""
    mean_a, mean_b = a.mean(dtype=np.float64), b.mean(dtype=np.float64)
    together = squares_a = squares_b = 0.0
    for rows_a, rows_b in zip(_blocks(a), _blocks(b), strict=True):
        away_a, away_b = rows_a - mean_a, rows_b - mean_b
        together += float((away_a * away_b).sum())
        squares_a += float((away_a**2).sum())
        squares_b += float((away_b**2).sum())
    return float(np.clip(together / np.sqrt(squares_a * squares_b), -1, 1))


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), ROWS_AT_ONCE):
        yield array[start : start + ROWS_AT_ONCE].astype(np.float64)


def _is_constant(attention_map: np.ndarray) -> bool:
    return float(np.ptp(attention_map)) * len(attention_map) < ROUNDING


def _real(attention_map: np.ndarray) -> np.ndarray:
    """(N,), True where a token is no padding: its row or its column holds weight. A map of zeros has no padding."""
    real = (attention_map != 0).any(axis=0) | (attention_map != 0).any(axis=1)
    return real if real.any() else ~real


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
