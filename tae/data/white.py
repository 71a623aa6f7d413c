"""Which number is white: one rule for every file, array, stack, folder and sequence.

A type's range (65535 in 16 bits) is believed only where the numbers use it, up to an eighth of it at least. Else:

- whole numbers without sign up to 255, 1023, 4095 or 16383 that use half of it, as cameras of 8, 10, 12 and 14 bits write
  them, are divided by the next such number;
- floats in [0, 1] stay as they are, and are clipped where they leave it by a hair, as after resampling;
- floats and signed numbers that look like 8 bits, beyond 1.5 and at most 255, whole or spread, are divided by 255;
- everything else is stretched, smallest to largest; one value everywhere becomes middle grey.

8 bits are always divided by 255. Of a stack, folder, ZIP or sequence, all files decide together, for each type of number;
what a training decided stands in its checkpoint's card and holds for files that are opened with it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

WHITES = {
    "file": "As the file says",
    "type": "The type's range",
    "stretch": "Smallest to largest",
    "own": "Own black and white",
}
"""Choices of what becomes black and white. As text, the last is two numbers: "0..4095"."""
USED = 1 / 8
"""Share of a type's range that the largest number must reach for the range to be believed."""
MARGIN = 0.05
"""So far floats may leave [0, 1] and are clipped."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras and scanners, in files of more."""

AS_THEY_ARE = "values in [0, 1] taken as they are"
_KIND = re.compile(r"bool|float|u?int([1-9]|[1-5]\d|6[0-4])|0-[1-9]\d{0,4}")
_OWN = re.compile(r"\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*")


