"""The page Compare: any two attention maps side by side, under one pointer and in one colour range."""

import streamlit as st

from tae import ui
from tae.ui.compare.beside import side_by_side
from tae.ui.compare.halves import half_a, half_b, shortcuts


def main() -> None:
    active, chosen = ui.setup("Compare")
    ui.heading("Compare")
    ui.prose(
        "Any two [[attention maps]] under one pointer and in one colour range: [[layers]], [[heads]], images, checkpoints."
    )
    shortcuts(active)
    with st.container(key="expert_compare"), st.container(key="attention_panels"):
        first, second = st.columns(2)
    with first, st.container(border=True):
        a = half_a(active, chosen)
    with second, st.container(border=True):
        b = half_b(active, chosen)
    if a is not None and b is not None:
        for active in {half.active.loaded.digest: half.active for half in (a, b) if not half.active.is_random}.values():
            shown = [half.choice.part for half in (a, b) if half.active.loaded.digest == active.loaded.digest]
            ui.verdicts(active, list(dict.fromkeys(shown)))
        side_by_side(a, b)
    ui.write_link()


main()
