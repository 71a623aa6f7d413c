"""Recordings of simulated drops as sequences: frames, the table beside them, latents; what the next frame is learnt from."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tae.data.drops.frame import COLUMNS, draw_frame, frames_of
from tae.data.drops.motion import HELD_OUT_VISCOSITY, Recording, draw_recording
from tae.model.config import ModelConfig
from tae.sequence.data import Embedded, Embedder, Found, SequenceSource
from tae.sequence.table import Column

DROPS = "drops"
DATA = "simulated recordings of liquid drops that slide down a tilted plate"
LICENCE = "made by tae"
EVERY = 24
"""One frame of so many is taken, of 4,000 that the camera takes in a second: 9 to 18 a recording."""
VISCOSITY = "viscosity (mPa s)"


@dataclass(frozen=True)
class Drop:
    """A recording as latents, and its table."""

    name: str
    recording: Recording
    latents: Tensor
    """(T, latent_dim) float32, on the CPU."""
    columns: dict[str, Column]
    config: ModelConfig

    @property
    def is_in_band(self) -> bool:
        """Whether its viscosity is one that training never shows."""
        low, high = HELD_OUT_VISCOSITY
        return low <= self.recording.viscosity <= high

    def load(self, first: int, end: int) -> Tensor:
        """The frames (n, 1, H, W) in [0, 1] from one number up to another."""
        return torch.from_numpy(drop_frames(self.recording, self.config)[first:end])[:, None]


class DropSequences(SequenceSource):
    """Recordings of the train split; those of val are held out, those of test are for the final figures."""

    name, data, licence = DROPS, DATA, LICENCE

    def __init__(
        self,
        embedder: Embedder,
        recordings: int,
        watch: int,
        clip_frames: int = 16,
        seed: int = 0,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> None:
        """Args: the embedder; recordings to train on, and to watch by; longest clip; seed; told (embedded, in all)."""
        drops = embed_drops(embedder, {"train": recordings, "val": watch}, seed, progress)
        embedded = [Embedded(one.name, one.latents, 0, [], Found(one.name, ())) for group in drops for one in group]
        whole = [(number, 0, len(one.latents)) for number, one in enumerate(embedded)]
        super().__init__(embedder, embedded, whole[:recordings], whole[recordings:], clip_frames, seed)
        self.skipped = []
        config = embedder.model.config
        self.width = config.input_size[1] or drop_frames(draw_recording("train", 0, seed), config).shape[2]

    def test_frames(self, count: int) -> Iterator[Tensor]:
        """Up to `count` sequences (T, 1, H, W) in [0, 1] of the test split."""
        config = self.embedder.model.config
        recordings = (draw_recording("test", index, self.seed) for index in range(count))
        return (torch.from_numpy(drop_frames(one, config))[:, None] for one in recordings)


def embed_drops(
    embedder: Embedder,
    counts: dict[str, int],
    seed: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[list[Drop]]:
    """So many recordings of each split, in the splits' order."""
    found: list[list[Drop]] = []
    for split, count in counts.items():
        found.append([])
        for index in range(count):
            found[-1].append(_embedded(embedder, split, index, seed))
            progress(sum(map(len, found)), sum(counts.values()))
    return found


def drop_frames(recording: Recording, config: ModelConfig, every: int = EVERY) -> np.ndarray:
    """A simulated recording at a model's size: (T, H, W) float32 in [0, 1].

    Squares, strips, or, where the model takes any width, crops, white behind the drop up to the width of the widest.
    """
    images = [frame.at(config.input_size, config.max_width) for frame in frames_of(recording, every)]
    widest = max(image.shape[1] for image in images)
    padded = [np.pad(one, ((0, 0), (0, widest - one.shape[1])), constant_values=255) for one in images]
    return np.stack(padded) / np.float32(255)


def drop_columns(recording: Recording, every: int = EVERY) -> dict[str, Column]:
    """The table of a simulated recording: what a camera's software measures of each frame, and the viscosity."""
    return _as_columns(_rows(recording, every), recording.viscosity)


def drop_table(split: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """{header: (count,)} of the first single frames of a split, as `draw_frame` draws them, each of a recording of its own."""
    frames = [draw_frame(split, index, seed) for index in range(count)]
    rows = [[*frame.row().values(), frame.recording.viscosity] for frame in frames]
    return dict(zip((*COLUMNS[1:], VISCOSITY), np.array(rows).T, strict=True))


def _rows(recording: Recording, every: int) -> list[list[float]]:
    return [[float(value) for value in frame.row().values()] for frame in frames_of(recording, every)]


def _embedded(embedder: Embedder, split: str, index: int, seed: int) -> Drop:
    recording, config = draw_recording(split, index, seed), embedder.model.config
    where = map(str, (index, seed, EVERY, config.input_size, config.max_width))
    latents, notes = embedder.embed_as(
        [DROPS, _drops_hash(), split, *where],
        lambda: drop_frames(recording, config),
        lambda: {"rows": _rows(recording, EVERY)},
    )
    return Drop(f"{split} {index}", recording, latents, _as_columns(notes["rows"], recording.viscosity), config)


def _as_columns(rows: Sequence[Sequence[float]], viscosity: float) -> dict[str, Column]:
    cells = zip(COLUMNS[1:], zip(*rows, strict=True), strict=True)
    columns = {str(header): Column(header, tuple(map(repr, values))) for header, values in cells}
    return columns | {VISCOSITY: Column(VISCOSITY, (repr(viscosity),) * len(rows))}


@lru_cache(maxsize=1)
def _drops_hash() -> str:
    """Digest of one simulated frame: another way to draw gives another."""
    return hashlib.sha256(draw_frame("train", 0).square().tobytes()).hexdigest()
