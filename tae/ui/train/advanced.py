"""The fields of a new run that most people leave alone: a widget each, explained as on the command line."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import streamlit as st

from tae.data.white import WHITES
from tae.training.command import field_texts
from tae.training.config import TrainConfig

STANDARD = TrainConfig()
ADVANCED = {
    "Optimiser": ("muon_lr", "adamw_lr", "weight_decay", "warmup_steps", "clip_norm", "ema_decay", "accumulate"),
    "Your images, and their augmentation": ("white", "fit", "flip", "shift", "zoom", "contrast"),
    "Model": ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio", "dropout"),
    "Computing": (
        "precision",
        "muon_precision",
        "device",
        "threads",
        "workers",
        "use_gradient_checkpointing",
        "use_flash_attention",
        "use_compile",
    ),
    "Watching and saving": (
        "seed",
        "held_out_images",
        "hold_out_by",
        "eval_every",
        "log_every",
        "save_every_s",
        "snapshots",
        "max_unreadable",
    ),
}
"""Fields of `TrainConfig`, by heading."""
LABELS = {
    "white": "Which number is white",
    "fit": "Fit to the model's size",
    "muon_lr": "Learning rate of Muon",
    "adamw_lr": "Learning rate of AdamW",
    "warmup_steps": "Warm-up steps",
    "clip_norm": "Gradient clipping",
    "ema_decay": "Average of weights",
    "accumulate": "Accumulation",
    "muon_precision": "Precision of Muon",
    "hold_out_by": "Held out together",
    "latent_dim": "Latent",
    "num_heads": "Heads",
    "mlp_ratio": "MLP ratio",
    "threads": "CPU threads",
    "workers": "Reading threads",
    "use_gradient_checkpointing": "Gradient checkpointing",
    "use_flash_attention": "Fused attention",
    "use_compile": "Compile",
    "save_every_s": "Save every (s)",
    "max_unreadable": "Unreadable files allowed",
}
"""Where a field's own name does not say it."""
AUTOMATIC = ("eval_every", "log_every")  # left empty, they follow the number of steps
STEPS_OF = {"muon_lr": 0.001, "adamw_lr": 0.0001, "ema_decay": 0.001, "weight_decay": 0.01, "save_every_s": 10.0}
"""Step of one click on a number; 0.05 otherwise."""


def choose_advanced() -> dict[str, Any]:
    """Fields of `TrainConfig`; those that follow the number of steps are None where they are left empty."""
    values = {}
    with st.expander("Advanced", icon=":material/tune:"):
        for heading, names in ADVANCED.items():
            st.markdown(f"**{heading}**")
            with st.container(horizontal=True):
                values |= {name: choose_field(name) for name in names}
    return values


def choose_field(name: str) -> Any:
    """A widget for one field of `TrainConfig`, by its type; texts are those of the command line."""
    kind, default = get_type_hints(TrainConfig)[name], getattr(STANDARD, name)
    settings: dict[str, Any] = {
        "key": f"train_{name}",
        "persist_state": "session",
        "help": field_texts(TrainConfig)[name],
    }
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    options = get_args(kind) if get_origin(kind) is Literal else ()
    is_open = default is None or name in AUTOMATIC
    if not is_open:
        st.session_state.setdefault(f"train_{name}", default)
    if isinstance(default, bool):
        return st.checkbox(label, **settings)
    if name == "white":
        titles = {one: title for one, title in WHITES.items() if one != "own"}
        settings |= {"format_func": lambda one: titles.get(one, one), "accept_new_options": True}
        return st.selectbox(label, [*titles], width=230, **settings)
    if options:
        return st.selectbox(label, options, width=150, **settings)
    is_float = kind is float or float in get_args(kind)
    if is_open:
        value = st.number_input(
            label,
            min_value=0.5 if is_float else 1,
            value=None,
            step=0.5 if is_float else 1,
            placeholder="auto" if name in (*AUTOMATIC, "threads") else "preset's",
            width=150,
            **settings,
        )
    elif is_float:
        value = st.number_input(label, 0.0, None, step=STEPS_OF.get(name, 0.05), format="%g", width=150, **settings)
    else:
        value = st.number_input(label, 0, None, step=1, width=150, **settings)
    return default if value is None and not is_open else value
