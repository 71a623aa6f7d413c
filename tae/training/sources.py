"""Where training images come from: the demo data, or files of the user's own.

A source gives each training image a running number, a draw. Which draws make up a step and what each one looks like are
functions of the seed and the number alone, whatever the number of threads or processes that ask.
"""

import hashlib
import os
import threading
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from tae.data.augment import augment
from tae.data.batches import bucketed_draws
from tae.data.decode import ImageError
from tae.data.demo import DemoSource
from tae.data.encode import to_uint8
from tae.data.fit import fit_image
from tae.data.stacks import base_folder, content_digest, count_frames, find_files, frames_are_alike, read_frame
from tae.data.threads import in_order
from tae.store.names import plain_text
from tae.training.config import TrainConfig
from tae.training.split import held_out


class ImageSource(Protocol):
    """Images to train on; its methods may be called from several threads at once."""

    name: str
    """For default names: "demo", or that of the folder or file."""
    data: str
    """In words, for the card."""
    licence: str
    num_images: int | None
    """Training images; None: composed without end."""
    skipped: list[tuple[str, str]]
    """(file name, reason) of each file that could not be read."""

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of which images these are, in order."""
        ...

    def draws(self, step: int, batch_size: int) -> list[int]:
        """The running numbers of one step's images, `step` from 0; of like widths where widths vary."""
        ...

    def image(self, draw: int) -> np.ndarray:
        """(H, W) uint8, augmented.

        Raises:
            ImageError: If its file is gone, has changed, or can no longer be read; the message names it.
        """
        ...

    def describe(self, draw: int) -> str:
        """The name of what that image comes from."""
        ...

    def examples(self, count: int) -> Iterator[np.ndarray]:
        """Up to `count` training images (H, W) uint8, not augmented."""
        ...

    def held_out(self, count: int) -> list[np.ndarray]:
        """Up to `count` images (H, W) uint8 that are never trained on, to watch the training by."""
        ...

    def test(self, count: int) -> list[np.ndarray]:
        """The same for the final figures."""
        ...


