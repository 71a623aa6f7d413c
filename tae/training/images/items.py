"""Images of the user's own, whatever holds them: epochs, order and augmentation as functions of the seed and the number."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tae.data.augment import augment
from tae.data.batches import bucketed_draws
from tae.data.white import AS_FILE
from tae.training.config import TrainConfig


class ItemSource(ABC):
    """A finite number of items, each an image: an `ImageSource` (`tae.training.images.sources`) but for the reading of one.

    Each epoch is a new permutation of those to train on.

    Attributes:
        num_images: Images to train on.
    """

    licence = "the user's own"
    white = AS_FILE
    remarks: list[str]

    def __init__(self, config: TrainConfig, train: np.ndarray, held_out: np.ndarray) -> None:
        """Args: the run; the numbers of the items to train on, and of those held out, int arrays."""
        self._config, self._train, self._held_out = config, train, held_out
        self.num_images: int | None = len(train)
        self._order = lru_cache(maxsize=2)(self._permutation)

    @abstractmethod
    def _load(self, item: int) -> np.ndarray:
        """(H, W) uint8, of the model's size. Raises ImageError, which names it."""

    @abstractmethod
    def _name_of(self, item: int) -> str:
        """The item's name, fit to be printed."""

    @abstractmethod
    def _width_of(self, item: int) -> int:
        """Width of the fitted image, in pixels; asked where widths vary."""

    def draws(self, step: int, batch_size: int) -> list[int]:
        """The running numbers of one step's images; each epoch has every image once, but for the order of buckets."""
        if self._config.input_size[1] is None:
            width = lambda draw: self._width_of(self._item(draw))  # noqa: E731
            return bucketed_draws(step, batch_size, self._config.seed, width, len(self._train))
        return list(range(step * batch_size, (step + 1) * batch_size))

    def image(self, draw: int) -> np.ndarray:
        """(H, W) uint8, augmented.

        Raises:
            ImageError: If what holds it is gone or has changed since the source was made; the message names it.
        """
        config = self._config
        rng = np.random.default_rng([config.seed, draw, 2])
        return augment(self._load(self._item(draw)), rng, config.flip, config.shift, config.zoom, config.contrast)

    def examples(self, count: int) -> Iterator[np.ndarray]:
        """Up to `count` training images (H, W) uint8, spread evenly over all; not augmented."""
        return (self._load(int(item)) for item in _spread(self._train, count))

    def describe(self, draw: int) -> str:
        """The name of what it comes from."""
        return self._name_of(self._item(draw))

    def held_out(self, count: int) -> list[np.ndarray]:
        """Up to `count` images (H, W) uint8, spread evenly over those held out; not augmented."""
        return [self._load(int(item)) for item in _spread(self._held_out, count)]

    test = held_out

    @property
    def held_out_names(self) -> list[str]:
        """Names of the items that are held out, each once."""
        return list(dict.fromkeys(self._name_of(int(item)) for item in self._held_out))

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._config.seed, epoch]).permutation(self._train)

    def _item(self, draw: int) -> int:
        epoch, position = divmod(draw, len(self._train))
        return int(self._order(epoch)[position])


def _spread(items: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of them, evenly."""
    return items[np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]
