"""A second, plain implementation of the sealed format, to make files that the program never would."""

import hashlib
import json
from collections.abc import Iterable

Raw = dict[str, tuple[str, list, bytes]]
"""Tensors by name: dtype, shape, bytes."""


def pack(header: dict | bytes, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def unpack(file: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def texts_of(file: bytes) -> dict[str, str]:
    return unpack(file)[0]["__metadata__"]


def tensors_of(file: bytes) -> Raw:
    header, data = unpack(file)
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def forge(tensors: Raw, texts: dict[str, str | None], sealed: Iterable[str]) -> bytes:
    """A file with a right seal, whatever it says, unless the texts bring one; None leaves a text out."""
    listed = [[name, dtype, shape, hashlib.sha256(data).hexdigest()] for name, (dtype, shape, data) in tensors.items()]
    content = [*map(texts.get, sealed), sorted(listed)]
    sha256 = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    texts = {**texts, "sha256": texts.get("sha256", sha256)}
    header: dict = {"__metadata__": {name: text for name, text in texts.items() if text is not None}}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    return pack(header, b"".join(data for _, _, data in tensors.values()))
