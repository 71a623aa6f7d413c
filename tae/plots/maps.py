"""Attention as figures: a map, all layers, one patch's weights on the image. Arrays in, Plotly figures out."""

import re
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tae.analysis.facts import UNIFORM_LIMIT
from tae.data.encode import encode_png
from tae.model.config import MAX_TOKENS
from tae.plots import style

EXACT_TOKENS = 400  # up to here a map is drawn cell by cell; above, blocks of cells show their largest weight
MAX_CELLS = 512
MAX_CELLS_SMALL = 256
MIN_REGION = 2  # patches a side of the smallest part of a map that can be looked at alone


@dataclass(frozen=True)
class Region:
    """A part of a map: its queries (rows) and keys (columns), as ranges of token numbers."""

    queries: range
    keys: range

    @classmethod
    def whole(cls, num_tokens: int) -> "Region":
        """The region that is the whole map."""
        return cls(range(num_tokens), range(num_tokens))

    @classmethod
    def from_text(cls, text: str, num_tokens: int) -> "Region":
        """The region that `to_text` wrote; the whole map for anything else, and where it does not lie in the map."""
        found = re.fullmatch(r"(\d{1,6})-(\d{1,6})x(\d{1,6})-(\d{1,6})", text)
        if not found:
            return cls.whole(num_tokens)
        first_query, last_query, first_key, last_key = map(int, found.groups())
        region = cls(range(first_query, last_query + 1), range(first_key, last_key + 1))
        fits = all(len(each) >= MIN_REGION and each[-1] < num_tokens for each in (region.queries, region.keys))
        return region if fits else cls.whole(num_tokens)

    def to_text(self) -> str:
        """The region as a link holds it."""
        return f"{self.queries[0]}-{self.queries[-1]}x{self.keys[0]}-{self.keys[-1]}"

    @property
    def cell_side(self) -> int:
        """How many patches one drawn cell stands for, a side."""
        longest = max(len(self.queries), len(self.keys))
        return 1 if longest <= EXACT_TOKENS else -(-longest // MAX_CELLS)


def plot_attention_map(
    attention_map: np.ndarray,
    grid: tuple[int, int],
    zmax: float | None = None,
    quantity: style.Quantity = "weight",
    spread: np.ndarray | None = None,
    region: Region | None = None,
) -> go.Figure:
    """One map as a heatmap: rows = query from above, columns = key, dark = high. A box can be drawn on it.

    Args:
        attention_map: (N, N) weights, or their spread between heads.
        zmax: None: the map's own maximum, at least 1.5.
        quantity: What the numbers are.
        spread: (N, N) standard deviation between the heads, told by the hover where cells are drawn one by one.
        region: The part to draw; None: all of it. `selected_region` tells which one a box chose.
    """
    num_tokens = len(attention_map)
    region = region or Region.whole(num_tokens)
    part = np.ix_(region.queries, region.keys)
    values = np.asarray(attention_map[part], np.float32) * num_tokens
    k = region.cell_side
    cells = style.block_max(values, -(-max(values.shape) // k))[0]
    top = max(UNIFORM_LIMIT, float(attention_map.max()) * num_tokens) if zmax is None else zmax
    prefix = "" if k == 1 else f"strongest of {k}x{k} pairs<br>"
    weights = np.asarray(attention_map[part], np.float32) if k == 1 else (cells / num_tokens).astype(np.float32)
    deviation = ""
    if spread is not None and k == 1:
        weights = np.stack([weights, np.asarray(spread[part], np.float32)], axis=-1)
        deviation = "<br>spread between heads %{customdata[1]:.4g}"
    weight = "%{customdata[0]:.4g}" if deviation else "%{customdata:.4g}"
    figure = go.Figure().add_heatmap(
        z=cells,
        x=token_labels(region.keys, grid, k),
        y=token_labels(region.queries, grid, k),
        customdata=weights,
        colorscale=style.ATTENTION_COLOURS,
        zmin=0,
        zmax=top,
        colorbar=style.colour_bar(style.unit_of(quantity)),
        hovertemplate=f"{prefix}query %{{y}}<br>key %{{x}}<br>{quantity} {weight} = %{{z:.4g}} x uniform{deviation}"
        "<extra></extra>",
    )
    return finish_map(figure, region, grid, "maximum of {k} x {k} cells")


def selected_region(selection: dict, shown: Region) -> Region | None:
    """The part of the shown one that a box on `plot_attention_map` chose, from the selection that Streamlit reports.

    At least `MIN_REGION` patches a side; None where no box was drawn, and for anything that is no box.
    """
    ends = style.selected_ends(selection)
    if ends is None:
        return None
    ranges, k = [], shown.cell_side
    for (lowest, highest), tokens in zip(ends, (shown.queries, shown.keys), strict=True):
        low = int(np.clip(np.floor(lowest + 0.5), 0, (len(tokens) - 1) // k)) * k
        high = int(np.clip(np.floor(highest + 0.5) + 1, 1, -(-len(tokens) // k))) * k
        low = min(low, max(0, len(tokens) - MIN_REGION))
        ranges.append(tokens[low : max(high, low + MIN_REGION)])
    return Region(*ranges)


def plot_layer_grid(maps: dict[str, np.ndarray], grid: tuple[int, int], zmax: float) -> go.Figure:
    """All layers and their average, {"layer_0": (N, N), ..., "average": (N, N)} weights, on one colour range."""
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[layer_title(name) for name in maps],
        horizontal_spacing=0.02,
        vertical_spacing=0.09 / rows,
    )
    k = 1
    for number, attention_map in enumerate(maps.values()):
        row, column = divmod(number, columns)
        num_tokens = len(attention_map)
        values = np.asarray(attention_map, np.float32) * num_tokens
        cells, k = style.block_max(values, MAX_CELLS_SMALL)
        labels = token_labels(range(num_tokens), grid, k)
        figure.add_heatmap(
            z=cells,
            x=labels,
            y=labels,
            customdata=(cells / num_tokens).astype(np.float32) if k == 1 else None,
            coloraxis="coloraxis",
            hovertemplate="query %{y}<br>key %{x}<br>weight %{customdata:.4g} = %{z:.4g} x uniform<extra></extra>"
            if k == 1
            else f"strongest of {k}x{k} pairs<br>query %{{y}}<br>key %{{x}}<br>%{{z:.4g}} x uniform<extra></extra>",
            row=row + 1,
            col=column + 1,
        )
        figure.update_yaxes(scaleanchor=f"x{number + 1}", row=row + 1, col=column + 1)
    figure.update_xaxes(showticklabels=False, showgrid=False, constrain="domain")
    figure.update_yaxes(showticklabels=False, showgrid=False, constrain="domain", autorange="reversed")
    if k > 1:
        note_above(figure, f"each cell: maximum of {k} x {k} cells", yshift=22)  # above the titles of the single maps
    shared = {"colorscale": style.ATTENTION_COLOURS, "cmin": 0, "cmax": zmax, "colorbar": style.colour_bar("x uniform")}
    top = 36 if k == 1 else 58
    return style.finish(figure, height=50 + 240 * rows, top=top, bottom=8, left=8, coloraxis=shared)


def plot_patch_attention(
    image: np.ndarray,
    weights: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    query: int,
    zmax: float | None = None,
    incoming: bool = False,
    quantity: style.Quantity = "weight",
) -> go.Figure:
    """Weights (N,) of one patch, the query, laid over the image, patch by patch; the patch itself is outlined.

    A marker that nobody sees lies on every patch, so that a click selects it: `selected_token`. The weights are those
    that the query places, or, incoming, those that others place on it; `zmax` None is their largest, at least 1.5.
    """
    columns = grid[1]
    values = np.asarray(weights, np.float32) * len(weights)
    tokens = np.arange(len(weights))
    verb = "placed on the chosen patch" if incoming else "receives from the chosen patch"
    figure = lay_over_image(
        image,
        values,
        grid,
        patch_size,
        max(UNIFORM_LIMIT, float(values.max())) if zmax is None else zmax,
        style.unit_of(quantity),
        np.stack([tokens, tokens // columns, tokens % columns, values / len(weights), values], axis=1),
        "patch %{customdata[0]:.0f}: row %{customdata[1]:.0f}, column %{customdata[2]:.0f}<br>"
        f"{verb}: {quantity} %{{customdata[3]:.4g}} = %{{customdata[4]:.4g}} x uniform<extra></extra>",
    )
    height, width = image.shape
    row, column = divmod(query, columns)
    top, left = row * patch_size, column * patch_size
    style.outline(figure, (top, left, min(top + patch_size, height), min(left + patch_size, width)))
    return figure


def lay_over_image(
    image: np.ndarray,
    values: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    top: float,
    unit: str,
    customdata: np.ndarray,
    hovertemplate: str,
) -> go.Figure:
    """Numbers (N,) from 0 laid over the image, patch by patch, with a marker on each that takes hover and clicks.

    nan leaves the image as it is. The colours end at `top`; `unit` stands beside their bar. `customdata` (N, ...) and
    `hovertemplate` are the markers'; the token's number comes first, for `selected_token`.
    """
    height, width = image.shape
    rows, columns = grid
    laid = style.overlay(values, image.shape, grid, patch_size, top, hoverinfo="skip")
    x_centres, y_centres = ((edges[:-1] + edges[1:]) / 2 for edges in map(np.asarray, (laid.x, laid.y)))
    figure = go.Figure(laid)
    style.lay_under(figure, encode_png(image), width, height)
    # The colour bar shows the overlay as it looks on white paper, whatever the page's own background is.
    on_paper = [[place, f"rgb{_on_white(colour, opacity)}"] for place, colour, opacity in style.OVERLAY]
    figure.add_trace(colour_key(on_paper, top, unit))
    figure.add_scatter(
        x=np.tile(x_centres, rows),
        y=np.repeat(y_centres, columns),
        mode="markers",
        marker={"size": max(6, min(34, 380 / max(columns, rows))), "symbol": "square", "opacity": 0},
        customdata=customdata,
        hovertemplate=hovertemplate,
        **style.UNSEEN,
    )
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain")
    figure.update_yaxes(range=[height, 0], visible=False, constrain="domain", scaleanchor="x")
    return style.finish(
        figure, height=int(np.clip(450 * height / width, 180, 450)), top=8, bottom=8, left=0, dragmode=False
    )


def colour_key(colours: list, top: float, unit: str) -> go.Scatter:
    """A colour bar from 0 to `top` for a drawing that has none of its own: a marker that is nowhere carries it."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={
            "color": [0],
            "cmin": 0,
            "cmax": top,
            "colorscale": colours,
            "showscale": True,
            "colorbar": style.colour_bar(unit),
        },
        hoverinfo="skip",
        showlegend=False,
    )


def selected_token(selection: dict) -> int | None:
    """The token that a click on `plot_patch_attention` chose, from the selection that Streamlit reports.

    None where nothing was chosen, and for anything that is no token number.
    """
    for value, *_ in filter(None, style.selected_data(selection)):
        if isinstance(value, (int, float)) and 0 <= value < MAX_TOKENS:
            return int(value)
    return None


def layer_title(name: str) -> str:
    """A map's name as pages and exports spell it."""
    return "Average" if name == "average" else f"Layer {name.removeprefix('layer_')}"


def note_above(figure: go.Figure, text: str, yshift: int) -> None:
    """A line of text above the drawing, at its left."""
    figure.add_annotation(
        text=text,
        x=0,
        y=1,
        yshift=yshift,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
    )


def finish_map(figure: go.Figure, region: Region, grid: tuple[int, int], merged: str) -> go.Figure:
    """A heatmap whose cells are called by `token_labels`: square, queries from above, rows of patches named.

    `merged` says what a cell is where it stands for {k} x {k} patches.
    """
    k = region.cell_side
    axis = {"tickmode": "array", "constrain": "domain", "showgrid": False}
    for update, title, tokens in (
        (figure.update_xaxes, "Key patch", region.keys),
        (figure.update_yaxes, "Query patch", region.queries),
    ):
        labels, ticks = token_labels(tokens, grid, k), _ticks(tokens, grid, k)
        update(title=title, tickvals=[labels[place] for place in ticks], ticktext=list(ticks.values()), **axis)
    figure.update_xaxes(tickangle=-90)
    figure.update_yaxes(autorange="reversed", scaleanchor="x")
    if k > 1:
        note_above(figure, f"each cell: {merged.format(k=k)}", yshift=2)
    return style.finish(figure, height=450, top=30 if k > 1 else 8, dragmode="select")


def _on_white(colour: tuple[int, int, int], opacity: float) -> tuple[int, ...]:
    return tuple(round(255 - opacity * (255 - channel)) for channel in colour)


def token_labels(tokens: range, grid: tuple[int, int], k: int) -> list[str]:
    """The hover's name for each row or column of a map whose cells stand for k tokens."""
    if k == 1:
        return [f"{token} (row {token // grid[1]}, column {token % grid[1]})" for token in tokens]
    return [f"{start} to {min(start + k - 1, tokens[-1])}" for start in tokens[::k]]


def _ticks(tokens: range, grid: tuple[int, int], k: int) -> dict[int, str]:
    """{cell at which a row of patches begins: its name}, at most a dozen; the patches themselves where no row begins."""
    rows = [row for row in range(grid[0]) if tokens[0] <= row * grid[1] <= tokens[-1]]
    if len(rows) > 1:
        shown = rows[:: -(-len(rows) // 12)]
        named = {(row * grid[1] - tokens[0]) // k: f"row {row}" if row == shown[0] else str(row) for row in shown}
    else:
        step = max(1, -(-len(tokens) // k // 8))
        named = {cell: f"patch {tokens[cell * k]}" for cell in range(0, -(-len(tokens) // k), step)}
    return named
