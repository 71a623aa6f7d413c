"""Heads ranked: each head's damage beside how sharp its attention looks, and heads removed one after another."""

import math
from typing import Any

import numpy as np
import streamlit as st

from tae.analysis.causal.predictors import MIN_COUNT, spearman
from tae.analysis.causal.sweeps import Sweep
from tae.model.config import PARTS
from tae.plots.causal import plot_damage, plot_removal, plot_sharpness
from tae.store.names import escape_markdown
from tae.ui.attention.measure import head_statistics
from tae.ui.causal import measure
from tae.ui.causal.controls import choose_baseline, no_study, words_of
from tae.ui.causal.headline import change_of
from tae.ui.causal.measure import PairScene
from tae.ui.session import verdicts
from tae.ui.widgets.charts import chart
from tae.ui.widgets.downloads import download_table, export
from tae.ui.widgets.report import download_report
from tae.ui.widgets.table import table

OF_TESTS = "PSNR lost, test median (dB)"
MAX_BARS = 48  # heads that the ranking draws; its table holds all


def ranking(scene: PairScene, sweep: Sweep | None) -> None:
    kind = choose_baseline()
    if sweep is None:  # not asked for yet, or stopped
        return
    study = verdicts.study_of(scene.active)
    heads = sweep.ranking()[::-1]
    entropy = {part: head_statistics(scene, part)["entropy"] for part in PARTS}
    sharpness = [1 - float(entropy[one.part][one.layer, int(one.target)]) for one in heads]
    lost = [sweep.damage[one].psnr_lost for one in heads]
    names = [f"{one.part} {one.layer}, head {one.target}" for one in heads]
    parts = [one.part for one in heads]
    agrees = spearman(np.array(sharpness), np.array(lost))
    said = (
        f"Over these {len(heads)} heads, how sharp a head's attention looks and what it costs to lose it agree at "
        f"{agrees:.2f} (rank correlation)."
        if math.isfinite(agrees) and len(heads) >= MIN_COUNT
        else "How sharp a head's attention looks and what it costs cannot be compared: heads are too few, or all alike."
    )
    st.markdown(
        f"{said} Heads are ablated **one at a time, which hides redundancy**: two heads that stand in for each other look "
        "dispensable, each alone. The curve below ablates them together."
    )
    tests = None
    if study is not None:
        quantiles = [study.damage.get(one.name, {}).get("psnr_lost") for one in heads]
        found = [[one[place] for place in (0, 2, 4)] if one else [None] * 3 for one in quantiles]
        tests = [[math.nan if value is None else value for value in one] for one in found]
    with st.container(key="causal_ranking_columns"):
        left, right = st.columns(2)
    with left:
        st.markdown("**What each head costs**")
        shown = slice(0, MAX_BARS)
        figure = plot_damage(names[shown], parts[shown], lost[shown], tests and tests[shown])
        alt = "Change of PSNR without each head, the most important first, beside the test images"
        chart(figure, "causal_damage", alt, tools=True)
        if len(heads) > MAX_BARS:
            st.caption(f"The {MAX_BARS} most important of {len(heads)} heads; the table holds all.")
        if study is not None:
            st.caption(
                f"Test images: {study.num_images} ({escape_markdown(study.data)}), heads replaced by "
                f"{escape_markdown(study.baseline)}."
            )
        else:
            no_study(scene)
    with right:
        st.markdown("**How sharp it looks against what it costs**")
        figure = plot_sharpness(names, parts, sharpness, lost)
        alt = "Each head's sharpness of attention against the change of PSNR without it"
        chart(figure, "causal_sharpness", alt, tools=True)
        removal(scene, kind, sweep)
    ranking_table(scene, sweep, kind, sharpness)


def removal(scene: PairScene, kind: str, sweep: Sweep) -> None:
    st.markdown("**Heads removed one after another**")
    curve = measure.find_removal(scene, kind, sweep)
    if curve is None:
        return
    figure = plot_removal(curve.psnr, curve.random_psnr, [one.title for one in curve.order])
    alt = "PSNR as heads are removed, the least important first, against random orders"
    chart(figure, "causal_removal", alt, tools=True)
    spared = curve.spared()
    st.caption(
        f"**{spared} of {len(curve.order)} heads** can go, the least important first, before more than 1 dB is lost; in random "
        f"order so many cost {curve.random_mean[0] - curve.random_mean[spared]:.1f} dB. Removed heads are replaced by "
        f"{escape_markdown(words_of(scene, kind).replace('its mean', 'their mean'))}."
    )


def ranking_table(scene: PairScene, sweep: Sweep, kind: str, sharpness: list[float]) -> None:
    study = verdicts.study_of(scene.active)
    sharp = dict(zip(sweep.ranking()[::-1], sharpness, strict=True))
    order = sorted(sweep.damage, key=lambda one: -sweep.damage[one].mse_gained)
    rows = [
        {
            "knocked out": one.title,
            "PSNR lost (dB)": sweep.damage[one].psnr_lost,
            "MSE gained": sweep.damage[one].mse_gained,
            "sharpness of attention": sharp.get(one),
            **({} if study is None else {OF_TESTS: study.median_damage(one.name)}),
        }
        for one in order
    ]
    with st.expander("As a table, with layers and MLPs", icon=":material/table:"):
        table([in_words(row) for row in rows], "What each head, layer and MLP is worth")
        about = {**scene.chosen.named(scene.active), "replaced_by": words_of(scene, kind)}
        # The study has a baseline of its own.
        own = {} if study is None else {"test images replaced by": study.baseline}
        with export():
            download_report(scene)
            download_table("Ranking (CSV)", [{**about, **row, **own} for row in rows], f"{scene.stem}_heads_ranked")


def in_words(row: dict[str, Any]) -> dict[str, str]:
    """A row of the ranking as the page shows it: losses as changes, with their sign."""
    sharp = row["sharpness of attention"]
    tests = {"test median (dB)": change_of(row[OF_TESTS], 2)} if OF_TESTS in row else {}
    return {
        "ablated": row["knocked out"],
        "change of PSNR (dB)": change_of(row["PSNR lost (dB)"], 2),
        **tests,
        "MSE gained": f"{row['MSE gained']:.5f}",
        "sharpness": "–" if sharp is None else f"{sharp:.2f}",
    }
