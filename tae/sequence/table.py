"""Tables beside frames: what was measured, frame by frame or sequence by sequence.

A table is a CSV file with a header (separated by commas, semicolons or tabs) or a Parquet file. The header "velocity (cm/s)" is
the column velocity, in cm/s. Empty cells, and those that say nan, na, null, none or -, hold no value. Rows find their frames:

    by name     a column holds the frames' file names, with or without folder and ending
    by sequence a column holds the sequence's name: one row tells of the whole sequence, as many as it has frames of each
    in order    a table that is the sequence's own has a row for each frame, and no names

A folder of frames has its own table inside; a file of frames, beside it, under the same name. A table in a folder above tells
of all sequences below.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from tae.store.names import natural_order, plain_text
from tae.store.sealed import open_regular

SUFFIXES = (".csv", ".tsv", ".parquet")
MAX_BYTES = 256 * 1024**2
MAX_COLUMNS = 1000
_MISSING = ("", "nan", "na", "n/a", "null", "none", "-")


class TableError(ValueError):
    """A table cannot be read, or does not fit the frames; one sentence that names the file."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    header: str
    """As it stands in the file."""
    texts: tuple[str, ...]
    """Its cells; "" where there is no value."""

    @cached_property
    def _parts(self) -> tuple[str, str]:
        found = re.fullmatch(r"\s*(.+?)\s*[(\[]([^()\[\]]*)[)\]]\s*", self.header)
        return (found[1], found[2].strip()) if found else (self.header.strip(), "")

    @property
    def name(self) -> str:
        """The header without its unit."""
        return self._parts[0]

    @property
    def unit(self) -> str:
        """ "" where the header has none."""
        return self._parts[1]

    @cached_property
    def numbers(self) -> np.ndarray:
        """(rows,) float64, NaN where there is no value.

        Raises:
            ValueError: If a cell holds something else than a finite number; it is named.
        """
        values = np.full(len(self.texts), np.nan)
        for row, text in enumerate(self.texts):
            if text:
                try:
                    values[row] = float(text)
                except ValueError:
                    values[row] = np.inf
                if not math.isfinite(values[row]):
                    raise ValueError(
                        f"the column {plain_text(self.header)} must hold numbers, got {plain_text(text)!r} in row {row + 1}"
                    )
        return values

    @cached_property
    def is_number(self) -> bool:
        """Whether every cell that is not empty is a number, and one is there."""
        try:
            return not np.isnan(self.numbers).all()
        except ValueError:
            return False

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The rows of each text."""
        found: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            found.setdefault(text.replace("\\", "/").removeprefix("./"), []).append(row)
        return found


@dataclass(frozen=True)
class Match:
    """Which row tells of which frame."""

    rows: np.ndarray
    """(T,) int, from 0; -1: none."""
    by: str
    """How they were matched, in words."""


@dataclass(frozen=True)
class Table:
    """A table in memory."""

    file: str
    """Name of the file."""
    columns: tuple[Column, ...]

    @property
    def num_rows(self) -> int:
        return len(self.columns[0].texts)

    def column(self, name: str) -> Column | None:
        """The column of this header or name, whatever its case; None where there is none.

        Raises:
            TableError: If several are meant.
        """
        wanted = name.strip().lower()
        for tells in (lambda one: one.header.strip().lower(), lambda one: one.name.lower()):
            found = [one for one in self.columns if tells(one) == wanted]
            if len(found) > 1:
                headers = ", ".join(plain_text(one.header) for one in found)
                raise TableError(
                    f"{self.file} has several columns {plain_text(name)}: {headers}; give one with its unit"
                )
            if found:
                return found[0]
        return None

    def match(self, sequence: str, frames: Sequence[str], is_own: bool, is_short: bool = True) -> Match | None:
        """The rows of a sequence's frames; None where the table tells nothing of it.

        Args:
            sequence: Its path below the table's folder, with forward slashes.
            frames: Path of each frame's file below the table's folder; "" where frames have none of their own.
            is_own: Whether the table tells of this sequence alone.
            is_short: Whether the last part of its path is enough to tell it from others.

        Raises:
            TableError: If a frame has several rows, or the rows cannot be told from their number.
        """
        rows, by = list(range(self.num_rows)), ""
        if not is_own:
            for column in self.columns:
                of_sequence = [row for key in _keys(sequence, is_short) for row in column.places.get(key, [])]
                if of_sequence:
                    rows, by = sorted(set(of_sequence)), f"the sequence's name in {plain_text(column.header)}"
                    break
        named = self._by_name(frames, rows, is_short=is_own or bool(by))
        if named is not None:
            return named
        if len(rows) == 1 and by:
            return Match(np.full(len(frames), rows[0]), by)
        if not (is_own or by):
            return None
        if len(rows) != len(frames):
            raise TableError(
                f"{self.file} must have a column with the frames' file names, or a row for each of the {len(frames)} frames of "
                f"{plain_text(sequence)}, got {len(rows)} rows and no such names"
            )
        return Match(np.array(rows), f"{by}, in order" if by else "order")

    def _by_name(self, frames: Sequence[str], rows: Sequence[int], is_short: bool) -> Match | None:
        """By the column that names most frames; is_short: whether names need no folder."""
        if not any(frames):
            return None
        best, kept = None, set(rows)
        keys = [_keys(frame, is_short) for frame in frames]
        shared = {key for key, count in Counter(key for some in keys for key in some).items() if count > 1}
        for place, column in enumerate(self.columns):
            if column.is_number and place:  # numbers such as 1, 2, 3 are names only where they come first
                continue
            found = np.full(len(frames), -1)
            for number, frame in enumerate(frames):
                for key in keys[number]:
                    if key in shared:  # it tells no frame from another
                        continue
                    hits = [row for row in column.places.get(key, ()) if row in kept]
                    if len(hits) > 1:
                        raise TableError(
                            f"{self.file} must have one row for each frame, got {len(hits)} for {plain_text(frame)} "
                            f"(rows {hits[0] + 1} and {hits[1] + 1})"
                        )
                    if hits:
                        found[number] = hits[0]
                        break
            count = int((found >= 0).sum())
            if column.is_number and count < len(frames):
                continue
            if count and (best is None or count > (best.rows >= 0).sum()):
                best = Match(found, f"the file names in {plain_text(column.header)}")
        return best


def read_table(path: Path | str) -> Table:
    """Read a CSV or Parquet file; nothing in it is executed.

    Raises:
        TableError: If it is no table with a header, two columns have the same one, or it is too large.
        OSError: If it cannot be read.
    """
    path = Path(path)
    name = plain_text(path.name, 80)
    try:
        with open_regular(path) as (file, size):
            if size > MAX_BYTES:
                raise TableError(f"a table must be at most {MAX_BYTES // 1024**2} MB, got {size / 1024**2:.0f} MB")
            content = file.read(size)
        columns = _from_parquet(content) if path.suffix.lower() == ".parquet" else _from_csv(content)
        headers = Counter(column.header for column in columns)
        twice = [header for header, count in headers.items() if count > 1]
        if twice:
            raise TableError(f"each column must have a header of its own, got {plain_text(twice[0])} twice")
        if not columns or not columns[0].texts:  # of Parquet
            raise TableError("a table must have a header and at least one row")
        if len(columns) > MAX_COLUMNS:
            raise TableError(f"a table must have at most {MAX_COLUMNS} columns, got {len(columns)}")
    except ValueError as error:
        raise TableError(f"{name}: {str(error)[:500]}") from None
    return Table(name, columns)


def header_of(name: str, unit: str) -> str:
    """ "velocity (cm/s)"."""
    return f"{name} ({unit})" if unit else name


def tables_in(folder: Path) -> list[Path]:
    """The tables of a folder, in natural order; hidden ones are passed over."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: natural_order(path.name))


