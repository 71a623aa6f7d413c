"""The one door to what lies on a disk: regular files of a bounded size, and JSON that is what it says.

A pipe in a file's place would be waited for, for ever; a device could be read without end.
"""

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 64 * 1024**2


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a regular file for reading, with its size; anything else is refused without waiting for it.

    Raises ValueError if it is a folder, pipe, socket or device; OSError if it cannot be opened.
    """
    not_regular = ValueError("it is a folder, pipe or device, and only regular files are read")
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a device can already do something
        raise not_regular
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # exchanged in between
            raise not_regular
        yield file, status.st_size


def read_regular(path: Path, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """A regular file's content.

    Raises ValueError if it is no regular file or larger than `max_bytes`; OSError if it cannot be read.
    """
    with open_regular(path) as (file, size):
        if size > max_bytes:
            raise ValueError(f"it must be at most {max_bytes / 1024**2:.3g} MB, got {size / 1024**2:.3g} MB")
        return file.read(max_bytes)


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """A regular file's content as strict JSON. Raises ValueError or OSError if it is none."""
    return parse_json(read_regular(path, max_bytes), path.name)


def to_json(value: object) -> str:
    """Compact JSON that `parse_json` reads: neither NaN nor infinity. Raises ValueError if there is one."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse_json(text: bytes | str, what: str) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN, no endless numbers, no bottomless nesting.

    Raises ValueError if it is anything else; the message starts with `what`.
    """

    def without_repeats(pairs: list[tuple[str, object]]) -> dict:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    def without_constants(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    def of_bounded_length(digits: str) -> int:
        if len(digits) > 40:
            raise ValueError(f"a number has {len(digits)} digits")
        return int(digits)

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError("a number is too large")
        return number

    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=without_repeats,
            parse_constant=without_constants,
            parse_int=of_bounded_length,
            parse_float=finite,
        )
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None
