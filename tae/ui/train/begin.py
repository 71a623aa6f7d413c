"""A checkpoint that a new run begins with, and how much of it fits."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from tae.model.config import ModelConfig
from tae.store.names import escape_markdown, plain_text
from tae.store.places import ROOT
from tae.training.config import COMPOSED, TrainConfig
from tae.ui.session.models import checkpoints_folder, load_model

if TYPE_CHECKING:
    from tae.model.autoencoder import TransformerAutoencoder


ANEW = "anew"
"""Choice of random weights, which no file's name is."""


def choose_beginning() -> dict[str, Any]:
    """`init_from` and `warm_start` of `TrainConfig`."""
    from tae.store.checkpoint import list_checkpoints

    state, key = st.session_state, "train_init_from"
    listed = [one for one in list_checkpoints(checkpoints_folder()) if one.error is None]
    titles = {"": "the shipped model that fits", ANEW: "random weights"}
    titles |= {one.path.name: plain_text(f"{one.name} ({one.path.name})") for one in listed}
    if state.get(key) not in titles:  # not chosen yet, or deleted since
        state[key] = ""
    name = st.selectbox(
        "Begin with",
        list(titles),
        format_func=titles.__getitem__,
        key=key,
        persist_state="session",
        help="The weights of a checkpoint are taken over as far as they fit; it stays as it is. What was learnt on other "
        "images saves time. The shipped models fit where size, patches and layers are theirs; images that come with the app "
        "begin with random weights, unless a checkpoint is chosen.",
    )
    chosen = None if name in ("", ANEW) else from_root(checkpoints_folder() / name)
    return {"init_from": chosen, "warm_start": name != ANEW}


def say_what_fits(config: TrainConfig, examples: Sequence[np.ndarray]) -> bool:
    """How much of the checkpoint the new model takes over; whether the run can begin with it.

    Args:
        config: The run.
        examples: The images (H, W) uint8 by which the shipped model to begin with is chosen; none: not known yet.
    """
    if config.init_from is None:
        if config.warm_start and config.data not in COMPOSED:
            st.caption(f"{shipped_in_words(config.model_config, examples)}.")
        return True
    try:
        active = load_model(config.init_from.name)
        text = what_fits(config.model_config, active.loaded.digest, active.loaded.model)
    except (OSError, ValueError, KeyError) as error:
        remedy = "Set the model so under **Advanced**, or choose another checkpoint."
        st.error(f"{escape_markdown(str(error))}. {remedy}", icon=":material/error:")
        return False
    st.caption(escape_markdown(f"{text[0].upper()}{text[1:]}."))
    return True


@st.cache_data(max_entries=32, show_spinner="Looking at what fits…")
def shipped_in_words(config: ModelConfig, examples: Sequence[np.ndarray]) -> str:
    """Which shipped model a run begins with, as the run itself will choose it."""
    from tae.model.autoencoder import TransformerAutoencoder
    from tae.training.planning.advice import best_beginning, shipped_that_fit

    shipped = shipped_that_fit(config)
    if not shipped:
        return "No shipped model fits: random weights"
    best = best_beginning(TransformerAutoencoder(config), shipped, examples)
    if best is not None:
        return f"Begins with {best.path.name}, which draws these images with {best.psnr:.1f} dB before any training"
    more = ", whichever draws the images better" if len(shipped) > 1 else ""
    return f"Begins with {' or '.join(path.name for path in shipped)}{more}"


@st.cache_data(max_entries=32, show_spinner="Looking at what fits…")
def what_fits(config: ModelConfig, digest: str, _trained: "TransformerAutoencoder") -> str:
    import torch

    from tae.model.autoencoder import TransformerAutoencoder
    from tae.model.transfer import transfer

    with torch.device("meta"):  # names and shapes alone
        model = TransformerAutoencoder(config)
    return str(transfer(model, _trained))


def from_root(path: Path) -> Path:
    """Relative to the project's folder, where it lies in it: what is written down then survives a move."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
