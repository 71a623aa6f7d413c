"""Wide images for tests."""

import numpy as np

from tae.data.drops import DropSource


def long_strip(width: int, index: int = 0) -> np.ndarray:
    """(152, width) uint8: frames of drops beside each other, from number `index` of the test split on."""
    source = DropSource((152, 1280))
    frames = [source.compose("test", index + number) for number in range(-(-width // 1280))]
    return np.concatenate(frames, axis=1)[:, :width]
