"""Batches of images of like widths, so that little of a batch is padding."""

from collections.abc import Callable

import numpy as np

WINDOW = 32
"""Batches that are sorted by width together."""


def bucketed_draws(
    step: int, batch_size: int, seed: int, width_of: Callable[[int], int], num_images: int | None = None
) -> list[int]:
    """The running numbers of one step's images where widths vary.

    The running numbers 0, 1, 2, ... are cut into windows of 32 batches, and of no more than an epoch, so that no image
    meets itself. Those of a window are sorted by width and cut into batches, which come in random order. Each number
    comes once; that order is a function of (seed, batch_size) and the widths.

    Args:
        step: From 0.
        batch_size: Images a step.
        seed: Of the order of a window's batches.
        width_of: Width of the image of a running number.
        num_images: Images in an epoch; None: no image comes twice.

    Returns:
        `batch_size` numbers, by rising width.
    """
    batches = WINDOW if num_images is None else min(WINDOW, max(1, num_images // batch_size))
    window, position = divmod(step, batches)
    start = window * batches * batch_size
    numbers = sorted(range(start, start + batches * batch_size), key=lambda number: (width_of(number), number))
    batch = int(np.random.default_rng([seed, window, 1]).permutation(batches)[position])
    return numbers[batch * batch_size : (batch + 1) * batch_size]
