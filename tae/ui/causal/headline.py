"""The top of the page Ablation: its answer in one sentence with numbers."""

import math
from dataclasses import dataclass

import streamlit as st

from tae.analysis.causal.sweeps import Sweep
from tae.analysis.causal.verdicts import Necessity, headline
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
    """The page's answer in one sentence with numbers."""
    kind = checked("baseline", list(BASELINES))
    top = Top(measure.find_necessity(scene), measure.find_sweep(scene, kind), measure.find_effect(scene, *PLAIN_EFFECT))
    if top.necessity is None or top.sweep is None:
        return top
    psnr = float(top.necessity.psnr[0])
    if not math.isfinite(psnr):
        st.info("The reconstruction of this image is exact: no loss in dB can be told.", icon=":material/info:")
        return top
    warning = f":red[{scene.active.warning}] · " if scene.active.warning else ""
    percentiles = scene.active.test_percentiles.get("psnr")
    if percentiles and not scene.active.is_random and psnr < percentiles[5]:
        st.info(
            f"The model fails on this image already ({psnr:.1f} dB, worse than 95 % of its test images): little is left to "
            "lose, and small losses say little here.",
            icon=":material/trending_down:",
        )
    scores = top.effect.scores if top.effect else None
    st.markdown(f"##### {warning}{headline(top.necessity, top.sweep, scores)}")
    st.caption(
        f"PSNR lost on this image, {psnr:.1f} dB undisturbed. A head is replaced by "
        f"{escape_markdown(words_of(scene, kind))}; the effect of a patch is measured by covering it with white."
    )
    return top
