"""The page Attention: what it computes and measures, and its sections, a file each."""
