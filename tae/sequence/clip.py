"""A sequence as something to look at: its first frames at a model's size; a wide image as the windows that it is cut into."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from tae.analysis.windows import fit_strip, strip_width, window_starts, window_width
from tae.data.decode import ImageError
from tae.data.video import file_frames
from tae.data.white import AS_FILE, White
from tae.model.config import ModelConfig
from tae.sequence.data import Found, load_frames

MAX_FRAMES = 120
MAX_PIXELS = 6_000_000  # pixels of all frames together: what a browser is sent, and a person looks through
MIN_WINDOWS = 2  # widths of a window that make a strip: a photograph that is only a little wider than high is none


@dataclass(frozen=True)
class Film:
    """Frames in order."""

    frames: np.ndarray  # (T, H, W) float32 in [0, 1], T at least 2
    notes: tuple[str, ...] = ()  # what was done to come by them
    skipped: tuple[tuple[str, str], ...] = ()
    """(name, reason) of frames that could not be read, which it goes on without."""
    starts: tuple[int, ...] | None = None  # first column of each window in the strip; None where frames are no windows

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the frames, in hex."""
        return hashlib.sha256(np.ascontiguousarray(self.frames).tobytes() + str(self.frames.shape).encode()).hexdigest()


def most_frames(height: int, width: int) -> int:
    """How many frames of this size, in pixels, a film has at most."""
    return max(2, min(MAX_FRAMES, MAX_PIXELS // (height * width)))


def open_film(found: Found, config: ModelConfig, fit: str = "pad", every: int = 1, white: White = AS_FILE) -> Film:
    """The first frames of a sequence of `find_sequences` at a model's size; one frame of `every` so many is taken.

    A single image wider than a window (`tae.analysis.windows.window_width`) becomes its windows from left to right,
    each overlapping half of the next, scaled to the model's height. `fit` is one of `FIT_MODES`, `white`
    says which number is white (`tae.data.white`).

    Raises:
        ImageError: If it cannot be read, or has fewer than two frames and is no strip.
        ValueError: If `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    alone = _only_image(found, white)
    if alone is not None:
        return _strip(alone, config)
    skipped: list[tuple[str, str]] = []
    notes: list[str] = []
    taken = load_frames(found, config, fit, skipped if len(found.files) > 1 else None, every, notes, white)
    frames = list(islice(taken, 1))
    most = most_frames(*frames[0].shape) if frames else 0
    frames += islice(taken, max(0, most - 1))
    if len(frames) < 2:
        what = f"{len(frames)} of every {every}; take more of them" if every > 1 else f"{len(frames)} that can be read"
        reason = f": {skipped[0][1]}" if skipped else ""
        raise ImageError(f"a sequence must have at least two frames, got {what}{reason}")
    if every > 1:
        notes.append(f"every {ordinal(every)} frame")
    if next(taken, None) is not None:
        notes.append(f"the first {most} of more frames")
    return Film(np.stack(frames), tuple(notes), tuple(skipped))


def _only_image(found: Found, white: White) -> np.ndarray | None:
    """(H, W) of a sequence that is one image, at its own size."""
    file, *others = found.files
    if others:
        return None
    frames = file_frames(file, white)
    first = next(frames, None)
    return first if next(frames, None) is None else None


def _strip(pixels: np.ndarray, config: ModelConfig) -> Film:
    height, window = config.input_size[0], window_width(config)
    rows, columns = pixels.shape
    width = strip_width(rows, columns, config)
    if width < MIN_WINDOWS * window:
        raise ImageError(
            f"a sequence must have at least two frames, or be one image that is wide enough to be cut into windows of "
            f"{window}x{height}; got one image of {columns}x{rows}"
        )
    fitted = fit_strip(pixels, config)
    starts = window_starts(width, window, window // 2)
    notes = [
        f"a strip of {width}x{height} pixels as {len(starts)} windows of {window}, each sharing half with the next"
    ]
    most = most_frames(height, window)
    if len(starts) > most:
        notes.append(f"the first {most} of them")
    frames = np.stack([fitted.pixels[:, start : start + window] for start in starts[:most]])
    return Film(frames, (*fitted.notes, *notes), (), tuple(starts[:most]))


def ordinal(number: int) -> str:
    """Such as "3rd"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
