"""Figures of sequences: every frame under its number, predictions joined to what they follow from."""

# Plotly's types do not say what its figures hold.

import numpy as np
import plotly.graph_objects as go
import pytest

from tae.plots.export.strips import effects_figure
from tae.plots.sequence import plot_influence, plot_patch_effects, plot_tracks, plot_trajectory

AXES = ("Component 1", "Component 2")
TRUE = np.array([[0.0, 0], [1, 0], [2, 1], [3, 1]])


def trace(figure: go.Figure, name: str):
    return next(one for one in figure.data if one.name == name)


def test_frames_are_joined_in_order_under_numbers_from_one() -> None:
    figure = plot_trajectory(TRUE, None, 0, AXES, is_step=True)
    (true,) = figure.data
    np.testing.assert_array_equal(np.stack([true.x, true.y], axis=1), TRUE)
    assert true.customdata.tolist() == [1, 2, 3, 4] and true.mode == "lines+markers+text"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == AXES
    assert figure.layout.yaxis.scaleanchor == "x"


def test_a_forecast_goes_on_from_the_last_frame_seen() -> None:
    predicted = np.array([[2.5, 2.0], [3, 3]])
    figure = plot_trajectory(TRUE, predicted, 3, AXES, is_step=False)
    line = figure.data[0]
    np.testing.assert_array_equal(np.stack([line.x, line.y], axis=1), [[2, 1], *predicted.tolist()])
    crosses = trace(figure, "LSTM")
    assert crosses.customdata.tolist() == [4, 5] and crosses.marker.symbol == "x"


def test_a_step_ahead_starts_from_the_frame_that_it_follows() -> None:
    predicted = TRUE[1:] + 0.1
    figure = plot_trajectory(TRUE, predicted, 1, AXES, is_step=True)
    line = figure.data[0]
    for number in range(3):
        assert (line.x[3 * number], line.y[3 * number]) == tuple(TRUE[number])
        assert (line.x[3 * number + 1], line.y[3 * number + 1]) == tuple(predicted[number])
        assert np.isnan(line.x[3 * number + 2])  # a gap: pairs are not joined with each other


def test_influence_stands_at_its_frame_and_between_neighbours() -> None:
    figure = plot_influence(np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.5]), 0.25)
    dropped, swapped = trace(figure, "this frame dropped"), trace(figure, "two neighbours exchanged")
    assert dropped.x.tolist() == [1, 2, 3] and dropped.y.tolist() == [0.1, 0.2, 0.4]
    assert swapped.x.tolist() == [1.5, 2.5] and list(swapped.customdata) == ["frames 1 and 2", "frames 2 and 3"]
    assert figure.layout.shapes[0].y0 == 0.25 and figure.layout.yaxis.range[1] == pytest.approx(1.15 * 0.5)


def test_a_prediction_that_nothing_moves_is_drawn_at_zero() -> None:
    figure = plot_influence(np.zeros(2), np.zeros(1), 0.0)
    assert 0 < figure.layout.yaxis.range[1] < 1e-6


def test_effects_of_patches_lie_on_their_patches_in_colours_around_zero() -> None:
    effects = np.zeros((2, 6))
    effects[0, 1], effects[1, 5] = -3.0, 1.5
    figure = plot_patch_effects(np.ones((2, 20, 30)), effects, (2, 3), (10, 10), ["all", "frame 4"], "mPa s")
    first, second = (trace for trace in figure.data if trace.type == "heatmap")
    assert first.z[0][1] == -3 and second.z[1][2] == 1.5 and first.zmin == second.zmin == -3 == -first.zmax
    assert [*first.x] == [0, 10, 20, 30] and len(figure.layout.images) == 2
    drawn = effects_figure(np.ones((2, 20, 30)), effects, (2, 3), (10, 10), ["all", "frame 4"], "mPa s", "", "svg")
    assert b"<svg" in drawn


def test_tracks_leave_gaps_where_a_table_says_nothing() -> None:
    figure = plot_tracks({"velocity (cm/s)": np.array([1, np.nan, 3]), "<b>": np.arange(3)})
    assert np.isnan(figure.data[0].y[1]) and not figure.data[0].connectgaps
    assert [one.text for one in figure.layout.annotations] == ["velocity (cm/s)", "&lt;b&gt;"]
