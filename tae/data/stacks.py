"""The frames of local files: images, array stacks, TIFF files of many pages; found by folder, file name or pattern.

An image file is one frame, read by `tae.data.decode.read_image` under its limits (20 MB). An array file is one image or a
stack, as `tae.data.decode.frame_shape` says; each page of a TIFF file is a frame, but for masks and smaller copies of other
pages. Stacks may have up to 64 GiB; what is read of them is one frame at a time, and no file is mapped into memory or kept
open.

Which number is white is decided once for all frames of a stack, and by `decide` for all files of a folder, by the rule of
`tae.data.white`; where the type alone does not say it, that means reading them from end to end.
"""

import glob
import hashlib
import io
import math
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tae.data import decode, foreign, tiff
from tae.data.decode import SUFFIXES, DecodedImage
from tae.data.limits import MAX_FILE_BYTES, ImageError, check_bytes, check_size
from tae.data.threads import in_order
from tae.data.white import AS_FILE, USED, Extent, White, extent_of, is_narrow, kind_of
from tae.store.names import natural_order, plain_text
from tae.store.regular import open_regular

MAX_STACK_BYTES = 64 * 1024**3
NAMES_FILE = "names.json"
"""Beside images that were unpacked here: what they were called."""

_CHUNK_NUMBERS = 4 * 1024**2
_scan_lock = threading.Lock()


@dataclass(frozen=True)
class _Below(Sequence[Path]):
    """Paths of files below a folder, each made when it is asked for."""

    folder: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: Any) -> Any:
        return self.folder / self.names[number]


@dataclass(frozen=True)
class Scan:
    """What a folder or pattern holds."""

    folder: Path
    names: list[str]
    """Images by their endings, below the folder, in natural order (img2 before img10). Texts: a million paths would take three
    times the memory."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many of what else, but for what is hidden: by ending, or in words."""

    @property
    def files(self) -> Sequence[Path]:
        """Paths of the images, made as they are asked for."""
        return _Below(self.folder, self.names)

    @property
    def told(self) -> str:
        """A sentence about what was passed over; empty where nothing was."""
        if not self.passed_over:
            return ""
        told = []
        for what, count in self.passed_over.most_common(6):
            title = foreign.by_ending(what)
            said = f" ({title}: {foreign.remedy(title)})" if title else ""
            told.append(f"{count:,} {plain_text(what, 40)}{said}")
        rest = sum(self.passed_over.values()) - sum(count for _, count in self.passed_over.most_common(6))
        return f"passed over: {', '.join(told)}{f' and {rest:,} more' if rest else ''}"


def find_files(data: str) -> list[Path]:
    """The files of `scan`."""
    return [*scan(data).files]


