"""The top of the page Ablation: its answer in three figures."""

import math
from dataclasses import dataclass

import streamlit as st

from tae.analysis.causal.predictors import Interval, interval_of
from tae.analysis.causal.study import Study
from tae.analysis.causal.sweeps import Sweep
from tae.analysis.causal.verdicts import Necessity, verdict
from tae.analysis.numbers import signed
from tae.store.names import escape_markdown
from tae.ui.causal import measure
from tae.ui.causal.controls import words_of
from tae.ui.causal.measure import BASELINES, PairScene
from tae.ui.session.verdicts import lost_over_tests, study_of
from tae.ui.session.view import checked

NO_INTERVAL = "One image: no interval."


@dataclass(frozen=True)
class Top:
    """The measurements behind the top line; None: it was not asked for, or stopped."""

    necessity: Necessity | None  # attention replaced
    sweep: Sweep | None  # heads, layers and MLPs knocked out, with the link's baseline


def top_line(scene: PairScene) -> Top:
    """The page's answer in three figures."""
    kind = checked("baseline", list(BASELINES))
    top = Top(measure.find_necessity(scene), measure.find_sweep(scene, kind))
    if top.necessity is None or top.sweep is None:
        return top
    psnr = float(top.necessity.psnr[0])
    if not math.isfinite(psnr):
        st.info("The reconstruction of this image is exact: no loss in dB can be told.", icon=":material/info:")
        return top
    percentiles = scene.active.test_percentiles.get("psnr")
    if percentiles and not scene.active.is_random and psnr < percentiles[5]:
        st.info(
            f"The model fails on this image already ({psnr:.1f} dB, worse than 95% of its test images): little is left to "
            "lose, and small losses say little here.",
            icon=":material/trending_down:",
        )
    if not top.necessity.has_attention:
        st.markdown(verdict(top.necessity).sentence)
        return top
    worst = top.sweep.ranking()[-1]
    study = study_of(scene.active)
    tiles = {
        "Uniform attention": (
            top.necessity.mean("encoder", "all", "uniform").value,
            f"All weights of the encoder 1/N. {over_tests(study, 'uniform')}",
        ),
        "Swapped attention": (
            top.necessity.mean("encoder", "all", "another").value,
            f"The encoder’s weights are those of {escape_markdown(scene.other_title)}. {over_tests(study, 'another')}",
        ),
        f"Most important head: {worst.part} {worst.layer}.{worst.target}": (
            top.sweep.damage[worst].psnr_lost,
            "Of all heads, ablated one at a time (Michel 2019). " + " ".join(lost_over_tests(study, worst)),
        ),
    }
    with st.container(key="causal_tiles"):
        places = st.columns(len(tiles))
    for place, (label, (lost, told)) in zip(places, tiles.items(), strict=True):
        place.metric(label, f"{change_of(lost)} dB", help=told)
    warning = f":red[{scene.active.warning}] · " if scene.active.warning else ""
    st.caption(
        f"{warning}Change of PSNR on this image, {psnr:.1f} dB; a head is replaced by {escape_markdown(words_of(scene, kind))}."
    )
    return top


def over_tests(study: Study | None, replaced_by: str) -> str:
    """What the same costs over the test images, with its interval, or that nobody measured it."""
    figure = study.necessity.get(f"encoder/all/{replaced_by}") if study is not None else None
    if study is None or figure is None:
        return NO_INTERVAL
    return f"Mean of {study.num_images} test images: {change_over(interval_of(figure))} dB, 95% interval."


def change_of(lost: float | None, digits: int = 1) -> str:
    """A loss as a change, with its sign."""
    return "not defined" if lost is None or math.isnan(lost) else signed(-lost, digits)


def change_over(lost: Interval) -> str:
    """A mean loss and its interval as a change in dB, with signs."""
    ends = "" if math.isnan(lost.low) else f" ({change_of(lost.high, 2)} to {change_of(lost.low, 2)})"
    return change_of(lost.value, 2) + ends
