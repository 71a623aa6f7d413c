"""Sequences as figures: the way through latent space, and what each frame does to a prediction."""

import numpy as np
import plotly.graph_objects as go

from tae.plots.style import CURVE_COLOURS, GREY, LEGEND, MARKER_COLOUR, finish


def plot_trajectory(
    true: np.ndarray,
    predicted: np.ndarray | None,
    first: int,
    axes: tuple[str, str],
    is_step: bool,
    predicted_name: str = "LSTM",
) -> go.Figure:
    """The frames of a sequence as points on a plane, joined in order, and those predicted beside them.

    Args:
        true: (T, 2) of the true frames.
        predicted: (n, 2), the first of which is of frame `first`, from 0; None: there are none.
        axes: Titles of x and y.
        is_step: Whether each prediction was made from the true frames before it: then a thin line joins it to the frame
            that it was made after. Else the predictions are joined with each other, from the last frame that was seen on.
        predicted_name: Name in the legend.
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
