"""Where training images come from: composed or simulated ones, or files of the user's own.

A source gives each training image a running number, a draw. Which draws make up a step and what each one looks like are
functions of the seed and the number alone, whatever the number of threads or processes that ask.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from tae.analysis.numbers import percent
from tae.data.built_in import BUILT_IN
from tae.data.encode import to_uint8
from tae.data.fit import fit_image
from tae.data.limits import ImageError
from tae.data.stacks import base_folder, read_frame, scan
from tae.data.white import Extent, White, is_narrow
from tae.store.names import plain_text
from tae.training.config import TrainConfig
from tae.training.distributed import World
from tae.training.images.index import FileIndex, flat_remark, index_files, read_index
from tae.training.images.items import ItemSource
from tae.training.images.shards import HUB, TAR, HubSource, TarSource
from tae.training.images.split import held_out


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
    white: White
    """Which number is white in all files, where their type alone does not say it."""
    remarks: list[str]
    """Sentences on what is odd about the images, for whoever starts a training."""

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


def open_source(
    config: TrainConfig, progress: Callable[[int, int], None] | None = None, known: FileIndex | None = None
) -> ImageSource:
    """The images that `config.data` names.

    Args:
        config: The run.
        progress: Called with (files read, files in all) as a folder is read.
        known: An index that its files had earlier, if any.

    Raises:
        FileNotFoundError: If there are no such files.
        ValueError: If too few of them can be read.
    """
    if config.data in BUILT_IN:
        return BUILT_IN[config.data](config.input_size, config.max_width, config.seed)
    if config.data.startswith(TAR):
        return TarSource(config, progress)
    if config.data.startswith(HUB):
        return HubSource(config)
    return FileSource(config, progress, known)


def open_for_all(
    config: TrainConfig, world: World, folder: Path, progress: Callable[[int, int], None] | None = None
) -> ImageSource:
    """`open_source` for the processes of a training: rank 0 reads the files, and the others look whether theirs are the same.

    Args:
        config: The run; resumed, it reads only files that are not in the index of its folder, or have changed since.
        world: Its processes.
        folder: The run's folder, which may not be there yet.
        progress: As for `open_source`; on rank 0.

    Raises:
        FileNotFoundError, ValueError: As `open_source` does, and if a process has other files; the message names one.
    """

    def read() -> ImageSource | None:
        known = read_index(folder) if config.resume else None
        return open_source(config, progress, known) if world.is_main else None

    source = world.patiently(read)
    raw = world.shared(source.index.to_bytes() if isinstance(source, FileSource) else b"")

    def read_too() -> tuple[ImageSource, str]:
        if source is not None:
            return source, ""
        if not raw:
            return open_source(config), ""
        local = [int(os.environ.get(name, "0")) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")]
        index, changed = FileIndex.from_bytes(raw).at(base_folder(config.data), (local[0], max(1, local[1])))
        told = f"{changed.count} that differ, such as {_shown(changed.first)}" if changed.count else ""
        return FileSource(config, index=index), told

    source, fault = world.patiently(read_too)
    world.must_be_fine("all processes must find the same files", fault)
    world.must_agree("images", {"fingerprint": source.fingerprint[:16]})
    return source


class FileSource(ItemSource):
    """Training and held-out images from the user's own files: an `ImageSource`.

    Each frame of each file is an image, fitted to the input size: the whole image, padded with its border's grey.
    About one file in ten is held out, by `tae.training.images.split`; of a single stack the last tenth of the frames. What has
    been read is kept in memory, up to 2 GiB for all processes of a machine; no file is kept open.

    Attributes:
        held_out_names: The held-out files, or frames of a single stack.
        num_files: Files found, readable or not.
        index: What reading them showed.
        white: Which number is white in all of them, where their type alone does not say it.
        remarks: Sentences on what is odd: files passed over, images that are almost all one grey.
    """

    CACHE_BYTES = 2 * 1024**3

    def __init__(
        self,
        config: TrainConfig,
        progress: Callable[[int, int], None] | None = None,
        known: FileIndex | None = None,
        index: FileIndex | None = None,
    ) -> None:
        """Read every file once, unless there is an index of them.

        Args:
            config: Its data, sizes, seed, shares of augmentation and of unreadable files.
            progress: Called with (files read, files in all).
            known: An index that the files had earlier: those that are as they were are not read again.
            index: That of these very files; none is read.

        Raises:
            FileNotFoundError: If there is no such folder or file, or nothing fits the pattern.
            ValueError: If fewer than two images can be read, or too many files cannot.
        """
        self._config = config
        self._folder = base_folder(config.data)
        self.name, self.data = _in_words(config.data, self._folder)
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._cache_room = self.CACHE_BYTES // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._lock = threading.Lock()
        self.white, self.remarks = White(config.white), []
        if index is None:
            found = scan(config.data)
            self.remarks += [found.told] if found.told else []
            self._names = found.names
            fitted_to = (*config.input_size, config.max_width, *([config.fit] if config.fit != "pad" else []))
            index = index_files(self._folder, self._names, self._look, fitted_to, config.white, known, progress)
        self.index, self._names = index, index.names
        self.white = index.white(config.white)
        self.remarks += _remarks(index, self.white)
        self.fingerprint = index.fingerprint
        self.skipped: list[tuple[str, str]] = [(_shown(self._names[n]), fault) for n, fault in index.faults.items()]
        self._ends = np.cumsum(index.counts)  # frames of all files up to each, itself included
        self._refuse_too_few()
        super().__init__(config, *self._split(index.counts))

    @property
    def num_files(self) -> int:
        """Files found, readable or not."""
        return len(self._names)

    def _refuse_too_few(self) -> None:
        num_images, num_bad = int(self._ends[-1]) if len(self._ends) else 0, len(self.skipped)
        allowed = self._config.max_unreadable
        if num_images < 2 or num_bad > allowed * self.num_files:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped[:5])
            raise ValueError(
                f"{self.data} must hold at least two readable images"
                f"{f' and at most {percent(allowed)} unreadable files' if allowed < 1 else ''}, got "
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

    def _place(self, item: int) -> tuple[int, int]:
        """The file's number and the frame's."""
        number = int(np.searchsorted(self._ends, item, side="right"))
        return number, item - (int(self._ends[number - 1]) if number else 0)

    def _name_of(self, item: int) -> str:
        number, frame = self._place(item)
        has_more = self._ends[number] - (self._ends[number - 1] if number else 0) > 1
        return _shown(self._names[number]) + (f", frame {frame}" if has_more else "")

    def _width_of(self, item: int) -> int:
        return int(self.index.widths[item])

    def _load(self, item: int) -> np.ndarray:
        number, frame = self._place(item)
        image = self._cache.get((number, frame))
        if image is not None:
            return image
        try:
            found = (self._folder / self._names[number]).stat()
            if (found.st_size, found.st_mtime_ns) != tuple(self.index.versions[number]):
                raise ImageError("the file has changed since the run began; put it back, or start a new run")
            return self._read(number, frame)
        except OSError as error:
            raise ImageError(f"{self._name_of(item)}: the file cannot be read: {error.strerror}") from None
        except ImageError as error:
            raise ImageError(f"{self._name_of(item)}: {error}") from None

    def _read(self, number: int, frame: int) -> np.ndarray:
        """(H, W) uint8 from the file, kept where there is room."""
        return self._look(number, frame, True)[0]

    def _look(self, number: int, frame: int, is_decided: bool = False) -> tuple[np.ndarray, Extent | None]:
        """The same, and what its numbers are; before it is decided which of them is white, only what cannot change is kept."""
        image = read_frame(self._folder / self._names[number], frame, self.white)
        fitted = fit_image(image.pixels, self._config.input_size, self._config.fit, self._config.max_width)
        pixels = to_uint8(fitted.pixels)
        if is_decided or image.extent is None or (is_narrow(image.extent.kind) and self._config.white != "stretch"):
            with self._lock:
                if pixels.nbytes <= self._cache_room and (number, frame) not in self._cache:
                    self._cache_room -= pixels.nbytes
                    self._cache[number, frame] = pixels
        return pixels, image.extent


def _remarks(index: FileIndex, white: White) -> list[str]:
    """What was decided on white, and which images are almost all one grey."""
    said = [f"{kind}: {ends.why}" for kind, ends in white.decided if ends.why]
    return said + flat_remark([*map(_shown, index.names)], index.ranges.tolist(), index.flat)


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
