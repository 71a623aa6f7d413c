"""Rows of images, each under its title, and strips folded like text, as figures to take along."""

from collections.abc import Sequence

import numpy as np

from tae.analysis.facts import is_wide
from tae.plots.export.render import Format, colours, draw_image, draw_signed, new_figure, render

Row = Sequence[tuple[np.ndarray, str]]  # images (H, W) or (H, W, 3) in [0, 1], and what stands above each
MAX_LINES = 12  # of a folded strip


def strips_figure(rows: Sequence[Row], caption: str, fmt: Format, warning: str = "") -> bytes:
    """Rows of images of one size, at least one; each image has a row of its own where they are wide."""
    height, width = rows[0][0][0].shape[:2]
    if is_wide((height, width)):
        rows = [[cell] for row in rows for cell in row]
    columns = max(map(len, rows))
    side = 11 if columns == 1 else 2.3  # inches
    figure = new_figure(side * columns + 0.2, (side * height / width + 0.35) * len(rows) + 0.5)
    cells = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(cells, rows, strict=True):
        for each in axes:
            each.set_axis_off()
        for each, (pixels, title) in zip(axes, row, strict=False):
            draw_image(each, pixels, title, 9)
    return render(figure, caption, fmt, warning)


def effects_figure(
    images: np.ndarray,
    effects: np.ndarray,
    grid: tuple[int, int],
    tile_size: tuple[int, int],
    names: Sequence[str],
    unit: str,
    caption: str,
    fmt: Format,
    warning: str = "",
) -> bytes:
    """Signed effects (n, N) of patches, laid over their images (n, H, W) in [0, 1], all in one range of colours.

    Args:
        grid: Rows and columns of patches.
        tile_size: Height and width of a patch in pixels.
        names: What stands above each image.
        unit: What the effects are, beside the colours.
    """
    count, height, width = images.shape
    across = 1 if is_wide((height, width)) else count
    side = 11 if across == 1 else 2.6  # inches
    rows = -(-count // across)
    figure = new_figure(side * across + 1, (side * height / width + 0.35) * rows + 0.6)
    cells = figure.subplots(rows, across, squeeze=False).ravel()
    limit, drawn = float(np.abs(effects).max()) or 1e-12, None
    for axes, image, values, name in zip(cells, images, effects, names, strict=True):
        draw_image(axes, image, name, 9)
        laid = np.kron(values.reshape(grid), np.ones(tile_size))[:height, :width]
        alpha = 0.85 * np.abs(laid) / limit
        drawn = axes.imshow(
            laid, cmap=colours("effects"), vmin=-limit, vmax=limit, alpha=alpha, interpolation="nearest"
        )
    assert drawn is not None
    figure.colorbar(drawn, ax=list(cells), label=unit)
    return render(figure, caption, fmt, warning)


def folded_figure(
    image: np.ndarray, recon: np.ndarray, caption: str, fmt: Format, warning: str = "", error_only: bool = False
) -> bytes:
    """A strip, its reconstruction and their signed error (H, W), cut into lines of one length that follow each other.

    On one line a long strip would be a hair line. `error_only` leaves out the two images.
    """
    height, width = image.shape
    length = min(width, max(8 * height, -(-width // MAX_LINES)))
    starts = range(0, width, length)
    images = [("Error: reconstruction - image", recon - image)]
    if not error_only:
        images = [("Image", image), ("Reconstruction", recon), *images]
    limit = max(float(np.abs(recon - image).max()), 0.05)
    tall = (11 * height / length + 0.3) * len(images) * len(starts)
    figure = new_figure(11, tall + 1.4)
    cells = figure.subplots(len(images) * len(starts), 1, squeeze=False)[:, 0]
    drawn = None
    for line, start in enumerate(starts):
        for place, (title, pixels) in enumerate(images):
            axes = cells[line * len(images) + place]
            piece = pixels[:, start : start + length]
            if title.startswith("Error"):
                drawn = draw_signed(axes, piece, limit)
            else:
                draw_image(axes, piece)
            axes.set_xlim(-0.5, length - 0.5)  # the last line may be shorter
            axes.set_axis_off()
            axes.set_title(f"{title}, {start} to {start + piece.shape[1]} px", fontsize=8, loc="left", pad=2)
    assert drawn is not None
    figure.colorbar(
        drawn, ax=list(cells), anchor=(0.0, 1.0), shrink=min(1.0, 3 / tall), aspect=12, label="too dark < 0 < too light"
    )
    return render(figure, caption, fmt, warning)
