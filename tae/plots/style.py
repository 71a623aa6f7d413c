"""Colours that all figures share, and the room around a drawing. The page's theme gives fonts and backgrounds.

Attention is drawn dark = high in a reversed magma, which people with any colour vision can read; signed errors in a
diverging map that is centred on zero. Units of attention are "x uniform": a weight times the number of tokens.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.colors import diverging, sample_colorscale, sequential, unlabel_rgb

ATTENTION_COLOURS = [*sequential.Magma[:0:-1], "#03010c"]
"""Magma from light to dark. Its own darkest, #000004, is a code that Streamlit's theme replaces by another colour."""
OVERLAY = [(0.0, (254, 196, 140), 0.0), (0.08, (252, 160, 110), 0.42), (0.4, (205, 64, 113), 0.62)]
OVERLAY += [(0.7, (114, 31, 129), 0.78), (1.0, (20, 14, 54), 0.92)]
"""Place, colour, opacity: the same colours over an image, where no weight leaves it as it is."""
ERROR_COLOURS = diverging.PuOr
SIGNED_OVERLAY = [(0.0, (127, 59, 8), 0.92), (0.3, (224, 130, 20), 0.62), (0.5, (255, 255, 255), 0.0)]
SIGNED_OVERLAY += [(0.7, (128, 115, 172), 0.62), (1.0, (45, 0, 75), 0.92)]
"""The same for signed numbers, in the colours of errors: 0 leaves the image as it is."""
QUERY_COLOUR = "#0091d5"  # a blue that stands out from grey and from magma's colours for every kind of colour vision
MARKER_COLOUR = "#d55e00"
CURVE_COLOURS = ("#0077bb", "#d55e00", "#009e73", "#a8559a", "#8a8f99")
"""Blue, vermilion, green, purple, grey, after Okabe & Ito 2008: apart for every kind of colour vision, and seen on white
and on black alike. From the sixth curve on they come again, dashed."""
GREY = "138,143,153"  # the last of these colours as red, green, blue, to be made transparent
Quantity = Literal["weight", "spread"]  # what a map's numbers are: weights, or their standard deviation between heads
CLEAR = "rgba(0,0,0,0)"
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}  # above the drawing, in lines
UNSEEN = {"selected": {"marker": {"opacity": 0}}, "unselected": {"marker": {"opacity": 0}}, "showlegend": False}
"""Settings of markers that only take hover, clicks and boxes; with opacity 0, for what is skipped takes none."""
NARROW = 358
"""Pixels: the width of a page on a telephone, where words between images need the most of it."""


