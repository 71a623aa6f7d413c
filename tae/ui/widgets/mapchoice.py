"""Part, layer and head: which attention map a page speaks of, bound to the view."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from tae.analysis.maps import MapChoice, all_choices
from tae.model.config import PARTS, ModelConfig
from tae.ui.session.view import choose

HEADS = {
    "mean": "Mean of heads",
    "max": "Largest of heads",
    "min": "Smallest of heads",
    "spread": "Spread between heads",
}


def choose_map(config: ModelConfig, prefix: str = "") -> MapChoice:
    """The controls, in one row, of the view's fields part, layer and head; prefix: of these fields."""
    choices = [choice for part in PARTS for choice in all_choices(config, part)]
    with st.container(horizontal=True, vertical_alignment="bottom"):

        def pick(
            field: str, widget: Callable, label: str, options: list[str], words: Callable[[str], str], **settings: Any
        ) -> str:
            options = list(dict.fromkeys(options))
            return choose(f"{prefix}{field}", widget, label, options, format_func=words, **settings)

        part = pick("part", st.segmented_control, "Part", list(PARTS), str.capitalize)
        layers = [choice.layer for choice in choices if choice.part == part]
        layer = pick("layer", st.selectbox, "Layer", layers, str.capitalize, width=120)
        heads = [choice.head for choice in choices if (choice.part, choice.layer) == (part, layer)]
        head = pick("head", st.selectbox, "Head", heads, lambda head: HEADS.get(head, f"Head {head}"), width=190)
    return MapChoice(part=part, layer=layer, head=head)
