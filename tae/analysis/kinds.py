"""Kinds of heads: the average over many images in numbers and a name, how far heads are apart, and which are alike."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from torch import Tensor

from tae.analysis.agreement import distance_of, entropy_of, jensen_shannon
from tae.analysis.attention import distance, each_head, each_layer, entropy, received, sinks
from tae.analysis.causal.interventions import Knockout, all_knockouts
from tae.analysis.causal.occlusion import foreground_tokens
from tae.analysis.causal.patching import attribution_patching
from tae.analysis.causal.prefix import Progress, silent
from tae.analysis.heads import mean_distance
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, ModelConfig
from tae.model.layers import attention_weights

NEIGHBOURS = {
    "itself": (0, 0),
    "previous row": (-1, 0),
    "next row": (1, 0),
    "previous column": (0, -1),
    "next column": (0, 1),
}
"""(down, across) in patches from the query's patch to the key's."""
NUMBERS = {
    "reach": "mean attention distance, as a share of that of uniform attention",
    **{name: f"share of a query's weight on the patch at {places}" for name, places in NEIGHBOURS.items()},
    "itself": "share of a query's weight on its own patch",
    "foreground": "weight of a patch that is not blank, in multiples of that of a blank one",
    "sinks": "share of all weight that goes to sinks",
    "entropy": "entropy of a query's weights, as a share of log N",
    "own change": "Jensen-Shannon distance between the head's maps of two images",
}
"""What is measured of every head, as a mean over images."""
MIXED = "mixed"
"""The name of a head for which no rule of `KINDS` holds."""
AT_ONCE = 2**18  # weights of all heads that are held at a time


@dataclass(frozen=True)
class Kind:
    """A rule by which a head gets a name."""

    name: str
    number: str  # of `NUMBERS`
    least: float  # from here on
    most: float  # up to here
    why: str  # the reason of the threshold

    def holds(self, numbers: dict[str, float]) -> bool:
        """Whether the name fits a head with these numbers; never where the one that it needs is nan."""
        return self.least <= numbers[self.number] <= self.most

    @property
    def rule(self) -> str:
        """In words, such as "reach at most 0.5"."""
        ends = [(self.least, "at least"), (self.most, "at most")]
        told = [f"{words} {end:g}" for end, words in ends if math.isfinite(end)]
        return f"{self.number} {' and '.join(told)}"


_FIFTH = "a head that spreads evenly over the 3 x 3 patches around gives each a ninth; a fifth is nearly twice that"
KINDS = (
    Kind(
        "fixed", "own change", -math.inf, 0.1, "its square, the divergence between two images, is a hundredth of a bit"
    ),
    Kind("sink", "sinks", 0.5, math.inf, "half of all weight is parked"),
    *(Kind(name, name, 0.2, math.inf, _FIFTH) for name in NEIGHBOURS),
    Kind("local", "reach", -math.inf, 0.5, "half as far as without any preference"),
    Kind("foreground-seeking", "foreground", 2.0, math.inf, "twice the weight of a blank patch"),
    Kind("background-seeking", "foreground", -math.inf, 0.5, "half of it"),
    Kind("pointed", "entropy", -math.inf, 0.25, "of 200 patches as few as 4 get all"),
    Kind("diffuse", "entropy", 0.9, math.inf, "of 200 patches as many as 118 get an even share"),
)
"""All rules: a head has each name whose rule holds for its means over images, in this order."""


def kinds_of(numbers: dict[str, float]) -> tuple[str, ...]:
    """The names of a head with these `NUMBERS`, at least one."""
    return tuple(one.name for one in KINDS if one.holds(numbers)) or (MIXED,)


@dataclass(frozen=True)
class HeadTable:
    """K heads over many images."""

    heads: tuple[Knockout, ...]  # (K,) part by part, layer by layer
    numbers: dict[str, np.ndarray]
    """{one of `NUMBERS`: (K,)}, means over images; nan where it is not told, as foreground in images without a blank patch."""
    distance: np.ndarray
    """(K, K) Jensen-Shannon distance of two heads' maps of an image, as a mean over queries and images; in [0, 1]."""
    num_images: int

    def numbers_of(self, head: int) -> dict[str, float]:
        """One head's measures, by name."""
        return {name: float(values[head]) for name, values in self.numbers.items()}

    def kinds_of(self, head: int) -> tuple[str, ...]:
        """The kinds that one head is of, by the rules of `kinds_of`."""
        return kinds_of(self.numbers_of(head))


