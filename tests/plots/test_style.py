"""Shared by all figures: colours that people tell apart, maxima of blocks, nothing of the theme, nothing changed."""

# Plotly's types do not say what its figures hold.

import copy
import re

import numpy as np
import plotly.graph_objects as go
from hypothesis import given
from hypothesis import strategies as st
from plotly.colors import sample_colorscale, unlabel_rgb
from skimage.color import rgb2lab

from tae.plots.maps import plot_attention_map, plot_layer_grid, plot_patch_attention
from tae.plots.quality import plot_by_group, plot_distribution, plot_signed_error
from tae.plots.style import ATTENTION_COLOURS, CURVE_COLOURS, ERROR_COLOURS, QUERY_COLOUR, block_max
from tae.plots.training import plot_training_curve
from tests.plots import bar_marker, contrast, grey_image, random_map, texts
from tests.plots.test_quality import GROUPS

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


def lab(colours: list[str], vision: str) -> np.ndarray:
    """CIELAB (n, 3) of "rgb(...)" colours as someone sees them."""
    rgb = np.array([unlabel_rgb(colour) for colour in colours], float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ COLOUR_VISION[vision].T
    linear = np.clip(linear, 0, 1)
    seen = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(seen[None])[0]


def arrays() -> dict[str, np.ndarray]:
    """What is drawn below; each may be changed."""
    return {
        "map": random_map(15).copy(),
        "spread": random_map(15, 1).copy(),
        "image": grey_image().copy(),
        "error": grey_image() - np.float32(0.5),
        "percentiles": np.linspace(10, 30, 101),
    }


def figures(given: dict[str, np.ndarray], curve: list[dict], groups: list[dict]) -> dict[str, go.Figure]:
    """One of each kind."""
    return {
        "map": plot_attention_map(given["map"], (3, 5), spread=given["spread"]),
        "layers": plot_layer_grid({"layer_0": given["map"], "average": given["spread"]}, (3, 5), 4.0),
        "patch": plot_patch_attention(given["image"], given["map"][4], (3, 5), 16, 3),
        "error": plot_signed_error(given["error"]),
        "distribution": plot_distribution(given["percentiles"], 17.0, "PSNR", True),
        "curve": plot_training_curve(curve),
        "groups": plot_by_group(groups, "Width (pixels)"),
    }


CURVE = [{"step": 1, "held_out_psnr": 9.0}, {"step": 2, "held_out_psnr": 12.0}]


def test_the_same_arrays_give_the_same_figure_and_are_neither_changed_nor_held():
    given, curve, groups = arrays(), copy.deepcopy(CURVE), copy.deepcopy(GROUPS)
    made = figures(given, curve, groups)
    for name, array in arrays().items():
        np.testing.assert_array_equal(given[name], array, err_msg=name)
    assert (curve, groups) == (CURVE, GROUPS)
    for array in given.values():
        array[...] = 0.123  # a figure that only points at its arguments would change with them
    again = figures(arrays(), CURVE, GROUPS)
    assert {name: one.to_json() for name, one in made.items()} == {name: one.to_json() for name, one in again.items()}


def test_figures_leave_paper_and_writing_to_the_theme():
    for name, figure in figures(arrays(), CURVE, GROUPS).items():
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)", name
        fonts = re.findall(r'"(?:\w*font)": (\{[^}]*\})', figure.to_json().split('"template"')[0] + texts(figure))
        assert not [font for font in fonts if "color" in font], "letters would vanish in the other theme"


def test_no_colour_is_one_that_streamlits_theme_replaces():
    for colours in [ATTENTION_COLOURS, ERROR_COLOURS, [QUERY_COLOUR]]:
        # Its template uses #000001 to #000020 as placeholders and rewrites them, as it does #000004 of Magma.
        assert not [colour for colour in colours if re.fullmatch(r"#0000[0-2][0-9a-f]", colour.lower())]


def test_attention_is_drawn_dark_for_high_for_every_kind_of_colour_vision():
    for vision in COLOUR_VISION:
        colours = sample_colorscale(ATTENTION_COLOURS, np.linspace(0, 1, 41))
        lightness = lab(colours, vision)[:, 0]
        assert np.all(np.diff(lightness) < 0)
        assert lightness[0] > 90 and lightness[-1] < 5


def test_the_overlays_colour_bar_runs_from_white_to_dark():
    for vision in COLOUR_VISION:
        figure = plot_patch_attention(grey_image(48, 80), random_map(15)[0], (3, 5), 16, 0)
        colours = [colour for _, colour in bar_marker(figure).colorscale]
        assert colours[0] == "rgb(255, 255, 255)", "no weight leaves the paper white"
        assert np.all(np.diff(lab(colours, vision)[:, 0]) < -5)


def test_the_sign_of_an_error_shows_for_every_kind_of_colour_vision():
    for strength in [0.4, 0.7, 1.0]:
        for vision in COLOUR_VISION:
            low, middle, high = lab(
                sample_colorscale(ERROR_COLOURS, [0.5 - strength / 2, 0.5, 0.5 + strength / 2]), vision
            )
            for one, other in ((low, high), (low, middle), (middle, high)):
                assert np.linalg.norm(one - other) > 12  # CIE76; 2.3 is just noticeable
            assert middle[0] > low[0] and middle[0] > high[0], "no error is the lightest"


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_block_max_is_the_maximum_of_each_block(rows, columns, max_cells, seed):
    array = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    blocks, k = block_max(array, max_cells)
    assert max(blocks.shape) <= max_cells
    assert k == 1 or -(-max(rows, columns) // (k - 1)) > max_cells, "no coarser than needed"
    for row in range(blocks.shape[0]):
        for column in range(blocks.shape[1]):
            assert blocks[row, column] == array[row * k : (row + 1) * k, column * k : (column + 1) * k].max()


def test_block_max_leaves_alone_what_is_small_enough():
    array = random_map(7)
    blocks, k = block_max(array, 7)
    assert blocks is array and k == 1


def channels(colour: str) -> tuple[int, ...]:
    """ "#rrggbb", each up to 255."""
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def test_curves_stand_out_from_the_page_in_both_themes_and_are_told_apart_with_every_kind_of_colour_vision():
    colours = [channels(colour) for colour in CURVE_COLOURS]
    for background in ["#ffffff", "#12151c"]:
        assert min(contrast(colour, channels(background)) for colour in colours) > 3
    for vision in COLOUR_VISION:
        labs = lab([f"rgb{colour}" for colour in colours], vision)
        distances = np.linalg.norm(labs[:, None] - labs[None], axis=-1)
        assert distances[~np.eye(len(labs), dtype=bool)].min() > 10  # CIE76; 2.3 is just noticeable
