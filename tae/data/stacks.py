"""The frames of local files: images, array stacks, TIFF files of many pages; found by folder, file name or pattern.

An image file is one frame, read by `tae.data.decode.read_image` under its limits (20 MB). An array file is one image if
it is (H, W), (1, H, W) or (H, W, 1, 3 or 4), and a stack if it is any other (T, H, W), or (T, 1, H, W) or
(T, H, W, 1, 3 or 4): three axes whose last is 1, 3 or 4 are a colour image, four axes whose second is 1 grey frames.
Each page of a TIFF file is a frame, but for masks and smaller copies of other pages. Stacks may have up to 64 GiB; what
is read of them is one frame at a time, and no file is mapped into memory or kept open.

All frames of a stack are scaled by one rule. Where the type does not say which number is white (floats, signed or 32-bit
integers), the smallest and largest number of the whole stack decide, as those of one image do in `read_image`: they
are looked up once for each file, which means reading it from end to end.
"""

import glob
import hashlib
import io
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tae.data import decode
from tae.data.decode import MAX_FILE_BYTES, DecodedImage, ImageError
from tae.data.tiff import PageStack, page_stack
from tae.store.names import natural_order
from tae.store.sealed import open_regular

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy")
"""Endings of the files that `read_image` can read, for upload widgets and folders."""
MAX_STACK_BYTES = 64 * 1024**3

_CHUNK_NUMBERS = 4 * 1024**2
_limits_lock = threading.Lock()


def find_files(data: str) -> list[Path]:
    """Image files by their endings, in natural order (img2 before img10).

    `data` is a folder, searched with its subfolders; one file; or a pattern such as "photos/**/*.png". Raises
    FileNotFoundError if there is no such file or folder, or nothing fits the pattern.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        return find_images(path)
    if path.is_file():
        return [path]
    if not glob.has_magic(data):
        raise FileNotFoundError(
            f"{data} is neither a folder nor a file; give a folder of images, an image stack, or a pattern in quotes "
            "such as 'photos/*.png'"
        )
    found = (Path(name) for name in glob.iglob(str(path), recursive=True))
    files = [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise FileNotFoundError(f"no image fits the pattern {data}; files must end in {', '.join(SUFFIXES)}")
    return sorted(files, key=lambda path: natural_order(path.as_posix()))


def find_images(folder: Path) -> list[Path]:
    """Image files of a folder and its subfolders, by their endings, in natural order (img2 before img10).

    Passed over: what is hidden or cannot be listed, anything but regular files, links that leave the folder.
    """
    home = folder.resolve()
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            try:
                if path.suffix.lower() not in SUFFIXES or not path.is_file():
                    continue
                if not path.is_symlink() or path.resolve().is_relative_to(home):  # os.walk follows no linked folder
                    found.append(path)
            except (OSError, RuntimeError):  # not allowed to look; a loop of links
                continue
    return sorted(found, key=lambda path: natural_order(path.as_posix()))


def base_folder(data: str) -> Path:
    """The folder that all of `find_files(data)` lie in, whatever it finds."""
    path = Path(data).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    fixed = [number for number, part in enumerate(path.parts) if glob.has_magic(part)] or [len(path.parts) - 1]
    return Path(*path.parts[: fixed[0]])


def count_frames(path: Path) -> int:
    """1 for an image, T for a stack; headers only.

    Raises ImageError if the file cannot be read, or is a stack whose header is wrong. Whether an image can be decoded,
    only `read_frame` finds out.
    """
    stack = _stack_of(path)
    return stack.num_frames if stack else 1


def frames_are_alike(path: Path) -> bool:
    """Whether one frame that can be read means that all can, and have its size: so in array files.

    Raises ImageError as `count_frames` does.
    """
    return isinstance(_stack_of(path), _ArrayStack)


def read_frame(path: Path, frame: int = 0, limits: tuple[float, float] | None = None) -> DecodedImage:
    """One frame of a file, from 0; the same rules for the values hold as in `read_image`.

    Nobody looks at thousands of files: the image's `original` is one pixel, which saves most of the time that a large
    photograph takes. `limits` are those of several files, as in `read_image`; None: those of this file.

    Raises ImageError if the file cannot be read or the frame is no image, without the file's name; ValueError if there is no
    such frame.
    """
    stack = _stack_of(path)
    count = stack.num_frames if stack else 1
    if not 0 <= frame < count:
        raise ValueError(f"frame must be from 0 to {count - 1}, got {frame}")
    with opened(path) as (file, size):
        if stack is None:
            decode.check_bytes(size)
            return decode.read_image(file.read(size), path.name, limits, shown_side=1)
        return stack.read(file, frame, limits or _limits(path, stack))


def common_limits(paths: Sequence[Path]) -> tuple[float, float] | None:
    """Smallest and largest number of files that are a frame each; None where their type alone says which number is white.

    All are read for it, but only where the first that can be read needs it; those that cannot are passed over.
    """
    found: list[tuple[float, float]] = []
    for path in paths:
        try:
            limits = read_frame(path).limits
        except (ImageError, ValueError):
            continue
        if limits is None and not found:
            return None
        if limits is not None:
            found.append(limits)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def content_digest(path: Path) -> bytes:
    """A digest that tells a file from others: SHA-256 of its bytes or, above 20 MB, of its size, first and last MiB.

    Raises ImageError if it cannot be read.
    """
    with opened(path) as (file, size):
        if size <= MAX_FILE_BYTES:
            return hashlib.sha256(file.read(size)).digest()
        first = file.read(1024**2)
        file.seek(size - 1024**2)
        return hashlib.sha256(first + file.read(1024**2) + str(size).encode()).digest()


@dataclass(frozen=True)
class _ArrayStack:
    """A .npy file of more than one image: its frames lie one after the other from byte `start` on."""

    num_frames: int
    shape: tuple[int, ...]  # of a frame: (H, W) or (H, W, 1, 3 or 4)
    dtype: np.dtype
    start: int

    def read(self, file: BinaryIO, frame: int, limits: tuple[float, float] | None) -> DecodedImage:
        count = math.prod(self.shape)
        file.seek(self.start + frame * count * self.dtype.itemsize)
        return decode.image_of(_numbers(file, self.dtype, count).reshape(self.shape), limits, shown_side=1)

    def limits(self, file: BinaryIO) -> tuple[float, float] | None:
        if decode.is_narrow(self.dtype):
            return None
        file.seek(self.start)
        rest = self.num_frames * math.prod(self.shape)
        lows, highs = [], []
        while rest:
            values = _numbers(file, self.dtype, min(rest, _CHUNK_NUMBERS))
            rest -= values.size
            low, high = decode.value_range(values) or (0, 0)
            lows.append(low)
            highs.append(high)
        return min(lows), max(highs)


def _stack_of(path: Path) -> _ArrayStack | PageStack | None:
    """How to read a file's frames; None: it is one image."""
    return _open_stack(path, *_version(path))


