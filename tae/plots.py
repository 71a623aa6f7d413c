"""Arrays in, Plotly figures out. The page's theme gives fonts and backgrounds; nothing here depends on it.

Attention is drawn dark = high in a reversed magma, which people with any colour vision can read; signed errors in a
diverging map that is centred on zero. Units of attention are "x uniform": a weight times the number of tokens.
"""

import base64
import html
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.colors import diverging, sequential
from plotly.subplots import make_subplots

from tae.config import MAX_TOKENS
from tae.images import encode_png

ATTENTION_COLOURS = [*sequential.Magma[:0:-1], "#03010c"]
"""Magma from light to dark. Its own darkest, #000004, is a code that Streamlit's theme replaces by another colour."""
OVERLAY = [(0.0, (254, 196, 140), 0.0), (0.08, (252, 160, 110), 0.42), (0.4, (205, 64, 113), 0.62)]
OVERLAY += [(0.7, (114, 31, 129), 0.78), (1.0, (20, 14, 54), 0.92)]
"""Place, colour, opacity: the same colours over an image, where no weight leaves it as it is."""
ERROR_COLOURS = diverging.PuOr
QUERY_COLOUR = "#0091d5"
"""A blue that stands out from grey and from magma's colours for every kind of colour vision."""
MARKER_COLOUR = "#d55e00"
CURVE_COLOURS = ("#0077bb", "#d55e00", "#009e73", "#a8559a", "#8a8f99")
"""Blue, vermilion, green, purple, grey, after Okabe & Ito 2008: apart for every kind of colour vision, and seen on white
and on black alike. From the sixth curve on they come again, dashed."""
DASHES = ("solid", "dash", "dot", "dashdot")
MAX_POINTS = 1000
"""Of one curve; of more, the lowest and the highest of each block are drawn."""
EXACT_TOKENS = 400
"""Up to here a map is drawn cell by cell; above, blocks of cells show their largest weight."""
MAX_CELLS = 512
MAX_CELLS_SMALL = 256
MAX_ERROR_SIDE = 512
Quantity = Literal["weight", "spread"]
"""What a map's numbers are: weights, or their standard deviation between heads."""
CLEAR = "rgba(0,0,0,0)"


