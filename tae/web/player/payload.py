"""Every frame of every row of the player of sequences as a PNG file, and what is said of it.

A row is one way to see the sequence: the true frames, their reconstruction, a model's predictions. All rows have the
same size of images; each may begin later and end earlier than the sequence does. Frames are numbered from 0 here, and
from 1 on the screen.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tae.data.encode import encode_png

NOTE_KINDS = ("note", "warning", "error")
ROUNDING = 1e-4  # how far outside [0, 1] pixels may be: less than a quarter of a grey step, as blended images come out

Payload = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of the film strip."""

    name: str  # short; shown as it is, and not twice in one player
    help: str  # a sentence that says what the row shows
    images: np.ndarray
    """(n, H, W) float in [0, 1] or uint8 in [0, 255], of the frames first, first + 1, ...; n may be 0."""
    first: int = 0  # frame of images[0], from 0
    errors: np.ndarray | None = None  # (m,) of the first m <= n images; one that is not finite is not known
    is_shown: bool = True  # whether the player shows it at the start; the strip has it in any case


@dataclass(frozen=True)
class Sent:
    """The frame that the server set last, and what is known since; see `settle`."""

    digest: str  # of the sequence
    revision: int  # the browser keeps its own frame until this changes
    frame: int  # what was set then
    known: int  # what the browser is known to show
    given: int  # what the page gave last


def encode(images: np.ndarray) -> tuple[bytes, ...]:
    """(n, H, W), float in [0, 1] or uint8 -> n PNG files, 8-bit grey."""
    return tuple(encode_png(image) for image in images)


def payload(
    rows: Sequence[Row],
    frame: int = 0,
    seen: int | None = None,
    frame_ms: int = 200,
    notes: Sequence[tuple[str, str]] = (),
    error_name: str = "MSE",
    *,
    revision: int = 0,
    memory: str = "",
    encode: Callable[[np.ndarray], tuple[bytes, ...]] = encode,
) -> Payload:
    """All that the player needs. "images", one array of bytes, travels as a binary Arrow column; the rest is JSON.

    Args:
        rows: From top to bottom; the sequence ends where the last of them does.
        frame: Where it opens, from 0.
        seen: How many frames the model had seen before it predicted the first: those from here on are marked as
            predicted. None: nothing is.
        frame_ms: How long a frame is shown at normal speed.
        notes: (kind, text), stand above; the kind is one of `NOTE_KINDS`, "error" is red.
        error_name: What the rows' errors are, with their unit.
        revision: The browser takes `frame` when this, or the sequence, is another one; else it keeps its own.
        memory: A person's frame and rows are kept under this name while the page is left; "": they are not.
        encode: Makes the PNG files; a page gives one that remembers them.

    Raises:
        ValueError: If there is no frame, the rows do not fit together, or one of the numbers is out of its range.
    """
    if not rows:
        raise ValueError("rows must be at least one, got none")
    for row in rows:
        _check(row, rows[0])
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"names of rows must all be different, got {', '.join(names)}")
    count = length(rows)
    if count == 0:
        raise ValueError("rows must have at least one frame, got none")
    if not 0 <= frame < count:
        raise ValueError(f"frame must be 0 to {count - 1}, got {frame}")
    if seen is not None and not 0 <= seen <= count:
        raise ValueError(f"seen must be 0 to {count}, how many frames were seen, or None, got {seen}")
    if frame_ms < 1:
        raise ValueError(f"frame_ms must be at least 1, got {frame_ms}")
    for kind, _ in notes:
        if kind not in NOTE_KINDS:
            raise ValueError(f"unknown kind of note {kind!r}; choose from: {', '.join(NOTE_KINDS)}")
    files = [encode(row.images) for row in rows]
    sequence = {
        "rows": [_entry(row, pngs) for row, pngs in zip(rows, files, strict=True)],
        "count": count,
        "size": list(rows[0].images.shape[1:]),
        "seen": seen,
        "error_name": error_name,
    }
    whole = b"".join(png for pngs in files for png in pngs)
    return {
        **sequence,
        "digest": hashlib.sha256(json.dumps(sequence).encode() + whole).hexdigest()[:32],
        "images": np.frombuffer(whole, np.uint8),
        "frame": int(frame),
        "revision": revision,
        "frame_ms": int(frame_ms),
        "notes": [{"text": text, "severity": kind} for kind, text in notes],
        "memory": memory,
    }


def length(rows: Sequence[Row]) -> int:
    """How many frames the sequence has: up to the last one of any row."""
    return max((row.first + len(row.images) for row in rows if len(row.images)), default=0)


def settle(before: Sent | None, told: object, digest: str, frame: int, count: int) -> Sent:
    """The frame to send: a new one only for another sequence, or where the page means another than the browser shows.

    A page may give the frame that it got back, or the same one on every run: neither moves the browser.

    Args:
        before: What the last run settled; None at first.
        told: What the browser told, which may hold anything; None before the first frame that rested.
        digest: Digest of the sequence that is shown now.
        frame: Given by the page, one that there is.
        count: How many frames there are.
    """
    if before is None or digest != before.digest:
        revision = 0 if before is None else before.revision + 1
        return Sent(digest, revision, frame, known=frame, given=frame)
    known = read_frame(told, before, count)
    # What it got back lags a run behind: `before.known` is no wish of its own.
    if frame not in (before.given, before.known, known):
        return Sent(digest, before.revision + 1, frame, known=frame, given=frame)
    return replace(before, known=known, given=frame)


def read_frame(told: object, sent: Sent, count: int) -> int:
    """The frame that the browser told, which may hold anything: what is none, or is older than `sent`, changes nothing."""
    if not isinstance(told, Mapping) or (told.get("digest"), told.get("revision")) != (sent.digest, sent.revision):
        return sent.known
    frame = told.get("frame")
    if isinstance(frame, int) and not isinstance(frame, bool) and 0 <= frame < count:
        return frame
    return sent.known


def _check(row: Row, other: Row) -> None:
    images = row.images
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise ValueError(f"images of {row.name!r} must be (n, H, W), got shape {images.shape}")
    if images.shape[1:] != other.images.shape[1:]:
        (height, width), (other_height, other_width) = images.shape[1:], other.images.shape[1:]
        raise ValueError(
            f"images of all rows must have one size, got {width}x{height} in {row.name!r} and "
            f"{other_width}x{other_height} in {other.name!r}"
        )
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise ValueError(f"images of {row.name!r} must be float or uint8, got {images.dtype}")
        lowest, highest = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
        if not (lowest >= -ROUNDING and highest <= 1 + ROUNDING):  # NaN fails too
            raise ValueError(f"images of {row.name!r} must be in [0, 1], got {lowest:g} to {highest:g}")
    if row.first < 0:
        raise ValueError(f"first of {row.name!r} must be at least 0, got {row.first}")
    if row.errors is not None and (row.errors.ndim != 1 or len(row.errors) > len(images)):
        raise ValueError(
            f"errors of {row.name!r} must be one for each of at most {len(images)} images, got shape {row.errors.shape}"
        )


def _entry(row: Row, pngs: Sequence[bytes]) -> dict[str, Any]:
    errors = [] if row.errors is None else [float(error) for error in row.errors]
    return {
        "name": row.name,
        "help": row.help,
        "first": row.first,
        "sizes": [len(png) for png in pngs],
        "errors": [error if np.isfinite(error) else None for error in errors],  # JSON has no NaN
        "is_shown": row.is_shown,
    }
