"""Plotly figures: they draw the numbers that they are given, in the right place, under the right words."""

# Plotly's types do not say what its figures hold.
# pyright: reportAttributeAccessIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportOptionalIterable=false

import base64
import io
import json
import re
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb
from skimage.color import rgb2lab

from tae import plots
from tae.data.encode import to_uint8

GRIDS = {"square": (3, 3), "wide": (2, 5), "high": (4, 2), "one row": (1, 6)}
# Machado 2009, "A physiologically-based model for simulation of color vision deficiency", severity 1, linear RGB.
COLOUR_VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def random_map(num_tokens: int, seed: int = 0) -> np.ndarray:
    """(N, N) float32 whose rows sum to 1, far from uniform and from symmetric; read-only, as caches hand it out."""
    logits = 2 * np.random.default_rng(seed).standard_normal((num_tokens, num_tokens))
    weights = np.exp(logits)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def single_weight(num_tokens: int, query: int, key: int, weight: float = 0.5) -> np.ndarray:
    attention_map = np.zeros((num_tokens, num_tokens), np.float32)
    attention_map[query, key] = weight
    return attention_map


def grey_image(height: int = 40, width: int = 70) -> np.ndarray:
    image = np.random.default_rng(1).random((height, width)).astype(np.float32)
    image.flags.writeable = False
    return image


def traces(figure: go.Figure, kind: type) -> list:
    return [trace for trace in figure.data if isinstance(trace, kind)]


def hover(trace, x: object, y: object, z: object = None, customdata: object = None) -> str:
    """What the browser shows for one point: the template filled in, numbers in Python's format for d3's."""

    def fill(match: re.Match) -> str:
        value = {"x": x, "y": y, "z": z, "customdata": customdata}[match["name"]]
        if match["index"] is not None:
            value = value[int(match["index"])]  # type: ignore[index]
        return format(value, match["format"] or "")

    template = trace.hovertemplate.removesuffix("<extra></extra>")
    return re.sub(r"%\{(?P<name>\w+)(\[(?P<index>\d+)\])?(:(?P<format>[^}]*))?\}", fill, template)


def cell_hover(trace, row: int, column: int) -> str:
    data = None if trace.customdata is None else np.asarray(trace.customdata)[row, column]
    return hover(trace, trace.x[column], trace.y[row], np.asarray(trace.z)[row, column], data)


def texts(figure: go.Figure) -> str:
    """All words of the layout."""
    layout = figure.to_dict()["layout"]
    return json.dumps({name: value for name, value in layout.items() if name != "template"}, default=float)


def megabytes(figure: go.Figure) -> float:
    return len(figure.to_json()) / 1e6


