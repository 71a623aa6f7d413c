"""How well an image is reconstructed, as figures: its error, and its place among the test images."""

import numpy as np
import plotly.graph_objects as go

from tae.analysis.facts import is_wide
from tae.plots.style import ERROR_COLOURS, MARKER_COLOUR, QUERY_COLOUR, block_extreme, finish

MAX_ERROR_SIDE = 512
METRICS = {  # {name: (label, how it is written, whether higher is better, what it means)}
    "psnr": ("PSNR", "{:.1f} dB", True, "Peak signal-to-noise ratio: higher is better; +6 dB halves the RMS error."),
    "ssim": (
        "SSIM",
        "{:.3f}",
        True,
        "Structural similarity, 1 for a perfect copy. Flatters mostly blank pages: read it beside the foreground MSE.",
    ),
    "mse": ("MSE", "{:.4f}", False, "Mean squared error over all pixels, greys from 0 to 1: lower is better."),
    "foreground_mse": (
        "Foreground MSE",
        "{:.4f}",
        False,
        "Mean squared error over pixels that are not white (darker than .95): lower is better.",
    ),
}


def plot_signed_error(error: np.ndarray, limit: float | None = None) -> go.Figure:
    """Reconstruction minus image (H, W), on colours centred on zero: above it is too light, below too dark.

    The colours end at `limit` on both sides, None the largest error, at least .05.
    """
    height, width = error.shape
    largest = float(np.abs(error).max())
    limit = max(largest, 0.05) if limit is None else limit
    shown, k = block_extreme(np.asarray(error, np.float32), MAX_ERROR_SIDE)
    coarser = "" if k == 1 else f", largest of {k} x {k} pixels"
    figure = go.Figure().add_heatmap(
        z=shown,
        x=(np.arange(shown.shape[1]) + 0.5) * k - 0.5,
        y=(np.arange(shown.shape[0]) + 0.5) * k - 0.5,
        colorscale=ERROR_COLOURS,
        zmid=0,
        zmin=-limit,
        zmax=limit,
        colorbar={
            "orientation": "h",
            "y": 0,
            "yanchor": "top",
            "thickness": 10,
            "len": 1,
            "tickvals": [-0.7 * limit, 0, 0.7 * limit],
            "ticktext": ["too dark", "0", "too light"],
            "title": {"text": f"-{limit:.2f} to +{limit:.2f}{coarser}", "side": "bottom", "font": {"size": 11}},
            "outlinewidth": 0,
        },
        hovertemplate="x %{x:.0f}, y %{y:.0f}<br>error %{z:+.3f}<extra></extra>",
    )
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain", autorange="reversed", scaleanchor="x", constraintoward="top")
    room = 1000 if is_wide(error.shape) else 250  # a wide image has the page's whole width
    drawn = int(np.clip(room * height / width, 60, 250))
    words = 66  # all that the colour bar takes: with less, Plotly makes room by a smaller image
    return finish(figure, height=drawn + words, top=0, left=0, right=0, bottom=words, per_width=height / width)


def worse_than(percentiles: np.ndarray, value: float, higher_is_better: bool) -> float:
    """Share in percent of test images that did better than a value, from their 0th to 100th percentiles (101,)."""
    rank = float(np.interp(value, percentiles, np.linspace(0, 100, len(percentiles))))
    return 100 - rank if higher_is_better else rank


def plot_distribution(percentiles: np.ndarray, value: float, label: str, higher_is_better: bool) -> go.Figure:
    """Where the value of one image lies among the test images: their middle 50 and 90%, their median, and the image.

    `percentiles` (101,) are of the test images, `label` names the measure.
    """
    low, quarter, median, three_quarters, high = (float(percentiles[rank]) for rank in (5, 25, 50, 75, 95))
    figure = go.Figure()
    for start, end, width, opacity in ((low, high, 6, 0.35), (quarter, three_quarters, 12, 0.75)):
        figure.add_scatter(
            x=[start, end],
            y=[0, 0],
            mode="lines",
            line={"width": width, "color": "#7d8aa5"},
            opacity=opacity,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[median],
        y=[0],
        mode="markers",
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": "#ffffff"}},
        hovertemplate=f"median of the test images: %{{x:.4g}}<extra>{label}</extra>",
    )
    figure.add_scatter(
        x=[value],
        y=[0],
        mode="markers",
        marker={"symbol": "diamond", "size": 13, "color": MARKER_COLOUR, "line": {"width": 1, "color": "#ffffff"}},
        hovertemplate=f"this image: %{{x:.4g}}<extra>{label}</extra>",
    )
    better = "right" if higher_is_better else "left"
    figure.add_annotation(
        text=f"bar: 90% of test images · better: {better}",
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        yshift=-16,
        font={"size": 11},
        opacity=0.75,
    )
    span = max(high, value) - min(low, value) or 1.0
    figure.update_xaxes(visible=False, range=[min(low, value) - 0.08 * span, max(high, value) + 0.08 * span])
    figure.update_yaxes(visible=False, range=[-1, 1])
    return finish(figure, height=64, top=0, left=0, right=0, bottom=18, dragmode=False, showlegend=False)


def plot_by_group(groups: list[dict], axis: str) -> go.Figure:
    """PSNR of each group of a checkpoint's test images, as points; open ones for what training never showed.

    Groups are [{"group": ..., "psnr": ..., "count": ..., "unseen": ...}, ...], as in `Card.metrics`; `axis` says what
    their names mean.
    """
    figure = go.Figure().add_scatter(
        x=[one["group"] for one in groups],
        y=np.array([one["psnr"] for one in groups], np.float64),
        mode="lines+markers",
        line={"width": 1.5},
        marker={
            "size": 9,
            "line": {"width": 2, "color": QUERY_COLOUR},
            "color": ["#ffffff" if one["unseen"] else QUERY_COLOUR for one in groups],
        },
        customdata=[
            f"{one['count']} test images{', unlike any in training' if one['unseen'] else ''}" for one in groups
        ],
        hovertemplate="%{x}<br>%{y:.2f} dB<br>%{customdata}<extra></extra>",
    )
    figure.update_traces(line_color=QUERY_COLOUR)
    figure.update_xaxes(title=axis, type="category")
    figure.update_yaxes(title="Test PSNR (dB)")
    return finish(figure, height=270, top=8, bottom=44, left=54)
