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


WORDS, UPRIGHT, NUMBER = 6.5, 13, 25
"""Pixels of width that a letter of a name takes, a name that stands upright, and a number in a cell."""


def thinned(figure: go.Figure, key: str) -> str:
    """Rules that leave out names below a figure and numbers in its cells where a window has no room for all of them.

    Plotly does so for axes of numbers, not where each place has a name.
    """
    layout, box, rules = figure.layout, f".stMain .st-key-{key}", []
    margin = (layout.margin.l or 0) + (layout.margin.r or 0)  # type: ignore[attr-defined]
    for axis in figure.select_yaxes(lambda one: one.side == "right" and one.ticktext):
        margin += WORDS * max(map(len, axis.ticktext))

    def rule(needed: float, selector: str, of: Any) -> None:
        low, high = of.domain or (0, 1)
        room = margin + needed / (high - low)
        rules.append(f"@container (max-width: {room:.0f}px) {{{box} .{selector} {{display: none}}}}")

    for axis in figure.select_xaxes(lambda one: bool(one.ticktext)):
        name, names = axis.plotly_name.replace("axis", ""), axis.ticktext
        each = UPRIGHT if axis.tickangle else WORDS * max(map(len, names)) + 6
        for step in (2, 4, 8):
            if len(names) > step:
                rule(2 * len(names) * each / step, f"{name}tick:not(:nth-child({step}n + 1))", axis)
    for trace in figure.select_traces(lambda one: one.type == "scatter" and one.mode == "text" and one.x is not None):
        axis = layout[(trace.xaxis or "x").replace("x", "xaxis")]
        rule(NUMBER * len(set(trace.x)), f"{trace.xaxis or 'x'}{trace.yaxis or 'y'} .textpoint", axis)
    return f"<style>{box} {{container-type: inline-size}} {' '.join(rules)}</style>" if rules else ""


def chart(figure: go.Figure, key: str, alt: str, tools: bool = False, **settings: Any) -> Any:
    """`st.plotly_chart`, with Plotly's tools, such as those for zooming, only where they are asked for."""
    if rules := thinned(figure, key):
        st.html(rules)
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
