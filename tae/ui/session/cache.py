"""Results kept for all sessions: one decorator, which knows models and images by their digests; one pass at a time."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import streamlit as st

from tae.data.fit import Fitted

T = TypeVar("T", bound=Callable[..., Any])

MODEL_LOCK = threading.Lock()
"""Sessions share two cores: one forward pass at a time is faster for everybody than many at once."""


def digest_of(fitted: Fitted) -> str:
    """SHA-256 of what the model saw, in hex."""
    return hashlib.sha256(fitted.pixels.tobytes() + str(fitted.pixels.shape).encode()).hexdigest()


KNOWN_BY: dict[str | type, Callable[[Any], Any]] = {
    "tae.store.checkpoint.Loaded": lambda loaded: loaded.digest,
    "tae.sequence.checkpoint.LoadedSequence": lambda loaded: loaded.digest,
    "tae.ui.session.scene.Scene": lambda scene: scene.key,
    "tae.ui.causal.measure.PairScene": lambda scene: scene.key,
    "tae.ui.sequences.clips.Clip": lambda clip: clip.digest,
    "tae.ui.compare.halves.Half": lambda scene: scene.key,
    "tae.ui.session.models.Active": lambda active: active.loaded.digest,
    "tae.ui.session.images.Chosen": lambda chosen: chosen.digest,
    "tae.data.fit.Fitted": lambda fitted: (digest_of(fitted), fitted.notes),
}
"""By what a cache knows an argument; all else by its value."""


def kept(max_entries: int, show_spinner: bool | str = False) -> Callable[[T], T]:
    """Keep what a function finds for all sessions; nobody may change what it returns, so arrays are `read_only`.

    Of `max_entries` results, the one not used for longest goes first; the spinner is what the page says meanwhile.
    """
    return st.cache_resource(max_entries=max_entries, show_spinner=show_spinner, hash_funcs=KNOWN_BY)  # type: ignore[return-value]


def read_only(array: np.ndarray) -> np.ndarray:
    """A cached array, which nobody may change."""
    array.flags.writeable = False
    return array
