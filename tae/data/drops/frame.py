"""One moment of a recording: its pixels in three sizes, and the row that a table beside recorded frames has for it."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from tae.data.composed import random_of
from tae.data.drops.measure import Measured, measure_points
from tae.data.drops.motion import CM_PER_PIXEL, FRAMES_PER_SECOND, Recording, draw_recording
from tae.data.drops.render import STRIP, render

COLUMNS = (
    "file number",
    "time (s)",
    "x_center (cm)",
    "adv (degree)",
    "rec (degree)",
    "contact_line_length (cm)",
    "y_center (cm)",
    "middle_angle_degree (degree)",
    "velocity (cm/s)",
)
"""Columns of a table beside recorded frames; `Frame.row` has all but the first, the file's name."""


@dataclass(frozen=True)
class Frame:
    """A recording's drop at a time; all sizes are views of the same strip."""

    recording: Recording
    time: float
    """Seconds, from 0 to the recording's duration."""
    number: int = 0
    """Its number in the recording, where it is one of a row."""

    @cached_property
    def outlines(self) -> list[np.ndarray]:
        """(N, 2) each, front first, in pixels of the strip, y up from the plate; a companion is the second."""
        return self.recording.outlines(self.time)

    @cached_property
    def window(self) -> tuple[int, int]:
        """The strip's columns (first, one behind the last) that the crop shows: all of the drops, and the margins."""
        before, behind = self.recording.margins
        first = min(int(np.floor(outline[:, 0].min())) for outline in self.outlines) - before
        last = max(int(np.ceil(outline[:, 0].max())) for outline in self.outlines) + behind
        return max(0, first), min(STRIP[1], last)

    def strip(self) -> np.ndarray:
        """The whole frame: (152, 1280) uint8, 255 white."""
        return render(self.outlines, self.recording.look, number=self.number)

    def crop(self) -> np.ndarray:
        """The strip's columns in the window: (152, W) uint8."""
        return render(self.outlines, self.recording.look, *self.window, self.number)

    def square(self, side: int = 201) -> np.ndarray:
        """The crop, stretched: (side, side) uint8."""
        return stretched(self.crop(), side, side)

    def at(self, input_size: tuple[int, int | None], max_width: int) -> np.ndarray:
        """The frame as a model of a size sees it, (H, W) uint8: a square, a strip, or, where the width is None, the crop."""
        height, width = input_size
        if width == height:
            return self.square(height)
        if width is not None:
            return stretched(self.strip(), height, width)
        return stretched(self.crop(), height, self.width_at(height, max_width))

    def width_at(self, height: int, max_width: int) -> int:
        """Width of the crop at a height, `max_width` at most."""
        first, last = self.window
        return min(max_width, max(1, round((last - first) * height / STRIP[0])))

    def measured(self) -> Measured:
        """What `measure` would find in a strip without pixels, noise and specks."""
        outline = _thick_part(self.outlines[0])
        steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(outline, axis=0).T))])
        along = np.arange(0, steps[-1], 0.5)
        points = np.stack([np.interp(along, steps, values) for values in outline.T], axis=1)
        return measure_points(points, _centroid(outline))

    def row(self) -> dict[str, float]:
        """The table's row: x of the centre from the strip's left edge, y from the plate; the middle angle at half height."""
        found = self.measured()
        front, rear = (0, 1) if self.recording.moves_left else (1, 0)
        values = (
            self.time,
            found.centre[0] * CM_PER_PIXEL,
            found.angles[front],
            found.angles[rear],
            found.contact_length * CM_PER_PIXEL,
            found.centre[1] * CM_PER_PIXEL,
            found.middles[rear],
            self.recording.velocity(self.time),
        )
        return dict(zip(COLUMNS[1:], values, strict=True))


@lru_cache(maxsize=1024)  # outlines are asked for by image, kind and table in turn
def draw_frame(split: str, index: int, seed: int = 0) -> Frame:
    """A random moment of recording number `index` of a split. Raises ValueError if the split is unknown."""
    recording = draw_recording(split, index, seed)
    random = random_of(split, index, seed, 201)
    return Frame(recording, random.random() * recording.duration)


def frames_of(recording: Recording, every: int = 1) -> list[Frame]:
    """Each `every`-th of the recording's frames, of which the camera takes 4,000 a second."""
    count = int(recording.duration * FRAMES_PER_SECOND / every) + 1
    return [Frame(recording, number * every / FRAMES_PER_SECOND, number) for number in range(count)]


def stretched(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) uint8, by linear interpolation, smoothed where it shrinks; the image itself where it has that size."""
    if image.shape == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _thick_part(outline: np.ndarray) -> np.ndarray:
    """The longest part of an outline (N, 2) between two films of less than half a pixel, which no pixel shows."""
    ends = np.flatnonzero(np.concatenate([[True], outline[1:-1, 1] < 0.5, [True]]))
    longest = int(np.diff(ends).argmax())
    return outline[ends[longest] : ends[longest + 1] + 1]


def _centroid(outline: np.ndarray) -> tuple[float, float]:
    """The centre of the area between an outline (N, 2) and the plate."""
    x, y = outline.T
    after_x, after_y = np.roll(outline, -1, axis=0).T
    areas = x * after_y - after_x * y
    total = areas.sum() * 3
    return float(((x + after_x) * areas).sum() / total), float(((y + after_y) * areas).sum() / total)
