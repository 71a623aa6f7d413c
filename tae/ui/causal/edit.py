"""Edit a layer's attention: its temperature, patches masked, rows or tokens of another picture, other weights."""

import re
from functools import partial

import streamlit as st

from tae.causal.interventions import WEIGHTS, Edit, Intervention, check
from tae.config import PARTS
from tae.images import escape_markdown
from tae.ui.causal.history import set_changes
from tae.ui.causal.measure import Scene

EDITS = {
    "temperature": "Temperature",
    "mask": "Mask patches",
    "rows": "Rows of the other picture",
    "tokens": "Tokens of the other picture",
    "weights": "Other weights",
}


def edits(scene: Scene, active: tuple[Intervention, ...]) -> None:
    """Changes of a layer's attention that take nothing away as a whole."""
    places = [f"{part}/{layer}" for part in PARTS for layer in range(scene.config.num_layers(part))]
    with st.expander("Edit a layer's attention", icon=":material/tune:", expanded=has_edits(active)):
        place = st.selectbox("Layer", places, format_func=layer_title, key="causal_edit_place", persist_state="session")
        kind = st.selectbox(
            "Change", list(EDITS), format_func=lambda kind: EDITS[kind], key="causal_edit_kind", persist_state="session"
        )
        key = f"causal_edit_{kind}"
        found = next((one for one in active if isinstance(one, Edit) and one.name.startswith(f"{place}/{kind}=")), None)
        apply = partial(apply_edit, scene, place, kind, key)
        if kind == "temperature":
            st.session_state[key] = min(5.0, max(0.1, found.temperature)) if found else 1.0
            st.slider(
                "Below 1 sharpens the weights, above 1 flattens them", 0.1, 5.0, step=0.1, key=key, on_change=apply
            )
        elif kind == "weights":
            st.session_state[key] = str(found.value) if found else "own"
            st.selectbox("Weights", ["own", *WEIGHTS], key=key, on_change=apply)
        else:
            st.session_state.setdefault(key, st.session_state.pins or st.session_state.query)
            st.text_input(
                {
                    "mask": "Patches that no query reads",
                    "rows": "Queries that place their weights as in the other picture; empty: all",
                    "tokens": "Patches that enter the layer as the other picture's",
                }[kind],
                key=key,
                placeholder="numbers, such as 84, 97",
                on_change=apply,
                help=f"Patches are counted row by row from 0 to {scene.num_tokens - 1}; maps say a patch's number under the "
                "pointer. Those pinned on the page Attention stand here to begin with.",
            )
            st.button("Apply", key="causal_edit_apply", on_click=apply)
        if problem := st.session_state.pop("causal_edit_problem", ""):
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


def has_edits(active: tuple[Intervention, ...]) -> bool:
    return any(isinstance(one, Edit) for one in active)


def layer_title(place: str) -> str:
    """encoder/0 -> Encoder, layer 0"""
    part, layer = place.split("/")
    return f"{part.capitalize()}, layer {layer}"


def apply_edit(scene: Scene, place: str, kind: str, key: str) -> None:
    """Put an edit in the place of the layer's earlier one of that kind."""
    value = st.session_state[key]
    part, layer = place.split("/")
    if (kind, value) in (("temperature", 1.0), ("weights", "own")):
        remove_edit(part, int(layer), kind)
        return
    if kind in ("mask", "rows", "tokens"):
        value = tuple(int(number) for number in re.findall(r"[0-9]{1,6}", value, re.ASCII))
    try:
        one = Edit(part, int(layer), kind, value)
        check([one], scene.config, scene.num_tokens)
    except ValueError as error:
        st.session_state.causal_edit_problem = str(error)
        return
    set_changes(",".join([*without_edit(part, int(layer), kind), one.name]))


def remove_edit(part: str, layer: int, kind: str) -> None:
    set_changes(",".join(without_edit(part, layer, kind)))


def without_edit(part: str, layer: int, kind: str) -> list[str]:
    """Names of all changes but one."""
    names = st.session_state.changes.split(",")
    return [name for name in names if name and not name.startswith(f"{part}/{layer}/{kind}=")]
