"""The images that the app offers before a user brings one: test garments and drops, and images unlike both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from tae.data.demo import DemoSource, compose_centred, compose_square
from tae.data.drops import DropSource

GARMENTS = "Garments, test split"
DROPS = "Simulated drops, test split"
OTHERS = "Unlike the training images"


@dataclass(frozen=True)
class Sample:
    """One image of the gallery."""

    key: str  # its name in links
    title: str  # its name on the page
    kind: str  # `GARMENTS`, `DROPS` or `OTHERS`
    note: str  # where it comes from, and whether it is composed
    load: Callable[[], np.ndarray]  # makes it: (H, W) or (H, W, 3) uint8 in [0, 255]


def gallery(input_size: tuple[int, int | None], max_width: int = 1280, data: str = "") -> dict[str, Sample]:
    """The samples for a model's input size, by key; the first is the one that the app opens with.

    data: What the model's card says of its images: such as it learnt from come first.
    """
    drops = _drops(input_size, max_width)
    garments = _squares() if input_size[0] == input_size[1] else []
    own = [*garments, *drops] if data == DemoSource.data else [*drops, *garments]
    return {sample.key: sample for sample in [*own, *_others()]}


# Chosen by eye among the first of the test split: no brand names, every kind of garment. With their checkpoint the app opens
# with the first, which is reconstructed about as well as the median test image.
_CENTRED = {
    79: "Sandal with heel",
    84: "Raglan shirt",
    77: "Chelsea boot",
    73: "Shoulder bag",
    141: "Striped T-shirt",
    62: "Coat",
    144: "Checked shirt",
    30: "Jeans",
    42: "Dress",
    101: "Tote bag",
}
_SQUARES = {
    39: "Two boots",
    2: "Bag and dress",
    8: "Striped top",
    18: "Heeled boot",
    37: "Two bags",
    23: "Small dress",
    28: "Small bag",
    34: "Flowered dress",
}
# Chosen by eye too; the first is a drop as most are.
_DROPS = {
    5: "Drop with a tail",
    26: "Leaning drop",
    12: "Long thin tail",
    14: "High head",
    24: "Round drop",
    2: "Two drops",
    6: "Splashing drop",
}


def _squares() -> list[Sample]:
    composed = "Fashion-MNIST photograph of the test split, enlarged from 28x28 and composed"
    centred, free = f"{composed} in the middle of the frame.", f"{composed} freely in the frame, as in training."
    return [
        Sample(f"garment-{index}", title, GARMENTS, centred, partial(compose_centred, "test", index))
        for index, title in _CENTRED.items()
    ] + [
        Sample(f"square-{index}", title, GARMENTS, free, partial(compose_square, "test", index))
        for index, title in _SQUARES.items()
    ]


def _drops(input_size: tuple[int, int | None], max_width: int) -> list[Sample]:
    source = DropSource(input_size, max_width)
    height, width = input_size
    shown = (
        f"cut out about the drop, {height} high and at most {max_width} wide"
        if width is None
        else f"cut out about the drop and stretched to {width}x{height}"
        if width == height
        else f"whole, {width}x{height}"
    )
    note = f"Simulated, test split; {shown}."
    return [
        Sample(f"drop-{index}", title, DROPS, note, partial(source.compose, "test", index))
        for index, title in _DROPS.items()
    ]


def _others() -> list[Sample]:
    photographs = (
        ("camera", "Cameraman", "Lav Varshney", "camera"),
        ("cat", "Cat", "Stefan van der Walt", "chelsea"),
        ("coffee", "Coffee", "Rachel Michetti", "coffee"),
    )
    return [
        *(
            Sample(key, title, OTHERS, f"Photograph by {by}, CC0, from scikit-image.", partial(_photograph, name))
            for key, title, by, name in photographs
        ),
        Sample(
            "negative",
            "Negative",
            OTHERS,
            "The raglan shirt of the test split, composed in the middle of the frame, as a negative.",
            lambda: 255 - compose_centred("test", 84),
        ),
        Sample("chessboard", "Chessboard", OTHERS, "Drawn: squares of 25 pixels.", _chessboard),
        Sample("noise", "Noise", OTHERS, "Drawn: random greys, each pixel on its own.", _noise),
        Sample("blank", "Blank page", OTHERS, "Drawn: white only.", lambda: np.full((201, 201), 255, np.uint8)),
    ]


def _photograph(name: str) -> np.ndarray:
    from skimage import data  # these files come with the package; nothing is downloaded

    return np.asarray(getattr(data, name)())


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (201, 201), dtype=np.uint8)


def _chessboard() -> np.ndarray:
    rows, columns = np.indices((201, 201)) // 25
    return np.where((rows + columns) % 2, 255, 40).astype(np.uint8)
