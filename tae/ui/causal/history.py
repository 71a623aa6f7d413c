"""The changes of the section Knock out, kept in the view, and the way back."""

import streamlit as st

from tae.causal.interventions import Intervention


def set_changes(text: str) -> None:
    state = st.session_state
    if set(text.split(",")) != set(state.changes.split(",")):
        state.setdefault("causal_history", []).append(state.changes)
        state.changes = text


def undo() -> None:
    st.session_state.changes = st.session_state.causal_history.pop()


def history(active: tuple[Intervention, ...]) -> None:
    with st.container(horizontal=True):
        steps = st.session_state.setdefault("causal_history", [])
        st.button("Undo", icon=":material/undo:", disabled=not steps, on_click=undo, key="causal_undo")
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            disabled=not active,
            on_click=set_changes,
            args=("",),
            key="causal_reset",
        )
