"""The images that a session can show: its own, dropped ones, and the gallery's."""

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

from tae.data.decode import DecodedImage, count_frames_in, read_image
from tae.data.encode import to_uint8
from tae.data.gallery import Sample, gallery
from tae.data.limits import ImageError
from tae.data.white import AS_FILE, White
from tae.store.names import plain_text
from tae.ui.session import keeping
from tae.ui.session.cache import kept, read_only
from tae.ui.session.models import Active
from tae.ui.session.white import Numbers, white_now

MAX_UPLOADS = 200
MAX_HELD_BYTES = 1024**3
"""Most bytes of a session's images, as files and unpacked."""


@dataclass(frozen=True)
class Chosen:
    """The image that the pages show."""

    key: str  # what the link calls it: a sample's key or "upload-..."
    title: str  # what the page calls it; a stranger's text, to be escaped
    digest: str  # SHA-256 of its pixels or file
    image: DecodedImage  # as it came
    sample: Sample | None = None  # where it is from, if it is of the gallery
    numbers: Numbers | None = None  # what it was read from, if that was a file

    def named(self, active: Active) -> dict[str, str]:
        """How a table's line on the image begins; strangers' texts."""
        return {"image": self.title, "checkpoint": active.title, "white": self.image.white}


def add_images(files: Sequence[Any], new: bool = True) -> list[str]:
    """Read dropped files and keep them for the session, and on disk for its next page load; shows the first of them.

    Each frame of a stack, and each page of a TIFF file, is an image, as in a folder; files that come together decide together
    which number is white. Returns one sentence for each file that could not be read or kept; the others are.

    Args:
        files: What `st.file_uploader` gives, or what was kept on disk.
        new: Whether they were just dropped; else they are not kept a second time, nor shown.
    """
    uploads = st.session_state.uploads
    problems, added, together, fresh = [], [], [], []
    bar = st.progress(0.0, "Reading…") if len(files) > 5 else None
    for number, file in enumerate(files, start=1):
        name = plain_text(file.name)
        data = file.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        before = len(together)
        try:
            count = count_frames_in(data)
            for frame in range(count):
                own = digest if count == 1 else hashlib.sha256(f"{digest} {frame}".encode()).hexdigest()
                key = f"upload-{own[:12]}"
                if key in uploads:
                    added.append(key)
                    continue
                image = read_image(data, file.name, frame=frame if count > 1 else None)
                # Of a stack the file counts once, and what is read of it for each frame.
                size = _held(image) + (0 if frame else len(data))
                if refused := no_room(size):
                    problems.append(f"{name}{f', from frame {frame} on' if frame else ''}: {refused}")
                    break
                title = name if count == 1 else f"{name}, frame {frame}"
                numbers = Numbers(data, file.name, frame if count > 1 else None, ())
                uploads[key] = (Chosen(key, title, own, image, numbers=numbers), size)
                added.append(key)
                together.append(key)
        except ImageError as error:
            problems.append(f"{name}: {error}")
        if len(together) > before:
            fresh.append((file.name, data))
        if bar:
            bar.progress(number / len(files), f"Reading… {number} of {len(files)}")
    if bar:
        bar.empty()
    extents = tuple(uploads[key][0].image.extent for key in together if uploads[key][0].image.extent)
    for key in together:
        chosen, size = uploads[key]
        assert chosen.numbers is not None
        uploads[key] = (replace(chosen, numbers=replace(chosen.numbers, extents=extents)), size)
    if added and new:
        st.session_state.image = added[0]
    if fresh and new and (problem := keeping.keep("images", fresh)):
        problems.append(problem)
    return problems


def add_pixels(title: str, pixels: np.ndarray, notes: tuple[str, ...], new: bool = True) -> str | None:
    """Keep an image that was no file, (H, W) float32 in [0, 1], and show it; returns why it is not kept, None where it is."""
    image = DecodedImage(np.array(pixels), notes, "sequence", to_uint8(pixels))
    if refused := no_room(_held(image)):
        return refused
    key = f"upload-{hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).hexdigest()[:12]}"
    is_known = key in st.session_state.uploads
    st.session_state.uploads[key] = (Chosen(key, title, key, image), _held(image))
    if new:
        st.session_state.image = key
        if not is_known:
            buffer = io.BytesIO()
            np.save(buffer, pixels, allow_pickle=False)
            keeping.keep("frames", [(title, buffer.getvalue()), ("notes", "\n".join(notes).encode())])
    return None


