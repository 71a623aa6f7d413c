"""The index of the files that a run learns from: what one reading of each showed. It is kept in the run's folder and sent to
the other processes, so that a folder is read through once, by one of them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tae.data.limits import ImageError
from tae.data.stacks import content_digest, count_frames, extents, frames_are_alike
from tae.data.threads import in_order
from tae.data.white import Extent, White, is_narrow
from tae.store.atomic import write_whole
from tae.store.regular import read_regular

FILE_NAME = "index.safetensors"
MAX_BYTES = 2 * 1024**3
FLAT = "almost all one grey"
FLAT_SPAN = 12
"""An image whose greys, but for one pixel in 200, lie so close together of 255 is almost all one grey."""
ReadFrame = Callable[[int, int], tuple[np.ndarray, Extent | None]]
"""(number of a file, frame) -> its pixels (H, W) uint8, fitted to the model's size, and what its numbers are."""


class Changed(NamedTuple):
    """What one processor found where its files are not those of an index: how many, and the first of them in words."""

    count: int
    first: str


@dataclass(frozen=True)
class FileIndex:
    """Files by number, in the order of their names.

    Attributes:
        names: Relative to the data's folder, with forward slashes.
        versions: (n, 2) int64: size in bytes, time of change in nanoseconds.
        digests: (n, 32) uint8, of the content.
        counts: (n,) int64: frames; 0 where the file cannot be read.
        widths: int32, in pixels, of all frames once fitted; (0,) where the width is fixed.
        ranges: (n, 2) uint8: darkest and brightest grey of the frames that were read, once fitted, but for one pixel in 400 each.
        faults: Why files cannot be read, by number.
        fitted_to: The sizes, and the choice of white, that widths and ranges hold for.
        extents: (number of a file, what its numbers are), of files whose type alone does not say which number is white.
    """

    names: list[str]
    versions: np.ndarray
    digests: np.ndarray
    counts: np.ndarray
    widths: np.ndarray
    ranges: np.ndarray
    faults: dict[int, str]
    fitted_to: str
    extents: list[tuple[int, Extent]]

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of names, numbers of frames and contents of those that can be read, in order."""
        digest = hashlib.sha256()
        for number in np.flatnonzero(self.counts):
            digest.update(f"{self.names[number]}\0{self.counts[number]}\0".encode(errors="surrogateescape"))
            digest.update(self.digests[number].tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """The whole as a safetensors file."""
        extents = [[number, *astuple(extent)] for number, extent in self.extents]
        told = json.dumps([self.fitted_to, list(self.faults.items()), extents])
        texts = {"names": "\0".join(self.names).encode(errors="surrogateescape"), "told": told.encode()}
        arrays = {name: getattr(self, name) for name in ("versions", "digests", "counts", "widths", "ranges")}
        return save(arrays | {name: np.frombuffer(text, np.uint8) for name, text in texts.items()})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The inverse of `to_bytes`. Raises ValueError if it is not such a file."""
        try:
            arrays = load(raw)
            names = arrays.pop("names").tobytes().decode(errors="surrogateescape").split("\0")
            fitted_to, faults, told = json.loads(arrays.pop("told").tobytes())
            extents = [(number, Extent(*extent)) for number, *extent in told]
            found = cls(names=names, faults=dict(faults), fitted_to=fitted_to, extents=extents, **arrays)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"not an index of files: {error}") from None
        if {len(array) for array in (found.versions, found.digests, found.counts, found.ranges)} != {len(names)}:
            raise ValueError("not an index of files: it does not tell the same of all")
        return found

    def white(self, choice: str) -> White:
        """Which number is white in all of these files, by a choice of `tae.data.white`."""
        return White(choice).decide((extent for _, extent in self.extents), int(self.counts.sum()))

    @property
    def flat(self) -> list[int]:
        """Numbers of the files that are almost all one grey."""
        spans = self.ranges[:, 1].astype(int) - self.ranges[:, 0]
        return np.flatnonzero((self.counts > 0) & (spans < FLAT_SPAN)).tolist()

    def at(self, folder: Path, share: tuple[int, int] = (0, 1)) -> tuple[Self, Changed]:
        """The index for a machine that has the same files under this folder, perhaps as copies of other times.

        Sizes are compared for all files, and contents where the time of change is another.

        Args:
            folder: The data's folder.
            share: (k, n): contents are read of each n-th differing file alone, from the k-th; other processes read the rest.
        """
        versions, changed = self.versions.copy(), []
        for number in np.flatnonzero(self.counts):
            path = folder / self.names[number]
            try:
                found = path.stat()
                versions[number] = found.st_size, found.st_mtime_ns
                if found.st_size != self.versions[number, 0]:
                    raise ImageError(f"it has {found.st_size} bytes, and {self.versions[number, 0]} where it was read")
                is_copy = found.st_mtime_ns != self.versions[number, 1]
                if is_copy and number % share[1] == share[0] and content_digest(path) != self.digests[number].tobytes():
                    raise ImageError("its content is another than where it was read")
            except (OSError, ImageError) as error:
                changed.append(f"{self.names[number]}: {error.strerror if isinstance(error, OSError) else error}")
        return replace(self, versions=versions), Changed(len(changed), changed[0] if changed else "")


