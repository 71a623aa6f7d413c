"""Tables of patched cells and paths: they hold their numbers, words can be read on every colour, and clicks mean a cell."""

import math

import numpy as np
import pytest
from plotly.colors import sample_colorscale, unlabel_rgb

from tae.plots import style
from tae.plots.causal import PatchMap, plot_patch_maps
from tae.plots.glance import ALIKE_COLOURS
from tae.plots.patching import plot_cells, plot_paths, selected_cell
from tests.plots import contrast


def test_cells_keep_their_places_and_colours_end_alike_both_ways() -> None:
    values = np.array([[0.5, -0.25, 0.0], [0.1, 0.2, -0.003]])
    said = [f"cell {number}" for number in range(6)]
    heat, points = (
        figure := plot_cells(values, ["encoder 0", "decoder 0"], ["0", "all", "MLP"], 0.5, said, (1, 0))
    ).data
    np.testing.assert_array_equal(heat.z, values)
    assert (heat.zmin, heat.zmid, heat.zmax) == (-0.5, 0, 0.5)
    assert list(points.text) == ["50%", "−25%", "0%", "10%", "20%", "0%"] and list(points.hovertext) == said
    assert list(zip(points.x, points.y, points.customdata, strict=True))[4] == ("all", "decoder 0", 4)
    (box,) = figure.layout.shapes
    assert (box.y0, box.x0, box.y1, box.x1) == (0.5, -0.5, 1.5, 0.5)
    many = plot_cells(np.zeros((1, 18)), ["encoder 0"], [str(one) for one in range(18)], 1, [""] * 18).data[1]
    assert many.mode == "markers"  # no room for words


def test_words_have_contrast_on_every_colour() -> None:
    places = np.linspace(0, 1, 100).tolist()
    for colours in (style.ERROR_COLOURS, ALIKE_COLOURS):
        words = style.black_or_white(colours, places)
        assert {*words} == {"#000000", "#ffffff"}
        for word, below in zip(words, sample_colorscale(list(colours), places), strict=True):
            assert contrast([255 * (word == "#ffffff")] * 3, unlabel_rgb(below)) >= 4.5
        assert style.black_or_white(colours, [-0.01, 1.01]) == [words[0], words[-1]]


@pytest.mark.parametrize(
    ("selection", "cell"),
    [
        ({"points": [{"customdata": 4}]}, 4),
        ({"points": [{"customdata": [4]}]}, 4),
        ({"points": [{"customdata": {"0": 4}}]}, 4),
        ({"points": [{"customdata": 6}]}, None),
        ({"points": [{"customdata": -1}]}, None),
        ({"points": [{"customdata": 1.5}]}, None),
        ({"points": [{"customdata": math.nan}]}, None),
        ({"points": [{"customdata": "4"}]}, None),
        ({"points": ["x"]}, None),
        ({}, None),
    ],
)
def test_a_click_means_a_cell_and_nothing_else_does(selection: dict, cell: int | None) -> None:
    assert selected_cell(selection, 6) == cell


def test_signed_patch_maps_end_alike_both_ways_and_tell_their_cells() -> None:
    values = np.array([-1.0, 2, 0, 0, 0, 0])
    maps = [PatchMap("layer 0", values, "%", 4.0, [0, 0, 1, 2, 2, 3])]
    heat, points = (figure := plot_patch_maps(np.ones((20, 40)), maps, (2, 3), 16)).data
    assert (heat.zmin, heat.zmax) == (-4, 4) and "±4" in figure.layout.annotations[0].text
    assert list(points.customdata) == [0, 0, 1, 2, 2, 3] and points.text[1] == "patch 1: row 0, column 1<br>2%"
    assert list(points.x) == [8, 24, 36] * 2 and list(points.y) == [8] * 3 + [18] * 3  # inside the image


def test_paths_stand_beside_what_is_done_in_all() -> None:
    (bars,) = plot_paths({"own MLP": 0.5, "layer 1": -0.1}, 0.45).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {"own MLP": 0.5, "layer 1": -0.1, "in all": 0.45}
    assert list(bars.text) == ["50.0%", "−10.0%", "45.0%"]
