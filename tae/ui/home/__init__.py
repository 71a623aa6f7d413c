"""The page Reconstruct.

- drop: the drop zone
- samples: the gallery
- one: one image beside its reconstruction
- many: several images at once
- windows: wide images, window by window
"""
