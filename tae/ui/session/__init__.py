"""What a visitor's session holds.

- view: what is looked at, and the link that says so
- models: the checkpoints, and those that a visitor brought
- pictures: the images that a visitor dropped, and the samples
- results: what was computed, kept by content
- work: long work: progress, stop, one at a time
- verdicts: whether a model needs its attention: its study, or a quick measurement
"""
