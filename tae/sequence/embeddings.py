"""A file of embeddings: for every image its file's name, its frame there and its latent; as Parquet or NPZ.

Both are written piece by piece, whole or not at all, and the same content gives the same bytes. Both are readable
without this program; here they are read as files from strangers are: nothing is unpickled, and no more memory is set
aside than a file's size accounts for.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tae.sequence.thrift import codecs
from tae.store.atomic import open_whole
from tae.store.regular import open_regular, parse_json

PROGRAM = "tae"
FORMAT_VERSION = 1
OWN_COLUMNS = ("name", "frame", "latent")
GROUP_ROWS = 4096  # least rows of a row group of a Parquet file, but for its last


class EmbedError(ValueError):
    """Embeddings cannot be made or read; one sentence that says why."""


class Embeddings(NamedTuple):
    """Embeddings in memory, images in natural order; unreadable ones are left out."""

    names: list[str]  # file name of each image, relative to the folder, with / between folders
    frames: np.ndarray  # (images,) int32, the image's number within its file, from 0
    latents: np.ndarray  # (images, latent_dim) float32
    metadata: dict
    """what they were made of and with; "skipped" lists [name, frame, reason] of the first unreadable images."""


@dataclass(frozen=True)
class Rows:
    """The rows to write, part by part, so that never more than one part is in memory."""

    count: int
    dim: int  # numbers in a latent
    places: Callable[[], Iterator[tuple[list[str], np.ndarray]]]  # starts to give names and frames
    latents: Callable[[], Iterator[np.ndarray]]  # starts to give (rows, dim) float32
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """{header: (count,) float64, NaN where there is no value, or texts} of a table, all rows together."""


def write_embeddings(path: Path, rows: Rows, metadata: dict) -> None:
    """Write a file, whole or not at all, in the format of its ending.

    Raises:
        ValueError: If the ending is of no format, or a text has no Unicode.
        OSError: If the file cannot be written; nothing is left behind.
    """
    text = json.dumps({"program": PROGRAM, "format_version": FORMAT_VERSION, **metadata})
    with open_whole(path) as file:
        _format_of(path).write(file, rows, text)


def read_embeddings(path: Path | str) -> Embeddings:
    """Read what `python -m tae.embed` wrote; nothing is unpickled, and memory is set aside only for what is there.

    Raises:
        OSError: If the file cannot be read.
        EmbedError: If it is no whole file of embeddings of this program.
    """
    path = Path(path)
    with _refusing(path), open_regular(path) as (file, size):
        names, frames, latents, text = _format_of(path).read(file, size)
        if not len(names) == len(frames) == len(latents):
            raise ValueError("its columns are of different lengths")
        return Embeddings(names, frames, latents, _parsed(text))


def read_columns(path: Path | str) -> dict[str, np.ndarray]:
    """{header: (images,) float64, NaN where there is no value, or texts} of the table's columns; raises as `read_embeddings`."""
    path = Path(path)
    with _refusing(path), open_regular(path) as (file, size):
        headers = _parsed(_format_of(path).metadata(file, size)).get("columns", [])
        file.seek(0)
        return dict(zip(headers, _format_of(path).read_columns(file, size, headers), strict=True))


def read_metadata(path: Path | str) -> dict:
    """The metadata alone; raises as `read_embeddings`."""
    path = Path(path)
    with _refusing(path), open_regular(path) as (file, size):
        return _parsed(_format_of(path).metadata(file, size))


