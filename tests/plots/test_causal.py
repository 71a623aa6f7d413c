"""Figures of interventions: they hold the numbers that they were given, and take only boxes for boxes."""

# Plotly's types do not say what its figures hold.

import base64
import io
import math
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from tae.analysis.causal.curves import Curves
from tae.analysis.causal.predictors import TRIVIAL, Interval
from tae.plots.causal import (
    PatchMap,
    plot_box,
    plot_change,
    plot_damage,
    plot_deletion_insertion,
    plot_patch_maps,
    plot_removal,
    plot_scores,
    selected_box,
)


def named(figure: go.Figure) -> dict[str, dict]:
    """{name: trace as it goes to the browser}."""
    return {trace.name: trace.to_plotly_json() for trace in figure.data}


def test_a_change_is_drawn_symmetric_about_zero_in_its_own_words() -> None:
    change = np.zeros((20, 30), np.float32)
    change[3, 4] = -0.25
    (trace,) = plot_change(change).data
    assert (trace.zmin, trace.zmid, trace.zmax) == (-0.25, 0, 0.25)
    assert tuple(trace.colorbar.ticktext) == ("darker", "0", "lighter") and trace.colorbar.tickvals is not None


def test_a_change_is_as_high_as_its_width_asks() -> None:
    assert plot_change(np.zeros((20, 30), np.float32)).layout.meta["per_width"] == pytest.approx(2 / 3)


def test_damage_keeps_order_parts_and_intervals() -> None:
    figure = plot_damage(
        ["a", "b", "c"], ["decoder", "encoder", "decoder"], [3, 2, -1], [(1, 2, 4), (0, 1, 2), (0, 0, 0)]
    )
    traces = named(figure)
    assert list(traces["decoder, this image"]["y"]) == ["a", "c"]
    assert list(traces["decoder, this image"]["x"]) == [-3, 1]  # losses are shown as changes
    assert list(traces["encoder, this image"]["x"]) == [-2] and figure.layout.xaxis.autorange == "reversed"
    tests = traces["test images: median, 5 to 95%"]
    assert list(tests["x"]) == [-2, -1, 0]
    assert list(tests["error_x"]["array"]) == [1, 1, 0] and list(tests["error_x"]["arrayminus"]) == [2, 1, 0]
    assert list(figure.layout.yaxis.categoryarray) == ["c", "b", "a"]  # Plotly counts from below


def test_damage_without_test_images_draws_the_picture_alone() -> None:
    assert len(plot_damage(["a"], ["encoder"], [1.0]).data) == 2


def test_removal_shows_the_band_of_random_orders() -> None:
    psnr, random = np.array([20.0, 19, 10]), np.array([[20.0, 12, 10], [20, 16, 10]])
    band, mean, own = plot_removal(psnr, random, ["x", "y"]).data
    assert list(band.y) == [20, 12, 10, 10, 16, 20]
    assert list(mean.y) == [20, 14, 10] and list(own.y) == [20, 19, 10]
    assert list(own.text) == ["none", "x", "y"]


def test_patch_maps_keep_their_values_and_own_ranges() -> None:
    for shape in [(40, 50), (32, 150)]:
        image = np.linspace(0, 1, shape[0] * shape[1]).reshape(shape)
        grid = (-(-shape[0] // 16), -(-shape[1] // 16))
        count = grid[0] * grid[1]
        effect = np.arange(count, dtype=float)
        effect[1] = math.nan
        maps = [PatchMap("effect", effect, "u"), PatchMap("none", np.zeros(count), "v")]
        figure = plot_patch_maps(image, maps, grid, 16, (0, 1, 20, 30))
        first, second = figure.data
        np.testing.assert_array_equal(first.z, effect.reshape(grid))
        assert (first.zmin, first.zmax) == (0, count - 1) and second.zmax == 1
        assert first.x[-1] == shape[1] and first.y[-1] == shape[0]  # the last patches end with the picture
        assert first.customdata[1][2] == f"patch {grid[1] + 2}: row 1, column 2"
        outlines = [shape for shape in figure.layout.shapes if shape.y1 == 20]
        assert [(one.x0, one.y0, one.x1) for one in outlines] == [(1, 0, 30)] * 2
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(figure.layout.images[1].source.split(",")[1]))))
        np.testing.assert_array_equal(pixels, np.round(image * 255).astype(np.uint8))


