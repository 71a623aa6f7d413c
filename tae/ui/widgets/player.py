"""The player of sequences on a page: what goes to the browser, and the frame that a person looks at there.

The browser keeps its own frame while a person plays and scrubs; the server sets one only for another sequence, or when the
page means another frame by itself (an edited link, a button), and counts it by its revision.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae.ui.session.cache import kept
from tae.web.component import read_script, read_style
from tae.web.player.payload import Row, encode, length, payload, read_frame, settle

_mount = component("tae_player", css=read_style("player"), js=read_script("player"))


def player(
    rows: Sequence[Row],
    *,
    key: str,
    frame: int,
    seen: int | None = None,
    frame_ms: int = 200,
    notes: Sequence[tuple[str, str]] = (),
    error_name: str = "MSE",
) -> int:
    """Draw the player of a sequence, whose arguments are those of `tae.web.player.payload.payload`, as is its ValueError.

    Args:
        key: The component's; `<key>_sent` in the session state belongs to it too.
        frame: Where it opens, from 0; a number beyond the sequence, as an old link may hold, is its nearest end. Give
            what came back, or always the same: the browser moves only when this changes to what it does not show.

    Returns:
        The frame that the user looks at now, from 0; while it plays, the one at which it was started.
    """
    state = st.session_state
    count = length(rows)
    frame = min(max(frame, 0), max(count - 1, 0))
    data = payload(rows, frame, seen, frame_ms, notes, error_name, memory=key, encode=_remembered)
    told = state.get(key)
    sent = settle(state.get(f"{key}_sent"), told.get("frame") if told else None, data["digest"], frame, count)
    # What is sent stays the same until the server means another frame: a run in between sends nothing again.
    result = _draw(key, {**data, "frame": sent.frame, "revision": sent.revision})
    state[f"{key}_sent"] = sent
    return read_frame(result.frame, sent, count)


def _draw(key: str, data: dict[str, Any]) -> Any:
    return _mount(key=key, data=data, on_frame_change=lambda: None, height="content")


def _remembered(images: np.ndarray) -> tuple[bytes, ...]:
    """`encode`, once for the same images: a row that stays is not encoded again when another comes."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    digest.update(images.data)
    return _encoded(digest.hexdigest(), images)


@kept()
def _encoded(digest: str, _images: np.ndarray) -> tuple[bytes, ...]:
    return encode(_images)
