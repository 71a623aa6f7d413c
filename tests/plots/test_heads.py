"""Figures of all heads, of heads in numbers, and of two maps compared: the right numbers in the right place."""

# Plotly's types do not say what its figures hold.

import base64
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb

from tae.analysis.heads import MEASURES
from tae.plots.heads import (
    COLOUR_STEPS,
    OVERVIEW_WIDTH,
    overview_image,
    plot_agreement_on_image,
    plot_difference_map,
    plot_measure_over_layers,
    plot_overview,
    selected_head,
)
from tae.plots.maps import selected_token
from tae.plots.style import ATTENTION_COLOURS

LAST = COLOUR_STEPS - 1


def planted(num_layers: int, num_heads: int, side: int) -> np.ndarray:
    """(L, heads, M, M) of zeros with one weight of 10 x uniform in each, at (layer, head) modulo the side."""
    maps = np.zeros((num_layers, num_heads, side, side), np.float32)
    for layer in range(num_layers):
        for head in range(num_heads):
            maps[layer, head, layer % side, head % side] = 10
    maps.flags.writeable = False
    return maps


def by_layer(maps: np.ndarray) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(maps.shape[0]) for head in range(maps.shape[1])]


def shown_picture(figure: go.Figure) -> Image.Image:
    (image,) = figure.layout.images
    return Image.open(io.BytesIO(base64.b64decode(image.source.partition(",")[2])))


def click_targets(figure: go.Figure):
    (trace,) = [trace for trace in figure.data if trace.hovertemplate and "text" in trace.hovertemplate]
    return trace


def note(figure: go.Figure) -> str:
    return " ".join(annotation.text for annotation in figure.layout.annotations)


# --------------------------------------------------------------------------------------------------------- all heads


def test_each_head_lies_where_its_row_and_column_say_with_its_weight_dark():
    for num_layers, num_heads, side in [(3, 4, 12), (1, 1, 1), (2, 3, 96), (12, 16, 85)]:
        maps = planted(num_layers, num_heads, side)
        overview = overview_image(maps, by_layer(maps), num_heads, zmax=10)
        repeat = overview.side // side
        assert overview.indices.shape[1] <= OVERVIEW_WIDTH
        for number, (layer, head) in enumerate(by_layer(maps)):
            x, y = overview.centres[number] - overview.side / 2
            assert (x, y) == (head * overview.pitch[0], layer * overview.pitch[1])
            cell = overview.indices[int(y) : int(y) + overview.side, int(x) : int(x) + overview.side]
            dark = np.argwhere(cell == LAST)
            row, column = layer % side * repeat, head % side * repeat
            assert dark[0].tolist() == [row, column] and len(dark) == repeat**2
            assert (cell == 0).sum() == cell.size - repeat**2
        assert (overview.indices == COLOUR_STEPS).sum() == overview.indices.size - len(
            overview.centres
        ) * overview.side**2


def test_a_single_strong_weight_survives_in_a_small_image_of_a_large_map():
    maps = np.zeros((1, 64, 760, 760), np.float32)
    maps[0, 7, 123, 655] = 9
    overview = overview_image(maps, by_layer(maps), 64, zmax=9)
    assert overview.indices.shape[1] <= OVERVIEW_WIDTH
    assert (overview.indices == LAST).sum() == 1
    y, x = np.argwhere(overview.indices == LAST)[0]
    assert x // overview.pitch[0] == 7


def test_colours_end_where_the_range_does_or_at_each_map_s_own_maximum_of_at_least_one_and_a_half():
    maps = np.zeros((1, 3, 2, 2), np.float32)
    maps[0, :, 0, 0] = 1.0, 4.0, 8.0
    corners = {}
    for zmax in (4.0, None):
        overview = overview_image(maps, by_layer(maps), 3, zmax)
        corners[zmax] = [int(overview.indices[0, head * overview.pitch[0]]) for head in range(3)]
    assert corners[4.0] == [round(LAST / 4), LAST, LAST]
    assert corners[None] == [round(LAST / 1.5), LAST, LAST]


def test_the_picture_has_the_house_s_colours_and_is_clear_between_the_maps():
    maps = np.array([[[[0.0, 1.0], [2.0, 4.0]]]], np.float32).repeat(2, axis=1)
    picture = Image.open(io.BytesIO(overview_image(maps, by_layer(maps), 2, zmax=4).to_png())).convert("RGBA")
    overview = overview_image(maps, by_layer(maps), 2, zmax=4)
    half = overview.side // 2
    for place, (x, y) in zip((0, 0.25, 0.5, 1), ((0, 0), (half, 0), (0, half), (half, half)), strict=True):
        expected = unlabel_rgb(sample_colorscale(ATTENTION_COLOURS, [round(place * LAST) / LAST])[0])
        assert picture.getpixel((x, y)) == (*(round(channel) for channel in expected), 255)
    assert picture.getpixel((overview.side, 0))[3] == 0


