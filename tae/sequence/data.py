"""Sequences to train on, as embeddings, which are kept on disk by content; those of a user's files.

What a path holds:

    one file                    its frames: an animation (GIF, WebP), a video, a .npy stack (T, H, W), a TIFF of several pages
    a folder of images          one sequence, in natural order (img2 before img10)
    a folder of such files      a sequence each
    a folder of folders         each folder as above, and so on downwards

Embeddings lie in a folder, a file for each sequence, named by the hash of the bytes that they were made of and of the
autoencoder: a second run, on whatever of the same files, embeds nothing twice.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tae.data.fit import background_of, fit_image
from tae.data.limits import ImageError
from tae.data.stacks import SUFFIXES, decide, read_frame, scan_folder
from tae.data.video import VIDEO_SUFFIXES, file_frames, is_animation, is_sequence
from tae.data.white import AS_FILE, White
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.sequence.checkpoint import autoencoder_digest
from tae.sequence.model import embed_sequence
from tae.sequence.table import SUFFIXES as TABLES
from tae.store.names import natural_order, plain_text
from tae.store.regular import open_regular
from tae.store.sealed import SealedFile
from tae.training.images.split import held_out

Place = tuple[int, int, int]
"""Number of a sequence, first frame, frame behind the last."""
_ENDINGS = (*SUFFIXES, *VIDEO_SUFFIXES)
_VERSION = "2"
_CACHED = SealedFile(texts=("key", "notes"))


@dataclass(frozen=True)
class Found:
    """A sequence on the disk."""

    name: str  # of its file or folder, below where the search began; what the held-out split goes by
    files: tuple[Path, ...]  # one whose frames are the sequence, or several that are a frame each, in order


@dataclass(frozen=True)
class Embedded:
    """A sequence as latents."""

    name: str  # as it may be shown
    latents: Tensor  # (T, latent_dim) float32, on the CPU
    width: int  # of its frames in pixels, as the model saw them
    skipped: list[tuple[str, str]]
    """(name, reason) of frames that could not be read, which the sequence goes on without."""
    found: Found  # where it came from


def find_sequences(data: str | Path) -> list[Found]:
    """The sequences of a file or folder, in natural order; see the module. FileNotFoundError if there is neither.

    Hidden files and folders are passed over, and so are links that lead out of the folder.
    """
    path = Path(data).expanduser()
    if path.is_file():
        return [Found(path.name, (path,))]
    if not path.is_dir():
        raise FileNotFoundError(
            f"{data} is neither a folder nor a file; give a GIF, WebP, TIFF, .npy or video file, a folder of frames, or a "
            "folder of such files and folders"
        )
    home, found = path.resolve(), []
    by_folder: dict[Path, list[Path]] = {}
    for file in scan_folder(path, _ENDINGS).files:
        by_folder.setdefault(file.parent, []).append(file)
    for folder, files in by_folder.items():
        # A GIF that is broken, or has one frame, is no frame of another sequence.
        several = [file for file in files if is_sequence(file) or file.suffix.lower() == ".gif"]
        found += [Found(file.relative_to(path).as_posix(), (file,)) for file in several]
        images = [file for file in files if file not in set(several) and file.suffix.lower() in SUFFIXES]
        if images:
            name = (folder if len(images) > 1 else images[0]).relative_to(path).as_posix()
            found.append(Found(home.name if name == "." else name, tuple(images)))
    return sorted(found, key=lambda one: natural_order(one.name))


def passed_over(data: str | Path) -> list[str]:
    """A sentence on what `find_sequences` passes over in a folder, tables and what is hidden aside; [] where nothing."""
    path = Path(data).expanduser()
    if not path.is_dir():
        return []
    scan = scan_folder(path, _ENDINGS)
    for ending in TABLES:
        scan.passed_over.pop(ending, None)
    return [scan.told] if scan.told else []


def load_frames(
    found: Found,
    config: ModelConfig,
    fit: str = "pad",
    skipped: list[tuple[str, str]] | None = None,
    every: int = 1,
    notes: list[str] | None = None,
    white: White = AS_FILE,
) -> Iterator[np.ndarray]:
    """The frames (H, W) float32 in [0, 1] of a sequence at a model's size, one after the other.

    Where the model takes any width, all frames get the width of the first.

    Args:
        skipped: Where it is given, frames that are files of their own and cannot be read are listed there as (name, reason)
            and left out.
        every: One frame of so many is taken, the first among them.
        notes: Where it is given, what was done to the first frame is listed there.
        white: Which number is white; where it does not say, all files decide together.

    Raises:
        ImageError: If the file, or a frame that is not left out, cannot be read.
    """
    size, background = config.input_size, None
    white = decide(found.files, white) if len(found.files) > 1 else white
    for file in found.files if len(found.files) == 1 else found.files[::every]:
        try:
            alone = len(found.files) == 1
            frames = islice(file_frames(file, white), 0, None, every) if alone else [read_frame(file, 0, white).pixels]
            for pixels in frames:
                fitted = fit_image(pixels, size, fit, config.max_width, background)
                if background is None:  # the first frame's for all: else the padding would flicker
                    background = background_of(pixels)
                if notes is not None:
                    notes += [*reading_notes(file, white), *fitted.notes]
                    notes = None  # of the first alone
                size = fitted.pixels.shape
                yield fitted.pixels
        except ImageError as error:
            if skipped is None or len(found.files) == 1:
                raise
            skipped.append((plain_text(file.name, 200), str(error)))


def reading_notes(file: Path, white: White = AS_FILE) -> tuple[str, ...]:
    """Notes on reading the first frame of an image or stack; animations and videos need none."""
    try:
        return () if is_animation(file) else read_frame(file, 0, white).notes
    except (ImageError, ValueError):  # reading its frames says so
        return ()


class Embedder:
    """An autoencoder's embeddings of sequences, each made once and then read from the disk."""

    def __init__(
        self,
        model: TransformerAutoencoder,
        cache: Path | None,
        fit: str = "pad",
        go_on: Callable[[], object] = lambda: None,
        white: White = AS_FILE,
    ) -> None:
        """Keeps nothing where `cache` is None; else it is a folder, made when first needed.

        `go_on` is called before each frame; what it raises ends the work. `white` is what the model's training decided.
        """
        self.model, self.cache, self.fit, self.go_on, self.white = model, cache, fit, go_on, white
        self.digest = autoencoder_digest(model)

    def embed(self, found: Found) -> Embedded:
        """Embed a sequence, or find it embedded; ImageError if it cannot be read, or none of its frames can."""
        key = self._key("frames", self.fit, json.dumps(self.white.to_dict()), *map(_content_hash, found.files))
        name = plain_text(found.name, 200)
        kept = self._read(key)
        if kept is not None:
            latents, notes = kept
            return Embedded(name, latents, int(notes["width"]), [tuple(one) for one in notes["skipped"]], found)
        skipped: list[tuple[str, str]] = []
        width = 0

        def frames() -> Iterator[np.ndarray]:
            nonlocal width
            for frame in load_frames(found, self.model.config, self.fit, skipped, white=self.white):
                width = frame.shape[1]
                self.go_on()
                yield frame

        try:
            latents = embed_sequence(self.model, frames())
        except ImageError:
            raise
        except ValueError:  # no frame at all
            raise ImageError(f"no frame can be read: {skipped[0][1] if skipped else 'it is empty'}") from None
        _check_finite(latents, name)
        self._write(key, latents, {"width": width, "skipped": skipped[:100]})
        return Embedded(name, latents, width, skipped, found)

    def embed_as(
        self, key: Sequence[str], frames: Callable[[], Iterable[np.ndarray]], notes: Callable[[], dict]
    ) -> tuple[Tensor, dict]:
        """Latents (T, latent_dim) of frames (H, W) that a key names for good, and notes, plain values, that are kept beside."""
        digest = self._key(*key)
        kept = self._read(digest)
        if kept is None:
            self.go_on()
            kept = embed_sequence(self.model, frames()), notes()
            _check_finite(kept[0], key[0])
            self._write(digest, *kept)
        return kept

    def _key(self, *texts: str) -> str:
        return hashlib.sha256(json.dumps([_VERSION, self.digest, *texts]).encode()).hexdigest()

    def _read(self, key: str) -> tuple[Tensor, dict] | None:
        """The latents and notes that `_write` kept; None if they are not there, or not whole to the bit."""
        if self.cache is None:
            return None
        try:
            with _CACHED.open(self.cache / f"{key}.safetensors") as sealed:
                latents = sealed.read().tensors["latents"]
                return (latents, sealed.json("notes")) if sealed.texts["key"] == key else None
        except (OSError, ValueError, KeyError):
            return None

    def _write(self, key: str, latents: Tensor, notes: dict) -> None:
        if self.cache is None:
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        file = self.cache / f"{key}.safetensors"
        _CACHED.write(file, [key, json.dumps(notes)], {"latents": latents.contiguous()})


