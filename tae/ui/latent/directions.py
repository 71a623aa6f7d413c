"""Directions: the image's latent moved along the principal components of the test set."""

import re

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tae.analysis.latent import Pca, dimensions_for
from tae.analysis.numbers import percent, signed
from tae.data.encode import encode_png
from tae.plots.causal import plot_change
from tae.plots.export.strips import strips_figure
from tae.ui.latent import measure
from tae.ui.latent.between import three
from tae.ui.latent.measure import SpaceScene
from tae.ui.session.view import write_link
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import image_chart
from tae.ui.widgets.downloads import download, download_arrays, export

SLIDERS = 8


@st.fragment
def directions(scene: SpaceScene) -> None:
    pca = measure.layout(scene.active, scene.tests, "pca").pca
    count = min(SLIDERS, len(pca.variances))
    own = pca.scores(scene.latent[None])[0]
    ranges = [
        (float(np.floor(min(pca.low[one], own[one])) - 1), float(np.ceil(max(pca.high[one], own[one])) + 1))
        for one in range(count)
    ]
    asked = read_scores(st.session_state.scores, count)
    wanted = {one: min(ranges[one][1], max(ranges[one][0], score)) for one, score in asked.items()}
    st.session_state.scores = write_scores(wanted)
    moved = pca.moved(scene.latent, wanted)
    plain, changed = scene.draw(np.array([scene.latent, moved.astype(np.float32)]))
    prose(
        "Move the image along the [[principal components]] of the test images' latents, and see what the "
        "decoder draws there."
    )
    if scene.is_wide:
        images, *places = st.container(), *st.columns(2)
    else:
        with st.container(key="latent_columns"):
            images, *places = st.columns([3, 2])
    spread = [place for place in places for _ in range(-(-count // len(places)))]
    sliders(pca, own, wanted, ranges, spread[:count])
    with images:
        first, second, third = three(scene)
        for cell, title, pixels in ((first, "Reconstruction", plain), (second, "With the sliders", changed)):
            with cell:
                st.markdown(f"**{title}**")
                st.image(encode_png(pixels), width="stretch", alt=title)
        with third:
            st.markdown("**What changed**")
            figure = plot_change(changed - plain)
            image_chart(figure, "latent_change", "Signed difference of the two images on colours centred on zero")
        moved_to = [one for one in pca.beyond(pca.scores(moved[None], count)[0]) if one in wanted]
        warn_outside(moved_to, pca.beyond(own[: dimensions_for(pca.variances, 0.95)]))
        st.caption(
            f"Principal directions of {pca.num_images} test images, the strongest first; numbers are standard deviations "
            "of these from their mean. Directions are of variance, not of meaning: one that looks like a single property "
            "may change others too."
        )
        told = ", ".join(f"component {one + 1} at {signed(score)}" for one, score in wanted.items()) or "nothing moved"
        about = f"{scene.about} · {told}"
        arrays = {"latent": scene.latent, "moved": moved, "reconstruction": plain, "picture": changed}
        st.button(
            "Reset", icon=":material/restart_alt:", disabled=not wanted, on_click=reset_scores, key="latent_reset"
        )
        with export():
            download(
                "Both images (PNG)",
                lambda: strips_figure(
                    [[(plain, "reconstruction"), (changed, "moved")]], about, "png", scene.active.warning
                ),
                f"{scene.stem}_directions.png",
            )
            download_arrays("Images and latents (NPZ)", arrays, f"{scene.stem}_directions", about)
    write_link()


def sliders(
    pca: Pca, own: np.ndarray, wanted: dict[int, float], ranges: list[tuple[float, float]], places: list[DeltaGenerator]
) -> None:
    """One in each place, for the strongest directions; one that nobody moved stands at the image's own score."""
    state = st.session_state
    shares = pca.variances / pca.variances.sum()
    for one, (place, (least, most)) in enumerate(zip(places, ranges, strict=True)):
        key = f"latent_direction_{one}"
        state[key] = wanted.get(one, round(float(own[one]), 1))
        place.slider(
            f"Component {one + 1}: {percent(shares[one])} of the variance" + (" · moved" if one in wanted else ""),
            least,
            most,
            step=0.1,
            format="%+.1f",
            key=key,
            on_change=keep_score,
            args=(one, key, len(places)),
            help=f"The image's own: {signed(own[one], 2)}. Test images: {signed(pca.low[one])} to {signed(pca.high[one])}.",
        )


def keep_score(one: int, key: str, count: int) -> None:
    scores = read_scores(st.session_state.scores, count)
    st.session_state.scores = write_scores({**scores, one: st.session_state[key]})


def reset_scores() -> None:
    st.session_state.scores = ""


def read_scores(text: str, count: int) -> dict[int, float]:
    """A link's {direction: score}, such as "0:1.5,3:-2.0"; what is no such thing is left out."""
    found = re.findall(r"(?:^|,)([0-9]{1,3}):(-?[0-9]{1,3}(?:\.[0-9])?)(?=,|$)", text, re.ASCII)
    return {int(one): float(score) for one, score in found if int(one) < count}


def write_scores(scores: dict[int, float]) -> str:
    return ",".join(f"{one}:{score:.1f}" for one, score in sorted(scores.items()))


def warn_outside(moved_to: list[int], own: list[int]) -> None:
    """Warn where the decoder draws what no test image has: directions in which it was moved beyond every test image.

    `own` are those, of the ones that hold most of the variance, in which the image itself lies beyond them.
    """
    if moved_to:
        st.warning(
            f"**Outside the test set** in {components(moved_to)}: no test image lies so far out, and the decoder is on its "
            "own there.",
            icon=":material/explore_off:",
        )
    if own:
        st.info(
            f"The image itself lies beyond every test image in {components(own)}: it is unlike all of them.",
            icon=":material/explore_off:",
        )


def components(numbers: list[int]) -> str:
    """In words, such as "component 3" and "components 1, 4 and 9 others"."""
    first = ", ".join(str(number + 1) for number in numbers[:8])
    more = f" and {len(numbers) - 8} others" if len(numbers) > 8 else ""
    return f"component{'s' * (len(numbers) > 1)} {first}{more}"
