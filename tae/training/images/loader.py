"""Batches of a source, read and prepared by threads ahead of the model.

Threads, not processes: decoding, scaling and copying leave Python's lock alone, batches are shared without copies, and
nothing is left behind when a run dies.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from tae.data.batches import to_batch
from tae.data.threads import in_order

if TYPE_CHECKING:
    from tae.training.images.sources import ImageSource


@dataclass(frozen=True)
class Batch:
    """This process's images of one step.

    Attributes:
        step: From 0.
        images: (b, 1, H, W) float in [0, 1], narrower ones padded with 0 on the right.
        widths: (b,) in pixels; None where all are equal.
        draws: Running numbers of the images; `source.describe` says what they are.
    """

    step: int
    images: Tensor
    widths: Tensor | None
    draws: list[int]


class Loader:
    """Iterates over the batches of steps first_step ... last_step - 1, in order; a context manager.

    What the batches hold is a function of the source and the step, whatever the number of threads. At most
    `workers + 1` batches lie ready or are being made. An error of the source, which names the file, comes up at the
    step that it belongs to. Leaving the context, or the end, ends the threads.
    """

    def __init__(
        self,
        source: "ImageSource",
        batch_size: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 2,
    ) -> None:
        """Threads start at the first batch.

        Args:
            source: Where the images come from.
            batch_size: Images a step, over all processes.
            first_step: From 0.
            last_step: The step that no longer belongs to it.
            rank: This process's number; it gets every `world_size`-th image of a batch.
            world_size: Processes.
            workers: Threads.

        Raises:
            ValueError: If a process would get no image.
        """
        if batch_size < world_size:
            raise ValueError(f"batch_size must be at least the number of processes, got {batch_size} and {world_size}")
        self._source = source
        self._batch_size = batch_size
        self._rank, self._world_size = rank, world_size
        self._workers = workers
        self._lock = threading.Lock()
        self._num_images, self._busy_s = 0, 0.0
        self._batches = in_order(self._make, range(first_step, last_step), workers)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; a batch that is being made is waited for."""
        self._batches.close()

    @property
    def images_per_s(self) -> float:
        """Pace of reading alone: images a second while all threads are at work; 0 before the first batch."""
        with self._lock:
            return self._workers * self._num_images / self._busy_s if self._busy_s else 0.0

    def _make(self, step: int) -> Batch:
        started = time.perf_counter()
        draws = self._source.draws(step, self._batch_size)[self._rank :: self._world_size]
        images, widths = to_batch([self._source.image(draw) for draw in draws])
        with self._lock:
            self._num_images += len(draws)
            self._busy_s += time.perf_counter() - started
        return Batch(step, images, widths, draws)