class Clips:
    """The clips of each training step, functions of the step and the seed alone; each begins at a random frame.

    An epoch has so many of each sequence, in a new order.
    """

    def __init__(self, lengths: Sequence[int], counts: Sequence[int], frames: int, seed: int) -> None:
        """Args: frames of each sequence; clips of each in an epoch; frames of a clip, at most; seed of order and beginnings."""
        self._lengths, self._frames, self._seed = lengths, frames, seed
        self._places = np.repeat(np.arange(len(counts)), counts)
        self._order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(self)))

    def __len__(self) -> int:
        return len(self._places)

    def of_step(self, step: int, batch_size: int) -> Iterator[tuple[int, int]]:
        """(number of a sequence, first frame) of each clip."""
        for draw in range(step * batch_size, (step + 1) * batch_size):
            epoch, position = divmod(draw, len(self))
            number = int(self._places[self._order(epoch)[position]])
            room = max(0, self._lengths[number] - self._frames)
            yield number, int(np.random.default_rng([self._seed, draw, 4]).integers(0, room + 1))


class SequenceSource(ABC):
    """Sequences to learn the next frame from, all of them embedded when the source is made.

    Longer ones are cut into clips: an epoch has as many of a sequence as fit into it, each from a random frame on.

    Attributes:
        name: For default names: "drops", or that of the folder or file.
        data: In words, for the card.
        licence: Of the frames.
        num_sequences: Clips an epoch.
        width: Of the frames in pixels where all have the same, else of most.
        skipped: (name, reason) of what could not be read.
    """

    name: str
    data: str
    licence: str
    width: int | None
    skipped: list[tuple[str, str]]

    def __init__(
        self,
        embedder: Embedder,
        sequences: list[Embedded],
        train: list[Place],
        held_out: list[Place],
        clip_frames: int,
        seed: int,
    ) -> None:
        """Args: the embedder; all sequences; what to train on, and what is held out; longest clip; seed of the order."""
        self.embedder, self.sequences, self.clip_frames, self.seed = embedder, sequences, clip_frames, seed
        self._train, self._held_out = train, held_out
        lengths = [len(self._latents(place)) for place in train]
        counts = [max(1, round((length - 1) / (clip_frames - 1))) for length in lengths]
        self._clips = Clips(lengths, counts, clip_frames, seed)
        self.num_sequences = len(self._clips)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of which sequences these are, and whose embeddings."""
        digest = hashlib.sha256(f"{self.embedder.digest} {self.clip_frames} {self.seed}".encode())
        for sequence in self.sequences:
            digest.update(sequence.name.encode(errors="surrogateescape") + sequence.latents.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, step: int, batch_size: int) -> list[Tensor]:
        """The clips (T, latent_dim) of one training step, a function of the step and the seed alone."""
        chosen = self._clips.of_step(step, batch_size)
        return [self._latents(self._train[number])[start : start + self.clip_frames] for number, start in chosen]

    def sample(self) -> Tensor:
        """Latents (n, latent_dim) of training frames in a random order, the same each time: what coordinates are chosen by."""
        latents = torch.cat([self._latents(place) for place in self._train])
        return latents[np.random.default_rng(0).permutation(len(latents))][:8192]

    def held_out(self, count: int) -> list[Tensor]:
        """Up to `count` sequences (T, latent_dim) that are never trained on."""
        return [self._latents(place)[: 4 * self.clip_frames] for place in self._held_out[:count]]

    @abstractmethod
    def test_frames(self, count: int) -> Iterator[Tensor]:
        """Up to `count` sequences (T, 1, H, W) in [0, 1] that are never trained on, for the final figures."""

    def _latents(self, place: Place) -> Tensor:
        number, first, end = place
        return self.sequences[number].latents[first:end]


class FileSequences(SequenceSource):
    """The user's own sequences.

    A sequence is held out when the hash of its name says so (one in ten, at least one), so the split stays as files come and
    go; of a single one, the last fifth of its frames.
    """

    licence = "the user's own"

    def __init__(
        self,
        embedder: Embedder,
        data: str,
        clip_frames: int,
        seed: int = 0,
        max_unreadable: float = 0.1,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> None:
        """Embed everything; sequences of a single frame are left out.

        Args:
            clip_frames: Longest clip.
            seed: Seed of the order.
            max_unreadable: Share of sequences that may be unreadable.
            progress: Called with (sequences embedded, sequences in all).

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If too few sequences can be read.
        """
        self.name, self.data = names_of(data)
        self.told = passed_over(data)
        sequences, self.skipped = embed_all(embedder, data, max_unreadable, progress)
        super().__init__(embedder, sequences, *_split(sequences), clip_frames, seed)
        widths = [sequence.width for sequence in sequences]
        self.width = max(set(widths), key=widths.count)

    @property
    def held_out_names(self) -> list[str]:
        """Names of the sequences that are never trained on."""
        return [self.sequences[number].name for number, _, _ in self._held_out]

    def test_frames(self, count: int) -> Iterator[Tensor]:
        """Up to `count` sequences (T, 1, H, W) in [0, 1] that are never trained on, for the final figures."""
        for number, first, _ in self._held_out[:count]:
            one = self.embedder
            frames = load_frames(self.sequences[number].found, one.model.config, one.fit, [], white=one.white)
            chosen = [frame for place, frame in enumerate(frames) if first <= place < first + 4 * self.clip_frames]
            yield torch.from_numpy(np.stack(chosen))[:, None]


def _split(sequences: list[Embedded]) -> tuple[list[Place], list[Place]]:
    """What to train on, and what is held out."""
    whole = [(number, 0, len(sequence.latents)) for number, sequence in enumerate(sequences)]
    if len(whole) > 1:
        is_held_out = held_out([sequence.found.name for sequence in sequences])
        return [one for one in whole if not is_held_out[one[0]]], [one for one in whole if is_held_out[one[0]]]
    frames = whole[0][2]
    first = frames - max(2, frames // 5)
    if first < 2:
        raise ValueError(f"a single sequence must have at least four frames, got {frames}: the last ones are held out")
    return [(0, 0, first)], [(0, first, frames)]


def names_of(data: str) -> tuple[str, str]:
    """A file or folder of sequences as default names have it, and as cards do."""
    path = Path(data).expanduser()
    if path.is_file():
        return path.stem, f"file {path.name}"
    return path.resolve().name or "sequences", f"folder {path.name}"


def embed_all(
    embedder: Embedder,
    data: str,
    max_unreadable: float,
    progress: Callable[[int, int], object] = lambda done, total: None,
    least: int = 2,
) -> tuple[list[Embedded], list[tuple[str, str]]]:
    """The sequences of at least so many frames of a file or folder, embedded; and (name, reason) of what is left out.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If too few sequences can be read.
    """
    found = find_sequences(data)
    sequences: list[Embedded] = []
    skipped: list[tuple[str, str]] = []
    num_unreadable = 0
    for number, one in enumerate(found, start=1):
        try:
            embedded = embedder.embed(one)
            skipped += embedded.skipped
            if len(embedded.latents) < least:
                raise ImageError("a sequence must have at least two frames, got one")
            sequences.append(embedded)
        except ImageError as error:
            num_unreadable += 1
            skipped.append((plain_text(one.name, 200), str(error)))
        progress(number, len(found))
    if not sequences or num_unreadable > max_unreadable * len(found):
        told = [*(f"{name}: {reason}" for name, reason in skipped[:5]), *passed_over(data)]
        reasons = f": {'; '.join(told)}" if told else ""
        raise ValueError(
            f"{names_of(data)[1]} must hold sequences{' of at least two frames' if least > 1 else ''}, and at most "
            f"{max_unreadable:.0%} that cannot be read, got {len(sequences)} and {num_unreadable}{reasons}"
        )
    return sequences, skipped


def _content_hash(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes; "" of one that cannot be read, which reading its frames will say."""
    try:
        with open_regular(path) as (file, _):
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except (OSError, ValueError):
        return ""


def _check_finite(latents: Tensor, name: str) -> None:
    if not torch.isfinite(latents).all():
        raise ValueError(f"the latents of {name} must be finite, got NaN or infinity; choose another checkpoint")
