"""Arrays in, Plotly figures out: no model, no page, no state."""

from tae.plots.causal import plot_change
from tae.plots.heads import (
    overview_image,
    plot_agreement_on_image,
    plot_difference_map,
    plot_measure_over_layers,
    plot_overview,
    selected_head,
)
from tae.plots.maps import (
    EXACT_TOKENS,
    MAX_CELLS,
    MAX_CELLS_SMALL,
    Region,
    layer_title,
    plot_attention_map,
    plot_layer_grid,
    plot_patch_attention,
    selected_region,
    selected_token,
)
from tae.plots.quality import percentile_rank, plot_by_group, plot_distribution, plot_signed_error, worse_than
from tae.plots.style import (
    ATTENTION_COLOURS,
    CURVE_COLOURS,
    ERROR_COLOURS,
    MARKER_COLOUR,
    OVERLAY,
    QUERY_COLOUR,
    Quantity,
    block_max,
    unit_of,
)
from tae.plots.training import MAX_POINTS, plot_curves, plot_memory, plot_training_curve

__all__ = [
    "ATTENTION_COLOURS",
    "CURVE_COLOURS",
    "ERROR_COLOURS",
    "EXACT_TOKENS",
    "MARKER_COLOUR",
    "MAX_CELLS",
    "MAX_CELLS_SMALL",
    "MAX_POINTS",
    "OVERLAY",
    "QUERY_COLOUR",
    "Quantity",
    "Region",
    "block_max",
    "layer_title",
    "overview_image",
    "percentile_rank",
    "plot_attention_map",
    "plot_by_group",
    "plot_change",
    "plot_curves",
    "plot_difference_map",
    "plot_agreement_on_image",
    "plot_distribution",
    "plot_layer_grid",
    "plot_measure_over_layers",
    "plot_memory",
    "plot_overview",
    "plot_patch_attention",
    "plot_signed_error",
    "plot_training_curve",
    "selected_head",
    "selected_region",
    "selected_token",
    "unit_of",
    "worse_than",
]
