"""Choices that the sections of the page Ablation share: the images, the model, the baselines."""

import streamlit as st

from tae.data.fit import fit_image
from tae.ui.causal import measure
from tae.ui.causal.measure import BASELINES, COVERS, PairScene
from tae.ui.session.images import Chosen, Offer, offered
from tae.ui.session.models import Active, twin
from tae.ui.session.results import fit_mode
from tae.ui.session.scene import Scene
from tae.ui.session.view import checked, choose


def plain_pair(scene: Scene) -> PairScene:
    """The page's scene and the link's image that lends, without controls, or the first that can."""
    offer, keys = lenders(scene)
    other = st.session_state.other
    return beside(scene, scene.active, offer[other if other in keys else keys[0]])


def lenders(scene: Scene) -> tuple[Offer, list[str]]:
    """The images on offer, and the keys of those that can lend."""
    offer = offered(scene.active)
    return offer, [key for key in (*offer.samples, *offer.own) if key != scene.chosen.key]


def beside(scene: Scene, active: Active, other: Chosen) -> PairScene:
    fitted = fit_image(
        other.image.pixels, scene.fitted.pixels.shape, fit_mode(active, other.image.pixels, other.digest)
    )
    return PairScene(active, scene.chosen, scene.fitted, other.title, fitted)


def pair_of(scene: Scene) -> PairScene:
    """The page's scene: the sidebar's model and image, or the model's twin, and the image that lends."""
    active = scene.active
    offer, keys = lenders(scene)
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_causal"):
        key = choose(
            "other",
            st.selectbox,
            "The other image",
            keys,
            format_func=offer.title,
            width=260,
            help="It lends its attention, its heads and its patches wherever those of another image are put in.",
        )
        is_twin = not active.is_random and switch(
            "twin", "Untrained model", "The same page with an untrained model of the same shape, for comparison."
        )
    if is_twin:
        active = twin(active)
        st.error("**Untrained twin.** Everything below is of a model with random weights.", icon=":material/warning:")
    return beside(scene, active, offer[key])


def switch(field: str, label: str, explanation: str) -> bool:
    """A toggle that is bound to a field of the view, "on" or empty."""
    state = st.session_state
    key = f"choose_{field}"
    state[key] = checked(field, ["", "on"]) == "on"

    def keep() -> None:
        state[field] = "on" if state[key] else ""

    return st.toggle(label, key=key, on_change=keep, help=explanation)


def choose_baseline() -> str:
    return choose(
        "baseline",
        st.segmented_control,
        "Ablate to",
        BASELINES,
        help="Mean: over test images, which keeps what does not depend on the image. Zero: the contribution is gone. Resample: "
        "the other image's, which keeps its kind and mixes up its content.",
    )


def choose_cover() -> str:
    return choose(
        "cover",
        st.segmented_control,
        "What covers a patch",
        COVERS,
        help="Whatever covers a patch is something that the model did not see in training: compare several.",
    )


def words_of(scene: PairScene, kind: str) -> str:
    """A baseline in words; holds a stranger's text."""
    words = {"zero": "zero", "mean": f"its mean over {measure.MEAN_OVER} test images"}
    return words.get(kind, f"what it adds for “{scene.other_title}”")


def no_study(scene: PairScene) -> None:
    if not scene.active.is_random:
        st.caption(
            "These are of one image. `python -m tae.causal --checkpoint <file>` measures the same over a test set; the "
            "page shows its figures where they lie beside the checkpoint."
        )
