"""Edit a layer's attention: its temperature, patches masked, rows or tokens of another image, other weights."""

import re
from functools import partial

import streamlit as st

from tae.analysis.causal.interventions import WEIGHTS, Edit, Intervention, check, runs_from_text, runs_to_text
from tae.model.config import PARTS
from tae.store.names import escape_markdown
from tae.ui.causal.history import held, set_changes
from tae.ui.causal.measure import PairScene
from tae.ui.widgets.patches import choose_patches

EDITS = {
    "temperature": "Temperature",
    "mask": "Mask patches",
    "rows": "Rows of the other image",
    "tokens": "Tokens of the other image",
    "weights": "Other weights",
}
PATCHES = {
    "mask": "**Patches that no query reads**",
    "rows": "**Queries that place their weights as in the other image**",
    "tokens": "**Patches that enter the layer as the other image's**",
}
"""Edits that are about some patches, and which."""


def edits(scene: PairScene, active: tuple[Intervention, ...]) -> None:
    """Changes of a layer's attention that ablate nothing as a whole."""
    state = st.session_state
    places = [f"{part}/{layer}" for part in PARTS for layer in range(scene.config.num_layers(part))]
    first = next((one for one in active if isinstance(one, Edit)), None)
    # Once open it stays so: it would close under the pointer that takes the last patch out.
    state.causal_edit_open = state.get("causal_edit_open", False) or first is not None
    with st.expander("Edit a layer's attention", icon=":material/tune:", expanded=state.causal_edit_open):
        if state.get("causal_edit_place") not in places:  # of a model with more layers
            state.pop("causal_edit_place", None)
        if first is not None:  # a link's edit is on display
            state.setdefault("causal_edit_place", f"{first.part}/{first.layer}")
            state.setdefault("causal_edit_kind", first.kind)
        place = st.selectbox("Layer", places, format_func=layer_title, key="causal_edit_place", persist_state="session")
        kind = st.selectbox(
            "Change", list(EDITS), format_func=lambda kind: EDITS[kind], key="causal_edit_kind", persist_state="session"
        )
        key = f"causal_edit_{kind}"
        found = next((one for one in active if isinstance(one, Edit) and one.name.startswith(f"{place}/{kind}=")), None)
        problem = state.pop("causal_edit_problem", "")
        if kind == "temperature":
            state[key] = found.temperature if found else 1.0
            st.slider(
                "Below 1 sharpens the weights, above 1 flattens them",
                min(0.1, state[key]),  # a link may hold what lies beyond
                max(5.0, state[key]),
                step=0.1,
                key=key,
                on_change=apply_widget,
                args=(scene, place, kind, key),
            )
        elif kind == "weights":
            state[key] = str(found.value) if found else "own"
            st.selectbox("Weights", ["own", *WEIGHTS], key=key, on_change=apply_widget, args=(scene, place, kind, key))
        else:
            if not problem:  # what was refused stays, to be mended
                state[key] = in_words(found)
            edit_of_patches(scene, place, kind, found)
        if problem:
            st.error(escape_markdown(problem))
        for one in active:
            if isinstance(one, Edit):
                st.button(
                    one.title,
                    key=f"causal_remove_{one.part}_{one.layer}_{one.kind}",
                    icon=":material/close:",
                    type="tertiary",
                    on_click=remove_edit,
                    args=(one.part, one.layer, one.kind),
                    help="Take this edit back",
                )


