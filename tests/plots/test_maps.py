"""Figures of maps: they draw the numbers that they are given, in the right place, under the right words."""

# Plotly's types do not say what its figures hold.

import base64
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from tae.data.encode import to_uint8
from tae.plots.maps import (
    Region,
    plot_attention_map,
    plot_layer_grid,
    plot_patch_attention,
    selected_region,
    selected_token,
)
from tests.plots import bar_marker, grey_image, hover, megabytes, random_map, single_weight, traces

GRIDS = {"square": (3, 3), "wide": (2, 5), "high": (4, 2), "one row": (1, 6)}


def cell_hover(trace, row: int, column: int) -> str:
    data = None if trace.customdata is None else np.asarray(trace.customdata)[row, column]
    return hover(trace, trace.x[column], trace.y[row], np.asarray(trace.z)[row, column], data)


# ---------------------------------------------------------------------------------------------------- attention heatmap


def test_a_map_is_drawn_number_by_number_in_x_uniform():
    for grid in GRIDS.values():
        num_tokens = grid[0] * grid[1]
        attention_map = random_map(num_tokens)
        (heatmap,) = traces(plot_attention_map(attention_map, grid), go.Heatmap)
        np.testing.assert_array_equal(heatmap.z, attention_map * num_tokens)
        # x uniform and back again rounds once or twice in float32
        np.testing.assert_allclose(heatmap.customdata, attention_map, rtol=3e-7)


def test_one_weight_lies_in_the_row_of_its_query_and_the_column_of_its_key():
    figure = plot_attention_map(single_weight(10, query=2, key=8), (2, 5))
    (heatmap,) = traces(figure, go.Heatmap)
    assert np.argwhere(heatmap.z).tolist() == [[2, 8]]
    assert heatmap.y[2].startswith("2 ") and heatmap.x[8].startswith("8 ")
    assert figure.layout.yaxis.title.text == "Query patch"
    assert figure.layout.xaxis.title.text == "Key patch"
    assert figure.layout.yaxis.autorange == "reversed", "query 0 on top"
    assert figure.layout.xaxis.autorange is None, "key 0 on the left"


def test_the_hover_of_a_map_by_hand():
    # Ten patches in two rows of five: patch 2 is row 0, column 2; patch 8 is row 1, column 3; .5 is 5 x 1/10.
    spread = random_map(10)
    attention_map = single_weight(10, 2, 8)
    (plain,) = traces(plot_attention_map(attention_map, (2, 5)), go.Heatmap)
    said = "query 2 (row 0, column 2)<br>key 8 (row 1, column 3)<br>weight 0.5 = 5 x uniform"
    assert cell_hover(plain, 2, 8) == said
    assert cell_hover(plain, 8, 2) == ("query 8 (row 1, column 3)<br>key 2 (row 0, column 2)<br>weight 0 = 0 x uniform")
    (spread_too,) = traces(plot_attention_map(attention_map, (2, 5), spread=spread), go.Heatmap)
    assert cell_hover(spread_too, 2, 8) == f"{said}<br>spread between heads {spread[2, 8]:.4g}"
    (of_spread,) = traces(plot_attention_map(attention_map, (2, 5), quantity="spread"), go.Heatmap)
    assert "spread 0.5 = 5 x uniform" in cell_hover(of_spread, 2, 8)
    assert "weight" not in cell_hover(of_spread, 2, 8)


def test_a_maps_colours_end_where_they_are_told_or_at_its_own_maximum():
    attention_map = random_map(9)
    (told,) = traces(plot_attention_map(attention_map, (3, 3), zmax=7.5), go.Heatmap)
    assert (told.zmin, told.zmax) == (0, 7.5)
    (own,) = traces(plot_attention_map(attention_map, (3, 3)), go.Heatmap)
    assert (own.zmin, own.zmax) == (0, float((attention_map * 9).max()))


def test_a_uniform_map_is_not_stretched_into_a_pattern():
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, (9, 9)).astype(np.float32)
    (heatmap,) = traces(plot_attention_map(1 / 9 + noise, (3, 3)), go.Heatmap)
    assert heatmap.zmax == 1.5
    patch = plot_patch_attention(grey_image(48, 48), (1 / 9 + noise)[0], (3, 3), 16, 0)
    assert traces(patch, go.Heatmap)[0].zmax == 1.5


def test_a_colour_bar_names_its_unit():
    for quantity, title in [("weight", "x uniform"), ("spread", "spread, x uniform")]:
        (heatmap,) = traces(plot_attention_map(random_map(9), (3, 3), quantity=quantity), go.Heatmap)
        assert heatmap.colorbar.title.text == title
        figure = plot_patch_attention(grey_image(48, 48), random_map(9)[0], (3, 3), 16, 0, quantity=quantity)
        assert bar_marker(figure).colorbar.title.text == title
        layers = plot_layer_grid({"layer_0": random_map(9)}, (3, 3), 2.0)
        assert layers.layout.coloraxis.colorbar.title.text == "x uniform"


