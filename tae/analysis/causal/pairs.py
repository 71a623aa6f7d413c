"""States of one image in another's run, beside those of a third one: of two images, and over many pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from torch import Tensor

from tae.analysis.causal.interventions import Intervention, from_name
from tae.analysis.causal.patching import Patching, activation_patching, attribution_patching, head_cells
from tae.analysis.causal.predictors import Interval, as_json, bootstrap_mean, interval_of
from tae.analysis.causal.prefix import Prefix, Progress, prefix_of_one, silent
from tae.analysis.numbers import percent
from tae.model.autoencoder import TransformerAutoencoder

ERRORS = ("correlation", "rank correlation", "deviation")
"""Measures of an estimate beside what was measured, see `patching.EstimateError`."""
GROUPS = ("share", "apart", "closed", "control")


@dataclass(frozen=True)
class Patched:
    """Every cell of one image's run put into another's, one at a time, and one of a third image for comparison."""

    found: Patching
    control: Patching  # the same cells of a third image, along the same way


def against_third(
    model: TransformerAutoencoder,
    base: Tensor | Prefix,
    source: Tensor | Prefix,
    third: Tensor,
    cells: Sequence[Intervention],
    progress: Progress = silent,
) -> Patched:
    """`activation_patching` of the source's cells, and of a third image's, (1, 1, H, W) all.

    The control tells how far any image's states would go there. Of three images that are equally unlike each other the third
    lies half the way along, so about half of the share is no sign of the source. Raises ValueError as `activation_patching`.
    """
    base, source = prefix_of_one(model, base), prefix_of_one(model, source)
    found, control = (
        activation_patching(
            model, base, one, cells, source.recon, lambda share, done=done: progress((done + share) / 2)
        )
        for done, one in enumerate((source, third))
    )
    return Patched(found, control)


def pair_record(model: TransformerAutoencoder, one: Tensor, other: Tensor, third: Tensor) -> dict:
    """Each head, attention and MLP of two images put into the other's run, both ways, as plain numbers; {} if both are the same.

    {one of `GROUPS`: {cell: mean of both ways, for "apart" their absolute difference}, "estimate": {one of `ERRORS`: mean}}.
    """
    cells = head_cells(model.config)
    ways, errors = [], []
    for base, source in ((one, other), (other, one)):
        try:
            both = against_third(model, base, source, third, cells)
        except ValueError:  # equal reconstructions: there is no way between them
            return {}
        ways.append(both)
        error = both.found.error_of(attribution_patching(model, base, source, cells))
        errors.append([error.correlation, error.rank_correlation, error.deviation])
    first, second = (one.found.share for one in ways)
    values = {
        "share": (first + second) / 2,
        "apart": np.abs(first - second),
        "closed": np.mean([one.found.closed for one in ways], axis=0),
        "control": np.mean([one.control.share for one in ways], axis=0),
    }
    names = [cell.name for cell in cells]
    found = {group: dict(zip(names, some.tolist(), strict=True)) for group, some in values.items()}
    return {**found, "estimate": dict(zip(ERRORS, np.mean(errors, axis=0).tolist(), strict=True))}


class PairFigures(TypedDict):
    """Means over pairs of images, each with its interval; which of a pair is the first is no matter, so both ways are taken."""

    count: int  # pairs
    share: dict[str, dict[str, float | None]]  # {cell: share of the way}
    apart: dict[str, dict[str, float | None]]  # {cell: how far the two ways of a pair differ in it}
    closed: dict[str, dict[str, float | None]]  # {cell: part of the squared distance that is closed}
    control: dict[str, dict[str, float | None]]  # {cell: share of the way by a third image's}
    estimate: dict[str, dict[str, float | None]]  # {one of `ERRORS`: attribution patching beside what was measured}


def over_pairs(records: Sequence[dict]) -> PairFigures:
    """Means of at least one `pair_record`, with a bootstrap over pairs."""

    def means(group: str) -> dict[str, dict[str, float | None]]:
        return {
            name: as_json(bootstrap_mean(np.array([one[group][name] for one in records], np.float64)))
            for name in records[0][group]
        }

    return PairFigures(
        count=len(records),
        share=means("share"),
        apart=means("apart"),
        closed=means("closed"),
        control=means("control"),
        estimate=means("estimate"),
    )


def pairs_in_words(figures: PairFigures) -> str:
    """Which part goes farthest, beside the control, and how far an estimate by gradient is off."""
    share = {name: interval_of(one) for name, one in figures["share"].items()}
    defined = [name for name, one in share.items() if not math.isnan(one.value)]
    if not defined:
        return ""
    most = max(defined, key=lambda name: share[name].value)
    error = {name: interval_of(one) for name, one in figures["estimate"].items()}
    return (
        f"Put into another image's run, {from_name(most).title} goes farthest: {in_percent(share[most])} of the way, a third "
        f"image's {in_percent(interval_of(figures['control'][most]))} ({means_over(figures['count'])}). Estimated by "
        f"gradient, all shares correlate with these at {error['correlation']}."
    )


def means_over(count: int) -> str:
    """What the means are of: pairs, with intervals where there are some to draw from."""
    return "one pair, both ways" if count == 1 else f"mean over {count} pairs, both ways, 95% intervals"


def in_percent(interval: Interval) -> str:
    """Such as "12% (9 to 15)"."""
    if math.isnan(interval.value):
        return "not defined"
    ends = "" if math.isnan(interval.low) else f" ({100 * interval.low:z.0f} to {100 * interval.high:z.0f})"
    return percent(interval.value) + ends