class Tables:
    """The tables beside the sequences of a file or folder, each read once.

    Attributes:
        told: A sentence for each table that tells of a sequence: how it was matched, and how many rows belong to no frame.
    """

    def __init__(
        self, data: Path, sequences: Iterable[tuple[str, tuple[Path, ...]]], table: Path | None = None
    ) -> None:
        """Args: file or folder of the sequences; name and files of each; one table for all, or None: those beside them.

        Raises:
            FileNotFoundError: If `table` is given and not there.
        """
        self.home = data if data.is_dir() else data.parent
        self.sequences: dict[str, tuple[Path, ...]] = dict(sequences)
        self.table = table
        if table is not None and not table.is_file():
            raise FileNotFoundError(f"{table} is no table; give a CSV or Parquet file")
        self._read: dict[Path, Table] = {}
        self._used: dict[Path, tuple[set[int], set[str]]] = {}

    def columns(self, sequence: str, frames: Sequence[Path | None]) -> dict[str, Column]:
        """{header: the column, a cell for each frame, "" where there is none} of all tables that tell of a sequence.

        Of two tables with the same column, the nearer one counts: its own before those of the folders above.

        Args:
            sequence: Its name.
            frames: The file of each frame that is there; None where it has none of its own.

        Raises:
            TableError: If a table does not fit the frames, or it is not clear which one is meant.
        """
        found: dict[str, Column] = {}
        for path, folder, is_own in self._paths(sequence):
            table = self._table(path)
            places = ["" if frame is None else _below(frame, folder) for frame in frames]
            match = table.match(_below(self.home / sequence, folder), places, is_own, self._is_short(sequence))
            if match is None:
                continue
            rows, ways = self._used.setdefault(path, (set(), set()))
            rows.update(match.rows[match.rows >= 0].tolist())
            ways.add(match.by)
            for column in table.columns:
                if column.header not in found:
                    cells = tuple(column.texts[row] if row >= 0 else "" for row in match.rows)
                    found[column.header] = Column(column.header, cells)
        return found

    def headers(self) -> list[str]:
        """Those of all tables that may tell of a sequence; raises as `columns`."""
        paths = dict.fromkeys(path for sequence in self.sequences for path, _, _ in self._paths(sequence))
        return list(dict.fromkeys(column.header for path in paths for column in self._table(path).columns))

    @property
    def told(self) -> list[str]:
        sentences = []
        for path, (rows, ways) in self._used.items():
            left = self._table(path).num_rows - len(rows)
            unused = f"; {left} of its rows belong to no frame" if left else ""
            sentences.append(f"table {self._table(path).file}: matched by {' and '.join(sorted(ways))}{unused}")
        return sentences

    def _is_short(self, sequence: str) -> bool:
        stem = PurePosixPath(sequence).stem
        return sum(PurePosixPath(name).stem == stem for name in self.sequences) == 1

    def _table(self, path: Path) -> Table:
        if path not in self._read:
            self._read[path] = read_table(path)
        return self._read[path]

    def _paths(self, sequence: str) -> list[tuple[Path, Path, bool]]:
        """Each table that may tell of a sequence, the nearest first: its path, its folder, whether it is the sequence's own."""
        if self.table is not None:
            return [(self.table, self.home, len(self.sequences) == 1)]
        files = self.sequences[sequence]
        first = files[0]
        found, folder = [], first.parent
        if len(files) > 1:
            found, folder = [(path, folder, True) for path in self._only(folder, ())], folder.parent
            if first.parent == self.home:
                return found
        else:
            beside = [path for path in tables_in(folder) if path.stem == first.stem]
            found = [(path, folder, True) for path in self._one_of(beside, folder)]
        while folder == self.home or self.home in folder.parents:
            own = {files[0].stem for files in self.sequences.values() if len(files) == 1 and files[0].parent == folder}
            found += [(path, folder, False) for path in self._only(folder, own)]
            folder = folder.parent
        return found

    def _only(self, folder: Path, others: Iterable[str]) -> list[Path]:
        return self._one_of([path for path in tables_in(folder) if path.stem not in set(others)], folder)

    @staticmethod
    def _one_of(paths: list[Path], folder: Path) -> list[Path]:
        if len(paths) > 1:
            names = ", ".join(plain_text(path.name) for path in paths[:5])
            raise TableError(
                f"{plain_text(folder.name)} must hold one table, got {len(paths)}: {names}; name the one that is meant by --table"
            )
        return paths


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _keys(name: str, is_short: bool) -> list[str]:
    """What a cell may call a file or folder: its path, or its name, with or without its ending."""
    path = PurePosixPath(name)
    paths = [path, PurePosixPath(path.name)] if is_short else [path]
    return list(dict.fromkeys(text for one in paths for text in (str(one), str(one.with_suffix(""))) if name))


