"""Two maps compared, as files: what is drawn is what the numbers say."""

import io

import numpy as np
import pytest
from PIL import Image

from tae.analysis.agreement import compare
from tae.plots.export.pair import pair_figure

GRID, PATCH = (3, 4), 8
PICTURE = np.ones((20, 32))
EVEN = np.full((12, 12), 1 / 12)


def drawn(first: np.ndarray, second: np.ndarray, **changes) -> np.ndarray:
    """(H, W, 3) uint8."""
    given = {"found": compare(first, second), "caption": "A: one. B: two.", "zmax": 12.0, "fmt": "png", **changes}
    content = pair_figure(first, second, image=PICTURE, grid=GRID, patch_size=PATCH, **given)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Where a pixel is far from grey."""
    return np.ptp(pixels, axis=2) > 40


@pytest.mark.slow
def test_difference_of_equal_maps_is_blank_and_of_others_is_not() -> None:
    same, apart = drawn(EVEN, EVEN), drawn(np.eye(12), EVEN)
    below = slice(same.shape[0] // 2, None), slice(0, int(same.shape[1] * 0.38))  # A - B, without its colour bar
    assert not coloured(same[below]).any()
    assert coloured(apart[below]).mean() > 0.01


@pytest.mark.slow
def test_maps_that_cannot_be_compared_stand_alone() -> None:
    both, alone = drawn(EVEN, np.eye(12)), drawn(EVEN, np.eye(12), found=None)
    assert alone.shape[0] < 0.6 * both.shape[0]


@pytest.mark.slow
def test_untrained_is_red() -> None:
    for untrained in [False, True]:
        pixels = drawn(EVEN, EVEN, warning="random weights" * untrained)
        red = (pixels[..., 0] > 150) & (pixels[..., 1:].max(axis=2) < 90)
        assert (red[: pixels.shape[0] // 12].sum() > 50) == untrained


def test_texts_of_strangers_are_not_typeset() -> None:
    content = pair_figure(EVEN, EVEN, None, PICTURE, GRID, PATCH, r"$\frac{1}{2}$ <script>", 2.0, "svg")
    assert b"<script>" not in content and content.startswith(b"<?xml")
