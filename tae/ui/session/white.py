"""Which number is white in what a session opens: the choice beside "Fit to the model's size", and what follows from it.

As the file says, unless the checkpoint's training decided for such files; the rule is that of `tae.data.white`.
"""

from dataclasses import dataclass

import streamlit as st

from tae.data.white import AS_FILE, WHITES, Extent, White
from tae.ui.session.models import Active
from tae.ui.session.view import choose


@dataclass(frozen=True)
class Numbers:
    """What an image was read from, so that it can be read with another white."""

    data: bytes  # the file
    name: str
    frame: int | None  # of a stack; None: it is one image
    extents: tuple[Extent, ...]  # of all files and frames that came together: they decide together


def white_now(active: Active | None = None) -> White:
    """The session's choice with this model, or with the one that the page last chose."""
    state = st.session_state
    if active is not None:
        choice = "file" if state.white == "own" else _sound(state.white)  # of which the control makes two numbers
        state.white_now = White.chosen(choice, active.loaded.card.training)
    return state.get("white_now", AS_FILE)


def choose_white(active: Active, extent: Extent | None = None, own_white: str = "") -> None:
    """The control; `extent` and `own_white` are those of the image on display, and where an own black and white begin."""
    state = st.session_state
    state.white = _sound(state.white)
    titles = dict(WHITES)
    if White.of_training(active.loaded.card.training).decided:
        titles["file"] = "As in this model's training"
    is_own = state.white not in titles
    choose(
        "white",
        st.selectbox,
        "Which number is white",
        titles,
        instead="own" if is_own else None,
        help="Of more than 8 bits, and of floats, files often do not say it. What was done stands beside the image, in reports "
        "and in exports. Of files that came together, all decide together.",
    )
    if state.white == "own":  # just chosen: begin with what is shown
        low, high = (extent.low, extent.high) if extent and extent.low < extent.high else (0.0, 255.0)
        state.white = f"{low:.10g}..{high:.10g}"
        st.rerun()
    own = White(state.white).own
    if own is not None:
        _choose_ends(own)


def _choose_ends(own: tuple[float, float]) -> None:
    state = st.session_state
    state.white_black, state.white_white = own

    def keep() -> None:
        text = f"{state.white_black:.10g}..{state.white_white:.10g}"
        state.white = _sound(text, state.white)

    left, right = st.columns(2)
    left.number_input("Black", key="white_black", on_change=keep, format="%g")
    right.number_input("White", key="white_white", on_change=keep, format="%g")


def _sound(text: str, otherwise: str = "file") -> str:
    """A choice as a link has it; one that is none becomes another."""
    try:
        return text if text == "own" else White(text).choice
    except ValueError:
        return otherwise
