"""Data that outgrow a folder: tar shards as WebDataset writes them, and data sets of Hugging Face's `datasets`.

Neither is read through before the first step: of a shard the headers are, of a data set the length. So a file that cannot be
read shows when its turn comes; another image stands in for it, and it is told at the end. Any image can be asked for by its
number, so a run is resumed, and shared out over processes, exactly as with a folder.
"""

import glob
import hashlib
import io
import os
import re
import tarfile
from array import array
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tae.data.decode import SUFFIXES, format_of, has_8_bits, read_image
from tae.data.encode import to_uint8
from tae.data.fit import fit_image
from tae.data.limits import ImageError, check_bytes
from tae.data.stacks import content_digest, opened
from tae.data.white import White, is_narrow
from tae.store.names import natural_order, plain_text
from tae.training.config import TrainConfig
from tae.training.images.items import ItemSource

TAR, HUB = "wds:", "hf:"
"""What `--data` begins with."""
SAMPLED = 64
"""Images that tell which number is white in all."""
LEAST_HELD_OUT, MOST_HELD_OUT = 8, 5000


class _Unread(ItemSource):
    """Items that are read when their turn comes."""

    def __init__(self, config: TrainConfig, name: str, count: int, held_out: np.ndarray | None = None) -> None:
        """Args: the run; the name of the data; how many items; those held out, None: a tenth by chance."""
        if count < 2:
            raise ValueError(f"{config.data} must hold at least two images, got {count}")
        self.name, self.skipped = name, []
        if held_out is None:
            # The same for any seed of the run, so that a model is never measured on what another one learnt from.
            most = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, count // 10), count - 1)
            held_out = np.sort(np.random.default_rng(0).permutation(count)[:most])
        super().__init__(config, np.setdiff1d(np.arange(count), held_out), held_out)
        if not len(self._train) or not len(self._held_out):
            raise ValueError(
                f"{config.data} must have images to train on and images to hold out, got {len(self._train)} and "
                f"{len(self._held_out)}"
            )
        self._limit = max(10, config.max_unreadable * count)
        self._width = lru_cache(maxsize=50_000)(self._fitted_width)
        self.white = self._decided(White(config.white), count)
        self.remarks = [f"{kind}: {ends.why}" for kind, ends in self.white.decided if ends.why]

    def _decided(self, white: White, count: int) -> White:
        """Which number is white, from a sample: more than that is not read before the first step."""
        found = []
        for item in np.linspace(0, count - 1, min(SAMPLED, count)).round().astype(int).tolist():
            try:
                raw = self._bytes(item)
                if white.choice == "stretch" or not has_8_bits(raw[:64]):
                    found.append(read_image(raw, shown_side=1).extent)
            except ImageError:
                continue
        extents = (one for one in found if one and (white.choice == "stretch" or not is_narrow(one.kind)))
        return white.decide(extents)

    def _bytes(self, item: int) -> bytes:
        """The file's content."""
        raise NotImplementedError

    def _load(self, item: int) -> np.ndarray:
        own = self._held_out if item in self._held_out else self._train  # another of the same split stands in
        for number in (item, *(int(own[(item + step) % len(own)]) for step in range(1, 100))):
            try:
                pixels = read_image(self._bytes(number), white=self.white, shown_side=1).pixels
                fitted = fit_image(pixels, self._config.input_size, self._config.fit, self._config.max_width)
                return to_uint8(fitted.pixels)
            except ImageError as error:
                told = (self._name_of(number), str(error))
                if told not in self.skipped:
                    self.skipped.append(told)
                if len(self.skipped) > self._limit:
                    break
        name, reason = self.skipped[-1]
        raise ImageError(
            f"{name}: {reason}; {len(self.skipped)} images could not be read, more than --max-unreadable allows"
        )

    def _width_of(self, item: int) -> int:
        return self._width(item)

    def _fitted_width(self, item: int) -> int:
        """From the file's head alone; of an image that cannot be read the height."""
        height = self._config.input_size[0]
        try:
            raw = self._bytes(item)
            if format_of(raw[:64]) in (None, "NPY"):
                return height
            with Image.open(io.BytesIO(raw)) as image:
                wide, high = image.size[:: -1 if image.getexif().get(0x0112, 1) >= 5 else 1]
            return min(self._config.max_width, max(1, round(wide * height / high)))
        except Exception:  # broken heads make their parsers raise nearly anything
            return height


