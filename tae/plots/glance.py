"""The whole network at a glance: how alike its states are, and how far its heads are apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sequential
from plotly.subplots import make_subplots
from scipy.cluster import hierarchy

from tae.plots import style

ALIKE_COLOURS = sequential.Cividis[::-1]
"""Colours of similarities: dark is alike, as for patch features."""
APART_COLOURS = sequential.Cividis
MAX_NUMBERS = 18  # rows of a matrix with a number in each cell
MAX_NAMES = 48  # rows with a name each; more are told by the pointer


def plot_alike(
    value: np.ndarray, names: Sequence[str], said: Sequence[Sequence[str]], breaks: Sequence[int]
) -> go.Figure:
    """How alike every two states are (S, S), from 0 to 1 and dark where they are.

    `said` is what the pointer tells of each cell; `breaks` are the rows before which a line parts what belongs together.
    """
    count = len(names)
    short = [
        name.partition(", ")[2].replace("before layer 0", "input").removeprefix("after ") or name for name in names
    ]
    places = list(range(count))
    figure = go.Figure().add_heatmap(
        z=np.asarray(value, np.float32),
        x=places,
        y=places,
        zmin=0,
        zmax=1,
        colorscale=ALIKE_COLOURS,
        colorbar=style.bar_above("CKA"),
        customdata=[list(row) for row in said],
        hovertemplate="%{customdata}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    if count <= MAX_NUMBERS:
        y, x = np.indices(value.shape)
        figure.add_scatter(
            x=x.ravel(),
            y=y.ravel(),
            mode="text",
            text=[f"{one:z.2f}".lstrip("0") if np.isfinite(one) else "–" for one in value.ravel()],
            textfont={
                "size": 12,
                "color": style.black_or_white(ALIKE_COLOURS, np.nan_to_num(value.ravel()).tolist()),
            },
            hoverinfo="skip",
            showlegend=False,
        )
    for at in breaks:
        line = {"color": style.QUERY_COLOUR, "width": 2}
        figure.add_shape(type="line", x0=at - 0.5, x1=at - 0.5, y0=-0.5, y1=count - 0.5, line=line)
        figure.add_shape(type="line", y0=at - 0.5, y1=at - 0.5, x0=-0.5, x1=count - 0.5, line=line)
    ends = [0, *breaks, count]
    parts = [names[start].partition(",")[0] for start in ends[:-1]]
    labels = [
        f"{part} {one}" if at == start and one != part else one
        for start, end, part in zip(ends, ends[1:], parts, strict=False)
        for at, one in zip(range(start, end), short[start:end], strict=True)
    ]
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticks": "", "tickmode": "array", "fixedrange": True}
    figure.update_xaxes(tickvals=places, ticktext=labels, tickangle=-45, range=[-0.5, count - 0.5], **axis)
    figure.update_yaxes(tickvals=places, ticktext=labels, range=[count - 0.5, -0.5], ticksuffix=" ", **axis)
    return style.finish(figure, height=176 + 38 * min(count, 16), top=62, bottom=96, left=112, dragmode=False)


def plot_heads_apart(
    apart: np.ndarray,
    merges: np.ndarray,
    groups: Sequence[int],
    cut: float,
    names: Sequence[str],
    kinds: Sequence[str],
    chosen: int | None = None,
) -> go.Figure:
    """Distances of heads (K, K) in [0, 1], ordered by the tree beside them; dark is alike.

    A click chooses the row's head; of more than `MAX_NAMES` one on the diagonal does.

    Args:
        merges: (K - 1, 4) the tree, as `tae.analysis.kinds.Tree` has it.
        groups: (K,) number of each head's group; those of two heads and more are framed.
        cut: Where the tree is cut into groups, a dashed line.
        names: (K,) such as "E0.3".
        kinds: (K,) what each head does, in words.
        chosen: The head whose row is outlined.
    """
    count = len(apart)
    drawn = hierarchy.dendrogram(merges, no_plot=True)
    order = drawn["leaves"]
    figure = make_subplots(1, 2, column_widths=[0.2, 0.8], horizontal_spacing=0.01, shared_yaxes=True)
    x: list[float | None] = []
    y: list[float | None] = []
    for across, down in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        x += [*across, None]
        y += [*((np.array(down) - 5) / 10).tolist(), None]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"width": 1.5, "color": style.CURVE_COLOURS[0]}, hoverinfo="skip", row=1, col=1
    )
    grey = {"width": 1.5, "dash": "dash", "color": f"rgb({style.GREY})"}
    figure.add_scatter(
        x=[cut, cut],
        y=[-0.5, count - 0.5],
        mode="lines",
        line=grey,
        hovertemplate="cut: %{x:.3f}<extra></extra>",
        row=1,
        col=1,
    )
    places = list(range(count))
    sorted_ = np.asarray(apart, np.float32)[np.ix_(order, order)]
    is_large = count > MAX_NAMES
    figure.add_heatmap(
        z=sorted_,
        x=places,
        y=places,
        zmin=0,
        zmax=1,
        colorscale=APART_COLOURS,
        colorbar=style.bar_above("Jensen-Shannon distance"),
        hovertemplate="%{y}<br>%{x}<br>%{z:.3f} apart<extra></extra>" if is_large else None,
        hoverinfo=None if is_large else "skip",
        row=1,
        col=2,
    )
    # What a click finds: every cell, or, where these would be many megabytes, those on the diagonal.
    down, right = np.array(np.diag_indices(count)) if is_large else np.indices((count, count)).reshape(2, -1)
    pairs = [(order[row], order[column]) for row, column in zip(down, right, strict=True)]
    figure.add_scatter(
        x=right,
        y=down,
        mode="markers",
        marker={"size": max(6, min(20, 420 / count)), "symbol": "square", "opacity": 0},
        customdata=[row for row, _ in pairs],
        hovertext=[
            f"{names[row]} ({kinds[row]})<br>{names[column]} ({kinds[column]})<br>{apart[row, column]:.3f} apart"
            for row, column in pairs
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        row=1,
        col=2,
        **style.UNSEEN,
    )
    at = {head: place for place, head in enumerate(order)}
    for group in sorted(set(groups)):
        members = [at[head] for head, one in enumerate(groups) if one == group]
        if len(members) > 1:
            low, high = min(members) - 0.5, max(members) + 0.5
            style.outline(figure, (low, low, high, high), style.MARKER_COLOUR, 2, row=1, col=2)
    if chosen is not None:
        style.outline(figure, (at[chosen] - 0.5, -0.5, at[chosen] + 0.5, count - 0.5), row=1, col=2)
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
    top = max(1e-6, float(merges[-1, 2]), cut) * 1.04
    figure.update_xaxes(range=[top, 0], row=1, col=1, **axis)
    named = {
        "tickmode": "array",
        "tickvals": places,
        "showticklabels": not is_large,
    }  # the pointer tells hidden ones, too
    figure.update_xaxes(
        ticktext=[names[head] for head in order],
        tickangle=-90,
        range=[-0.5, count - 0.5],
        row=1,
        col=2,
        **axis,
        **named,
    )
    figure.update_yaxes(range=[count - 0.5, -0.5], **axis)
    figure.update_yaxes(visible=False, row=1, col=1)
    labels = [f" {names[head]} {kinds[head]}" for head in order]
    figure.update_yaxes(side="right", ticktext=labels, row=1, col=2, **named)
    height = 132 + (22 if count <= MAX_NAMES else 6) * count
    return style.finish(figure, height=height, top=62, bottom=52, left=4, right=10, dragmode=False, showlegend=False)
