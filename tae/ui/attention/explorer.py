"""The attention explorer on a page: what goes to the browser, and what a person did there.

The browser keeps its own view while a person explores; the server sets one only when the link's fields have changed by
other means (another page, a button, an edited link), and counts it by its revision.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from tae.analysis.maps import all_choices
from tae.model.config import PARTS
from tae.ui.attention import measure
from tae.ui.session.scene import Scene
from tae.ui.shell.guide import in_demo
from tae.web.component import read_script, read_style
from tae.web.explorer.payload import (
    Note,
    Side,
    View,
    for_streamlit,
    heads_merged,
    in_head_grid,
    maps_to_send,
    merged,
    payload,
    read_view,
)

_mount = component("tae_explorer", css=read_style("explorer"), js=read_script("explorer"))
_feed = component("tae_feed", js=read_script("feed"))
KEY = "explorer"
"""The explorer of one image, under which the browser remembers it."""


def explore(
    scene: Scene,
    default_query: int,
    notes: Sequence[Note],
    status: Mapping[str, str],
) -> View:
    """Draw the explorer of one image, and return what is on display; the link's fields follow what a person does in it.

    `default_query` is the patch to open with where the link names none; notes stand above the image; `status` is as for
    `tae.web.explorer.payload.payload`.
    """
    key = KEY
    weighting, discard = st.session_state.weighting, float(st.session_state.discard)
    names = tuple(choice.name for part in PARTS for choice in all_choices(scene.config, part, weighting))
    sent = _settle(key, names, scene.num_tokens, default_query)
    state = st.session_state.get(key)
    digest = digest_now(scene)
    wanted = state.get("wanted") if isinstance(state, Mapping) else None
    in_grid = [name for name in names if in_head_grid(name)]
    fed = in_grid if heads_merged(scene.grid, len(in_grid)) == merged(scene.grid) else []
    given = tuple(maps_to_send(wanted, sent, names, digest, scene.grid, fed))
    one = measure.explorer_side(scene, scene.chosen.title, given, names, weighting, discard)
    tops = measure.range_tops(scene, weighting)
    data = payload([one], sent, tops, notes, status, on_demand=True, memory=key, bare=in_demo())
    view = _take_over(key, _draw(key, data), sent, names, scene.num_tokens)
    feed("heads", measure.heads_feed(scene, weighting, discard, key))
    return view


def digest_now(scene: Scene) -> str:
    """What names the maps on display in the browser."""
    return measure.side_digest(scene, st.session_state.weighting, float(st.session_state.discard))


def feed(kind: str, data: Mapping[str, Any]) -> None:
    """Send the explorer of one image more, beside its own data, which then is not sent again."""
    with st.container(key=f"explorer_feeds_{kind}"):
        _feed(key=f"explorer_{kind}", data={**data, "feed": kind, "memory": KEY}, height=1)


def taken_act() -> Mapping[str, Any]:
    """What somebody did to the model in the explorer since the last run: {"do": "toggle", "undo" or "reset", "name": ...}."""
    return st.session_state.pop("explorer_act", {})


def _keep_act() -> None:
    state = st.session_state.get(KEY)
    act = state.get("act") if isinstance(state, Mapping) else None
    if isinstance(act, Mapping):
        st.session_state.explorer_act = act


def compare(sides: tuple[Side, Side], default_query: int, tops: Mapping[str, float], notes: Sequence[Note]) -> View:
    """Draw two images, A and B, under one pointer; patch, pins, direction and range in the link's fields follow.

    Each side has one map; the link's part, layer and head are those of A. `default_query` is the patch of A to open with where
    the link names none; `tops` are {"shared": ..., "full": ...} in x uniform, for both. Returns what is on display.
    """
    key = "explorer_pair"
    names, num_tokens = sides[0].names, sides[0].num_tokens
    sent = _settle(key, names, num_tokens, default_query)
    data = payload(list(sides), sent, tops, notes, on_demand=True, memory=key, bare=in_demo())
    return _take_over(key, _draw(key, data), sent, names, num_tokens)


def _draw(key: str, data: dict[str, Any]) -> Any:
    return _mount(
        key=key,
        data=for_streamlit(data),
        on_view_change=lambda: None,
        on_wanted_change=lambda: None,
        on_act_change=_keep_act,
        height="content",
    )


def _settle(key: str, names: Sequence[str], num_tokens: int, default_query: int) -> View:
    """The view to send: a new one only where the link's fields are not what the browser is known to show."""
    state = st.session_state
    fields: dict[str, Any] = {field: state[field] for field in ("part", "layer", "head", "direction", "range")}
    fields["revision"] = 0
    fields["query"] = _number(state["query"])
    fields["pins"] = [_number(pin) for pin in state["pins"].split(",") if pin]
    wanted = read_view(fields, View(query=default_query), names, num_tokens)
    sent = state.get(f"{key}_sent", View())
    if wanted != state.get(f"{key}_known"):
        sent = replace(wanted, revision=sent.revision + 1)
    state[f"{key}_sent"] = sent
    state[f"{key}_known"] = wanted
    _write_fields(wanted)
    return sent


def _take_over(key: str, result: Any, sent: View, names: Sequence[str], num_tokens: int) -> View:
    """What the browser told since the view that was sent last."""
    state = st.session_state
    told = result.view
    if isinstance(told, Mapping) and told.get("revision") == sent.revision:
        state[f"{key}_known"] = replace(read_view(told, sent, names, num_tokens), revision=0)
        _write_fields(state[f"{key}_known"])
    return state[f"{key}_known"]


def _number(text: str) -> int:
    """A patch's number in a link; -1, which is none, for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else -1


def _write_fields(view: View) -> None:
    state = st.session_state
    state.part, state.layer, state.head = view.part, view.layer, view.head
    state.direction, state.range = view.direction, view.range
    state.query = str(view.query)
    state.pins = ",".join(map(str, view.pins))
