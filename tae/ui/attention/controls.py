"""Controls for all maps of the page Explore: weights or what they move, and what rollout discards."""

import streamlit as st

from tae.analysis.maps import MapChoice
from tae.analysis.numbers import percent
from tae.ui.session.view import choose

WEIGHTINGS = {"weights": "Weights", "values": "Weighted by value norms"}
DISCARDS = ["0", "0.5", "0.7", "0.8", "0.9", "0.95"]


def settings(choice: MapChoice) -> None:
    """Controls for what the maps are made of; both change all of them."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_attention"):
        choose(
            "weighting",
            st.segmented_control,
            "What a map shows",
            WEIGHTINGS,
            help="Weights say where a patch reads. A large weight on a patch whose value vector is short moves little: "
            "weighted by value norms (Kobayashi 2020), a map shows the share of what is moved.",
        )
        choose(
            "discard",
            st.select_slider,
            "Rollout: smallest weights to discard",
            DISCARDS,
            format_func=lambda share: percent(float(share)),
            disabled=choice.layer != "rollout",
            width=280,
            help="Of each row, before the layers are chained. How much weight that hides is printed below the map.",
        )
