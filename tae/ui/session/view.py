"""The view (which page, checkpoint, image, layer, head, patch) and its link.

It lives under its own keys in session state, because a widget's value dies when its page is left, and is written to the
URL, so that a copied link restores it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from tae.ui.session import logs

DEFAULTS: dict[str, str] = {
    "checkpoint": "",
    "image": "",
    "fit": "auto",
    "white": "file",
    "strip": "",
    "part": "encoder",
    "layer": "average",
    "head": "mean",
    "query": "",
    "direction": "from",
    "range": "shared",
    "pins": "",
    "weighting": "weights",
    "discard": "0",
    "section": "",
    "region": "",
    "b_checkpoint": "",
    "b_image": "",
    "b_part": "",
    "b_layer": "",
    "b_head": "",
    "causal": "needed",
    "other": "",
    "twin": "",
    "place": "all",
    "changes": "",
    "baseline": "mean",
    "cover": "white",
    "blank": "",
    "box": "",
    "boxed": "",
    "states": "heads",
    "into": "b",
    "cell": "",
    "depths": "",
    "tokens": "all",
    "card": "",
    "asked": "all",
    "lens": "tuned",
    "moment": "",
    "similarity": "",
    "latent": "map",
    "layout": "pca",
    "colour": "kind",
    "points": "",
    "metric": "euclidean",
    "path": "linear",
    "at": "50",
    "scores": "",
    "sequence": "",
    "every": "1",
    "lstm": "",
    "forecast": "step",
    "seen": "6",
    "frame": "",
    "tracks": "",
    "tint": "",
    "task": "",
    "run": "",
}
"""The view's fields and what they are until somebody chooses; all are texts, as in a link."""
WAYS = {"strip": ("", "one", "windows")}
"""What a field may be, where only some images let it be chosen: else a link's word for it would stay for good."""
_MAP = ("part", "layer", "head", "query", "direction", "range", "pins", "weighting", "discard")
_CHANGES = ("changes", "baseline", "other")
_STATES = ("states", "into", "cell")
PAGE_FIELDS = {
    "Explore": (*_MAP, "strip", "section", "region", *_CHANGES),
    "Ablation": (*_MAP, *_CHANGES, "causal", "twin", "place", "cover", "blank", "box", "boxed", *_STATES),
    "Compare": (*_MAP, "b_checkpoint", "b_image", "b_part", "b_layer", "b_head", "similarity"),
    "Layers": ("depths", "query", "lens", "moment", "tokens", "card", "asked"),
    "Latent space": ("latent", "other", "layout", "colour", "points", "metric", "path", "at", "scores"),
    "Sequences": ("sequence", "every", "lstm", "forecast", "seen", "frame", "tracks", "tint"),
    "Models": (),
    "Train": ("task", "run"),
}
"""What a page's link holds, besides the checkpoint and the image."""
COMMON = ("checkpoint", "image", "fit", "white")
MAX_LENGTH = {"changes": 8000, "points": 5000, "cell": 1000}
"""Characters of a field that a link may hold, where that is not 200."""


def init_state(page: str) -> None:
    """Fill in defaults, and take over what the URL says where somebody opened or edited a link; page: its title."""
    state = st.session_state
    state.page = page
    for field, value in DEFAULTS.items():
        state.setdefault(field, value)
    state.setdefault("uploads", {})
    state.setdefault("uploaded_models", {})
    state.setdefault("untrained", {})
    state.setdefault("models_in_use", {})
    # The menu's links are as old as the run that drew them: what was done since counts.
    if st.query_params.to_dict() not in (state.get("written_link"), state.get("menu_links", {}).get(page)):
        for field in DEFAULTS:
            if field in st.query_params:
                state[field] = st.query_params[field][: MAX_LENGTH.get(field, 200)]
                if state[field] not in WAYS.get(field, (state[field],)):
                    state[field] = DEFAULTS[field]


def link(page: str | None = None) -> dict[str, str]:
    """A page's view as URL parameters, the current one's if none is named; what stands at its default is left out."""
    state = st.session_state
    fields = (*COMMON, *PAGE_FIELDS[page or state.page])
    return {field: state[field] for field in fields if state[field] != DEFAULTS[field]}


def write_link() -> None:
    """Put the view into the URL; called at the end of a page, when every field has been checked."""
    current = link()
    if st.query_params.to_dict() != current:
        st.query_params.from_dict(current)
    st.session_state["written_link"] = current
    logs.end_run()


def checked(field: str, options: Sequence[str]) -> str:
    """A field of the view; a value that is not among the options, as from an edited link, becomes the first of them."""
    state = st.session_state
    if state[field] not in options:
        state[field] = options[0]
    return state[field]


def choose(
    field: str,
    widget: Any,
    label: str,
    options: Sequence[str] | Mapping[str, str],
    instead: str | None = None,
    **settings: Any,
) -> str:
    """A selection widget, such as `st.selectbox` or a column's, that is bound to one field of the view; its chosen option.

    A value of the field that is not among the options becomes the first of them. With `instead`, an option that stands for such
    a value, the field keeps it until another option is chosen. Options that are no mapping to how each is shown are made
    readable by `format_func` in `settings`, which are handed on to the widget.
    """
    state = st.session_state
    key = f"choose_{field}"
    if isinstance(options, Mapping):
        titles = options
        settings["format_func"] = lambda option: titles[option]
        options = list(titles)
    state[key] = checked(field, options) if instead is None or state[field] in options else instead

    def keep() -> None:
        if state[key] is not None:  # a second click on a segment would empty it
            state[field] = state[key]

    widget(label, options, key=key, on_change=keep, **settings)
    return state[field] if state[field] in options else state[key]
