"""Arrays in, Plotly figures out: no model, no page, no state.

- style: colours, sizes, fonts that all figures share
- maps: heatmaps of attention
- heads: grids of heads, measures, two maps compared
- causal: what ablations and covered patches do
- latent: the latent space and the lens
- quality: an image, its reconstruction, its error
- strip: long strips in pieces that browsers draw
- sequence: forecasts and film strips
- training: curves of a training
- export: the same for paper: PNG, SVG, NPZ, CSV, ZIP

Arguments everywhere: image (H, W) in [0, 1]; grid, (rows, columns) of patches; patch_size, the side of a patch in
pixels; zmax, the end of the colours in x uniform.
"""

from tae.plots.causal import (
    PatchMap,
    plot_box,
    plot_change,
    plot_damage,
    plot_deletion_insertion,
    plot_patch_maps,
    plot_removal,
    plot_scores,
    plot_sharpness,
    selected_box,
)
from tae.plots.heads import (
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
from tae.plots.quality import METRICS, percentile_rank, plot_by_group, plot_distribution, plot_signed_error, worse_than
from tae.plots.style import (
    ATTENTION_COLOURS,
    CURVE_COLOURS,
    ERROR_COLOURS,
    QUERY_COLOUR,
    Quantity,
    block_max,
    unit_of,
)
from tae.plots.training import MAX_POINTS, plot_curves, plot_memory, plot_training_curve
