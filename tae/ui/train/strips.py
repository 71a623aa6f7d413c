"""Pictures of a run's held-out images and of what it makes of them, as training goes on."""

import numpy as np
import streamlit as st
from PIL import Image

from tae import runs
from tae.ui.train.picture import in_page


def show_strips(run: runs.Run) -> None:
    """Held-out images above their reconstructions: the latest, and a slider through the earlier ones."""
    strips = {int(path.stem): path for path in runs.strips(run.folder)}
    if not strips:
        return
    state, chosen, newest = st.session_state, f"train_strip_{run.name}", max(strips)
    # It follows the training until somebody moves it, and again once it is moved to the end.
    step = state[chosen] if state.get(chosen) in strips else newest
    st.markdown("**Held-out images, and what it makes of them**")
    if len(strips) > 1:
        # A slider anew for each new strip: what the browser still says of the old one is no choice.
        key = f"{chosen}_{newest}"

        def keep() -> None:
            state[chosen] = None if state[key] == newest else state[key]

        step = st.select_slider(
            "After step", list(strips), step, key=key, format_func=lambda step: f"{step:,}", on_change=keep
        )
    try:
        pixels = np.asarray(Image.open(strips[step]))
    except OSError:
        st.caption("This picture is being replaced.")
        return
    height, width = pixels.shape
    source = in_page(pixels, max(1, min(1150 // width, 460 // height)))
    st.image(source, alt=f"Held-out images above their reconstructions after step {step}")
    st.caption(f"After step {step:,}: each image above its reconstruction.")
