"""One image where there is no attention to show: beside its reconstruction and the error."""

import numpy as np
import streamlit as st

from tae import ui
from tae.data.encode import encode_png
from tae.plots.quality import plot_signed_error
from tae.store.names import escape_markdown
from tae.ui.widgets.charts import image_chart


def plain_image(active: ui.Active, result: ui.Result) -> None:
    seen, recon, error = ui.panels(result.fitted.pixels, 3)
    with seen:
        image_cell("Model input", result.fitted.pixels)
    with recon:
        image_cell("Reconstruction", result.recon)
        st.caption(f"Drawn from {active.config.latent_dim} numbers by {escape_markdown(active.title)}.")
    with error:
        st.markdown("**Error**, reconstruction − image")
        figure = plot_signed_error(result.recon - result.fitted.pixels)
        image_chart(figure, "reconstruct_error", "Signed error of every pixel, on a colour scale centred on zero")


def image_cell(title: str, pixels: np.ndarray) -> None:
    st.markdown(f"**{title}**")
    factor = max(1, round(400 / max(pixels.shape[:2])))  # nearest, so that the browser's smoothing adds nothing
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    st.image(encode_png(enlarged), width="stretch", alt=title)
