"""The state of a visitor's session.

- view: what is looked at, and the link that says so
- arrivals: bounds of what the server holds of files on their way to a page
- keeping: a session's uploads on disk, found again after a reload
- deletion: a way to delete a file that is shown as broken
- models: the checkpoints, and those that a visitor brought
- white: which number is white: the choice, and what follows from it
- images: the images that a visitor dropped, and the samples
- access: who may do what
- logs: the server's log, and diagnostics
- cache: results kept for all sessions, models and images known by their digests
- lasting: what was measured of a checkpoint, from one start to the next
- turns: whose turn it is with the models
- scene: a model and an image, what most pages are about
- results: an image through a model, and how long a pass takes
- work: long work: progress, stop, one at a time
- verdicts: whether a model needs its attention: its study, or a quick measurement
"""
