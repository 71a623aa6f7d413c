"""Files written whole or not at all: at every moment the old file or the new one is there."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

Part = bytes | memoryview


def write_whole(path: Path, parts: Iterable[Part]) -> None:
    """Write beside, make it durable, rename.

    Raises:
        OSError: If the file cannot be written; the old one stays, and nothing is left behind.
    """
    temp = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temp, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # without this, a power cut can undo the rename
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed in the middle of `write_whole(path, ...)` left beside it."""
    start = f".{path.name[:40]}."
    for other in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        if other.name.startswith(start) and other.suffix == ".tmp":
            other.unlink(missing_ok=True)