def block_max(array: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """Shrink an array (rows, columns) to at most `max_cells` a side by the maximum of k x k blocks.

    The maximum keeps a single strong weight visible, which a mean would thin out and a stride would miss.

    Returns:
        The blocks' maxima, and k; the array itself and 1 where it is small enough.
    """
    k = -(-max(array.shape) // max_cells)
    if k <= 1:
        return array, 1
    rows, columns = (-(-side // k) for side in array.shape)
    padded = np.full((rows * k, columns * k), -np.inf, array.dtype)
    padded[: array.shape[0], : array.shape[1]] = array
    return padded.reshape(rows, k, columns, k).max(axis=(1, 3)), k


def plot_attention_map(
    attention_map: np.ndarray,
    grid: tuple[int, int],
    zmax: float | None = None,
    quantity: Quantity = "weight",
    spread: np.ndarray | None = None,
) -> go.Figure:
    """One map as a heatmap: rows = query from above, columns = key, dark = high.

    Args:
        attention_map: (N, N) weights, or their spread between heads.
        grid: (rows, columns) of patches.
        zmax: End of the colours in x uniform; None: the map's own maximum, at least 1.5.
        quantity: What the numbers are.
        spread: (N, N) standard deviation between the heads, told by the hover where cells are drawn one by one.
    """
    num_tokens = len(attention_map)
    values = np.asarray(attention_map, np.float32) * num_tokens
    cells, k = block_max(values, MAX_CELLS) if num_tokens > EXACT_TOKENS else (values, 1)
    top = max(1.5, float(values.max())) if zmax is None else zmax
    labels = _token_labels(num_tokens, grid, k)
    unit = unit_of(quantity)
    prefix = "" if k == 1 else f"strongest of {k}x{k} pairs<br>"
    weights, deviation = (cells / num_tokens).astype(np.float32), ""
    if spread is not None and k == 1:
        weights = np.stack([weights, np.asarray(spread, np.float32)], axis=-1)
        deviation = "<br>spread between heads %{customdata[1]:.4g}"
    weight = "%{customdata[0]:.4g}" if deviation else "%{customdata:.4g}"
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=labels,
            y=labels,
            customdata=weights,
            colorscale=ATTENTION_COLOURS,
            zmin=0,
            zmax=top,
            colorbar=_colour_bar(unit),
            hovertemplate=f"{prefix}query %{{y}}<br>key %{{x}}<br>{quantity} {weight} = %{{z:.4g}} x uniform{deviation}"
            "<extra></extra>",
        )
    )
    ticks = _row_starts(grid, k)
    axis = {"tickmode": "array", "tickvals": [labels[tick] for tick in ticks], "constrain": "domain", "showgrid": False}
    names = [f"row {row}" for row in _named_rows(grid)]
    figure.update_xaxes(title="Key patch", ticktext=names, tickangle=-90, **axis)
    figure.update_yaxes(title="Query patch", ticktext=names, autorange="reversed", scaleanchor="x", **axis)
    if k > 1:
        _say_coarser(figure, k, yshift=2)
    return _finish(figure, height=450, top=30 if k > 1 else 8)


def plot_layer_grid(maps: dict[str, np.ndarray], grid: tuple[int, int], zmax: float) -> go.Figure:
    """All layers and their average side by side, on one colour range.

    Args:
        maps: {"layer_0": (N, N), ..., "average": (N, N)} weights.
        grid: (rows, columns) of patches.
        zmax: End of the colours in x uniform.
    """
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
        num_tokens = len(attention_map)
        values = np.asarray(attention_map, np.float32) * num_tokens
        cells, k = block_max(values, MAX_CELLS_SMALL)
        labels = _token_labels(num_tokens, grid, k)
        figure.add_trace(
            go.Heatmap(
                z=cells,
                x=labels,
                y=labels,
                customdata=(cells / num_tokens).astype(np.float32) if k == 1 else None,
                coloraxis="coloraxis",
                hovertemplate="query %{y}<br>key %{x}<br>weight %{customdata:.4g} = %{z:.4g} x uniform<extra></extra>"
                if k == 1
                else f"strongest of {k}x{k} pairs<br>query %{{y}}<br>key %{{x}}<br>%{{z:.4g}} x uniform<extra></extra>",
            ),
            row=number // columns + 1,
            col=number % columns + 1,
        )
    figure.update_xaxes(showticklabels=False, showgrid=False, constrain="domain")
    figure.update_yaxes(showticklabels=False, showgrid=False, constrain="domain", autorange="reversed")
    for number in range(len(maps)):
        suffix = "" if number == 0 else str(number + 1)
        figure.layout[f"yaxis{suffix}"].scaleanchor = f"x{suffix}"
    figure.update_layout(
        coloraxis={"colorscale": ATTENTION_COLOURS, "cmin": 0, "cmax": zmax, "colorbar": _colour_bar("x uniform")}
    )
    if k > 1:
        _say_coarser(figure, k, yshift=22)  # above the titles of the single maps
    return _finish(figure, height=50 + 240 * rows, top=36 if k == 1 else 58, bottom=8, left=8)


def plot_patch_attention(
    image: np.ndarray,
    weights: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    query: int,
    zmax: float | None = None,
    incoming: bool = False,
    quantity: Quantity = "weight",
) -> go.Figure:
    """Weights of one patch laid over the image, patch by patch; the patch itself is outlined.

    A marker that nobody sees lies on every patch, so that a click selects it: `selected_token`.

    Args:
        image: (H, W) in [0, 1].
        weights: (N,), those that the query places, or, incoming, those that others place on it.
        grid: (rows, columns) of patches.
        patch_size: Side of a patch in pixels.
        query: Token number of the chosen patch.
        zmax: End of the colours in x uniform; None: the largest of these weights, at least 1.5.
        incoming: Whether the weights come from the others.
        quantity: What the numbers are.
    """
    height, width = image.shape
    rows, columns = grid
    values = np.asarray(weights, np.float32) * len(weights)
    top = max(1.5, float(values.max())) if zmax is None else zmax
    x_edges = np.minimum(np.arange(columns + 1) * patch_size, width)
    y_edges = np.minimum(np.arange(rows + 1) * patch_size, height)
    x_centres, y_centres = (x_edges[:-1] + x_edges[1:]) / 2, (y_edges[:-1] + y_edges[1:]) / 2
    figure = go.Figure()
    figure.add_layout_image(
        source="data:image/png;base64," + base64.b64encode(encode_png(image)).decode(),
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        xref="x",
        yref="y",
        sizing="stretch",
        layer="below",
    )
    figure.add_trace(
        go.Heatmap(
            z=values.reshape(grid),
            x=x_edges,
            y=y_edges,
            colorscale=[[place, f"rgba{(*colour, opacity)}"] for place, colour, opacity in OVERLAY],
            showscale=False,
            zmin=0,
            zmax=top,
            xgap=0.6,
            ygap=0.6,
            hoverinfo="skip",
        )
    )
    # The colour bar shows the overlay as it looks on white paper, whatever the page's own background is.
    on_paper = [[place, f"rgb{_on_white(colour, opacity)}"] for place, colour, opacity in OVERLAY]
    bar = _colour_bar(unit_of(quantity))
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"color": [0], "cmin": 0, "cmax": top, "colorscale": on_paper, "showscale": True, "colorbar": bar},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    tokens = np.arange(rows * columns)
    verb = "placed on the chosen patch" if incoming else "receives from the chosen patch"
    figure.add_trace(
        go.Scatter(
            x=np.tile(x_centres, rows),
            y=np.repeat(y_centres, columns),
            mode="markers",
            marker={"size": max(6, min(34, 380 / max(columns, rows))), "symbol": "square", "opacity": 0},
            customdata=np.stack([tokens, tokens // columns, tokens % columns, values / len(weights), values], axis=1),
            hovertemplate="patch %{customdata[0]:.0f}: row %{customdata[1]:.0f}, column %{customdata[2]:.0f}<br>"
            f"{verb}: {quantity} %{{customdata[3]:.4g}} = %{{customdata[4]:.4g}} x uniform<extra></extra>",
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            showlegend=False,
        )
    )
    row, column = divmod(query, columns)
    figure.add_shape(
        type="rect",
        x0=x_edges[column],
        x1=x_edges[column + 1],
        y0=y_edges[row],
        y1=y_edges[row + 1],
        line={"color": QUERY_COLOUR, "width": 3},
    )
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain")
    figure.update_yaxes(range=[height, 0], visible=False, constrain="domain", scaleanchor="x")
    return _finish(figure, height=int(np.clip(450 * height / width, 180, 450)), top=8, bottom=8, left=0, dragmode=False)


def selected_token(selection: dict) -> int | None:
    """The token that a click on `plot_patch_attention` chose, from the selection that Streamlit reports.

    None where nothing was chosen, and for anything that is no token number.
    """
    for point in selection.get("points") or []:
        data = point.get("customdata") if isinstance(point, dict) else None
        values = list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else [data]
        if values and isinstance(values[0], (int, float)) and 0 <= values[0] < MAX_TOKENS:
            return int(values[0])
    return None


def plot_signed_error(error: np.ndarray, limit: float | None = None) -> go.Figure:
    """Reconstruction minus image, on colours centred on zero.

    Args:
        error: (H, W); above zero the reconstruction is too light, below too dark.
        limit: End of the colours on both sides; None: the largest error, at least .05.
    """
    height, width = error.shape
    largest = float(np.abs(error).max())
    limit = max(largest, 0.05) if limit is None else limit
    shown, k = _block_extreme(np.asarray(error, np.float32), MAX_ERROR_SIDE)
    coarser = "" if k == 1 else f", largest of {k} x {k} pixels"
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            x=(np.arange(shown.shape[1]) + 0.5) * k - 0.5,
            y=(np.arange(shown.shape[0]) + 0.5) * k - 0.5,
            colorscale=ERROR_COLOURS,
            zmid=0,
            zmin=-limit,
            zmax=limit,
            colorbar={
                "orientation": "h",
                "y": -0.02,
                "yanchor": "top",
                "thickness": 10,
                "len": 1,
                "tickvals": [-0.7 * limit, 0, 0.7 * limit],
                "ticktext": ["too dark", "0", "too light"],
                "title": {"text": f"-{limit:.2f} to +{limit:.2f}{coarser}", "side": "bottom", "font": {"size": 11}},
                "outlinewidth": 0,
            },
            hovertemplate="x %{x:.0f}, y %{y:.0f}<br>error %{z:+.3f}<extra></extra>",
        )
    )
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain", autorange="reversed", scaleanchor="x", constraintoward="top")
    room = 250 if width <= 2 * height else 1000  # a wide picture has the page's whole width
    drawn = int(np.clip(room * height / width, 60, 250))
    return _finish(figure, height=drawn + 54, top=0, left=0, right=0, bottom=54)


def percentile_rank(percentiles: np.ndarray, value: float) -> float:
    """Share in percent of test images that lie below a value, from their 0th to 100th percentiles (101,)."""
    ranks = np.linspace(0, 100, len(percentiles))
    return float(np.interp(value, percentiles, ranks))


def worse_than(percentiles: np.ndarray, value: float, higher_is_better: bool) -> float:
    """Share in percent of test images that did better than a value."""
    rank = percentile_rank(percentiles, value)
    return 100 - rank if higher_is_better else rank


def plot_distribution(percentiles: np.ndarray, value: float, label: str, higher_is_better: bool) -> go.Figure:
    """Where one picture lies among the test images: their middle 50 and 90 %, their median, and the picture.

    Args:
        percentiles: (101,) of the test images.
        value: Of this picture.
        label: Name of the measure.
        higher_is_better: Which end is good.
    """
    low, quarter, median, three_quarters, high = (float(percentiles[rank]) for rank in (5, 25, 50, 75, 95))
    figure = go.Figure()
    for start, end, width, opacity in ((low, high, 6, 0.35), (quarter, three_quarters, 12, 0.75)):
        figure.add_trace(
            go.Scatter(
                x=[start, end],
                y=[0, 0],
                mode="lines",
                line={"width": width, "color": "#7d8aa5"},
                opacity=opacity,
                hoverinfo="skip",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[median],
            y=[0],
            mode="markers",
            marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": "#ffffff"}},
            hovertemplate=f"median of the test images: %{{x:.4g}}<extra>{label}</extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[value],
            y=[0],
            mode="markers",
            marker={"symbol": "diamond", "size": 13, "color": MARKER_COLOUR, "line": {"width": 1, "color": "#ffffff"}},
            hovertemplate=f"this picture: %{{x:.4g}}<extra>{label}</extra>",
        )
    )
    better = "right" if higher_is_better else "left"
    figure.add_annotation(
        text=f"bar: 90 % of test images · better: {better}",
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        yshift=-16,
        font={"size": 11},
        opacity=0.75,
    )
    span = max(high, value) - min(low, value) or 1.0
    figure.update_xaxes(visible=False, range=[min(low, value) - 0.08 * span, max(high, value) + 0.08 * span])
    figure.update_yaxes(visible=False, range=[-1, 1])
    figure.update_layout(showlegend=False)
    return _finish(figure, height=64, top=0, left=0, right=0, bottom=18, dragmode=False)


def plot_training_curve(curve: list[dict]) -> go.Figure:
    """Held-out PSNR over the steps of a training.

    Args:
        curve: [{"step": ..., "held_out_psnr": ...}, ...].
    """
    points = [point for point in curve if "step" in point and "held_out_psnr" in point]
    figure = go.Figure(
        go.Scatter(
            x=np.array([point["step"] for point in points], np.float64),
            y=np.array([point["held_out_psnr"] for point in points], np.float64),
            mode="lines",
            line={"width": 2.5},
            hovertemplate="step %{x:.0f}<br>%{y:.2f} dB<extra></extra>",
        )
    )
    figure.update_xaxes(title="Step")
    figure.update_yaxes(title="Held-out PSNR (dB)")
    return _finish(figure, height=270, top=8, bottom=44, left=54)


def plot_by_group(groups: list[dict], axis: str) -> go.Figure:
    """PSNR of each group of a checkpoint's test images, as points; open ones for what training never showed.

    Args:
        groups: [{"group": ..., "psnr": ..., "count": ..., "unseen": ...}, ...], as in `Card.metrics`.
        axis: What the groups' names mean.
    """
    figure = go.Figure(
        go.Scatter(
            x=[one["group"] for one in groups],
            y=np.array([one["psnr"] for one in groups], np.float64),
            mode="lines+markers",
            line={"width": 1.5},
            marker={
                "size": 9,
                "line": {"width": 2, "color": QUERY_COLOUR},
                "color": ["#ffffff" if one["unseen"] else QUERY_COLOUR for one in groups],
            },
            customdata=[
                f"{one['count']} test images{', unlike any in training' if one['unseen'] else ''}" for one in groups
            ],
            hovertemplate="%{x}<br>%{y:.2f} dB<br>%{customdata}<extra></extra>",
        )
    )
    figure.update_traces(line_color=QUERY_COLOUR)
    figure.update_xaxes(title=axis, type="category")
    figure.update_yaxes(title="Test PSNR (dB)")
    return _finish(figure, height=270, top=8, bottom=44, left=54)


def plot_curves(
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    x_title: str,
    y_title: str,
    unit: str = "",
    log: bool = False,
) -> go.Figure:
    """Curves of one or more trainings over each other.

    Args:
        curves: {name: (x (n,), y (n,))}, x rising; points that are no finite numbers are left out.
        x_title: "Step" or "Minutes".
        y_title: Under the figure's vertical axis.
        unit: Behind y in the hover.
        log: Whether the vertical axis is logarithmic; points that are not above 0 are left out then.
    """
    figure = go.Figure()
    for number, (name, (x, y)) in enumerate(curves.items()):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        is_shown = np.isfinite(x) & np.isfinite(y) & (y > 0 if log else True)
        x, y = _thinned(x[is_shown], y[is_shown])
        label = html.escape(name)
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                name=label,
                mode="lines" if len(x) > 1 else "markers",
                line={
                    "width": 2,
                    "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
                    "dash": DASHES[number // len(CURVE_COLOURS) % len(DASHES)],
                },
                hovertemplate=f"{x_title.lower()} %{{x:.4~g}}<br>%{{y:.4~g}}{unit}<extra>{label}</extra>",
            )
        )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(title=y_title, type="log" if log else "linear", nticks=6)
    values = np.concatenate([np.asarray(trace.y, np.float64) for trace in figure.data] or [np.ones(0)])
    decades = np.log10(values.max() / values.min()) if log and len(values) else 0
    if decades > 0.7:  # left alone, every digit is named, one over the other
        figure.update_yaxes(tickformat=".1~g", dtick="D2" if decades < 2.5 else 1)
    figure.update_layout(
        showlegend=len(curves) > 1, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    )
    rows = len(curves) if len(curves) > 1 else 0
    return _finish(figure, height=260 + 20 * rows, top=8 + 20 * rows, bottom=44, left=58)


