"""Sequences with a number or a class from a table: the user's own, or simulated drops.

Held out are whole sequences, never a part of one: frames of the same recording look alike, and would tell their neighbours.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tae.data.drops.frame import COLUMNS
from tae.sequence.data import Clips, Embedded, Embedder, embed_all, find_sequences, load_frames, names_of, passed_over
from tae.sequence.drops import DATA, DROPS, LICENCE, VISCOSITY, Drop, embed_drops
from tae.sequence.model import MAX_HEADER, TargetConfig
from tae.sequence.table import Column, Table, TableError, Tables, class_name, class_numbers
from tae.store.names import natural_order, plain_text
from tae.training.images.split import held_out

TEST, BAND = "test", "held-out band"


@dataclass(frozen=True)
class Labelled:
    """A sequence as latents, and what a table tells of it."""

    name: str
    latents: Tensor
    """(T, latent_dim) float32, on the CPU."""
    target: Tensor
    """(T,) float32, in the table's unit or a class's number; NaN where there is none."""
    inputs: Tensor
    """(T, num_inputs) float32, in the table's units."""
    columns: Tensor
    """(T, num_columns) float32, for the baseline without images; NaN where there is no value."""
    load: Callable[[int, int], Tensor]
    """The frames (n, 1, H, W) in [0, 1] from one number up to another."""
    shuffled: Tensor | None = None
    """(T,) another sequence's target."""
    first: int = 0
    """The number of its first frame, where it is a part."""

    def cut(self, first: int, end: int) -> "Labelled":
        """Its frames from `first` up to `end`."""
        parts = {name: getattr(self, name)[first:end] for name in ("latents", "target", "inputs", "columns")}
        shuffled = None if self.shuffled is None else self.shuffled[first:end]
        return replace(self, **parts, shuffled=shuffled, first=self.first + first)

    def frames(self) -> Tensor:
        """(T, 1, H, W) in [0, 1]."""
        return self.load(self.first, self.first + len(self.latents))


