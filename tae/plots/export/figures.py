"""Figures of attention maps and reconstructions, to take along as PNG and SVG.

Figures are drawn by matplotlib from the arrays that the page shows, so that no browser is needed. Texts come from
strangers: nothing in them is read as a formula, a command or a path.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tae.analysis.facts import is_wide
from tae.plots.export.render import (
    Format,
    coarser,
    draw_image,
    draw_map,
    draw_over_image,
    draw_signed,
    new_figure,
    render,
)
from tae.plots.maps import MAX_CELLS_SMALL, layer_title
from tae.plots.style import QUERY_COLOUR, Quantity, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention_figure(
    attention_map: np.ndarray,
    grid: tuple[int, int],
    caption: str,
    zmax: float,
    fmt: Format,
    warning: str = "",
    quantity: Quantity = "weight",
) -> bytes:
    """One map (N, N), weights or their spread between heads, as a heatmap in x uniform, with its caption."""
    figure = new_figure(7.2, 7.2)
    axes = figure.add_subplot()
    drawn = draw_map(axes, attention_map, zmax)
    starts = np.arange(0, grid[0], -(-grid[0] // 12))
    axes.set_xticks(starts * grid[1], [f"row {row}" for row in starts], rotation=90)
    axes.set_yticks(starts * grid[1], [f"row {row}" for row in starts])
    axes.set(xlabel="Key patch", ylabel="Query patch")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label=unit_of(quantity) + coarser(len(attention_map)), extend="max")
    return render(figure, caption, fmt, warning)


def layer_grid_figure(
    maps: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    caption: str,
    zmax: float,
    fmt: Format,
    warning: str = "",
) -> bytes:
    """All layers' maps and their average on one colour range; arguments as for `attention_figure`."""
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure = new_figure(3.2 * columns + 0.8, 3.3 * rows + 0.6)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for each in axes[len(maps) :]:
        each.remove()
    drawn = [draw_map(place, each, zmax, MAX_CELLS_SMALL) for place, each in zip(axes, maps.values(), strict=False)]
    for each, name in zip(axes, maps, strict=False):
        each.set_title(layer_title(name), fontsize=11)
        each.set(xticks=[], yticks=[])
    label = "x uniform" + coarser(max(map(len, maps.values())), MAX_CELLS_SMALL)
    figure.colorbar(drawn[-1], ax=list(axes[: len(maps)]), shrink=0.8, label=label, extend="max")
    return render(figure, caption, fmt, warning)


def patch_figure(
    image: np.ndarray,
    weights: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    query: int,
    caption: str,
    zmax: float,
    fmt: Format,
    warning: str = "",
    quantity: Quantity = "weight",
) -> bytes:
    """One patch's weights (N,) over the image (H, W), beside the image alone; the patch is outlined."""
    from matplotlib.patches import Rectangle

    height, width = image.shape
    wide = is_wide(image.shape)
    figure = new_figure(*((10, 5.2) if not wide else (11, 2 * 11 * height / width + 1.6)))
    plain, laid = figure.subplots(2, 1) if wide else figure.subplots(1, 2)
    row, column = divmod(query, grid[1])
    for axes in (plain, laid):
        draw_image(axes, image)
        corner = (column * patch_size - 0.5, row * patch_size - 0.5)
        axes.add_patch(Rectangle(corner, patch_size, patch_size, fill=False, edgecolor=QUERY_COLOUR, linewidth=2))
    drawn = draw_over_image(laid, weights * len(weights), grid, patch_size, zmax)
    figure.colorbar(drawn, ax=[plain, laid], shrink=0.8, label=unit_of(quantity), extend="max")
    return render(figure, caption, fmt, warning)


def comparison_figure(image: np.ndarray, recon: np.ndarray, caption: str, fmt: Format, warning: str = "") -> bytes:
    """Image, reconstruction and signed error (H, W) side by side."""
    height, width = image.shape
    wide = is_wide(image.shape)
    figure = new_figure(*((11, 3 * 11 * height / width + 1.8) if wide else (12, 4.6)))
    axes = figure.subplots(3, 1) if wide else figure.subplots(1, 3)
    for each, title, pixels in zip(axes, ("Image", "Reconstruction"), (image, recon), strict=False):
        draw_image(each, pixels, title)
    _draw_error(figure, list(axes), recon - image)
    return render(figure, caption, fmt, warning)


def error_figure(image: np.ndarray, recon: np.ndarray, caption: str, fmt: Format, warning: str = "") -> bytes:
    """Signed error (H, W) on colours centred on zero."""
    height, width = image.shape
    wide = is_wide(image.shape)
    figure = new_figure(*((11, 11 * height / width + 1.6) if wide else (6.4, 6)))
    _draw_error(figure, [figure.subplots()], recon - image)
    return render(figure, caption, fmt, warning)


def _draw_error(figure: "Figure", axes: Sequence["Axes"], error: np.ndarray) -> None:
    """The error on the last of the axes; the colour bar takes its room from all of them, so that they stay alike."""
    limit = max(float(np.abs(error).max()), 0.05)
    drawn = draw_signed(axes[-1], error, limit)
    axes[-1].set_title("Error: reconstruction - image", fontsize=11)
    axes[-1].set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=list(axes), shrink=0.8, label="too dark < 0 < too light")
