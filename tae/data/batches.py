"""Batches of images of like widths, so that little of a batch is padding."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

WINDOW = 32  # batches that are sorted by width together


def bucketed_draws(
    step: int, batch_size: int, seed: int, width_of: Callable[[int], int], num_images: int | None = None
) -> list[int]:
    """The `batch_size` running numbers of the images of a step, counted from 0, where widths vary; by about rising width.

    The running numbers 0, 1, 2, ... are cut into windows of 32 batches, and of no more than an epoch of `num_images`, so that
    no image meets itself; without an epoch no image comes twice. Those of a window are sorted by width and cut into batches,
    which come in random order. Widths count with up to 5% more or less, by chance, or the same images would meet in every
    epoch. Each number comes once; the order is a function of the seed, the batch size and the widths.
    """
    batches = WINDOW if num_images is None else min(WINDOW, max(1, num_images // batch_size))
    window, position = divmod(step, batches)
    numbers = np.arange(batches * batch_size) + window * batches * batch_size
    rng = np.random.default_rng([seed, window, 1])
    batch = int(rng.permutation(batches)[position])
    widths = np.array([width_of(number) for number in numbers.tolist()])
    by_width = numbers[np.argsort(widths * rng.uniform(0.95, 1.05, len(widths)), kind="stable")]
    return by_width[batch * batch_size : (batch + 1) * batch_size].tolist()


def to_batch(images: list[np.ndarray]) -> tuple[Tensor, Tensor | None]:
    """Stack uint8 images (H, W) of one height: (B, 1, H, W) in [0, 1], and widths (B,) where these differ."""
    widths = [image.shape[1] for image in images]
    widest = max(widths)
    stacked = np.zeros((len(images), 1, images[0].shape[0], widest), np.float32)
    for row, image in zip(stacked, images, strict=True):
        # By NumPy: in a thread that reads ahead, PyTorch would start threads of its own for it.
        np.divide(image, np.float32(255), out=row[0, :, : image.shape[1]])
    return torch.from_numpy(stacked), None if min(widths) == widest else torch.tensor(widths)
