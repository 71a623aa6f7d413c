"""Attention against effect: how well a map tells which patches matter, beside simple baselines."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.attention import received
from tae.analysis.causal.occlusion import cover_of, gradient_x_input, to_tiles
from tae.analysis.causal.prefix import check_one
from tae.analysis.maps import MapChoice, compute_map
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig

MAPS = {
    "received attention, average": MapChoice(),
    "rollout": MapChoice(layer="rollout"),
    "value-weighted attention": MapChoice(weighting="values"),
}
ATTENTION = tuple(MAPS)  # predictors made of attention alone: what each patch receives in these maps
GRADIENT = "gradient x input"
CHANGE = "what the cover changes"
FIXED = "attention in other images"
TRIVIAL = (CHANGE, "darkness of the patch", "contrast in the patch", "nearness to the centre", FIXED, "random")
TOP_SHARE = 0.1  # share of the patches that `top_overlap` calls the strongest
DRAWS = 1000  # draws of the bootstrap
MIN_COUNT = 5  # images or patches that an interval needs: of fewer, the bootstrap's is far too narrow, so there is none


@torch.no_grad()
def predictors(model: TransformerAutoencoder, image: Tensor, others: Tensor | None = None) -> dict[str, Tensor]:
    """Attention and gradients of each patch of an image: {name: (N,), larger = more effect expected}.

    Attention is the encoder's, as a mean over queries: its latent is the mean of the tokens. Value-weighted: Kobayashi
    2020, heads summed, average over layers. Gradient x input: absolute. Of other images (M, 1, H, W), where they are given:
    what each patch receives on average there, the same guess for every image, and so a trivial one.
    """
    check_one(image)
    found = {name: received(compute_map(model, image, choice)) for name, choice in MAPS.items()}
    found[GRADIENT] = gradient_x_input(model, image).absolute
    if others is not None:
        found[FIXED] = torch.stack([received(compute_map(model, one[None], MapChoice())) for one in others]).mean(dim=0)
    return found


def trivial_predictors(
    image: Tensor, config: ModelConfig, baseline: float | str | Tensor = 1.0, seed: int = 0
) -> dict[str, Tensor]:
    """Guesses at a patch's effect that need no network, {name: (N,), larger = more effect expected}: all of `TRIVIAL` but one.

    Attention that predicts no better has told nothing new. First of all the squared change that the cover itself makes in
    the input: what a network that hands pixels on would give. `baseline` is the cover, as for `occlude`. The random order
    is drawn anew for each image and the same for the same image and seed.
    """
    ink = to_tiles(1 - image, config)
    change = to_tiles(cover_of(image, baseline, config) - image, config) ** 2
    rows, columns = config.grid_for(image.shape[3])
    tile_height, tile_width = config.tile_size
    down = (torch.arange(rows) + 0.5) * tile_height - image.shape[2] / 2
    across = (torch.arange(columns) + 0.5) * tile_width - image.shape[3] / 2
    checksum = zlib.crc32(image.cpu().numpy().tobytes())
    order = torch.rand(rows * columns, generator=torch.Generator().manual_seed(seed + checksum))
    return {
        CHANGE: change.mean(dim=1),
        "darkness of the patch": ink.mean(dim=1),
        "contrast in the patch": ink.std(dim=1, correction=0),
        "nearness to the centre": -torch.hypot(down[:, None], across).flatten().to(image),
        "random": order.to(image),
    }


def spearman(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Spearman's rank correlation of two (T,); nan where it is undefined: one of them constant, or fewer than 2."""
    a, b = (np.asarray(values.cpu() if isinstance(values, Tensor) else values) for values in (a, b))
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy import stats  # it takes half a second, for which no page's first image waits

    return float(stats.spearmanr(a, b).statistic)  # type: ignore[union-attr]


def top_overlap(a: Tensor | np.ndarray, b: Tensor | np.ndarray, share: float = TOP_SHARE) -> float:
    """The part of the strongest share of the patches that two (T,) have in common, in [0, 1].

    Patches that tie for the last places share them. By chance it is about `share`. nan where nothing can be told: for
    no patch, and where one of the two is constant.
    """
    a, b = _array(a), _array(b)
    return float(_overlaps(a[None], b[None], share)[0]) if len(a) else math.nan


