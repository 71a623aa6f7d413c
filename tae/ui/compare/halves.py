"""The two sides: what each is a map of, and questions that set both."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae.analysis import facts
from tae.analysis.maps import MapChoice
from tae.data.decode import ImageError
from tae.store.checkpoint import CheckpointError
from tae.store.names import escape_markdown, safe_name
from tae.ui.attention import measure
from tae.ui.session.images import Chosen, offered
from tae.ui.session.models import Active, checkpoint_files, load_model, model_title, twin
from tae.ui.session.results import reconstruct
from tae.ui.session.scene import Scene
from tae.ui.session.view import choose, link
from tae.ui.widgets.mapchoice import choose_map

SAME, TWIN = "same", "twin"
NAME_WIDTH = 132  # pixels, so that what is chosen of A and B stands below each other


@dataclass(frozen=True)
class Half(Scene):
    """One of the two maps."""

    choice: MapChoice  # which map
    weights: np.ndarray  # (N, N)

    @property
    def title(self) -> str:
        """A stranger's text."""
        title = f"{self.choice.title(self.active.config)} · {self.chosen.title} · {self.active.title}"
        return facts.marked(title, self.active.warning)

    def title_beside(self, other: "Half") -> str:
        """What tells the two apart, and else the map; a stranger's text."""
        own = (self.choice.title(self.active.config), self.chosen.title, self.active.title)
        others = (other.choice.title(other.active.config), other.chosen.title, other.active.title)
        unlike = [word for word, its in zip(own, others, strict=True) if word != its]
        return facts.marked(" · ".join(unlike) or own[0], self.active.warning)


def shortcuts(active: Active) -> None:
    """Questions that people come with, one click each."""
    last = str(active.config.encoder_layers - 1)
    plain = {"part": "encoder", "layer": "average", "head": "mean"}
    same = {"b_checkpoint": SAME, "b_image": SAME, "b_part": "encoder", "b_layer": "average", "b_head": "mean"}
    other = other_images(active)[0]
    questions = {
        "First, last layer": {**plain, **same, "layer": "0", "b_layer": last},
        "Encoder, decoder": {**plain, **same, "b_part": "decoder"},
        "Another image": {**plain, **same, "b_image": other},
        "Untrained model": {**plain, **same, "b_checkpoint": TWIN},
        "Mean, largest head": {**plain, **same, "layer": last, "b_layer": last, "b_head": "max"},
    }
    with st.container(horizontal=True, key="expert_questions"):
        for label, view in questions.items():
            st.button(label, on_click=st.session_state.update, args=(view,), key=f"compare_{safe_name(label)}")


def other_images(active: Active) -> list[str]:
    """What the current image can be compared with: the session's own images first."""
    offer = offered(active)
    return [key for key in (*offer.own, *offer.samples) if key != st.session_state.image]


def compare_with(active: Active) -> None:
    """A menu, on the page Explore, of what to compare the map on display with; it leads to the page Compare."""
    offer = offered(active)
    files = [key for key in checkpoint_files() if key != active.key]
    titles = {("b_image", key): offer.title(key) for key in other_images(active)}
    if not active.is_random:
        titles[("b_checkpoint", TWIN)] = "Untrained model"
    titles |= {("b_checkpoint", key): f"Checkpoint: {model_title(key)}" for key in files}
    named = list(titles.values())  # Streamlit tells options apart by what is shown
    again = {one: f" ({at + 1})" for at, (one, title) in enumerate(titles.items()) if title in named[:at]}
    st.menu_button(
        "Compare with …",
        list(titles),
        format_func=lambda one: escape_markdown(titles[one]) + again.get(one, ""),
        key="compare_with",
        icon=":material/join:",
        on_click=_pin,
    )


def _pin() -> None:
    state = st.session_state
    field, value = state.compare_with
    state.update({"b_checkpoint": SAME, "b_image": SAME, field: value})
    state.update({f"b_{name}": state[name] for name in ("part", "layer", "head")})
    st.switch_page("pages/compare.py", query_params=link("Compare"))


def half_a(active: Active, chosen: Chosen) -> Half | None:
    st.markdown("**A**: current image", width=NAME_WIDTH)
    return complete(active, chosen, "")


def half_b(active: Active, chosen: Chosen) -> Half | None:
    """Whatever is not chosen is that of A; to begin with, the last layer."""
    state = st.session_state
    st.markdown("**B**", width=NAME_WIDTH)
    maps = st.container(width="content")
    files = [key for key in checkpoint_files() if key != active.key]
    others = [*files, *(key for key in (*state.uploaded_models, *state.untrained) if key != active.key)]
    named = {SAME: "The same checkpoint", TWIN: "Untrained model"}
    key = choose(
        "b_checkpoint",
        st.selectbox,
        "Checkpoint",
        [SAME, *([] if active.is_random else [TWIN]), *others],
        format_func=lambda key: named.get(key) or model_title(key),
        width=186,
    )
    try:
        other = active if key == SAME else twin(active) if key == TWIN else load_model(key)
    except (CheckpointError, OSError, KeyError) as error:  # or gone since it was listed
        st.error(f"{escape_markdown(model_title(key))}: {escape_markdown(str(error))}")
        return None
    offer = offered(other)
    image = choose(
        "b_image",
        st.selectbox,
        "Image",
        [SAME, *offer.own, *offer.samples],
        format_func=lambda key: "The same image" if key == SAME else offer.title(key),
        width=186,
    )
    shown = chosen if image == SAME else offer[image]
    if not state.b_layer:
        state.b_layer = str(other.config.encoder_layers - 1)
    with maps:
        return complete(other, shown, "b_")


def complete(active: Active, chosen: Chosen, prefix: str) -> Half | None:
    """The rest of one side's controls, and its map; None, and a sentence, where there is no map to see."""
    choice = choose_map(active.config, prefix)
    try:
        scene = Scene(active, chosen, reconstruct(active, chosen).fitted)
    except ImageError as error:
        st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}")
        return None
    if scene.num_tokens == 1:
        st.info(f"{facts.ONE_TOKEN}: there is nothing to compare.")
        return None
    if scene.num_tokens**2 * 4 > measure.MAX_MAP_BYTES / 4:
        st.error(f"A map of {scene.num_tokens} patches is too large to compare; choose a narrower image.")
        return None
    return Half(active, chosen, scene.fitted, choice, measure.one_map(scene, choice).weights)
