"""All heads at once, heads in numbers over the layers, and two maps compared, as figures. Arrays in, figures out."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from tae.analysis.facts import UNIFORM_LIMIT
from tae.plots import style
from tae.plots.maps import Region, colour_key, finish_map, lay_over_image, note_above, token_labels

if TYPE_CHECKING:  # it needs PyTorch, which drawing does without
    from tae.analysis.heads import Measure

THUMBNAIL = 96  # pixels a side, about, of one head in the overview
OVERVIEW_WIDTH = 1600  # pixels, at most, of the overview
MEAN_COLOUR = style.CURVE_COLOURS[1]
LABEL_HEIGHT = 34  # pixels on the screen below each head of a sorted overview, for two lines
COLOUR_STEPS = 255  # as many as an image with a palette has beside the transparent one


@dataclass(frozen=True)
class Overview:
    """Many small maps as one image."""

    indices: np.ndarray  # (H, W) uint8: 0 to 254 from light to dark, 255 between the maps
    centres: np.ndarray  # (count, 2), x and y of each map's middle in pixels, in the order given
    side: int  # pixels a side of each map
    pitch: tuple[int, int]  # (x, y), pixels from one map to the next
    merged: int  # cells of the maps that one shown cell stands for, a side

    def to_png(self) -> bytes:
        """A PNG with a palette: a byte for each pixel; transparent between the maps."""
        image = Image.fromarray(self.indices, "P")
        image.putpalette(style.palette(style.ATTENTION_COLOURS, COLOUR_STEPS) + [255, 255, 255])
        buffer = io.BytesIO()
        image.save(buffer, "PNG", transparency=COLOUR_STEPS)
        return buffer.getvalue()


def overview_image(
    maps: np.ndarray, order: Sequence[tuple[int, int]], columns: int, zmax: float | None = None, room: float = 0.0
) -> Overview:
    """Lay heads (layer, head) out as one image, so many in a row: 192 of them cost a browser as much as one.

    `maps` and `zmax` are as for `plot_overview`; `room` is empty space below each map, as a share of its side.
    """
    side = max(1, min(THUMBNAIL, OVERVIEW_WIDTH // columns - 2))
    merged = max(1, -(-maps.shape[-1] // side))
    cells = [style.block_max(np.asarray(maps[layer, head], np.float32), side)[0] for layer, head in order]
    repeat = max(1, side // len(cells[0]))  # few patches: each as a square of pixels, so that none is blurred
    side = repeat * len(cells[0])
    gap = max(1, side // 16)
    pitch = side + gap, side + gap + round(room * side)
    rows = -(-len(cells) // columns)
    indices = np.full((rows * pitch[1], columns * pitch[0]), COLOUR_STEPS, np.uint8)
    centres = np.zeros((len(cells), 2))
    for number, cell in enumerate(cells):
        top = max(UNIFORM_LIMIT, float(cell.max())) if zmax is None else zmax
        row, column = divmod(number, columns)
        y, x = row * pitch[1], column * pitch[0]
        drawn = np.round((cell / top).clip(0, 1) * (COLOUR_STEPS - 1)).astype(np.uint8)
        indices[y : y + side, x : x + side] = drawn.repeat(repeat, axis=0).repeat(repeat, axis=1)
        centres[number] = x + side / 2, y + side / 2
    return Overview(indices, centres, side, pitch, merged)


def plot_overview(
    maps: np.ndarray, zmax: float | None = None, values: np.ndarray | None = None, label: str = "", merged: int = 1
) -> go.Figure:
    """Every head of every layer as a small map; a click on one selects it: `selected_head`.

    Args:
        maps: (L, heads, M, M) in x uniform: the maps, or what `block_max` left of each.
        zmax: End of the colours in x uniform; None: each map has its own, and the figure says so.
        values: (L, heads) to sort by, the largest first, shown below each map; None: rows = layers, columns = heads.
        label: The name of the values.
        merged: How many patches one cell of the maps stands for, a side; the figure says so.
    """
    num_layers, num_heads = maps.shape[:2]
    order = [(layer, head) for layer in range(num_layers) for head in range(num_heads)]
    columns = num_heads
    if values is not None:
        order.sort(key=lambda one: -values[one])  # equal ones stay in their order
        columns = min(len(order), max(num_heads, 6))
    on_screen = min(150, 1000 / columns)  # a page is about 1000 pixels wide
    room = 0.0 if values is None else LABEL_HEIGHT / on_screen
    overview = overview_image(maps, order, columns, zmax, room)
    height, width = overview.indices.shape
    figure = go.Figure()
    style.lay_under(figure, overview.to_png(), width, height)
    strongest = [float(maps[one].max()) for one in order]
    said = [f"<br>{label} {values[one]:.4g}" if values is not None else "" for one in order]
    figure.add_scatter(
        x=overview.centres[:, 0],
        y=overview.centres[:, 1],
        mode="markers",
        marker={"size": max(6, 0.94 * on_screen), "symbol": "square", "opacity": 0},
        customdata=order,
        text=[
            f"layer {layer}, head {head}: click to open{words}<br>largest weight {largest:.4g} x uniform"
            for (layer, head), words, largest in zip(order, said, strongest, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        **style.UNSEEN,
    )
    if zmax is not None:
        figure.add_trace(colour_key(style.ATTENTION_COLOURS, zmax, "x uniform"))
    k = merged * overview.merged
    remarks = [] if k == 1 else [f"each cell: maximum of {k} x {k} pairs"]
    if zmax is None:
        remarks.append("each head in its own colours: dark = its largest weight, not comparable between heads")
    names_height = 0 if values is not None else 40 if num_heads > 12 else 24
    if remarks:
        note_above(figure, " · ".join(remarks), yshift=names_height)
    axis = {"showgrid": False, "zeroline": False, "constrain": "domain", "tickmode": "array", "ticks": ""}
    if values is None:
        middles = overview.centres.reshape(num_layers, num_heads, 2)
        heads: dict[str, Any] = {
            "tickvals": middles[0, :, 0],
            "ticktext": [f"head {head}" for head in range(num_heads)],
        }
        layers = {"tickvals": middles[:, 0, 1], "ticktext": [f"layer {layer}" for layer in range(num_layers)]}
        if num_heads > 12:
            heads["ticktext"] = [f"{head}" for head in range(num_heads)]
            heads["title"] = {"text": "head", "standoff": 4}
        figure.update_xaxes(side="top", **heads, **axis)
        figure.update_yaxes(**layers, **axis)
    else:
        figure.add_scatter(
            x=overview.centres[:, 0],
            y=overview.centres[:, 1] + overview.side / 2 + 4 * overview.pitch[0] / on_screen,  # 4 pixels below it
            mode="text",
            text=[f"L{layer} H{head}<br>{values[layer, head]:.3g}" for layer, head in order],
            textposition="bottom center",
            textfont={"size": 11},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.update_xaxes(visible=False, **axis)
        figure.update_yaxes(visible=False, **axis)
    figure.update_xaxes(range=[0, width])
    figure.update_yaxes(range=[height, 0], scaleanchor="x")
    top = names_height + 22 * bool(remarks) + 4
    drawn = height * on_screen / overview.pitch[0]
    return style.finish(figure, height=round(drawn) + top + 4, top=top, bottom=4, left=56, dragmode=False)


def selected_head(selection: dict) -> tuple[int, int] | None:
    """The (layer, head) that a click on `plot_overview` chose, from the selection that Streamlit reports.

    None where nothing was chosen, and for anything that is no pair of numbers.
    """
    for numbers in style.selected_data(selection):
        if len(numbers) == 2 and all(
            isinstance(one, (int, float)) and 0 <= one < 1000 and one == int(one) for one in numbers
        ):
            return int(numbers[0]), int(numbers[1])
    return None


def plot_measure_over_layers(
    own: np.ndarray, quantiles: np.ndarray | None, measure: "Measure", uniform: float | None = None
) -> go.Figure:
    """One measure over the layers: the heads of this image, their mean, and the test images behind.

    Args:
        own: (L, heads) of this image.
        quantiles: (5, L), 5, 25, 50, 75 and 95% of the test images' layers, heads averaged; None: nothing behind.
        measure: Says what it is and in which unit.
        uniform: The measure under uniform attention on this image, as a dashed line; None: no line.
    """
    num_layers, num_heads = own.shape
    layers = np.arange(num_layers)
    figure = go.Figure()
    if quantiles is not None:
        # One layer alone: a band as wide as a point, else it would have no width at all.
        places = layers if num_layers > 1 else np.array([-0.2, 0.2])
        bands = np.broadcast_to(quantiles, (5, len(places)))
        for low, high, opacity, name in ((0, 4, 0.22, "5 to 95%"), (1, 3, 0.32, "25 to 75%")):
            figure.add_trace(style.band(places, bands[low], bands[high], opacity, f"test images, {name}"))
        figure.add_scatter(
            x=places,
            y=bands[2],
            mode="lines",
            line={"width": 1.5, "color": f"rgb({style.GREY})"},
            name="test images, median",
            hovertemplate="median of the test images: %{y:.4g}<extra></extra>",
        )
    figure.add_scatter(
        x=layers.repeat(num_heads),
        y=own.ravel(),
        mode="markers",
        marker={"size": 7, "color": style.QUERY_COLOUR, "opacity": 0.75},
        customdata=np.tile(np.arange(num_heads), num_layers),
        hovertemplate="layer %{x}, head %{customdata}: %{y:.4g}<extra></extra>",
        name="one head each",
    )
    figure.add_scatter(
        x=layers,
        y=own.mean(axis=1),
        mode="lines+markers",
        line={"width": 2, "color": MEAN_COLOUR},
        marker={"size": 5},
        hovertemplate="layer %{x}, mean of heads: %{y:.4g}<extra></extra>",
        name="mean of heads",
    )
    if uniform is not None:
        figure.add_scatter(
            x=[-0.4, num_layers - 0.6],
            y=[uniform, uniform],
            mode="lines",
            line={"width": 1.5, "dash": "dash", "color": f"rgb({style.GREY})"},
            hovertemplate="uniform attention: %{y:.4g}<extra></extra>",
            name="uniform attention",
        )
    step = -(-num_layers // 12)
    figure.update_xaxes(title="Layer", range=[-0.4, num_layers - 0.6], tickvals=layers[::step], zeroline=False)
    figure.update_yaxes(title=measure.unit, rangemode="tozero")
    return style.finish(figure, height=230, top=8, bottom=40, left=54, dragmode=False, showlegend=False)


def plot_difference_map(difference: np.ndarray, grid: tuple[int, int]) -> go.Figure:
    """First map minus second (N, N) in x uniform, on colours centred on zero; rows = query from above, columns = key.

    The colours end at the largest difference, at least .5.
    """
    whole = Region.whole(len(difference))
    limit = max(0.5, float(np.abs(difference).max()))
    k = whole.cell_side
    cells = style.block_extreme(np.asarray(difference, np.float32), -(-len(difference) // k))[0]
    labels = token_labels(whole.keys, grid, k)
    prefix = "" if k == 1 else f"of {k}x{k} pairs the one farthest from 0<br>"
    figure = go.Figure().add_heatmap(
        z=cells,
        x=labels,
        y=labels,
        colorscale=style.ERROR_COLOURS,
        zmin=-limit,
        zmid=0,
        zmax=limit,
        colorbar=style.colour_bar("A − B, x uniform"),
        hovertemplate=f"{prefix}query %{{y}}<br>key %{{x}}<br>%{{z:+.4g}} x uniform<extra></extra>",
    )
    return finish_map(figure, whole, grid, "of {k} x {k} cells the one farthest from 0")


def plot_agreement_on_image(
    image: np.ndarray, distance: np.ndarray, grid: tuple[int, int], patch_size: int
) -> go.Figure:
    """Where two maps differ: each query's Jensen-Shannon distance laid over the image; a click selects the patch.

    `distance` is that of `tae.analysis.agreement.compare`.
    """
    said = [
        f"query patch {token}: row {token // grid[1]}, column {token % grid[1]}<br>"
        + ("no weight to compare" if np.isnan(one) else f"Jensen-Shannon distance {one:.3f}")
        for token, one in enumerate(distance)
    ]
    data = np.array([[token, words] for token, words in enumerate(said)], object)
    values = np.asarray(distance, np.float32)
    hover = "%{customdata[1]}<extra></extra>"
    return lay_over_image(image, values, grid, patch_size, 1.0, "Jensen-Shannon distance", data, hover)