def scan(data: str) -> Scan:
    """Image files by their endings, in natural order, and what else there is.

    `data` is a folder, searched with its subfolders; one file; or a pattern such as "photos/**/*.png". Raises
    FileNotFoundError if there is no such file or folder, or nothing fits the pattern.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        return scan_folder(path)
    if path.is_file():
        return Scan(path.parent, [path.name])
    if not glob.has_magic(data):
        raise FileNotFoundError(
            f"{data} is neither a folder nor a file; give a folder of images, an image stack, or a pattern in quotes "
            "such as 'photos/*.png'"
        )
    found = (Path(name) for name in glob.iglob(str(path), recursive=True))
    home = base_folder(data)
    files = [_below(path, home) for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise FileNotFoundError(f"no image fits the pattern {data}; files must end in {', '.join(SUFFIXES)}")
    return Scan(home, sorted(files, key=natural_order))


def scan_folder(folder: Path, endings: Sequence[str] = SUFFIXES) -> Scan:
    """Image files of a folder and its subfolders, by their endings; links to such files inside the folder are followed.

    Passed over: what is hidden; and, counted, what has other endings, links that leave the folder or lead nowhere, anything but
    regular files, and folders that cannot be listed.
    """
    home = folder.resolve()
    found: list[str] = []
    passed: Counter[str] = Counter()
    waiting = [""] if folder.is_dir() else []  # folders, below this one
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    kind = "" if entry.name.startswith(".") else _kind_of(entry, home, endings)
                    if kind == "folder":
                        waiting.append(f"{below}{entry.name}/")
                    elif kind == "image":
                        found.append(below + entry.name)
                    elif kind:
                        passed[kind] += 1
        except OSError:  # at the start, or on the way
            passed["folders that cannot be listed"] += 1
    return Scan(folder, sorted(found, key=natural_order), passed)


def _kind_of(entry: os.DirEntry[str], home: Path, endings: Sequence[str]) -> str:
    """ "folder", "image", "" for nothing to speak of, or what it is passed over as; the listing itself tells most of it."""
    try:
        if entry.is_symlink() and not _is_inside(path := Path(entry.path), home):
            return "links that lead out of the folder" if path.exists() else "links that lead nowhere"
        if entry.is_dir():
            return "" if entry.is_symlink() else "folder"
        if not entry.is_file():
            return "pipes and devices" if os.path.exists(entry.path) else "links that lead nowhere"
    except (OSError, RuntimeError):  # not allowed to look; a loop of links
        return "links that lead nowhere"
    if entry.name == NAMES_FILE:
        return ""
    ending = os.path.splitext(entry.name)[1].lower()
    return "image" if ending in endings else ending if len(ending) > 1 else "files without an ending"


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _is_inside(path: Path, home: Path) -> bool:
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):
        return False


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


def read_frame(path: Path, frame: int = 0, white: White = AS_FILE, shown_side: int = 1) -> DecodedImage:
    """One frame of a file, from 0; the same rules for the values hold as in `read_image`.

    Nobody looks at thousands of files: the image's `original` is one pixel, which saves most of the time that a large
    photograph takes. `white` is what was decided for several files; of a kind of number that it does not tell of, the file
    decides, a stack for all its frames.

    Raises ImageError if the file cannot be read or the frame is no image, without the file's name; ValueError if there is no
    such frame.
    """
    stack = _stack_of(path)
    count = stack.num_frames if stack else 1
    if not 0 <= frame < count:
        raise ValueError(f"frame must be from 0 to {count - 1}, got {frame}")
    if stack is not None:
        with _scan_lock:  # one thread reads the whole file, the others wait for what it finds
            white = _decided(path, *_version(path), white)
    with opened(path) as (file, size):
        if stack is None:
            check_bytes(size)
            return decode.read_image(file.read(size), path.name, white, shown_side)
        return stack.read(file, frame, white, shown_side)


def decide(paths: Sequence[Path], white: White = AS_FILE) -> White:
    """Which number is white in all of these files together; those that cannot be read have no say.

    Only files whose type alone does not tell are read for it, by as many threads as there are processors.
    """
    if white.choice not in ("file", "stretch"):
        return white

    def look(path: Path) -> list[Extent]:
        try:
            return extents(path, white)
        except (ImageError, ValueError):
            return []

    found = [extent for each in in_order(look, paths, workers=os.cpu_count() or 1, ahead=64) for extent in each]
    return white.decide(found, len(paths) if len(paths) > 1 else len(found))


def extents(path: Path, white: White = AS_FILE) -> list[Extent]:
    """What the numbers of a file are, as far as which of them is white depends on it.

    Raises ImageError if it cannot be read.
    """
    if white.choice not in ("file", "stretch"):
        return []
    with opened(path) as (file, size):
        start = file.read(64)
        if white.choice == "file" and decode.has_8_bits(start):
            return []
        stack = _stack_of(path) if decode.format_of(start) in ("NPY", "TIFF") else None
        if stack is not None:
            return stack.extents(file, white)
        check_bytes(size)
        file.seek(0)
        extent = decode.read_image(file.read(size), white=white, shown_side=1).extent
    return [extent] if extent and (white.choice == "stretch" or not is_narrow(extent.kind)) else []


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

    def read(self, file: BinaryIO, frame: int, white: White, shown_side: int) -> DecodedImage:
        count = math.prod(self.shape)
        file.seek(self.start + frame * count * self.dtype.itemsize)
        return decode.image_of(_numbers(file, self.dtype, count).reshape(self.shape), white, shown_side)

    def extents(self, file: BinaryIO, white: White) -> list[Extent]:
        kind, found = kind_of(self.dtype), None
        if is_narrow(kind) and white.choice == "file":
            return []
        file.seek(self.start)
        channels = self.shape[2] if len(self.shape) == 3 else 1
        rest = self.num_frames * math.prod(self.shape)
        while rest:
            values = _numbers(file, self.dtype, min(rest, _CHUNK_NUMBERS // channels * channels))
            rest -= values.size
            try:
                one = extent_of(values.reshape(-1, channels)[:, :3])  # opacity has no say
            except ValueError as error:
                raise ImageError(str(error)) from None
            found = found | one if found else one
            if white.choice == "file" and kind[0] == "u" and found.high >= USED * np.iinfo(self.dtype).max:
                break  # the type's range is used, whatever follows
        return [found] if found else []


@dataclass(frozen=True)
class _PageStack:
    """A TIFF file of several frames."""

    places: np.ndarray  # (n, 2): page, number under its list of tags

    @property
    def num_frames(self) -> int:
        return len(self.places)

    def read(self, file: BinaryIO, frame: int, white: White, shown_side: int) -> DecodedImage:
        place = tiff.Place(*map(int, self.places[frame]))
        try:
            return decode.read_page(file, place, white, shown_side)
        except ImageError:
            raise
        except Exception:  # broken pages make their parsers raise nearly anything
            raise ImageError(
                "the TIFF page is damaged, cut short, or of a kind that is not read; save it again"
            ) from None

    def extents(self, file: BinaryIO, white: White) -> list[Extent]:
        found = []
        for frame in range(self.num_frames):
            try:
                extent = self.read(file, frame, white, 1).extent
            except ImageError:  # its turn will come
                continue
            if extent is None or (is_narrow(extent.kind) and white.choice == "file"):
                return found  # by the type of the first page, all are read
            found.append(extent)
        return found


def _stack_of(path: Path) -> _ArrayStack | _PageStack | None:
    """How to read a file's frames; None: it is one image."""
    return _open_stack(path, *_version(path))


