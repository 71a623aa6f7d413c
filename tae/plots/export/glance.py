"""A matrix of what is alike, with a tree beside it where it was ordered by one."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster import hierarchy

from tae.plots.export.render import Format, new_figure, render
from tae.plots.style import CURVE_COLOURS


def matrix_figure(
    values: np.ndarray,
    names: Sequence[str],
    label: str,
    caption: str,
    fmt: Format,
    warning: str = "",
    merges: np.ndarray | None = None,
) -> bytes:
    """Numbers in [0, 1] of every two of K things (K, K); label says what they are.

    Without `merges` they say how alike two are, in the order given. With them (K - 1, 4), a tree as
    `tae.analysis.kinds.Tree` has it, they say how far two are apart, in its order. Dark is alike both times.
    """
    count = len(values)
    side = min(16.0, 3 + 0.28 * count)
    figure = new_figure(side + (2.5 if merges is not None else 1), side + 0.6)
    if merges is None:
        axes, order = figure.subplots(), list(range(count))
    else:
        beside, axes = figure.subplots(1, 2, width_ratios=[1, 4])
        drawn = hierarchy.dendrogram(merges, no_plot=True)
        order = drawn["leaves"]
        for across, down in zip(drawn["dcoord"], drawn["icoord"], strict=True):
            beside.plot(across, (np.array(down) - 5) / 10, color=CURVE_COLOURS[0], linewidth=1)
        beside.set(
            xlim=(max(1e-6, float(merges[-1, 2])) * 1.04, 0), ylim=(count - 0.5, -0.5), yticks=[], xlabel="distance"
        )
        beside.spines[["top", "left", "right"]].set_visible(False)
    colours = "cividis" if merges is not None else "cividis_r"
    shown = axes.imshow(
        values[np.ix_(order, order)], cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto"
    )
    titles = [names[number] for number in order]
    size = max(3, min(9, 300 / count))
    axes.set_xticks(range(count), titles, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), titles, fontsize=size, parse_math=False)
    figure.colorbar(shown, ax=axes, shrink=0.8, label=label)
    return render(figure, caption, fmt, warning)