def open_source(config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> ImageSource:
    """The images that `config.data` names.

    Args:
        config: The run.
        progress: Called with (files read, files in all) as a folder is read.

    Raises:
        FileNotFoundError: If there are no such files.
        ValueError: If too few of them can be read.
    """
    return (
        DemoSource(config.input_size, config.max_width, config.seed)
        if config.data == "demo"
        else FileSource(config, progress)
    )


class _Scan(NamedTuple):
    """A file as one reading showed it."""

    num_frames: int  # 0: it cannot be read
    widths: list[int]  # of the frames once fitted; a single one where all are equal
    version: tuple[int, int]
    digest: bytes
    fault: str  # why it cannot be read


class FileSource:
    """Training and held-out images from the user's own files: an `ImageSource`.

    Each frame of each file is an image, fitted to the input size: the whole image, padded with its border's grey.
    About one file in ten is held out, by `tae.training.split`; of a single stack the last tenth of the frames. Each epoch is
    a new permutation of the others. What has been read is kept in memory, up to 2 GiB for all processes of a machine; no
    file is kept open.

    Attributes:
        held_out_names: The held-out files, or frames of a single stack.
        num_files: Files found, readable or not.
    """

    licence = "the user's own"
    CACHE_BYTES = 2 * 1024**3

    def __init__(self, config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> None:
        """Read every file once, by as many threads as there are processors; of an array stack, one frame.

        Args:
            config: Its data, sizes, seed, shares of augmentation and of unreadable files.
            progress: Called with (files read, files in all).

        Raises:
            FileNotFoundError: If there is no such folder or file, or nothing fits the pattern.
            ValueError: If fewer than two images can be read, or too many files cannot.
        """
        self._config = config
        self._folder = base_folder(config.data)
        self.name, self.data = _in_words(config.data, self._folder)
        self.skipped: list[tuple[str, str]] = []
        self._names = [path.relative_to(self._folder).as_posix() for path in find_files(config.data)]
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._cache_room = self.CACHE_BYTES // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._lock = threading.Lock()
        self._order = lru_cache(maxsize=2)(self._permutation)

        self._versions = np.zeros((len(self._names), 2), np.int64)
        counts = np.zeros(len(self._names), np.int64)
        self._widths = array("i")  # of all frames; left empty where the width is fixed
        digest = hashlib.sha256()
        scans = in_order(self._scan, range(len(self._names)), workers=os.cpu_count() or 1, ahead=64)
        for number, scan in enumerate(scans):
            name = self._names[number]
            if scan.fault:
                self.skipped.append((_shown(name), scan.fault))
            else:
                counts[number], self._versions[number] = scan.num_frames, scan.version
                digest.update(f"{name}\0{scan.num_frames}\0".encode(errors="surrogateescape") + scan.digest)
                if config.input_size[1] is None:
                    widths = array("i", scan.widths)
                    self._widths += widths if len(widths) == scan.num_frames else widths * scan.num_frames
            if progress:
                progress(number + 1, len(self._names))
        self.fingerprint = digest.hexdigest()
        self._ends = np.cumsum(counts)  # frames of all files up to each, itself included
        self._refuse_too_few()
        self._train, self._held_out = self._split(counts)
        self.num_images: int | None = len(self._train)

    @property
    def num_files(self) -> int:
        return len(self._names)

    @property
    def held_out_names(self) -> list[str]:
        return list(dict.fromkeys(self._name_of(item) for item in self._held_out))

    def draws(self, step: int, batch_size: int) -> list[int]:
        """The running numbers of one step's images; each epoch has every image once, but for the order of buckets."""
        if self._config.input_size[1] is None:
            return bucketed_draws(step, batch_size, self._config.seed, self._width_of, len(self._train))
        return list(range(step * batch_size, (step + 1) * batch_size))

    def image(self, draw: int) -> np.ndarray:
        """(H, W) uint8, augmented.

        Raises:
            ImageError: If the file is gone or has changed since the source was made; the message names it.
        """
        config = self._config
        rng = np.random.default_rng([config.seed, draw, 2])
        return augment(self._load(self._item(draw)), rng, config.flip, config.shift, config.zoom, config.contrast)

    def examples(self, count: int) -> Iterator[np.ndarray]:
        """Up to `count` training images (H, W) uint8, spread evenly over all; not augmented."""
        return (self._load(int(item)) for item in _spread(self._train, count))

    def describe(self, draw: int) -> str:
        """The file's name, and which frame of it where it has several."""
        return self._name_of(self._item(draw))

    def held_out(self, count: int) -> list[np.ndarray]:
        """Up to `count` images (H, W) uint8, spread evenly over those held out; not augmented."""
        return [self._load(int(item)) for item in _spread(self._held_out, count)]

    test = held_out

    def _scan(self, number: int) -> _Scan:
        path = self._folder / self._names[number]
        try:
            found = path.stat()
            digest, count = content_digest(path), count_frames(path)
            tried = 1 if frames_are_alike(path) else count
            widths = []
            for frame in range(tried):
                try:
                    widths.append(self._read(number, frame).shape[1])
                except ImageError as error:
                    raise ImageError(f"frame {frame}: {error}" if count > 1 else str(error)) from None
        except (ImageError, OSError) as error:
            return _Scan(0, [], (0, 0), b"", str(error) if isinstance(error, ImageError) else str(error.strerror))
        return _Scan(count, widths, (found.st_size, found.st_mtime_ns), digest, "")

    def _refuse_too_few(self) -> None:
        num_images, num_bad = int(self._ends[-1]) if len(self._ends) else 0, len(self.skipped)
        allowed = self._config.max_unreadable
        if num_images < 2 or num_bad > allowed * self.num_files:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped[:5])
            raise ValueError(
                f"{self.data} must hold at least two readable images and at most {allowed:.0%} unreadable files, got "
                f"{num_images} readable images and {num_bad} unreadable of {self.num_files} files"
                f"{': ' if reasons else ''}{reasons}"
            )

    def _split(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All items to train on, and all held out."""
        readable = np.flatnonzero(counts)
        if len(readable) == 1:
            first_held_out = int(self._ends[-1]) - max(1, int(self._ends[-1]) // 10)
            return np.arange(first_held_out), np.arange(first_held_out, self._ends[-1])
        is_held_out = np.zeros(len(counts), bool)
        is_held_out[readable] = held_out([self._names[number] for number in readable], self._config.hold_out_by)
        is_held_out = np.repeat(is_held_out, counts)  # frame by frame
        return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._config.seed, epoch]).permutation(self._train)

    def _item(self, draw: int) -> int:
        epoch, position = divmod(draw, len(self._train))
        return int(self._order(epoch)[position])

    def _place(self, item: int) -> tuple[int, int]:
        """The file's number and the frame's."""
        number = int(np.searchsorted(self._ends, item, side="right"))
        return number, item - (int(self._ends[number - 1]) if number else 0)

    def _name_of(self, item: int) -> str:
        number, frame = self._place(item)
        has_more = self._ends[number] - (self._ends[number - 1] if number else 0) > 1
        return _shown(self._names[number]) + (f", frame {frame}" if has_more else "")

    def _width_of(self, draw: int) -> int:
        return self._widths[self._item(draw)]

    def _load(self, item: int) -> np.ndarray:
        number, frame = self._place(item)
        image = self._cache.get((number, frame))
        if image is not None:
            return image
        try:
            found = (self._folder / self._names[number]).stat()
            if (found.st_size, found.st_mtime_ns) != tuple(self._versions[number]):
                raise ImageError("the file has changed since the run began; put it back, or start a new run")
            return self._read(number, frame)
        except OSError as error:
            raise ImageError(f"{self._name_of(item)}: the file cannot be read: {error.strerror}") from None
        except ImageError as error:
            raise ImageError(f"{self._name_of(item)}: {error}") from None

    def _read(self, number: int, frame: int) -> np.ndarray:
        """(H, W) uint8 from the file, kept where there is room."""
        image = read_frame(self._folder / self._names[number], frame)
        fitted = fit_image(image.pixels, self._config.input_size, max_width=self._config.max_width)
        image = to_uint8(fitted.pixels)
        with self._lock:
            if image.nbytes <= self._cache_room and (number, frame) not in self._cache:
                self._cache_room -= image.nbytes
                self._cache[number, frame] = image
        return image


def _spread(items: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of them, evenly."""
    return items[np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def _in_words(data: str, folder: Path) -> tuple[str, str]:
    """A source's name and description; of the path only the last names, since a card travels."""
    path = Path(data).expanduser()
    name = folder.resolve().name or "pictures"
    if path.is_dir():
        return name, f"folder {name}"
    if path.is_file():
        return path.stem, f"file {path.name}"
    return name, f"files {path.relative_to(folder).as_posix()} of folder {name}"


def _shown(name: str) -> str:
    """A file's name that may be printed anywhere, whatever bytes it is made of."""
    return plain_text(name, limit=200)
