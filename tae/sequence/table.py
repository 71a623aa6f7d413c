"""Tables beside frames: what was measured, frame by frame or sequence by sequence.

A table is a CSV file with a header (separated by commas, semicolons or tabs) or a Parquet file. The header "velocity (cm/s)" is
the column velocity, in cm/s. Empty cells, and those that say nan, na, null, none or -, hold no value. Rows find their frames:

    by name     a column holds the frames' file names, with or without folder and ending, in capitals or not
    by sequence a column holds the sequence's name: one row tells of the whole sequence, as many as it has frames of each
    in order    a table that is the sequence's own has a row for each frame, and no names; one that names others is refused

A folder of frames has its own table inside; a file of frames, beside it, under the same name. A table in a folder above tells
of all sequences below.
"""

import codecs
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

from tae.data.stacks import SUFFIXES as IMAGE_SUFFIXES
from tae.data.video import VIDEO_SUFFIXES
from tae.store.names import natural_order, plain_text
from tae.store.regular import open_regular

SUFFIXES = (".csv", ".tsv", ".parquet")
MAX_BYTES = 256 * 1024**2
MAX_COLUMNS = 1000
_ENDINGS = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
# float() takes 0001_01 for a number, too.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)
_NUMBERED = re.compile(r"(?=.*[^\W\d])[\w\- ]*\d")  # such as frame_7 and 0001_01, and no date or time
_UNNAMED = re.compile(r"(__index_level_\d+__)?")  # pandas calls its index so, where it has a name at all
_MISSING = ("", "nan", "na", "n/a", "null", "none", "-")


class TableError(ValueError):
    """A table cannot be read, or does not fit the frames; one sentence that names the file."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    header: str
    """The header as it stands in the file."""
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
                values[row] = float(text) if _NUMBER.fullmatch(text) else np.inf
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
    def is_nearly_number(self) -> bool:
        """Whether most cells that are not empty are numbers, those with a comma for the point among them."""
        there = [text for text in self.texts if text]
        found = sum(1 for text in there if _NUMBER.fullmatch(text) or _DECIMAL_COMMA.fullmatch(text))
        return 2 * found > len(there)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The rows of each text, as `_keys` writes paths."""
        found: dict[str, list[int]] = {}
        for row, text in enumerate(self.texts):
            found.setdefault(_folded(text), []).append(row)
        return found

    @cached_property
    def ends(self) -> dict[str, list[int]]:
        """The rows of what is left of each path without its first folders: x/y.png and y.png of /data/x/y.png."""
        found: dict[str, list[int]] = {}
        for text, rows in self.places.items():
            while "/" in text:
                text = text.partition("/")[2]
                found.setdefault(text, []).extend(rows)
        return found

    def rows_of(self, keys: Sequence[str], ends: Sequence[str], kept: set[int]) -> list[int]:
        """Those of `kept` that the first of these keys is found in, or else the end of."""
        for found, some in ((self.places, keys), (self.ends, ends)):
            for key in some:
                rows = [row for row in found.get(key, ()) if row in kept]
                if rows:
                    return rows
        return []

    def names_files(self, rows: Sequence[int]) -> bool:
        """Whether these rows' cells look like names of files, another in most rows."""
        there = [text for text in (self.texts[row] for row in rows) if text]
        if self.is_number or len(there) < 2 or 2 * len(set(there)) <= len(rows):
            return False
        found = sum(1 for text in there if text.lower().endswith(_ENDINGS) or _NUMBERED.fullmatch(text))
        return 2 * found > len(there)


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
        """Rows below the header."""
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
                keys = _keys(sequence, is_short)
                of_sequence = [row for key in keys for row in column.places.get(key, [])]
                of_sequence = of_sequence or [row for key in _ends(keys, is_short) for row in column.ends.get(key, [])]
                if of_sequence:
                    rows, by = sorted(set(of_sequence)), f"the sequence's name in {plain_text(column.header)}"
                    break
        named = self._by_name(frames, rows, is_own or bool(by))
        if named is not None:
            return named
        if len(rows) == 1 and by:
            return Match(np.full(len(frames), rows[0]), by)
        if not (is_own or by):
            return None
        for column in self.columns if any(frames) else ():
            if column.names_files(rows):
                got = next(column.texts[row] for row in rows if column.texts[row])
                raise TableError(
                    f"{self.file} must name the frames of {plain_text(sequence)} as their files, such as "
                    f"{plain_text(next(filter(None, frames)))}, got {plain_text(got)} in {plain_text(column.header)}; mend the "
                    "names, or leave that column out where the rows are in the frames' order"
                )
        if len(rows) != len(frames):
            raise TableError(
                f"{self.file} must have a column with the frames' file names, or a row for each of the {len(frames)} frames of "
                f"{plain_text(sequence)}, got {len(rows)} rows and no such names"
            )
        return Match(np.array(rows), f"{by}, in order" if by else "order")

    def _by_name(self, frames: Sequence[str], rows: Sequence[int], is_short: bool) -> Match | None:
        """By the column that names most frames.

        is_short: whether all rows tell of these frames, so that names need no folder, and most must be found.
        """
        if not any(frames):
            return None
        best, count, kept = None, 0, set(rows)
        keys = [_keys(frame, is_short) for frame in frames]
        paths = [_keys(frame, False) for frame in frames]
        short, whole = (Counter(key for some in each for key in some) for each in (keys, paths))
        alone = [[key for key in some if short[key] == 1] for some in keys]  # others tell no frame from another,
        own = [  # but for paths: 1.png is the one that is in no folder
            [key for key in some if short[key] == 1 or (key in path and whole[key] == 1)]
            for some, path in zip(keys, paths, strict=True)
        ]
        for place, column in enumerate(self.columns):
            if column.is_number and place:  # numbers such as 1, 2, 3 are names only where they come first
                continue
            hits = [column.rows_of(some, _ends(ends, is_short), kept) for some, ends in zip(own, alone, strict=True)]
            found = sum(1 for some in hits if some)
            least = len(frames) if column.is_number else min(len(frames), len(rows)) / 2 if is_short else 1
            if found >= max(1, least) and found > count:
                best, count = (column, hits), found
        if best is None:
            return None
        column, hits = best
        for frame, some in zip(frames, hits, strict=True):
            if len(some) > 1:
                raise TableError(
                    f"{self.file} must have one row for each frame, got {len(some)} for {plain_text(frame)} "
                    f"(rows {some[0] + 1} and {some[1] + 1})"
                )
        return Match(
            np.array([some[0] if some else -1 for some in hits]), f"the file names in {plain_text(column.header)}"
        )


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
        columns = _named(_from_parquet(content) if path.suffix.lower() == ".parquet" else _from_csv(content))
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
        self._short = Counter(map(_short, self.sequences))
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

    def whole(self) -> list[dict[str, Column]]:
        """{header: column} of each table that may tell of a sequence, with all its rows; raises as `columns`."""
        paths = dict.fromkeys(path for sequence in self.sequences for path, _, _ in self._paths(sequence))
        return [{column.header: column for column in self._table(path).columns} for path in paths]

    def check(self) -> None:
        """Raise as `columns` what can be known without reading a frame."""
        used, self._used = self._used, {}
        for sequence, files in self.sequences.items():
            if len(files) > 1:
                self.columns(sequence, files)
        self._used = used

    @property
    def told(self) -> list[str]:
        """A sentence for each table: how its rows were matched, and how many belong to no frame."""
        sentences = []
        for path, (rows, ways) in self._used.items():
            left = self._table(path).num_rows - len(rows)
            unused = f"; {left} of its rows belong to no frame" if left else ""
            sentences.append(f"table {self._table(path).file}: matched by {' and '.join(sorted(ways))}{unused}")
        return sentences

    def _is_short(self, sequence: str) -> bool:
        return self._short[_short(sequence)] == 1

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