@dataclass(frozen=True)
class Interval:
    """A figure and its bootstrap 95% interval (percentiles, Efron 1979), "not defined" in words where it is nan.

    nan where it is undefined; the ends also where there are fewer than `MIN_COUNT` images or patches.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "not defined"
        if math.isnan(self.low):
            return f"{self.value:z.2f}"
        return f"{self.value:z.2f} ({self.low:z.2f} to {self.high:z.2f})"


@dataclass(frozen=True)
class Scores:
    """How well predictors tell the measured effect of patches."""

    spearman: dict[str, Interval]  # {predictor: rank correlation with the effect, in [-1, 1]}
    overlap: dict[str, Interval]  # {predictor: share of the strongest `TOP_SHARE` of the patches in common}
    lead: Interval
    """Spearman of the best attention map minus that of the best simple baseline, both the best on these very data,
    draw by draw."""
    count: int  # patches or images that the intervals are about
    unit: str
    """ "patches" of one image, which are no independent draws (neighbours are alike: intervals are rather too
    narrow), or "images"."""

    @property
    def best_attention(self) -> str:
        """The attention-based predictor with the highest correlation."""
        return _best(self.spearman, ATTENTION)

    @property
    def best_trivial(self) -> str:
        """The predictor with the highest correlation of those that need no attention."""
        return _best(self.spearman, TRIVIAL)


def score(predicted: dict[str, Tensor], effect: Tensor, tokens: Tensor | Sequence[int] | None = None) -> Scores:
    """Compare predictors with the effect on one image, patch by patch, with a bootstrap over patches.

    Ranks of ties are their mean rank. A constant predictor, or effect, has no rank correlation: nan.

    Args:
        predicted: {name: (N,)}; attention's and trivial ones by the names of `ATTENTION` and `TRIVIAL`.
        effect: (T,), as `occlude` measures it.
        tokens: (T,) the patches that the effect is of; None: all N.
    """
    measured, values = _chosen(predicted, effect, tokens)
    rows = np.random.default_rng(0).integers(max(1, len(measured)), size=(DRAWS, len(measured)))
    spearmans, overlaps, draws = {}, {}, {}
    for name, one in values.items():
        draws[name] = _spearmans(one[rows], measured[rows])
        spearmans[name] = _interval(spearman(one, measured), draws[name], len(measured))
        overlap_draws = _overlaps(one[rows], measured[rows], TOP_SHARE) if len(measured) else []
        overlaps[name] = _interval(top_overlap(one, measured), overlap_draws, len(measured))
    return Scores(spearmans, overlaps, _lead(spearmans, draws, len(measured)), len(measured), "patches")


def agreement(
    predicted: dict[str, Tensor], effect: Tensor, tokens: Tensor | Sequence[int] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """{predictor: Spearman}, {predictor: top overlap}: `score` without intervals; `score_over` takes it of each image."""
    measured, values = _chosen(predicted, effect, tokens)
    spearmans = {name: spearman(one, measured) for name, one in values.items()}
    return spearmans, {name: top_overlap(one, measured) for name, one in values.items()}


def score_over(spearmans: dict[str, np.ndarray], overlaps: dict[str, np.ndarray]) -> Scores:
    """The mean over at least one image of {predictor: Spearman (B,)} and {predictor: top overlap (B,)}.

    With bootstrap intervals. Images on which a figure is undefined are left out of its mean.
    """
    count = len(next(iter(spearmans.values()), []))
    if not count:
        raise ValueError("images must be at least one, got none")
    rows = np.random.default_rng(0).integers(count, size=(DRAWS, count))
    draws = {name: _means(values[rows]) for name, values in spearmans.items()}
    found = {name: _interval(_mean(values), draws[name], count) for name, values in spearmans.items()}
    top = {name: _interval(_mean(values), _means(values[rows]), count) for name, values in overlaps.items()}
    return Scores(found, top, _lead(found, draws, count), count, "images")


def which_wins(scores: Scores, cover: str) -> str:
    """Whether attention tells more about the effect of patches than a trivial guess, in words, with the numbers.

    `cover` says what the patches were covered with: with another cover, other predictors may win.
    """
    attention, trivial = scores.best_attention, scores.best_trivial
    if math.isnan(scores.lead.value) or math.isnan(scores.lead.low):
        return (
            f"Which predictor tells the effect of covering with {cover} best cannot be said from {scores.count} {scores.unit}: "
            "too few of them, or all alike."
        )
    of_attention = f"{attention} {scores.spearman[attention]}"
    of_trivial = f"{trivial} {scores.spearman[trivial]}"
    numbers = f"rank correlation with the effect of covering with {cover}, {scores.count} {scores.unit}, 95% intervals"
    gradient = scores.spearman.get(GRADIENT)
    beside = f" Gradient x input: {gradient}." if gradient is not None else ""
    if scores.lead.low > 0:
        said = f"Attention tells more than any simple baseline: {of_attention}, the best of those {of_trivial}"
    elif scores.lead.high < 0:
        said = (
            f"A simple baseline wins: {of_trivial}, the best of the attention maps {of_attention}; where weight was "
            "placed tells less about the effect of a patch than that"
        )
    else:
        said = f"Attention and the best simple baseline cannot be told apart: {of_attention}, {of_trivial}"
    return f"{said} ({numbers}).{beside}"


def over_covers(found: Mapping[str, Scores]) -> str:
    """What holds whatever patches are covered with, and what for some covers alone; {cover in words: its scores}.

    "" where nothing can be said of any.
    """
    told = {cover: scores for cover, scores in found.items() if not math.isnan(scores.lead.low)}
    groups: dict[str, list[str]] = {"ahead of": [], "behind": [], "not to be told from": []}
    for cover, scores in told.items():
        ahead, behind = scores.lead.low > 0, scores.lead.high < 0
        groups["ahead of" if ahead else "behind" if behind else "not to be told from"].append(cover)
    said = [f"{words} it under {', '.join(covers)}" for words, covers in groups.items() if covers]
    bests = ", ".join(dict.fromkeys(scores.best_trivial for scores in told.values()))
    beside = f"the best attention map, beside the best simple baseline ({bests})"
    return f"Over {len(told)} cover{'s' * (len(told) > 1)} {beside}, is {'; '.join(said)}." if said else ""


def as_json(interval: Interval) -> dict[str, float | None]:
    """An interval as JSON can carry it."""
    return {name: plain(value) for name, value in asdict(interval).items()}


def interval_of(figure: dict[str, float | None]) -> Interval:
    """The inverse of `as_json`."""
    return Interval(**{name: number(value) for name, value in figure.items()})


def plain(value: float) -> float | None:
    """Six digits, as JSON can carry it."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def number(value: float | None) -> float:
    """The inverse of `plain`."""
    return math.nan if value is None else value


