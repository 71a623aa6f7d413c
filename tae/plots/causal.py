"""What interventions do, as figures: differences, damage, curves, effects beside what predicts them."""

import numpy as np
import plotly.graph_objects as go

from tae.plots.quality import plot_signed_error


def plot_change(change: np.ndarray, limit: float | None = None) -> go.Figure:
    """A reconstruction with a change minus the one without, on colours centred on zero.

    Args:
        change: (H, W).
        limit: End of the colours on both sides; None: the largest change, at least .05.
    """
    figure = plot_signed_error(change, limit)
    figure.update_traces(
        hovertemplate="x %{x:.0f}, y %{y:.0f}<br>change %{z:+.3f}<extra></extra>",
        colorbar={"ticktext": ["darker", "0", "lighter"]},
    )
    return figure
