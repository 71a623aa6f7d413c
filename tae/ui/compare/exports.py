"""A comparison to take along: figure, maps, distances."""

import streamlit as st

from tae.analysis import agreement, facts
from tae.plots.export import render
from tae.plots.export.pair import pair_figure
from tae.ui.compare.halves import Half
from tae.ui.widgets.downloads import download_arrays, download_figure, download_table, export
from tae.ui.widgets.report import download_report
from tae.web.report.request import ReportMap


def exports(a: Half, b: Half, found: agreement.Agreement | None, zmax: float) -> None:
    warning = max(a.active.warning, b.active.warning)  # of an untrained model before one of unknown origin
    stem = f"{facts.file_stem(a.chosen.title, warning)}_A_minus_B"
    about = f"A: {a.title}. B: {b.title}."
    arrays = {"a": a.weights, "b": b.weights}
    if found is not None:
        arrays |= {"difference_x_uniform": found.difference, "jensen_shannon_distance": found.distance}

    def figure(fmt: render.Format) -> bytes:
        patch = a.active.config.tile_size[0]
        caption = f"{about} Colours to {zmax:.3g} x uniform."
        return pair_figure(a.weights, b.weights, found, a.fitted.pixels, a.grid, patch, caption, zmax, fmt, warning)

    with export():
        download_report(a, ReportMap(choice=a.choice), "Report of A (HTML)")
        with st.container(horizontal=True):
            download_figure("Side by side", figure, stem)
        download_arrays("Both maps (NPZ)", arrays, stem, about)
        if found is None:
            return
        rows = [
            {"query": query, "row": query // a.grid[1], "column": query % a.grid[1], "jensen_shannon_distance": value}
            for query, value in enumerate(found.distance.tolist())
        ]
        download_table("Distance of each query (CSV)", rows, stem)