def _limits(path: Path, stack: _ArrayStack | PageStack) -> tuple[float, float] | None:
    if isinstance(stack, _ArrayStack) and decode.is_narrow(stack.dtype):
        return None
    with _limits_lock:  # one thread reads the whole file, the others wait for what it finds
        return _find_limits(path, *_version(path))


def _version(path: Path) -> tuple[int, int]:
    """Size and time of change: what is known of a file holds until one of them differs."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(error) from None
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _find_limits(path: Path, size: int, changed_ns: int) -> tuple[float, float] | None:
    stack = _open_stack(path, size, changed_ns)
    assert stack is not None
    with opened(path) as (file, _):
        return stack.limits(file)


@lru_cache(maxsize=256)
def _open_stack(path: Path, size: int, changed_ns: int) -> _ArrayStack | PageStack | None:
    with opened(path) as (file, _):
        start = file.read(64 * 1024)
        kind = decode.format_of(start)
        if kind not in ("NPY", "TIFF"):
            return None
        if size > MAX_STACK_BYTES:
            raise ImageError(f"the file must be at most {MAX_STACK_BYTES // 1024**3} GiB, got {size / 1024**3:.1f} GiB")
        try:
            return _array_stack(start, size) if kind == "NPY" else page_stack(file, start)
        except ImageError:
            raise
        except Exception:  # broken headers make their parsers raise nearly anything
            raise ImageError(f"the {kind} file is damaged, cut short, or of a kind that is not read") from None


def _array_stack(start: bytes, size: int) -> _ArrayStack | None:
    header = io.BytesIO(start)
    shape, is_fortran, dtype = decode.npy_header(header)
    if len(shape) < 3 or (len(shape) == 3 and (shape[0] == 1 or shape[2] in (1, 3, 4))):
        return None
    frame = shape[1:]
    if len(frame) == 3 and frame[0] == 1:
        frame = frame[1:]
    if len(shape) > 4 or (len(frame) == 3 and frame[2] not in (1, 3, 4)):
        raise ImageError(
            f"a stack must be (T, H, W), (T, 1, H, W) or (T, H, W, 1, 3 or 4), got {str(shape)[:60]}; reshape it"
        )
    if shape[0] < 1:
        raise ImageError("the stack must have at least one frame, got none")
    decode.check_size(frame[1], frame[0])
    if is_fortran:
        raise ImageError("the stack is stored in Fortran's order; save it in C's, with numpy.ascontiguousarray")
    if len(frame) == 3 and frame[2] == 4 and not decode.is_narrow(dtype):
        raise ImageError(f"a stack with opacity must be of 8 or 16 unsigned bits, got {dtype.name}; convert it")
    promised = header.tell() + math.prod(shape) * dtype.itemsize
    if promised > size:
        raise ImageError(f"the file is cut short: its header speaks of {promised} bytes, and it has {size}")
    return _ArrayStack(shape[0], frame, dtype, header.tell())


def _numbers(file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    values = np.fromfile(file, dtype, count)
    if values.size < count:
        raise ImageError("the file was cut short while it was being read")
    return values


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.BufferedReader, int]]:
    """A regular file for reading, with its size.

    Raises ImageError if it is none, or the system cannot open or read it.
    """
    try:
        with open_regular(path) as (file, size):
            yield file, size
    except OSError as error:
        raise _unreadable(error) from None
    except ImageError:
        raise
    except ValueError as error:  # a folder, pipe or device
        raise ImageError(str(error)) from None


def _unreadable(error: OSError) -> ImageError:
    return ImageError(f"the file cannot be read: {error.strerror or type(error).__name__}")  # without its path
