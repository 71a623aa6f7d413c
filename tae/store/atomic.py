"""Files written whole or not at all: at every moment the old file or the new one is there."""

import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Part = bytes | memoryview


def write_whole(path: Path, parts: Iterable[Part]) -> None:
    """Write beside, make it durable, rename.

    Raises OSError if the file cannot be written; the old one stays, and nothing is left behind.
    """
    with open_whole(path) as file:
        for part in parts:
            file.write(part)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full or failing disk names no file: such errors raised inside name this one, without its folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG) and error.filename is None:
            error.filename = path.name
        raise


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """`write_whole` for what writes into an open file; whatever is raised inside leaves the old file.

    Raises OSError if the file cannot be written; the old one stays, and nothing is left behind.
    """
    temp = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.tmp")
    try:
        with naming(path):
            with open(temp, "xb") as file:
                yield file
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


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed in the middle of `write_whole` left in a folder.

    Only the leftovers of the file with this name; without a name, those of all files, and nobody else may be writing there.
    """
    start = "." if name is None else f".{name[:40]}."
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(start) and re.search(r"\.[0-9a-f]{32}\.tmp$", path.name):
            path.unlink(missing_ok=True)
