"""Demo images: garment photographs (28x28) composed into squares, rails and glides.

Every composition is a function of (seed, split, index) alone: the same numbers give the same image on any machine,
in any order. Images are dark garments on a white page. `tae/data/samples/README.md` says where the photographs are from.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tae.data.composed import SPLITS, BuiltIn, random_of

SAMPLES = Path(__file__).parent / "samples"
GLIDE_SIZE = (152, 152)
UNSEEN_WIDTHS = range(500, 600)
"""Widths in pixels that rails of any width never have, so that a model can be shown widths that it was not trained on."""


@dataclass(frozen=True)
class Garments:
    """One split of the photographs."""

    ink: np.ndarray  # uint8 (n, 28, 28), 0 = white page, 255 = black
    labels: np.ndarray  # (n,) indices into `class_names()`
    source_index: np.ndarray  # (n,) row in the upstream data set


@cache
def load_garments(split: str) -> Garments:
    """One split of the photographs, read once; nobody changes the arrays. Raises ValueError if the split is unknown."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose from: {', '.join(SPLITS)}")
    with np.load(SAMPLES / "wardrobe28.npz", allow_pickle=False) as data:
        return Garments(data[f"{split}_images"], data[f"{split}_labels"], data[f"{split}_source_index"])


@cache
def class_names() -> tuple[str, ...]:
    """Name of each label."""
    with np.load(SAMPLES / "wardrobe28.npz", allow_pickle=False) as data:
        return tuple(str(name) for name in data["class_names"])


def compose_square(split: str, index: int, seed: int = 0, side: int = 201) -> np.ndarray:
    """One garment, sometimes two, anywhere in a square frame: (side, side) uint8, 255 white.

    One in five squares has two garments. A garment's side is .45 to 1 of the frame (.45 to .7 where there are two),
    half of them are mirrored, and they lie fully inside.
    """
    garments = load_garments(split).ink
    ink = np.zeros((side, side), np.uint8)
    for number, is_mirrored, size, top, left in _square_layout(split, index, seed, side):
        garment = garments[number]
        _lay(ink, _enlarge(garment[:, ::-1] if is_mirrored else garment, size), top, left)
    return 255 - ink


def square_names(split: str, index: int, seed: int = 0, side: int = 201) -> list[str]:
    """What kinds of garments `compose_square` lays into this square, one or two of `class_names()`."""
    labels = load_garments(split).labels
    return [class_names()[labels[number]] for number, *_ in _square_layout(split, index, seed, side)]


def compose_centred(split: str, index: int) -> np.ndarray:
    """Garment number `index` of a split alone, in the middle, over .9 of the frame: (201, 201) uint8, 255 white."""
    ink = np.zeros((201, 201), np.uint8)
    _lay(ink, _enlarge(load_garments(split).ink[index], 181), 10, 10)
    return 255 - ink


def compose_rail(
    split: str, index: int, seed: int = 0, width: int = 1280, height: int = 152, hung: int | None = None
) -> np.ndarray:
    """Garments side by side on a rail: as many as fit, in slots a little narrower than the rail is high.

    (height, width) uint8, 255 white. Only the first `hung` garments are hung, from the left; None: all.
    """
    return 255 - _rail_ink(load_garments(split).ink, random_of(split, index, seed), width, height, hung)


def compose_rail_any_width(
    split: str, index: int, seed: int = 0, min_width: int = 120, max_width: int = 1280, height: int = 152
) -> np.ndarray:
    """A rail whose width is drawn too, evenly from those of the range that are not in `UNSEEN_WIDTHS`.

    (height, width) uint8, 255 white, min_width <= width <= max_width. `compose_rail` makes one of any width, those included.
    """
    random = random_of(split, index, seed)
    return 255 - _rail_ink(load_garments(split).ink, random, _any_width(random, min_width, max_width), height)


def rail_width(split: str, index: int, seed: int = 0, min_width: int = 120, max_width: int = 1280) -> int:
    """How wide `compose_rail_any_width` makes this rail, without composing it."""
    return _any_width(random_of(split, index, seed), min_width, max_width)


def num_garments(width: int, height: int = 152) -> int:
    """How many garments hang on a rail of this size: one for each nine tenths of its height."""
    return max(1, round(width / (height * 0.9)))


