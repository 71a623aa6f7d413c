"""The page "Layers": what it measures, and its parts, a file each."""
