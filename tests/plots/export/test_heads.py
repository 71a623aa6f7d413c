"""Figures of all heads: each map lies in its layer's row and its head's column, measures at their values."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from tae import TransformerAutoencoder
from tae.analysis.heads import head_statistics, statistics_over, uniform_statistics
from tae.plots.export import figures, render, tables
from tae.plots.export.heads import MAX_SIDE, measures_figure, overview_cell, overview_figure


def near(png: bytes, value: float) -> np.ndarray:
    """(H, W), True where the picture has the colour of this place on the colour scale."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)
    colour = np.array([round(255 * channel) for channel in render.colours("attention")(value)[:3]])
    return np.abs(pixels - colour).max(axis=2) <= 3


def sheet(png: bytes) -> tuple[slice, slice]:
    """The box of what is drawn in the lightest and the middle colour, without the colour bar, a thin column."""
    mask = near(png, 0.0) | near(png, 0.5)
    rows = np.flatnonzero(mask.sum(axis=1) > 0.5 * mask.sum(axis=1).max())
    columns = np.flatnonzero(mask.sum(axis=0) > 0.5 * mask.sum(axis=0).max())
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@pytest.mark.slow
def test_a_heads_map_lies_in_the_row_of_its_layer_and_the_column_of_its_head():
    for layers, heads, layer, head in [(3, 4, 2, 1), (2, 12, 0, 11), (1, 1, 0, 0)]:
        cells = np.zeros((layers, heads, 20, 20), np.float32)
        cells[layer, head] = 2
        png = overview_figure(cells, "one head", 4.0, "png")
        found = near(png, 0.5)[sheet(png)]
        rows, columns = np.nonzero(found)
        height, width = found.shape
        assert int(np.median(rows) / height * layers) == layer
        assert int(np.median(columns) / width * heads) == head
        assert abs(len(rows) / (height * width) - 1 / (layers * heads)) < 0.2 / (layers * heads)


def test_an_overview_has_no_more_cells_than_are_drawn():
    assert all(overview_cell(layers, heads) * max(layers, heads) <= MAX_SIDE for layers, heads in [(3, 4), (12, 16)])


@pytest.mark.slow
def test_a_single_strong_weight_of_a_large_map_is_drawn():
    attention_map = np.zeros((3000, 3000), np.float32)
    attention_map[1701, 903] = 2 / 3000
    for png in (
        figures.attention_figure(attention_map, (1, 3000), "one weight", 4.0, "png"),
        figures.layer_grid_figure({"average": attention_map}, (1, 3000), "one weight", 4.0, "png"),
    ):
        found = near(png, 0.5)[sheet(png)]
        rows, columns = np.nonzero(found)
        assert 1 <= len(rows) <= 30
        assert abs(rows.mean() / found.shape[0] - 1701 / 3000) < 0.02
        assert abs(columns.mean() / found.shape[1] - 903 / 3000) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_measures_are_drawn_with_and_without_test_images(
    layers: int, small_model: Callable[..., TransformerAutoencoder]
):
    model = small_model(encoder_layers=layers)
    image = torch.rand(1, 1, 24, 32, dtype=torch.float64)
    own, uniform = head_statistics(model, image), uniform_statistics(model.config, image)
    spread = statistics_over(model, [np.full((24, 32), 90, np.uint8), np.eye(24, 32, dtype=np.uint8) * 255])
    plain = measures_figure(own, uniform, "caption", "png")
    behind = measures_figure(own, uniform, "caption", "png", spread=spread)
    assert plain.startswith(b"\x89PNG") and plain != behind
    svg = measures_figure(own, uniform, "<b>$x$</b>", "svg", warning="of chance").decode()
    assert "<script" not in svg and "http://example" not in svg


def test_a_smaller_png_looks_alike():
    rows, columns = np.indices((40, 40))
    attention_map = ((rows * 40 + columns) / 1600**2).astype(np.float32)
    png = figures.attention_figure(attention_map, (5, 8), "caption", 1.0, "png")
    small = tables.smaller_png(png)
    first, second = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), int) for one in (png, small))
    assert len(small) < len(png)
    assert np.abs(first - second).max() <= 5
