"""The log of a run: a JSON-lines file, TensorBoard events, strips of held-out reconstructions, a tracker where one is asked."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from tae.data.encode import encode_png, to_uint8
from tae.store.atomic import write_whole
from tae.training.command import RunConfig
from tae.training.run import runs
from tae.training.run.tracker import Tracker, open_tracker

STRIP_IMAGES = 8
GAP = 8
"""Pixels between the images of a strip, each of which has an edge: white images on white would run into each other."""
EDGE = 170


class TrainLog:
    """Writes to a run's folder, after `step` steps."""

    def __init__(self, folder: Path, step: int, config: RunConfig, notify: Callable[[str], None]) -> None:
        self.folder, self.notify, self.settings = folder, notify, config.to_travel()
        self._events = SummaryWriter(str(folder), purge_step=step + 1)
        title, name = config.name or folder.name, config.tracker
        self._tracker = open_tracker(name, folder, title, self.settings, step == 0) if name else None

    def record(self, record: dict) -> None:
        """One logged step: {"step": ..., name: number, ...}."""
        runs.append_log(self.folder, record)
        self._track(lambda tracker: tracker.log(record))
        for name, value in record.items():
            if name != "step":
                self._events.add_scalar(name, value, record["step"])

    def strip(self, step: int, images: Sequence[np.ndarray], recons: Sequence[np.ndarray]) -> None:
        """Held-out images above their reconstructions, each (H, W)."""
        pixels = make_strip(images[:STRIP_IMAGES], recons[:STRIP_IMAGES])
        (self.folder / "strips").mkdir(exist_ok=True)
        write_whole(self.folder / "strips" / f"{step:08}.png", [encode_png(pixels)])
        self._events.add_image("held_out", pixels, step, dataformats="HW")

    def end(self, step: int, metrics: dict) -> None:
        """The final figures of a card, beside the settings: a row of TensorBoard's table of runs."""
        figures = dict(_figures(metrics))
        settings = {
            name: value if isinstance(value, (bool, int, float)) else str(value)
            for name, value in self.settings.items()
        }
        for name, value in figures.items():
            self._events.add_scalar(f"final/{name}", value, step)
        for summary in hparams(settings, {f"final/{name}": value for name, value in figures.items()}):
            self._events._get_file_writer().add_summary(summary)  # type: ignore # `add_hparams`: another folder
        self._track(lambda tracker: tracker.end(figures))

    def close(self) -> None:
        """Close the files and the tracker."""
        self._track(lambda tracker: tracker.close())
        self._events.close()

    def _track(self, tell: Callable[[Tracker], object]) -> None:
        """A training goes on without its tracker, whatever goes wrong there."""
        try:
            if self._tracker:
                tell(self._tracker)
        except Exception as error:
            self._tracker = None
            self.notify(f"the tracker is told nothing from here on: {type(error).__name__}: {error}")


def _figures(metrics: dict, before: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of a card's figures, by their names."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{before}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{before}{name}", float(value)


def make_strip(images: Sequence[np.ndarray], recons: Sequence[np.ndarray]) -> np.ndarray:
    """Pairs of image above reconstruction, side by side; below each other where they are wide.

    Args:
        images: (H, W) uint8, or float in [0, 1], of one height.
        recons: The same for each.

    Returns:
        uint8 (height, width), a grey edge around each image and white between them.
    """
    pairs = [
        np.pad(np.concatenate([_framed(image), _framed(recon)]), ((0, GAP), (0, 0)), constant_values=255)
        for image, recon in zip(images, recons, strict=True)
    ]
    height, widest = pairs[0].shape[0], max(pair.shape[1] for pair in pairs)
    columns = min(len(pairs), max(1, 1640 // widest))
    rows = []
    for start in range(0, len(pairs), columns):
        row = np.concatenate(pairs[start : start + columns], axis=1)
        rows.append(np.pad(row, ((0, 0), (0, max(0, columns * widest - row.shape[1]))), constant_values=255))
    assert all(row.shape[0] == height for row in rows)
    return np.concatenate(rows)


def _framed(pixels: np.ndarray) -> np.ndarray:
    edged = np.pad(to_uint8(pixels), 1, constant_values=EDGE)
    return np.pad(edged, ((0, GAP), (0, GAP)), constant_values=255)
