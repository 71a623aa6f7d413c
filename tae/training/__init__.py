"""Training an autoencoder, from a laptop to several nodes.

- config: what a run is: every flag of the command line
- sources: images to train on
- items: epochs, order and augmentation of the user's own images
- shards: tar shards and Hugging Face data sets
- index: what reading the files showed, kept
- split: the held-out files
- loader: batches read ahead in threads
- command: a run's config as JSON and as a command line
- loop: the steps of a run, whichever trainer: folder, resume, stop, states, end
- trainer: training an autoencoder
- tracker: the figures told elsewhere, too: a table, Weights & Biases, MLflow
- terminal: a training in a terminal
- muon: the optimizer of the blocks' matrices
- precision: bf16 or float32, as this machine is faster
- optim: optimizers, schedule, averaged weights
- state: the state that a resume needs
- runs: the folder of a run, and processes that outlive the app
- log: what a run says
- distributed: several processes: who reads, who writes
- plan: what a training will take
- planning: a plan in words
- advice: what to begin with: the shipped models that fit
- preview: what a training will see
- uploads: images dropped for a training
- lens: fitting a lens
"""
