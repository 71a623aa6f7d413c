"""The views one click away from the instrument: matrices, statistics, the figures of the error, how to read it all."""

import streamlit as st

from tae import ui
from tae.plots.maps import Region
from tae.ui.attention.controls import settings
from tae.ui.attention.exports import how_to_read
from tae.ui.attention.heatmap import heatmap
from tae.ui.attention.numbers import in_numbers
from tae.ui.attention.overview import overview
from tae.ui.explore.stage import Staged
from tae.ui.explore.verdict import measures

SECTIONS = {
    "": "Image",
    "heatmap": "Matrix",
    "overview": "All matrices",
    "numbers": "Statistics",
    "quality": "Error in numbers",
    "read": "How to read this",
}

_INTO_VIEW = """<script>document.querySelector('.st-key-choose_section')?.scrollIntoView(
  {block: 'start', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'instant' : 'smooth'})</script>"""
"""Brings a section into view that was chosen just now; the focus stays where it is."""


def look_closer(staged: Staged) -> None:
    """The section that somebody opened; none at first."""
    shown = staged.shown
    whole = Region.whole(len(shown.weights))
    region = Region.from_text(st.session_state.region, len(shown.weights))
    st.session_state.region = "" if region == whole else region.to_text()
    section = ui.choose("section", st.segmented_control, "Look closer", SECTIONS, label_visibility="collapsed")
    if section in ("heatmap", "overview", "numbers"):
        settings(shown.choice)
    if section == "heatmap":
        st.caption(shown.status)
        heatmap(staged.scene, shown, region)
    elif section == "overview":
        overview(staged.scene, shown)
    elif section == "numbers":
        in_numbers(staged.scene, shown)
    elif section == "quality":
        measures(staged.scene.active, staged.plain)
    elif section == "read":
        how_to_read()
    last = st.session_state.get("explore_section", section)
    st.session_state.explore_section = section
    with st.container():  # a place of its own: what comes after keeps its own, with and without the script
        if section not in ("", last):
            st.html(_INTO_VIEW, unsafe_allow_javascript=True)
