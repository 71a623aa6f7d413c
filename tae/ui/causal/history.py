"""The changes of the section Knock out, kept in the view, and the way back."""

import streamlit as st

from tae.analysis.causal.interventions import Intervention, to_text
from tae.ui.causal.measure import Scene, interventions_of


def set_changes(text: str) -> None:
    state = st.session_state
    if set(text.split(",")) != set(state.changes.split(",")):
        state.setdefault("causal_history", []).append(state.changes)
        state.changes = text


def undo(step: int, changes: str) -> None:
    """Back to what a step of the history means to this model; the history ends there."""
    st.session_state.changes = changes
    del st.session_state.causal_history[step:]


def history(scene: Scene, active: tuple[Intervention, ...]) -> None:
    steps = st.session_state.setdefault("causal_history", [])
    # What another model had knocked out may mean nothing to this one: going back there would be a click that does nothing.
    of_this_model = [interventions_of(one, scene.config, scene.num_tokens)[0] for one in steps]
    last = next((step for step in reversed(range(len(steps))) if set(of_this_model[step]) != set(active)), None)
    back = () if last is None else (last, to_text(of_this_model[last]))
    with st.container(horizontal=True):
        st.button("Undo", icon=":material/undo:", disabled=last is None, on_click=undo, args=back, key="causal_undo")
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            disabled=not active,
            on_click=set_changes,
            args=("",),
            key="causal_reset",
        )
