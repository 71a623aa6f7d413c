"""Figures for paper (matplotlib) and numbers for other programs.

- figures: one map, a grid of layers, a patch, an image beside its reconstruction
- heads: all heads, and heads in numbers
- curves: curves over each other, points on a plane
- glance: a matrix of what is alike
- pair: two maps compared
- strips: strips of images
- tables: NPZ, CSV that no spreadsheet runs, ZIP
- aliases: names that users of AutoEncoder_TransformerV2_0 type
- render: how a map is drawn, and the formats of a figure

Arguments everywhere, beside those of `tae.plots`: caption is printed below; fmt is "png", "svg" or "pdf"; warning stands above in
red.
"""