class Ends(NamedTuple):
    """The numbers that become black and white, and why."""

    black: float
    white: float
    why: str = ""  # a note; empty where nothing needs to be said

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Numbers of any real type to float32 in [0, 1]."""
        if self.black == self.white:
            return np.full(values.shape, 0.5, np.float32)
        if self.black == 0 and abs(self.white) < 2**33:
            grey = values.astype(np.float32) / np.float32(self.white)
        else:
            grey = ((values.astype(np.float64) - self.black) / (self.white - self.black)).astype(np.float32)
        return np.clip(grey, 0, 1, out=grey)


@dataclass(frozen=True)
class Extent:
    """What is known of numbers of one kind, in one file or in many."""

    kind: str
    """bool; float; uint8, uint12, int16 and so on, with the bits that the file says; "0-1000" where it says what white is."""
    low: float
    high: float
    is_whole: bool = True

    def __or__(self, other: Self) -> Self:
        """The extent of both together, which must be of one kind."""
        is_whole = self.is_whole and other.is_whole
        return replace(self, low=min(self.low, other.low), high=max(self.high, other.high), is_whole=is_whole)


@dataclass(frozen=True)
class White:
    """What becomes black and white: a choice, and what has been decided for several files together.

    Raises ValueError if it is no such choice.
    """

    choice: str = "file"
    """One of `WHITES`, or "0..4095" for an own black and white."""
    decided: tuple[tuple[str, Ends], ...] = ()
    """By kind of number; of a kind that is not among them, each file decides by itself."""

    def __post_init__(self) -> None:
        if self.choice not in ("file", "type", "stretch") and self.own is None:
            raise ValueError(
                "white must be file, type, stretch, or the numbers that become black and white, such as 0..4095, got "
                f"{self.choice[:40]!r}"
            )

    @classmethod
    def chosen(cls, choice: str, training: Mapping[str, Any]) -> Self:
        """A choice, for files that are opened with a model: as each file says, where its training decided nothing for such."""
        return cls.of_training(training) if choice == "file" else cls(choice)

    @property
    def own(self) -> tuple[float, float] | None:
        """The chosen black and white; black may be the larger."""
        found = _OWN.fullmatch(self.choice)
        try:
            black, white = map(float, found.groups()) if found else (0.0, 0.0)
        except ValueError:
            return None
        return (black, white) if black != white and math.isfinite(white - black) else None

    def ends(self, extent: Extent) -> Ends:
        """For numbers of this extent."""
        if self.own:
            return Ends(*self.own, f"black at {self.own[0]:g}, white at {self.own[1]:g}, as chosen")
        if self.choice == "type":
            low, high = _type_range(extent.kind)
            return Ends(low, high, "" if is_narrow(extent.kind) else f"the type's range, {low:g} to {high:g}")
        for kind, ends in self.decided:
            if kind == extent.kind:
                return ends
        return _stretched(extent) if self.choice == "stretch" else _by_rule(extent)

    def decide(self, extents: Iterable[Extent], count: int = 2) -> Self:
        """The same choice, decided once for `count` files or frames of these extents; what is decided already stays."""
        by_kind: dict[str, Extent] = {}
        for extent in extents:
            by_kind[extent.kind] = by_kind[extent.kind] | extent if extent.kind in by_kind else extent
        told = ", for all together" if count > 1 else ""
        found = dict(self.decided)
        for kind, extent in by_kind.items():
            ends = self.ends(extent)
            found.setdefault(kind, ends._replace(why=f"{ends.why}{told}" if ends.why else ""))
        return replace(self, decided=tuple(sorted(found.items())))

    def to_dict(self) -> dict[str, Any]:
        """For a card, in JSON's types."""
        return {"choice": self.choice, "ends": {kind: [*ends] for kind, ends in self.decided}}

    @classmethod
    def of_training(cls, training: Mapping[str, Any]) -> Self:
        """What the training that a card tells of decided; cards come from strangers: what is no such thing decides nothing."""
        told = training.get("white")
        try:
            assert isinstance(told, Mapping)
            ends = {}
            for kind, (black, white, _) in told["ends"].items():
                is_sound = _KIND.fullmatch(kind) and math.isfinite(float(white) - float(black))
                assert is_sound and not isinstance(black, (str, bool)) and not isinstance(white, (str, bool))
                if kind not in ("bool", "uint8") or (black, white) != _type_range(kind):
                    why = f"black at {black:g}, white at {white:g}, as this model's training read such files"
                    ends[kind] = Ends(float(black), float(white), why)
            return cls("file", tuple(sorted(ends.items())))
        except (AssertionError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return cls()


AS_FILE = White()
"""The choice that each file decides for itself."""


def kind_of(dtype: np.dtype, bits: int | None = None) -> str:
    """The kind of a NumPy type; `bits` where a file says that fewer are used."""
    if dtype.kind in "bf":
        return "bool" if dtype.kind == "b" else "float"
    return f"{'u' if dtype.kind == 'u' else ''}int{bits or 8 * dtype.itemsize}"


def is_narrow(kind: str) -> bool:
    """Whether the kind alone says which number is white, whatever the numbers are: truth values, 8 bits and fewer."""
    return kind == "bool" or kind[0] == "0" or kind.startswith("uint") and int(kind[4:]) <= 8


def extent_of(values: np.ndarray, bits: int | None = None) -> Extent:
    """The extent of an array's numbers.

    Raises ValueError if they are not finite.
    """
    kind = kind_of(values.dtype, bits)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise ValueError("the image holds NaN, infinite or far too large values; replace them, best by ones in [0, 1]")
    may_be_8_bits = low >= 0 and high <= 255
    is_whole = kind != "float" or may_be_8_bits and all(bool((row == np.rint(row)).all()) for row in values)
    return Extent(kind, low, high, is_whole)


def _by_rule(extent: Extent) -> Ends:
    """As the module's docstring says."""
    kind, low, high = extent.kind, extent.low, extent.high
    if is_narrow(kind):
        why = f"values divided by {kind[2:]}, the file's own white" if kind[0] == "0" else ""
        return Ends(*_type_range(kind), why)
    if kind.startswith("uint"):
        bits, top = int(kind[4:]), _type_range(kind)[1]
        if high >= USED * top or high == 0:
            return Ends(0, top, f"{bits}-bit values divided by {top:g}" if bits <= 16 else f"divided by {top:g}")
        for depth in DEPTHS:
            if depth < bits and high <= 2**depth - 1:
                if high < 2 ** (depth - 1) and depth == DEPTHS[0]:
                    break
                return Ends(0, 2**depth - 1, f"values up to {high:g} divided by {2**depth - 1}, as of {depth} bits")
        return _stretched(extent)
    if kind == "float" and low >= -MARGIN and high <= 1 + MARGIN and (low >= 0 or high >= USED):
        beyond = max(-low, high - 1)
        return Ends(0, 1, f"values up to {beyond:.2g} outside [0, 1] clipped" if beyond > 0 else AS_THEY_ARE)
    if low >= 0 and high <= 1:
        return Ends(0, 1, AS_THEY_ARE)
    is_spread = high >= USED * 255 if extent.is_whole and kind == "float" else high - low >= 127.5
    if low >= 0 and 1.5 < high <= 255 and is_spread:
        return Ends(0, 255, "values in [0, 255] divided by 255")
    return _stretched(extent)


def _stretched(extent: Extent) -> Ends:
    if extent.low == extent.high:
        return Ends(extent.low, extent.high, f"one value everywhere ({extent.low:g}), shown as middle grey")
    return Ends(extent.low, extent.high, f"{_span(extent)} stretched from black to white")


def _span(extent: Extent) -> str:
    return f"values from {extent.low:g} to {extent.high:g}"


def _type_range(kind: str) -> tuple[float, float]:
    if kind in ("bool", "float"):
        return 0, 1
    if kind[0] == "0":
        return 0, int(kind[2:])
    bits = int(kind.removeprefix("u").removeprefix("int"))
    return (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
