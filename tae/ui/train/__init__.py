"""The page Train: a new training from images to its start, runs that are watched, runs compared; a file a part."""