def all_heads(config: ModelConfig) -> tuple[Knockout, ...]:
    """Every head of both parts, layer by layer."""
    return tuple(one for one in all_knockouts(config) if one.is_head)


@torch.no_grad()
def heads_over(model: TransformerAutoencoder, images: Tensor, progress: Progress = silent) -> HeadTable:
    """Measure every head over images (B, 1, H, W) of one width, at least two; `AT_ONCE` weights are held, or a map.

    Raises ValueError if there are fewer, they do not fit the model, or it has one token.
    """
    if len(images) < 2:
        raise ValueError(f"images must be at least 2, got {len(images)}")
    config, heads = model.config, all_heads(model.config)
    num_tokens = math.prod(config.grid_for(images.shape[3]))
    if num_tokens < 2:
        raise ValueError("the model must have more than one token: of one, every map is the same")
    images = images.to(next(model.parameters()))
    apart, change = (
        torch.zeros(len(heads), len(heads), dtype=torch.float64),
        torch.zeros(len(heads), dtype=torch.float64),
    )
    found: dict[str, np.ndarray] = {}
    last = _queries_and_keys(model, images[-1:])
    step = max(1, AT_ONCE // (len(heads) * num_tokens))
    for number, image in enumerate(images.split(1)):
        for name, values in _numbers(model, image).items():
            found[name] = found.get(name, 0.0) + values / len(images)
        own = _queries_and_keys(model, image)
        for start in range(0, num_tokens, step):
            rows, others = (_rows(one, slice(start, start + step)) for one in (own, last))
            apart += _pairwise(rows)
            change += jensen_shannon(rows, others).sum(dim=1).cpu()
            progress((number + min(1.0, (start + step) / num_tokens)) / len(images))
        last = own
    count = len(images) * num_tokens
    on_ink, ink, on_blank, blank = (found.pop(name) for name in ("on ink", "ink", "on blank", "blank"))
    with np.errstate(divide="ignore", invalid="ignore"):
        found["foreground"] = on_ink / ink / (on_blank / blank)
    found["own change"] = (change / count).numpy()
    return HeadTable(heads, {name: found[name] for name in NUMBERS}, (apart / count).numpy(), len(images))


@torch.no_grad()
def received_over(
    model: TransformerAutoencoder, images: Tensor, head: Knockout, query: int | None = None
) -> np.ndarray:
    """What a head gives to each patch of images (B, 1, H, W): (B, N) in x uniform, from one patch or as a mean over all.

    Raises ValueError if the model has no such head, or no such patch.
    """
    config = model.config
    num_tokens = math.prod(config.grid_for(images.shape[3]))
    if head not in all_heads(config):
        raise ValueError(f"head must be one of the model's, got {head.name}")
    if query is not None and not 0 <= query < num_tokens:
        raise ValueError(f"query must be from 0 to {num_tokens - 1}, got {query}")
    found = []
    for image in images.to(next(model.parameters())).split(1):
        tokens, _ = model.layer_input(image, head.layer, head.part)
        (weights,) = each_head(model.blocks(head.part)[head.layer], tokens, heads=[int(head.target)])
        found.append(received(weights)[0] if query is None else weights[0, query])
    return (torch.stack(found) * num_tokens).float().cpu().numpy()


def attributions(model: TransformerAutoencoder, images: Tensor, progress: Progress = silent) -> np.ndarray:
    """Every head's share of the way from each image to the next, estimated by gradient: (B, K).

    `attribution_patching` of images (B, 1, H, W), B at least two, each into the run of the one before it, the first into that of
    the last; nan where both have the same reconstruction.
    """
    heads = all_heads(model.config)
    images = images.to(next(model.parameters()))
    found = np.full((len(images), len(heads)), math.nan)
    for number, (base, source) in enumerate(zip(images.roll(1, 0).split(1), images.split(1), strict=True)):
        with suppress(ValueError):  # equal reconstructions
            found[number] = attribution_patching(model, base, source, heads)
        progress((number + 1) / len(images))
    return found


@dataclass(frozen=True)
class Tree:
    """Heads joined by how alike they are, the nearest first."""

    merges: np.ndarray  # (K - 1, 4) as SciPy has it: two groups, the mean distance between their heads, heads in both
    order: tuple[int, ...]  # (K,) heads from above, so that alike ones are neighbours
    cut: float  # groups within which heads are nearer than this
    groups: tuple[int, ...]  # (K,) number of each head's group, from 0, in that order


def cluster(apart: np.ndarray, cut: float) -> Tree:
    """Average linkage of distances (K, K), K at least 2, with leaves in the order that puts alike ones side by side.

    Bar-Joseph 2001 for the order. ValueError if the distances are not finite.
    """
    if len(apart) < 2 or not np.isfinite(apart).all():
        raise ValueError("distances must be finite, between at least 2 heads")
    merges = hierarchy.linkage(squareform(apart, checks=False), "average", optimal_ordering=True)
    order = hierarchy.leaves_list(merges).tolist()
    flat = hierarchy.fcluster(merges, cut, "distance")
    seen: dict[int, int] = {}
    for head in order:
        seen.setdefault(int(flat[head]), len(seen))
    return Tree(merges, tuple(order), cut, tuple(seen[int(one)] for one in flat))


def _numbers(model: TransformerAutoencoder, image: Tensor) -> dict[str, np.ndarray]:
    """{name: (K,)} of one image; of ink, the four parts of the ratio."""
    config = model.config
    grid = config.grid_for(image.shape[3])
    num_tokens = math.prod(grid)
    is_ink = torch.zeros(num_tokens, dtype=torch.bool, device=image.device)
    is_ink[foreground_tokens(image, config)] = True
    tokens = torch.arange(num_tokens, device=image.device).unflatten(0, grid)
    pairs = {}
    for name, (down, across) in NEIGHBOURS.items():
        queries = tokens[max(0, -down) : grid[0] - max(0, down), max(0, -across) : grid[1] - max(0, across)].flatten()
        pairs[name] = queries, queries + down * grid[1] + across
    rows: list[dict[str, float]] = []
    for part in PARTS:
        for block, x, _ in each_layer(model, image, part):
            for (weights,) in each_head(block, x):
                shares = received(weights)
                rows.append(
                    {
                        "reach": float(distance(weights, grid, 1).mean()) / mean_distance(*grid),
                        **{name: float(weights[at].mean()) if len(at[0]) else math.nan for name, at in pairs.items()},
                        "on ink": float(shares[is_ink].sum()),
                        "on blank": float(shares[~is_ink].sum()),  # exactly 0 where none is: 1 less the other is not
                        "ink": float(is_ink.sum()),
                        "blank": float((~is_ink).sum()),
                        "sinks": sinks(weights)[1],
                        "entropy": float(entropy(weights).mean()) / math.log(num_tokens),
                    }
                )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _queries_and_keys(model: TransformerAutoencoder, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Layer by layer of both parts, (heads, N, head_dim) each."""
    found = []
    for part in PARTS:
        for block, x, _ in each_layer(model, image, part):
            q, k, _ = block.attn.qkv_heads(block.norm1(x))
            found.append((q[0], k[0]))
    return found


def _rows(layers: Sequence[tuple[Tensor, Tensor]], rows: slice) -> Tensor:
    """Weights of some queries of all heads: (K, rows, N)."""
    return torch.cat([attention_weights(q[:, rows], k) for q, k in layers])


def _pairwise(rows: Tensor) -> Tensor:
    """Jensen-Shannon distances of every two heads' rows (K, R, N), summed over rows: (K, K) float64."""
    own = entropy_of(rows)  # (K, R)
    found = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for head in range(len(rows) - 1):
        both = entropy_of((rows[head] + rows[head + 1 :]) / 2)
        found[head, head + 1 :] = distance_of(both - (own[head] + own[head + 1 :]) / 2).sum(dim=-1).cpu()
    return found + found.T
