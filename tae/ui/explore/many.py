"""Several images at once."""

import numpy as np
import streamlit as st

from tae import ui
from tae.analysis.facts import is_wide
from tae.data.decode import ImageError
from tae.data.encode import encode_png
from tae.plots.export import render, tables
from tae.plots.export.strips import strips_figure
from tae.store.names import escape_markdown, safe_name
from tae.ui.explore import windows
from tae.ui.explore.shelf import pick
from tae.ui.widgets.downloads import download, download_figure, download_table, export

PER_PAGE = 24


def all_images(active: ui.Active, own: list[ui.Chosen]) -> None:
    results: list[tuple[ui.Chosen, ui.Result]] = []
    bar = st.progress(0.0, "Reconstructing…")
    for number, chosen in enumerate(own, start=1):
        try:
            results.append((chosen, ui.reconstruct(active, chosen)))
        except ImageError as error:
            remedy = " Under **One image** it is shown window by window." if windows.is_possible(active, chosen) else ""
            st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}.{remedy}")
        bar.progress(number / len(own), f"Reconstructing… {number} of {len(own)}")
    bar.empty()
    if not results:
        return
    orders = {
        "Worst first": lambda pair: pair[1].quality.psnr,
        "Best first": lambda pair: -pair[1].quality.psnr,
        "By name": lambda pair: pair[0].title,
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.selectbox("Order", list(orders), width=180)
        pages = -(-len(results) // PER_PAGE)
        page = st.number_input("Page", 1, pages, 1, width=120) if pages > 1 else 1
    results.sort(key=orders[order])
    exports(active, results)
    st.caption("Model input, then reconstruction.")
    columns = st.columns(4)
    for number, (chosen, result) in enumerate(results[(page - 1) * PER_PAGE : page * PER_PAGE]):
        with columns[number % 4], st.container(border=True):
            st.image(
                encode_png(apart(result.fitted.pixels, result.recon)),
                width="stretch",
                alt=f"{chosen.title} and its reconstruction",
            )
            st.markdown(f"{escape_markdown(chosen.title)}  \n**{result.quality.psnr:.1f} dB**")
            st.button("Open", key=f"open_{chosen.key}", on_click=open_one, args=(chosen.key,), width="stretch")


def apart(image: np.ndarray, recon: np.ndarray) -> np.ndarray:
    """Both (H, W) in one, below or beside each other, with a grey bar between them."""
    axis = 0 if is_wide(image.shape) else 1
    shape = [*image.shape]
    shape[axis] = max(2, min(image.shape) // 30)
    return np.concatenate([image, np.full(shape, 0.6, np.float32), recon], axis)


def exports(active: ui.Active, results: list[tuple[ui.Chosen, ui.Result]]) -> None:
    """All images and reconstructions, in the order on display."""
    names = [f"{number:03}_{safe_name(chosen.title)}" for number, (chosen, _) in enumerate(results, start=1)]

    def sheet(fmt: render.Format) -> bytes:
        cells = [(one.recon, f"{chosen.title}: {one.quality.psnr:.1f} dB") for chosen, one in results[:PER_PAGE]]
        rows = [cells[start : start + 6] for start in range(0, len(cells), 6)]
        return strips_figure(rows, f"Reconstructions · {active.title}", fmt, active.warning)

    def arrays() -> bytes:
        found = {
            f"{name}_{what}": value
            for name, (_, one) in zip(names, results, strict=True)
            for what, value in (("input", one.fitted.pixels), ("reconstruction", one.recon))
        }
        return tables.maps_npz(found, caption=active.title)

    def pngs() -> bytes:
        files = {
            f"{name}_reconstruction.png": encode_png(one.recon) for name, (_, one) in zip(names, results, strict=True)
        }
        return tables.zip_files(files)

    with export():
        download_figure("Overview", sheet, "overview")
        download_table("Metrics (CSV)", [{**chosen.named(active), **one.figures} for chosen, one in results], "metrics")
        download("Arrays (NPZ)", arrays, "images.npz")
        download("Reconstructions (ZIP)", pngs, "reconstructions.zip")


def open_one(key: str) -> None:
    pick(key)
    st.session_state.reconstruct_view = "one"