def test_an_overview_by_layer_names_rows_and_columns_at_the_maps_middles():
    maps = planted(3, 4, 12)
    figure = plot_overview(maps, 10.0)
    overview = overview_image(maps, by_layer(maps), 4, 10.0)
    assert list(figure.layout.xaxis.ticktext) == ["head 0", "head 1", "head 2", "head 3"]
    assert list(figure.layout.yaxis.ticktext) == ["layer 0", "layer 1", "layer 2"]
    np.testing.assert_array_equal(figure.layout.xaxis.tickvals, overview.centres[:4, 0])
    np.testing.assert_array_equal(figure.layout.yaxis.tickvals, overview.centres[::4, 1])
    picture = shown_picture(figure)
    assert picture.size == (figure.layout.xaxis.range[1], figure.layout.yaxis.range[0])
    np.testing.assert_array_equal(np.asarray(picture), overview.indices)
    (key,) = [trace for trace in figure.data if trace.marker.showscale]
    assert (key.marker.cmin, key.marker.cmax) == (0, 10)
    assert not figure.layout.annotations


def test_an_overview_says_when_its_cells_stand_for_several_pairs():
    assert "each cell: maximum of 2 x 2 pairs" in note(plot_overview(planted(1, 4, 85), 10.0, merged=2))
    assert "each cell: maximum of 8 x 8 pairs" in note(plot_overview(planted(1, 16, 380), 10.0, merged=2))


def test_own_colours_are_written_on_the_figure_and_have_no_bar():
    figure = plot_overview(planted(2, 3, 5))
    assert "own colours" in note(figure) and "not comparable between heads" in note(figure)
    assert not [trace for trace in figure.data if trace.marker.showscale]


