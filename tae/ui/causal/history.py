"""The changes of the section Knock out, kept in the view, and the way back."""

import streamlit as st

from tae.causal.interventions import Intervention
from tae.ui.causal.measure import Scene, interventions_of


def set_changes(text: str) -> None:
    state = st.session_state
    if set(text.split(",")) != set(state.changes.split(",")):
        state.setdefault("causal_history", []).append(state.changes)
        state.changes = text


def undo(step: int) -> None:
    """Back to a step of the history, which ends there."""
    steps = st.session_state.causal_history
    st.session_state.changes = steps[step]
    del steps[step:]


def history(scene: Scene, active: tuple[Intervention, ...]) -> None:
    steps = st.session_state.setdefault("causal_history", [])
    # What another model had knocked out may mean nothing to this one: going back there would be a click that does nothing.
    of_this_model = [interventions_of(one, scene.config, scene.num_tokens)[0] for one in steps]
    last = next((step for step in reversed(range(len(steps))) if set(of_this_model[step]) != set(active)), None)
    with st.container(horizontal=True):
        st.button("Undo", icon=":material/undo:", disabled=last is None, on_click=undo, args=(last,), key="causal_undo")
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            disabled=not active,
            on_click=set_changes,
            args=("",),
            key="causal_reset",
        )