def class_name(cell: str) -> str:
    """What a class is called: of a number, its value, however it is written."""
    if not _NUMBER.fullmatch(cell):
        return cell
    value = float(cell)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def class_numbers(classes: Sequence[str], cells: Sequence[str]) -> np.ndarray:
    """(cells,) float64: the place of each cell's class, NaN where it is none. Classes are numbers where all are."""
    are_numbers = all(_NUMBER.fullmatch(one) for one in classes)
    called = class_name if are_numbers else str
    places = {called(one): place for place, one in enumerate(classes)}
    return np.array([places.get(called(cell), np.nan) for cell in cells], float)


def _folded(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./").casefold()


def _bare(path: str) -> str:
    """Without the ending of an image or video: the rest of water_1.5 is no ending."""
    ending = PurePosixPath(path).suffix
    return path.removesuffix(ending) if ending.lower() in _ENDINGS else path


def _short(path: str) -> str:
    return _bare(_folded(path).rpartition("/")[2])


def _keys(name: str, is_short: bool) -> list[str]:
    """What a cell may call a file or folder: its path, or its name, with or without its ending."""
    path = _folded(name)
    paths = [path, path.rpartition("/")[2]] if is_short else [path]
    return list(dict.fromkeys(text for one in paths for text in (one, _bare(one)) if text))


def _ends(keys: Sequence[str], is_short: bool) -> list[str]:
    """Those of the keys that may stand behind folders: without one of its own, a name is that of a file in any."""
    return [key for key in keys if is_short or "/" in key]


def _named(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns without a header get one, but for those that only count the rows, or are empty."""
    found = []
    for place, column in enumerate(columns):
        if not _UNNAMED.fullmatch(column.header):
            found.append(column)
            continue
        counts = [[str(row) for row in range(first, first + len(column.texts))] for first in (0, 1)]
        if any(column.texts) and list(column.texts) not in counts:
            found.append(Column(f"column {place + 1}", column.texts))
    return tuple(found)


def _cell(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in _MISSING else text


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")  # what older spreadsheets write


def _from_csv(content: bytes) -> tuple[Column, ...]:
    lines = _decoded(content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[0].strip(" \t,;"):
        del lines[0]
    told = re.fullmatch(r'"?sep=([,;\t])"?[\s,;]*', lines[0]) if lines else None  # which Excel writes and reads
    if told:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    if not lines:
        raise TableError("the table must not be empty")
    separator = told[1] if told else max(",;\t", key=lines[0].count)
    try:
        rows = [*csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, skipinitialspace=True)]
    except csv.Error as error:
        raise TableError(f"it is no CSV file: {error}") from None
    header, *rows = rows
    # A blank line is no row, but where a row has a single cell it is one without a value.
    rows = [row or [""] for row in rows if row or len(header) == 1]
    while len(header) > 1 and not any(
        row[len(header) - 1 :] and row[len(header) - 1].strip() for row in (header, *rows)
    ):
        header.pop()  # of a sheet that was once wider
    for number, row in enumerate(rows, start=1):
        while len(row) > len(header) and not row[-1].strip():
            row.pop()
        if len(row) != len(header):
            raise TableError(f"each row must have the header's {len(header)} cells, got {len(row)} in row {number}")
    if not rows:
        raise TableError("a table must have a header and at least one row")
    columns: list[tuple[str, ...]] = [tuple(map(_cell, cells)) for cells in zip(*rows, strict=True)]
    if separator != ",":  # where a comma may be the decimal point
        columns = [tuple(_with_point(cell) for cell in cells) for cells in columns]
    return tuple(Column(title.strip(), cells) for title, cells in zip(header, columns, strict=True))


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


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
