"""The effect of another image's states, put in place of a part's own: heads and layers in a table of colours, paths as bars."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from tae.analysis.numbers import percent
from tae.plots import style

MAX_TOLD = 8  # columns in which numbers have room inside their cells


def plot_cells(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    top: float,
    said: Sequence[str],
    chosen: tuple[int, int] | None = None,
) -> go.Figure:
    """Shares of the way as a table of colours, centred on zero; a click chooses a cell: `selected_cell`.

    Args:
        values: (rows, columns), 1 = all of the way.
        top: Where the colours end, both ways.
        said: What is said of each cell under the pointer, row by row.
        chosen: (row, column) of the cell that is outlined.
    """
    has_room = len(columns) <= MAX_TOLD
    figure = go.Figure().add_heatmap(
        z=values,
        x=list(columns),
        y=list(rows),
        colorscale=style.ERROR_COLOURS,
        zmin=-top,
        zmid=0,
        zmax=top,
        xgap=1,
        ygap=1,
        showscale=False,
        hoverinfo="skip",
    )
    numbers = values.ravel().tolist()
    figure.add_scatter(
        x=list(columns) * len(rows),
        y=[row for row in rows for _ in columns],
        mode="markers+text" if has_room else "markers",
        marker={"size": 24 if has_room else 10, "symbol": "square", "opacity": 0},
        text=[percent(value) for value in numbers],
        textfont={
            "size": 11,
            "color": style.black_or_white(style.ERROR_COLOURS, [0.5 + value / top / 2 for value in numbers]),
        },
        customdata=list(range(values.size)),
        hovertext=list(said),
        hovertemplate="%{hovertext}<extra></extra>",
        **style.UNSEEN,
    )
    if chosen is not None:
        row, column = chosen
        style.outline(figure, (row - 0.5, column - 0.5, row + 0.5, column + 0.5))
    axis = {"showgrid": False, "zeroline": False, "type": "category", "ticks": "", "fixedrange": True}
    figure.update_xaxes(title={"text": "head", "standoff": 12}, tickangle=0, **axis)
    figure.update_yaxes(autorange="reversed", ticksuffix=" ", **axis)
    return style.finish(figure, height=62 + 28 * len(rows), top=4, bottom=58, left=82, dragmode=False)


def selected_cell(selection: dict, count: int) -> int | None:
    """The number, of `count`, of the cell that a click chose, from the selection that Streamlit reports; else None."""
    for data in style.selected_data(selection):
        if len(data) == 1 and isinstance(data[0], (int, float)) and 0 <= data[0] < count and data[0] == int(data[0]):
            return int(data[0])
    return None


def plot_paths(shares: Mapping[str, float], total: float) -> go.Figure:
    """A part's effect through each later place alone, as shares of the way, beside its effect in all."""
    names, values = [*shares, "in all"], [*shares.values(), total]
    colours = [style.CURVE_COLOURS[0]] * len(shares) + [f"rgb({style.GREY})"]
    figure = go.Figure().add_bar(
        x=values,
        y=names,
        orientation="h",
        marker={"color": colours, "line": {"width": 0}},
        text=[percent(value, 1) for value in values],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.2%} of the way<extra></extra>",
    )
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.18 * (high - low or 1)
    figure.update_xaxes(
        title="share of the way", tickformat=".0%", range=[low - room * (low < 0), high + room], zeroline=True
    )
    figure.update_yaxes(type="category", autorange="reversed", ticksuffix=" ")
    return style.finish(figure, height=70 + 26 * len(names), top=4, bottom=44, left=140, dragmode=False)