def plot_memory(kinds: dict[str, int], memory: int, owner: str) -> go.Figure:
    """What a training step holds at its peak, stacked, before the memory of the device.

    Args:
        kinds: {kind: bytes}.
        memory: Of the device, in bytes; 0: not known.
        owner: Whose it is, in words.
    """
    figure = go.Figure()
    for number, (kind, count) in enumerate(kinds.items()):
        figure.add_trace(
            go.Bar(
                x=[count / 1e9],
                y=[""],
                name=kind,
                orientation="h",
                marker={
                    "color": CURVE_COLOURS[number % len(CURVE_COLOURS)],
                    "pattern": {"shape": "" if number < len(CURVE_COLOURS) else "/"},
                    "line": {"width": 0},
                },
                hovertemplate=f"{kind}: {count / 1e6:,.0f} MB<extra></extra>",
            )
        )
    total = sum(kinds.values())
    if memory and memory < 4 * total:  # far away, it would squeeze the bar to nothing
        figure.add_vline(x=memory / 1e9, line={"color": MARKER_COLOUR, "width": 3})
    figure.update_xaxes(
        title=f"GB at the peak, of {memory / 1e9:,.1f} GB that {owner} has" if memory else "GB at the peak",
        range=[0, 1.08 * max(total, memory if memory < 4 * total else 0) / 1e9],
    )
    figure.update_yaxes(visible=False)
    figure.update_layout(
        barmode="stack",
        bargap=0.25,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    )
    legend = 19 * -(-len(kinds) // 2)  # at its narrowest, two columns
    return _finish(figure, height=100 + legend, top=6 + legend, bottom=44, left=0, dragmode=False)


def layer_title(name: str) -> str:
    """A map's name as pages and exports spell it."""
    return "Average" if name == "average" else f"Layer {name.removeprefix('layer_')}"


def unit_of(quantity: Quantity) -> str:
    """What stands beside a colour bar."""
    return "x uniform" if quantity == "weight" else "spread, x uniform"


def _finish(
    figure: go.Figure,
    height: int,
    top: int,
    bottom: int = 50,
    left: int = 64,
    right: int = 10,
    dragmode: str | bool = "zoom",
) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"t": top, "b": bottom, "l": left, "r": right},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        dragmode=dragmode,
        uirevision="keep",  # a zoom stays when the layer changes
    )
    return figure


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `MAX_POINTS` of the points: the lowest and the highest of each block, so that no spike is lost."""
    if len(x) <= MAX_POINTS:
        return x, y
    starts = np.linspace(0, len(x), MAX_POINTS // 2 + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        kept |= {start + int(y[start:end].argmin()), start + int(y[start:end].argmax())}
    places = sorted(kept)
    return x[places], y[places]


def _say_coarser(figure: go.Figure, k: int, yshift: int) -> None:
    figure.add_annotation(
        text=f"each cell: maximum of {k} x {k} cells",
        x=0,
        y=1,
        yshift=yshift,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
    )


def _colour_bar(title: str) -> dict:
    return {"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.9}


def _on_white(colour: tuple[int, int, int], opacity: float) -> tuple[int, ...]:
    return tuple(round(255 - opacity * (255 - channel)) for channel in colour)


def _token_labels(num_tokens: int, grid: tuple[int, int], k: int) -> list[str]:
    """What the hover calls each row or column of a map whose cells stand for k tokens."""
    if k == 1:
        return [f"{token} (row {token // grid[1]}, column {token % grid[1]})" for token in range(num_tokens)]
    return [f"{start} to {min(start + k, num_tokens) - 1}" for start in range(0, num_tokens, k)]


def _row_starts(grid: tuple[int, int], k: int) -> list[int]:
    """Cells at which a row of patches begins, at most a dozen of them."""
    return [row * grid[1] // k for row in _named_rows(grid)]


def _named_rows(grid: tuple[int, int]) -> range:
    return range(0, grid[0], -(-grid[0] // 12))


def _block_extreme(array: np.ndarray, max_cells: int) -> tuple[np.ndarray, int]:
    """`block_max` for signed numbers: of each block the one farthest from zero."""
    highest, k = block_max(array, max_cells)
    if k == 1:
        return array, 1
    lowest = -block_max(-array, max_cells)[0]
    return np.where(-lowest > highest, lowest, highest), k
