"""The sequences of a session: what was dropped, simulated recordings, and their frames at a model's size."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from tae.data.decode import ImageError
from tae.data.drops.motion import draw_recording
from tae.data.fit import FitMode
from tae.data.foreign import what_it_is
from tae.data.stacks import SUFFIXES
from tae.data.video import VIDEO_SUFFIXES, file_frames
from tae.data.white import White
from tae.model.config import ModelConfig
from tae.sequence import table
from tae.sequence.clip import Film, open_film
from tae.sequence.data import Found, find_sequences
from tae.sequence.drops import drop_columns, drop_frames
from tae.sequence.table import Column, Table, TableError
from tae.store.names import natural_order, plain_text
from tae.store.refusals import log_refused
from tae.ui.session import keeping
from tae.ui.session.cache import kept, read_only
from tae.ui.session.images import add_pixels
from tae.ui.session.models import Active
from tae.ui.session.results import fit_mode
from tae.ui.session.white import white_now

DROPS = 6
"""Simulated recordings to choose from: the first of the test split."""
MAX_BYTES = 300 * 1024**2
"""Most bytes of a session's sequences, as files."""
ENDINGS = (*SUFFIXES, *VIDEO_SUFFIXES, *table.SUFFIXES)  # endings of the files that can be dropped


@dataclass(frozen=True)
class Clip:
    """A sequence that the page can show."""

    key: str  # what the link calls it
    title: str  # what the page calls it; a stranger's text, to be escaped
    digest: str  # SHA-256 of its files, or what names a recording
    found: Found | None = None  # its files; None for a simulated recording
    drop: int = 0  # number of that
    columns: Mapping[str, Column] = field(default_factory=dict)
    """A table that was dropped with it: {header: a cell for each of its frames}."""
    names: Mapping[str, str] = field(default_factory=dict)  # {name of a file on disk: as it was dropped}


def clips() -> dict[str, Clip]:
    """The sequences to choose from: the session's own, the latest first, and those that come with the package."""
    own: dict[str, Clip] = st.session_state.setdefault("sequence_clips", {})
    drops = [
        Clip(
            f"drop-{number}",
            f"Drop {number + 1}{' (held-out band)' if number % 3 == 2 else ''}",
            f"drop-{number}",
            drop=number,
        )
        for number in range(DROPS)
    ]
    return {**dict(reversed(own.items())), **{clip.key: clip for clip in drops}}


def own_clips() -> dict[str, Clip]:
    return {key: clip for key, clip in clips().items() if clip.found is not None}


def add_sequences(files: Sequence[Any], active: Active, new: bool = True) -> list[str]:
    """Read dropped files and keep them for the session; shows the first sequence among them.

    Files that are not new were kept on disk, and are not a second time, nor shown.

    Animations, stacks and videos are a sequence each; images are the frames of one, in the natural order of their names;
    a single wide one is a strip. They lie in a temporary folder, which goes when the session does. Returns one sentence for
    each that could not be read; the others are kept.
    """
    state = st.session_state
    own: dict[str, Clip] = state.setdefault("sequence_clips", {})
    used = sum(path.stat().st_size for clip in own.values() if clip.found for path in clip.found.files)
    if used + sum(file.size for file in files) > MAX_BYTES:
        return [f"A session keeps at most {MAX_BYTES // 1024**2} MB of sequences; remove yours first."]
    folder = tempfile.TemporaryDirectory(prefix="tae-sequence-")  # removed with the session's last reference to it
    names: dict[Path, str] = {}
    for number, file in enumerate(sorted(files, key=lambda file: natural_order(plain_text(file.name, 200)))):
        suffix = Path(file.name).suffix.lower()
        path = Path(folder.name) / f"{number:06}{suffix if suffix in ENDINGS else ''}"
        path.write_bytes(file.getvalue())
        names[path] = plain_text(file.name)
    problems, added, unread, before = [], [], set(names), set(own)
    tables: list[tuple[Table, bytes]] = []
    for path in [path for path in unread if path.suffix in table.SUFFIXES]:
        unread.remove(path)
        try:
            tables.append((replace(table.read_table(path), file=names[path]), path.read_bytes()))
        except TableError as error:
            problems.append(f"{names[path]}: {str(error).partition(': ')[2]}")
        path.unlink()
    found_all = find_sequences(folder.name)
    for found in found_all:
        unread -= set(found.files)
        first = names[found.files[0]]
        title = first if len(found.files) == 1 else f"{len(found.files)} frames from {first}"
        digest = hashlib.sha256()
        for path in found.files:  # with the names, which notes tell: others' files of other names are other sequences
            digest.update(names[path].encode() + hashlib.sha256(path.read_bytes()).digest())
        for _, content in tables:
            digest.update(hashlib.sha256(content).digest())
        known_as = {path.name: names[path] for path in found.files}
        columns: dict[str, Column] = {}
        try:
            for one, _ in tables:
                columns = _cells(one, found, names, len(found_all) == 1) | columns
        except (ImageError, TableError) as error:
            problems.append(str(error))
        if tables and not columns:
            problems.append(f"{title}: no row of {', '.join(one.file for one, _ in tables)} tells of it")
        clip = Clip(
            f"sequence-{digest.hexdigest()[:12]}", title, digest.hexdigest(), found, names=known_as, columns=columns
        )
        try:
            film(active, clip)
        except ImageError as error:
            problems.append(f"{title}: {error}")
            size = sum(path.stat().st_size for path in found.files)
            log_refused(clip.digest, f"sequence of {len(found.files)} files", size, error)
            _remove(found)
            continue
        if clip.key in own:
            _remove(found)
        own[clip.key] = own.pop(clip.key, clip)  # the latest
        added.append(clip.key)
    for path in sorted(unread):
        got = what_it_is(path.read_bytes(), names[path])
        problems.append(f"{names[path]}: it is no image, animation, stack or video that is read, but {got}")
    for path in unread:
        path.unlink()
    if not added:
        folder.cleanup()
        return problems
    state.setdefault("sequence_folders", []).append(folder)
    if new:
        state.sequence, state.frame = added[0], ""
        if not before.issuperset(added):
            problem = keeping.keep("sequences", [(file.name, file.getvalue()) for file in files])
            problems += [problem] if problem else []
    return problems


