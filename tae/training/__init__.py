"""Training an autoencoder, from a laptop to several nodes.

- config: what a run is: every flag of the command line
- command: a run's config as JSON and as a command line
- images: what it learns from, and what is held out
- planning: what a training takes, before it starts
- trainer: training an autoencoder
- run: the folder, steps, states and log of a run, whichever trainer
- optim: the loss, optimizers, schedule, averaged weights
- muon: the optimizer of the blocks' matrices
- precision: bf16 or float32, as this machine is faster
- distributed: several processes: who reads, who writes
- lens: fitting a lens
"""