def lab(colours: list[str], vision: str) -> np.ndarray:
    """CIELAB (n, 3) of "rgb(...)" colours as someone sees them."""
    rgb = np.array([unlabel_rgb(colour) for colour in colours], float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ COLOUR_VISION[vision].T
    linear = np.clip(linear, 0, 1)
    seen = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(seen[None])[0]


def bar_marker(figure: go.Figure):
    """The marker that carries the colour bar of an overlay."""
    (marker,) = [trace.marker for trace in traces(figure, go.Scatter) if trace.marker.showscale]
    return marker


GROUPS = [
    {"group": "1000-1099", "psnr": 18.5, "count": 40, "unseen": False},
    {"group": "9", "psnr": 17.25, "count": 12, "unseen": True},
]


def all_figures() -> dict[str, go.Figure]:
    num_tokens = 15
    maps = {
        "layer_0": random_map(num_tokens),
        "layer_1": random_map(num_tokens, 1),
        "average": random_map(num_tokens, 2),
    }
    percentiles = np.linspace(10, 30, 101)
    return {
        "map": plots.plot_attention_map(maps["layer_0"], (3, 5)),
        "layers": plots.plot_layer_grid(maps, (3, 5), 4.0),
        "patch": plots.plot_patch_attention(grey_image(), maps["layer_0"][3], (3, 5), 16, 3),
        "error": plots.plot_signed_error(grey_image() - 0.5),
        "distribution": plots.plot_distribution(percentiles, 17.0, "PSNR", True),
        "curve": plots.plot_training_curve([{"step": 1, "held_out_psnr": 9.0}, {"step": 2, "held_out_psnr": 12.0}]),
        "groups": plots.plot_by_group(GROUPS, "Width (pixels)"),
    }


# ------------------------------------------------------------------------------------------------------ what all share


def test_drawing_and_exporting_need_no_streamlit():
    code = "import sys; sys.modules['streamlit'] = None; import tae.plots, tae.plots.export.figures, tae.data.gallery"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_figure_changes_what_it_is_given():
    given_arrays = {
        "map": random_map(15).copy(),
        "spread": random_map(15, 1).copy(),
        "weights": random_map(15, 2)[4].copy(),
        "image": grey_image().copy(),
        "error": grey_image() - np.float32(0.5),
        "percentiles": np.linspace(10, 30, 101),
    }
    before = {name: array.copy() for name, array in given_arrays.items()}
    maps = {"layer_0": given_arrays["map"], "average": given_arrays["spread"]}
    curve = [{"step": 1, "held_out_psnr": 9.0}]
    groups = [dict(one) for one in GROUPS]
    figures = [
        plots.plot_attention_map(given_arrays["map"], (3, 5), spread=given_arrays["spread"]),
        plots.plot_layer_grid(maps, (3, 5), 3.0),
        plots.plot_patch_attention(given_arrays["image"], given_arrays["weights"], (3, 5), 16, 0),
        plots.plot_signed_error(given_arrays["error"]),
        plots.plot_distribution(given_arrays["percentiles"], 20.0, "PSNR", True),
        plots.plot_training_curve(curve),
        plots.plot_by_group(groups, "Width (pixels)"),
    ]
    for name, array in given_arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert list(maps) == ["layer_0", "average"]
    assert curve == [{"step": 1, "held_out_psnr": 9.0}]
    assert groups == GROUPS

    drawn = [figure.to_json() for figure in figures]
    for array in given_arrays.values():
        array[...] = 0.123  # a figure that only points at its arguments would change with them
    assert [figure.to_json() for figure in figures] == drawn


def test_the_same_arrays_give_the_same_figure():
    assert {name: figure.to_json() for name, figure in all_figures().items()} == {
        name: figure.to_json() for name, figure in all_figures().items()
    }


def test_figures_leave_paper_and_writing_to_the_theme():
    for name in ["map", "layers", "patch", "error", "distribution", "curve"]:
        figure = all_figures()[name]
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        fonts = re.findall(r'"(?:\w*font)": (\{[^}]*\})', figure.to_json().split('"template"')[0] + texts(figure))
        assert not [font for font in fonts if "color" in font], "letters would vanish in the other theme"


def test_no_colour_is_one_that_streamlits_theme_replaces():
    for colours in [plots.ATTENTION_COLOURS, plots.ERROR_COLOURS, [plots.QUERY_COLOUR]]:
        # Its template uses #000001 to #000020 as placeholders and rewrites them, as it does #000004 of Magma.
        assert not [colour for colour in colours if re.fullmatch(r"#0000[0-2][0-9a-f]", colour.lower())]


def test_attention_is_drawn_dark_for_high_for_every_kind_of_colour_vision():
    for vision in COLOUR_VISION:
        colours = sample_colorscale(plots.ATTENTION_COLOURS, np.linspace(0, 1, 41))
        lightness = lab(colours, vision)[:, 0]
        assert np.all(np.diff(lightness) < 0)
        assert lightness[0] > 90 and lightness[-1] < 5


def test_the_overlays_colour_bar_runs_from_white_to_dark():
    for vision in COLOUR_VISION:
        figure = plots.plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0)
        colours = [colour for _, colour in bar_marker(figure).colorscale]
        assert colours[0] == "rgb(255, 255, 255)", "no weight leaves the paper white"
        assert np.all(np.diff(lab(colours, vision)[:, 0]) < -5)


