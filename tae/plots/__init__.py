"""Arrays in, Plotly figures out: no model, no page, no state.

- style: colours, sizes, fonts that all figures share
- maps: heatmaps of attention
- heads: grids of heads, measures, two maps compared
- causal: what ablations and covered patches do
- patching: what another image's states do
- glance: how alike all states are, and all heads
- latent: the latent space and the lens
- quality: an image, its reconstruction, its error
- strip: long strips in pieces that browsers draw
- sequence: forecasts and film strips
- training: curves of a training
- export: the same for paper: PNG, SVG, NPZ, CSV, ZIP

Arguments everywhere: image (H, W) in [0, 1]; grid, (rows, columns) of patches; patch_size, the side of a patch in
pixels; zmax, the end of the colours in x uniform.
"""
