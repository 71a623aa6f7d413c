"""Images and ZIPs dropped onto the app: kept in a folder under generated names until a run takes them.

What they were called decides nothing but their order; each is read before it is written, so that a run finds images.
"""

import hashlib
import re
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tae.data.archive import ArchiveError, keep, unpack_images
from tae.data.limits import ImageError
from tae.data.stacks import count_frames
from tae.store.names import natural_order, plain_text
from tae.store.refusals import log_refused
from tae.store.regular import parse_json, to_json
from tae.training.run.runs import FOLDER

MAX_DROPPED = 10_000
"""Images, or ZIPs, dropped one by one."""
MAX_DROPPED_BYTES = 4 * 1024**3
FORGOTTEN_S = 24 * 3600
"""So long after its last image, a folder that no run has taken is removed."""

_START = ".dropped-"


@dataclass
class Dropped:
    """The files that a session has dropped so far.

    Attributes:
        folder: Where it lies, beside the runs.
        num_images: Images in it.
        num_files: Images and ZIPs that were kept.
        size_bytes: Size of these as they came.
        problems: One sentence for each file, or member of a ZIP, that is not among them.
    """

    folder: Path
    num_images: int = 0
    num_files: int = 0
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)


def begin(checkpoints: Path) -> Dropped:
    """An empty folder; those that were forgotten long ago are removed.

    Raises:
        OSError: If it cannot be made.
    """
    home = checkpoints / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob(f"{_START}*"):
        try:
            if time.time() - old.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue
    folder = home / f"{_START}{uuid.uuid4().hex}"
    folder.mkdir()
    return Dropped(folder)


def add(
    dropped: Dropped, files: Sequence[tuple[str, bytes]], progress: Callable[[int, int], None] | None = None
) -> None:
    """Keep the images of these files, in the natural order of their names; `dropped` says what became of them.

    Args:
        dropped: What they are added to.
        files: (name, content) of images and ZIPs.
        progress: Called with (files read, files in all).

    Raises:
        OSError: If they cannot be written.
    """
    dropped.problems = []
    for number, (name, content) in enumerate(sorted(files, key=lambda file: natural_order(file[0])), start=1):
        shown = plain_text(name)
        if dropped.num_files >= MAX_DROPPED or dropped.size_bytes + len(content) > MAX_DROPPED_BYTES:
            dropped.problems.append(
                f"{shown}: at most {MAX_DROPPED} files and {MAX_DROPPED_BYTES // 1024**3} GB can be dropped; type the "
                "folder in which they lie instead"
            )
            continue
        try:
            dropped.num_images += _keep(dropped, name, content)
        except (ImageError, ArchiveError) as error:
            log_refused(hashlib.sha256(content).hexdigest(), Path(name).suffix[:8], len(content), error)
            dropped.problems.append(f"{shown}: {error}")
        else:
            dropped.num_files += 1
            dropped.size_bytes += len(content)
        if progress:
            progress(number, len(files))


def forget(dropped: Dropped) -> None:
    """Remove what no run has taken."""
    shutil.rmtree(dropped.folder, ignore_errors=True)


def to_text(dropped: Dropped) -> str:
    """A text from which `from_text` makes it again, in another session."""
    return to_json({**asdict(dropped), "folder": dropped.folder.name})


def from_text(checkpoints: Path, text: str) -> Dropped | None:
    """A folder that still waits for its run; None where it was taken, or is gone. Raises ValueError if the text is no such."""
    values = parse_json(text, "a drop")
    if not isinstance(values, dict) or not re.fullmatch(rf"\{_START}[0-9a-f]{{32}}", str(values.get("folder"))):
        raise ValueError("a drop must name its folder")
    folder = checkpoints / FOLDER / values.pop("folder")
    return Dropped(folder, **values) if folder.is_dir() else None


def _keep(dropped: Dropped, name: str, content: bytes) -> int:
    """Write one file's images; returns how many."""
    number = dropped.num_files + 1
    if content.startswith(b"PK") or name.lower().endswith(".zip"):
        unpacked = unpack_images(content, dropped.folder / f"{number:06}")
        dropped.problems += [f"{name}: {reason}" for name, reason in unpacked.skipped]
        return unpacked.count
    return count_frames(keep(dropped.folder, number, name, content))