class _Parquet:
    """Columns name, frame and latent, a list of fixed size, and a table's; the metadata are JSON under the key "tae".

    Nothing is compressed, floats would hardly shrink, and names may be looked up in a dictionary: so what is read cannot
    take much more memory than the file has bytes.
    """

    @staticmethod
    def write(file: BinaryIO, rows: Rows, metadata: str) -> None:
        texts = {header: values.dtype.kind != "f" for header, values in rows.columns.items()}
        schema = _Parquet.schema(rows.dim, texts).with_metadata({PROGRAM: metadata})
        settings: dict[str, Any] = {"compression": "none", "use_dictionary": ["name"], "write_page_checksum": True}
        with pq.ParquetWriter(file, schema, **settings) as writer:
            waiting, count, first = [], 0, 0
            for (names, frames), latents in zip(rows.places(), rows.latents(), strict=True):
                columns = [
                    pa.array(names),
                    pa.array(frames),
                    pa.FixedSizeListArray.from_arrays(latents.ravel(), rows.dim),
                    *(pa.array(values[first : first + len(names)]) for values in rows.columns.values()),
                ]
                first += len(names)
                waiting.append(pa.table(columns, schema=schema))
                count += len(names)
                if count >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=count)
                    waiting, count = [], 0
            if count:
                writer.write_table(pa.concat_tables(waiting), row_group_size=count)

    @staticmethod
    def read(file: BufferedIOBase, size: int) -> tuple[list[str], np.ndarray, np.ndarray, str]:
        packings = codecs(file)  # first of all: pyarrow would end the process over one that it does not know
        reader = pq.ParquetFile(file, read_dictionary=["name"], page_checksum_verification=True)
        text = _Parquet._text(reader)
        kind = reader.schema_arrow.field("latent").type
        dim = kind.list_size if isinstance(kind, pa.FixedSizeListType) else 0
        found = {field.name: field.type for field in reader.schema_arrow}
        headers = [name for name in found if name not in OWN_COLUMNS]
        texts = {header: found[header] != pa.float64() for header in headers}
        wanted = {field.name: field.type for field in _Parquet.schema(dim, texts)}
        if headers != _parsed(text).get("columns", []) or len(reader.schema_arrow.names) != len(found):
            raise ValueError("its columns are others")
        if not dim or {**found, "name": pa.string()} != wanted or reader.schema.column(0).physical_type != "BYTE_ARRAY":
            raise ValueError("its columns are others")
        if packings != {0} or reader.metadata.num_rows * dim * 4 > size:
            raise ValueError("it is packed in a way that is not read")
        table = reader.read([*OWN_COLUMNS])
        if any(column.null_count for column in table.columns):
            raise ValueError("it has holes")
        names: list[str] = []
        for chunk in table.column("name").chunks:
            words = chunk.dictionary.to_pylist()
            names += [words[index] for index in chunk.indices.to_pylist()]
        frames = table.column("frame").to_numpy()
        latents = [chunk.flatten().to_numpy() for chunk in table.column("latent").chunks]
        return names, frames, np.concatenate([np.empty(0, np.float32), *latents]).reshape(-1, dim), text

    @staticmethod
    def metadata(file: BufferedIOBase, size: int) -> str:
        return _Parquet._text(pq.ParquetFile(file))

    @staticmethod
    def read_columns(file: BufferedIOBase, size: int, headers: Sequence[str]) -> list[np.ndarray]:
        if codecs(file) - {0}:
            raise ValueError("it is packed in a way that is not read")
        reader = pq.ParquetFile(file, page_checksum_verification=True)
        table = reader.read([*headers])
        return [table.column(header).to_numpy() for header in headers]

    @staticmethod
    def schema(dim: int, texts: Mapping[str, bool] | None = None) -> pa.Schema:
        """texts: whether each of a table's columns holds texts."""
        latent = pa.list_(pa.field("item", pa.float32(), nullable=False), dim)
        columns = {"name": pa.string(), "frame": pa.int32(), "latent": latent}
        columns |= {header: pa.string() if is_text else pa.float64() for header, is_text in (texts or {}).items()}
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])

    @staticmethod
    def _text(reader: pq.ParquetFile) -> str:
        return (reader.schema_arrow.metadata or {}).get(PROGRAM.encode(), b"").decode()


