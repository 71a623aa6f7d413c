"""Trainings as figures: their curves, and the memory of a step."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from tae.plots.style import CURVE_COLOURS, LEGEND, MARKER_COLOUR, finish

DASHES = ("solid", "dash", "dot", "dashdot")
MAX_POINTS = 1000  # of one curve; of more, the lowest and the highest of each block are drawn


def plot_training_curve(curve: list[dict]) -> go.Figure:
    """Held-out PSNR over the steps of a training, from [{"step": ..., "held_out_psnr": ...}, ...]."""
    points = [point for point in curve if "step" in point and "held_out_psnr" in point]
    figure = go.Figure().add_scatter(
        x=np.array([point["step"] for point in points], np.float64),
        y=np.array([point["held_out_psnr"] for point in points], np.float64),
        mode="lines",
        line={"width": 2.5},
        hovertemplate="step %{x:.0f}<br>%{y:.2f} dB<extra></extra>",
    )
    figure.update_xaxes(title="Step")
    figure.update_yaxes(title="Held-out PSNR (dB)")
    return finish(figure, height=270, top=8, bottom=44, left=54)


def plot_curves(
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    x_title: str,
    y_title: str,
    unit: str = "",
    log: bool = False,
    order: Sequence[str] = (),
    levels: Mapping[str, float] | None = None,
) -> go.Figure:
    """Curves of one or more trainings, or of several methods, over each other.

    Args:
        curves: {name: (x (n,), y (n,))}, x rising; points that are no finite numbers are left out.
        unit: Behind y in the hover.
        log: Whether the vertical axis is logarithmic; points that are not above 0 are left out then.
        order: Names that have the same colour whichever of them are there; else colours follow the curves.
        levels: {name: height} of what the curves are compared with, dotted lines from side to side.
    """
    figure = go.Figure()
    drawn: list[np.ndarray] = []
    places = {name: number for number, name in enumerate(order or curves)}
    for name, (x, y) in curves.items():
        number = places[name]
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        is_shown = np.isfinite(x) & np.isfinite(y) & (y > 0 if log else True)
        x, y = _thinned(x[is_shown], y[is_shown])
        drawn.append(y)
        label = html.escape(name)
        figure.add_scatter(
            x=x,
            y=y,
            name=label,
            mode="lines" if len(x) > 1 else "markers",
            line={
                "width": 2,
                "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
                "dash": DASHES[number // len(CURVE_COLOURS) % len(DASHES)],
            },
            hovertemplate=f"{x_title.lower()} %{{x:.4~g}}<br>%{{y:.4~g}}{unit}<extra>{label}</extra>",
        )
    for name, height in (levels or {}).items():
        figure.add_hline(
            y=height,
            line={"width": 1.5, "dash": "dot", "color": MARKER_COLOUR},
            annotation={"text": html.escape(name), "font": {"size": 11}},
            annotation_position="top right",
        )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(title=y_title, type="log" if log else "linear", nticks=6)
    values = np.concatenate(drawn or [np.ones(0)])
    if log and len(values):
        ticks = _log_ticks(float(values.min()), float(values.max()))
        figure.update_yaxes(tickmode="array", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    figure.update_layout(showlegend=len(curves) > 1, legend=LEGEND)
    rows = len(curves) if len(curves) > 1 else 0
    return finish(figure, height=260 + 20 * rows, top=8 + 20 * rows, bottom=44, left=58)


def _log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis, each with its whole value: left alone, Plotly names some by their first digit."""
    lowest, highest = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    digits = (1, 2, 5) if highest - lowest < 4 else (1,)
    return [digit * 10.0**power for power in range(lowest - 1, highest + 1) for digit in digits]


def plot_memory(kinds: dict[str, int], memory: int) -> go.Figure:
    """The bytes of each kind that a training step holds at its peak, stacked, before the memory of the device.

    `memory` is in bytes, 0 not known.
    """
    figure = go.Figure()
    for number, (kind, count) in enumerate(kinds.items()):
        figure.add_bar(
            x=[count / 1e9],
            y=[""],
            name=kind,
            orientation="h",
            marker={
                "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
                "pattern": {"shape": "" if number < len(CURVE_COLOURS) else "/"},
                "line": {"width": 0},
            },
            hovertemplate=f"{kind}: {count / 1e6:,.0f} MB<extra></extra>",
        )
    total = sum(kinds.values())
    if memory and memory < 4 * total:  # far away, it would squeeze the bar to nothing
        figure.add_vline(x=memory / 1e9, line={"color": MARKER_COLOUR, "width": 3})
    figure.update_xaxes(
        title=f"GB, of {memory / 1e9:,.1f}" if memory else "GB at the peak",
        range=[0, 1.08 * max(total, memory if memory < 4 * total else 0) / 1e9],
    )
    figure.update_yaxes(visible=False)
    figure.update_layout(barmode="stack", bargap=0.25, legend=LEGEND | {"traceorder": "normal"})
    legend = 19 * -(-len(kinds) // 2)  # at its narrowest, two columns
    return finish(figure, height=100 + legend, top=6 + legend, bottom=44, left=0, dragmode=False)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `MAX_POINTS` of the points: the lowest and the highest of each block, so that no spike is lost."""
    if len(x) <= MAX_POINTS:
        return x, y
    starts = np.linspace(0, len(x), MAX_POINTS // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        kept |= {start + int(y[start:end].argmin()), start + int(y[start:end].argmax())}
    places = sorted(kept)
    return x[places], y[places]
