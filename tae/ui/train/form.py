"""The form of a new run: its model, its size, its budget, and behind a fold all the rest."""

from typing import Any

import streamlit as st

from tae.model.config import PRESETS
from tae.training.config import TrainConfig
from tae.ui.train.advanced import AUTOMATIC, choose_advanced
from tae.ui.train.begin import choose_beginning

PATCHES = (4, 8, 16, 32, 64, None)
STANDARD = TrainConfig()


def choose_settings() -> dict[str, Any]:
    """Fields of `TrainConfig`."""
    values: dict[str, Any] = choose_model_and_budget() | choose_advanced() | choose_beginning()
    for name in AUTOMATIC:
        if values[name] is None:
            most = getattr(STANDARD, name)
            values[name] = most if values["minutes"] else min(most, max(1, values["steps"] // 15))
    return values


def choose_model_and_budget() -> dict[str, Any]:
    """Fields of `TrainConfig`."""
    state = st.session_state
    with st.container(horizontal=True, vertical_alignment="bottom"):
        preset = select(
            "preset", "Preset", list(PRESETS), 130, "Size of the model; see the page Models for their figures."
        )
        patch_size = select(
            "patch_size",
            "Patch",
            list(PATCHES),
            150,
            "Side of a patch in pixels. Smaller patches: more tokens, finer attention, more time and memory.",
            lambda side: "one token" if side is None else f"{side} pixels",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        height = number("height", "Height", 201, 8, 4096, 110)
        is_any_width = state.get("train_any_width", False)
        label = "Widest" if is_any_width else "Width"
        width = number("max_width" if is_any_width else "width", label, 1280 if is_any_width else 201, 8, 8192, 110)
        st.checkbox(
            "Any width",
            key="train_any_width",
            persist_state="session",
            help="Images are scaled to the height and keep their proportions; batches hold images of like widths.",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        state.setdefault("train_budget", "Steps")
        budget = st.selectbox(
            "Budget",
            ["Steps", "Minutes"],
            key="train_budget",
            persist_state="session",
            width=110,
            help="Minutes: the pace is measured at the start, and turned into a number of steps.",
        )
        if budget == "Steps":
            steps, minutes = number("steps", "Steps", STANDARD.steps, 1, 10**7, 120), None
        else:
            steps, minutes = STANDARD.steps, float(number("minutes", "Minutes", 10, 1, 10**5, 120))
        batch_size = number("batch_size", "Batch size", STANDARD.batch_size, 1, 4096, 120)
    return {
        "preset": preset,
        "patch_size": patch_size,
        "input_size": (height, None if is_any_width else width),
        "max_width": width if is_any_width else STANDARD.max_width,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
    }


def select(name: str, label: str, options: list, width: int, help: str, format_func: Any = str) -> Any:
    st.session_state.setdefault(f"train_{name}", getattr(STANDARD, name))
    return st.selectbox(
        label, options, format_func=format_func, key=f"train_{name}", persist_state="session", width=width, help=help
    )


def number(name: str, label: str, start: int, low: int, high: int, width: int) -> int:
    st.session_state.setdefault(f"train_{name}", start)
    value = st.number_input(label, low, high, step=1, key=f"train_{name}", persist_state="session", width=width)
    return start if value is None else int(value)
