"""Images that are composed without end: what all sources of the package's own have in common."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tae.data.batches import bucketed_draws, to_batch
from tae.data.white import AS_FILE

SPLITS = ("train", "val", "test")


def random_of(split: str, index: int, seed: int, *more: int) -> np.random.Generator:
    """What draws image number `index` of a split; `more` tells several of one image apart.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from: {', '.join(SPLITS)}")
    return np.random.default_rng([seed, SPLITS.index(split), index, *more])


class BuiltIn(ABC):
    """Training and held-out images that come with the package: an `ImageSource` (`tae.training.images.sources`).

    Each is a function of (seed, split, index) alone. No training image comes twice, and they are not augmented.

    Attributes:
        name: As `--data` has it.
        data: In words, for the card, by which a model's images are found again.
        licence: Of the images.
        files: What they are composed of.
    """

    name: str
    data: str
    licence: str
    files: tuple[Path, ...] = ()
    white = AS_FILE
    num_images: int | None = None

    def __init__(self, input_size: tuple[int, int | None], max_width: int = 1280, seed: int = 0) -> None:
        """Args: height, and width or None for any; widest image; seed."""
        self.height, self.width = input_size
        self.max_width = max_width
        self.seed = seed
        self.skipped: list[tuple[str, str]] = []
        self.remarks: list[str] = []
        self._width_of = lru_cache(maxsize=50_000)(self._compute_width)

    @abstractmethod
    def compose(self, split: str, index: int) -> np.ndarray:
        """Image number `index` of a split: (H, W) uint8, 255 white."""

    @abstractmethod
    def kind(self, split: str, index: int) -> str:
        """A word or two for the image that `compose` makes."""

    @abstractmethod
    def describe(self, draw: int) -> str:
        """The name of a training image."""

    @abstractmethod
    def _compute_width(self, draw: int) -> int:
        """How wide a training image is, where widths vary."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the files and of two images: another size, seed or way to compose gives another."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.read_bytes())
        for index in range(2):
            image = self.compose("train", index)
            digest.update(repr((image.shape, self.width)).encode() + image.tobytes())
        return digest.hexdigest()

    def draws(self, step: int, batch_size: int) -> list[int]:
        """Running numbers of one step's images; where the width is None, of like widths."""
        if self.width is None:
            return bucketed_draws(step, batch_size, self.seed, self._width_of)
        return list(range(step * batch_size, (step + 1) * batch_size))

    def image(self, draw: int) -> np.ndarray:
        """A training image by its running number."""
        return self.compose("train", draw)

    def batch(self, step: int, batch_size: int) -> list[np.ndarray]:
        """The images of one training step, none of them seen before."""
        return [self.image(draw) for draw in self.draws(step, batch_size)]

    def examples(self, count: int) -> Iterator[np.ndarray]:
        """The first training images."""
        return (self.compose("train", index) for index in range(count))

    def held_out(self, count: int) -> list[np.ndarray]:
        """Images to watch the training by, of the val split."""
        return [self.compose("val", index) for index in range(count)]

    def test(self, count: int) -> list[np.ndarray]:
        """Images for the final figures, of the test split."""
        return [self.compose("test", index) for index in range(count)]

    def test_at(self, width: int, count: int, besides: Sequence[Tensor] | Tensor = ()) -> Tensor:
        """The first of them at one width, (count, 1, H, width) in [0, 1]: cut, or filled up with their white.

        A test image that is one of `besides`, (1, H, width) each, is passed over.
        """
        images = to_batch(
            [
                np.pad(image[:, :width], ((0, 0), (0, max(0, width - image.shape[1]))), constant_values=255)
                for image in self.test(count + len(besides))
            ]
        )[0]
        is_other = [not any(torch.allclose(image, one, atol=0.01) for one in besides) for image in images]
        return images[torch.tensor(is_other)][:count]
