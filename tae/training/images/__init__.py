"""Images to train on, and what is held out.

- sources: where they come from: composed, simulated, or files of the user's own
- items: epochs, order and augmentation of the user's own images
- shards: tar shards and Hugging Face data sets
- index: what reading the files showed, kept
- split: the held-out files
- loader: batches read ahead in threads
- preview: what a training will see
- uploads: images dropped for a training
"""