def test_the_sign_of_an_error_shows_for_every_kind_of_colour_vision():
    for strength in [0.4, 0.7, 1.0]:
        for vision in COLOUR_VISION:
            low, middle, high = lab(
                sample_colorscale(plots.ERROR_COLOURS, [0.5 - strength / 2, 0.5, 0.5 + strength / 2]), vision
            )
            for one, other in ((low, high), (low, middle), (middle, high)):
                assert np.linalg.norm(one - other) > 12  # CIE76; 2.3 is just noticeable
            assert middle[0] > low[0] and middle[0] > high[0], "no error is the lightest"


# ------------------------------------------------------------------------------------------------------------ block_max


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_block_max_is_the_maximum_of_each_block(rows, columns, max_cells, seed):
    array = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    blocks, k = plots.block_max(array, max_cells)
    assert max(blocks.shape) <= max_cells
    assert k == 1 or -(-max(rows, columns) // (k - 1)) > max_cells, "no coarser than needed"
    for row in range(blocks.shape[0]):
        for column in range(blocks.shape[1]):
            assert blocks[row, column] == array[row * k : (row + 1) * k, column * k : (column + 1) * k].max()


def test_block_max_leaves_alone_what_is_small_enough():
    array = random_map(7)
    blocks, k = plots.block_max(array, 7)
    assert blocks is array and k == 1


def test_block_max_keeps_each_of_twenty_planted_peaks():
    for limit in [plots.MAX_CELLS, plots.MAX_CELLS_SMALL]:
        array = np.zeros((3040, 3040), np.float32)
        places = np.random.default_rng(0).choice(3040 * 3040, 20, replace=False)
        array.ravel()[places] = np.arange(1, 21)
        blocks, k = plots.block_max(array, limit)
        for number, (row, column) in enumerate(zip(*np.unravel_index(places, array.shape), strict=True), start=1):
            assert blocks[row // k, column // k] >= number


# ---------------------------------------------------------------------------------------------------- attention heatmap


def test_a_map_is_drawn_number_by_number_in_x_uniform():
    for grid in GRIDS.values():
        num_tokens = grid[0] * grid[1]
        attention_map = random_map(num_tokens)
        (heatmap,) = traces(plots.plot_attention_map(attention_map, grid), go.Heatmap)
        np.testing.assert_array_equal(heatmap.z, attention_map * num_tokens)
        # x uniform and back again rounds once or twice in float32
        np.testing.assert_allclose(heatmap.customdata, attention_map, rtol=3e-7)


def test_one_weight_lies_in_the_row_of_its_query_and_the_column_of_its_key():
    figure = plots.plot_attention_map(single_weight(10, query=2, key=8), (2, 5))
    (heatmap,) = traces(figure, go.Heatmap)
    assert np.argwhere(heatmap.z).tolist() == [[2, 8]]
    assert heatmap.y[2].startswith("2 ") and heatmap.x[8].startswith("8 ")
    assert figure.layout.yaxis.title.text == "Query patch"
    assert figure.layout.xaxis.title.text == "Key patch"
    assert figure.layout.yaxis.autorange == "reversed", "query 0 on top"
    assert figure.layout.xaxis.autorange is None, "key 0 on the left"


def test_the_hover_of_a_map_by_hand():
    # Ten patches in two rows of five: patch 2 is row 0, column 2; patch 8 is row 1, column 3; .5 is 5 x 1/10.
    spread = np.full((10, 10), 0.125, np.float32)
    attention_map = single_weight(10, 2, 8)
    (plain,) = traces(plots.plot_attention_map(attention_map, (2, 5)), go.Heatmap)
    said = "query 2 (row 0, column 2)<br>key 8 (row 1, column 3)<br>weight 0.5 = 5 x uniform"
    assert cell_hover(plain, 2, 8) == said
    assert cell_hover(plain, 8, 2) == ("query 8 (row 1, column 3)<br>key 2 (row 0, column 2)<br>weight 0 = 0 x uniform")
    (spread_too,) = traces(plots.plot_attention_map(attention_map, (2, 5), spread=spread), go.Heatmap)
    assert cell_hover(spread_too, 2, 8) == f"{said}<br>spread between heads 0.125"
    (of_spread,) = traces(plots.plot_attention_map(attention_map, (2, 5), quantity="spread"), go.Heatmap)
    assert "spread 0.5 = 5 x uniform" in cell_hover(of_spread, 2, 8)
    assert "weight" not in cell_hover(of_spread, 2, 8)


def test_a_maps_colours_end_where_they_are_told_or_at_its_own_maximum():
    attention_map = random_map(9)
    (told,) = traces(plots.plot_attention_map(attention_map, (3, 3), zmax=7.5), go.Heatmap)
    assert (told.zmin, told.zmax) == (0, 7.5)
    (own,) = traces(plots.plot_attention_map(attention_map, (3, 3)), go.Heatmap)
    assert (own.zmin, own.zmax) == (0, float((attention_map * 9).max()))


def test_a_uniform_map_is_not_stretched_into_a_pattern():
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, (9, 9)).astype(np.float32)
    (heatmap,) = traces(plots.plot_attention_map(1 / 9 + noise, (3, 3)), go.Heatmap)
    assert heatmap.zmax == 1.5
    patch = plots.plot_patch_attention(grey_image(48, 48), (1 / 9 + noise)[0], (3, 3), 16, 0)
    assert traces(patch, go.Heatmap)[0].zmax == 1.5


def test_a_colour_bar_names_its_unit():
    for quantity, title in [("weight", "x uniform"), ("spread", "spread, x uniform")]:
        (heatmap,) = traces(plots.plot_attention_map(random_map(9), (3, 3), quantity=quantity), go.Heatmap)
        assert heatmap.colorbar.title.text == title
        figure = plots.plot_patch_attention(grey_image(48, 48), random_map(9)[0], (3, 3), 16, 0, quantity=quantity)
        assert bar_marker(figure).colorbar.title.text == title
        layers = plots.plot_layer_grid({"layer_0": random_map(9)}, (3, 3), 2.0)
        assert layers.layout.coloraxis.colorbar.title.text == "x uniform"


def test_tick_labels_name_the_row_of_patches_that_begins_in_their_cell():
    for grid in [(13, 13), (19, 160), (10, 152), (9, 100), (30, 30), (1, 1000)]:
        num_tokens = grid[0] * grid[1]
        figure = plots.plot_attention_map(np.zeros((num_tokens, num_tokens), np.float32), grid)
        (heatmap,) = traces(figure, go.Heatmap)
        k = -(-num_tokens // len(heatmap.x))
        for axis, labels in ((figure.layout.xaxis, heatmap.x), (figure.layout.yaxis, heatmap.y)):
            assert 1 <= len(axis.tickvals) <= 12
            assert axis.ticktext[0] == ("row 0" if grid[0] > 1 else "patch 0")
            for value, text in zip(axis.tickvals, axis.ticktext, strict=True):
                cell = list(labels).index(value)
                kind, number = text.split()
                first_token = int(number) * (grid[1] if kind == "row" else 1)
                assert cell * k <= first_token < (cell + 1) * k


def test_a_region_is_drawn_from_the_exact_values():
    attention_map = random_map(1000)
    region = plots.Region(range(130, 170), range(900, 1000))
    (heatmap,) = traces(plots.plot_attention_map(attention_map, (20, 50), 9.0, region=region), go.Heatmap)
    np.testing.assert_array_equal(heatmap.customdata, attention_map[130:170, 900:])
    assert heatmap.y[0] == "130 (row 2, column 30)" and heatmap.x[-1] == "999 (row 19, column 49)"
    assert (heatmap.zmin, heatmap.zmax) == (0, 9.0)
    large = plots.Region(range(0, 600), range(0, 500))
    (heatmap,) = traces(plots.plot_attention_map(attention_map, (20, 50), region=large), go.Heatmap)
    assert heatmap.z.shape == (300, 250) and heatmap.z.max() == attention_map[:600, :500].max() * np.float32(1000)


def test_a_box_chooses_the_cells_that_it_touches_and_a_box_in_that_again():
    whole = plots.Region.whole(169)
    box = {"box": [{"x": [3.2, 9.9], "y": [20.6, 12.4]}]}  # cell 3 reaches from 2.5 to 3.5
    region = plots.selected_region(box, whole)
    assert region == plots.Region(range(12, 22), range(3, 11))
    again = plots.selected_region({"box": [{"x": [0, 2], "y": [1, 1]}]}, region)
    assert again == plots.Region(range(13, 15), range(3, 6))
    corner = plots.selected_region({"box": [{"x": [500, 900], "y": [-40, -30]}]}, whole)
    assert corner == plots.Region(range(0, 2), range(167, 169))


def test_a_box_on_blocks_chooses_all_their_patches():
    whole = plots.Region.whole(3040)
    assert whole.cell_side == 6
    region = plots.selected_region({"box": [{"x": [10, 11], "y": [506, 506]}]}, whole)
    assert region == plots.Region(range(3036, 3040), range(60, 72)) and region.cell_side == 1


def test_what_is_no_box_chooses_nothing():
    for selection in [
        {},
        {"box": []},
        {"box": ["x"]},
        {"box": [{"x": [1, 2]}]},
        {"box": [{"x": ["a", 2], "y": [1, 2]}]},
    ]:
        assert plots.selected_region(selection, plots.Region.whole(10)) is None


def test_a_region_survives_a_link_and_foreign_texts_show_the_whole_map():
    region = plots.Region(range(3, 9), range(10, 169))
    assert plots.Region.from_text(region.to_text(), 169) == region
    for text in ("", "3-8x10-168x", "3-8x10-169", "8-3x10-168", "3-3x10-168", "9" * 30 + "-1x1-2"):
        assert plots.Region.from_text(text, 169) == plots.Region.whole(169)


def test_maps_of_up_to_400_tokens_are_drawn_cell_by_cell_and_say_nothing_of_blocks():
    figure = plots.plot_attention_map(random_map(400), (20, 20))
    (heatmap,) = traces(figure, go.Heatmap)
    assert heatmap.z.shape == (400, 400)
    assert not figure.layout.annotations


def test_a_large_map_shows_the_maximum_of_blocks_and_says_so():
    grid, num_tokens = (19, 160), 3040
    attention_map = single_weight(num_tokens, query=100, key=3039, weight=0.25)
    figure = plots.plot_attention_map(attention_map, grid)
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
        assert megabytes(plots.plot_attention_map(noise, grid)) < limit
        count = 4
        layers = plots.plot_layer_grid({f"layer_{layer}": noise for layer in range(count)}, grid, 2.0)
        assert megabytes(layers) < 0.6 * count


# ----------------------------------------------------------------------------------------------------------- layer grid


def test_the_layer_grid_draws_every_map_under_its_name_on_one_range():
    for num_layers in [1, 3, 4, 12]:
        names = [f"layer_{layer}" for layer in range(num_layers)] + ["average"]
        maps = {name: random_map(6, seed) for seed, name in enumerate(names)}
        figure = plots.plot_layer_grid(maps, (2, 3), 3.25)
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
    first, average = traces(plots.plot_layer_grid(maps, (2, 3), 3.0), go.Heatmap)
    assert cell_hover(first, 1, 5) == (
        "query 1 (row 0, column 1)<br>key 5 (row 1, column 2)<br>weight 0.75 = 4.5 x uniform"
    )
    assert cell_hover(average, 4, 0) == (
        "query 4 (row 1, column 1)<br>key 0 (row 0, column 0)<br>weight 0.5 = 3 x uniform"
    )


def test_the_layer_grid_says_when_its_cells_are_blocks():
    maps = {"layer_0": single_weight(300, 299, 0, 0.5), "average": single_weight(300, 0, 299, 0.5)}
    figure = plots.plot_layer_grid(maps, (15, 20), 3.0)
    first, average = traces(figure, go.Heatmap)
    assert np.argwhere(first.z).tolist() == [[149, 0]]
    assert np.argwhere(average.z).tolist() == [[0, 149]]
    assert "each cell: maximum of 2 x 2 cells" in [note.text for note in figure.layout.annotations]
    assert cell_hover(first, 149, 0).startswith("strongest of 2x2 pairs<br>query 298 to 299<br>key 0 to 1<br>")
    assert "150 x uniform" in cell_hover(first, 149, 0)


def test_layer_titles_in_words():
    assert [plots.layer_title(name) for name in ("layer_0", "layer_11", "average")] == [
        "Layer 0",
        "Layer 11",
        "Average",
    ]


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
        figure = plots.plot_patch_attention(grey_image(height, width), weights, grid, 16, query)
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
    figure = plots.plot_patch_attention(image, random_map(15)[0], (3, 5), 16, 0)
    (below,) = figure.layout.images
    data = base64.b64decode(below.source.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), to_uint8(image))
    assert (below.x, below.y, below.sizex, below.sizey, below.layer) == (0, 0, 70, 40, "below")


def test_the_overlay_and_its_colour_bar_share_one_range():
    for zmax, top in ((4.5, 4.5), (None, float((random_map(15)[0] * 15).max()))):
        figure = plots.plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0, zmax)
        bar = bar_marker(figure)
        assert (overlay(figure).zmin, overlay(figure).zmax) == (0, top)
        assert (bar.cmin, bar.cmax) == (0, top)
        assert [place for place, _ in bar.colorscale] == [place for place, _ in overlay(figure).colorscale]


