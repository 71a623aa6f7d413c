"""The top of the page Ablation: its answer in three figures."""

import math
from dataclasses import dataclass

import streamlit as st

from tae.analysis.causal.sweeps import Sweep
from tae.analysis.causal.verdicts import Necessity, agreement_in_words, verdict
from tae.store.names import escape_markdown
from tae.ui.causal import measure
from tae.ui.causal.controls import words_of
from tae.ui.causal.measure import BASELINES, Effect, PairScene
from tae.ui.session.view import checked

PLAIN_EFFECT = ("white", False, None)
"""The cover, whether blank patches are covered, and the region that counts, in the top line as in `python -m tae.causal`."""


@dataclass(frozen=True)
class Top:
    """The measurements behind the top line; None: it was not asked for, or stopped."""

    necessity: Necessity | None  # attention replaced
    sweep: Sweep | None  # heads, layers and MLPs knocked out, with the link's baseline
    effect: Effect | None  # patches that are not blank covered with white


def top_line(scene: PairScene) -> Top:
    """The page's answer in three figures."""
    kind = checked("baseline", list(BASELINES))
    top = Top(measure.find_necessity(scene), measure.find_sweep(scene, kind), measure.find_effect(scene, *PLAIN_EFFECT))
    if top.necessity is None or top.sweep is None:
        return top
    psnr = float(top.necessity.psnr[0])
    if not math.isfinite(psnr):
        st.info("The reconstruction of this image is exact: no loss in dB can be told.", icon=":material/info:")
        return top
    percentiles = scene.active.test_percentiles.get("psnr")
    if percentiles and not scene.active.is_random and psnr < percentiles[5]:
        st.info(
            f"The model fails on this image already ({psnr:.1f} dB, worse than 95 % of its test images): little is left to "
            "lose, and small losses say little here.",
            icon=":material/trending_down:",
        )
    if not top.necessity.has_attention:
        st.markdown(verdict(top.necessity).sentence)
        return top
    worst = top.sweep.ranking()[-1]
    tiles = {
        "Uniform attention": top.necessity.mean("encoder", "all", "uniform").value,
        "Swapped attention": top.necessity.mean("encoder", "all", "another").value,
        f"Most important head: {worst.part} {worst.layer}.{worst.target}": top.sweep.damage[worst].psnr_lost,
    }
    with st.container(key="causal_tiles"):
        places = st.columns(len(tiles))
    for place, (label, lost) in zip(places, tiles.items(), strict=True):
        place.metric(label, change_in_words(lost))
    told = agreement_in_words(top.effect.scores if top.effect else None)
    covered = f" Patches covered with white: {told}." if told else ""
    warning = f":red[{scene.active.warning}] · " if scene.active.warning else ""
    st.caption(
        f"{warning}Change of PSNR on this image, {psnr:.1f} dB undisturbed. Swapped: another image's attention. A head is "
        f"replaced by {escape_markdown(words_of(scene, kind))}.{covered}"
    )
    return top


def change_in_words(lost: float) -> str:
    """A loss of PSNR as a change, with its sign."""
    return f"{-lost:+z.1f} dB".replace("-", "−")
