"""Figures for paper: one way of drawing a map, and the formats that a figure is written in."""

import functools
import io
import textwrap
from typing import TYPE_CHECKING, Literal

import numpy as np

from tae.plots.maps import MAX_CELLS
from tae.plots.sequence import SIGNED_COLOURS
from tae.plots.style import OVERLAY, block_max

if TYPE_CHECKING:  # a third of a second that no page waits for: it is imported where a figure is drawn
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")  # of figures to take along
PALETTES = {"attention": "magma_r", "similarity": "cividis_r", "error": "PuOr"}
"""Matplotlib's names; the first two are dark where much is."""


@functools.cache
def colours(of: Literal["attention", "similarity", "error", "effects", "overlay"]) -> "Colormap":
    """What a quantity is drawn in; the overlay's are clear where it is low."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if of == "overlay":
        ends = [(place, (*(channel / 255 for channel in colour), opacity)) for place, colour, opacity in OVERLAY]
        return LinearSegmentedColormap.from_list(of, ends)
    if of == "effects":
        return LinearSegmentedColormap.from_list(of, SIGNED_COLOURS)
    return matplotlib.colormaps[PALETTES[of]]


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sizes in inches; made without pyplot, which all sessions would share."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_map(axes: "Axes", attention_map: np.ndarray, zmax: float, max_cells: int = MAX_CELLS):
    """Draw a map (N, N) in cells that are no finer than the figure: nearest neighbours would pass over single strong weights."""
    num_tokens = len(attention_map)
    cells, k = block_max(attention_map * num_tokens, max_cells)
    end = len(cells) * k - 0.5
    drawn = axes.imshow(
        cells, cmap=colours("attention"), vmin=0, vmax=zmax, interpolation="nearest", extent=(-0.5, end, end, -0.5)
    )
    axes.set(xlim=(-0.5, num_tokens - 0.5), ylim=(num_tokens - 0.5, -0.5))
    return drawn


def draw_image(axes: "Axes", image: np.ndarray, title: str = "", fontsize: int = 11) -> None:
    """An image (H, W) in [0, 1] in greys, without ticks; title: a stranger's text, perhaps."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=fontsize, parse_math=False)


def draw_over_image(axes: "Axes", values: np.ndarray, grid: tuple[int, int], patch_size: int, top: float):
    """Numbers (N,) from 0 to `top` over the image that was drawn, each on its patch, in the screen's colours."""
    height, width = axes.images[0].get_size()
    axes.images[0].set_alpha(0.5)  # as on the screen: on black, dark colours would not be seen
    laid = np.repeat(np.repeat(values.reshape(grid), patch_size, axis=0), patch_size, axis=1)[:height, :width]
    return axes.imshow(laid, cmap=colours("overlay"), vmin=0, vmax=top, interpolation="nearest")


def draw_signed(
    axes: "Axes", values: np.ndarray, limit: float, extent: tuple[float, float, float, float] | None = None
):
    """Numbers (H, W) on colours centred on zero, which end at +-limit."""
    return axes.imshow(values, cmap=colours("error"), vmin=-limit, vmax=limit, interpolation="nearest", extent=extent)


def coarser(num_tokens: int, max_cells: int = MAX_CELLS) -> str:
    """Words for a caption where the cells of a map are merged; else nothing."""
    k = -(-num_tokens // max_cells)
    return "" if k == 1 else f"; each cell: maximum of {k} x {k}"


def render(figure: "Figure", caption: str, fmt: Format, warning: str) -> bytes:
    """The figure with its caption below, as bytes.

    In the caption, a text from anywhere, nothing is typeset.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    line = max(60, int(figure.get_figwidth() * 15))
    text = "\n".join(textwrap.wrap(caption, line))
    figure.supxlabel(text, fontsize=8, color="#444444", parse_math=False)
    if warning:
        figure.suptitle(warning, color="#c0182b", fontsize=13, fontweight="bold")
    buffer = io.BytesIO()
    if fmt == "png":
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=130)
    else:  # text stays text, so that it can be searched and edited
        undated = {"Date": None} if fmt == "svg" else {"CreationDate": None}
        with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
            figure.savefig(buffer, format=fmt, metadata=undated)
    return buffer.getvalue()
