"""The page Compare: any two attention maps side by side, under one pointer and in one colour range."""

import streamlit as st

from tae import ui
from tae.ui.compare.beside import side_by_side
from tae.ui.compare.halves import half_a, half_b, shortcuts


def main() -> None:
    compare(*ui.setup("Compare"))


@st.fragment
def compare(active: ui.Active, chosen: ui.Chosen) -> None:
    ui.heading("Compare")
    with st.container(key="expert_compare", gap="small"):
        shortcuts(active)
        with st.container(horizontal=True, vertical_alignment="bottom", key="compare_a"):
            a = half_a(active, chosen)
        with st.container(horizontal=True, vertical_alignment="bottom", key="compare_b"):
            b = half_b(active, chosen)
    if a is not None and b is not None:
        side_by_side(a, b)
        for active in {half.active.loaded.digest: half.active for half in (a, b) if not half.active.is_random}.values():
            shown = [half.choice.part for half in (a, b) if half.active.loaded.digest == active.loaded.digest]
            ui.verdicts(active, list(dict.fromkeys(shown)))
    ui.write_link()


main()