def restore_images() -> None:
    """What the visitor dropped before this page was loaded."""
    for batch in keeping.brought_before("images"):
        with suppress(OSError):  # removed meanwhile in another window
            add_images(batch.files, new=False)
    for batch in keeping.brought_before("frames"):
        with suppress(OSError, ValueError, EOFError):  # or cut short, as by a power failure
            frame, notes = batch.files
            pixels = np.load(io.BytesIO(frame.getvalue()), allow_pickle=False)
            add_pixels(frame.name, pixels, tuple(notes.getvalue().decode().splitlines()), new=False)


def _held(image: DecodedImage) -> int:
    return image.pixels.nbytes + image.original.nbytes


def seen(chosen: Chosen) -> Chosen:
    """The image with the white that is chosen now, or that the model's training decided."""
    numbers, extent = chosen.numbers, chosen.image.extent
    if numbers is None or extent is None:
        return chosen
    white = white_now().decide(numbers.extents, len(numbers.extents))
    ends = white.ends(extent)
    if ends == AS_FILE.ends(extent):
        return chosen
    own = replace(white, decided=((extent.kind, ends),)) if white.choice in ("file", "stretch") else white
    return _seen(chosen, own)


@kept()
def _seen(chosen: Chosen, white: White) -> Chosen:
    numbers = chosen.numbers
    assert numbers is not None
    image = read_image(numbers.data, numbers.name, white, frame=numbers.frame)
    read_only(image.pixels)
    return replace(chosen, image=image, digest=hashlib.sha256(f"{chosen.digest} {white}".encode()).hexdigest())


def no_room(size: int) -> str | None:
    """Why a session keeps no more images of this many bytes; None where it does."""
    uploads = st.session_state.uploads
    if len(uploads) < MAX_UPLOADS and sum(kept for _, kept in uploads.values()) + size <= MAX_HELD_BYTES:
        return None
    return (
        f"a session keeps at most {MAX_UPLOADS} images and {MAX_HELD_BYTES // 1024**3} GB unpacked; remove some first."
    )


def uploaded() -> list[Chosen]:
    """The session's own images, in the order in which they came."""
    return [seen(chosen) for chosen, _ in st.session_state.uploads.values()]


def remove_images() -> None:
    """Forget the session's own images, on the disk too."""
    st.session_state.uploads = {}
    for kind in ("images", "frames"):
        keeping.forget(kind)


@kept()
def _sample_image(key: str, note: str, _sample: Sample) -> tuple[DecodedImage, str]:
    pixels = _sample.load()
    grey = pixels if pixels.ndim == 2 else np.round(pixels @ np.array([0.299, 0.587, 0.114]))
    notes = () if pixels.ndim == 2 else ("converted to greyscale (Rec. 601)",)
    image = DecodedImage((grey / 255).astype(np.float32), notes, "sample", pixels)
    return image, hashlib.sha256(pixels.tobytes()).hexdigest()


def sample(key: str, one: Sample) -> Chosen:
    """An image of the gallery."""
    image, digest = _sample_image(key, one.note, one)  # drops of one key differ in size, which their note tells
    return Chosen(key, one.title, digest, image, one)


@dataclass(frozen=True)
class Offer:
    """Images to choose from: the session's own, and the gallery's for a model's size."""

    own: dict[str, Chosen]
    samples: dict[str, Sample]

    def title(self, key: str) -> str:
        """Its name in a list; may be a stranger's text."""
        return f"Yours: {self.own[key].title}" if key in self.own else self.samples[key].title

    def __getitem__(self, key: str) -> Chosen:
        return seen(self.own[key]) if key in self.own else sample(key, self.samples[key])


def offered(active: Active) -> Offer:
    """The images that a person can choose for a model."""
    config = active.config
    own = {chosen.key: chosen for chosen, _ in st.session_state.uploads.values()}
    return Offer(own, gallery(config.input_size, config.max_width, active.data))