def compose_glide(
    split: str, index: int, seed: int = 0, num_frames: int = 16, size: tuple[int, int] = GLIDE_SIZE
) -> np.ndarray:
    """A camera that moves evenly along a rail: 4 to 14 pixels a frame, to the right or to the left.

    (num_frames, height, width) uint8, 255 white.
    """
    random = random_of(split, index, seed)
    height, width = size
    pace = int(random.integers(4, 15))
    rail = 255 - _rail_ink(load_garments(split).ink, random, width + pace * (num_frames - 1), height)
    starts = np.arange(num_frames) * pace
    if random.random() < 0.5:
        starts = starts[::-1]
    return np.stack([rail[:, start : start + width] for start in starts])


def _any_width(random: np.random.Generator, min_width: int, max_width: int) -> int:
    first = max(UNSEEN_WIDTHS.start, min_width)
    unseen = len(range(first, min(UNSEEN_WIDTHS.stop, max_width + 1)))
    if unseen == max_width + 1 - min_width:
        unseen = 0  # nothing else would be left
    width = int(random.integers(min_width, max_width + 1 - unseen))
    return width + unseen if width >= first else width


def _square_layout(split: str, index: int, seed: int, side: int) -> list[tuple[int, bool, int, int, int]]:
    """(number of the garment, whether it is mirrored, size, top, left) of each garment in a square."""
    random = random_of(split, index, seed)
    num = len(load_garments(split).ink)
    two = random.random() < 0.2
    laid = []
    for _ in range(2 if two else 1):
        size = round(side * random.uniform(0.45, 0.7 if two else 1.0))
        top, left = (int(random.integers(0, side - size + 1)) for _ in range(2))
        laid.append((int(random.integers(num)), bool(random.random() < 0.5), size, top, left))
    return laid


def _pick(garments: np.ndarray, random: np.random.Generator) -> np.ndarray:
    garment = garments[random.integers(len(garments))]
    return garment[:, ::-1] if random.random() < 0.5 else garment


def _enlarge(garment: np.ndarray, size: int) -> np.ndarray:
    """(28, 28) -> (size, size) uint8, by Lanczos resampling."""
    return np.asarray(Image.fromarray(garment).resize((size, size), Image.Resampling.LANCZOS))


def _lay(ink: np.ndarray, garment: np.ndarray, top: int, left: int) -> None:
    """Lay a garment on the page; where garments overlap, the darker ink shows."""
    height, width = garment.shape
    place = ink[top : top + height, left : left + width]
    np.maximum(place, garment[:, : place.shape[1]], out=place)


def _rail_ink(
    garments: np.ndarray, random: np.random.Generator, width: int, height: int, hung: int | None = None
) -> np.ndarray:
    ink = np.zeros((height, width), np.uint8)
    count = num_garments(width, height)
    slot = width / count
    for number in range(count if hung is None else min(hung, count)):
        size = min(round(height * random.uniform(0.75, 0.97)), width)
        top = int(random.integers(0, height - size + 1))
        middle = (number + 0.5) * slot + random.uniform(-0.08, 0.08) * slot
        left = int(np.clip(round(middle - size / 2), 0, width - size))
        _lay(ink, _enlarge(_pick(garments, random), size), top, left)
    return ink


class DemoSource(BuiltIn):
    """Garments: squares for a square `input_size`, rails otherwise; where the width is None, rails of any width from the
    height to `max_width` that is not in `UNSEEN_WIDTHS`. Those to watch and test by are of garments of their own.
    """

    name = "demo"
    data = "Fashion-MNIST garment photographs (Xiao, Rasul, Vollgraf 2017), composed"
    licence = "MIT, Zalando SE 2017"
    files = (SAMPLES / "wardrobe28.npz",)

    def compose(self, split: str, index: int) -> np.ndarray:
        """Image number `index` of a split: (H, W) uint8, 255 white."""
        if self.width is None:
            return compose_rail_any_width(split, index, self.seed, self.height, self.max_width, self.height)
        if self.width == self.height:
            return compose_square(split, index, self.seed, self.height)
        return compose_rail(split, index, self.seed, self.width, self.height)

    def kind(self, split: str, index: int) -> str:
        """A word or two for the image that `compose` makes."""
        if self.width == self.height:
            names = square_names(split, index, self.seed, self.height)
            return names[0] if len(names) == 1 else "two garments"
        wide = self.width or rail_width(split, index, self.seed, self.height, self.max_width)
        count = num_garments(wide, self.height)
        return f"{count} garment{'s' if count > 1 else ''}"

    def describe(self, draw: int) -> str:
        return f"composition {draw}"

    def _compute_width(self, draw: int) -> int:
        return rail_width("train", draw, self.seed, self.height, self.max_width)
