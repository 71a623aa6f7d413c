"""What a user takes along: figures as PNG and SVG, arrays as NPZ, tables as CSV, all of it as ZIP.

Figures are drawn by matplotlib from the arrays that the page shows, so that no browser is needed. Texts come from
strangers: nothing in them is read as a formula, a command or a path.
"""

import csv
import io
import re
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tae.images import safe_name
from tae.plots import EXACT_TOKENS, MAX_CELLS, MAX_CELLS_SMALL, QUERY_COLOUR, Quantity, block_max, layer_title, unit_of

Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")
"""Of figures to take along."""
ATTENTION_MAP = matplotlib.colormaps["magma_r"]
ERROR_MAP = matplotlib.colormaps["PuOr"]
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # the wide forms, too, start a formula in some spreadsheets


def attention_figure(
    attention_map: np.ndarray,
    grid: tuple[int, int],
    caption: str,
    zmax: float,
    fmt: Format,
    untrained: bool = False,
    quantity: Quantity = "weight",
) -> bytes:
    """One map (N, N) as a heatmap in x uniform, with its caption.

    Args:
        attention_map: (N, N) weights, or their spread between heads.
        grid: (rows, columns) of patches.
        caption: Printed below.
        zmax: End of the colours in x uniform.
        fmt: "png" or "svg".
        untrained: Whether to say so in red.
        quantity: What the numbers are.
    """
    figure = Figure(figsize=(7.2, 7.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = draw_map(axes, attention_map, zmax)
    starts = np.arange(0, grid[0], -(-grid[0] // 12))
    axes.set_xticks(starts * grid[1], [f"row {row}" for row in starts], rotation=90)
    axes.set_yticks(starts * grid[1], [f"row {row}" for row in starts])
    axes.set_xlabel("Key patch")
    axes.set_ylabel("Query patch")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label=unit_of(quantity) + _coarser(len(attention_map)), extend="max")
    return render(figure, caption, fmt, untrained)


def layer_grid_figure(
    maps: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    caption: str,
    zmax: float,
    fmt: Format,
    untrained: bool = False,
) -> bytes:
    """All layers' maps and their average on one colour range; arguments as for `attention_figure`."""
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.8, 3.3 * rows + 0.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for each in axes[len(maps) :]:
        each.remove()
    for each, (name, attention_map) in zip(axes, maps.items(), strict=False):
        drawn = draw_map(each, attention_map, zmax, MAX_CELLS_SMALL)
        each.set_title(layer_title(name), fontsize=11)
        each.set_xticks([])
        each.set_yticks([])
    label = "x uniform" + _coarser(max(map(len, maps.values())), MAX_CELLS_SMALL)
    figure.colorbar(drawn, ax=list(axes[: len(maps)]), shrink=0.8, label=label, extend="max")
    return render(figure, caption, fmt, untrained)


def patch_figure(
    image: np.ndarray,
    weights: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    query: int,
    caption: str,
    zmax: float,
    fmt: Format,
    untrained: bool = False,
    quantity: Quantity = "weight",
) -> bytes:
    """One patch's weights (N,) over the image (H, W), beside the image alone; the patch is outlined."""
    height, width = image.shape
    values = np.repeat(np.repeat(weights.reshape(grid) * len(weights), patch_size, axis=0), patch_size, axis=1)
    wide = width > 2 * height
    figure = Figure(figsize=(10, 5.2) if not wide else (11, 2 * 11 * height / width + 1.6), layout="constrained")
    plain, laid = figure.subplots(2, 1) if wide else figure.subplots(1, 2)
    row, column = divmod(query, grid[1])
    for axes in (plain, laid):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        corner = (column * patch_size - 0.5, row * patch_size - 0.5)
        axes.add_patch(Rectangle(corner, patch_size, patch_size, fill=False, edgecolor=QUERY_COLOUR, linewidth=2))
        axes.set_xticks([])
        axes.set_yticks([])
    drawn = laid.imshow(
        values[:height, :width], cmap=ATTENTION_MAP, vmin=0, vmax=zmax, alpha=0.75, interpolation="nearest"
    )
    figure.colorbar(drawn, ax=[plain, laid], shrink=0.8, label=unit_of(quantity), extend="max")
    return render(figure, caption, fmt, untrained)


def comparison_figure(
    image: np.ndarray, recon: np.ndarray, caption: str, fmt: Format, untrained: bool = False
) -> bytes:
    """Image, reconstruction and signed error (H, W) side by side."""
    height, width = image.shape
    wide = width > 2 * height
    figure = Figure(figsize=(11, 3 * 11 * height / width + 1.8) if wide else (12, 4.6), layout="constrained")
    axes = figure.subplots(3, 1) if wide else figure.subplots(1, 3)
    for each, title, pixels in zip(axes, ("Image", "Reconstruction"), (image, recon), strict=False):
        each.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        each.set_title(title, fontsize=11)
    _draw_error(figure, list(axes), recon - image)
    return render(figure, caption, fmt, untrained)


def error_figure(image: np.ndarray, recon: np.ndarray, caption: str, fmt: Format, untrained: bool = False) -> bytes:
    """Signed error (H, W) on colours centred on zero."""
    height, width = image.shape
    wide = width > 2 * height
    figure = Figure(figsize=(11, 11 * height / width + 1.6) if wide else (6.4, 6), layout="constrained")
    _draw_error(figure, [figure.subplots()], recon - image)
    return render(figure, caption, fmt, untrained)


def maps_npz(arrays: Mapping[str, np.ndarray], **texts: str) -> bytes:
    """Arrays by name, and texts about them, as one NPZ file that `np.load` opens without pickles."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{name: np.array(text) for name, text in texts.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def maps_csv(attention_map: np.ndarray, grid: tuple[int, int], quantity: Quantity = "weight") -> bytes:
    """One map (N, N) as a table, one line for each pair of patches.

    Raises:
        ValueError: If it has more than 400 tokens.
    """
    num_tokens = len(attention_map)
    if num_tokens > EXACT_TOKENS:
        raise ValueError(f"a CSV must have at most {EXACT_TOKENS} tokens, got {num_tokens}; take the NPZ")
    columns = grid[1]
    rows = (
        {
            "query": query,
            "query_row": query // columns,
            "query_column": query % columns,
            "key": key,
            "key_row": key // columns,
            "key_column": key % columns,
            quantity: str(attention_map[query, key]),  # the fewest digits that read back as the same number
            "x_uniform": str(attention_map[query, key] * num_tokens),
        }
        for query in range(num_tokens)
        for key in range(num_tokens)
    )
    return _csv(list(rows))


def metrics_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """One line for each picture; texts that a spreadsheet would run as a formula get a leading apostrophe."""
    return _csv([{name: _inert(value) for name, value in row.items()} for row in rows])


def smaller_png(png: bytes) -> bytes:
    """The picture in 256 colours: less than half the bytes, and colours that nobody tells apart (within 2 %)."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Files by name as a ZIP with plain, unique member names; the same files give the same bytes."""
    buffer = io.BytesIO()
    taken: set[str] = set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            plain = safe_name(_shortened(name))
            stem, dot, suffix = plain.rpartition(".") if "." in plain else (plain, "", "")
            number = 1
            while plain.lower() in taken:
                number += 1
                plain = f"{stem}-{number}{dot}{suffix}"
            taken.add(plain.lower())
            archive.writestr(zipfile.ZipInfo(plain, (2000, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def draw_map(axes: Axes, attention_map: np.ndarray, zmax: float, max_cells: int = MAX_CELLS):
    """In cells that are no finer than the figure: nearest neighbours would pass over single strong weights."""
    num_tokens = len(attention_map)
    cells, k = block_max(attention_map * num_tokens, max_cells)
    end = len(cells) * k - 0.5
    drawn = axes.imshow(
        cells, cmap=ATTENTION_MAP, vmin=0, vmax=zmax, interpolation="nearest", extent=(-0.5, end, end, -0.5)
    )
    axes.set_xlim(-0.5, num_tokens - 0.5)
    axes.set_ylim(num_tokens - 0.5, -0.5)
    return drawn


def _coarser(num_tokens: int, max_cells: int = MAX_CELLS) -> str:
    k = -(-num_tokens // max_cells)
    return "" if k == 1 else f"; each cell: maximum of {k} x {k}"


def _draw_error(figure: Figure, axes: Sequence[Axes], error: np.ndarray) -> None:
    """The error on the last of the axes; the colour bar takes its room from all of them, so that they stay alike."""
    limit = max(float(np.abs(error).max()), 0.05)
    drawn = axes[-1].imshow(error, cmap=ERROR_MAP, vmin=-limit, vmax=limit, interpolation="nearest")
    axes[-1].set_title("Error: reconstruction - image", fontsize=11)
    for each in axes:
        each.set_xticks([])
        each.set_yticks([])
    figure.colorbar(drawn, ax=list(axes), shrink=0.8, label="too dark < 0 < too light")


def render(figure: Figure, caption: str, fmt: Format, untrained: bool) -> bytes:
    """The figure with its caption below, as bytes.

    Args:
        figure: Made without pyplot, which all sessions would share.
        caption: Text from anywhere; nothing in it is typeset.
        fmt: "png" or "svg".
        untrained: Whether to say so in red.
    """
    line = max(60, int(figure.get_figwidth() * 15))
    text = "\n".join(textwrap.wrap(caption, line))
    figure.supxlabel(text, fontsize=8, color="#444444", parse_math=False)
    if untrained:
        figure.suptitle("UNTRAINED MODEL: random weights", color="#c0182b", fontsize=13, fontweight="bold")
    buffer = io.BytesIO()
    if fmt == "png":
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=130)
    else:
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA_STARTS else value


def _shortened(name: str) -> str:
    """Beginning and end of a long name: one picture's files differ at the end, where their kind stands too."""
    last = re.split(r"[/\\]", name)[-1]
    return last if len(last) <= 60 else f"{last[:24]}_{last[-34:]}"
