"""The frames of one file, one after the other: animations (GIF, WebP), videos, array stacks, TIFF pages; an image is one.

Frames are float32 (H, W) in [0, 1], 0 black, made grey and laid on white as `tae.data.decode` does it; how long each one is
shown is passed over. Files come from strangers: what a file is, its content decides, and all limits hold before anything is
decoded. Nothing is ever held but the file of an animation and one frame.
"""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tae.data.decode import format_of, laid_on_white
from tae.data.limits import MAX_PIXELS, ImageError, check_bytes, check_size
from tae.data.stacks import count_frames, opened, read_frame
from tae.data.white import AS_FILE, White
from tae.store.regular import open_regular

ANIMATIONS = ("GIF", "WEBP")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
MAX_FRAMES = 100_000
MAX_FRAME_PIXELS = 4_000_000_000
"""Pixels of all frames of one animation or video together: half an hour of 640x480 at 7 frames a second."""

_VIDEOS = {"mov": rb".{4}ftyp", "matroska": rb"\x1a\x45\xdf\xa3", "avi": rb"RIFF.{4}AVI "}
"""FFmpeg's reader of each kind, by how its files begin. No other reader is tried: some follow addresses in a file."""


def is_sequence(path: Path) -> bool:
    """Whether a file holds more than one frame, as far as its beginning tells; a broken one does not."""
    try:
        with open_regular(path) as (file, _):
            start = file.read(64)
        if format_of(start) in ANIMATIONS:
            with Image.open(path, formats=ANIMATIONS) as image:
                return bool(getattr(image, "is_animated", False))
        return _video_kind(start) is not None or count_frames(path) > 1
    except Exception:  # whatever is wrong with it, reading its frames will say
        return False


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, WebP or video, of however many frames, as far as its beginning tells."""
    try:
        with open_regular(path) as (file, _):
            start = file.read(64)
    except (OSError, ValueError):
        return False
    return format_of(start) in ANIMATIONS or _video_kind(start) is not None


def file_frames(path: Path, white: White = AS_FILE) -> Iterator[np.ndarray]:
    """The frames of a file, in order; `white` as in `read_frame`.

    Raises ImageError where the file or a frame cannot be read, or passes a limit; the message does not name the file.
    """
    with opened(path) as (file, size):
        start = file.read(64)
        kind = format_of(start)
        file.seek(0)
        if video := "" if kind in ANIMATIONS else _video_kind(start):
            yield from _video_frames(file, video)
            return
        if kind in ANIMATIONS:
            check_bytes(size)
        data = file.read(size) if kind in ANIMATIONS else b""
    if data:
        yield from animation_frames(data, kind)
    else:
        yield from (read_frame(path, number, white).pixels for number in range(count_frames(path)))


def animation_frames(data: bytes, kind: str | None = None) -> Iterator[np.ndarray]:
    """The frames of a GIF or WebP file's bytes, each as it is seen: drawn over those before.

    Raises ImageError where it is none, is damaged, or passes a limit.
    """
    kind = kind or format_of(data)
    if kind not in ANIMATIONS:
        raise ImageError(f"an animation must be a GIF or WebP file, got {kind or 'something else'}")
    check_bytes(len(data))
    number = 0
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            check_size(*image.size)
            for number in itertools.count():
                try:
                    image.seek(number)  # decodes nothing yet
                except EOFError:
                    return
                _check_extent(*image.size, number)
                yield _grey(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("the animation must have smaller frames; scale it down") from None
    except Exception as error:  # broken files make parsers raise nearly anything
        raise ImageError(f"the {kind} file is damaged or cut short at frame {number}; save it again") from error


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(laid_on_white(image.convert("RGBA")).convert("L"), np.float32) / np.float32(255)


def _video_kind(start: bytes) -> str | None:
    return next((kind for kind, pattern in _VIDEOS.items() if re.match(pattern, start, re.DOTALL)), None)


def _video_frames(file: Any, kind: str) -> Iterator[np.ndarray]:
    import av  # takes a while, and most files are no videos

    number = 0
    try:
        reader: Any = av.open(file, "r", format=kind)
        with reader as container:
            if not container.streams.video:
                raise ImageError("the video must have an image, got sound only")
            stream = container.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # of what the packets say, not the header
            for number, frame in enumerate(container.decode(stream)):
                _check_extent(frame.width, frame.height, number)
                # As it was held: a telephone says how the image is to be turned, counterclockwise.
                grey = _grey(Image.fromarray(frame.to_ndarray(format="rgb24")))
                yield np.ascontiguousarray(np.rot90(grey, round(frame.rotation / 90)))  # PyTorch takes no turned view
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"the video is damaged, cut short, or of a kind that is not read (frame {number})") from error


def _check_extent(width: int, height: int, number: int) -> None:
    """Refuse a frame before it is decoded: for its size, or for all that came before."""
    check_size(width, height)
    if number >= MAX_FRAMES or (number + 1) * width * height > MAX_FRAME_PIXELS:
        raise ImageError(
            f"a sequence must have at most {MAX_FRAMES:,} frames and {MAX_FRAME_PIXELS // 10**9} billion pixels in all; cut "
            "it into parts"
        )