def test_a_sorted_overview_flows_from_the_largest_and_says_each_value():
    maps = planted(2, 3, 6)
    values = np.array([[0.5, 0.9, 0.1], [0.7, 0.9, 0.2]])
    figure = plot_overview(maps, 10.0, values, "Entropy")
    targets = click_targets(figure)
    expected = [(0, 1), (1, 1), (1, 0), (0, 0), (1, 2), (0, 2)]  # equal ones by layer
    assert [tuple(one) for one in targets.customdata] == expected
    (labels,) = [trace for trace in figure.data if trace.mode == "text"]
    assert list(labels.text) == [f"L{layer} H{head}<br>{values[layer, head]:.3g}" for layer, head in expected]
    picture = np.asarray(shown_picture(figure))
    overview = overview_image(maps, expected, 6, 10.0)
    for number, (layer, head) in enumerate(expected):
        x, y = (overview.centres[number] - overview.side / 2).astype(int)
        assert (targets.x[number], targets.y[number]) == tuple(overview.centres[number])
        assert labels.y[number] > y + overview.side, "below its map"
        cell = picture[y : y + overview.side, x : x + overview.side]
        assert np.argwhere(cell == LAST)[0].tolist() == [layer * overview.side // 6, head * overview.side // 6]
    assert "Entropy 0.9" in targets.text[0] and "layer 0, head 1" in targets.text[0]
    assert "largest weight 10 x uniform" in targets.text[0]


def test_a_click_on_a_map_selects_its_layer_and_head():
    for as_dict in [False, True]:
        maps = planted(3, 4, 5)
        for values in (None, np.random.default_rng(0).random((3, 4))):
            targets = click_targets(plot_overview(maps, 10.0, values))
            assert sorted(tuple(one) for one in targets.customdata) == by_layer(maps)
            for number, (layer, head) in enumerate(targets.customdata):
                # The browser sends a typed array as an object with its indices as names.
                sent = {"0": layer, "1": head} if as_dict else [layer, head]
                point = {"curve_number": 0, "point_index": number, "customdata": sent}
                assert selected_head({"points": [point], "box": [], "lasso": []}) == (layer, head)
            assert targets.marker.opacity == targets.selected.marker.opacity == targets.unselected.marker.opacity == 0


def test_a_selection_that_is_no_head_selects_nothing():
    for data in [
        None,
        [],
        {},
        "12",
        ["0", 1],
        [1],
        [1, 2, 3],
        [float("nan"), 0],
        [-1, 0],
        [0, 10**30],
        [0.5, 1],
        [None, 1],
    ]:
        assert selected_head({"points": [{"customdata": data}]}) is None
        assert selected_head({"points": None}) is None
        assert selected_head({}) is None


def test_192_heads_are_one_image_of_at_most_two_megabytes():
    maps = np.random.default_rng(0).random((12, 16, 96, 96), np.float32) * 3
    figure = plot_overview(maps, 3.0, np.zeros((12, 16)))
    assert len(figure.layout.images) == 1
    assert len(figure.to_json()) < 3e6  # noise: the most that 192 maps can need


# ------------------------------------------------------------------------------------------------------- in numbers


def test_a_measure_draws_each_head_their_mean_the_test_images_and_uniform_attention():
    own = np.array([[0.2, 0.4], [0.6, 1.0], [0.1, 0.3]])
    quantiles = np.arange(15.0).reshape(5, 3)
    figure = plot_measure_over_layers(own, quantiles, MEASURES["entropy"], 1.0)
    outer, inner, median, heads, mean, uniform = figure.data
    assert outer.x.tolist() == [0, 1, 2, 2, 1, 0]
    assert outer.y.tolist() == [*quantiles[0], *quantiles[4][::-1]]
    assert inner.y.tolist() == [*quantiles[1], *quantiles[3][::-1]]
    assert median.y.tolist() == quantiles[2].tolist()
    assert list(zip(heads.x, heads.y, heads.customdata, strict=True)) == [
        (0, 0.2, 0),
        (0, 0.4, 1),
        (1, 0.6, 0),
        (1, 1.0, 1),
        (2, 0.1, 0),
        (2, 0.3, 1),
    ]
    np.testing.assert_allclose(mean.y, [0.3, 0.8, 0.2])
    assert set(uniform.y) == {1.0} and uniform.line.dash == "dash"
    assert figure.layout.yaxis.title.text == "share of log N"


def test_a_measure_of_one_layer_has_a_band_that_can_be_seen_and_none_without_test_images():
    one = plot_measure_over_layers(np.array([[0.5, 0.6]]), np.arange(5.0)[:, None], MEASURES["sinks"])
    band = one.data[0]
    assert min(band.x) < 0 < max(band.x) and set(band.y) == {0.0, 4.0}
    assert len(one.data) == 5, "no dashed line without a value"
    alone = plot_measure_over_layers(np.array([[0.5, 0.6]]), None, MEASURES["sinks"], 0.0)
    assert [trace.name for trace in alone.data] == ["one head each", "mean of heads", "uniform attention"]


# ---------------------------------------------------------------------------------------------------------- compared


def test_a_difference_is_drawn_as_it_is_on_colours_centred_on_zero():
    difference = np.random.default_rng(0).standard_normal((15, 15)).astype(np.float32)
    (heatmap,) = plot_difference_map(difference, (3, 5)).data
    np.testing.assert_array_equal(heatmap.z, difference)
    end = float(np.abs(difference).max())
    assert (heatmap.zmin, heatmap.zmid, heatmap.zmax) == (-end, 0, end)
    assert heatmap.x[7] == heatmap.y[7] == "7 (row 1, column 2)"
    none = plot_difference_map(np.zeros((15, 15)), (3, 5)).data[0]
    assert none.zmax == 0.5, "no difference is not blown up"


def test_a_large_difference_keeps_its_extremes_of_either_sign_and_says_what_a_cell_is():
    difference = np.zeros((800, 800), np.float32)
    difference[10, 700], difference[11, 700], difference[799, 0] = 3, -5, 2
    figure = plot_difference_map(difference, (10, 80))
    (heatmap,) = figure.data
    assert heatmap.z.shape == (400, 400)
    assert np.argwhere(heatmap.z).tolist() == [[5, 350], [399, 0]]
    assert (heatmap.z[5, 350], heatmap.z[399, 0]) == (-5, 2)
    assert "each cell: of 2 x 2 cells the one farthest from 0" in note(figure)


def test_distances_of_queries_lie_on_their_patches_from_zero_to_one_and_a_click_selects_the_patch():
    image = np.random.default_rng(1).random((40, 70)).astype(np.float32)
    distance = np.linspace(0, 1, 15)
    distance[4] = np.nan
    figure = plot_agreement_on_image(image, distance, (3, 5), 16)
    heatmap, _, targets = figure.data
    np.testing.assert_array_equal(heatmap.z, distance.astype(np.float32).reshape(3, 5))
    assert (heatmap.zmin, heatmap.zmax) == (0, 1)
    assert targets.customdata[7][1] == "query patch 7: row 1, column 2<br>Jensen-Shannon distance 0.500"
    assert "no weight to compare" in targets.customdata[4][1]
    for token in range(15):
        assert (targets.x[token] // 16, targets.y[token] // 16) == (token % 5, token // 5)
        assert selected_token({"points": [{"customdata": targets.customdata[token].tolist()}]}) == token
