"""Simulated frames to train on."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tae.data.batches import bucketed_draws
from tae.data.drops.frame import draw_frame, stretched
from tae.data.drops.render import STRIP


class DropSource:
    """Training and held-out frames of simulated drops: an `ImageSource` (`tae.training.sources`).

    Squares for a square `input_size`; where the width is None, crops as wide as their drop, `max_width` at most; else strips.
    Sizes other than 152 and 1280 are stretched. Frames are made without end, none comes twice, and they are not augmented.
    """

    name = "drops"
    data = "simulated liquid drops that slide down a tilted plate"
    licence = "made by tae"
    num_images: int | None = None

    def __init__(self, input_size: tuple[int, int | None], max_width: int = 1280, seed: int = 0) -> None:
        self.height, self.width = input_size
        self.max_width = max_width
        self.seed = seed
        self.skipped: list[tuple[str, str]] = []
        self._width_of = lru_cache(maxsize=50_000)(self._compute_width)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of two frames and the size: another size, seed or way to draw gives another."""
        digest = hashlib.sha256()
        for index in range(2):
            image = self.compose("train", index)
            digest.update(repr((image.shape, self.width)).encode() + image.tobytes())
        return digest.hexdigest()

    def compose(self, split: str, index: int) -> np.ndarray:
        """Image number `index` of a split: (H, W) uint8, 255 white."""
        frame = draw_frame(split, index, self.seed)
        if self.width == self.height:
            return frame.square(self.height)
        if self.width is not None:
            return stretched(frame.strip(), self.height, self.width)
        crop = frame.crop()
        return stretched(crop, self.height, self._scaled(crop.shape[1]))

    def draws(self, step: int, batch_size: int) -> list[int]:
        """Running numbers of one step's images; where the width is None, of like widths."""
        if self.width is None:
            return bucketed_draws(step, batch_size, self.seed, self._width_of)
        return list(range(step * batch_size, (step + 1) * batch_size))

    def image(self, draw: int) -> np.ndarray:
        """A training image by its running number."""
        return self.compose("train", draw)

    def describe(self, draw: int) -> str:
        return f"frame {draw}"

    def examples(self, count: int) -> Iterator[np.ndarray]:
        """The first training images."""
        return (self.compose("train", index) for index in range(count))

    def held_out(self, count: int) -> list[np.ndarray]:
        """Images to watch the training by: recordings of the val split."""
        return [self.compose("val", index) for index in range(count)]

    def test(self, count: int) -> list[np.ndarray]:
        """Images for the final figures: recordings of the test split, every third of a viscosity never trained on."""
        return [self.compose("test", index) for index in range(count)]

    def _scaled(self, width: int) -> int:
        return min(self.max_width, max(1, round(width * self.height / STRIP[0])))

    def _compute_width(self, draw: int) -> int:
        first, last = draw_frame("train", draw, self.seed).window
        return self._scaled(last - first)