def edit_of_patches(scene: PairScene, place: str, kind: str, found: Edit | None) -> None:
    """Patches chosen on the image or by their numbers; every choice holds at once."""
    key = f"causal_edit_{kind}"
    everything = tuple(range(scene.num_tokens))
    chosen = () if found is None else tuple(found.tokens) or everything
    st.markdown(PATCHES[kind])
    st.caption("Click a patch to choose it or to let it go. Draw a box to choose several; with Shift it lets them go.")
    choose_patches(
        scene.fitted.pixels,
        scene.grid,
        scene.config.tile_size,
        chosen,
        key=f"causal_patches_{place.replace('/', '_')}_{kind}",
        label=f"The image with its {scene.num_tokens} patches. Arrow keys go from patch to patch, the space bar chooses "
        "one or lets it go; the field below takes numbers.",
        on_choose=partial(apply_edit, scene, place, kind),
    )
    st.text_input(
        "Their numbers",
        key=key,
        placeholder="such as 84, 97, 100-112",
        on_change=apply_widget,
        args=(scene, place, kind, key),
        help=f"Patches are counted row by row from 0 to {scene.num_tokens - 1}; maps say a patch's number under the pointer.",
    )
    with st.container(horizontal=True):
        st.button(
            "Clear",
            icon=":material/clear_all:",
            key="causal_edit_clear",
            disabled=found is None,
            on_click=apply_edit,
            args=(scene, place, kind, ()),
            help="No patch is chosen: this edit is taken back.",
        )
        if kind == "rows":
            is_all = chosen == everything
            st.button(
                "All queries",
                key="causal_edit_all",
                disabled=is_all,
                on_click=apply_edit,
                args=(scene, place, kind, everything),
            )
        pinned = pins(scene)
        if pinned and pinned != chosen:
            st.button(
                "Those pinned on the page Explore",
                icon=":material/keep:",
                key="causal_edit_pinned",
                on_click=apply_edit,
                args=(scene, place, kind, pinned),
                help=f"Patches {', '.join(map(str, pinned))}",
            )


def pins(scene: PairScene) -> tuple[int, ...]:
    """Patches pinned on the page Explore that this image has."""
    numbers = {int(pin) for pin in re.findall(r"[0-9]{1,6}", st.session_state.pins, re.ASCII)}
    return tuple(sorted(number for number in numbers if number < scene.num_tokens))


def in_words(found: Edit | None) -> str:
    """An edit's patches as its text field has them: "84, 97, 100-112", or "all"."""
    return "" if found is None else runs_to_text(found.tokens, ", ") or "all"


def layer_title(place: str) -> str:
    """encoder/0 -> Encoder, layer 0"""
    part, layer = place.split("/")
    return f"{part.capitalize()}, layer {layer}"


def apply_widget(scene: PairScene, place: str, kind: str, key: str) -> None:
    """A slider, a list or the field of numbers has changed."""
    value = st.session_state[key]
    if kind not in PATCHES:
        apply_edit(scene, place, kind, value)
        return
    text = re.sub(r"\s", "", value.replace("–", "-")).strip(",")
    tokens = tuple(range(scene.num_tokens)) if text == "all" else runs_from_text(text, ",") if text else ()
    if tokens is None:
        st.session_state.causal_edit_problem = f"Patches are numbers, such as 84, 97, 100-112; got {value[:80]!r}"
    else:
        apply_edit(scene, place, kind, tokens)


def apply_edit(scene: PairScene, place: str, kind: str, value: float | str | tuple[int, ...]) -> None:
    """Put an edit in the place of the layer's earlier one of that kind; without a patch there is none."""
    part, layer = place.split("/")
    if (kind, value) in (("temperature", 1.0), ("weights", "own")) or value == ():
        remove_edit(part, int(layer), kind)
        return
    if kind == "rows" and isinstance(value, tuple) and len(value) == scene.num_tokens:
        value = ()  # which is all, for an image of any width
    try:
        one = Edit(part, int(layer), kind, value)
        check([one], scene.config, scene.num_tokens)
    except ValueError as error:
        st.session_state.causal_edit_problem = str(error)
        return
    set_changes([*without_edit(part, int(layer), kind), one])


def remove_edit(part: str, layer: int, kind: str) -> None:
    set_changes(without_edit(part, layer, kind))


def without_edit(part: str, layer: int, kind: str) -> list[Intervention]:
    """All changes but one."""
    return [
        one for one in held() if not (isinstance(one, Edit) and (one.part, one.layer, one.kind) == (part, layer, kind))
    ]
