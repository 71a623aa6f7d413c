"""Between two images: the way from one latent to the other, and what the decoder draws on it."""

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tae.analysis.latent import interpolation_gif, neighbours
from tae.data.encode import encode_png
from tae.data.fit import fit_image
from tae.plots.export.strips import strips_figure
from tae.store.names import escape_markdown, safe_name
from tae.ui.latent import measure
from tae.ui.latent.measure import FRAMES, SpaceScene
from tae.ui.session.images import Chosen, offered
from tae.ui.session.results import fit_mode
from tae.ui.session.view import choose, write_link
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.downloads import download, download_arrays, download_figure, export

PATH_NAMES = {"linear": "Straight", "spherical": "Along the sphere"}
POSITIONS = [str(round(100 * number / (FRAMES - 1))) for number in range(FRAMES)]


def between(scene: SpaceScene) -> None:
    offer = offered(scene.active)
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_latent_between"):
        key = choose(
            "other",
            st.selectbox,
            "To the image",
            [key for key in (*offer.samples, *offer.own) if key != scene.chosen.key],
            format_func=offer.title,
            width=260,
        )
        path = choose(
            "path",
            st.segmented_control,
            "Way",
            PATH_NAMES,
            help="Straight: every number changes evenly. Along the sphere: the direction turns evenly, and so does the "
            "length, which keeps it as far from the middle as images are (White 2016).",
        )
    other = offer[key]
    try:
        # At the same size, or the images between would have none.
        end = fit_image(
            other.image.pixels, scene.fitted.pixels.shape, fit_mode(scene.active, other.image.pixels, other.digest)
        )
        points, frames = measure.way(scene.active, scene.fitted, end, path)
    except ValueError as error:
        st.error(f"There is no such way: {escape_markdown(str(error))}")
        return
    walk(scene, other, points, frames, path)


@st.fragment
def walk(scene: SpaceScene, other: Chosen, points: np.ndarray, frames: np.ndarray, path: str) -> None:
    place = choose("at", st.select_slider, "Where on the way", POSITIONS, format_func=lambda share: f"{share}%")
    at = POSITIONS.index(place)
    titles = (f"{scene.chosen.title}, reconstructed", f"{place}% of the way", f"{other.title}, reconstructed")
    for cell, title, number in zip(three(scene), titles, (0, at, FRAMES - 1), strict=True):
        with cell:
            st.image(encode_png(frames[number]), width="stretch", alt=title)
            st.markdown(escape_markdown(title))
    _, distances = neighbours(points[at][None], scene.tests.latents, 1)
    usual = measure.usual_distance(scene.active, scene.tests, "euclidean")
    far = (
        f"The nearest test image is {distances[0, 0] / usual:.1f} times as far from here as test images are from each other "
        "(median of nearest)."
        if usual
        else "Most test images share their latent with another: how far the nearest is says little."
    )
    st.caption(f"{PATH_NAMES[path]}, {place}% of the way. {far} No image need exist for a point between two.")
    few = list(range(0, FRAMES, (FRAMES - 1) // 5))
    with st.container(horizontal=not scene.is_wide, gap="small"):
        for number in few:
            with st.container(width="stretch", gap="xsmall"):
                st.image(encode_png(frames[number]), width="stretch", alt=f"{POSITIONS[number]}% of the way")
                st.caption(f"{POSITIONS[number]}%")
    stem = f"{scene.stem}_to_{safe_name(other.title)}_{path}"
    about = f"{scene.about} · {PATH_NAMES[path].lower()} to {other.title}"
    row = [(frames[number], f"{POSITIONS[number]}%") for number in few]
    with export():
        download("Animation (GIF)", lambda: interpolation_gif(frames), f"{stem}.gif")
        download_figure("Strip", lambda fmt: strips_figure([row], about, fmt, scene.active.warning), stem)
        download_arrays("Images and latents (NPZ)", {"frames": frames, "latents": points}, stem, about)
    write_link()


def three(scene: SpaceScene) -> list[DeltaGenerator]:
    """Places for three images: beside each other, however narrow the window, unless they are wide."""
    if scene.is_wide:
        return panels(scene.fitted.pixels, 3)
    row = st.container(horizontal=True)
    return [row.container(width="stretch") for _ in range(3)]
