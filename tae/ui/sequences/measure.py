"""A sequence through the models, computed once for all sessions and kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tae.analysis import facts
from tae.analysis.latent import Pca, decode_latents, fit_pca
from tae.analysis.numbers import percent
from tae.sequence.checkpoint import LoadedSequence
from tae.sequence.clip import Film
from tae.sequence.forecast import STEPS, Forecast, Influence, forecast_frames, influence, one_step
from tae.sequence.model import TargetConfig, embed_sequence
from tae.sequence.table import Column, class_numbers
from tae.sequence.target import COLUMNS, LATENT, LSTM, baselines_each, costs, predict_each, settled
from tae.sequence.target_influence import FrameEffects, HeadEffects, frame_effects, head_effects, patch_effects
from tae.ui.sequences.clips import Clip
from tae.ui.session.cache import MODEL_LOCK, read_only
from tae.ui.session.models import Active
from tae.ui.session.results import pass_seconds
from tae.ui.session.work import Progress, measured

CHUNK = 8  # frames that go through the model at once


@dataclass(frozen=True)
class Embedded:
    """A film through the autoencoder."""

    latents: np.ndarray  # (T, D) float32; read only
    recons: np.ndarray  # (T, H, W) float32 in [0, 1]; read only
    mse: np.ndarray  # (T,) of each reconstruction


def spread_over(count: int, most: int) -> list[int]:
    """Numbers of frames spread evenly over so many, `most` at most, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def key_of(active: Active, one: Film) -> str:
    """Names model and frames in caches."""
    return f"{active.loaded.digest}|{one.digest}"


def embed(active: Active, one: Film) -> Embedded | None:
    """Every frame embedded and drawn again; None while that is not computed.

    Raises ValueError if the model draws what is no number.
    """
    count, _, width = one.frames.shape

    def compute(progress: Progress) -> Embedded:
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
        return Embedded(read_only(np.concatenate(latents)), read_only(drawn), mse)

    key, words = key_of(active, one), f"Embedding {count} frames"
    return measured("sequence_embedded", key, words, lambda: count * pass_seconds(active.config), compute)


def forecast(
    active: Active, lstm: LoadedSequence | None, one: Film, embedded: Embedded, frames_seen: int | None
) -> Forecast | None:
    """The forecast: each frame from those before it, or several after `frames_seen`; None while not computed.

    Raises ValueError if what is predicted is no number.
    """
    count = len(one.frames)

    def compute(progress: Progress) -> Forecast:
        model = active.loaded.model if lstm is None else lstm.model
        frames, latents, recons = (
            torch.from_numpy(np.array(some)) for some in (one.frames, embedded.latents, embedded.recons)
        )
        known = {"latents": latents, "recons": recons[:, None], "progress": progress}
        if frames_seen is None:
            return one_step(model, frames[:, None], **known)
        return forecast_frames(model, frames[:, None], frames_seen, STEPS, **known)

    key = f"{key_of(active, one)}|{lstm.digest if lstm else ''}|{frames_seen}"
    words = "Predicting frames" if lstm else "Guessing frames without a model"
    passes = (1 if lstm else 0.5) * (count if frames_seen is None else STEPS)
    return measured("sequence_forecast", key, words, lambda: passes * pass_seconds(active.config), compute)


def influences(
    active: Active, lstm: LoadedSequence, one: Film, embedded: Embedded, frames_seen: int
) -> Influence | None:
    """The effect of dropping and shuffling the frames seen to the prediction of the next; None while not computed."""

    def compute(progress: Progress) -> Influence:
        latents = torch.from_numpy(np.array(embedded.latents[:frames_seen]))
        return influence(lstm.model, latents, one.frames.shape[2], progress=progress)

    key = f"{key_of(active, one)}|{lstm.digest}|{frames_seen}"
    words = "Dropping and shuffling frames"
    return measured("sequence_influence", key, words, lambda: (frames_seen + 8) * pass_seconds(active.config), compute)


