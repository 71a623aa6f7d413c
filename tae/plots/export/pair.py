"""Two maps compared, as a figure to take along: both, their difference, and where on the image they differ."""

import numpy as np

from tae.analysis.agreement import Agreement
from tae.plots.export.render import Format, draw_image, draw_map, draw_over_image, draw_signed, new_figure, render
from tae.plots.maps import MAX_CELLS
from tae.plots.style import block_extreme


def pair_figure(
    first: np.ndarray,
    second: np.ndarray,
    found: Agreement | None,
    image: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    caption: str,
    zmax: float,
    fmt: Format,
    warning: str = "",
) -> bytes:
    """Maps A (N, N) and B (M, M) on one colour range; where they can be compared, A - B and the distance of each query.

    `found` is their agreement, None where their patches differ; image, grid and patch_size are those of A.
    """
    rows = 1 if found is None else 2
    figure = new_figure(10, 4.8 * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    drawn = [draw_map(place, each, zmax) for place, each in zip(axes[0], (first, second), strict=True)]
    for place, title in zip(axes[0], "AB", strict=True):
        place.set(title=title, xlabel="Key patch", ylabel="Query patch")
    figure.colorbar(drawn[-1], ax=list(axes[0]), shrink=0.8, label="x uniform", extend="max")
    if found is not None:
        cells, k = block_extreme(found.difference, MAX_CELLS)
        end = len(cells) * k - 0.5
        drawn = draw_signed(axes[1, 0], cells, max(0.5, float(np.abs(cells).max())), (-0.5, end, end, -0.5))
        title = "A - B" + (f", farthest from 0 of {k} x {k} pairs" if k > 1 else "")
        axes[1, 0].set(title=title, xlabel="Key patch", ylabel="Query patch")
        figure.colorbar(drawn, ax=axes[1, 0], shrink=0.8, label="x uniform")
        draw_image(axes[1, 1], image, "Jensen-Shannon distance of each query", 12)
        drawn = draw_over_image(axes[1, 1], found.distance, grid, patch_size, 1)
        figure.colorbar(drawn, ax=axes[1, 1], shrink=0.8, label="0 the same, 1 no key in common")
    return render(figure, caption, fmt, warning)
