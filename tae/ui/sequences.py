"""The sequences of a session and what a model makes of them, computed once for all sessions and kept."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
import torch

from tae.animation import VIDEO_SUFFIXES
from tae.checkpoint import CheckpointError
from tae.config import ModelConfig
from tae.film import Film, open_film
from tae.forecast import STEPS, Forecast, Influence, influence, one_step, roll_out
from tae.images import SUFFIXES, ImageError, Picture, natural_order, plain_text, to_uint8
from tae.latent import Pca, decode_latents, fit_pca
from tae.sequence import embed_sequence
from tae.sequencedata import Found, find_sequences, glide_frames
from tae.sequencefile import ListedSequence, LoadedSequence, autoencoder_digest, list_sequences, load_sequence
from tae.ui.models import Active, checkpoints_folder
from tae.ui.pictures import MAX_UPLOAD_BYTES, Chosen, no_room
from tae.ui.results import MODEL_LOCK, pass_seconds, read_only
from tae.ui.work import Progress, measured

GLIDES = 6
"""Demo sequences to choose from: the first of the test split, whose garments no demo checkpoint was trained on."""
CHUNK = 8
ENDINGS = (*SUFFIXES, *VIDEO_SUFFIXES)
"""Of the files that can be dropped."""


@dataclass(frozen=True)
class Clip:
    """A sequence that the page can show.

    Attributes:
        key: What the link calls it.
        title: What the page calls it; a stranger's text, to be escaped.
        digest: SHA-256 of its files, or what names a demo glide.
        found: Its files; None for a demo glide.
        glide: Number of a demo glide.
        names: {name of a file on disk: as it was dropped}.
    """

    key: str
    title: str
    digest: str
    found: Found | None = None
    glide: int = 0
    names: Mapping[str, str] = field(default_factory=dict)


def clips() -> dict[str, Clip]:
    """What can be chosen: the session's own, the latest first, and the demo's."""
    own: dict[str, Clip] = st.session_state.setdefault("sequence_clips", {})
    demo = [Clip(f"glide-{number}", f"Glide {number + 1}", f"glide-{number}", None, number) for number in range(GLIDES)]
    return {**dict(reversed(own.items())), **{clip.key: clip for clip in demo}}


def own_clips() -> dict[str, Clip]:
    return {key: clip for key, clip in clips().items() if clip.found is not None}


def add_sequences(files: Sequence[Any], config: ModelConfig, fit: str) -> list[str]:
    """Read dropped files and keep them for the session; shows the first sequence among them.

    Animations, stacks and videos are a sequence each; pictures are the frames of one, in the natural order of their names;
    a single wide one is a strip. They lie in a temporary folder, which goes when the session does.

    Returns:
        One sentence for each that could not be read; the others are kept.
    """
    state = st.session_state
    own: dict[str, Clip] = state.setdefault("sequence_clips", {})
    used = sum(path.stat().st_size for clip in own.values() if clip.found for path in clip.found.files)
    if used + sum(file.size for file in files) > MAX_UPLOAD_BYTES:
        return [f"A session keeps at most {MAX_UPLOAD_BYTES // 1024**2} MB of sequences; forget yours first."]
    folder = tempfile.TemporaryDirectory(prefix="tae-sequence-")  # removed with the session's last reference to it
    names: dict[Path, str] = {}
    for number, file in enumerate(sorted(files, key=lambda file: natural_order(plain_text(file.name, 200)))):
        suffix = Path(file.name).suffix.lower()
        path = Path(folder.name) / f"{number:06}{suffix if suffix in ENDINGS else ''}"
        path.write_bytes(file.getvalue())
        names[path] = plain_text(file.name)
    problems, added, unread = [], [], set(names)
    for found in find_sequences(folder.name):
        unread -= set(found.files)
        first = names[found.files[0]]
        title = first if len(found.files) == 1 else f"{len(found.files)} frames from {first}"
        digest = hashlib.sha256()
        for path in found.files:  # with the names, which notes tell: others' files of other names are other sequences
            digest.update(names[path].encode() + hashlib.sha256(path.read_bytes()).digest())
        known_as = {path.name: names[path] for path in found.files}
        clip = Clip(f"sequence-{digest.hexdigest()[:12]}", title, digest.hexdigest(), found, names=known_as)
        try:
            _film(clip.digest, config.input_size, config.max_width, fit, 1, clip, config)
        except ImageError as error:
            problems.append(f"{title}: {error}")
            _remove(found)
            continue
        if clip.key in own:
            _remove(found)
        own[clip.key] = own.pop(clip.key, clip)  # the latest
        added.append(clip.key)
    problems += [f"{names[path]}: it is no picture, animation, stack or video" for path in sorted(unread)]
    for path in unread:
        path.unlink()
    if not added:
        folder.cleanup()
        return problems
    state.setdefault("sequence_folders", []).append(folder)
    state.sequence, state.frame = added[0], ""
    return problems


def _remove(found: Found) -> None:
    for path in found.files:
        path.unlink()


def forget_sequences() -> None:
    """Drop the session's own sequences, and their files."""
    state = st.session_state
    for folder in state.pop("sequence_folders", []):
        folder.cleanup()
    state.sequence_clips = {}
    state.sequence = state.frame = ""


