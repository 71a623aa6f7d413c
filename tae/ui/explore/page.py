"""The page from top to bottom, in one fragment: what a click changes is drawn anew without the sidebar."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tae import ui
from tae.model.config import PARTS
from tae.ui.attention.explore import badges, has_maps, pinned
from tae.ui.causal.controls import plain_pair
from tae.ui.compare.halves import compare_with
from tae.ui.explore import shelf, windows
from tae.ui.explore.closer import look_closer
from tae.ui.explore.exports import exports, plain_exports
from tae.ui.explore.many import all_images
from tae.ui.explore.plain import plain_image
from tae.ui.explore.stage import ablated, losses, stage
from tae.ui.explore.verdict import facts_line, measures, next_steps, origin, verdict


def explore(active: ui.Active, chosen: ui.Chosen) -> None:
    _explore(active, chosen, asked())


def asked() -> tuple[str, str]:
    return st.session_state.checkpoint, st.session_state.image


@st.fragment
def _explore(active: ui.Active, chosen: ui.Chosen, begun_with: tuple[str, str]) -> None:
    if asked() != begun_with:
        st.rerun()  # another was chosen in here, which the sidebar has to hear of
    menu_place = ui.heading("Explore")
    with st.container(horizontal=True, vertical_alignment="top", key="expert_shelf"):
        with st.container(width=210, gap="xsmall"):
            shelf.drop_zone()
            shelf.removal()
        with st.container(key="shelf", height=shelf.HEIGHT, border=False):
            thumbnails = st.container()
    shelf.problems()
    own = ui.uploaded()
    view = "one"
    if len(own) > 1:
        st.session_state.setdefault("reconstruct_view", view)
        view = st.segmented_control(
            "View",
            ["one", "all"],
            format_func=lambda view: "One image" if view == "one" else f"All of yours ({len(own)})",
            required=True,
            key="reconstruct_view",
            persist_state="session",
            label_visibility="collapsed",
        )
    if view == "all":
        all_images(active, own)
    elif windows.by_window(active, chosen):
        steps = windows.show(active, chosen, origin(chosen))
        if steps is not None:
            with steps:
                next_steps(active, chosen)
    else:
        one_image(active, chosen, menu_place)
    with thumbnails:
        shelf.shelf(active, chosen)
    ui.write_link()


def one_image(active: ui.Active, chosen: ui.Chosen, menu_place: DeltaGenerator) -> None:
    scene = ui.scene_or_stop(active, chosen)
    result = ui.reconstruct(active, chosen)
    if not has_maps(scene):
        plain_image(active, result)
        plain_exports(active, chosen, result)
        verdict(active, result)
        facts_line(chosen, result)
        measures(active, result)
        return
    pair = plain_pair(scene)
    changes = ablated(pair)
    with st.container(horizontal=True, vertical_alignment="center", key="explore_verdict"):
        fails = verdict(active, result, is_ablated=bool(changes))
        steps = st.container(width="content") if fails else None
    staged = stage(scene, pair, changes)
    if not active.is_random:
        ui.verdicts(active, [ui.checked("part", PARTS)])
    with menu_place:
        compare_with(active)
    exports(staged)
    facts_line(chosen, result)
    badges(scene, staged.shown)
    pinned(staged.shown)
    look_closer(staged)
    losses(staged)
    if steps is not None:
        with steps:
            next_steps(active, chosen)
