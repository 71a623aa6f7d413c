"""The changes of the section Knock out: interventions, read from the link once, and the way back."""

from collections.abc import Iterable

import streamlit as st

from tae.analysis.causal.interventions import Edit, Intervention, check, from_name, to_text
from tae.model.config import ModelConfig
from tae.ui.causal.measure import PairScene

Changes = tuple[Intervention, ...]


def fitting(some: Iterable[Intervention], config: ModelConfig, num_tokens: int) -> Changes:
    """Those that fit the model; of two edits of a kind in a layer, as a link may hold them, the last."""
    kept: dict[tuple, Intervention] = {}
    for one in some:
        try:
            check([one], config, num_tokens)
        except ValueError:
            continue
        kept[(one.part, one.layer, one.kind if isinstance(one, Edit) else one.target)] = one
    return tuple(kept.values())


def parsed(text: str) -> tuple[Changes, int]:
    """A link's interventions, and how many of them are none."""
    found, names = [], text.split(",") if text else []
    for name in names:
        try:
            found.append(from_name(name))
        except ValueError:
            continue
    return tuple(found), len(names) - len(found)


def current(scene: PairScene) -> tuple[Changes, int]:
    """The changes as they stand, and how many of a link's changes do not fit the model; the link is parsed where it is new."""
    changes = st.session_state.changes
    some, refused = (held(), 0) if to_text(held()) == changes else parsed(changes)
    put(some)
    kept = fitting(some, scene.config, scene.num_tokens)
    refused += sum(not fitting([one], scene.config, scene.num_tokens) for one in some)
    if refused:
        set_changes(kept)  # with a way back, for the model that they fit
    else:
        put(kept)
    return kept, refused


def say_refused(refused: int) -> None:
    """What `current` told of a link's changes."""
    if refused:
        left_out = "1 change is left out: it does" if refused == 1 else f"{refused} changes are left out: they do"
        st.info(f"{left_out} not fit this model.", icon=":material/info:")


def held() -> Changes:
    return st.session_state.get("causal_changes", ())


def put(some: Changes) -> None:
    st.session_state.causal_changes, st.session_state.changes = some, to_text(some)


def set_changes(some: Iterable[Intervention]) -> None:
    """Make these the changes, with a way back to what they were."""
    some = tuple(some)
    if set(some) != set(held()):
        st.session_state.setdefault("causal_history", []).append(held())
        put(some)


def undo(step: int, changes: Changes) -> None:
    """Back to what a step of the history means to this model; the history ends there."""
    put(changes)
    del st.session_state.causal_history[step:]


def way_back(config: ModelConfig, num_tokens: int, active: Changes) -> tuple[int, Changes] | tuple[()]:
    """What to give `undo`; empty where there is no way back."""
    steps = st.session_state.setdefault("causal_history", [])
    # What another model had knocked out may mean nothing to this one: going back there would be a click that does nothing.
    of_this_model = [fitting(one, config, num_tokens) for one in steps]
    last = next((step for step in reversed(range(len(steps))) if set(of_this_model[step]) != set(active)), None)
    return () if last is None else (last, of_this_model[last])


def toggle(name: str) -> None:
    """Ablate what a name means, or no longer; ValueError if it means nothing."""
    one = from_name(name)
    set_changes([other for other in held() if other != one] if one in held() else [*held(), one])


def history(scene: PairScene, active: Changes) -> None:
    back = way_back(scene.config, scene.num_tokens, active)
    with st.container(horizontal=True):
        st.button("Undo", icon=":material/undo:", disabled=not back, on_click=undo, args=back, key="causal_undo")
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            disabled=not active,
            on_click=set_changes,
            args=((),),
            key="causal_reset",
        )
