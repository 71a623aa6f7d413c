"""Figures of interventions: differences, damage, curves, effects beside what predicts them."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tae.analysis.facts import in_a_row
from tae.data.encode import encode_png
from tae.plots import style
from tae.plots.quality import plot_signed_error

if TYPE_CHECKING:  # they need PyTorch, which drawing does without
    from tae.analysis.causal.curves import Curves
    from tae.analysis.causal.predictors import Interval

PART_COLOURS = {"encoder": style.CURVE_COLOURS[0], "decoder": style.CURVE_COLOURS[1]}
EDGE = f"rgba({style.GREY},0.5)"  # white images on a white page need one
KIND_COLOURS = {
    "attention": style.CURVE_COLOURS[3],
    "gradient": style.CURVE_COLOURS[0],
    "trivial": style.CURVE_COLOURS[4],
}
"""Colours of predictors made of attention, of gradients, or of nothing that a network knows."""


@dataclass(frozen=True)
class PatchMap:
    """One number for each patch."""

    title: str  # above it
    values: np.ndarray  # (N,), from 0; nan where nothing was measured
    unit: str  # of the numbers
    top: float | None = (
        None  # where the colours end, both ways from 0; None: they begin at 0 and end at the largest value
    )
    cells: Sequence[int] | None = None  # (N,) what a click on a patch chooses: `selected_cell`

    @property
    def after_number(self) -> str:
        """The unit, and the space before it where it is not a percent sign."""
        return self.unit if self.unit.startswith("%") else f" {self.unit}"


def plot_change(change: np.ndarray) -> go.Figure:
    """A reconstruction with a change minus the one without (H, W), on colours centred on zero."""
    figure = plot_signed_error(change)
    figure.update_traces(
        hovertemplate="x %{x:.0f}, y %{y:.0f}<br>change %{z:+.3f}<extra></extra>",
        colorbar={"ticktext": ["darker", "0", "lighter"]},
    )
    return figure


def plot_damage(
    names: Sequence[str], parts: Sequence[str], lost: Sequence[float], tests: Sequence[Sequence[float]] | None = None
) -> go.Figure:
    """What losing each head changes of the PSNR of this image, in dB, from above in the order given; bars grow with the loss.

    `lost` are losses; `parts` names each head's part; `tests`, drawn beside, are (low, median, high) of the losses of each
    over test images.
    """
    figure = go.Figure()
    for part, colour in PART_COLOURS.items():
        chosen = [number for number, one in enumerate(parts) if one == part]
        figure.add_bar(
            x=[-lost[number] for number in chosen],
            y=[names[number] for number in chosen],
            orientation="h",
            name=f"{part}, this image",
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{y}: %{x:+.3g} dB<extra></extra>",
        )
    if tests is not None:
        high, middle, low = -np.array(tests, np.float64).reshape(-1, 3).T
        figure.add_scatter(
            x=middle,
            y=list(names),
            mode="markers",
            name="test images: median, 5 to 95%",
            marker={
                "symbol": "diamond",
                "size": 8,
                "color": f"rgb({style.GREY})",
                "line": {"width": 1, "color": "#ffffff"},
            },
            error_x=style.error_bars(middle, low, high, f"rgb({style.GREY})"),
            hovertemplate="%{y}: median %{x:+.3g} dB over test images<extra></extra>",
        )
    figure.update_xaxes(title="Change of PSNR (dB)", zeroline=True, autorange="reversed")
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=list(names)[::-1], ticksuffix=" ")
    figure.update_layout(barmode="overlay", bargap=0.3, legend=style.LEGEND | {"y": 1})
    return style.finish(figure, height=90 + 19 * len(names), top=44, bottom=44, left=150, dragmode=False)


def plot_sharpness(
    names: Sequence[str], parts: Sequence[str], sharpness: Sequence[float], lost: Sequence[float]
) -> go.Figure:
    """How sharp each head's attention looks against what losing it changes of the PSNR, in dB; what costs most is on top.

    `parts` names each head's part; sharpness is 1 - entropy as a share of log N, in [0, 1].
    """
    figure = go.Figure()
    for part, colour in PART_COLOURS.items():
        chosen = [number for number, one in enumerate(parts) if one == part]
        figure.add_scatter(
            x=[sharpness[number] for number in chosen],
            y=[-lost[number] for number in chosen],
            mode="markers",
            name=part,
            marker={"size": 10, "color": colour, "symbol": "circle" if part == "encoder" else "square"},
            text=[names[number] for number in chosen],
            hovertemplate="%{text}<br>sharpness %{x:.2f}, %{y:+.3g} dB<extra></extra>",
        )
    figure.update_xaxes(title="Sharpness: 1 − entropy / log N", zeroline=False)
    figure.update_yaxes(title="Change of PSNR (dB)", autorange="reversed")
    return style.finish(figure, height=340, top=30, bottom=46, dragmode=False, legend=style.LEGEND | {"y": 1})


def plot_removal(psnr: np.ndarray, random_psnr: np.ndarray, removed: Sequence[str]) -> go.Figure:
    """Quality as heads are removed, the least important first, against random orders.

    `psnr` (K + 1,) in dB is after 0 to K removals, `random_psnr` (R, K + 1) that of random orders; `removed` names the
    heads.
    """
    steps = np.arange(len(psnr))
    figure = go.Figure()
    if len(random_psnr):
        low, high = random_psnr.min(axis=0), random_psnr.max(axis=0)
        figure.add_trace(style.band(steps, low, high, 0.25, f"{len(random_psnr)} random orders, lowest to highest"))
        figure.add_scatter(
            x=steps,
            y=random_psnr.mean(axis=0),
            mode="lines",
            line={"color": f"rgb({style.GREY})", "width": 2},
            name="their mean",
            hovertemplate="%{x} heads removed at random: %{y:.2f} dB<extra></extra>",
        )
    figure.add_scatter(
        x=steps,
        y=psnr,
        mode="lines+markers",
        line={"color": style.CURVE_COLOURS[0], "width": 2.5},
        marker={"size": 6},
        text=["none", *removed],
        name="least important first",
        hovertemplate="%{x} heads removed, last %{text}: %{y:.2f} dB<extra></extra>",
    )
    figure.update_xaxes(title="Heads removed")
    figure.update_yaxes(title="PSNR (dB)")
    return style.finish(figure, height=340, top=44, bottom=46, dragmode=False, legend=style.LEGEND | {"y": 1})


def plot_patch_maps(
    image: np.ndarray,
    maps: Sequence[PatchMap],
    grid: tuple[int, int],
    patch_size: int,
    box: Sequence[int] | None = None,
) -> go.Figure:
    """Maps of one number for each patch over the image, beside each other; each has its own colours where it names no end.

    `image` is one for all maps (H, W), or one for each (len(maps), H, W). `box` is (top, left, bottom, right) in pixels to
    outline.
    """
    images = np.broadcast_to(image, (len(maps), *image.shape[-2:]))
    shape = height, width = images.shape[1:]
    across = in_a_row(shape, min((3, 4, 2), key=lambda one: -len(maps) % one) if len(maps) > 3 else len(maps))
    down = -(-len(maps) // across)
    titles = [_panel_title(one, style.NARROW // across // 6) for one in maps]
    words = 8 + 16 * max(map(len, titles))  # pixels
    # In units of the figure's width: between images, the title above one, an image, and all rows.
    gap, room = 0.02, words / style.NARROW
    panel = (1 - gap * (across - 1)) / across * height / width
    inside = down * panel + (down - 1) * room
    figure = make_subplots(
        down,
        across,
        subplot_titles=["<br>".join(lines) for lines in titles],
        horizontal_spacing=gap,
        vertical_spacing=room / inside if down > 1 else 0,
    )
    pngs = [encode_png(image)] * len(maps) if image.ndim == 2 else [encode_png(one) for one in images]
    patches = np.array([f"patch {row * grid[1] + c}: row {row}, column {c}" for row, c in np.ndindex(grid)])
    for number, one in enumerate(maps):
        row, col = number // across + 1, number % across + 1
        style.lay_under(figure, pngs[number], width, height, row=row, col=col)
        told: dict[str, Any] = {
            "customdata": patches.reshape(grid),
            "hovertemplate": f"%{{customdata}}<br>%{{z:.4g}}{one.after_number}<extra></extra>",
        }
        values = np.asarray(one.values, np.float64)
        if one.cells is not None:
            told = {"hoverinfo": "skip"}  # the markers have it
        low = None if one.top is None else -one.top
        over = style.overlay(values, shape, grid, patch_size, _top(one), low, **told)
        figure.add_trace(over, row=row, col=col)
        if one.cells is not None:
            x, y = ((edges[:-1] + edges[1:]) / 2 for edges in map(np.asarray, (over.x, over.y)))
            figure.add_scatter(
                x=np.tile(x, grid[0]),
                y=y.repeat(grid[1]),
                mode="markers",
                marker={"size": max(4, 0.8 * style.NARROW / across / grid[1]), "symbol": "square", "opacity": 0},
                customdata=list(one.cells),
                text=[
                    f"{patch}<br>{value:.4g}{one.after_number}" for patch, value in zip(patches, values, strict=True)
                ],
                hovertemplate="%{text}<extra></extra>",
                row=row,
                col=col,
                **style.UNSEEN,
            )
        style.outline(figure, (0, 0, height, width), EDGE, 1, row=row, col=col)
        if box is not None:
            style.outline(figure, box, row=row, col=col)
        axis = {"visible": False, "constrain": "domain", "row": row, "col": col}
        figure.update_xaxes(range=[0, width], **axis)
        figure.update_yaxes(range=[height, 0], scaleanchor=f"x{number + 1}", constraintoward="top", **axis)
    figure.update_annotations(font={"size": 12})
    total = round(920 * inside) + words + 4
    return style.finish(figure, total, top=words, bottom=4, left=0, right=0, dragmode=False, per_width=inside)


def plot_scores(
    scores: "Mapping[str, Interval]",
    kinds: Mapping[str, str],
    tests: Mapping[str, Mapping[str, float | None]] | None = None,
) -> go.Figure:
    """How well predictors tell the measured effect: points with 95% intervals, from above in the order given.

    By predictor: `scores`, its rank correlation; `kinds`, a key of `KIND_COLOURS`; `tests`, drawn beside, {"value",
    "low", "high"} over test images.
    """
    names = list(scores)
    figure = go.Figure()
    for kind, colour in KIND_COLOURS.items():
        chosen = [name for name in names if kinds[name] == kind]
        found = [scores[name] for name in chosen]
        values = np.array([one.value for one in found], np.float64)
        figure.add_scatter(
            x=values,
            y=chosen,
            mode="markers",
            name={"attention": "attention", "gradient": "gradient", "trivial": "simple baseline"}[kind],
            marker={"size": 11, "color": colour},
            error_x=style.error_bars(values, [one.low for one in found], [one.high for one in found], colour),
            hovertemplate="%{y}: %{x:.2f} on this image<extra></extra>",
        )
    if tests:
        known = [name for name in names if tests.get(name, {}).get("value") is not None]
        columns = [[tests[name][key] for name in known] for key in ("value", "low", "high")]
        value, low, high = (
            np.array([np.nan if one is None else one for one in column], np.float64) for column in columns
        )
        figure.add_scatter(
            x=value,
            y=known,
            mode="markers",
            name="mean over test images",
            marker={"size": 9, "symbol": "diamond-open", "color": style.MARKER_COLOUR, "line": {"width": 2}},
            error_x=style.error_bars(value, low, high, style.MARKER_COLOUR),
            hovertemplate="%{y}: %{x:.2f} over test images<extra></extra>",
        )
    figure.update_xaxes(title="Spearman with the effect", range=[-1.02, 1.02], zeroline=True)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=names[::-1],
        tickvals=names,
        ticktext=["<br>".join(textwrap.wrap(name, 28)) for name in names],  # long ones would take the chart's room
        ticksuffix=" ",
    )
    figure.update_layout(legend=style.LEGEND | {"y": 1})
    return style.finish(figure, height=100 + 30 * len(names), top=44, bottom=46, left=180, dragmode=False)


def plot_deletion_insertion(curves: "Mapping[str, Curves]", kinds: Mapping[str, str]) -> go.Figure:
    """Likeness to the undisturbed reconstruction as patches are covered, and as they are shown, in a map's order.

    `curves` and `kinds` are by the map's name; a kind is a key of `KIND_COLOURS`, or "measured" for the effect itself.
    """
    figure = make_subplots(
        1,
        2,
        subplot_titles=["Covered, the strongest first", "Shown, the strongest first"],
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
    colours = {**KIND_COLOURS, "measured": style.CURVE_COLOURS[1]}
    dashes = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # as many as there are trivial curves
    seen: dict[str, int] = {}
    for name, one in curves.items():
        kind = kinds.get(name, "trivial")
        dash = dashes[seen.get(kind, 0) % len(dashes)]
        seen[kind] = seen.get(kind, 0) + 1
        drawn = ((one.deletion, one.deletion_area), (one.insertion, one.insertion_area))
        for column, (values, area) in enumerate(drawn, start=1):
            figure.add_scatter(
                x=one.share,
                y=values,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colours[kind], "width": 2.2, "dash": dash},
                hovertemplate=f"{name}, area {area:.2f}<br>%{{x:.0%}} of the patches: %{{y:.2f}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title="Share of the patches", tickformat=".0%")
    figure.update_yaxes(title="Likeness, 1 = undisturbed", col=1)
    return style.finish(
        figure, height=460, top=30, bottom=140, dragmode=False, legend=style.LEGEND | {"y": -0.3, "yanchor": "top"}
    )


def plot_box(image: np.ndarray, box: Sequence[int]) -> go.Figure:
    """An image on which a box can be drawn (`selected_box`); `box` holds now, (top, left, bottom, right) in pixels."""
    height, width = image.shape
    figure = go.Figure()
    style.lay_under(figure, encode_png(image), width, height)
    # Points that nobody sees: Plotly lets a box be drawn only over something that can be chosen.
    step = max(4, min(height, width) // 24)
    x, y = np.meshgrid(np.arange(step / 2, width, step), np.arange(step / 2, height, step))
    figure.add_scatter(
        x=x.ravel(), y=y.ravel(), mode="markers", marker={"size": 4, "opacity": 0}, hoverinfo="skip", **style.UNSEEN
    )
    style.outline(figure, (0, 0, height, width), EDGE, 1)
    style.outline(figure, box)
    figure.update_xaxes(range=[0, width], visible=False, constrain="domain")
    figure.update_yaxes(range=[height, 0], visible=False, constrain="domain", scaleanchor="x", constraintoward="top")
    return style.finish(
        figure, height=int(np.clip(900 * height / width, 120, 330)), top=4, bottom=4, left=0, right=0, dragmode="select"
    )


def selected_box(selection: dict, shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The box that was drawn on `plot_box` over an image of a shape (H, W), from the selection that Streamlit reports.

    (top, left, bottom, right) in whole pixels inside the image, at least one a side; None where no box was drawn, and
    for anything that is no box.
    """
    ends = style.selected_ends(selection)
    if ends is None:
        return None
    ranges = []
    for (lowest, highest), size in zip(ends, shape, strict=True):
        low = int(np.clip(np.floor(lowest), 0, size - 1))
        ranges.append((low, int(np.clip(np.ceil(highest), low + 1, size))))
    (top, bottom), (left, right) = ranges
    return top, left, bottom, right


def _panel_title(one: PatchMap, letters: int) -> list[str]:
    """Lines of about so many letters: the map's title in bold, and smaller below it the range of its colours."""
    first, *more = textwrap.wrap(one.title, letters)
    values = np.asarray(one.values, np.float64)
    numbers = f"0\xa0to\xa0{_top(one):.3g}" if one.top is None else f"±{_top(one):.3g}"  # never broken themselves
    colours = numbers + one.after_number.replace("x ", "x\xa0")
    if not np.isfinite(values).any():
        colours = "nothing\xa0measured"
    elif one.top is None and np.nanmax(values) <= 0:
        colours = "0\xa0everywhere"
    rest = f"{' '.join(more)}, {colours}" if more else colours
    lines = textwrap.wrap(rest, letters + letters // 6, break_long_words=False)
    return [f"<b>{first.rstrip(',')}</b>", *(f"<span style='font-size:11px'>{line}</span>" for line in lines)]


def _top(one: PatchMap) -> float:
    if one.top is not None:
        return one.top
    values = np.asarray(one.values, np.float64)
    largest = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    return largest if largest > 0 else 1.0
