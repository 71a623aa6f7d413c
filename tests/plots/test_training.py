"""Curves of a training: every point, every spike, and whose they are."""

# Plotly's types do not say what its figures hold.

import numpy as np
import plotly.graph_objects as go

from tae.plots.training import MAX_POINTS, plot_curves, plot_training_curve


def test_a_training_curve_draws_its_points_and_passes_over_incomplete_ones():
    curve = [{"step": 10, "held_out_psnr": 12.5}, {"step": 20, "loss": 0.1}, {"step": 30, "held_out_psnr": 14.0}]
    figure = plot_training_curve(curve)
    assert figure.data[0].x.tolist() == [10, 30]
    assert figure.data[0].y.tolist() == [12.5, 14.0]
    assert figure.layout.xaxis.title.text == "Step"
    assert figure.layout.yaxis.title.text == "Held-out PSNR (dB)"
    assert not len(plot_training_curve([]).data[0].x)


def drawn(*names: str, **settings) -> go.Figure:
    curves = {name: (np.arange(1.0, 4), np.array([0.1, 0.01, 0.02])) for name in names}
    return plot_curves(curves, "Step", "Loss", **settings)


def test_curves_draw_their_points_and_leave_out_what_is_no_number():
    x, y = np.array([1, 2, 3, 4, 5]), np.array([0.5, np.nan, np.inf, 0, 0.25])
    figure = plot_curves({"a": (x, y)}, "Minutes", "Held-out PSNR (dB)", unit=" dB")
    assert figure.data[0].x.tolist() == [1, 4, 5] and figure.data[0].y.tolist() == [0.5, 0, 0.25]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Minutes", "Held-out PSNR (dB)")
    assert figure.layout.yaxis.type == "linear" and not figure.layout.showlegend
    assert figure.data[0].hovertemplate.startswith("minutes %{x:.4~g}<br>%{y:.4~g} dB")
    logarithmic = plot_curves({"a": (x, y)}, "Step", "Loss", log=True)
    assert logarithmic.data[0].y.tolist() == [0.5, 0.25] and logarithmic.layout.yaxis.type == "log"
    axis = plot_curves({"a": (np.array([1.0, 2.0]), np.array([0.02, 0.003]))}, "Step", "Loss", log=True).layout.yaxis
    shown = [text for text, value in zip(axis.ticktext, axis.tickvals, strict=True) if 0.002 <= value <= 0.02]
    assert shown == ["0.002", "0.005", "0.01", "0.02"]  # each with its whole value


def test_curve_of_one_point_is_a_dot_and_none_is_empty():
    one = plot_curves({"a": (np.array([3]), np.array([0.5]))}, "Step", "Loss")
    assert one.data[0].mode == "markers"
    none = plot_curves({"a": (np.array([]), np.array([]))}, "Step", "Loss", log=True)
    assert not len(none.data[0].x)


def test_curves_differ_in_colour_or_dash_and_say_whose_they_are():
    figure = drawn(*(f"run {number}" for number in range(12)))
    looks = [(trace.line.color, trace.line.dash) for trace in figure.data]
    assert len(set(looks)) == 12 and figure.layout.showlegend
    assert [trace.name for trace in figure.data] == [f"run {number}" for number in range(12)]
    assert figure.layout.height > drawn("a").layout.height, "the legend has room of its own"


def test_names_of_curves_are_shown_as_they_stand():
    trace = drawn("<b>bold</b><img src=x>").data[0]
    assert trace.name == "&lt;b&gt;bold&lt;/b&gt;&lt;img src=x&gt;" and trace.name in trace.hovertemplate


def test_long_curve_keeps_its_spikes_and_its_ends():
    x, y = np.arange(100_000), np.random.default_rng(0).random(100_000) + 1
    y[[31_415, 70_000]] = 50, 0.001
    (trace,) = plot_curves({"a": (x, y)}, "Step", "Loss").data
    assert len(trace.x) <= MAX_POINTS + 2 and np.all(np.diff(trace.x) > 0)
    points = dict(zip(trace.x.tolist(), trace.y.tolist(), strict=True))
    assert points[31_415] == 50 and points[70_000] == 0.001
    assert points[0] == y[0] and points[99_999] == y[-1]
    np.testing.assert_array_equal(trace.y, y[trace.x.astype(int)])


def test_levels_are_dotted_lines_with_their_names_as_text() -> None:
    x = np.arange(3.0)
    figure = plot_curves({"run": (x, x + 10)}, "Step", "PSNR (dB)", levels={"PCA <b>": 12.5, "mean": 9.0})
    assert [(shape.y0, shape.y1, shape.line.dash) for shape in figure.layout.shapes] == [
        (12.5, 12.5, "dot"),
        (9.0, 9.0, "dot"),
    ]
    assert [note.text for note in figure.layout.annotations] == ["PCA &lt;b&gt;", "mean"]
