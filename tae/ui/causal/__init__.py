"""The page "Does it matter?": what it measures, and its sections, a file each."""