def _version(path: Path) -> tuple[int, int]:
    """Size and time of change: what is known of a file holds until one of them differs."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(error) from None
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _decided(path: Path, size: int, changed_ns: int, white: White) -> White:
    """For all frames of a stack."""
    stack = _open_stack(path, size, changed_ns)
    assert stack is not None
    if isinstance(stack, _ArrayStack) and kind_of(stack.dtype) in dict(white.decided):
        return white
    with opened(path) as (file, _):
        return white.decide(stack.extents(file, white), stack.num_frames)


@lru_cache(maxsize=256)
def _open_stack(path: Path, size: int, changed_ns: int) -> _ArrayStack | _PageStack | None:
    with opened(path) as (file, _):
        start = file.read(64 * 1024)
        kind = decode.format_of(start)
        if kind not in ("NPY", "TIFF"):
            return None
        if size > MAX_STACK_BYTES:
            raise ImageError(f"the file must be at most {MAX_STACK_BYTES // 1024**3} GiB, got {size / 1024**3:.1f} GiB")
        try:
            if kind == "NPY":
                return _array_stack(start, size)
            places = np.array([(place.page, place.number) for place in tiff.frames(file)], np.uint64)
            return _PageStack(places) if len(places) > 1 else None
        except ImageError:
            raise
        except Exception:  # broken headers make their parsers raise nearly anything
            raise ImageError(decode.broken(kind)) from None


def _array_stack(start: bytes, size: int) -> _ArrayStack | None:
    header = io.BytesIO(start)
    shape, is_fortran, dtype = decode.npy_header(header)
    count, frame = decode.frame_shape(shape)
    if count == 1:
        return None
    if count < 1:
        raise ImageError("the stack must have at least one frame, got none")
    check_size(frame[1], frame[0])
    if is_fortran:
        raise ImageError("the stack is stored in Fortran's order; save it in C's, with numpy.ascontiguousarray")
    if len(frame) == 3 and frame[2] == 4 and not (dtype.kind in "bu" and dtype.itemsize <= 2):
        raise ImageError(f"a stack with opacity must be of 8 or 16 unsigned bits, got {dtype.name}; convert it")
    promised = header.tell() + math.prod(shape) * dtype.itemsize
    if promised > size:
        raise ImageError(f"the file is cut short: its header speaks of {promised} bytes, and it has {size}")
    return _ArrayStack(count, frame, dtype, header.tell())


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
