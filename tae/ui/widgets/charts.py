"""Charts: with a name for those who do not see them; those of images as high as their width asks."""

from collections.abc import Callable
from typing import Any, TypeVar

import plotly.graph_objects as go
import streamlit as st

from tae.ui.session.cache import kept

Chosen = TypeVar("Chosen")


@kept()
def drawn(plot: Callable[..., go.Figure], *arrays: Any, **settings: Any) -> go.Figure:
    """A figure as a plot function makes it, kept for all sessions: Plotly checks every property anew each time.

    Nobody may change it.
    """
    return plot(*arrays, **settings)


def chart(figure: go.Figure, key: str, alt: str, tools: bool = False, **settings: Any) -> Any:
    """`st.plotly_chart`, with Plotly's tools, such as those for zooming, only where they are asked for."""
    config = {"displaylogo": False} if tools else {"displayModeBar": False}
    return st.plotly_chart(figure, key=key, config=config, alt=alt, **settings)


def image_chart(figure: go.Figure, key: str, alt: str, tools: bool = False, **settings: Any) -> Any:
    """A figure with `per_width`, without blank bands in any window: Plotly itself stretches only the width.

    The key holds letters, digits and _ only.
    """
    layout = figure.layout
    per_width, words = layout.meta["per_width"], layout.margin.t + layout.margin.b  # type: ignore[attr-defined]
    # Where somebody looks at it full screen, the window says how high it is.
    box = f".stMain .st-key-{key}:not(:has([data-title='Close fullscreen']))"
    st.html(
        f"<style>{box} {{container-type: inline-size; height: auto; flex-basis: auto}}"
        f" {box} > div, {box} .stPlotlyChart {{height: calc({100 * per_width:.3f}cqw + {words}px); flex-basis: auto}}</style>"
    )
    return chart(figure, key, alt, tools, **settings)


def chosen_in(
    figure: go.Figure,
    key: str,
    alt: str,
    read: Callable[[dict], Chosen | None],
    draw: Callable[..., Any] = chart,
    mode: str = "points",
) -> Chosen | None:
    """Draw a figure by `chart` or `image_chart`; what a click, or a box, has just chosen in it, read from the selection.

    Each choice makes it another figure, in which nothing is selected: the caller keeps what was chosen and runs again.
    """
    count = f"{key}_choices"
    event = draw(figure, f"{key}_{st.session_state.get(count, 0)}", alt, on_select="rerun", selection_mode=mode)
    found = read(event.get("selection", {}))
    if found is not None:
        st.session_state[count] = st.session_state.get(count, 0) + 1
    return found