def test_tick_labels_name_the_row_of_patches_that_begins_in_their_cell():
    for grid in [(13, 13), (19, 160), (10, 152), (9, 100), (30, 30), (1, 1000)]:
        num_tokens = grid[0] * grid[1]
        figure = plot_attention_map(np.zeros((num_tokens, num_tokens), np.float32), grid)
        (heatmap,) = traces(figure, go.Heatmap)
        k = -(-num_tokens // len(heatmap.x))
        for axis, labels in ((figure.layout.xaxis, heatmap.x), (figure.layout.yaxis, heatmap.y)):
            assert 1 <= len(axis.tickvals) <= 12
            assert axis.ticktext[0] == ("row 0" if grid[0] > 1 else "patch 0")
            for value, text in zip(axis.tickvals, axis.ticktext, strict=True):
                cell = list(labels).index(value)
                kind, number = text.split() if " " in text else ("row", text)
                first_token = int(number) * (grid[1] if kind == "row" else 1)
                assert cell * k <= first_token < (cell + 1) * k


def test_a_region_is_drawn_from_the_exact_values():
    attention_map = random_map(1000)
    region = Region(range(130, 170), range(900, 1000))
    (heatmap,) = traces(plot_attention_map(attention_map, (20, 50), 9.0, region=region), go.Heatmap)
    np.testing.assert_array_equal(heatmap.customdata, attention_map[130:170, 900:])
    assert heatmap.y[0] == "130 (row 2, column 30)" and heatmap.x[-1] == "999 (row 19, column 49)"
    assert (heatmap.zmin, heatmap.zmax) == (0, 9.0)
    large = Region(range(0, 600), range(0, 500))
    (heatmap,) = traces(plot_attention_map(attention_map, (20, 50), region=large), go.Heatmap)
    assert heatmap.z.shape == (300, 250) and heatmap.z.max() == attention_map[:600, :500].max() * np.float32(1000)


def test_a_box_chooses_the_cells_that_it_touches_and_a_box_in_that_again():
    whole = Region.whole(169)
    box = {"box": [{"x": [3.2, 9.9], "y": [20.6, 12.4]}]}  # cell 3 reaches from 2.5 to 3.5
    region = selected_region(box, whole)
    assert region == Region(range(12, 22), range(3, 11))
    again = selected_region({"box": [{"x": [0, 2], "y": [1, 1]}]}, region)
    assert again == Region(range(13, 15), range(3, 6))
    corner = selected_region({"box": [{"x": [500, 900], "y": [-40, -30]}]}, whole)
    assert corner == Region(range(0, 2), range(167, 169))


def test_a_box_on_blocks_chooses_all_their_patches():
    whole = Region.whole(3040)
    assert whole.cell_side == 6
    region = selected_region({"box": [{"x": [10, 11], "y": [506, 506]}]}, whole)
    assert region == Region(range(3036, 3040), range(60, 72)) and region.cell_side == 1


def test_what_is_no_box_chooses_nothing():
    for selection in [
        {},
        {"box": []},
        {"box": ["x"]},
        {"box": [{"x": [1, 2]}]},
        {"box": [{"x": ["a", 2], "y": [1, 2]}]},
    ]:
        assert selected_region(selection, Region.whole(10)) is None


def test_a_region_survives_a_link_and_foreign_texts_show_the_whole_map():
    region = Region(range(3, 9), range(10, 169))
    assert Region.from_text(region.to_text(), 169) == region
    for text in ("", "3-8x10-168x", "3-8x10-169", "8-3x10-168", "3-3x10-168", "9" * 30 + "-1x1-2"):
        assert Region.from_text(text, 169) == Region.whole(169)


def test_maps_of_up_to_400_tokens_are_drawn_cell_by_cell_and_say_nothing_of_blocks():
    figure = plot_attention_map(random_map(400), (20, 20))
    (heatmap,) = traces(figure, go.Heatmap)
    assert heatmap.z.shape == (400, 400)
    assert not figure.layout.annotations


def test_78_a_large_map_shows_the_maximum_of_blocks_and_says_so():
    grid, num_tokens = (19, 160), 3040
    attention_map = single_weight(num_tokens, query=100, key=3039, weight=0.25)
    figure = plot_attention_map(attention_map, grid)
    (heatmap,) = traces(figure, go.Heatmap)
    assert heatmap.z.shape == (507, 507)  # 3040 / 6, rounded up
    assert np.argwhere(heatmap.z).tolist() == [[16, 506]]
    assert heatmap.z[16, 506] == 760
    assert [note.text for note in figure.layout.annotations] == ["each cell: maximum of 6 x 6 cells"]
    said = cell_hover(heatmap, 16, 506)
    assert said == ("strongest of 6x6 pairs<br>query 96 to 101<br>key 3036 to 3039<br>weight 0.25 = 760 x uniform")


def test_a_heatmap_stays_small_however_many_tokens_there_are():
    for grid, limit in [((13, 13), 0.5), ((10, 80), 2.5), ((19, 160), 4.0)]:
        num_tokens = grid[0] * grid[1]
        noise = np.random.default_rng(0).random((num_tokens, num_tokens), np.float32) / num_tokens
        assert megabytes(plot_attention_map(noise, grid)) < limit
        count = 4
        layers = plot_layer_grid({f"layer_{layer}": noise for layer in range(count)}, grid, 2.0)
        assert megabytes(layers) < 0.6 * count


# ----------------------------------------------------------------------------------------------------------- layer grid


def test_the_layer_grid_draws_every_map_under_its_name_on_one_range():
    for num_layers in [1, 3, 4, 12]:
        names = [f"layer_{layer}" for layer in range(num_layers)] + ["average"]
        maps = {name: random_map(6, seed) for seed, name in enumerate(names)}
        figure = plot_layer_grid(maps, (2, 3), 3.25)
        heatmaps = traces(figure, go.Heatmap)
        assert [note.text for note in figure.layout.annotations] == [f"Layer {n}" for n in range(num_layers)] + [
            "Average"
        ]
        for title, heatmap, attention_map in zip(figure.layout.annotations, heatmaps, maps.values(), strict=True):
            np.testing.assert_array_equal(heatmap.z, attention_map * 6)
            assert heatmap.coloraxis == "coloraxis"
            assert heatmap.zmin is None and heatmap.zmax is None, "a range of its own would override the shared one"
            left, right = figure.layout[heatmap.xaxis.replace("x", "xaxis")].domain
            assert left <= title.x <= right, "each title stands over its own map"
            vertical = figure.layout[heatmap.yaxis.replace("y", "yaxis")]
            assert vertical.autorange == "reversed"
            assert vertical.scaleanchor == heatmap.xaxis, "cells are squares"
        assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 3.25)
        assert len({(trace.xaxis, trace.yaxis) for trace in heatmaps}) == num_layers + 1


