"""The page Models.

- cards: checkpoints and their cards
- presets: the presets, counted
- bring: a checkpoint dropped, an untrained preset
"""