def restore_sequences(active: Active) -> None:
    """What the visitor dropped before this page was loaded."""
    for batch in keeping.brought_before("sequences"):
        with suppress(OSError):  # removed meanwhile in another window
            add_sequences(batch.files, active, new=False)


def _cells(one: Table, found: Found, names: Mapping[Path, str], is_own: bool) -> dict[str, Column]:
    """The columns of a table for each frame of a sequence, as they were dropped together."""
    file, *others = found.files
    if others:
        match = one.match("", [names[path] for path in found.files], is_own)
    else:
        match = one.match(names[file], [""] * sum(1 for _ in file_frames(file)), is_own)
    if match is None or (match.rows < 0).all():
        return {}
    return {
        column.header: Column(column.header, tuple(column.texts[row] if row >= 0 else "" for row in match.rows))
        for column in one.columns
    }


def columns_of(clip: Clip, film: Film, every: int) -> dict[str, Column]:
    """{header: a cell for each frame of the film} of the table beside a sequence; {} where there is none."""
    columns = clip.columns if clip.found else drop_columns(draw_recording("test", clip.drop))
    if not columns or film.starts is not None:
        return {}
    total = len(next(iter(columns.values())).texts)
    numbers = [*range(0, total, every)]
    if clip.found is not None and len(clip.found.files) > 1:
        left_out = {name for name, _ in film.skipped}
        files = [clip.names[path.name] for path in clip.found.files]
        numbers = [number for number in numbers if files[number] not in left_out]
    numbers = numbers[: len(film.frames)]
    return {
        header: Column(header, tuple(column.texts[number] for number in numbers)) for header, column in columns.items()
    }


def _remove(found: Found) -> None:
    for path in found.files:
        path.unlink()


def forget_sequences() -> None:
    """Drop the session's own sequences, and their files."""
    state = st.session_state
    keeping.forget("sequences")
    for folder in state.pop("sequence_folders", []):
        folder.cleanup()
    state.sequence_clips = {}
    state.sequence = state.frame = ""


def film(active: Active, clip: Clip, every: int = 1) -> Film:
    """Its frames at the model's size. Raises ImageError if they cannot be read, or there are fewer than two."""
    return _film(clip, active.config, _fit_mode(active, clip), every, white_now())


def _fit_mode(active: Active, clip: Clip) -> FitMode:
    """How a clip's frames come to the model's size: as the first of them asks."""
    try:
        return (
            "pad"
            if clip.found is None
            else fit_mode(active, _first_frame(clip, white_now()), f"{clip.digest}|{white_now()}")
        )
    except ImageError:  # who reads all of them says it
        return "pad"


@kept()
def _first_frame(clip: Clip, white: White) -> np.ndarray:
    assert clip.found is not None
    return read_only(next(file_frames(clip.found.files[0], white)))


@kept("Reading the frames…")
def _film(clip: Clip, config: ModelConfig, fit: FitMode, every: int, white: White) -> Film:
    if clip.found is not None:
        found = open_film(clip.found, config, fit, every, white)
        # As they were dropped: their names are part of the digest, the numbers that stand for them on the disk are not.
        skipped = tuple((clip.names.get(name, name), reason) for name, reason in found.skipped)
        found = replace(found, skipped=skipped)
    else:
        frames = drop_frames(draw_recording("test", clip.drop), config)[::every]
        if len(frames) < 2:
            raise ImageError(f"a recording must have at least two frames, got one of every {every}; take more of them")
        found = Film(frames)
    read_only(found.frames)
    return found


def add_frame(clip: Clip, one: Film, frame: int) -> str | None:
    """Keep one frame among the session's images, and show it there; returns why it is not kept, None where it is."""
    return add_pixels(f"{clip.title}, frame {frame + 1}", one.frames[frame], one.notes)