def test_the_hover_of_the_layer_grid_by_hand():
    maps = {"layer_0": single_weight(6, 1, 5, 0.75), "average": single_weight(6, 4, 0, 0.5)}
    first, average = traces(plot_layer_grid(maps, (2, 3), 3.0), go.Heatmap)
    assert cell_hover(first, 1, 5) == (
        "query 1 (row 0, column 1)<br>key 5 (row 1, column 2)<br>weight 0.75 = 4.5 x uniform"
    )
    assert cell_hover(average, 4, 0) == (
        "query 4 (row 1, column 1)<br>key 0 (row 0, column 0)<br>weight 0.5 = 3 x uniform"
    )


def test_the_layer_grid_says_when_its_cells_are_blocks():
    maps = {"layer_0": single_weight(300, 299, 0, 0.5), "average": single_weight(300, 0, 299, 0.5)}
    figure = plot_layer_grid(maps, (15, 20), 3.0)
    first, average = traces(figure, go.Heatmap)
    assert np.argwhere(first.z).tolist() == [[149, 0]]
    assert np.argwhere(average.z).tolist() == [[0, 149]]
    assert "each cell: maximum of 2 x 2 cells" in [note.text for note in figure.layout.annotations]
    assert cell_hover(first, 149, 0).startswith("strongest of 2x2 pairs<br>query 298 to 299<br>key 0 to 1<br>")
    assert "150 x uniform" in cell_hover(first, 149, 0)


# ------------------------------------------------------------------------------------------------------ on the image


def overlay(figure: go.Figure) -> go.Heatmap:
    (heatmap,) = traces(figure, go.Heatmap)
    return heatmap


def click_targets(figure: go.Figure) -> go.Scatter:
    (scatter,) = [trace for trace in traces(figure, go.Scatter) if trace.customdata is not None]
    return scatter


