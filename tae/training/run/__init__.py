"""A run, whatever it trains: its folder, its steps, what it says and keeps.

- loop: the steps of a run: folder, resume, stop, states, end
- runs: the folder of a run, and processes that outlive the app
- state: the state that a resume needs
- log: what a run says
- tracker: the figures told elsewhere, too: a table, Weights & Biases, MLflow
- terminal: a training in a terminal
"""
