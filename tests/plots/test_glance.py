"""The network at a glance: matrices hold their numbers in the order that is written beside them."""

import io

import numpy as np
import pytest
from PIL import Image

from tae.analysis.kinds import cluster
from tae.plots.export.glance import matrix_figure
from tae.plots.glance import MAX_NAMES, plot_alike, plot_heads_apart
from tae.plots.patching import selected_cell

PLACES = np.array([0.0, 0.9, 0.1, 0.5, 0.85])
APART = np.abs(PLACES[:, None] - PLACES)


def test_heads_stand_in_the_order_of_the_tree_and_a_click_means_the_row() -> None:
    tree = cluster(APART, 0.2)
    names = [f"E0.{head}" for head in range(5)]
    figure = plot_heads_apart(APART, tree.merges, tree.groups, tree.cut, names, ["mixed"] * 5, chosen=3)
    heat, points = figure.data[2:]
    np.testing.assert_allclose(heat.z, APART[np.ix_(tree.order, tree.order)], atol=1e-6)
    assert list(figure.layout.xaxis2.ticktext) == [names[head] for head in tree.order]
    for place in (0, 7, 24):
        row, column = tree.order[int(points.y[place])], tree.order[int(points.x[place])]
        told = f"{names[row]} (mixed)<br>{names[column]} (mixed)<br>{APART[row, column]:.3f} apart"
        assert points.hovertext[place] == told
        assert selected_cell({"points": [{"customdata": points.customdata[place]}]}, 5) == row
    low, high, chosen = figure.layout.shapes  # two groups of two, and the row of head 3
    assert [one.y1 - one.y0 for one in (low, high, chosen)] == [2, 2, 1] and chosen.y0 == tree.order.index(3) - 0.5
    many = np.abs(np.arange(MAX_NAMES + 1.0)[:, None] - np.arange(MAX_NAMES + 1)) / 100
    large = plot_heads_apart(many, cluster(many, 0).merges, range(MAX_NAMES + 1), 0, [""] * 99, [""] * 99)
    assert not large.layout.yaxis2.showticklabels  # no room for names
    assert list(large.data[3].x) == list(large.data[3].y) == list(range(MAX_NAMES + 1))


@pytest.mark.slow
def test_all_heads_of_a_large_model_are_one_image_and_no_marker_each() -> None:
    places = np.random.default_rng(0).random(384)
    apart = np.abs(places[:, None] - places)
    tree = cluster(apart, 0.01)
    names = [f"E{head // 16}.{head % 16}" for head in range(384)]
    figure = plot_heads_apart(
        apart, tree.merges, tree.groups, 0.01, names, ["local, foreground-seeking"] * 384, chosen=3
    )
    assert len(figure.to_json()) < 1_200_000
    heat, points = figure.data[2:]
    assert len(points.x) == 384 and heat.hovertemplate.startswith("%{y}<br>%{x}")  # named by the hidden ticks
    assert figure.layout.xaxis2.ticktext[5] == names[tree.order[5]]


def test_states_keep_their_places_and_one_that_never_varies_has_no_number() -> None:
    value = np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    names = ["encoder, before layer 0", "encoder, after layer 0", "latent"]
    heat, words = (figure := plot_alike(value, names, [["told"] * 3] * 3, [2])).data
    np.testing.assert_array_equal(heat.z, value.astype(np.float32))
    assert list(words.text) == ["1.00", ".50", "–", ".50", "1.00", "–", "–", "–", "–"]
    assert list(figure.layout.yaxis.ticktext) == ["encoder input", "layer 0", "latent"]
    assert len(figure.layout.shapes) == 2


@pytest.mark.parametrize("fmt", ["png", "svg"])
def test_matrices_can_be_taken_along(fmt: str) -> None:
    for merges in (None, cluster(APART, 0.2).merges):
        made = matrix_figure(APART, list("abc$e"), "distance", "$x$ caption", fmt, "UNTRAINED", merges)
        if fmt == "png":
            assert Image.open(io.BytesIO(made)).size[0] > 400
        else:
            assert b"$x$ caption" in made and b"UNTRAINED" in made
