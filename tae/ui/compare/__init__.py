"""The page "Compare": its two sides, what stands between them, and its files, a file each."""