def block_max(array: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """Shrink an array (rows, columns) to at most `max_cells` a side by the maximum of k x k blocks.

    The maximum keeps a single strong weight visible, which a mean would thin out and a stride would miss. Returns the
    maxima, and k; the array itself and 1 where it is small enough.
    """
    k = -(-max(array.shape) // max_cells)
    if k <= 1:
        return array, 1
    rows, columns = (-(-side // k) for side in array.shape)
    padded = np.full((rows * k, columns * k), -np.inf, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded.reshape(rows, k, columns, k).max(axis=(1, 3)), k


def block_extreme(array: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """`block_max` for signed numbers: of each block the one farthest from zero."""
    highest, k = block_max(array, max_cells)
    if k == 1:
        return array, 1
    lowest = -block_max(-array, max_cells)[0]
    return np.where(-lowest > highest, lowest, highest), k


def palette(colours: Sequence[str], count: int) -> list[int]:
    """So many colours of a scale as the red, green, blue, red, ... of an image with a palette."""
    sampled = sample_colorscale(list(colours), np.linspace(0, 1, count).tolist())
    return [round(channel) for colour in sampled for channel in unlabel_rgb(colour)]


def black_or_white(colours: Sequence[str], places: Sequence[float]) -> list[str]:
    """The colour that words need on places, 0 to 1, of a scale: whichever has more contrast, which is at least 4.5 : 1."""
    sampled = [unlabel_rgb(one) for one in sample_colorscale(list(colours), np.clip(places, 0, 1).tolist())]
    linear = [
        [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in np.array(rgb) / 255]
        for rgb in sampled
    ]
    light = np.array(linear) @ [0.2126, 0.7152, 0.0722]  # WCAG 2.2, relative luminance
    return ["#000000" if one > 0.179 else "#ffffff" for one in light]


def unit_of(quantity: Quantity) -> str:
    """The unit beside a colour bar."""
    return "x uniform" if quantity == "weight" else "spread, x uniform"


def finish(
    figure: go.Figure,
    height: int,
    top: int,
    bottom: int = 50,
    left: int = 64,
    right: int = 10,
    dragmode: str | bool = "zoom",
    per_width: float | None = None,
    **layout: Any,
) -> go.Figure:
    """Give a figure its height and the room around the drawing, in pixels.

    `per_width` of a figure of images: how much higher it should be for each pixel that the page makes it wider.
    `layout` is whatever else Plotly's layout takes.
    """
    figure.update_layout(
        height=height,
        margin={"t": top, "b": bottom, "l": left, "r": right},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        dragmode=dragmode,
        uirevision="keep",  # a zoom stays when the layer changes
        meta=None if per_width is None else {"per_width": per_width},
        **layout,
    )
    return figure


def colour_bar(title: str) -> dict:
    """A slim colour bar with its title along its side."""
    return {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.9}


def bar_above(title: str) -> dict:
    """A slim colour bar above the drawing, which then has the whole width; it needs 62 pixels."""
    place = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "thickness": 10, "len": 0.6}
    return {"title": {"text": title, "side": "top"}, "outlinewidth": 0, **place}


def lay_under(
    figure: go.Figure, png: bytes, width: int, height: int, left: float = 0, top: float = 0, **place: int
) -> None:
    """An image below all that a figure draws, from (left, top) on; place: row and col among several."""
    figure.add_layout_image(
        source="data:image/png;base64," + base64.b64encode(png).decode(),
        x=left,
        y=top,
        sizex=width,
        sizey=height,
        xref="x",
        yref="y",
        sizing="stretch",
        layer="below",
        **place,
    )


def overlay(
    values: np.ndarray,
    shape: tuple[int, int],
    grid: tuple[int, int],
    patch_size: int,
    top: float,
    low: float | None = None,
    **settings: Any,
) -> go.Heatmap:
    """Numbers (N,) from 0, or `low`, to `top` over an image of a shape (H, W), each on its patch; nan is left out."""
    y, x = (np.minimum(np.arange(count + 1) * patch_size, size) for count, size in zip(grid, shape, strict=True))
    scale = OVERLAY if low is None else SIGNED_OVERLAY
    colours = [[place, f"rgba{(*colour, opacity)}"] for place, colour, opacity in scale]
    seen = {"colorscale": colours, "showscale": False, "zmin": low or 0, "zmax": top, "xgap": 0.6, "ygap": 0.6}
    return go.Heatmap(z=values.reshape(grid), x=x, y=y, **seen, **settings)


def band(x: np.ndarray, low: np.ndarray, high: np.ndarray, opacity: float, name: str) -> go.Scatter:
    """The area between two curves (n,) over x (n,), filled in grey, under a name in the legend."""
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([low, high[::-1]]),
        fill="toself",
        fillcolor=f"rgba({GREY},{opacity})",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=name,
    )


def error_bars(value: np.ndarray, low: ArrayLike, high: ArrayLike, colour: str) -> dict:
    """From `low` to `high` around values (n,); nan has no bar."""
    return {
        "type": "data",
        "symmetric": False,
        "array": np.nan_to_num(np.asarray(high, np.float64) - value),
        "arrayminus": np.nan_to_num(value - np.asarray(low, np.float64)),
        "color": colour,
        "thickness": 1.5,
        "width": 0,
    }


def outline(
    figure: go.Figure, box: Sequence[float], colour: str = QUERY_COLOUR, width: float = 3, **place: int
) -> None:
    """A frame around (top, left, bottom, right) in pixels of the image; place: row and col among several."""
    top, left, bottom, right = box
    line = {"color": colour, "width": width}
    figure.add_shape(type="rect", x0=left, y0=top, x1=right, y1=bottom, line=line, **place)


def selected_data(selection: dict) -> Iterator[list]:
    """The customdata of each chosen point, from the selection that Streamlit reports and that may hold anything.

    The browser sends a typed array as an object with its indices as names.
    """
    for point in selection.get("points") or []:
        data = point.get("customdata") if isinstance(point, dict) else None
        yield list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else [data]


def selected_ends(selection: dict) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """((lowest, highest) y, (lowest, highest) x) of the last box that was drawn; None where there is no such box."""
    boxes = selection.get("box") or []
    if not boxes or not isinstance(boxes[-1], dict):
        return None
    found = []
    for name in ("y", "x"):
        ends = boxes[-1].get(name)
        if not isinstance(ends, list) or not ends or not all(isinstance(end, (int, float)) for end in ends):
            return None
        if not np.isfinite(ends).all():
            return None
        found.append((min(ends), max(ends)))
    return found[0], found[1]