def test_the_hover_of_a_patch_by_hand():
    weights = np.zeros(15, np.float32)
    weights[7] = 0.5  # row 1, column 2 of 3 x 5; 7.5 x 1/15
    said = "patch 7: row 1, column 2<br>receives from the chosen patch: weight 0.5 = 7.5 x uniform"
    targets = click_targets(plots.plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3))
    assert hover(targets, None, None, customdata=targets.customdata[7]) == said
    targets = click_targets(plots.plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3, incoming=True))
    assert hover(targets, None, None, customdata=targets.customdata[7]) == said.replace("receives from", "placed on")
    targets = click_targets(plots.plot_patch_attention(grey_image(48, 80), weights, (3, 5), 16, 3, quantity="spread"))
    assert "spread 0.5" in hover(targets, None, None, customdata=targets.customdata[7])


def test_a_click_on_a_patch_selects_its_token():
    for grid in [(13, 13), (10, 32), (1, 4)]:
        for as_dict in [False, True]:
            num_tokens = grid[0] * grid[1]
            image = grey_image(16 * grid[0] - 3, 16 * grid[1] - 5)
            targets = click_targets(plots.plot_patch_attention(image, random_map(num_tokens)[0], grid, 16, 0))
            for token in range(num_tokens):
                row, column = int(targets.y[token] // 16), int(targets.x[token] // 16)
                data = targets.customdata[token].tolist()
                # The browser sends a typed array as an object with its indices as names.
                sent = {str(number): value for number, value in enumerate(data)} if as_dict else data
                point = {"curve_number": 2, "point_index": token, "x": targets.x[token], "customdata": sent}
                assert (
                    plots.selected_token({"points": [point], "box": [], "lasso": []}) == row * grid[1] + column == token
                )


def test_the_markers_that_take_the_clicks_stay_unseen():
    targets = click_targets(plots.plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0))
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
        assert plots.selected_token(selection) is None