def film(active: Active, clip: Clip, every: int = 1) -> Film:
    """Its frames at the model's size.

    Raises:
        ImageError: If they cannot be read, or there are fewer than two.
    """
    config = active.config
    return _film(clip.digest, config.input_size, config.max_width, st.session_state.fit, every, clip, config)


@st.cache_resource(max_entries=12, show_spinner="Reading the frames…")
def _film(
    digest: str,
    input_size: tuple[int, int | None],
    max_width: int,
    fit: str,
    every: int,
    _clip: Clip,
    _config: ModelConfig,
) -> Film:
    if _clip.found is not None:
        found = open_film(_clip.found, _config, fit, every)
    else:
        height, width = input_size
        frames = list(glide_frames("test", _clip.glide, 0, (height, width or height)))[::every]
        if len(frames) < 2:
            raise ImageError(f"a glide must have at least two frames, got one of every {every}; take more of them")
        found = Film(np.stack(frames))
    read_only(found.frames)
    return found


@dataclass(frozen=True)
class Seen:
    """A film through the autoencoder.

    Attributes:
        latents: (T, D) float32; read only.
        recons: (T, H, W) float32 in [0, 1]; read only.
        mse: (T,) of each reconstruction.
    """

    latents: np.ndarray
    recons: np.ndarray
    mse: np.ndarray


def key_of(active: Active, one: Film) -> str:
    """Names model and frames in caches."""
    return f"{active.loaded.digest}|{one.digest}"


@st.cache_resource(max_entries=12, show_spinner=False)
def _shelf(name: str, key: str) -> dict:
    return {}  # filled by `measured`; a forecast of a long film takes up to 115 MB


def see(active: Active, one: Film) -> Seen | None:
    """Every frame embedded and drawn again; None while that is not computed.

    Raises:
        ValueError: If the model draws what is no number.
    """
    count, _, width = one.frames.shape

    def compute(progress: Progress) -> Seen:
        model = active.loaded.model
        latents, recons = [], []
        for start in range(0, count, CHUNK):
            frames = torch.from_numpy(np.array(one.frames[start : start + CHUNK]))[:, None]
            latents.append(embed_sequence(model, frames).float().numpy())
            recons.append(decode_latents(model, latents[-1], width))
            progress(min(1.0, (start + CHUNK) / count))
        drawn = np.concatenate(recons)
        if not np.isfinite(drawn).all():
            raise ValueError("reconstructions must be finite numbers, and these are not; choose another checkpoint")
        mse = ((drawn.astype(np.float64) - one.frames) ** 2).mean(axis=(1, 2))
        return Seen(read_only(np.concatenate(latents)), read_only(drawn), mse)

    def seconds() -> float:
        return count * pass_seconds(active.config)

    return measured("sequence_seen", key_of(active, one), f"Embedding {count} frames", seconds, compute, shelf=_shelf)


def forecast(
    active: Active, lstm: LoadedSequence | None, one: Film, seen: Seen, frames_seen: int | None
) -> Forecast | None:
    """What is predicted: each frame from those before it, or a roll-out after `frames_seen`; None while not computed.

    Raises:
        ValueError: If what is predicted is no number.
    """
    count = len(one.frames)

    def compute(progress: Progress) -> Forecast:
        model = active.loaded.model if lstm is None else lstm.model
        frames, latents, recons = (torch.from_numpy(np.array(some)) for some in (one.frames, seen.latents, seen.recons))
        known = {"latents": latents, "recons": recons[:, None], "progress": progress}
        if frames_seen is None:
            return one_step(model, frames[:, None], **known)
        return roll_out(model, frames[:, None], frames_seen, STEPS, **known)

    def seconds() -> float:
        return (2 if lstm else 1) * (count if frames_seen is None else STEPS) * pass_seconds(active.config) / 2

    key = f"{key_of(active, one)}|{lstm.digest if lstm else ''}|{frames_seen}"
    words = "Predicting frames" if lstm else "Guessing frames without a model"
    return measured("sequence_forecast", key, words, seconds, compute, shelf=_shelf)


