"""The page Ablation: what it measures, and its sections, a file each."""