@dataclass(frozen=True)
class Told:
    """What a model with a target, and the baselines, say of a sequence."""

    target: TargetConfig
    each: dict[str, np.ndarray]
    """{method: (T, outputs)} after each frame: numbers in the table's unit, or probabilities."""
    settled: dict[str, np.ndarray]
    """{method: (outputs,)} for the whole sequence, or after the last frame where the target changes."""
    truth: np.ndarray
    """(T,) from the table, or class numbers; NaN where it tells nothing."""
    inputs: np.ndarray
    """(T, num_inputs)."""

    @property
    def unit(self) -> str:
        return Column(self.target.header, ()).unit

    @property
    def outcome(self) -> int:
        """The output that curves and effects are of: of classes, the one that is answered."""
        return int(self.settled[LSTM].argmax())

    @property
    def axis(self) -> str:
        return f"Probability of {self.target.classes[self.outcome]}" if self.target.classes else self.target.header

    @property
    def effect_unit(self) -> str:
        return f"probability of {self.target.classes[self.outcome]}" if self.target.classes else self.unit or "its unit"

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """{method: (T,)} of the outcome."""
        return {name: values[:, self.outcome] for name, values in self.each.items()}

    @property
    def truth_curve(self) -> np.ndarray | None:
        """(T,) on the same axis; None where nothing is known."""
        if np.isnan(self.truth).all():
            return None
        if not self.target.classes:
            return self.truth
        return np.where(np.isnan(self.truth), np.nan, self.truth == self.outcome)

    @property
    def true(self) -> float:
        """The value that the settled answers are compared with; NaN where it is not known."""
        if self.target.is_per_frame:
            return float(self.truth[-1])
        known = self.truth[~np.isnan(self.truth)]
        return float(known[0]) if len(known) else np.nan

    @property
    def truth_in_words(self) -> str | None:
        if np.isnan(self.true):
            return None
        return self.target.classes[int(self.true)] if self.target.classes else self.shown(self.true)

    @property
    def costs(self) -> dict[str, float]:
        """{method: how far its settled answer is off}: in the unit, or 1 for a wrong class."""
        truth = np.array([self.true])
        return {
            name: float(costs(some[None], truth, bool(self.target.classes))[0]) for name, some in self.settled.items()
        }

    def shown(self, value: float) -> str:
        return percent(value) if self.target.classes else f"{value:.3g} {self.unit}".strip()

    def in_words(self, method: str) -> str:
        values = self.settled[method]
        if not self.target.classes:
            return self.shown(float(values[0]))
        place = int(values.argmax())
        return f"{self.target.classes[place]} ({percent(np.clip(values[place], 0, 1))})"


def lacking_inputs(scene: "SequenceScene", columns: Mapping[str, Column]) -> list[str]:
    """Headers of the model's inputs that the table lacks, or lacks in a frame."""
    target = _target_of(scene)
    return [
        one for one in target.inputs if one not in columns or not all(columns[one].texts) or not columns[one].is_number
    ]


def tell(scene: "SequenceScene", columns: Mapping[str, Column]) -> Told:
    """What the model and its baselines say; a few milliseconds, the latents being known."""
    lstm, target, count = scene.lstm, _target_of(scene), scene.count
    assert lstm is not None

    def numbers(headers: Sequence[str]) -> np.ndarray:
        blank = np.full(count, np.nan)
        there = [columns[one].numbers if one in columns and columns[one].is_number else blank for one in headers]
        return np.stack(there, axis=1) if there else np.zeros((count, 0))

    inputs = numbers(target.inputs)
    latents, told = (torch.from_numpy(np.array(some, np.float32)) for some in (scene.embedded.latents, inputs))
    with MODEL_LOCK:
        each = {LSTM: predict_each(lstm.model, latents, told)}
    each |= baselines_each(lstm.model, latents, torch.from_numpy(numbers(target.columns)))
    if lstm.belongs.is_inside:  # fitted on the latents of the encoder before it was fine-tuned
        each.pop(LATENT)
    if target.columns and not any(one in columns for one in target.columns):
        each.pop(COLUMNS)
    truth = np.full(count, np.nan)
    if target.header in columns:
        cells = columns[target.header]
        if target.classes:
            truth = class_numbers(target.classes, cells.texts)
        elif cells.is_number:
            truth = cells.numbers
    settle = {name: settled(lstm.model, values, name == LSTM)[-1] for name, values in each.items()}
    return Told(target, each, settle, truth, inputs)


