"""Figures of errors and of an image's place among the test images: their numbers, their ends, their words."""

# Plotly's types do not say what its figures hold.

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from tae.plots.quality import plot_by_group, plot_distribution, plot_signed_error, worse_than
from tests.plots import grey_image, hover, megabytes, texts, traces

GROUPS = [
    {"group": "1000-1099", "psnr": 18.5, "count": 40, "unseen": False},
    {"group": "9", "psnr": 17.25, "count": 12, "unseen": True},
]


def test_errors_are_drawn_as_they_are_on_a_scale_centred_on_zero():
    for limit in [None, 0.3]:
        error = grey_image(30, 40) - np.float32(0.2)
        figure = plot_signed_error(error, limit)
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
    (heatmap,) = traces(plot_signed_error(np.zeros((8, 8), np.float32)), go.Heatmap)
    assert (heatmap.zmin, heatmap.zmax) == (-0.05, 0.05)


def test_a_large_picture_shows_of_each_block_the_error_farthest_from_zero_and_says_so():
    error = np.zeros((152, 1280), np.float32)
    error[0, 0], error[0, 1] = 0.2, -0.6  # one block of 3 x 3
    error[151, 1279], error[150, 1278] = 0.5, -0.1
    figure = plot_signed_error(error)
    (heatmap,) = traces(figure, go.Heatmap)
    assert heatmap.z.shape == (51, 427)
    assert np.argwhere(heatmap.z).tolist() == [[0, 0], [50, 426]]
    assert (heatmap.z[0, 0], heatmap.z[50, 426]) == (np.float32(-0.6), np.float32(0.5))
    assert heatmap.x[0] == heatmap.y[0] == 1 and heatmap.x[1] == 4, "the middles of the blocks, in pixels"
    assert "largest of 3 x 3 pixels" in heatmap.colorbar.title.text
    assert megabytes(figure) < 0.2


def test_place_among_percentiles_by_hand():
    percentiles = np.linspace(10, 30, 101)  # one fifth of a dB for each percent
    assert worse_than(percentiles, 20.0, higher_is_better=False) == pytest.approx(50)
    assert worse_than(percentiles, 10.2, higher_is_better=False) == pytest.approx(1)
    assert worse_than(percentiles, 5.0, higher_is_better=False) == 0
    assert worse_than(percentiles, 99.0, higher_is_better=False) == 100
    assert worse_than(percentiles, 10.6, higher_is_better=True) == pytest.approx(97)
    assert worse_than(percentiles, 29.4, higher_is_better=False) == pytest.approx(97)


def test_a_distribution_shows_its_bars_median_and_the_picture():
    for value in [5.0, 12.3, 20.0, 44.0]:
        for higher_is_better, end in [(True, "right"), (False, "left")]:
            percentiles = np.linspace(10, 30, 101) ** 2
            figure = plot_distribution(percentiles, value**2, "SSIM", higher_is_better)
            bar, box, median, picture = traces(figure, go.Scatter)
            assert tuple(bar.x) == (percentiles[5], percentiles[95])
            assert tuple(box.x) == (percentiles[25], percentiles[75])
            assert tuple(median.x) == (percentiles[50],)
            assert tuple(picture.x) == (value**2,)
            low, high = figure.layout.xaxis.range
            assert low < min(percentiles[5], value**2) and max(percentiles[95], value**2) < high
            assert f"better: {end}" in texts(figure)
            assert "bar: 90% of test images" in json.loads(texts(figure))["annotations"][0]["text"]
            assert hover(picture, value**2, 0).startswith(f"this image: {value**2:.4g}")


def test_a_distribution_of_equal_values_can_be_drawn():
    figure = plot_distribution(np.full(101, 20.0), 20.0, "PSNR", True)
    low, high = figure.layout.xaxis.range
    assert low < 20 < high


def test_groups_are_drawn_in_their_order_with_open_points_for_what_training_never_showed():
    figure = plot_by_group(GROUPS, "Width (pixels)")
    points = figure.data[0]
    # "9" stays a name: on a numeric axis it would stand left of 1000.
    assert list(points.x) == ["1000-1099", "9"] and figure.layout.xaxis.type == "category"
    assert points.y.tolist() == [18.5, 17.25]
    filled, opened = points.marker.color
    assert opened == "#ffffff" != filled == points.marker.line.color
    assert list(points.customdata) == ["40 test images", "12 test images, unlike any in training"]
    assert figure.layout.xaxis.title.text == "Width (pixels)"