class _Npz:
    """Arrays names, frames, latents and metadata, a text of JSON; stored as they are, not compressed."""

    @staticmethod
    def write(file: BinaryIO, rows: Rows, metadata: str) -> None:
        longest = max(len(name) for names, _ in rows.places() for name in [*names, ""])
        names_type = np.dtype(f"<U{max(1, longest)}")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            names = (np.array(names, names_type) for names, _ in rows.places())
            _Npz._write_array(archive, "names", names_type, (rows.count,), names)
            frames = (frames for _, frames in rows.places())
            _Npz._write_array(archive, "frames", np.dtype("<i4"), (rows.count,), frames)
            _Npz._write_array(archive, "latents", np.dtype("<f4"), (rows.count, rows.dim), rows.latents())
            for place, values in enumerate(rows.columns.values()):
                dtype = np.dtype("<f8") if values.dtype.kind == "f" else values.astype(np.str_).dtype
                _Npz._write_array(archive, f"column_{place}", dtype, (rows.count,), [values])
            text = np.array(metadata)
            _Npz._write_array(archive, "metadata", text.dtype, (), [text])

    @staticmethod
    def read(file: BufferedIOBase, size: int) -> tuple[list[str], np.ndarray, np.ndarray, str]:
        with zipfile.ZipFile(file) as archive:
            names = _Npz._read_array(archive, size, "names", "U", 1).tolist()
            frames = _Npz._read_array(archive, size, "frames", "i4", 1)
            latents = _Npz._read_array(archive, size, "latents", "f4", 2)
            return names, frames, latents, str(_Npz._read_array(archive, size, "metadata", "U", 0))

    @staticmethod
    def read_columns(file: BufferedIOBase, size: int, headers: Sequence[str]) -> list[np.ndarray]:
        with zipfile.ZipFile(file) as archive:
            return [_Npz._read_array(archive, size, f"column_{place}", "fU", 1) for place in range(len(headers))]

    @staticmethod
    def metadata(file: BufferedIOBase, size: int) -> str:
        with zipfile.ZipFile(file) as archive:
            return str(_Npz._read_array(archive, size, "metadata", "U", 0))

    @staticmethod
    def _write_array(
        archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], pieces: Iterable[np.ndarray]
    ) -> None:
        entry = zipfile.ZipInfo(f"{name}.npy", (2000, 1, 1, 0, 0, 0))  # the same bytes whenever it is written
        with archive.open(entry, "w", force_zip64=True) as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, dtype).tobytes())

    @staticmethod
    def _read_array(archive: zipfile.ZipFile, size: int, name: str, kind: str, axes: int) -> np.ndarray:
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise ValueError("it is packed in a way that is not read")
        with archive.open(entry) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"the array {name} has another version")
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if (
                not (dtype.str[1:].startswith(kind) or kind == "fU" and dtype.kind in kind)
                or len(shape) != axes
                or is_fortran
            ):
                raise ValueError(f"the array {name} is of another kind")
            content = file.read()
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the array {name} is cut short")
        return np.frombuffer(content, dtype).reshape(shape).copy()


_FORMATS: dict[str, type[_Parquet] | type[_Npz]] = {".parquet": _Parquet, ".npz": _Npz}
SUFFIXES = tuple(_FORMATS)


def _format_of(path: Path) -> type[_Parquet] | type[_Npz]:
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise ValueError(f"a file of embeddings must end in {' or '.join(_FORMATS)}, got {path.name}")
    return found


def _parsed(text: str) -> dict:
    metadata = parse_json(text, "its metadata")
    if not isinstance(metadata, dict) or metadata.get("program") != PROGRAM:
        raise ValueError("its metadata are not this program's")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"its format must be {FORMAT_VERSION}, got {str(metadata.get('format_version'))[:20]}")
    return metadata


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what a broken file makes parsers raise, which is nearly anything, into an `EmbedError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's, not a parser's
            raise
        raise EmbedError(f"{path.name} is no whole file of embeddings of this program: {str(error)[:200]}") from error
