"""Charts of images, which are as high as their width asks."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st


def image_chart(figure: go.Figure, key: str, **settings: Any) -> None:
    """A figure that `plots` made of images, without blank bands in any window: Plotly itself stretches only the width.

    Args:
        figure: With `per_width`.
        key: Of the chart, letters, digits and _ only.
        settings: Handed on to `st.plotly_chart`.
    """
    layout = figure.layout
    per_width, words = layout.meta["per_width"], layout.margin.t + layout.margin.b  # type: ignore[attr-defined]
    # Where somebody looks at it full screen, the window says how high it is.
    chart = f".stMain .st-key-{key}:not(:has([data-title='Close fullscreen']))"
    st.html(
        f"<style>{chart} {{container-type: inline-size}} {chart}, {chart} > div {{height: auto; flex-basis: auto}}"
        f" {chart} .stPlotlyChart {{height: calc({100 * per_width:.3f}cqw + {words}px)}}</style>"
    )
    st.plotly_chart(figure, key=key, **settings)