@dataclass
class LabelledSequences:
    """Sequences to train on and to measure by; a step's clips are a function of (seed, step)."""

    name: str
    """For default names."""
    data: str
    """In words, for the card."""
    licence: str
    target: TargetConfig
    train: list[Labelled]
    watch: list[Labelled]
    """To watch the training by."""
    tests: dict[str, list[Labelled]]
    """Groups for the final figures, never trained on."""
    seed: int
    width: int | None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of what is left out."""
    told: list[str] = field(default_factory=list)
    """Sentences on the tables."""

    def __post_init__(self) -> None:
        kind = "two classes" if self.target.classes else "two values"
        found = {float(value) for one in self.train for value in one.target[~one.target.isnan()]}
        if len(self.train) < 2 or len(found) < 2:
            raise ValueError(
                f"at least two sequences of {self.data} with {kind} of {self.target.header} must be there to train on, got "
                f"{len(self.train)} with {len(found)}; one in ten is held out, whole"
            )
        if not any(self.tests.values()):
            raise ValueError(f"a held-out sequence must have a value of {self.target.header}, got none")
        order = np.random.default_rng([self.seed, 5]).permutation(len(self.train))
        others = dict(zip(order, np.roll(order, 1), strict=True))  # a ring, in which none is its own neighbour
        targets = [self.train[others[place]].target for place in range(len(self.train))]
        self.train = [
            replace(one, shuffled=other[torch.arange(len(one.target)) % len(other)])
            for one, other in zip(self.train, targets, strict=True)
        ]
        lengths, window = [len(one.latents) for one in self.train], self.target.window
        self._clips = Clips(lengths, [max(1, round(length / window)) for length in lengths], window, self.seed)

    @property
    def num_sequences(self) -> int:
        """Clips an epoch."""
        return len(self._clips)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that is learnt from and measured on."""
        digest = hashlib.sha256(repr((self.target, self.seed)).encode())
        for one in (*self.train, *self.watch, *(one for group in self.tests.values() for one in group)):
            digest.update(one.name.encode(errors="surrogateescape"))
            for numbers in (one.latents, one.target, one.inputs, one.columns):
                digest.update(numbers.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, step: int, batch_size: int) -> list[Labelled]:
        """The clips of one training step."""
        chosen = self._clips.of_step(step, batch_size)
        return [self.train[number].cut(start, start + self.target.window) for number, start in chosen]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of the tables: columns by header or name, and how they are read."""

    target: str
    inputs: Sequence[str] = ()
    task: str | None = None
    """ "regression" or "classification"; None: classes where the column holds texts."""
    window: int = 16
    seed: int = 0


def labelled_files(
    embedder: Embedder,
    data: str,
    wanted: Wanted,
    table: Path | None = None,
    max_unreadable: float = 0.1,
    watch: int = 128,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> LabelledSequences:
    """The user's own sequences, with the tables beside them. One in ten is held out, by the hash of its name.

    Args:
        table: One table for all; None: those beside the frames (`tae.sequence.table`).
        max_unreadable: Share of sequences that may be unreadable.
        watch: Held-out sequences that the training is watched by; the final figures are those of all.
        progress: Called with (sequences embedded, sequences in all).

    Raises:
        FileNotFoundError: If the data or the table are not there.
        ValueError: If too few sequences can be read, a table does not fit, or lacks a column.
    """
    tables = Tables(Path(data).expanduser(), ((one.name, one.files) for one in find_sequences(data)), table)
    _Reader(wanted, tables.whole())  # before hours of embedding that would end in a refusal
    tables.check()
    embedded, skipped = embed_all(embedder, data, max_unreadable, progress, least=1)
    found = [tables.columns(one.found.name, _files_of(one)) for one in embedded]
    reader = _Reader(wanted, found)
    sequences: list[tuple[Embedded, Labelled]] = []
    for one, columns in zip(embedded, found, strict=True):
        labelled = reader.labelled(one.name, one.latents, columns, _loader(one, embedder))
        if labelled is None:
            skipped.append((one.name, f"no frame has a value of {', '.join([reader.header, *reader.inputs])}"))
        else:
            sequences.append((one, labelled))
    if len(sequences) < 3:
        raise ValueError(
            f"{names_of(data)[1]} must hold at least three sequences with a value of {reader.header}, got {len(sequences)}: "
            "whole sequences are held out, since frames of one tell of each other"
        )
    is_held_out = held_out([one.found.name for one, _ in sequences])
    out = [labelled for (_, labelled), held in zip(sequences, is_held_out, strict=True) if held]
    widths = [one.width for one, _ in sequences]
    name, told = names_of(data)
    return LabelledSequences(
        name=name,
        data=told,
        licence="the user's own",
        target=reader.target,
        train=[labelled for (_, labelled), held in zip(sequences, is_held_out, strict=True) if not held],
        watch=out[:watch],
        tests={"held out": out},
        seed=wanted.seed,
        width=max(set(widths), key=widths.count),
        skipped=skipped,
        told=[*passed_over(data), *tables.told, *reader.told],
    )


def labelled_drops(
    embedder: Embedder,
    wanted: Wanted,
    count: int,
    watch: int,
    test: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> LabelledSequences:
    """Recordings of simulated drops: `count` of the train split, `watch` of val, `test` of test.

    The last are two groups: those with viscosities as in training, and every third, from a band that training never shows.

    Raises:
        ValueError: If their table lacks a column.
    """
    for name in (wanted.target, *wanted.inputs):  # before minutes of embedding
        _header_of(name, [*COLUMNS[1:], VISCOSITY])
    drops = embed_drops(embedder, {"train": count, "val": watch, "test": test}, wanted.seed, progress)
    reader = _Reader(wanted, [one.columns for group in drops for one in group])

    def labelled(group: Sequence[Drop]) -> list[Labelled]:
        found = [reader.labelled(one.name, one.latents, one.columns, one.load) for one in group]
        return [one for one in found if one is not None]

    train, val, test_drops = drops
    groups = {name: [one for one in test_drops if one.is_in_band == (name == BAND)] for name in (TEST, BAND)}
    return LabelledSequences(
        name=DROPS,
        data=DATA,
        licence=LICENCE,
        target=reader.target,
        train=labelled(train),
        watch=labelled(val),
        tests={name: labelled(group) for name, group in groups.items()},
        seed=wanted.seed,
        width=embedder.model.config.input_size[1],
    )


def _files_of(one: Embedded) -> list[Path | None]:
    """The file of each frame of an embedded sequence; None where all are in one file."""
    if len(one.found.files) == 1:
        return [None] * len(one.latents)
    left_out = {name for name, _ in one.skipped}
    files: list[Path | None] = [file for file in one.found.files if plain_text(file.name, 200) not in left_out]
    if len(files) != len(one.latents):
        raise TableError(
            f"too many frames of {one.name} cannot be read for its table to be matched; mend or remove them"
        )
    return files


def _loader(one: Embedded, embedder: Embedder) -> Callable[[int, int], Tensor]:
    def load(first: int, end: int) -> Tensor:
        frames = load_frames(one.found, embedder.model.config, embedder.fit, [], white=embedder.white)
        return torch.from_numpy(np.stack([*islice(frames, first, end)]))[:, None]

    return load


class _Reader:
    """Which columns are meant, and what they hold."""

    def __init__(self, wanted: Wanted, tables: Sequence[Mapping[str, Column]]) -> None:
        """Args: what is asked; {header: column} of each sequence. Raises ValueError if a column is missing or of no use."""
        headers = list(dict.fromkeys(header for table in tables for header in table))
        self.header = _header_of(wanted.target, headers)
        self.inputs = [_header_of(name, headers) for name in wanted.inputs]
        if self.header in self.inputs:
            raise ValueError(f"inputs must not hold the target itself, got {self.header}")
        numbers = {header for header in headers if _are_numbers(header, tables)}
        for header in (*self.inputs, *([self.header] if wanted.task == "regression" else [])):
            if header not in numbers:
                for table in tables:
                    _ = table[header].numbers if header in table else None  # says which cell is none
                raise TableError(f"the column {plain_text(header)} must hold numbers, got none")
        self.is_class = wanted.task == "classification" or (wanted.task is None and self.header not in numbers)
        self._are_numbers = self.header in numbers
        there = [table[self.header] for table in tables if self.header in table]
        cells = Column(self.header, tuple(cell for column in there for cell in column.texts))
        if self.is_class and wanted.task is None and cells.is_nearly_number:
            for column in there:
                try:
                    _ = column.numbers
                except ValueError as error:
                    raise TableError(f"{error}; mend it, or give --task classification") from None
        values = [{self._class(cell) for cell in column.texts if cell} for column in there]
        self.classes = sorted(set().union(*values), key=natural_order) if self.is_class else []
        if self.is_class and len(self.classes) < 2:
            raise ValueError(
                f"the column {plain_text(self.header)} must hold two classes at least, got {len(self.classes)}"
            )
        self.columns = [header for header in headers if header in numbers and header != self.header]
        too_long = [text for text in (*headers, *self.classes) if len(text) > MAX_HEADER]
        if too_long:
            raise ValueError(
                f"headers and classes must have at most {MAX_HEADER} characters, got {plain_text(too_long[0])}"
            )
        self.target = TargetConfig(
            header=self.header,
            classes=tuple(self.classes),
            inputs=tuple(self.inputs),
            columns=tuple(self.columns),
            window=wanted.window,
            is_per_frame=any(len(some) > 1 for some in values),
        )
        self._without_input, self._without_target = [0, ""], [0, ""]

    def labelled(
        self, name: str, latents: Tensor, columns: Mapping[str, Column], load: Callable[[int, int], Tensor]
    ) -> Labelled | None:
        """A sequence with its numbers; None where it has no target. Frames without an input are left out."""
        count = len(latents)
        blank = Column("", ("",) * count)
        target = self._numbers(columns.get(self.header, blank))
        if not self.target.is_per_frame:  # what one of its frames tells, tells of all
            known = target[~np.isnan(target)]
            target = np.full(count, known[0] if len(known) else np.nan)
        inputs, others = (
            np.stack([columns.get(header, blank).numbers for header in headers], axis=1)
            if headers
            else np.zeros((count, 0))
            for headers in (self.inputs, self.columns)
        )
        is_there = ~np.isnan(inputs).any(axis=1)
        for missing, tally in ((~is_there, self._without_input), (np.isnan(target), self._without_target)):
            if missing.any():
                tally[0] += int(missing.sum())  # type: ignore[operator]
                tally[1] = tally[1] or f"frame {int(missing.argmax()) + 1} of {name}"
        if np.isnan(target[is_there]).all():
            return None
        places = np.flatnonzero(is_there)

        def chosen(first: int, end: int) -> Tensor:
            wanted = places[first:end]
            return load(int(wanted[0]), int(wanted[-1]) + 1)[wanted - wanted[0]]

        tensors = [torch.from_numpy(some[is_there].astype(np.float32)) for some in (target, inputs, others)]
        return Labelled(name, latents[torch.from_numpy(is_there)], *tensors, load=chosen)

    @property
    def told(self) -> list[str]:
        kinds = (("an input, and are left out", self._without_input), (self.header, self._without_target))
        return [f"{count} frames have no value of {what}, such as {which}" for what, (count, which) in kinds if count]

    def _class(self, cell: str) -> str:
        return class_name(cell) if self._are_numbers else cell

    def _numbers(self, column: Column) -> np.ndarray:
        return class_numbers(self.classes, column.texts) if self.is_class else column.numbers


def _header_of(name: str, headers: Sequence[str]) -> str:
    """The header that a name means; TableError if there is none, or several."""
    if not headers:
        raise TableError(
            "no table tells of these sequences; put a CSV or Parquet file beside the frames, with a header and a row for each "
            "frame or sequence, or name one by --table"
        )
    found = Table("the tables beside the frames", tuple(Column(header, ()) for header in headers)).column(name)
    if found is None:
        known = ", ".join(map(plain_text, headers[:30]))
        raise TableError(f"no table beside the frames has a column {plain_text(name)}; choose from: {known}")
    return found.header


def _are_numbers(header: str, tables: Sequence[Mapping[str, Column]]) -> bool:
    there = [table[header] for table in tables if header in table and any(table[header].texts)]
    return bool(there) and all(column.is_number for column in there)