# ---------------------------------------------------------------------------------------------------------- signed error


def test_errors_are_drawn_as_they_are_on_a_scale_centred_on_zero():
    for limit in [None, 0.3]:
        error = grey_image(30, 40) - np.float32(0.2)
        figure = plots.plot_signed_error(error, limit)
        (heatmap,) = traces(figure, go.Heatmap)
        np.testing.assert_array_equal(heatmap.z, error)
        np.testing.assert_array_equal(heatmap.x, np.arange(40))
        np.testing.assert_array_equal(heatmap.y, np.arange(30))
        end = float(np.abs(error).max()) if limit is None else limit
        assert (heatmap.zmin, heatmap.zmid, heatmap.zmax) == (-end, 0, end)
        assert figure.layout.yaxis.autorange == "reversed"
        assert heatmap.colorbar.title.text == f"-{end:.2f} to +{end:.2f}"
        assert list(heatmap.colorbar.ticktext) == ["too dark", "0", "too light"]
        assert np.sign(heatmap.colorbar.tickvals).tolist() == [-1, 0, 1]
        assert hover(heatmap, 7, 3, error[3, 7]) == f"x 7, y 3<br>error {error[3, 7]:+.3f}"


def test_no_error_at_all_is_not_blown_up():
    (heatmap,) = traces(plots.plot_signed_error(np.zeros((8, 8), np.float32)), go.Heatmap)
    assert (heatmap.zmin, heatmap.zmax) == (-0.05, 0.05)


