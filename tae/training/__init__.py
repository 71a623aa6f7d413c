"""Training an autoencoder, from a laptop to several nodes.

- config: what a run is: every flag of the command line
- sources: images to train on, and the held-out split
- loader: batches read ahead in threads
- loop: the steps of a training
- run: one training from start to end
- optim: optimizers, schedule, averaged weights
- state: the state that a resume needs
- runs: the folder of a run, and processes that outlive the app
- log: what a run says
- distributed: several processes: who reads, who writes
- plan: what a training will take
- planning: a plan in words
- preview: what a training will see
- uploads: images dropped for a training
- lens: fitting a lens
"""