class TarSource(_Unread):
    """The images of tar shards: an `ImageSource`.

    `wds:shards/drops-{0000..0099}.tar`, or a pattern or folder: images are the members with an image's ending, whatever lies
    beside them. `--hold-out-by folder` holds out whole shards, the last tenth of them.
    """

    def __init__(self, config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> None:
        """Read the headers of all shards. Raises FileNotFoundError if there is none, ValueError if one is no tar file."""
        self._paths = shards_of(config.data.removeprefix(TAR))
        self._versions: list[tuple[int, int]] = []
        shards, starts, sizes = array("i"), array("q"), array("q")
        names, digest = [], hashlib.sha256()
        for number, path in enumerate(self._paths):
            digest.update(path.name.encode() + content_digest(path))
            with open(path, "rb") as file:
                self._versions.append(_version(file))
            try:
                with tarfile.open(path, "r:") as archive:
                    for member in archive:
                        if member.isreg() and Path(member.name).suffix.lower() in SUFFIXES:
                            shards.append(number)
                            starts.append(member.offset_data)
                            sizes.append(member.size)
                            names.append(member.name)
                            told = (member.name, member.offset_data, member.size, member.mtime)
                            digest.update(repr(told).encode(errors="surrogateescape"))
                            archive.members = []  # type: ignore[attr-defined]  # which it would keep, a kilobyte each
            except tarfile.TarError as error:
                raise ValueError(f"{path.name} must be a tar file that is not compressed: {error}") from None
            if progress:
                progress(number + 1, len(self._paths))
        self._shards, self._starts, self._sizes = np.array(shards), np.array(starts), np.array(sizes)
        self._names, self.fingerprint = names, digest.hexdigest()
        self.data = f"{len(self._paths)} tar shard{'s' if len(self._paths) > 1 else ''} {self._paths[0].name} ..."
        held_out = None
        if config.hold_out_by == "folder":
            first = len(self._paths) - max(1, len(self._paths) // 10)
            held_out = np.flatnonzero(self._shards >= first)
        super().__init__(config, re.sub(r"[\W\d_]+$", "", self._paths[0].stem) or "shards", len(names), held_out)

    def _bytes(self, item: int) -> bytes:
        check_bytes(int(self._sizes[item]))
        try:
            with open(self._paths[self._shards[item]], "rb") as file:
                if _version(file) != self._versions[self._shards[item]]:
                    raise ValueError(
                        f"{self._name_of(item)}: the shard has changed since the run began; start a new run"
                    )
                file.seek(int(self._starts[item]))
                return file.read(int(self._sizes[item]))
        except OSError as error:
            raise ImageError(f"the shard cannot be read: {error.strerror}") from None

    def _name_of(self, item: int) -> str:
        return plain_text(f"{self._paths[self._shards[item]].name}/{self._names[item]}", limit=200)


class HubSource(_Unread):
    """The images of a data set of Hugging Face's `datasets`, which must be installed: an `ImageSource`.

    `hf:path/saved_by_save_to_disk`, or `hf:name/of/one` as `load_dataset` knows it, with `#column` behind it where several
    hold images. Its split "train" is trained on; "validation", or else "test", is held out, or a tenth where there is none.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Raises ValueError if the package or a column of images is missing."""
        try:
            import datasets  # type: ignore[import-not-found]
        except ImportError:
            raise ValueError(
                f"{config.data} needs the package datasets, which is not installed: pip install datasets"
            ) from None
        place, _, column = config.data.removeprefix(HUB).partition("#")
        folder = Path(place).expanduser()
        try:
            found: Any = datasets.load_from_disk(str(folder)) if folder.is_dir() else datasets.load_dataset(place)
        except Exception as error:  # of kinds of its own
            raise ValueError(f"{config.data} cannot be opened: {str(error)[:300]}") from error
        splits = found if isinstance(found, dict) else {"train": found}
        parts = [splits.get("train"), splits.get("validation", splits.get("test"))]
        if parts[0] is None:
            raise ValueError(f"{config.data} must have a split train, got {', '.join(splits)}")
        features = parts[0].features
        columns = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        if (column and column not in columns) or not columns or (len(columns) > 1 and not column):
            raise ValueError(
                f"{config.data} must name a column of images, as in {HUB}{place}#{columns[0] if columns else 'image'}; "
                f"it has {', '.join(columns) or 'none'}"
            )
        self._column = column or columns[0]
        self._parts = [
            part.cast_column(self._column, datasets.Image(decode=False)) for part in parts if part is not None
        ]
        self._first = len(parts[0])
        self.fingerprint = hashlib.sha256(
            repr([(part._fingerprint, len(part)) for part in self._parts]).encode()
        ).hexdigest()
        self.data = f"data set {Path(place).name}"
        held_out = np.arange(self._first, sum(map(len, self._parts))) if len(self._parts) > 1 else None
        super().__init__(config, Path(place).name, sum(map(len, self._parts)), held_out)

    def _place(self, item: int) -> tuple[Any, int]:
        return (self._parts[0], item) if item < self._first else (self._parts[1], item - self._first)

    def _bytes(self, item: int) -> bytes:
        part, row = self._place(item)
        image = part[row][self._column]
        if image is None:
            raise ImageError("there is no image in this row")
        if image["bytes"] is None:
            with opened(Path(image["path"])) as (file, size):
                check_bytes(size)
                return file.read(size)
        check_bytes(len(image["bytes"]))
        return image["bytes"]

    def _name_of(self, item: int) -> str:
        part, row = self._place(item)
        return plain_text(f"{part.split or 'train'} {row}", limit=200)


def _version(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def shards_of(pattern: str) -> list[Path]:
    """Files of a folder, a pattern, or names with ranges such as {000..099}, in natural order.

    Raises:
        FileNotFoundError: If there is none.
    """
    place = Path(pattern).expanduser()
    if place.is_dir():
        found = [*place.glob("*.tar")]
    elif span := re.search(r"\{(\d+)\.\.(\d+)\}", pattern):
        first, last = span.groups()
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        found = [Path(pattern[: span.start()] + number + pattern[span.end() :]).expanduser() for number in numbers]
    else:
        found = [Path(name) for name in glob.glob(str(place))]
    missing = next((path for path in found if not path.is_file()), None)
    if not found or missing:
        raise FileNotFoundError(
            f"{missing or pattern}: there is no such shard; give a folder of .tar files, or a pattern"
        )
    return sorted(found, key=lambda path: natural_order(path.as_posix()))
