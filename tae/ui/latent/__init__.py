"""The page Latent space: what it measures, and its sections, a file each."""
