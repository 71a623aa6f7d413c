"""Figures: what is drawn is what was given, on scales that cannot mislead."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.colors import unlabel_rgb

from tae import plots
from tae.plots import block_max, percentile_rank, selected_token, worse_than

GRID = (3, 4)
# Plotly's types do not say what its figures hold.
plot_attention_map: Callable[..., Any] = plots.plot_attention_map
plot_distribution: Callable[..., Any] = plots.plot_distribution
plot_layer_grid: Callable[..., Any] = plots.plot_layer_grid
plot_patch_attention: Callable[..., Any] = plots.plot_patch_attention
plot_signed_error: Callable[..., Any] = plots.plot_signed_error
plot_training_curve: Callable[..., Any] = plots.plot_training_curve


def random_map(num_tokens: int = 12, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).exponential(size=(num_tokens, num_tokens)).astype(np.float32)
    return weights / weights.sum(axis=1, keepdims=True)


def heatmap(figure: Any) -> Any:
    return next(trace for trace in figure.data if isinstance(trace, go.Heatmap))


def luminance(colour: str) -> float:
    """Relative luminance of a hex or rgb() colour, in [0, 1]."""
    if colour.startswith("#"):
        channels = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    else:
        channels = [float(value) for value in unlabel_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels)) / 255


def all_figures() -> dict[str, Any]:
    maps = {"layer_0": random_map(), "layer_1": random_map(seed=1), "average": random_map(seed=2)}
    image = np.linspace(0, 1, 24 * 32).reshape(24, 32)
    return {
        "map": plot_attention_map(random_map(), GRID),
        "spread": plot_attention_map(random_map(), GRID, quantity="spread"),
        "layers": plot_layer_grid(maps, GRID, 3.0),
        "patch": plot_patch_attention(image, random_map()[5], GRID, 8, 5),
        "error": plot_signed_error(image - 0.5),
        "distribution": plot_distribution(np.linspace(10, 30, 101), 22.0, "PSNR", True),
        "curve": plot_training_curve([{"step": 1, "held_out_psnr": 10.0}, {"step": 2, "held_out_psnr": 12.0}]),
    }


def test_one_weight_lies_in_its_query_s_row_and_its_key_s_column() -> None:
    weights = np.zeros((12, 12), np.float32)
    weights[7, 2] = 0.5  # query: row 1, column 3; key: row 0, column 2
    figure = plot_attention_map(weights, GRID)
    drawn = heatmap(figure)
    assert np.argwhere(np.asarray(drawn.z)).tolist() == [[7, 2]]
    assert drawn.z[7][2] == 6.0 and drawn.customdata[7][2] == 0.5  # x uniform, and the weight
    assert drawn.y[7] == "7 (row 1, column 3)" and drawn.x[2] == "2 (row 0, column 2)"
    assert figure.layout.yaxis.autorange == "reversed"  # query 0 on top
    assert figure.layout.xaxis.title.text == "Key patch" and figure.layout.yaxis.title.text == "Query patch"
    assert "query %{y}" in drawn.hovertemplate and "key %{x}" in drawn.hovertemplate
    assert "%{z:.4g} x uniform" in drawn.hovertemplate


def test_spread_between_heads_is_told_beside_the_weight() -> None:
    weights, spread = random_map(), random_map(seed=3)
    drawn = heatmap(plot_attention_map(weights, GRID, spread=spread))
    np.testing.assert_allclose(np.asarray(drawn.customdata)[..., 0], weights, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(drawn.customdata)[..., 1], spread)
    assert "spread between heads %{customdata[1]" in drawn.hovertemplate


def test_dark_is_high_in_even_steps() -> None:
    lights = [luminance(colour) for colour in plots.ATTENTION_COLOURS]
    assert lights == sorted(lights, reverse=True) and lights[0] > 0.9 and lights[-1] < 0.05
    overlay = [luminance(f"rgb{plots._on_white(colour, opacity)}") for _, colour, opacity in plots.OVERLAY]
    assert overlay == sorted(overlay, reverse=True)
    assert [opacity for *_, opacity in plots.OVERLAY][0] == 0  # no weight leaves the image as it is


def test_colours_start_at_zero_and_end_where_asked_but_never_below_one_and_a_half() -> None:
    uniform = np.full((12, 12), 1 / 12, np.float32)
    drawn = heatmap(plot_attention_map(uniform, GRID))
    assert (drawn.zmin, drawn.zmax) == (0, 1.5)
    peaked = random_map()
    assert heatmap(plot_attention_map(peaked, GRID)).zmax == pytest.approx(peaked.max() * 12)
    assert heatmap(plot_attention_map(peaked, GRID, zmax=9.0)).zmax == 9.0


def test_all_layers_share_one_range_and_their_numbers() -> None:
    maps = {"layer_0": random_map(), "layer_1": random_map(seed=1), "average": random_map(seed=2)}
    figure = plot_layer_grid(maps, GRID, 7.5)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 7.5)
    for trace, one in zip(figure.data, maps.values(), strict=True):
        assert trace.coloraxis == "coloraxis"
        np.testing.assert_allclose(np.asarray(trace.z), one * 12, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(trace.customdata), one, rtol=1e-6)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["Layer 0", "Layer 1", "Average"]
    assert all(figure.layout[axis].autorange == "reversed" for axis in ("yaxis", "yaxis2", "yaxis3"))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_blocks_keep_every_peak(rows: int, columns: int, cells: int, seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=(rows, columns))
    small, k = block_max(array, cells)
    assert max(small.shape) <= cells and small.max() == array.max()
    for row in range(small.shape[0]):
        for column in range(small.shape[1]):
            assert small[row, column] == array[row * k : (row + 1) * k, column * k : (column + 1) * k].max()


@pytest.mark.parametrize(("num_tokens", "grid", "k"), [(400, (20, 20), 1), (800, (10, 80), 2), (3040, (19, 160), 6)])
def test_large_maps_are_coarsened_under_a_label_and_stay_small(num_tokens: int, grid: tuple, k: int) -> None:
    weights = np.full((num_tokens, num_tokens), 1 / num_tokens, np.float32)
    weights[num_tokens - 3, 5] = 0.9
    figure = plot_attention_map(weights, grid)
    drawn = heatmap(figure)
    assert len(drawn.z) == -(-num_tokens // k)
    assert np.asarray(drawn.z).max() == pytest.approx(0.9 * num_tokens)
    labels = [annotation.text for annotation in figure.layout.annotations]
    assert labels == ([] if k == 1 else [f"each cell: maximum of {k} x {k} cells"])
    if k > 1:
        assert f"strongest of {k}x{k} pairs" in drawn.hovertemplate
        assert drawn.y[1] == f"{k} to {2 * k - 1}" and drawn.y[-1].endswith(f" to {num_tokens - 1}")
    assert len(figure.to_json()) < 5_000_000


def test_grid_of_large_maps_is_small_too_and_says_so() -> None:
    maps = {f"layer_{layer}": random_map(800, layer) for layer in range(3)} | {"average": random_map(800)}
    figure = plot_layer_grid(maps, (10, 80), 5.0)
    assert "each cell: maximum of 4 x 4 cells" in [annotation.text for annotation in figure.layout.annotations]
    assert len(figure.to_json()) < 5_000_000


@pytest.mark.parametrize("incoming", [False, True])
def test_weights_of_a_patch_lie_on_their_patches(incoming: bool) -> None:
    image = np.random.default_rng(0).random((24, 30))  # the last column of patches is cut
    weights = np.zeros(12, np.float32)
    weights[6] = 0.75  # row 1, column 2
    figure = plot_patch_attention(image, weights, GRID, 8, 11, incoming=incoming)
    drawn = heatmap(figure)
    assert np.argwhere(np.asarray(drawn.z)).tolist() == [[1, 2]] and drawn.z[1][2] == 9.0
    assert list(drawn.x) == [0, 8, 16, 24, 30] and list(drawn.y) == [0, 8, 16, 24]
    markers = figure.data[-1]
    assert (markers.x[6], markers.y[6]) == (20, 12)
    assert list(markers.customdata[6]) == [6, 1, 2, 0.75, 9.0]
    assert ("placed on the chosen patch" in markers.hovertemplate) == incoming
    outline = figure.layout.shapes[0]
    assert (outline.x0, outline.x1, outline.y0, outline.y1) == (24, 30, 16, 24)
    assert list(figure.layout.yaxis.range) == [24, 0] and list(figure.layout.xaxis.range) == [0, 30]
    assert figure.layout.images[0].sizex == 30 and figure.layout.images[0].source.startswith("data:image/png;base64,")


def test_click_on_a_patch_is_understood_and_nonsense_is_not() -> None:
    figure = plot_patch_attention(np.ones((24, 32)), random_map()[0], GRID, 8, 0)
    data = figure.data[-1].customdata[7]
    assert selected_token({"points": [{"customdata": list(data)}]}) == 7
    assert selected_token({"points": [{"customdata": {str(place): value for place, value in enumerate(data)}}]}) == 7
    assert selected_token({"points": [{"x": 3}, {"customdata": [4.0]}]}) == 4
    for selection in ({}, {"points": []}, {"points": [{"x": 1}]}, {"box": [{}]}):
        assert selected_token(selection) is None


def test_error_is_centred_on_zero_with_the_same_reach_on_both_sides() -> None:
    error = np.zeros((20, 20))
    error[3, 4], error[5, 6] = 0.4, -0.1
    drawn = heatmap(plot_signed_error(error))
    assert (drawn.zmin, drawn.zmid, drawn.zmax) == (-0.4, 0, 0.4)
    assert drawn.z[3][4] == pytest.approx(0.4) and drawn.z[5][6] == pytest.approx(-0.1)
    assert heatmap(plot_signed_error(np.zeros((4, 4)))).zmax == 0.05  # a perfect copy is not drawn as noise
    assert list(drawn.colorbar.ticktext) == ["too dark", "0", "too light"]
    assert plot_signed_error(error).layout.yaxis.autorange == "reversed"


def test_error_colours_can_be_told_apart_by_colour_blind_people() -> None:
    middle = len(plots.ERROR_COLOURS) // 2
    assert luminance(plots.ERROR_COLOURS[middle]) > 0.9
    red, green, blue = zip(
        *(unlabel_rgb(colour) for colour in (plots.ERROR_COLOURS[1], plots.ERROR_COLOURS[-2])), strict=True
    )
    # Orange against purple: what protan and deutan eyes see of them (mostly blue against yellow) differs.
    assert blue[1] - blue[0] > 60


def test_large_error_keeps_its_extremes_of_either_sign() -> None:
    error = np.zeros((152, 1280))
    error[100, 900], error[10, 10] = -0.7, 0.6
    drawn = np.asarray(heatmap(plot_signed_error(error)).z)
    assert max(drawn.shape) <= plots.MAX_ERROR_SIDE
    assert (drawn.min(), drawn.max()) == (pytest.approx(-0.7), pytest.approx(0.6))


def test_ranks_among_test_images_by_hand() -> None:
    percentiles = np.linspace(10, 30, 101)
    assert percentile_rank(percentiles, 15) == pytest.approx(25)
    assert percentile_rank(percentiles, 5) == 0 and percentile_rank(percentiles, 99) == 100
    assert worse_than(percentiles, 15, higher_is_better=True) == pytest.approx(75)
    assert worse_than(percentiles, 15, higher_is_better=False) == pytest.approx(25)


@pytest.mark.parametrize("value", [-50.0, 10.0, 22.0, 500.0])
def test_picture_is_always_within_its_distribution_s_axis(value: float) -> None:
    figure = plot_distribution(np.linspace(10, 30, 101), value, "PSNR", True)
    low, high = figure.layout.xaxis.range
    assert low < min(value, 11) and max(value, 29) < high
    assert figure.data[-1].x == (value,)


def test_curve_passes_over_points_without_a_measure() -> None:
    figure = plot_training_curve([{"step": 5, "held_out_psnr": 11.5}, {"loss": 3}, {"step": 9, "held_out_psnr": 12.5}])
    assert list(figure.data[0].x) == [5, 9] and list(figure.data[0].y) == [11.5, 12.5]
    assert len(plot_training_curve([]).data[0].x) == 0


@pytest.mark.parametrize("name", all_figures())
def test_figures_are_plain_data_for_either_theme(name: str) -> None:
    figure = all_figures()[name]
    text = figure.to_json()
    assert text == all_figures()[name].to_json()  # the same numbers give the same figure
    assert json.loads(text)["layout"]["paper_bgcolor"] == plots.CLEAR == figure.layout.plot_bgcolor
    assert not re.search(r"https?://|<script|javascript:", text)
    assert figure.layout.height and figure.layout.width is None  # it takes the width it is given


@pytest.mark.parametrize("name", ["map", "spread", "layers", "patch"])
def test_every_heatmap_has_a_colour_bar_in_x_uniform(name: str) -> None:
    figure = all_figures()[name]
    bars = [figure.layout.coloraxis.colorbar.title.text]
    bars += [trace.colorbar.title.text for trace in figure.data if trace.type == "heatmap"]
    bars += [trace.marker.colorbar.title.text for trace in figure.data if trace.type == "scatter"]
    assert ("spread, x uniform" if name == "spread" else "x uniform") in bars


def test_arrays_are_left_as_they_were() -> None:
    maps = {"layer_0": random_map(), "average": random_map(seed=1)}
    image, error = np.random.default_rng(0).random((2, 24, 32))
    before = copy.deepcopy((maps, image, error))
    plot_layer_grid(maps, GRID, 2.0)
    plot_attention_map(maps["average"], GRID)
    plot_patch_attention(image, maps["layer_0"][3], GRID, 8, 3)
    plot_signed_error(error)
    for array, same in zip([*maps.values(), image, error], [*before[0].values(), *before[1:]], strict=True):
        np.testing.assert_array_equal(array, same)


def test_layers_are_named_as_on_the_page() -> None:
    assert [plots.layer_title(name) for name in ("layer_0", "layer_11", "average")] == [
        "Layer 0",
        "Layer 11",
        "Average",
    ]


@pytest.mark.parametrize("grid", [(13, 13), (19, 160), (10, 152), (9, 100), (30, 30), (1, 1000)])
def test_tick_labels_name_the_row_of_patches_that_begins_in_their_cell(grid: tuple[int, int]) -> None:
    num_tokens = grid[0] * grid[1]
    figure = plot_attention_map(np.zeros((num_tokens, num_tokens), np.float32), grid)
    drawn = heatmap(figure)
    k = -(-num_tokens // len(drawn.x))
    for axis, labels in ((figure.layout.xaxis, drawn.x), (figure.layout.yaxis, drawn.y)):
        assert 1 <= len(axis.tickvals) <= 12 and axis.ticktext[0] == "row 0"
        for value, text in zip(axis.tickvals, axis.ticktext, strict=True):
            cell, first_token = list(labels).index(value), int(text.removeprefix("row ")) * grid[1]
            assert cell * k <= first_token < (cell + 1) * k


@pytest.mark.parametrize("data", [None, [], {}, "12", ["7", 0], [None], [float("nan")], [float("inf")], [-1], [10**30]])
def test_selection_without_a_token_number_selects_nothing(data: object) -> None:
    assert selected_token({"points": [{"customdata": data}]}) is None
    assert selected_token({"points": None}) is selected_token({"points": ["x", [1, 2]]}) is None


def test_large_error_is_drawn_in_labelled_blocks() -> None:
    error = np.zeros((152, 1280), np.float32)
    error[0, 0], error[0, 1] = 0.2, -0.6  # in one block of 3 x 3
    drawn = heatmap(plot_signed_error(error))
    assert np.argwhere(np.asarray(drawn.z)).tolist() == [[0, 0]] and drawn.z[0][0] == np.float32(-0.6)
    assert list(drawn.x[:2]) == [1, 4] and drawn.y[0] == 1  # the middles of the blocks, in pixels
    assert "largest of 3 x 3 pixels" in drawn.colorbar.title.text
    assert "pixels" not in heatmap(plot_signed_error(error[:, :300])).colorbar.title.text


def test_hover_text_by_hand() -> None:
    weights = np.zeros((10, 10), np.float32)
    weights[2, 8] = 0.5  # two rows of five patches; 5 x 1/10
    for figure in (plot_attention_map(weights, (2, 5)), plot_layer_grid({"layer_0": weights}, (2, 5), 3.0)):
        drawn = heatmap(figure)
        said = drawn.hovertemplate  # filled in as the browser does it
        for name, value in (("x", drawn.x[8]), ("y", drawn.y[2]), ("z:.4g", drawn.z[2][8])):
            said = said.replace(f"%{{{name}}}", f"{value:.4g}" if name == "z:.4g" else value)
        said = said.replace("%{customdata:.4g}", f"{drawn.customdata[2][8]:.4g}")
        assert said.removesuffix("<extra></extra>") == (
            "query 2 (row 0, column 2)<br>key 8 (row 1, column 3)<br>weight 0.5 = 5 x uniform"
        )
