"""A visitor's uploads on disk, as they were dropped: for a day, in a folder that only the visitor's secret names.

What a secret opens are batches, the files of one drop each. A batch is there whole or not at all; strangers' names are data
beside the files, never names of files. The oldest batches of all visitors go where there would be too much.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tae.store.regular import read_json

MAX_BYTES = 6 * 1024**3
"""Most bytes of one visitor."""
MAX_ALL_BYTES = 24 * 1024**3
"""Most bytes of all together."""
_NAMES = "names.json"


class LockerError(ValueError):
    """A drop is not kept: one sentence for its user, without a path."""


def hours_kept() -> float:
    """How long a drop is kept: TAE_KEEP_HOURS, or a day."""
    try:
        hours = float(os.environ.get("TAE_KEEP_HOURS", ""))
    except ValueError:
        hours = 0.0
    return hours if 0 < hours < 10_000 else 24.0


@dataclass(frozen=True)
class Kept:
    """One file of a drop."""

    name: str  # as it was dropped; a stranger's text
    path: Path

    @property
    def size(self) -> int:
        """Bytes of the file. Raises OSError if it is gone."""
        return self.path.stat().st_size

    def getvalue(self) -> bytes:
        """Its content. Raises OSError if it is gone."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Batch:
    """What was dropped at once."""

    folder: Path
    files: tuple[Kept, ...]


class Locker:
    """The folder that a secret opens.

    Args:
        home: Where those of all visitors lie; made with the first drop.
        secret: The visitor's, hard to guess; no name on the disk tells it.
    """

    def __init__(self, home: Path, secret: str) -> None:
        self._home = home
        self._folder = home / hashlib.sha256(secret.encode()).hexdigest()[:32]

    def put(self, kind: str, files: Sequence[tuple[str, bytes]]) -> Batch:
        """Keep the files of one drop, (name, content) each.

        Args:
            kind: By which `batches` finds them: lower-case letters.
            files: Names are kept as they are, order too.

        Raises:
            LockerError: If there is no room for them, or the disk fails.
        """
        size = sum(len(content) for _, content in files)
        held = sum(_size(batch) for batch in _batches(self._folder))
        if held + size > MAX_BYTES:
            raise LockerError(
                f"at most {MAX_BYTES // 1024**3} GB of uploads are kept for {hours_kept():g} hours, and "
                f"{held / 1024**3:.1f} GB are; remove some first"
            )
        sweep(self._home, size)
        place = self._folder / f"{time.time_ns():020}-{kind}-{uuid.uuid4().hex[:8]}"
        beside = place.with_name(f".{place.name}")
        try:
            beside.mkdir(parents=True, mode=0o700)
            for number, (_, content) in enumerate(files):
                (beside / f"{number:06}").write_bytes(content)
            (beside / _NAMES).write_text(json.dumps([name for name, _ in files]), encoding="utf-8")
            beside.rename(place)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise LockerError(f"cannot be kept on the disk: {error.strerror or 'it failed'}") from error
        return Batch(place, tuple(Kept(name, place / f"{number:06}") for number, (name, _) in enumerate(files)))

    def batches(self, kind: str) -> list[Batch]:
        """The drops of a kind, in the order in which they came; what is too old, or damaged, is none."""
        sweep(self._home)
        found = []
        for folder in _batches(self._folder):
            if folder.name.split("-")[1] == kind:
                try:
                    names = read_json(folder / _NAMES)
                    files = tuple(Kept(str(name), folder / f"{number:06}") for number, name in enumerate(names))
                    if all(file.path.is_file() for file in files):
                        found.append(Batch(folder, files))
                except (OSError, ValueError, TypeError):
                    continue
        return found

    def remove(self, kind: str) -> None:
        """Delete the drops of a kind."""
        for folder in _batches(self._folder):
            if folder.name.split("-")[1] == kind:
                shutil.rmtree(folder, ignore_errors=True)


def discard(batch: Batch) -> None:
    """Delete one drop."""
    shutil.rmtree(batch.folder, ignore_errors=True)


def sweep(home: Path, room: int = 0, now: float | None = None) -> None:
    """Delete drops that are too old, then the oldest until there is room for so many bytes more."""
    oldest = (time.time() if now is None else now) - 3600 * hours_kept()
    held: list[tuple[str, Path, int]] = []
    for locker in _folders(home):
        for folder in [*_batches(locker), *locker.glob(".*-*-*")]:  # the latter were never finished
            if _born(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                held.append((folder.name.lstrip("."), folder, _size(folder)))
        try:
            if locker.stat().st_mtime < oldest:  # not one that is just being filled
                locker.rmdir()  # only an empty one goes
        except OSError:
            continue
    total = sum(size for _, _, size in held)
    for _, folder, size in sorted(held):
        if total + room <= MAX_ALL_BYTES:
            break
        shutil.rmtree(folder, ignore_errors=True)
        total -= size


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # there is none yet
        return


def _batches(locker: Path) -> list[Path]:
    """In the order in which they came."""
    return [folder for folder in _folders(locker) if folder.name[:1].isdigit() and folder.name.count("-") == 2]


def _born(folder: Path) -> float:
    digits = folder.name.lstrip(".").split("-")[0]
    return int(digits) / 1e9 if digits.isdigit() else 0.0


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # another visitor's page is just deleting it
        return 0
