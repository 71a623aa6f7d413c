"""Demo images: garment photographs (28x28) composed into squares and frames of other sizes.

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
    """`compose_frame` of a square: (side, side) uint8, 255 white."""
    return compose_frame(split, index, seed, (side, side))


def compose_frame(split: str, index: int, seed: int = 0, size: tuple[int, int] = (201, 201)) -> np.ndarray:
    """One garment, sometimes two, anywhere in a frame of (height, width): uint8, 255 white.

    One in five frames has two garments. A garment's side is .45 to 1 of the frame's shorter one (.45 to .7 where there are
    two), half of them are mirrored, and they lie fully inside.
    """
    garments = load_garments(split).ink
    ink = np.zeros(size, np.uint8)
    for number, is_mirrored, side, top, left in _layout(split, index, seed, size):
        garment = garments[number]
        _lay(ink, _enlarge(garment[:, ::-1] if is_mirrored else garment, side), top, left)
    return 255 - ink


def frame_names(split: str, index: int, seed: int = 0, size: tuple[int, int] = (201, 201)) -> list[str]:
    """What kinds of garments `compose_frame` lays into this frame, one or two of `class_names()`."""
    labels = load_garments(split).labels
    return [class_names()[labels[number]] for number, *_ in _layout(split, index, seed, size)]


def compose_centred(split: str, index: int) -> np.ndarray:
    """Garment number `index` of a split alone, in the middle, over .9 of the frame: (201, 201) uint8, 255 white."""
    ink = np.zeros((201, 201), np.uint8)
    _lay(ink, _enlarge(load_garments(split).ink[index], 181), 10, 10)
    return 255 - ink


def _layout(split: str, index: int, seed: int, size: tuple[int, int]) -> list[tuple[int, bool, int, int, int]]:
    """(number of the garment, whether it is mirrored, side, top, left) of each garment in a frame."""
    random = random_of(split, index, seed)
    num = len(load_garments(split).ink)
    two = random.random() < 0.2
    laid = []
    for _ in range(2 if two else 1):
        side = round(min(size) * random.uniform(0.45, 0.7 if two else 1.0))
        top, left = (int(random.integers(0, length - side + 1)) for length in size)
        laid.append((int(random.integers(num)), bool(random.random() < 0.5), side, top, left))
    return laid


def _enlarge(garment: np.ndarray, size: int) -> np.ndarray:
    """(28, 28) -> (size, size) uint8, by Lanczos resampling."""
    return np.asarray(Image.fromarray(garment).resize((size, size), Image.Resampling.LANCZOS))


def _lay(ink: np.ndarray, garment: np.ndarray, top: int, left: int) -> None:
    """Lay a garment on the page; where garments overlap, the darker ink shows."""
    height, width = garment.shape
    place = ink[top : top + height, left : left + width]
    np.maximum(place, garment[:, : place.shape[1]], out=place)


class DemoSource(BuiltIn):
    """Garments in frames of the `input_size`; where the width is None, of any width from the height to `max_width`.

    Those to watch and test by are of garments of their own.
    """

    name = "demo"
    data = "Fashion-MNIST garment photographs (Xiao, Rasul, Vollgraf 2017), composed"
    licence = "MIT, Zalando SE 2017"
    files = (SAMPLES / "wardrobe28.npz",)

    def compose(self, split: str, index: int) -> np.ndarray:
        """Image number `index` of a split: (H, W) uint8, 255 white."""
        return compose_frame(split, index, self.seed, self._size(split, index))

    def kind(self, split: str, index: int) -> str:
        """A word or two for the image that `compose` makes."""
        names = frame_names(split, index, self.seed, self._size(split, index))
        return names[0] if len(names) == 1 else "two garments"

    def describe(self, draw: int) -> str:
        """The name of a training image, for messages."""
        return f"composition {draw}"

    def _compute_width(self, draw: int) -> int:
        return self._size("train", draw)[1]

    def _size(self, split: str, index: int) -> tuple[int, int]:
        if self.width is not None:
            return self.height, self.width
        least = min(self.height, self.max_width)
        return self.height, int(random_of(split, index, self.seed, 152).integers(least, self.max_width + 1))
