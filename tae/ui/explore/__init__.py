"""The page Explore.

- page: the page from top to bottom
- shelf: where images are dropped and chosen
- stage: the image, its reconstruction, every head, and what ablating them does
- verdict: how good the reconstruction is, and what to do about it
- closer: what stands one click away: matrices, statistics, figures, how to read it all
- plain: one image where there is no attention to show
- many: several images at once
- windows: wide images, window by window
- exports: downloads of what is on display
"""
