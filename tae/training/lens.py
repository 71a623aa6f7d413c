"""Fitting a lens on training images, into a file beside the checkpoint."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch

from tae.analysis.lens.file import lens_path, save_lens
from tae.analysis.lens.fit import Batch, fit_lens
from tae.analysis.lens.look import Lens
from tae.data.batches import to_batch
from tae.data.built_in import source_for
from tae.model.config import Threads, Whole, check_fields
from tae.model.device import pick_device
from tae.store.checkpoint import load_checkpoint
from tae.training.config import Positive, TrainConfig
from tae.training.images.sources import open_source


@dataclass(frozen=True, kw_only=True)
class LensConfig:
    """One fit; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range.
    """

    checkpoint: Path
    """The model; its lens is written beside it."""
    data: str | None = None
    """Images, split as in training, as for python -m tae.train; None: those that come with the package and that the
    checkpoint's card speaks of, else the demo's."""
    train_images: Annotated[int, Whole(2, 10**7)] = 4000
    """Images of the train split to fit on, or all of yours where there are fewer."""
    test_images: Annotated[int, Whole(1, 10**6)] = 256
    """Images of the test split to measure with."""
    batch_size: Annotated[int, Whole(1, 4096)] = 16
    """Images at once."""
    ridge: Positive = 1e-4
    """Penalty on what a translator does beyond leaving a state as it is, as a multiple of the states' mean variance."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice."""
    overwrite: bool = False
    """Replace the lens that is there."""

    def __post_init__(self) -> None:
        check_fields(self)


def fit_to_file(config: LensConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Path, Lens]:
    """The command line's task.

    Args:
        config: The fit.
        progress: Called with (images done, images in all).

    Returns:
        The file, and the lens.

    Raises:
        FileNotFoundError: If there is no such data.
        ValueError: If there is a lens already, or the checkpoint or another argument is not valid.
        OSError: If the file cannot be written.
    """
    started = time.process_time()
    out = lens_path(config.checkpoint)
    if out.exists() and not config.overwrite:
        raise ValueError(f"{out.name} must not exist, and it does; replace it with --overwrite")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    loaded = load_checkpoint(config.checkpoint)
    model = loaded.model.to(pick_device(config.device))
    shape = model.config
    data = config.data or source_for(shape, loaded.card.data).name
    source = open_source(TrainConfig(data=data, input_size=shape.input_size, max_width=shape.max_width))
    wanted = config.train_images if source.num_images is None else min(config.train_images, source.num_images)
    test_images = sorted(source.test(config.test_images), key=lambda image: image.shape[1])
    total, done = wanted + len(test_images), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    def train() -> Iterable[Batch]:
        for step in range(-(-wanted // config.batch_size)):
            draws = source.draws(step, config.batch_size)[: wanted - step * config.batch_size]
            yield to_batch([source.image(number) for number in draws])

    size = config.batch_size
    test = (to_batch(test_images[start : start + size]) for start in range(0, len(test_images), size))
    lens = fit_lens(model, loaded.digest, train(), test, config.ridge, tell)
    about = {"data": source.data, **lens.about, "cpu_seconds": round(time.process_time() - started, 1)}
    lens = Lens(lens.checkpoint, lens.parts, about)
    save_lens(out, lens)
    return out, lens