@pytest.mark.slow
def test_patch_maps_fill_their_figure_in_a_page_of_any_width() -> None:
    for count in [1, 2, 5, 6]:
        for shape, most in [((40, 50), 3), ((40, 120), 2), ((32, 320), 1)]:
            grid = (-(-shape[0] // 16), -(-shape[1] // 16))
            maps = [PatchMap(f"map {number}", np.zeros(grid[0] * grid[1]), "u") for number in range(count)]
            layout = plot_patch_maps(np.ones(shape), maps, grid, 16).layout
            suffixes = ["", *map(str, range(2, count + 1))]
            places = [(layout[f"xaxis{one}"].domain, layout[f"yaxis{one}"].domain) for one in suffixes]
            assert len({left for (left, _), _ in places}) == min(count, most)
            for (left, right), (low, high) in places:
                drawn = (high - low) * layout.meta["per_width"] / (right - left)
                assert drawn == pytest.approx(shape[0] / shape[1]), "no blank beside or below it"
            assert min(low for _, (low, _) in places) == pytest.approx(0)


def test_titles_of_patch_maps_are_broken_where_pictures_are_small() -> None:
    names = ["received attention, average", "Decoder, rollout over 3 layers, largest of 4 heads", "rollout"]
    maps = [PatchMap(name, np.ones(1), "x uniform") for name in names]
    titles = [one.text for one in plot_patch_maps(np.ones((16, 16)), maps, (1, 1), 16).layout.annotations]
    plain = [re.sub("<[^>]*>", "", title.replace("<br>", "\n").replace("\xa0", " ")) for title in titles]
    lines = [title.split("\n") for title in plain]
    assert lines[0] == ["received attention", "average, 0 to 1", "x uniform"]
    assert lines[2] == ["rollout", "0 to 1 x uniform"]
    assert lines[1] == ["Decoder, rollout", "over 3 layers, largest", "of 4 heads, 0 to 1", "x uniform"]
    wide = [PatchMap(names[1], np.ones(10), "x uniform")]
    (whole,) = plot_patch_maps(np.ones((16, 160)), wide, (1, 10), 16).layout.annotations
    assert whole.text.startswith(f"<b>{names[1]}</b><br>")


def test_scores_draw_intervals_where_there_are_any() -> None:
    scores = {"rollout": Interval(0.5, 0.4, 0.7), "random": Interval(0.1, math.nan, math.nan)}
    tests = {"rollout": {"value": 0.6, "low": 0.5, "high": 0.65}, "random": {"value": None, "low": None, "high": None}}
    traces = named(plot_scores(scores, {"rollout": "attention", "random": "trivial"}, tests))
    assert traces["attention"]["error_x"]["array"][0] == pytest.approx(0.2)
    assert traces["attention"]["error_x"]["arrayminus"][0] == pytest.approx(0.1)
    assert list(traces["simple baseline"]["error_x"]["array"]) == [0]
    assert list(traces["mean over test images"]["y"]) == ["rollout"]


def test_scores_keep_room_for_their_intervals_beside_long_names() -> None:
    names = ["rollout", "Decoder, rollout over 3 layers, largest of 4 heads"]
    axis = plot_scores(dict.fromkeys(names, Interval(0.5, 0.4, 0.7)), dict.fromkeys(names, "attention")).layout.yaxis
    assert list(axis.tickvals) == names
    assert list(axis.ticktext) == ["rollout", "Decoder, rollout over 3<br>layers, largest of 4 heads"]


def test_deletion_and_insertion_stand_side_by_side_under_one_name() -> None:
    curve = Curves(np.array([0, 0.5, 1]), np.array([1, 0.2, 0]), np.array([0, 0.9, 1]))
    figure = plot_deletion_insertion({"rollout": curve, "random order": curve}, {"rollout": "attention"})
    deletion, insertion = (trace for trace in figure.data if trace.name == "rollout")
    assert list(deletion.y) == [1, 0.2, 0] and list(insertion.y) == [0, 0.9, 1]
    assert "area 0.35" in deletion.hovertemplate and "area 0.70" in insertion.hovertemplate
    assert (deletion.showlegend, insertion.showlegend) == (True, False)
    guesses = plot_deletion_insertion(dict.fromkeys(TRIVIAL, curve), dict.fromkeys(TRIVIAL, "trivial"))
    assert len({trace.line.dash for trace in guesses.data}) == len(TRIVIAL)  # of one colour, and yet told apart


def test_a_drawn_box_becomes_whole_pixels_inside_the_picture() -> None:
    drawn = {"box": [{"x": [10.2, 30.7], "y": [50.9, 5.1]}]}
    assert selected_box(drawn, (100, 200)) == (5, 10, 51, 31)
    assert selected_box({"box": [{"x": [-40, 900], "y": [-1, 999]}]}, (100, 200)) == (0, 0, 100, 200)
    assert selected_box({"box": [{"x": [7, 7], "y": [300, 400]}]}, (100, 200)) == (99, 7, 100, 8)


def test_what_is_no_box_chooses_nothing() -> None:
    for selection in [
        {},
        {"box": []},
        {"box": ["x"]},
        {"box": [{"x": [1, 2]}]},
        {"box": [{"x": ["a", 2], "y": [1, 2]}]},
        {"box": [{"x": [1, math.nan], "y": [1, 2]}]},
    ]:
        assert selected_box(selection, (100, 200)) is None


def test_the_box_that_holds_is_outlined() -> None:
    figure = plot_box(np.ones((30, 40)), (1, 2, 10, 20))
    edge, shape = figure.layout.shapes
    assert (edge.x0, edge.y0, edge.x1, edge.y1) == (0, 0, 40, 30)
    assert (shape.y0, shape.x0, shape.y1, shape.x1) == (1, 2, 10, 20) and figure.layout.dragmode == "select"
