"""What a frame of a drop tells, measured on its pixels."""

import numpy as np

MARGIN = 16
"""White columns on either side of the drop in `crop_columns`."""


def base_row(image: np.ndarray) -> int:
    """First row of the dark line at the bottom of a frame (H, W) uint8; H where there is none."""
    is_dark = (image < 128).mean(axis=1) > 0.95
    row = len(is_dark)
    while row > 0 and is_dark[row - 1]:
        row -= 1
    return row


def crop_columns(image: np.ndarray, margin: int = MARGIN) -> tuple[int, int]:
    """Columns (first, one behind the last) of the drops on the base line, and a margin where the frame has one.

    Ink counts where it is at least 12 columns wide: satellites are no drops. All columns where there is no drop.

    Args:
        image: (H, W) uint8, dark on white.
        margin: White columns to leave on either side.
    """
    has_ink = (image[: base_row(image)] < 128).sum(axis=0) >= 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], has_ink, [False]]).astype(np.int8)))
    runs = [(first, last) for first, last in edges.reshape(-1, 2).tolist() if last - first >= 12]
    if not runs:
        return 0, image.shape[1]
    return max(0, runs[0][0] - margin), min(image.shape[1], runs[-1][1] + margin)