def _cell(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def _from_csv(content: bytes) -> tuple[Column, ...]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")  # what older spreadsheets write
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = [*csv.reader(io.StringIO(text.strip("\r\n")), delimiter=separator)]
    except csv.Error as error:
        raise TableError(f"it is no CSV file: {error}") from None
    if not rows:
        raise TableError("the table must not be empty")
    header, *rows = rows
    # A blank line is no row, but where a row has a single cell it is one without a value.
    rows = [row or [""] for row in rows if row or len(header) == 1]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise TableError(f"each row must have the header's {len(header)} cells, got {len(row)} in row {number}")
    if not rows:
        raise TableError("a table must have a header and at least one row")
    columns: list[tuple[str, ...]] = [tuple(map(_cell, cells)) for cells in zip(*rows, strict=True)]
    if separator == ";":  # where a comma is the decimal point
        columns = [tuple(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in cells) for cells in columns]
    return tuple(Column(title.strip(), cells) for title, cells in zip(header, columns, strict=True))


def _from_parquet(content: bytes) -> tuple[Column, ...]:
    try:
        import pyarrow.parquet as pq
    except ImportError:  # a cut-down installation
        raise TableError("Parquet needs pyarrow; pip install pyarrow, or save the table as CSV") from None
    try:
        about = pq.ParquetFile(io.BytesIO(content)).metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if max(size, 8 * about.num_rows * about.num_columns) > 4 * MAX_BYTES:
            raise ValueError(f"its columns must come to at most {4 * MAX_BYTES // 1024**2} MB unpacked")
        table = pq.read_table(io.BytesIO(content))
        if len(set(table.column_names)) < len(table.column_names):
            raise ValueError("two columns have the same name")
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except Exception as error:  # a broken file makes its parser raise nearly anything
        raise TableError(f"it is no whole Parquet file: {error}") from None
    return tuple(
        Column(name, tuple("" if cell is None else _cell(str(cell)) for cell in cells))
        for name, cells in columns.items()
    )
