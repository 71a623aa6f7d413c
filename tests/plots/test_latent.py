"""Figures of the latent space and the lens: every point where it belongs, under its own number and words."""

# Plotly's types do not say what its figures hold.

import base64
import io
import itertools
import json

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from tae.plots.latent import (
    contact_sheet,
    plot_latent_map,
    plot_lens_psnr,
    plot_lens_strip,
    plot_moments,
    plot_spectrum,
    selected_points,
)
from tae.plots.style import CLEAR, CURVE_COLOURS, MARKER_COLOUR

AXES = ("Component 1", "Component 2")
EVIL = "<b>x</b><img src=y>"


def places(count: int = 7) -> np.ndarray:
    made = np.random.default_rng(0).standard_normal((count, 2))
    made.flags.writeable = False
    return made


def by_number(figure: go.Figure) -> dict[int, tuple[float, float]]:
    """{customdata: place} of every point that has one."""
    return {
        int(number): (float(x), float(y))
        for trace in figure.data
        if trace.customdata is not None
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


def test_every_picture_lies_at_its_place_under_its_number_own_ones_behind_the_set():
    for groups in [None, ["boot", "bag", "boot", "coat", "bag", "boot", "boot"]]:
        points, own = places(), places(9)[7:]
        figure = plot_latent_map(points, AXES, groups=groups, own=own, own_titles=["a.png", "b.png"])
        expected = {number: tuple(place) for number, place in enumerate(np.concatenate([points, own]).tolist())}
        assert by_number(figure) == expected
        assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == AXES
        assert figure.layout.yaxis.scaleanchor == "x" and figure.layout.dragmode == "lasso"


def test_groups_differ_in_colour_or_symbol_and_are_named_on_the_map_or_else_in_the_legend():
    groups = [f"class {number}" for number in range(12)]
    figure = plot_latent_map(places(12), AXES, groups=groups)
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 12 and [trace.name for trace in figure.data] == groups
    on_map = [one.text for one in figure.layout.annotations]
    assert sorted([*on_map, *(trace.name for trace in figure.data if trace.showlegend)]) == sorted(groups)
    assert len(on_map) > 1 and (len(on_map) == 12) != bool(figure.layout.showlegend)
    places_of = {one.text: (one.x, one.y) for one in figure.layout.annotations}
    assert all(places_of[one.name] == (one.x[0], one.y[0]) for one in figure.data if one.name in places_of)


def test_values_are_coloured_on_one_range_and_told_with_their_name():
    values = np.arange(7.0)
    figure = plot_latent_map(
        places(), AXES, groups=["a", "b", "a", "b", "a", "b", "a"], values=values, value_title="PSNR"
    )
    assert [(trace.marker.cmin, trace.marker.cmax) for trace in figure.data] == [(0, 6), (0, 6)]
    for trace in figure.data:
        np.testing.assert_array_equal(trace.marker.color, values[list(trace.customdata)])
        assert "PSNR %{marker.color:.4g}" in trace.hovertemplate
    assert [trace.marker.showscale for trace in figure.data] == [True, False]


def test_rings_are_drawn_around_the_numbers_given():
    points, own = places(), places(9)[7:]
    rings = plot_latent_map(points, AXES, own=own, ringed=[3, 8]).data[-1]
    np.testing.assert_array_equal(np.stack([rings.x, rings.y], axis=1), [points[3], own[1]])
    assert rings.customdata is None, "a ring is no point to choose"


def test_strangers_texts_are_shown_as_they_stand():
    figure = plot_latent_map(
        places(2),
        AXES,
        groups=[EVIL, "b"],
        values=np.arange(2),
        value_title=EVIL,
        own=places(1),
        own_titles=[EVIL],
    )
    assert "<img" not in json.dumps(figure.to_plotly_json(), default=str)
    assert "<img" not in json.dumps(plot_lens_strip(np.zeros((1, 8, 8)), [EVIL], [20]).to_plotly_json(), default=str)


def test_lasso_chooses_numbers_of_points():
    chosen = {"points": [{"customdata": 4}, {"customdata": [2]}, {"customdata": {"0": 8}}, {"customdata": 4.0}]}
    assert selected_points(chosen, 9) == [2, 4, 8]
    assert selected_points(chosen, 8) == [2, 4]


def test_what_is_no_point_chooses_nothing():
    for selection in [
        {},
        {"points": None},
        {"points": []},
        {"points": ["x", None, {}, {"customdata": None}, {"customdata": "3"}, {"customdata": []}]},
        {"points": [{"customdata": -1}, {"customdata": 1.5}, {"customdata": True}, {"customdata": 1e30}]},
        {"points": [{"customdata": float("nan")}, {"customdata": float("inf")}]},
    ]:
        assert selected_points(selection, 9) == []


def test_numbers_of_the_map_are_what_a_selection_reports():
    figure = plot_latent_map(places(), AXES, own=places(2))
    points = [{"customdata": int(trace.customdata[0])} for trace in figure.data]
    assert selected_points({"points": points}, 9) == [0, 7]


def test_spectrum_draws_shares_and_their_sums():
    figure = plot_spectrum(np.array([6.0, 3, 1]), in_use=2.174, num_images=40)
    bars, line = figure.data
    np.testing.assert_allclose(bars.y, [0.6, 0.3, 0.1])
    np.testing.assert_allclose(line.y, [0.6, 0.9, 1])
    assert list(bars.x) == list(line.x) == [1, 2, 3]
    (ratio,) = figure.layout.shapes
    assert ratio.x0 == ratio.x1 == 2.174
    assert figure.layout.annotations[0].text == "participation ratio 2.2"
    assert "40 images" in figure.layout.xaxis.title.text


def test_psnr_by_depth_has_a_curve_for_each_that_is_given_and_open_points_for_states_to_distrust():
    names = ["before layer 0", "after layer 0", "after layer 1"]
    figure = plot_lens_psnr(names, [5, 12, 25], [17, 20, 25], test_raw=[6, 13, 24], unusual=[True, True, False])
    assert [trace.name for trace in figure.data] == ["raw", "tuned", "raw, mean of test images"]
    raw, tuned, test_raw = figure.data
    assert list(raw.x) == names and list(raw.y) == [5, 12, 25] and list(tuned.y) == [17, 20, 25]
    assert raw.marker.color == ("#ffffff", "#ffffff", CURVE_COLOURS[0])
    assert set(tuned.marker.color) == {CURVE_COLOURS[1]}
    assert list(raw.customdata) == ["<br>state out of distribution"] * 2 + [""]
    assert raw.line.color == test_raw.line.color != tuned.line.color and test_raw.line.dash == "dot"
    assert len(plot_lens_psnr(names, [5, 12, 25]).data) == 1


def test_psnr_over_training_rings_the_chosen_step_and_bridges_what_cannot_be_read():
    curve, ring = plot_moments([0, 5, 20], [5, float("nan"), 12], 20).data
    assert list(curve.x) == [0, 5, 20] and [curve.y[0], curve.y[2]] == [5, 12] and np.isnan(curve.y[1])
    assert curve.connectgaps and (list(ring.x), list(ring.y)) == ([20], [12]) and ring.marker.symbol == "circle-open"
    assert len(plot_moments([0, 5, 20], [5, 6, 12]).data) == 1


def test_strip_shows_every_picture_by_itself_with_the_page_s_own_ground_around_it():
    for shape, columns in [((4, 20, 20), 4), ((13, 20, 30), 4), ((3, 20, 60), 2), ((3, 15, 120), 1), ((1, 8, 8), 1)]:
        pictures = np.random.default_rng(0).random(shape)
        names = [str(number) for number in range(shape[0])]
        figure = plot_lens_strip(pictures, names, [20.0] * shape[0])
        shown = figure.layout.images
        assert len({one.x for one in shown}) == columns
        for picture, one in zip(pictures, shown, strict=True):
            with Image.open(io.BytesIO(base64.b64decode(one.source.split(",")[1]))) as image:
                np.testing.assert_array_equal(np.asarray(image), np.round(picture * 255))
            assert (one.sizex, one.sizey) == (shape[2], shape[1])
        for first, second in itertools.combinations(shown, 2):
            assert abs(first.x - second.x) > shape[2] or abs(first.y - second.y) > shape[1]
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == CLEAR


def test_strip_is_as_high_as_its_width_asks():
    for shape in [(1, 20, 20), (6, 20, 20), (3, 20, 60), (3, 15, 120)]:
        figure = plot_lens_strip(np.zeros(shape), ["x"] * shape[0], [20.0] * shape[0])
        (left, right), (bottom, top) = figure.layout.xaxis.range, figure.layout.yaxis.range
        assert figure.layout.meta["per_width"] == pytest.approx((bottom - top) / (right - left))
        last = figure.layout.images[-1]
        assert last.y + last.sizey <= bottom and top <= 0


def test_strip_s_figure_names_and_frames_each_picture():
    figure = plot_lens_strip(np.zeros((3, 20, 20)), ["a", "b", "c"], [5.25, 12, 25], [True, False, False])
    first, second, _ = figure.layout.annotations
    assert first.text.startswith("a<br>5.2 dB<br>") and "out of distribution" in first.text
    shown = figure.layout.images[1]
    assert second.text == "b<br>12.0 dB" and (second.x, second.y) == (shown.x, shown.y)
    frames = figure.layout.shapes
    assert [frame.line.color == MARKER_COLOUR for frame in frames] == [True, False, False]
    assert (frames[1].x0, frames[1].x1, frames[1].y0, frames[1].y1) == (shown.x, shown.x + 20, shown.y, shown.y + 20)
    (wide,) = plot_lens_strip(np.zeros((1, 15, 120)), ["a"], [5.25]).layout.annotations
    assert wide.text == "a: 5.2 dB"


def test_contact_sheet_keeps_pictures_in_order_and_whole():
    pictures = [np.full((10, 10), value, np.uint8) for value in (10, 20, 30)] + [np.zeros((5, 50))]
    sheet = contact_sheet(pictures, side=20, columns=3)
    assert sheet.shape == (40, 60) and sheet.dtype == np.uint8
    assert [int(sheet[10, 10 + 20 * number]) for number in range(3)] == [10, 20, 30]
    assert (sheet[5:15, 5:15] == 10).all() and (sheet[0] == 255).all()  # small ones are not enlarged
    assert (sheet[29:31, :20] == 0).all() and (sheet[:, 20:][20:] == 255).all()


def test_contact_sheet_of_wide_pictures_has_low_cells():
    sheet = contact_sheet([np.full((10, 80), 7, np.uint8), np.full((10, 20), 9, np.uint8)], 40, 2, height=5)
    assert sheet.shape == (5, 80)
    assert (sheet[:, :40] == 7).all() and (sheet[:, 55:65] == 9).all() and (sheet[:, 40:55] == 255).all()