def influences(active: Active, lstm: LoadedSequence, one: Film, seen: Seen, frames_seen: int) -> Influence | None:
    """What dropping and shuffling the frames seen does to the prediction of the next; None while not computed."""

    def compute(progress: Progress) -> Influence:
        latents = torch.from_numpy(np.array(seen.latents[:frames_seen]))
        return influence(lstm.model, latents, one.frames.shape[2], progress=progress)

    def seconds() -> float:
        return (2 * frames_seen + 16) * pass_seconds(active.config) / 2

    key = f"{key_of(active, one)}|{lstm.digest}|{frames_seen}"
    return measured("sequence_influence", key, "Dropping and shuffling frames", seconds, compute)


def plane(seen: Seen) -> Pca | None:
    """The plane in which the sequence's latents vary most; None where they are all the same."""
    try:
        found = fit_pca(seen.latents)
    except ValueError:
        return None
    return found if len(found.variances) > 1 else None


# --------------------------------------------------------------------------------------------------------- sequence models


@dataclass(frozen=True)
class OfferedModels:
    """Checkpoints of sequence models.

    Attributes:
        fitting: {file name: as its header tells} of those that predict the next embedding of the model that is shown.
        others: {file name: name of the autoencoder that it belongs to}, of those that predict embeddings.
        problems: One sentence for each that cannot be read, or cannot be shown.
    """

    fitting: Mapping[str, ListedSequence]
    others: Mapping[str, str]
    problems: Sequence[str]


def sequence_models(active: Active) -> OfferedModels:
    """Those in `checkpoints/sequences/`."""
    fitting, others, problems = {}, {}, []
    own = _autoencoder_digest(active.loaded.digest, active)
    for listed in list_sequences(checkpoints_folder() / "sequences"):
        if listed.belongs is None or listed.config is None:
            problems.append(str(listed.error))
        elif listed.config.head != "next":
            problems.append(f"{plain_text(listed.path.name)}: it predicts no frames, so there is nothing to draw")
        elif listed.belongs.is_inside:
            problems.append(
                f"{plain_text(listed.path.name)}: it has an autoencoder of its own inside; the page shows none of these"
            )
        elif listed.belongs.sha256 == own:
            fitting[listed.path.name] = listed
        else:
            others[listed.path.name] = listed.belongs.name
    return OfferedModels(fitting, others, problems)


@st.cache_data(max_entries=64, show_spinner=False)
def _autoencoder_digest(model_digest: str, _active: Active) -> str:
    return autoencoder_digest(_active.loaded.model)


def load_lstm(active: Active, listed: ListedSequence) -> LoadedSequence:
    """A sequence model with the autoencoder that is shown.

    Raises:
        CheckpointError: If its file is refused.
    """
    try:
        info = listed.path.stat()
    except OSError as error:
        raise CheckpointError(f"{plain_text(listed.path.name)}: the file can no longer be read") from error
    return _load(str(listed.path), info.st_size, info.st_mtime_ns, info.st_ino, active.loaded.digest, active)


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(path: str, size: int, changed: int, inode: int, model_digest: str, _active: Active) -> LoadedSequence:
    with MODEL_LOCK:
        return load_sequence(path, _active.loaded.model)


def add_frame(clip: Clip, one: Film, frame: int) -> str | None:
    """Keep one frame among the session's pictures, and show it there.

    Returns:
        Why it is not kept; None where it is.
    """
    pixels = one.frames[frame]
    refused = no_room(pixels.nbytes)
    if refused is not None:
        return refused
    key = f"upload-{hashlib.sha256(pixels.tobytes() + str(pixels.shape).encode()).hexdigest()[:12]}"
    title = f"{clip.title}, frame {frame + 1}"
    picture = Picture(np.array(pixels), one.notes, "sequence", to_uint8(pixels))
    st.session_state.uploads[key] = (Chosen(key, title, key, picture), pixels.nbytes)
    st.session_state.image = key
    return None