def test_a_large_picture_shows_of_each_block_the_error_farthest_from_zero_and_says_so():
    error = np.zeros((152, 1280), np.float32)
    error[0, 0], error[0, 1] = 0.2, -0.6  # one block of 3 x 3
    error[151, 1279], error[150, 1278] = 0.5, -0.1
    figure = plots.plot_signed_error(error)
    (heatmap,) = traces(figure, go.Heatmap)
    assert heatmap.z.shape == (51, 427)
    assert np.argwhere(heatmap.z).tolist() == [[0, 0], [50, 426]]
    assert (heatmap.z[0, 0], heatmap.z[50, 426]) == (np.float32(-0.6), np.float32(0.5))
    assert heatmap.x[0] == heatmap.y[0] == 1 and heatmap.x[1] == 4, "the middles of the blocks, in pixels"
    assert "largest of 3 x 3 pixels" in heatmap.colorbar.title.text
    assert megabytes(figure) < 0.2


# --------------------------------------------------------------------------------------------- distribution, curve


def test_percentile_rank_by_hand():
    percentiles = np.linspace(10, 30, 101)  # one fifth of a dB for each percent
    assert plots.percentile_rank(percentiles, 20.0) == pytest.approx(50)
    assert plots.percentile_rank(percentiles, 10.2) == pytest.approx(1)
    assert plots.percentile_rank(percentiles, 5.0) == 0
    assert plots.percentile_rank(percentiles, 99.0) == 100
    assert plots.worse_than(percentiles, 10.6, higher_is_better=True) == pytest.approx(97)
    assert plots.worse_than(percentiles, 29.4, higher_is_better=False) == pytest.approx(97)


