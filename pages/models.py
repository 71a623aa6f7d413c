"""The page Models: every checkpoint with its card, the presets with true figures, your own checkpoint, an untrained model."""

import streamlit as st

from tae import ui
from tae.ui.checkpoints.bring import bring, untrained
from tae.ui.checkpoints.cards import checkpoints
from tae.ui.checkpoints.presets import presets

VIEWS = ["Checkpoints", "Presets", "Load checkpoint", "Untrained model"]


def main() -> None:
    active, _ = ui.setup("Models")
    ui.heading("Models")
    view = st.segmented_control(
        "View", VIEWS, default=VIEWS[0], required=True, key="models_view", label_visibility="collapsed"
    )
    {VIEWS[0]: lambda: checkpoints(active), VIEWS[1]: presets, VIEWS[2]: bring, VIEWS[3]: untrained}[view]()
    ui.write_link()


main()