def bootstrap_mean(values: np.ndarray) -> Interval:
    """Mean over images (B,), at least one, and its interval; nan values are left out."""
    values = np.asarray(values, np.float64)
    rows = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    return _interval(_mean(values), _means(values[rows]), len(values))


def _chosen(
    predicted: dict[str, Tensor], effect: Tensor, tokens: Tensor | Sequence[int] | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The effect, and each predictor on its patches, (T,) float64."""
    measured = _array(effect).astype(np.float64)
    chosen = slice(None) if tokens is None else torch.as_tensor(tokens, dtype=torch.long).numpy(force=True)
    values = {name: _array(one).astype(np.float64)[chosen] for name, one in predicted.items()}
    for name, one in values.items():
        if one.shape != measured.shape:
            raise ValueError(f"{name} must be of the {len(measured)} patches of the effect, got {one.shape}")
    return measured, values


def _spearmans(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row (R, T) -> (R,); nan where a row is constant."""
    if a.shape[1] < 2:
        return np.full(len(a), math.nan)
    from scipy import stats

    a, b = (stats.rankdata(one, axis=1) for one in (a, b))
    a, b = (one - one.mean(axis=1, keepdims=True) for one in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), math.nan), where=scale > 0)


def _overlaps(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Row by row (R, T) -> (R,)."""
    count = max(1, round(share * a.shape[1]))
    found = np.minimum(_membership(a, count), _membership(b, count)).sum(axis=1) / count
    return np.where((np.ptp(a, axis=1) > 0) & (np.ptp(b, axis=1) > 0), found, math.nan)


def _membership(values: np.ndarray, count: int) -> np.ndarray:
    """(R, T) in [0, 1]: 1 for the `count` largest of a row; those that tie for the last places share them. nan has none."""
    last = np.partition(values, -count, axis=1)[:, -count, None]
    above, ties = values > last, values == last
    left = count - above.sum(axis=1, keepdims=True)
    return above + ties * (left / np.maximum(ties.sum(axis=1, keepdims=True), 1))


def _interval(value: float, draws: np.ndarray | Sequence[float], count: int) -> Interval:
    """The middle 95% of the defined draws; nan where the value, or half of them, are not defined."""
    draws = np.asarray(draws, np.float64)
    draws = draws[np.isfinite(draws)]
    if count < MIN_COUNT or math.isnan(value) or len(draws) <= DRAWS / 2:
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _lead(spearmans: dict[str, Interval], draws: dict[str, np.ndarray], count: int) -> Interval:
    attention, trivial = _best(spearmans, ATTENTION), _best(spearmans, TRIVIAL)
    if not attention or not trivial:
        return Interval(math.nan, math.nan, math.nan)
    return _interval(spearmans[attention].value - spearmans[trivial].value, draws[attention] - draws[trivial], count)


def _best(spearmans: dict[str, Interval], names: Sequence[str]) -> str:
    """The name with the largest value; "" where none is defined."""
    defined = [name for name in names if name in spearmans and not math.isnan(spearmans[name].value)]
    return max(defined, key=lambda name: spearmans[name].value, default="")


def _means(values: np.ndarray) -> np.ndarray:
    """Row by row, nan left out; nan where all are."""
    defined = np.isfinite(values)
    counts = defined.sum(axis=1)
    sums = np.where(defined, values, 0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), math.nan), where=counts > 0)


def _mean(values: np.ndarray) -> float:
    return float(_means(np.asarray(values, np.float64)[None])[0])


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