def test_a_distribution_shows_its_bars_median_and_the_picture():
    for value in [5.0, 12.3, 20.0, 44.0]:
        for higher_is_better, end in [(True, "right"), (False, "left")]:
            percentiles = np.linspace(10, 30, 101) ** 2
            figure = plots.plot_distribution(percentiles, value**2, "SSIM", higher_is_better)
            bar, box, median, picture = traces(figure, go.Scatter)
            assert tuple(bar.x) == (percentiles[5], percentiles[95])
            assert tuple(box.x) == (percentiles[25], percentiles[75])
            assert tuple(median.x) == (percentiles[50],)
            assert tuple(picture.x) == (value**2,)
            low, high = figure.layout.xaxis.range
            assert low < min(percentiles[5], value**2) and max(percentiles[95], value**2) < high
            assert f"better: {end}" in texts(figure)
            assert "bar: 90 % of test images" in json.loads(texts(figure))["annotations"][0]["text"]
            assert hover(picture, value**2, 0).startswith(f"this image: {value**2:.4g}")


def test_a_distribution_of_equal_values_can_be_drawn():
    figure = plots.plot_distribution(np.full(101, 20.0), 20.0, "PSNR", True)
    low, high = figure.layout.xaxis.range
    assert low < 20 < high


def test_a_training_curve_draws_its_points_and_passes_over_incomplete_ones():
    curve = [{"step": 10, "held_out_psnr": 12.5}, {"step": 20, "loss": 0.1}, {"step": 30, "held_out_psnr": 14.0}]
    figure = plots.plot_training_curve(curve)
    assert figure.data[0].x.tolist() == [10, 30]
    assert figure.data[0].y.tolist() == [12.5, 14.0]
    assert figure.layout.xaxis.title.text == "Step"
    assert figure.layout.yaxis.title.text == "Held-out PSNR (dB)"
    assert not len(plots.plot_training_curve([]).data[0].x)


def test_the_spread_between_heads_is_told_beside_the_weight():
    weights, spread = random_map(9), random_map(9, seed=3)
    (trace,) = traces(plots.plot_attention_map(weights, (3, 3), spread=spread), go.Heatmap)
    np.testing.assert_allclose(np.asarray(trace.customdata)[..., 0], weights, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(trace.customdata)[..., 1], spread)
    said = hover(trace, trace.x[2], trace.y[7], trace.z[7][2], trace.customdata[7][2])
    assert f"weight {weights[7, 2]:.4g} = {weights[7, 2] * 9:.4g} x uniform" in said
    assert f"spread between heads {spread[7, 2]:.4g}" in said


