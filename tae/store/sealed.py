"""Sealed files: safetensors with texts and a SHA-256 of all that they hold; read strictly, written whole or not at all.

A safetensors file is 8 bytes, the header's length; the header, JSON that gives each tensor's dtype, shape and place; the
bytes of the tensors. Files come from strangers: nothing in them is executed, pickles are never opened, and the header is
checked before anything is set aside for what it declares. The seal finds damage; it does not say who made the file.

The container is read here and not by the `safetensors` library, which takes a key twice and keys of its own in an entry,
keeps the file in memory twice (`load`) or maps it, so that a file that shrinks ends the program (`safe_open`), and writes
the texts in a random order. Tests hold both against each other.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tae.store.atomic import write_whole
from tae.store.card import clean_text
from tae.store.regular import open_regular, parse_json

Described = Mapping[str, tuple[str, tuple[int, ...]]]  # tensors by name: dtype as safetensors spells it, shape

MAX_FILE_BYTES = 8 * 1024**3
MAX_HEADER_BYTES = 1024**2
MAX_TENSORS = 10_000
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that are read and written; a file with others is described, but not read."""
MAGICS = {
    b"PK": "a zip file, as torch.save writes (python -m tae.convert makes a checkpoint of such)",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy file",
}


@dataclass(frozen=True, kw_only=True)
class SealedFile:
    """A kind of sealed file.

    Its metadata are `texts`, and before them, where it has a program, "program" and "format_version"; after them "sha256",
    the `seal` of the tensors and of all texts but the program.
    """

    texts: tuple[str, ...]  # names of its texts, in the order in which they are sealed
    program: str | None = None
    """None: for files that are found by their content alone, with neither program nor version."""
    version: int = 1  # format that is written, and the newest that is read
    what: str = "a file of this program"  # in refusals
    error: type[ValueError] | None = None
    """The error that a refusal becomes, with the file's name before it; None: a plain ValueError or OSError, without it."""
    is_finite: bool = False  # whether NaN and infinity are refused, when written and when read
    max_bytes: int = MAX_FILE_BYTES  # ceiling of a file's size

    def write(self, path: Path, texts: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Write a file, whole or not at all; path: a new file, or a regular one.

        Texts are as `self.texts` names them; tensors are contiguous, on the CPU, of one of the `DTYPES`.

        Raises:
            ValueError: If the path is something else, a tensor has another dtype, or the header would be too large.
            self.error: If a number must be finite and is not.
            OSError: If the file cannot be written; the old one stays, and nothing is left behind.
        """
        if path.exists() and not path.is_file():
            raise ValueError(f"path must be a new or a regular file, got {path}")
        if self.is_finite:
            with self.refusing(path.name):
                check_finite(tensors)
        metadata = dict(zip(self.texts, texts, strict=True))
        if self.program is not None:
            metadata = {"program": self.program, "format_version": str(self.version), **metadata}
        _write_tensors(path, tensors, {**metadata, "sha256": seal(self._sealed(metadata), tensors)})

    @contextmanager
    def open(self, source: Path | bytes, name: str | None = None) -> Iterator["Sealed"]:
        """Check the header of a file, or of its content; what is raised inside, too, is a refusal of this file.

        Refusals name the file, or what `name` says. Raises `self.error` if it cannot be read, is not a safetensors file of this
        kind, is not whole, or passes a limit.
        """
        is_path = isinstance(source, Path)
        with (
            self.refusing(name or (source.name if is_path else "file")),
            open_regular(source) if is_path else nullcontext((BytesIO(source), len(source))) as (file, size),
        ):
            yield Sealed(self, file, size)

    @contextmanager
    def refusing(self, name: str) -> Iterator[None]:
        """Turn what goes wrong inside into this kind's error, which names the file, never its folder."""
        try:
            yield
        except (OSError, ValueError) as error:
            if self.error is None:
                raise
            file_name = clean_text(re.split(r"[/\\]", name)[-1], 80) or "checkpoint"
            is_unreadable = isinstance(error, OSError)
            reason = f"cannot be read ({error.strerror or 'input/output error'})" if is_unreadable else error
            raise self.error(clean_text(f"{file_name}: {reason}", 2000)) from error

    def _sealed(self, metadata: Mapping[str, str]) -> list[str]:
        return [metadata[name] for name in (*([] if self.program is None else ["format_version"]), *self.texts)]

    def _check(self, metadata: Mapping[str, str], described: Described) -> None:
        if self.program is not None:
            self._check_program(metadata, described)
        lacking = [name for name in (*self.texts, "sha256") if name not in metadata]
        if lacking:
            raise ValueError(f"its metadata lack {', '.join(lacking)}")

    def _check_program(self, metadata: Mapping[str, str], described: Described) -> None:
        if metadata.get("program") != self.program:
            names = ", ".join(map(shown, [*described][:3]))
            examples = f", such as {names}" if names else ""
            program = metadata.get("program", "")
            other = f" (its program is {program!r})" if re.fullmatch("[a-z ]{1,20}", program) else ""
            raise ValueError(f"not {self.what}{other}; found {len(described)} tensors{examples}")
        version = metadata.get("format_version", "")
        if not re.fullmatch("[1-9][0-9]{0,8}", version):
            raise ValueError(f"its format version must be a number from 1, got {shown(version) or 'none'}")
        if int(version) > self.version:
            raise ValueError(
                f"it has format {version}, and this program reads up to {self.version}: update the program"
            )


class Contents(NamedTuple):
    """The tensors of a file, and its digest."""

    tensors: dict[str, Tensor]  # by name, on the CPU, in the types that the file has
    digest: str  # SHA-256 of the whole file, in hex


class Sealed:
    """An open file whose header is right; its tensors are not read yet, and its seal is not checked.

    Attributes:
        size: Size of the file in bytes.
        texts: Its metadata.
        described: Its tensors, in the file's order.
    """

    def __init__(self, kind: SealedFile, file: BufferedIOBase, size: int) -> None:
        self._kind, self._file, self.size = kind, file, size
        self._raw, self.texts, self.described = _read_header(file, size, kind.max_bytes)
        kind._check(self.texts, self.described)

    def json(self, name: str) -> Any:
        """A text as strict JSON, see `parse_json`."""
        return parse_json(self.texts[name], f"its {name}")

    def fields(self, name: str, kind: Any, needed: Iterable[str]) -> dict[str, Any]:
        """A JSON text as keyword arguments of a dataclass.

        Raises ValueError if it lacks a needed one, or has one that the dataclass has not.
        """
        values, known = self.json(name), [field.name for field in fields(kind)]
        if not isinstance(values, dict) or not set(needed) <= values.keys() <= set(known):
            raise ValueError(
                f"its {name} must be a dict with {', '.join(needed)}, and with no fields but {', '.join(known)}"
            )
        return values

    def read(self) -> Contents:
        """Read the tensors, once, into memory of their own.

        Raises ValueError if one is of another type than `DTYPES`, the file became shorter meanwhile, the seal is not
        that of its content, or a number must be finite and is not.
        """
        foreign = [dtype for dtype, _ in self.described.values() if dtype not in DTYPES]
        if foreign:
            raise ValueError(f"its tensors must be {', '.join(DTYPES)}, got {shown(foreign[0])}")
        file_hash = hashlib.sha256(self._raw)
        tensors, digests = {}, {}
        for name, (dtype, shape) in self.described.items():
            tensors[name] = torch.empty(shape, dtype=DTYPES[dtype])
            content = _bytes_of(tensors[name])
            if self._file.readinto(content) != len(content):
                raise ValueError("the file became shorter while it was read")
            file_hash.update(content)
            digests[name] = hashlib.sha256(content).hexdigest()
        if _seal(self._kind._sealed(self.texts), self.described, digests) != self.texts["sha256"]:
            raise ValueError("the file is damaged: its content does not have the SHA-256 that it was saved with")
        if self._kind.is_finite:
            check_finite(tensors)
        return Contents(tensors, file_hash.hexdigest())


def seal(texts: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the compact ASCII JSON of [*texts, tensors], in hex.

    Tensors, contiguous and on the CPU, are [name, dtype, shape, SHA-256 of the bytes], sorted by name, so that their order
    in the file does not matter.
    """
    digests = {name: hashlib.sha256(_bytes_of(tensor)).hexdigest() for name, tensor in tensors.items()}
    return _seal(texts, describe(tensors), digests)


def describe(tensors: Mapping[str, Tensor]) -> Described:
    """Name, type and shape of each tensor, as a file's header has them."""
    return {name: (dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def check_tensors(found: Described, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not exactly the model's; the first five differences of each kind are named.

    Raises ValueError if a name or shape differs, or a type is none of the `DTYPES`.
    """
    shared = [name for name in expected if name in found]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [shown(name) for name in found if name not in expected],
        "of another shape": [
            f"{name} (expected {[*expected[name]]}, found {[*found[name][1]]})"
            for name in shared
            if found[name][1] != expected[name]
        ],
        f"of a type other than {', '.join(DTYPES)}": [
            f"{name} ({shown(found[name][0])})" for name in shared if found[name][0] not in DTYPES
        ],
    }
    differences = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for kind, names in kinds.items()
        if names
    ]
    if differences:
        raise ValueError(f"its tensors are not those of its config; {'; '.join(differences)}")


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a tensor holds NaN or infinity; the message names it."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the tensor {name} holds NaN or infinity as {dtype_name(tensor.dtype)}")


def dtype_name(dtype: torch.dtype) -> str:
    """Safetensors' name of a type. Raises ValueError if it is none of the `DTYPES`."""
    for name, known in DTYPES.items():
        if known == dtype:
            return name
    raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES.values()))}, got {dtype}")


def shown(word: str) -> str:
    """A stranger's word, fit to be shown anywhere: letters, digits and . _ - / : only, shortened."""
    return re.sub("[^A-Za-z0-9._/:-]", "?", word[:60]) + ("…" if len(word) > 60 else "")


def _read_header(file: BufferedIOBase, size: int, max_bytes: int) -> tuple[bytes, dict[str, str], Described]:
    """Check all that can be checked before a tensor is read; the file then stands at the first one.

    Returns the file up to there; the metadata; the tensors in the file's order, without gap or overlap, to its very end.
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
    header = parse_json(raw[8:], "its header")  # a dict: it starts with {
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("the metadata in its header must be texts")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it must hold at most {MAX_TENSORS} tensors, got {len(header)}")
    for name, entry in header.items():
        if not _is_entry(entry):
            raise ValueError(f"the tensor {shown(name)} must have a dtype, a shape, and offsets that fit them")
    described, position, data_size = {}, 0, size - len(raw)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != position:
            raise ValueError(f"the tensor {shown(name)} overlaps another or leaves a hole before it")
        described[name], position = (entry["dtype"], tuple(entry["shape"])), end
    if position > data_size:
        raise ValueError(f"the file is cut short: it declares {position} bytes of tensors and holds {data_size}")
    if position < data_size:
        raise ValueError(f"the file holds {data_size - position} bytes that belong to no tensor")
    return raw, metadata, described


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return False
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        return False
    begin, end = offsets
    return begin <= end and (dtype not in DTYPES or math.prod(shape) * DTYPES[dtype].itemsize == end - begin)


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and len(values) <= 8 and all(type(n) is int and 0 <= n < 2**48 for n in values)


def _what_it_is(start: bytes) -> str:
    """Why a file that begins so is not a safetensors file."""
    if not start:
        return "the file is empty"
    looks = next((f", but looks like {what}" for magic, what in MAGICS.items() if start.startswith(magic)), "")
    return f"not a safetensors file{looks}; only safetensors are read, because pickles can run code"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name, (dtype, shape) in describe(tensors).items():
        end = position + tensors[name].nbytes
        header[name] = {"dtype": dtype, "shape": [*shape], "data_offsets": [position, end]}
        position = end
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # tensors begin at a multiple of 8
    if len(raw) > MAX_HEADER_BYTES:
        raise ValueError(f"its header must be at most {MAX_HEADER_BYTES} bytes, got {len(raw)}")
    write_whole(path, [len(raw).to_bytes(8, "little"), raw, *map(_bytes_of, tensors.values())])


def _seal(texts: Sequence[str], described: Described, digests: Mapping[str, str]) -> str:
    listed = [[name, *described[name], digests[name]] for name in sorted(described)]
    return hashlib.sha256(json.dumps([*texts, listed], separators=(",", ":")).encode()).hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, to be read or written."""
    return tensor.view(-1).view(torch.uint8).numpy().data
