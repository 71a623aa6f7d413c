"""Curves over each other, and points on a plane, as figures to take along."""

from collections.abc import Mapping, Sequence

import numpy as np

from tae.plots.export.render import Format, colours, new_figure, render
from tae.plots.style import CURVE_COLOURS, MARKER_COLOUR

SYMBOLS, DASHES = ("o", "s", "^"), ("-", "--", ":")


def curves_figure(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    x_title: str,
    caption: str,
    fmt: Format,
    log: Sequence[str] = (),
) -> bytes:
    """Panels {what y is: {name: (x (n,), y (n,))}} beside each other; `log` names those with a logarithmic axis."""
    figure = new_figure(1 + 5.5 * len(panels), 4.4)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (name, (x, y)) in enumerate(curves.items()):
            colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
            dash = DASHES[number // len(CURVE_COLOURS) % len(DASHES)]
            axes.plot(x, y, color=colour, linestyle=dash, label=name.replace("$", r"\$"))
        axes.set(xlabel=x_title, ylabel=title, yscale="log" if title in log else "linear")
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8)
    return render(figure, caption, fmt, "")


def points_figure(
    points: np.ndarray,
    axes_titles: tuple[str, str],
    groups: Sequence[str],
    own: np.ndarray,
    caption: str,
    fmt: Format,
    warning: str = "",
    values: np.ndarray | None = None,
    value_title: str = "",
) -> bytes:
    """Points (n, 2) by group, or by values (n,), and one's own (m, 2) as diamonds."""
    figure = new_figure(8, 6)
    axes = figure.subplots()
    if values is None:
        for number, name in enumerate(sorted(set(groups))):
            x, y = points[[one == name for one in groups]].T
            colour, symbol = CURVE_COLOURS[number % len(CURVE_COLOURS)], SYMBOLS[number // len(CURVE_COLOURS) % 3]
            axes.scatter(x, y, s=14, color=colour, marker=symbol, label=name.replace("$", r"\$"))
        axes.legend(frameon=False, fontsize=8)
    else:
        drawn = axes.scatter(*points.T, s=14, c=values, cmap=colours("attention"))
        figure.colorbar(drawn, ax=axes, label=value_title.replace("$", r"\$"))
    axes.scatter(*own.T, s=70, color=MARKER_COLOUR, marker="D", edgecolor="white")
    axes.set(xlabel=axes_titles[0], ylabel=axes_titles[1], aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    return render(figure, caption, fmt, warning)
