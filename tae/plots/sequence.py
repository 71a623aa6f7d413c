"""Sequences as figures: the way through latent space, and what each frame does to a prediction."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tae.data.encode import encode_png
from tae.plots.style import ATTENTION_COLOURS, CURVE_COLOURS, GREY, LEGEND, MARKER_COLOUR, colour_bar, finish, lay_under

SIGNED = [(0.0, (0, 119, 187), 0.85), (0.5, (255, 255, 255), 0.0), (1.0, (213, 94, 0), 0.85)]
"""Place, colour, opacity of signed effects over an image: blue below zero, vermilion above, nothing at zero."""
SIGNED_COLOURS = [(0.0, "#0077bb"), (0.5, "#f3f3f1"), (1.0, "#d55e00")]
TRACK_HEIGHT = 84
MAX_ACROSS = 4
"""Frames side by side."""


def plot_trajectory(
    true: np.ndarray,
    predicted: np.ndarray | None,
    first: int,
    axes: tuple[str, str],
    is_step: bool,
    predicted_name: str = "LSTM",
    values: np.ndarray | None = None,
    value_title: str = "",
) -> go.Figure:
    """The frames of a sequence as points on a plane, joined in order, and those predicted beside them.

    Args:
        true: (T, 2) of the true frames.
        predicted: (n, 2), the first of which is of frame `first`, from 0; None: there are none.
        axes: Titles of x and y.
        is_step: Whether each prediction was made from the true frames before it: then a thin line joins it to the frame
            that it was made after. Else the predictions are joined with each other, from the last frame that was seen on.
        predicted_name: Name in the legend.
        values: (T,) that colour the true frames, from light to dark = high; NaN is grey. None: all are alike.
        value_title: What the values are, with their unit.
    """
    true = np.asarray(true, np.float64)
    numbers = np.arange(1, len(true) + 1)
    figure = go.Figure()
    if predicted is not None and len(predicted):
        predicted = np.asarray(predicted, np.float64)
        if is_step:
            ends = np.full((len(predicted), 3, 2), np.nan)
            ends[:, 0], ends[:, 1] = true[first - 1 : first - 1 + len(predicted)], predicted
            joined = ends.reshape(-1, 2)
        else:
            joined = np.concatenate([true[first - 1 : first], predicted])
        figure.add_scatter(
            x=joined[:, 0],
            y=joined[:, 1],
            mode="lines",
            line={"width": 1.5, "color": MARKER_COLOUR, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=predicted[:, 0],
            y=predicted[:, 1],
            mode="markers",
            name=predicted_name,
            marker={"size": 9, "symbol": "x", "color": MARKER_COLOUR},
            customdata=np.arange(first + 1, first + 1 + len(predicted)),
            hovertemplate=f"frame %{{customdata}}, predicted<extra>{predicted_name}</extra>",
        )
    is_labelled = (numbers == 1) | (numbers == len(true)) | (numbers % max(1, len(true) // 8) == 0)
    figure.add_scatter(
        x=true[:, 0],
        y=true[:, 1],
        mode="lines+markers+text",
        name="true frames",
        line={"width": 2, "color": CURVE_COLOURS[0]},
        marker={"size": 8, "color": CURVE_COLOURS[0]},
        text=[str(number) if named else "" for number, named in zip(numbers, is_labelled, strict=True)],
        textposition="top center",
        customdata=numbers,
        hovertemplate="frame %{customdata}<extra>true frames</extra>",
    )
    if values is not None:
        known = np.isfinite(values)
        figure.add_scatter(
            x=true[known, 0],
            y=true[known, 1],
            mode="markers",
            marker={
                "size": 11,
                "color": np.asarray(values, np.float64)[known],
                "colorscale": ATTENTION_COLOURS,
                "line": {"width": 0.6, "color": f"rgb({GREY})"},
                "colorbar": colour_bar(html.escape(value_title)),
            },
            customdata=numbers[known],
            hovertemplate=f"frame %{{customdata}}<br>{html.escape(value_title)} %{{marker.color:.4g}}<extra></extra>",
            showlegend=False,
        )
    figure.update_xaxes(title=axes[0], zeroline=False)
    figure.update_yaxes(title=axes[1], zeroline=False, scaleanchor="x")  # near must look near
    return finish(figure, height=400, top=30, bottom=48, left=58, legend=LEGEND)


def plot_influence(dropped: np.ndarray, swapped: np.ndarray, shuffled: float) -> go.Figure:
    """How far a predicted image moves, in mean squared change, when frames are dropped, exchanged, or shuffled.

    `dropped` (T,) is without each frame, `swapped` (T - 1,) with each frame and the next one exchanged, `shuffled` the
    mean over random orders of all frames but the last.
    """
    numbers = np.arange(1, len(dropped) + 1)
    figure = go.Figure().add_bar(
        x=numbers,
        y=np.asarray(dropped, np.float64),
        name="this frame dropped",
        marker={"color": CURVE_COLOURS[0]},
        hovertemplate="without frame %{x}: %{y:.3g}<extra></extra>",
    )
    figure.add_scatter(
        x=numbers[:-1] + 0.5,
        y=np.asarray(swapped, np.float64),
        mode="markers",
        name="two neighbours exchanged",
        marker={"size": 10, "symbol": "diamond", "color": MARKER_COLOUR},
        customdata=[f"frames {number} and {number + 1}" for number in range(1, len(swapped) + 1)],
        hovertemplate="%{customdata} exchanged: %{y:.3g}<extra></extra>",
    )
    figure.add_hline(
        y=shuffled,
        line={"width": 2, "dash": "dash", "color": f"rgb({GREY})"},
        annotation={"text": "all but the last shuffled", "xanchor": "left", "x": 0},
    )
    figure.update_xaxes(title="Frame", dtick=max(1, len(numbers) // 12), range=[0.4, len(numbers) + 0.6])
    highest = max(float(np.max(dropped)), float(np.max(swapped)), shuffled, 1e-12)
    figure.update_yaxes(title="Mean squared change", range=[0, 1.15 * highest], nticks=6)
    return finish(figure, height=320, top=30, bottom=48, left=64, bargap=0.3, legend=LEGEND)


def plot_tracks(tracks: Mapping[str, np.ndarray]) -> go.Figure:
    """Columns of a table, {header: (T,), NaN where there is no value}, each a line of its own over the same frames."""
    figure = make_subplots(rows=len(tracks), cols=1, shared_xaxes=True, vertical_spacing=0.24 / max(1, len(tracks)))
    for row, (header, values) in enumerate(tracks.items(), start=1):
        figure.add_scatter(
            x=np.arange(1, len(values) + 1),
            y=np.asarray(values, np.float64),
            mode="lines+markers",
            line={"width": 2, "color": CURVE_COLOURS[(row - 1) % len(CURVE_COLOURS)]},
            marker={"size": 5},
            hovertemplate=f"frame %{{x}}: %{{y:.4g}}<extra>{html.escape(header)}</extra>",
            showlegend=False,
            row=row,
            col=1,
        )
        figure.update_yaxes(nticks=3, row=row, col=1)
        place = {"xref": "paper", "x": 0, "yref": f"y{row if row > 1 else ''} domain", "y": 1, "yanchor": "bottom"}
        figure.add_annotation(text=html.escape(header), showarrow=False, font={"size": 12}, **place)
    figure.update_xaxes(title="Frame", row=len(tracks), col=1)
    return finish(figure, height=70 + TRACK_HEIGHT * len(tracks), top=24, bottom=44, left=58)


def plot_frame_effects(dropped: np.ndarray, covered: np.ndarray, shuffled: np.ndarray, title: str) -> go.Figure:
    """Signed changes of a prediction: frame by frame (T,), dropped and covered; of random orders (n,), their range.

    `title` says what changes, with its unit.
    """
    numbers = np.arange(1, len(dropped) + 1)
    figure = go.Figure()
    for name, values, colour in (
        ("this frame dropped", dropped, CURVE_COLOURS[0]),
        ("an empty page in its place", covered, MARKER_COLOUR),
    ):
        figure.add_bar(
            x=numbers,
            y=np.asarray(values, np.float64),
            name=name,
            marker={"color": colour},
            hovertemplate="frame %{x}: %{y:.3g}<extra></extra>",
        )
    figure.add_hrect(
        y0=float(np.min(shuffled)),
        y1=float(np.max(shuffled)),
        line={"width": 0},
        fillcolor=f"rgba({GREY},0.22)",
        annotation={"text": "all shuffled", "font": {"size": 11}, "xanchor": "left", "x": 0},
        annotation_position="top left",
    )
    figure.update_xaxes(title="Frame", dtick=max(1, len(numbers) // 12))
    figure.update_yaxes(title=html.escape(title), nticks=6)
    return finish(figure, height=330, top=30, bottom=48, left=64, bargap=0.3, legend=LEGEND)


def plot_patch_effects(
    images: np.ndarray,
    effects: np.ndarray,
    grid: tuple[int, int],
    tile_size: tuple[int, int],
    names: Sequence[str],
    unit: str,
) -> go.Figure:
    """Signed effects (n, N) of covering each patch, laid over its frame; images (n, H, W) in [0, 1].

    All share one range of colours, around zero.
    """
    count, height, width = images.shape
    across = 1 if width > 4 * height else min(count, MAX_ACROSS)
    rows = -(-count // across)
    figure = make_subplots(
        rows=rows,
        cols=across,
        subplot_titles=[*names],
        horizontal_spacing=0.012,
        vertical_spacing=0.1 / rows,
    )
    top = float(np.abs(effects).max()) or 1e-12
    y, x = (
        np.minimum(np.arange(cells + 1) * tile, size)
        for cells, tile, size in zip(grid, tile_size, (height, width), strict=True)
    )
    colours = [[place, f"rgba{(*colour, opacity)}"] for place, colour, opacity in SIGNED]
    for place in range(count):
        row, col = place // across + 1, place % across + 1
        figure.add_trace(
            go.Heatmap(
                z=effects[place].reshape(grid),
                x=x,
                y=y,
                zmin=-top,
                zmax=top,
                colorscale=colours,
                showscale=False,
                hovertemplate=f"{names[place]}: %{{z:.3g}}<extra></extra>",
            ),
            row=row,
            col=col,
        )
        lay_under(figure, encode_png(images[place]), width, height, row=row, col=col)
        axis = f"x{place + 1 if place else ''}"
        figure.update_xaxes(range=[0, width], visible=False, constrain="domain", row=row, col=col)
        figure.update_yaxes(range=[height, 0], visible=False, constrain="domain", scaleanchor=axis, row=row, col=col)
    bar = colour_bar(html.escape(unit))
    key = {"color": [0], "cmin": -top, "cmax": top, "colorscale": SIGNED_COLOURS, "showscale": True, "colorbar": bar}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=key, hoverinfo="skip", showlegend=False, row=1, col=1)
    each = int(np.clip(880 / across * height / width, 60, 300))
    return finish(figure, height=rows * (each + 30) + 20, top=28, bottom=8, left=0, dragmode=False)


def plot_head_effects(each: np.ndarray, whole: np.ndarray, unit: str) -> go.Figure:
    """Signed effects of ablating each head: (layers, heads, T) in one frame alone, (layers, heads) in all of them."""
    layers, heads, count = each.shape
    names = [f"layer {layer}, head {head}" for layer in range(layers) for head in range(heads)]
    figure = make_subplots(rows=1, cols=2, column_widths=[0.72, 0.28], shared_yaxes=True, horizontal_spacing=0.02)
    top = float(np.abs(each).max()) or 1e-12
    figure.add_trace(
        go.Heatmap(
            z=each.reshape(-1, count),
            x=np.arange(1, count + 1),
            y=names,
            zmin=-top,
            zmax=top,
            colorscale=SIGNED_COLOURS,
            colorbar=colour_bar(html.escape(unit)),
            hovertemplate="%{y}, frame %{x}: %{z:.3g}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    figure.add_bar(
        x=whole.ravel(),
        y=names,
        orientation="h",
        marker={"color": CURVE_COLOURS[0]},
        hovertemplate="%{y}, all frames: %{x:.3g}<extra></extra>",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.update_xaxes(title="Frame in which it is ablated", row=1, col=1)
    figure.update_xaxes(title="In all frames", zeroline=True, row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    return finish(figure, height=90 + 22 * len(names), top=10, bottom=48, left=110)
