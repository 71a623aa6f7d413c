"""Ask a region: a box on the reconstruction, and which patches of the image produce it."""

import math
import re

import numpy as np
import streamlit as st

from tae.analysis.causal.occlusion import Box, foreground_tokens
from tae.analysis.causal.predictors import spearman
from tae.analysis.numbers import percent
from tae.plots.causal import PatchMap, plot_box, plot_patch_maps, selected_box
from tae.ui.causal import measure
from tae.ui.causal.controls import choose_cover
from tae.ui.causal.measure import COVERS, PairScene
from tae.ui.session.results import as_batch, reconstruct
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import chosen_in, image_chart
from tae.ui.widgets.downloads import download_arrays, export
from tae.ui.widgets.report import download_report

WAYS = ("gradient", "occlusion", "relevance")
"""By which each patch of the image has a number."""


def ask_a_region(scene: PairScene) -> None:
    prose(
        "**Draw a box on the reconstruction**: which patches of the image produce it? By gradient: what a small change of "
        "each patch would do. By occlusion: what covering the patch does. By [[relevance]]: whose attention leads there."
    )
    name = choose_cover()
    image, recon = scene.fitted.pixels, reconstruct(scene.active, scene.chosen).recon
    box = box_of(scene) or first_box(scene)
    left, right = (st.container(), st.container()) if scene.is_wide else st.columns([1, 2])
    with left:
        alt = "The reconstruction, with the box that is asked about"
        drawn = chosen_in(
            plot_box(recon, box), "causal_box", alt, lambda selection: selected_box(selection, image.shape), mode="box"
        )
        if drawn is not None:
            set_box(*drawn)
            st.rerun()
        box_sliders(scene, box)
    with right:
        found = measure.find_region(scene, box, name)
        if found is None:
            return
        maps = [
            PatchMap("by gradient", found["gradient"], "ink"),
            PatchMap("by occlusion", found["occlusion"], "squared change"),
            PatchMap("by relevance, encoder", found["relevance"], "relevance"),
            PatchMap("by relevance, decoder", found["decoder"], "relevance"),
        ]
        figure = plot_patch_maps(image, maps, scene.grid, scene.config.tile_size[0], box)
        alt = "How much each patch of the image adds to the box, by gradient, by occlusion and by relevance"
        image_chart(figure, "causal_region", alt, tools=True)
    inside = under_box(scene, box)
    maps_of_patches = {how: found[how] for how in WAYS}
    shares = {
        how: float(one[inside].sum() / one.sum()) if one.sum() > 0 else math.nan for how, one in maps_of_patches.items()
    }
    if math.isfinite(shares["gradient"] + shares["occlusion"]):
        # Blank patches add nothing by either, ties that would pass for agreement.
        tokens = foreground_tokens(as_batch(scene.fitted), scene.config).numpy()
        agree = {how: spearman(found[how][tokens], found["occlusion"][tokens]) for how in ("gradient", "relevance")}
        same = " and ".join(f"with {how} at {value:.2f}" for how, value in agree.items() if math.isfinite(value))
        same = (
            f" Over the {len(tokens)} patches that are not blank, occlusion agrees {same} (rank correlation)."
            if same
            else ""
        )
        hold = ", ".join(f"**{percent(share)}** by {how}" for how, share in shares.items() if math.isfinite(share))
        st.markdown(
            f"The {inside.sum()} patches under the box hold, of all that patches add, {hold}; the rest comes from elsewhere in "
            f"the image.{same}"
        )
    else:
        st.info("Nothing in the image changes this box: choose another box, or another cover.")
    told = (
        f"Box: {box_title(box)}. Covered with: {COVERS[name].lower()}. Gradient x input, absolute; effects of single patches do "
        "not add up exactly. Relevance: of each patch for the latent, of the decoder’s positions for those under the box; no "
        "relevance passes the latent, only its gradient. Each map has its own colours, from 0 to its largest value."
    )
    st.caption(told)
    arrays = {**found, "box": np.array(box), "reconstruction": recon}
    with export():
        download_report(scene)
        download_arrays("Box and maps (NPZ)", arrays, f"{scene.stem}_region", f"{scene.about} · {told}")


def box_title(box: Box) -> str:
    return f"rows {box.top} to {box.bottom - 1}, columns {box.left} to {box.right - 1}"


def first_box(scene: PairScene) -> Box:
    """Where nobody has drawn one: the 3 x 3 patches around the darkest."""
    height, width = scene.fitted.pixels.shape
    tile_height, tile_width = scene.config.tile_size
    rows, columns = scene.grid
    padded = np.ones((rows * tile_height, columns * tile_width))
    padded[:height, :width] = scene.fitted.pixels
    greys = padded.reshape(rows, tile_height, columns, tile_width).mean(axis=(1, 3))
    row, column = divmod(int(greys.argmin()), columns)
    top, left = max(0, row - 1) * tile_height, max(0, column - 1) * tile_width
    return Box(top, left, min(height, (row + 2) * tile_height), min(width, (column + 2) * tile_width))


def box_sliders(scene: PairScene, box: Box) -> None:
    """The same box without a pointer."""
    height, width = scene.fitted.pixels.shape
    state = st.session_state
    state.causal_rows, state.causal_columns = (box.top, box.bottom), (box.left, box.right)

    def keep() -> None:
        (top, bottom), (left, right) = state.causal_rows, state.causal_columns
        set_box(min(top, height - 1), min(left, width - 1), max(bottom, top + 1), max(right, left + 1))

    st.slider("Rows", 0, height, key="causal_rows", on_change=keep)
    st.slider("Columns", 0, width, key="causal_columns", on_change=keep)


def set_box(top: int, left: int, bottom: int, right: int) -> None:
    st.session_state.box = f"{top}-{bottom}x{left}-{right}"


def under_box(scene: PairScene, box: Box) -> np.ndarray:
    """(N,) bool: the patches that a box touches."""
    tile_height, tile_width = scene.config.tile_size
    rows, columns = (np.arange(count) for count in scene.grid)
    is_row = (rows * tile_height < box.bottom) & ((rows + 1) * tile_height > box.top)
    is_column = (columns * tile_width < box.right) & ((columns + 1) * tile_width > box.left)
    return (is_row[:, None] & is_column).ravel()


def box_of(scene: PairScene) -> Box | None:
    """The link's box, where it lies inside the image."""
    height, width = scene.fitted.pixels.shape
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})x([0-9]{1,5})-([0-9]{1,5})", st.session_state.box, re.ASCII)
    if found:
        top, bottom, left, right = map(int, found.groups())
        if top < bottom <= height and left < right <= width:
            return Box(top, left, bottom, right)
    st.session_state.box = ""
    return None
