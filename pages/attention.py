"""The page Attention: where each layer and head places weight, under the pointer and in numbers."""

import streamlit as st

from tae import ui
from tae.model.config import PARTS
from tae.plots.maps import Region
from tae.ui.attention.cause import against_cause
from tae.ui.attention.controls import STYLE, settings
from tae.ui.attention.explore import Shown, badges, explorer_panel, has_maps, pinned
from tae.ui.attention.exports import exports, how_to_read
from tae.ui.attention.heatmap import heatmap
from tae.ui.attention.numbers import in_numbers
from tae.ui.attention.overview import overview

SECTIONS = {"overview": "All layers and heads", "heatmap": "Heatmap", "numbers": "In numbers", "cause": "Ablate it"}


def main() -> None:
    active, chosen = ui.setup("Attention", STYLE)
    st.title("Attention")
    ui.prose(
        "Each [[patch]] of the image gathers information from the others. **Move the pointer over the image** to see "
        "where that patch, the [[query]], places [[weight]], and on which others, its [[keys]], in multiples of the uniform "
        "weight ([[x uniform]]); click to pin it. Each [[layer]] does so in several [[heads]]; [[rollout]] chains the layers. "
        "Weight is not importance: it says what was read, not what it was good for."
    )
    scene = ui.scene_or_stop(active, chosen)
    if has_maps(scene):
        explore(scene)
    else:
        ui.write_link()


@st.fragment
def explore(scene: ui.Scene) -> None:
    if not scene.active.is_random:
        ui.verdicts(scene.active, [ui.checked("part", PARTS)])
    with st.container(key="attention_panels"):
        left, right = st.columns(2) if not scene.is_wide else (st.container(), st.container())
    with left:
        shown = explorer_panel(scene)
        badges(scene.active, shown)
        pinned(shown)
    with right:
        look_closer(scene, shown)
    settings(shown.choice)
    with st.container(key="expert_exports"):
        exports(scene, shown)
        how_to_read()
    ui.write_link()


def look_closer(scene: ui.Scene, shown: Shown) -> None:
    whole = Region.whole(len(shown.weights))
    region = Region.from_text(st.session_state.region, len(shown.weights))
    st.session_state.region = "" if region == whole else region.to_text()
    section = ui.choose("section", st.segmented_control, "Look closer", SECTIONS, label_visibility="collapsed")
    if section == "overview":
        overview(scene, shown)
    elif section == "heatmap":
        heatmap(scene, shown, region)
    elif section == "numbers":
        in_numbers(scene, shown)
    else:
        against_cause(scene, shown)


main()
