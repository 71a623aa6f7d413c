"""The footer of a Parquet file, as far as it must be known before the library may look at it.

pyarrow ends the process, not the call, where a column names a compression that it does not know: one flipped bit is enough. So
the footer, which is written in Thrift's compact protocol, is walked here first.
"""

from io import BufferedIOBase
from typing import Any

MAX_FOOTER_BYTES = 64 * 1024**2
_STRUCT, _LIST, _SET, _MAP, _BINARY, _DOUBLE, _BYTE = 12, 9, 10, 11, 8, 7, 3
_ROW_GROUPS, _COLUMNS, _ABOUT, _CODEC = 4, 1, 3, 4
"""Fields of Parquet's FileMetaData, RowGroup, ColumnChunk and ColumnMetaData."""


def codecs(file: BufferedIOBase) -> set[int]:
    """The numbers of all compressions that a file's columns name; 0 is none. The file is left at its start.

    Raises ValueError if the footer is none.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or length > min(MAX_FOOTER_BYTES, size - 8):
        raise ValueError("it has no footer")
    file.seek(size - 8 - length)
    footer = _Compact(file.read(length))
    file.seek(0)
    try:
        groups = footer.value(_STRUCT)[_ROW_GROUPS]
        return {column[_ABOUT][_CODEC] for group in groups for column in group[_COLUMNS]}
    except (IndexError, KeyError, RecursionError, TypeError):
        raise ValueError("its footer is damaged") from None


class _Compact:
    """Values one after the other; structs as {number of a field: value}."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found
            if shift > 70:
                raise IndexError

    def value(self, kind: int) -> Any:
        if kind in (1, 2):  # in a struct the kind is the truth value itself
            return kind == 1
        if kind == _BYTE:
            return self.byte()
        if kind == _DOUBLE:
            return self._skip(8)
        if kind == _BINARY:
            return self._skip(self.varint())
        if kind in (_LIST, _SET):
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            # Truth values take a byte each here; and no list has more entries than bytes are left.
            kind = _BYTE if head & 15 in (1, 2) else head & 15
            return [self.value(kind) for _ in range(min(count, len(self.data) - self.at + 1))]
        if kind == _MAP:
            count = self.varint()
            kinds = self.byte() if count else 0
            pairs = min(count, len(self.data) - self.at + 1)
            return [(self.value(kinds >> 4), self.value(kinds & 15)) for _ in range(pairs)]
        if kind == _STRUCT:
            return self._struct()
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def _struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.value(4)
            found[field] = self.value(head & 15)
        return found

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError
