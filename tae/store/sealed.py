"""Safetensors files from strangers, read strictly, sealed against damage, and written whole or not at all.

The format: 8 bytes, the header's length; the header, JSON that gives each tensor's dtype, shape and place; the bytes
of the tensors. The header is checked here before anything is set aside for what it declares. `ValueError` says what
is wrong, without the file's name.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import torch
from torch import Tensor

from tae.store.atomic import write_whole

Described = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensors by name: dtype as safetensors spells it, shape."""

MAX_FILE_BYTES = 8 * 1024**3
MAX_HEADER_BYTES = 1024**2
MAX_TENSORS = 10_000
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that are read and written; a file with others is described, but not read."""
MAGICS = {
    b"PK": "a zip file, as torch.save writes",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy file",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; offsets count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What stands before the tensors.

    Attributes:
        raw: The file up to its first tensor.
        metadata: Texts.
        entries: In the file's order, without gap or overlap, to its very end.
    """

    raw: bytes
    metadata: dict[str, str]
    entries: list[Entry]


@dataclass(frozen=True)
class Contents:
    """The tensors of a file.

    Attributes:
        tensors: By name, on the CPU, in the types that the file has.
        digests: SHA-256 of each one's bytes, in hex.
        file_digest: SHA-256 of the whole file, in hex.
    """

    tensors: dict[str, Tensor]
    digests: dict[str, str]
    file_digest: str


def read_header(file: BufferedIOBase, size: int, max_bytes: int = MAX_FILE_BYTES) -> Header:
    """Check all that can be checked before a tensor is read; the file then stands at the first one.

    Args:
        file: Open at its beginning.
        size: Of the file, in bytes.
        max_bytes: Ceiling of the size.

    Raises:
        ValueError: If it is not a safetensors file, is not whole, or passes a limit.
    """
    if size > max_bytes:
        raise ValueError(f"the file must be at most {max_bytes // 1024**3} GiB, got {size} bytes")
    start = file.read(9)
    if start[8:] != b"{":
        raise ValueError(_what_it_is(start))
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ValueError(f"its header must be from 2 to {MAX_HEADER_BYTES} bytes, got {length}")
    if 8 + length > size:
        raise ValueError("the file is cut short within its header")
    raw = start + file.read(length - 1)
    tensors = parse_json(raw[8:], "its header")
    assert isinstance(tensors, dict)  # it starts with {
    metadata = tensors.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("the metadata in its header must be texts")
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"it must hold at most {MAX_TENSORS} tensors, got {len(tensors)}")
    entries = sorted((_read_entry(*item) for item in tensors.items()), key=lambda entry: (entry.begin, entry.end))
    position, data_size = 0, size - len(raw)
    for entry in entries:
        if entry.begin != position:
            raise ValueError(f"the tensor {shown(entry.name)} overlaps another or leaves a hole before it")
        position = entry.end
    if position > data_size:
        raise ValueError(f"the file is cut short: it declares {position} bytes of tensors and holds {data_size}")
    if position < data_size:
        raise ValueError(f"the file holds {data_size - position} bytes that belong to no tensor")
    return Header(raw, metadata, entries)


def read_contents(file: BufferedIOBase, header: Header) -> Contents:
    """Read the tensors that a header declares, all of them of the `DTYPES`.

    Raises:
        ValueError: If the file became shorter since its header was read.
    """
    file_hash = hashlib.sha256(header.raw)
    tensors, digests = {}, {}
    for entry in header.entries:
        tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
        content = bytes_of(tensor)
        if file.readinto(content) != len(content):
            raise ValueError("the file became shorter while it was read")
        file_hash.update(content)
        digests[entry.name] = hashlib.sha256(content).hexdigest()
        tensors[entry.name] = tensor
    return Contents(tensors, digests, file_hash.hexdigest())


def seal(texts: Sequence[str], described: Described, digests: Mapping[str, str]) -> str:
    """SHA-256 of the compact ASCII JSON of [*texts, tensors]: it finds damage, and does not say who made the file.

    Tensors are [name, dtype, shape, SHA-256 of the bytes], sorted by name, so that their order in the file does not
    matter.
    """
    listed = [[name, *described[name], digests[name]] for name in sorted(described)]
    return hashlib.sha256(json.dumps([*texts, listed], separators=(",", ":")).encode()).hexdigest()


def describe(tensors: Mapping[str, Tensor]) -> Described:
    return {name: (dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def digests_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of the bytes of each tensor, contiguous and on the CPU, in hex."""
    return {name: hashlib.sha256(bytes_of(tensor)).hexdigest() for name, tensor in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: Where the file goes.
        tensors: Contiguous, on the CPU, of one of the `DTYPES`.
        metadata: Texts.

    Raises:
        ValueError: If the header would be larger than `MAX_HEADER_BYTES`.
        OSError: If the file cannot be written; nothing is left behind.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in tensors.items():
        offsets = [position, position + tensor.nbytes]
        header[name] = {"dtype": dtype_name(tensor.dtype), "shape": [*tensor.shape], "data_offsets": offsets}
        position += tensor.nbytes
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors begin at a multiple of 8
    if len(raw) > MAX_HEADER_BYTES:
        raise ValueError(f"its header must be at most {MAX_HEADER_BYTES} bytes, got {len(raw)}")

    write_whole(path, [len(raw).to_bytes(8, "little"), raw, *map(bytes_of, tensors.values())])


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BufferedIOBase, int]]:
    """Open a regular file for reading, with its size; anything else is refused without waiting for it.

    Raises:
        ValueError: If it is a folder, pipe, socket or device.
        OSError: If it cannot be opened.
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


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, to be read or written."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def dtype_name(dtype: torch.dtype) -> str:
    """Safetensors' name of a type.

    Raises:
        ValueError: If it is none of the `DTYPES`.
    """
    for name, known in DTYPES.items():
        if known == dtype:
            return name
    raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES.values()))}, got {dtype}")


def to_json(value: object) -> str:
    """What `parse_json` reads: compact, and neither NaN nor infinity.

    Raises:
        ValueError: If there is one.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse_json(text: bytes | str, what: str) -> object:
    """Strict JSON: UTF-8, no key twice, no NaN, no endless numbers, no bottomless nesting.

    Raises:
        ValueError: If it is anything else; the message starts with `what`.
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

    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=without_repeats,
            parse_constant=without_constants,
            parse_int=of_bounded_length,
        )
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None


def shown(word: str) -> str:
    """A stranger's word, fit to be shown anywhere: letters, digits and . _ - / : only, shortened."""
    return re.sub("[^A-Za-z0-9._/:-]", "?", word[:60]) + ("…" if len(word) > 60 else "")


def _read_entry(name: str, value: object) -> Entry:
    wrong = ValueError(f"the tensor {shown(name)} must have a dtype, a shape, and offsets that fit them")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise wrong
    begin, end = offsets
    if begin > end or (dtype in DTYPES and math.prod(shape) * DTYPES[dtype].itemsize != end - begin):
        raise wrong
    return Entry(name, dtype, tuple(shape), begin, end)


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and len(values) <= 8 and all(type(n) is int and 0 <= n < 2**48 for n in values)


def _what_it_is(start: bytes) -> str:
    """Why a file that begins so is not a safetensors file."""
    if not start:
        return "the file is empty"
    looks = next((f", but looks like {what}" for magic, what in MAGICS.items() if start.startswith(magic)), "")
    return f"not a safetensors file{looks}; only safetensors are read, because pickles can run code"