def test_groups_are_drawn_in_their_order_with_open_points_for_what_training_never_showed():
    figure = plots.plot_by_group(GROUPS, "Width (pixels)")
    points = figure.data[0]
    # "9" stays a name: on a numeric axis it would stand left of 1000.
    assert list(points.x) == ["1000-1099", "9"] and figure.layout.xaxis.type == "category"
    assert points.y.tolist() == [18.5, 17.25]
    filled, opened = points.marker.color
    assert opened == "#ffffff" != filled == points.marker.line.color
    assert list(points.customdata) == ["40 test images", "12 test images, unlike any in training"]
    assert figure.layout.xaxis.title.text == "Width (pixels)"


def drawn(*names: str, **settings) -> go.Figure:
    curves = {name: (np.arange(1.0, 4), np.array([0.1, 0.01, 0.02])) for name in names}
    return plots.plot_curves(curves, "Step", "Loss", **settings)


def test_curves_draw_their_points_and_leave_out_what_is_no_number():
    x, y = np.array([1, 2, 3, 4, 5]), np.array([0.5, np.nan, np.inf, 0, 0.25])
    figure = plots.plot_curves({"a": (x, y)}, "Minutes", "Held-out PSNR (dB)", unit=" dB")
    assert figure.data[0].x.tolist() == [1, 4, 5] and figure.data[0].y.tolist() == [0.5, 0, 0.25]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Minutes", "Held-out PSNR (dB)")
    assert figure.layout.yaxis.type == "linear" and not figure.layout.showlegend
    assert figure.data[0].hovertemplate.startswith("minutes %{x:.4~g}<br>%{y:.4~g} dB")
    logarithmic = plots.plot_curves({"a": (x, y)}, "Step", "Loss", log=True)
    assert logarithmic.data[0].y.tolist() == [0.5, 0.25] and logarithmic.layout.yaxis.type == "log"


def test_curve_of_one_point_is_a_dot_and_none_is_empty():
    one = plots.plot_curves({"a": (np.array([3]), np.array([0.5]))}, "Step", "Loss")
    assert one.data[0].mode == "markers"
    none = plots.plot_curves({"a": (np.array([]), np.array([]))}, "Step", "Loss", log=True)
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
    (trace,) = plots.plot_curves({"a": (x, y)}, "Step", "Loss").data
    assert len(trace.x) <= plots.MAX_POINTS + 2 and np.all(np.diff(trace.x) > 0)
    points = dict(zip(trace.x.tolist(), trace.y.tolist(), strict=True))
    assert points[31_415] == 50 and points[70_000] == 0.001
    assert points[0] == y[0] and points[99_999] == y[-1]
    np.testing.assert_array_equal(trace.y, y[trace.x.astype(int)])


def contrast(one: str, other: str) -> float:
    """WCAG 2's, from 1 to 21."""
    darker, lighter = sorted(
        float(np.where((c := np.array(unlabel(colour))) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ weights)
        for colour in (one, other)
        for weights in [np.array([0.2126, 0.7152, 0.0722])]
    )
    return (lighter + 0.05) / (darker + 0.05)


def unlabel(colour: str) -> list[float]:
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def test_curves_stand_out_from_the_page_in_both_themes():
    for background in ["#ffffff", "#12151c"]:
        assert min(contrast(colour, background) for colour in plots.CURVE_COLOURS) > 3


def test_curves_are_told_apart_with_every_kind_of_colour_vision():
    for vision in COLOUR_VISION:
        labs = lab([f"rgb{tuple(round(255 * part) for part in unlabel(c))}" for c in plots.CURVE_COLOURS], vision)
        distances = np.linalg.norm(labs[:, None] - labs[None], axis=-1)
        assert distances[~np.eye(len(labs), dtype=bool)].min() > 10  # CIE76; 2.3 is just noticeable