def target_frames(scene: "SequenceScene", told: Told) -> FrameEffects | None:
    """The effect of dropping, covering and shuffling frames; None while not computed."""
    return _effects(scene, told, "frames", "Dropping and covering frames", 2, lambda *given: frame_effects(*given[:5]))


def target_patches(scene: "SequenceScene", told: Told, numbers: Sequence[int]) -> np.ndarray | None:
    """(1 + len(numbers), N) effects of covering patches of all frames, and of each of these; None while not computed."""
    tokens = int(np.prod(scene.active.config.grid_for(scene.film.frames.shape[2])))

    def compute(*given: Any) -> np.ndarray:
        model, frames, latents, inputs, outcome, progress = given
        places = [range(len(frames)), *([number] for number in numbers)]
        return patch_effects(model, frames, latents, inputs, places, outcome, progress)

    passes = 0.25 * tokens * (scene.count + len(numbers))  # half of the patches hold ink, and nothing is decoded
    return _effects(scene, told, f"patches {numbers}", "Covering patches", passes, compute)


def target_heads(scene: "SequenceScene", told: Told) -> HeadEffects | None:
    """The effect of ablating the encoder's heads; None while not computed."""
    config = scene.active.config
    passes = 0.5 * scene.count * config.encoder_layers * config.num_heads
    return _effects(scene, told, "heads", "Ablating heads", passes, head_effects)


def _effects(scene: "SequenceScene", told: Told, name: str, words: str, passes: float, compute: Callable) -> Any:
    """A result of `tae.sequence.target_influence`: compute gets model, frames, latents, inputs, outcome, progress."""
    lstm, one = scene.lstm, scene.film
    assert lstm is not None

    def run(progress: Progress) -> Any:
        frames, latents, inputs = (
            torch.from_numpy(np.array(some, np.float32)) for some in (one.frames, scene.embedded.latents, told.inputs)
        )
        return compute(lstm.model, frames[:, None], latents, inputs, told.outcome, progress)

    inputs = hashlib.sha256(np.ascontiguousarray(told.inputs).tobytes()).hexdigest()
    key = f"{key_of(scene.active, one)}|{lstm.digest}|{name}|{inputs}"
    first = name.split()[0]
    return measured(f"target_{first}", key, words, lambda: passes * pass_seconds(scene.active.config), run)


def _target_of(scene: "SequenceScene") -> TargetConfig:
    assert scene.lstm is not None and scene.lstm.model.config.target is not None
    return scene.lstm.model.config.target


def plane(embedded: Embedded) -> Pca | None:
    """The plane in which the sequence's latents vary most; None where they are all the same."""
    try:
        found = fit_pca(embedded.latents)
    except ValueError:
        return None
    return found if len(found.variances) > 1 else None


@dataclass(frozen=True)
class SequenceScene:
    """The scene of the page: models, sequence, and its forecast's start."""

    active: Active  # the autoencoder
    lstm: LoadedSequence | None  # the sequence model, where one belongs to it
    clip: Clip  # the sequence
    film: Film  # its frames
    embedded: Embedded  # what the autoencoder makes of them
    frames_seen: int | None
    """Before the first frame that is predicted several steps ahead; None: one step ahead, all the way."""

    @property
    def count(self) -> int:
        return len(self.film.frames)

    @property
    def warning(self) -> str:
        """What is said of either model wherever they show; "": nothing."""
        of_lstm = facts.WARNINGS[self.lstm.card.origin] if self.lstm else ""
        return max(self.active.warning, of_lstm)

    @property
    def stem(self) -> str:
        """How names of exported files begin."""
        return facts.file_stem(self.clip.title, self.warning)

    @property
    def about(self) -> str:
        """Caption of an export; a stranger's text."""
        told = "one step ahead" if self.frames_seen is None else f"several steps ahead after {self.frames_seen} frames"
        if self.lstm is not None and self.lstm.model.config.target is not None:
            told = f"from {self.count} frames"
        model = f" · {self.lstm.card.name}, {told}" if self.lstm else ""
        return facts.marked(f"{self.clip.title} · {self.active.title}{model}", self.warning)