def test_weights_lie_on_their_patch_of_the_picture():
    for height, width, grid in [(201, 201, (13, 13)), (152, 500, (10, 32)), (40, 16, (3, 1)), (48, 80, (3, 5))]:
        rows, columns = grid
        weights = random_map(rows * columns)[0]
        query = rows * columns - 1
        figure = plot_patch_attention(grey_image(height, width), weights, grid, 16, query)
        heatmap, targets = overlay(figure), click_targets(figure)
        assert (heatmap.x[0], heatmap.x[-1], heatmap.y[0], heatmap.y[-1]) == (0, width, 0, height)
        for token in range(rows * columns):
            row, column = divmod(token, columns)
            top, bottom = heatmap.y[row], heatmap.y[row + 1]
            left, right = heatmap.x[column], heatmap.x[column + 1]
            assert (top, left) == (row * 16, column * 16)
            assert (bottom, right) == (min(row * 16 + 16, height), min(column * 16 + 16, width)), (
                "cut where the image ends"
            )
            assert heatmap.z[row][column] == weights[token] * np.float32(rows * columns)
            assert left < targets.x[token] < right and top < targets.y[token] < bottom
        outline = figure.layout.shapes[0]
        row, column = divmod(query, columns)
        assert (outline.x0, outline.x1) == (heatmap.x[column], heatmap.x[column + 1])
        assert (outline.y0, outline.y1) == (heatmap.y[row], heatmap.y[row + 1])
        assert tuple(figure.layout.yaxis.range) == (height, 0), "row 0 on top"
        assert tuple(figure.layout.xaxis.range) == (0, width)


def test_the_picture_under_the_weights_is_the_one_given_pixel_by_pixel():
    image = grey_image(40, 70)
    figure = plot_patch_attention(image, random_map(15)[0], (3, 5), 16, 0)
    (below,) = figure.layout.images
    data = base64.b64decode(below.source.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), to_uint8(image))
    assert (below.x, below.y, below.sizex, below.sizey, below.layer) == (0, 0, 70, 40, "below")


def test_the_overlay_and_its_colour_bar_share_one_range():
    for zmax, top in ((4.5, 4.5), (None, float((random_map(15)[0] * 15).max()))):
        figure = plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0, zmax)
        bar = bar_marker(figure)
        assert (overlay(figure).zmin, overlay(figure).zmax) == (0, top)
        assert (bar.cmin, bar.cmax) == (0, top)
        assert [place for place, _ in bar.colorscale] == [place for place, _ in overlay(figure).colorscale]


def test_the_hover_of_a_patch_by_hand():
    weights = np.zeros(15, np.float32)
    weights[7] = 0.5  # row 1, column 2 of 3 x 5; 7.5 x 1/15
    said = "patch 7: row 1, column 2<br>receives from the chosen patch: weight 0.5 = 7.5 x uniform"
    targets = click_targets(plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3))
    assert hover(targets, None, None, customdata=targets.customdata[7]) == said
    targets = click_targets(plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3, incoming=True))
    assert hover(targets, None, None, customdata=targets.customdata[7]) == said.replace("receives from", "placed on")
    targets = click_targets(plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3, quantity="spread"))
    assert "spread 0.5" in hover(targets, None, None, customdata=targets.customdata[7])


def test_a_click_on_a_patch_selects_its_token():
    for grid in [(13, 13), (10, 32), (1, 4)]:
        for as_dict in [False, True]:
            num_tokens = grid[0] * grid[1]
            image = grey_image(16 * grid[0] - 3, 16 * grid[1] - 5)
            targets = click_targets(plot_patch_attention(image, random_map(num_tokens)[0], grid, 16, 0))
            for token in range(num_tokens):
                row, column = int(targets.y[token] // 16), int(targets.x[token] // 16)
                data = targets.customdata[token].tolist()
                # The browser sends a typed array as an object with its indices as names.
                sent = {str(number): value for number, value in enumerate(data)} if as_dict else data
                point = {"curve_number": 2, "point_index": token, "x": targets.x[token], "customdata": sent}
                assert selected_token({"points": [point], "box": [], "lasso": []}) == row * grid[1] + column == token


def test_the_markers_that_take_the_clicks_stay_unseen():
    targets = click_targets(plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0))
    assert targets.marker.opacity == targets.selected.marker.opacity == targets.unselected.marker.opacity == 0
    assert targets.hoverinfo != "skip", "what skips the hover gets no click"


def test_a_selection_without_a_token_number_selects_nothing():
    for selection in [
        {},
        {"points": []},
        {"points": None},
        {"points": [{}]},
        {"points": [{"x": 3.0, "y": 4.0}]},
        {"points": [{"customdata": None}]},
        {"points": [{"customdata": []}]},
        {"points": [{"customdata": {}}]},
        {"points": [{"customdata": "12"}]},
        {"points": [{"customdata": ["7", 0]}]},
        {"points": [{"customdata": [None]}]},
        {"points": [{"customdata": [float("nan")]}]},
        {"points": [{"customdata": [float("inf")]}]},
        {"points": [{"customdata": [-1]}]},
        {"points": [{"customdata": [10**30]}]},
        {"points": [[1, 2]]},
        {"points": ["x"]},
    ]:
        assert selected_token(selection) is None
