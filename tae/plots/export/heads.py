"""All heads and layers of a part in one figure: their maps side by side, and their measures; see `tae.plots.export.figures`."""

from collections.abc import Mapping

import numpy as np

from tae.analysis.heads import MEASURES, Spread
from tae.plots.export.render import Format, colours, new_figure, render
from tae.plots.style import CURVE_COLOURS, QUERY_COLOUR

MAX_SIDE = 1000  # cells of all maps together, a side: more than are drawn would only make the file heavier
MEAN_COLOUR, UNIFORM_COLOUR = CURVE_COLOURS[1], "#5b6170"


def overview_cell(num_layers: int, num_heads: int) -> int:
    """How many cells a side each head's map may have in `overview_figure`."""
    return max(8, MAX_SIDE // max(num_layers, num_heads))


def overview_figure(
    cells: np.ndarray, caption: str, zmax: float, fmt: Format, warning: str = "", merged: int = 1
) -> bytes:
    """Every head of every layer on one colour range: rows = layers, columns = heads.

    The cells (L, heads, n, n) in x uniform are the maps, or what `tae.plots.style.block_max` left of each; `merged` patches a
    side stand behind a cell.
    """
    layers, heads, side, _ = cells.shape
    gap = max(1, side // 24)
    step = side + gap
    sheet = np.full((layers * step - gap, heads * step - gap), np.nan, np.float32)
    for layer, head in np.ndindex(layers, heads):
        sheet[layer * step :, head * step :][:side, :side] = cells[layer, head]
    scale = min(9.0 / heads, 9.0 / layers, 2.6)  # inches for each map
    figure = new_figure(max(5.0, scale * heads + 1.9), scale * layers + 1.3)
    axes = figure.add_subplot()
    drawn = axes.imshow(sheet, cmap=colours("attention"), vmin=0, vmax=zmax, interpolation="nearest")
    middle = (side - 1) / 2
    axes.set_xticks([head * step + middle for head in range(heads)], [f"head {head}" for head in range(heads)])
    axes.set_yticks([layer * step + middle for layer in range(layers)], [f"layer {layer}" for layer in range(layers)])
    axes.tick_params(length=0)
    if heads > 10:
        axes.tick_params(axis="x", labelrotation=90)
    axes.spines[:].set_visible(False)
    coarser = f", each cell: maximum of {merged} x {merged}" if merged > 1 else ""
    figure.colorbar(drawn, ax=axes, shrink=0.8, label=f"x uniform{coarser}", extend="max")
    return render(figure, caption, fmt, warning)


def measures_figure(
    own: Mapping[str, np.ndarray],
    uniform: Mapping[str, float],
    caption: str,
    fmt: Format,
    warning: str = "",
    spread: Spread | None = None,
) -> bytes:
    """Each measure over the layers: heads as points, their mean as a line, uniform attention dashed.

    By name of `MEASURES`: `own` (L, heads) of the image, `uniform` attention on it; `spread`, drawn behind, those of
    test images: median, middle 50 and 90% of the layers' means.
    """
    names = [name for name in MEASURES if name in own]
    figure = new_figure(11, 2.9 * -(-len(names) // 3) + 0.7)
    panels = np.atleast_1d(figure.subplots(-(-len(names) // 3), 3)).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        values = own[name]
        layers = np.arange(len(values))
        if spread is not None:
            bands = spread.of_layers(name)
            # A band has no width over one layer alone.
            places = layers if len(layers) > 1 else np.array([-0.2, 0.2])
            lowest, low, median, high, highest = (np.broadcast_to(band, places.shape) for band in bands)
            axes.fill_between(
                places, lowest, highest, color="#8a8f99", alpha=0.2, linewidth=0, label="test images, 90%"
            )
            axes.fill_between(places, low, high, color="#8a8f99", alpha=0.3, linewidth=0, label="middle 50%")
            axes.plot(places, median, color="#5b6170", linewidth=1, label="their median")
        axes.axhline(uniform[name], color=UNIFORM_COLOUR, linestyle="--", linewidth=1, label="uniform attention")
        for head in range(values.shape[1]):
            axes.scatter(layers, values[:, head], s=20, color=QUERY_COLOUR, alpha=0.8, linewidths=0, zorder=3)
        axes.plot(layers, values.mean(axis=1), color=MEAN_COLOUR, linewidth=1.6, zorder=4, label="mean of heads")
        if len(layers) == 1:
            axes.scatter(layers, values.mean(axis=1), s=40, marker="_", color=MEAN_COLOUR, zorder=4)
        axes.set(xticks=layers, xlim=(-0.4, len(layers) - 0.6))
        axes.set_title(MEASURES[name].label, fontsize=10)
        axes.set_ylabel(MEASURES[name].unit, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].scatter([], [], s=20, color=QUERY_COLOUR, alpha=0.8, linewidths=0, label="one head each")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    for axes in panels[max(0, len(names) - 3) : len(names)]:
        axes.set_xlabel("layer", fontsize=8)
    return render(figure, caption, fmt, warning)
