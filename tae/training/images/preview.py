"""A look at the data before a training starts: some of its images, fitted and augmented, and what is held out."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tae.data.augment import augment
from tae.data.encode import to_uint8
from tae.data.fit import fit_image
from tae.data.limits import ImageError
from tae.data.stacks import base_folder, count_frames, decide, find_files, read_frame, scan
from tae.data.white import White
from tae.training.config import TrainConfig
from tae.training.images.index import FLAT_SPAN, flat_remark, span
from tae.training.images.sources import FileSource, open_source

MAX_READ_FILES = 300
MAX_READ_BYTES = 200 * 1024**2
"""Up to here all files are read, as the training will; of more, only those that are shown."""


@dataclass(frozen=True)
class Found:
    """The files that a run's data names.

    Attributes:
        num_files: Images and stacks, by their endings.
        num_bytes: Size of all files.
        newest_ns: Time of the last change of any.
    """

    num_files: int
    num_bytes: int
    newest_ns: int

    @property
    def is_small(self) -> bool:
        """Whether all files may be read before a training starts."""
        return self.num_files <= MAX_READ_FILES and self.num_bytes <= MAX_READ_BYTES


@dataclass(frozen=True)
class Preview:
    """Some of a run's images.

    Attributes:
        images: (H, W) uint8, as the model will see them.
        names: Names of the files that they come from.
        num_images: To train on; None where that is not known before all files are read, or there is no end to them.
        num_held_out: Likewise.
        skipped: (file name, reason) of each file that cannot be read, of those that were tried.
        remarks: Sentences on what is odd about them.
        sizes: (height, width) of some, as they are in their files.
        examples: Those by which a model to begin with is chosen, (H, W) uint8; empty where that is not known yet.
    """

    images: list[np.ndarray]
    names: list[str]
    num_images: int | None
    num_held_out: int | None
    skipped: list[tuple[str, str]]
    remarks: Sequence[str] = ()
    sizes: Sequence[tuple[int, int]] = ()
    examples: Sequence[np.ndarray] = ()


def look(data: str) -> Found:
    """Count a run's files without reading them.

    Raises:
        FileNotFoundError: If there are none.
    """
    num_files, num_bytes, newest_ns = 0, 0, 0
    for path in find_files(data):
        try:
            info = path.stat()
        except OSError:
            continue
        num_files, num_bytes, newest_ns = num_files + 1, num_bytes + info.st_size, max(newest_ns, info.st_mtime_ns)
    if not num_files:
        raise FileNotFoundError(f"{data} must hold images, and there is none in it or its subfolders")
    return Found(num_files, num_bytes, newest_ns)


def read_all(config: TrainConfig, count: int = 8, progress: Callable[[int, int], None] | None = None) -> Preview:
    """Open the run's images as the training will, and show the first that it will see.

    Raises:
        FileNotFoundError: If there are no files.
        ValueError: If too few of them can be read.
    """
    source = open_source(config, progress)
    draws = [draw for step in range(count) for draw in source.draws(step, 1)]
    if source.num_images is not None:
        draws = draws[: source.num_images]
    num_held_out = len(source.held_out_names) if isinstance(source, FileSource) else None
    images = [source.image(draw) for draw in draws]
    return Preview(
        images,
        [source.describe(draw) for draw in draws],
        source.num_images,
        num_held_out,
        source.skipped,
        source.remarks,
        _sizes(config.data, count) if isinstance(source, FileSource) else (),
        [*source.examples(count)] if source.num_images is not None else (),
    )


def read_some(config: TrainConfig, count: int = 8) -> Preview:
    """A few files, spread evenly over all of them.

    Raises:
        FileNotFoundError: If there are no files.
        ValueError: If none of them can be read.
    """
    found, home = scan(config.data), base_folder(config.data)
    files = found.files
    places = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    images, names, skipped, spans, sizes = [], [], [], [], []
    white = decide([files[place] for place in places], White(config.white))
    for number, path in enumerate(files[place] for place in places):
        name = _name(path, home)
        try:
            pixels = read_frame(path, count_frames(path) // 2, white).pixels
            image = to_uint8(fit_image(pixels, config.input_size, config.fit, config.max_width).pixels)
        except ImageError as error:
            skipped.append((name, str(error)))
            continue
        sizes.append(pixels.shape)
        spans.append(span(image))
        rng = np.random.default_rng([config.seed, number])
        images.append(augment(image, rng, config.flip, config.shift, config.zoom, config.contrast))
        names.append(name)
    if not images:
        raise ValueError(f"{config.data} must hold images that can be read; {skipped[0][0]}: {skipped[0][1]}")
    flat = [number for number, (low, high) in enumerate(spans) if high - low < FLAT_SPAN]
    remarks = [*([found.told] if found.told else []), *flat_remark(names, spans, flat)]
    return Preview(images, names, None, None, skipped, remarks, sizes)


def _sizes(data: str, count: int) -> list[tuple[int, int]]:
    """(height, width) of the first frame of a few files, spread evenly over all of them."""
    files, sizes = scan(data).files, []
    for place in np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int):
        with suppress(ImageError):
            sizes.append(read_frame(files[place]).pixels.shape)
    return sizes


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else path.name
