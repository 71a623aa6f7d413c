"""How alike all states of the network are over test images: a matrix of CKA."""

import numpy as np
import streamlit as st

from tae.analysis import facts
from tae.analysis.cka import Cka, cka
from tae.plots.export import render
from tae.plots.export.glance import matrix_figure
from tae.plots.glance import plot_alike
from tae.ui.session.models import Active
from tae.ui.session.results import pass_seconds
from tae.ui.session.verdicts import test_images, usual_width
from tae.ui.session.view import choose
from tae.ui.session.work import Progress, measured
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import chart, drawn
from tae.ui.widgets.downloads import download_arrays, download_figure, download_table, export

IMAGES = 256
TOKENS = {"all": "All tokens", "mean": "Mean over tokens"}


def alike(active: Active) -> None:
    prose("How alike the [[states]] of the network are over test images, turned and scaled as fits best ([[CKA]]).")
    found = _find(active)
    if found is None:
        return
    tokens = choose(
        "tokens",
        st.segmented_control,
        "A state is",
        TOKENS,
        help="All tokens of an image side by side, or their mean, which is what the latent is made of and says nothing of where "
        "things are. CKA is ruled by the directions in which states vary most (Davari 2023).",
    )
    one = found[tokens]
    breaks = [one.names.index("latent"), one.names.index("latent") + 1]
    chart(
        drawn(plot_alike, one.value, one.names, said_of(one), breaks),
        "layers_alike",
        f"CKA of all states: {strongest(one)}",
    )
    told = (
        f"Linear CKA, unbiased (Kornblith 2019, Nguyen 2021), of {one.num_images} test images; standard error at most "
        f"{most(one.error)}. Control: states of other images reach at most {most(one.control)}."
    )
    st.caption(facts.marked(told, active.warning))
    with export():
        _exports(active, one, tokens)


def most(values: np.ndarray) -> str:
    """The largest, either way."""
    finite = np.abs(values[np.isfinite(values)])
    return f"{finite.max():.3f}" if len(finite) else "unknown"


def said_of(one: Cka) -> list[list[str]]:
    """What the pointer tells of each cell."""
    return [
        [
            f"{first}<br>{second}<br>CKA {one.value[i, j]:.3f}, standard error {one.error[i, j]:.3f}<br>"
            f"other images {one.control[i, j]:z.3f}"
            for j, second in enumerate(one.names)
        ]
        for i, first in enumerate(one.names)
    ]


def strongest(one: Cka) -> str:
    """The two states next to each other, on the way of an image, that are least alike."""
    steps = one.value.diagonal(1)
    if np.isnan(steps).all():
        return "no state varies"
    at = int(np.nanargmin(steps))
    return f"least alike from one to the next are {one.names[at]} and {one.names[at + 1]}, {steps[at]:.2f}"


def _find(active: Active) -> dict[str, Cka] | None:
    model, config = active.loaded.model, active.config

    def compute(progress: Progress) -> dict[str, Cka]:
        return cka(model, test_images(active, usual_width(config), IMAGES), progress)

    words = f"Comparing the states of {IMAGES} test images"
    return measured(
        "cka",
        f"{active.loaded.digest}|{IMAGES}",
        words,
        lambda: 2 * IMAGES * pass_seconds(config),
        compute,
        lasting=active.lasts and dict[str, Cka],
    )


def _exports(active: Active, one: Cka, tokens: str) -> None:
    stem = f"cka_{tokens}_tokens"
    about = (
        f"{active.title} · linear CKA, unbiased, of {one.num_images} test images · a state is: {TOKENS[tokens].lower()}"
    )

    def figure(fmt: render.Format) -> bytes:
        return matrix_figure(one.value, one.names, "CKA", about, fmt, active.warning)

    download_figure("CKA", figure, stem)
    arrays = {"cka": one.value, "standard_error": one.error, "control": one.control, "states": np.array(one.names)}
    download_arrays("CKA (NPZ)", arrays, stem, about)
    rows = [
        {
            "model": active.title,
            "origin": active.loaded.card.origin,
            "tokens": tokens,
            "images": one.num_images,
            "state": first,
            "other_state": second,
            "cka": one.value[i, j],
            "standard_error": one.error[i, j],
            "control_other_images": one.control[i, j],
        }
        for i, first in enumerate(one.names)
        for j, second in enumerate(one.names)
    ]
    download_table("CKA (CSV)", rows, stem)
