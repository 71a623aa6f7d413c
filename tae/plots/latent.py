"""The latent space and the layers' lens as figures: a map of images, a spectrum, images by depth and their PSNR."""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from tae.analysis.facts import in_a_row
from tae.data.encode import encode_png, to_uint8
from tae.plots import style
from tae.store.names import natural_order

EDGE = "#7d8aa5"  # of points, so that the palest are seen on white and the darkest on black
SYMBOLS = ("circle", "square", "triangle-up")
GAP = 0.03  # between the images of a strip, as a share of their width
MAX_ACROSS = 4  # images of a strip side by side


def plot_latent_map(
    coordinates: np.ndarray,
    axes: tuple[str, str],
    groups: Sequence[str] | None = None,
    values: np.ndarray | None = None,
    value_title: str = "",
    own: np.ndarray | None = None,
    own_titles: Sequence[str] = (),
    ringed: Sequence[int] = (),
    own_values: np.ndarray | None = None,
) -> go.Figure:
    """A set of images as points on a plane; a lasso or a click chooses some: `selected_points`.

    Each point's `customdata` is its number: those of the set from 0 to n - 1, one's own images from n on.

    Args:
        coordinates: (n, 2) of the set.
        axes: Titles of x and y.
        groups: The group of each, told apart by colour and symbol.
        values: (n,) in place of groups: colours from light to dark = high.
        value_title: What the values are, with their unit.
        own: (m, 2) of one's own images.
        own_titles: Their titles.
        ringed: Numbers around which a ring is drawn.
        own_values: (m,) of one's own images, in the same range of colours; NaN where there is none.
    """
    coordinates = np.asarray(coordinates, np.float64)
    figure = go.Figure()
    every = np.concatenate([np.ravel(some) for some in (values, own_values) if some is not None] or [[np.nan]])
    scale: dict = {}
    if np.isfinite(every).any():
        scale = {
            "colorscale": style.ATTENTION_COLOURS,
            "cmin": float(np.nanmin(every)),
            "cmax": float(np.nanmax(every)),
            # Of its own length: the map is lower than its place where the window is narrow.
            "colorbar": style.colour_bar(html.escape(value_title))
            | {"lenmode": "pixels", "len": 190, "y": 1, "yanchor": "top"},
        }
    told_value = f"<br>{html.escape(value_title)} %{{marker.color:.4g}}"
    kinds = [""] * len(coordinates) if groups is None else list(groups)
    labels: dict[str, tuple[float, float]] = {}
    if groups is not None and values is None:
        labels = _label_places(coordinates, kinds)
    for place, kind in enumerate(sorted(set(kinds), key=natural_order)):
        numbers = [number for number, one in enumerate(kinds) if one == kind]
        marker: dict = {
            "size": 7,
            "color": style.CURVE_COLOURS[place % len(style.CURVE_COLOURS)],
            "symbol": SYMBOLS[place // len(style.CURVE_COLOURS) % len(SYMBOLS)],
            "line": {"width": 0.6, "color": EDGE},
        }
        told = ""
        if values is not None:
            marker |= scale | {"color": np.asarray(values, np.float64)[numbers], "showscale": place == 0}
            told = told_value
        group = f"<br>{html.escape(kind)}" if kind else ""
        figure.add_scatter(
            x=coordinates[numbers, 0],
            y=coordinates[numbers, 1],
            mode="markers",
            marker=marker,
            name=html.escape(kind) or "test images",
            showlegend=kind not in labels,
            customdata=numbers,
            hovertext=[f"test image {number}" for number in numbers],
            hovertemplate=f"%{{hovertext}}{group}{told}<extra></extra>",
            unselected={"marker": {"opacity": 0.25}},
        )
        if kind in labels:
            _label(figure, html.escape(kind), *labels[kind], marker["color"])
    if own is not None and len(own):
        own = np.asarray(own, np.float64)
        titles = [html.escape(title) for title in own_titles] or ["image of the sidebar"] * len(own)
        has_value = np.isfinite(own_values) if own_values is not None else np.zeros(len(own), bool)
        for valued in (False, True):
            numbers = np.flatnonzero(has_value == valued)
            if not len(numbers):
                continue
            marker = {"symbol": "diamond", "size": 14, "line": {"width": 2, "color": "#ffffff"}}
            if valued and own_values is not None:
                marker["line"] = {"width": 2, "color": style.MARKER_COLOUR}
                marker |= scale | {"color": own_values[numbers], "showscale": values is None}
            else:
                marker["color"] = style.MARKER_COLOUR
            figure.add_scatter(
                x=own[numbers, 0],
                y=own[numbers, 1],
                mode="markers",
                marker=marker,
                name="images of the sidebar",
                customdata=numbers + len(coordinates),
                hovertext=[titles[number] for number in numbers],
                hovertemplate=f"%{{hovertext}}{told_value if valued else ''}<extra></extra>",
                unselected={"marker": {"opacity": 0.6}},
            )
    if len(ringed):
        everything = coordinates if own is None else np.concatenate([coordinates, np.asarray(own, np.float64)])
        figure.add_scatter(
            x=everything[list(ringed), 0],
            y=everything[list(ringed), 1],
            mode="markers",
            marker={"symbol": "circle-open", "size": 16, "color": style.QUERY_COLOUR, "line": {"width": 2.5}},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.update_xaxes(title=axes[0], constrain="domain", zeroline=False)
    figure.update_yaxes(title=axes[1], constrain="domain", zeroline=False, scaleanchor="x")
    is_told = own is not None or (groups is not None and len(labels) < len(set(kinds)))
    figure.update_layout(showlegend=is_told, legend=style.LEGEND | {"y": 1.01})
    return style.finish(figure, height=560, top=30, dragmode="lasso")


def _label_places(points: np.ndarray, kinds: Sequence[str]) -> dict[str, tuple[float, float]]:
    """{group: where its name stands}: at that of its points (n, 2) with most of the group around it where no other name is.

    A group that finds no place, in a window as narrow as a phone's, has none.
    """
    pixel = float(np.ptp(points, axis=0).max()) / 260
    taken: list[tuple[np.ndarray, np.ndarray]] = []  # (middle, half of its size)
    found = {}
    for kind in sorted(set(kinds), key=lambda one: -kinds.count(one)):
        own = points[[one == kind for one in kinds]]
        spread = np.maximum(np.ptp(own, axis=0), 1e-9)
        around = (np.abs((own[:, None] - own[None]) / spread).max(axis=2) < 0.15).sum(axis=1)
        size = np.array([4 * len(kind) + 6, 11]) * pixel
        for middle in own[np.argsort(-around, kind="stable")]:
            if all((np.abs(middle - other) >= size + its).any() for other, its in taken):
                taken.append((middle, size))
                found[kind] = (float(middle[0]), float(middle[1]))
                break
    return found


def _label(figure: go.Figure, name: str, x: float, y: float, colour: str) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        text=name,
        showarrow=False,
        font={"size": 12, "color": "#1c2230"},
        bgcolor="rgba(255,255,255,0.88)",
        bordercolor=colour,
        borderwidth=1.5,
        borderpad=2,
        captureevents=False,
    )


def selected_points(selection: dict, count: int) -> list[int]:
    """The numbers of the points, of `count` in all, that a lasso, a box or a click chose, from what Streamlit reports.

    Rising, each once; [] where nothing was chosen, and for anything that is no number of a point.
    """
    found = set()
    for value, *_ in filter(None, style.selected_data(selection)):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1:
            found.add(int(value))
    return sorted(number for number in found if 0 <= number < count)


def plot_spectrum(variances: np.ndarray, in_use: float, num_images: int) -> go.Figure:
    """How the variance of `num_images` images is spread over their principal directions, and how many are in use.

    The variances (k,) begin with the largest; `in_use`, a participation ratio, is drawn as a line.
    """
    shares = np.asarray(variances, np.float64) / np.sum(variances)
    numbers = np.arange(1, len(shares) + 1)
    figure = go.Figure()
    figure.add_bar(
        x=numbers,
        y=shares,
        name="each component",
        marker={"color": style.CURVE_COLOURS[0], "line": {"width": 0}},
        hovertemplate="component %{x}<br>%{y:.2%} of the variance<extra></extra>",
    )
    figure.add_scatter(
        x=numbers,
        y=shares.cumsum(),
        name="all up to it",
        mode="lines",
        line={"color": style.CURVE_COLOURS[1], "width": 2.5},
        hovertemplate="the first %{x} components<br>%{y:.2%} of the variance<extra></extra>",
    )
    figure.add_vline(
        x=in_use,
        line={"color": EDGE, "width": 2, "dash": "dash"},
        annotation={"text": f"participation ratio {in_use:.1f}", "yanchor": "bottom"},
        annotation_position="top right",
    )
    figure.update_xaxes(title=f"Principal component, of {num_images} images", range=[0.3, len(shares) + 0.7])
    figure.update_yaxes(title="Share of the variance", tickformat=".0%", range=[0, 1.02])
    figure.update_layout(legend={"x": 0.98, "xanchor": "right", "y": 0.5, "yanchor": "middle"}, bargap=0.15)
    return style.finish(figure, height=300, top=26, bottom=44)


def plot_lens_psnr(
    names: Sequence[str],
    raw: Sequence[float],
    tuned: Sequence[float] | None = None,
    test_raw: Sequence[float] | None = None,
    test_tuned: Sequence[float] | None = None,
    unusual: Sequence[bool] | None = None,
) -> go.Figure:
    """PSNR in dB of an image's states by depth, raw and tuned, beside the test images' means.

    `unusual` tells which raw states are out of distribution; their points are open.
    """
    figure = go.Figure()
    flags = [False] * len(names) if unusual is None else list(unusual)
    for label, values, colour, is_test in (
        ("raw", raw, style.CURVE_COLOURS[0], False),
        ("tuned", tuned, style.CURVE_COLOURS[1], False),
        ("raw, mean of test images", test_raw, style.CURVE_COLOURS[0], True),
        ("tuned, mean of test images", test_tuned, style.CURVE_COLOURS[1], True),
    ):
        if values is None:
            continue
        are_open = flags if label == "raw" else [False] * len(names)
        figure.add_scatter(
            x=list(names),
            y=np.asarray(values, np.float64),
            name=label,
            mode="lines" if is_test else "lines+markers",
            line={"color": colour, "width": 1.5 if is_test else 2.5, "dash": "dot" if is_test else "solid"},
            marker={
                "size": 10,
                "line": {"width": 2, "color": colour},
                "color": ["#ffffff" if is_open else colour for is_open in are_open],
            },
            customdata=["<br>state out of distribution" if is_open else "" for is_open in are_open],
            hovertemplate=f"%{{x}}<br>{label}: %{{y:.2f}} dB%{{customdata}}<extra></extra>",
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(title="PSNR (dB)")
    return style.finish(figure, height=320, top=50, bottom=44, left=54, legend=style.LEGEND, showlegend=True)


def plot_moments(steps: Sequence[int], psnr: Sequence[float], chosen: int | None = None) -> go.Figure:
    """PSNR in dB of an image's own reconstruction over a training, nan where the weights of a step cannot be read.

    A ring is drawn around the chosen step.
    """
    figure = go.Figure().add_scatter(
        x=list(steps),
        y=np.asarray(psnr, np.float64),
        name="this image",
        mode="lines+markers",
        line={"color": style.CURVE_COLOURS[0], "width": 2.5},
        marker={"size": 8},
        connectgaps=True,
        hovertemplate="after step %{x:,}<br>%{y:.2f} dB<extra></extra>",
    )
    if chosen is not None and chosen in steps:
        figure.add_scatter(
            x=[chosen],
            y=[float(psnr[list(steps).index(chosen)])],
            mode="markers",
            marker={"symbol": "circle-open", "size": 17, "color": style.QUERY_COLOUR, "line": {"width": 3}},
            hoverinfo="skip",
        )
    figure.update_xaxes(title="Training step", tickformat=",")
    figure.update_yaxes(title="PSNR (dB)")
    return style.finish(figure, height=260, top=12, bottom=44, left=54, showlegend=False)


def plot_lens_strip(
    images: np.ndarray, names: Sequence[str], psnr: Sequence[float], unusual: Sequence[bool] | None = None
) -> go.Figure:
    """The images (K, H, W) of a lens in the order of depth, each under its name and PSNR.

    They stand side by side, or below each other where they are wide, and are as large whatever their number. A frame
    marks those that are drawn from states out of distribution, which `unusual` tells.
    """
    num, height, width = images.shape
    across = in_a_row((height, width), MAX_ACROSS)
    flags = [False] * num if unusual is None else list(unusual)
    after_name, after_psnr = (": ", " · ") if across == 1 else ("<br>", "<br>")
    words = 8 + 16 * (1 if across == 1 else 2 + any(flags))  # pixels
    pitch = width * (1 + GAP)
    total = across * pitch - width * GAP
    room = words * total / style.NARROW
    bottom = -(-num // across) * (height + room) - room
    figure = go.Figure()
    for number, (image, name, value, is_unusual) in enumerate(zip(images, names, psnr, flags, strict=True)):
        top, left = number // across * (height + room), number % across * pitch
        # One by one, so that the words between them stand on the page's own ground.
        style.lay_under(figure, encode_png(image), width, height, left, top)
        warning = (
            f"{after_psnr}<span style='color:{style.MARKER_COLOUR}'>out of distribution</span>" if is_unusual else ""
        )
        figure.add_annotation(
            x=left,
            y=top,
            text=f"{html.escape(name)}{after_name}{value:.1f} dB{warning}",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            align="left",
            font={"size": 12},
        )
        colour, thick = (style.MARKER_COLOUR, 3) if is_unusual else (EDGE, 1)
        style.outline(figure, (top, left, top + height, left + width), colour, thick)
    edge = 0.003 * total  # of frames, half of which lies outside
    figure.update_xaxes(range=[-edge, total + edge], visible=False, constrain="domain", constraintoward="left")
    figure.update_yaxes(
        range=[bottom + edge, -edge], visible=False, constrain="domain", constraintoward="top", scaleanchor="x"
    )
    per_width = (bottom + 2 * edge) / (total + 2 * edge)
    drawn = round(900 * per_width) + words
    return style.finish(figure, drawn, top=words, bottom=0, left=0, right=0, dragmode=False, per_width=per_width)


def contact_sheet(
    images: Sequence[np.ndarray], side: int = 64, columns: int = 25, height: int | None = None
) -> np.ndarray:
    """Small copies of images, number i in row i // columns and column i % columns, for a gallery or a hover.

    Images (H, W), uint8 or float in [0, 1], are shrunk whole into cells of side x height pixels (None: side), in the
    middle of white. Returns (rows * height, columns * side) uint8.
    """
    height = side if height is None else height
    sheet = np.full((-(-len(images) // columns) * height, columns * side), 255, np.uint8)
    for number, image in enumerate(images):
        small = Image.fromarray(to_uint8(np.asarray(image)))
        small.thumbnail((side, height))
        top = number // columns * height + (height - small.height) // 2
        left = number % columns * side + (side - small.width) // 2
        sheet[top : top + small.height, left : left + small.width] = np.asarray(small)
    return sheet
