"""Downloads: the reconstruction, its error, and the maps on display."""

import streamlit as st

from tae import ui
from tae.analysis import facts
from tae.data.encode import encode_png
from tae.plots.export import figures, render, tables
from tae.ui.attention.exports import exports as map_exports
from tae.ui.explore.stage import Staged
from tae.ui.session.scene import Scene
from tae.ui.widgets.downloads import download_files, export
from tae.ui.widgets.report import download_report


def exports(staged: Staged) -> None:
    with export():
        map_exports(staged.scene, staged.shown)
        reconstruction(staged.scene.active, staged.scene.chosen, staged.plain)


def plain_exports(active: ui.Active, chosen: ui.Chosen, result: ui.Result) -> None:
    """The same where there is no map."""
    with export():
        download_report(Scene(active, chosen, result.fitted))
        reconstruction(active, chosen, result)


def reconstruction(active: ui.Active, chosen: ui.Chosen, result: ui.Result) -> None:
    name = facts.file_stem(chosen.title, active.warning)
    image, recon = result.fitted.pixels, result.recon
    caption = facts.marked(f"{chosen.title} · {active.title} · PSNR {result.quality.psnr:.2f} dB", active.warning)

    def comparison(fmt: render.Format) -> bytes:
        return figures.comparison_figure(image, recon, caption, fmt, warning=active.warning)

    arrays = {"image": image, "reconstruction": recon, "error": recon - image}
    files = {
        "image.png": ("", lambda: encode_png(image)),
        "reconstruction.png": ("Reconstruction (PNG)", lambda: encode_png(recon)),
        "error.png": (
            "Error (PNG)",
            lambda: figures.error_figure(image, recon, caption, "png", warning=active.warning),
        ),
        "comparison.png": ("Side by side (PNG)", lambda: comparison("png")),
        "comparison.svg": ("Side by side (SVG)", lambda: comparison("svg")),
        "comparison.pdf": ("Side by side (PDF)", lambda: comparison("pdf")),
        "arrays.npz": ("", lambda: tables.maps_npz(arrays, caption=caption)),
        "metrics.csv": (
            "",
            lambda: tables.metrics_csv([{**chosen.named(active), **result.figures}]),
        ),
    }
    with st.container(horizontal=True):
        download_files(name, files)
