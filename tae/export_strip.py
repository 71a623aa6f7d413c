"""Rows of pictures, each under its title, as a figure to take along."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tae.export import Format, render

Row = Sequence[tuple[np.ndarray, str]]
"""Pictures (H, W) in [0, 1], and what stands above each."""


def strips_figure(rows: Sequence[Row], caption: str, fmt: Format, untrained: bool = False) -> bytes:
    """Rows of pictures of one size; each picture has a row of its own where they are wide.

    Args:
        rows: At least one, of at least one picture.
        caption: Printed below.
        fmt: "png" or "svg".
        untrained: Whether to say so in red.
    """
    height, width = rows[0][0][0].shape
    if width > 2 * height:
        rows = [[cell] for row in rows for cell in row]
    columns = max(map(len, rows))
    side = 11 if columns == 1 else 2.3  # inches
    figure = Figure(
        figsize=(side * columns + 0.2, (side * height / width + 0.35) * len(rows) + 0.5), layout="constrained"
    )
    cells = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(cells, rows, strict=True):
        for each in axes:
            each.set_axis_off()
        for each, (pixels, title) in zip(axes, row, strict=False):
            each.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            each.set_title(title, fontsize=9, parse_math=False)
    return render(figure, caption, fmt, untrained)