def index_files(
    folder: Path,
    names: Sequence[str],
    read: ReadFrame,
    fitted_to: tuple[int | str | None, ...],
    choice: str = "file",
    known: FileIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FileIndex:
    """Read every file once, by as many threads as there are processors; of an array stack, one frame.

    Args:
        folder: The data's folder.
        names: The files in it, in order.
        read: Reads a frame.
        fitted_to: Height, width or None, widest width, and how images come to them where they are not padded.
        choice: Which number is white, a choice of `tae.data.white`.
        known: An earlier index: files that are as they were are not read again.
        progress: Called with (files done, files in all).
    """
    keeps_widths, words = fitted_to[1] is None, f"{fitted_to!r} {choice}"
    before = {} if known is None or known.fitted_to != words else _rows(known)

    def scan(number: int) -> _Row:
        name, path = names[number], folder / names[number]
        try:
            found = path.stat()
            version = (found.st_size, found.st_mtime_ns)
            if name in before and before[name].version == version:
                return before[name]
            digest, count = content_digest(path), count_frames(path)
            widths, low, high = [], 255, 0
            of_kind: dict[str, Extent] = {}
            is_array = frames_are_alike(path)
            for frame in range(1 if is_array else count):
                try:
                    pixels, extent = read(number, frame)
                except ImageError as error:
                    raise ImageError(f"frame {frame}: {error}" if count > 1 else str(error)) from None
                widths.append(pixels.shape[1])
                dark, bright = span(pixels)
                low, high = min(low, dark), max(high, bright)
                for one in extents(path, White(choice)) if is_array else [extent] if extent else []:
                    if choice == "stretch" or not is_narrow(one.kind):
                        of_kind[one.kind] = of_kind[one.kind] | one if one.kind in of_kind else one
        except (ImageError, OSError) as error:
            return _Row((0, 0), fault=str(error) if isinstance(error, ImageError) else str(error.strerror))
        row = _Row(version, digest, count, range=(low, high), extents=tuple(of_kind.values()))
        return row._replace(widths=np.array(widths * (count // len(widths)), np.int32)) if keeps_widths else row

    rows = []
    for row in in_order(scan, range(len(names)), workers=os.cpu_count() or 1, ahead=64):
        rows.append(row)
        if progress:
            progress(len(rows), len(names))
    told = [(number, extent) for number, row in enumerate(rows) for extent in row.extents]
    white = White(choice).decide(extent for _, extent in told)
    rows = [row if row.is_settled else _settled(row, White(choice), white) for row in rows]
    return FileIndex(
        [*names],
        np.array([row.version for row in rows], np.int64).reshape(-1, 2),
        np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 32),
        np.array([row.count for row in rows], np.int64),
        np.concatenate([np.zeros(0, np.int32), *(row.widths for row in rows)]),
        np.array([row.range for row in rows], np.uint8).reshape(-1, 2),
        {number: row.fault for number, row in enumerate(rows) if row.fault},
        words,
        told,
    )


def flat_remark(names: Sequence[str], spans: Sequence[tuple[int, int]], flat: Sequence[int]) -> list[str]:
    """A sentence where images are almost all one grey: names, spans of their greys, and the numbers of those that are."""
    if not flat or len(flat) < 0.1 * len(names):
        return []
    low, high = spans[flat[0]]
    return [
        f"{len(flat)} of {len(names)} files are {FLAT}, such as {names[flat[0]]}, whose greys go from {low} to {high} of 255: "
        "little can be learnt from them; look whether --white stretch, or black..white such as 0..4095, shows what is in them"
    ]


def span(pixels: np.ndarray) -> tuple[int, int]:
    """Darkest and brightest grey of uint8, but for one pixel in 400 each."""
    shares = np.cumsum(np.bincount(pixels.ravel(), minlength=256)) / pixels.size
    return int(np.searchsorted(shares, 1 / 400)), int(np.searchsorted(shares, 1 - 1 / 400))


def _settled(row: "_Row", own: White, white: White) -> "_Row":
    """A file's greys once all files have decided which number is white, in place of itself."""
    if len(row.extents) != 1:
        return row
    (extent,) = row.extents
    before, after = own.ends(extent), white.ends(extent)
    numbers = before.black + np.array(row.range) / 255 * (before.white - before.black)
    low, high = sorted(np.round(after(numbers) * 255).astype(int).tolist())
    return row._replace(range=(low, high), is_settled=True)


def read_index(folder: Path) -> FileIndex | None:
    """The index of a run's folder; None where there is none that can be read."""
    try:
        return FileIndex.from_bytes(read_regular(folder / FILE_NAME, MAX_BYTES))
    except (OSError, ValueError):
        return None


def write_index(folder: Path, index: FileIndex) -> None:
    """Keep it in a run's folder. Raises OSError if it cannot be written."""
    write_whole(folder / FILE_NAME, [index.to_bytes()])


class _Row(NamedTuple):
    """One file of an index."""

    version: tuple[int, int]
    digest: bytes = bytes(32)
    count: int = 0
    widths: np.ndarray = np.zeros(0, np.int32)
    range: tuple[int, int] = (0, 0)
    extents: tuple[Extent, ...] = ()
    is_settled: bool = False
    """Whether `range` is that which all files have decided."""
    fault: str = ""


def _rows(index: FileIndex) -> dict[str, _Row]:
    """The rows of the files that could be read, by name."""
    extents: dict[int, tuple[Extent, ...]] = {}
    for number, extent in index.extents:
        extents[number] = (*extents.get(number, ()), extent)
    ends = np.cumsum(index.counts) if len(index.widths) else np.zeros(len(index.names), np.int64)
    return {
        name: _Row(
            tuple(index.versions[number].tolist()),
            index.digests[number].tobytes(),
            int(index.counts[number]),
            index.widths[ends[number] - index.counts[number] : ends[number]] if len(index.widths) else index.widths,
            tuple(index.ranges[number].tolist()),
            extents.get(number, ()),
            True,
        )
        for number, name in enumerate(index.names)
        if index.counts[number]
    }
