"""From bytes to images, and back.

- decode: one file of a stranger to an image: formats, EXIF rotation, transparency
- white: which number is white: one rule for files, stacks, folders and sequences
- limits: what is too large to be read
- foreign: what is not read, by name, and what to do with it
- jpeg: JPEG files that are not whole, or of another kind
- stacks: files in order; frames of NumPy stacks and multi-page TIFFs
- tiff: pages of a TIFF file, one at a time
- video: frames of GIFs and videos
- archive: a stranger's ZIP to a folder of images
- fit: an image to a model's size: padded, cropped or stretched
- prepare: one image in any form to the tensor that a model takes
- encode: images to PNG and GIF
- threads: reading ahead in threads
- augment: small changes of training images
- batches: batches of like widths
- composed: what the package's own sources have in common
- built_in: the package's own sources by name
- demo: frames composed from photographs of garments
- drops: simulated drops on a tilted plate, and what a frame of one tells
- gallery: the app's samples
- samples: the demo data and its licence
"""
