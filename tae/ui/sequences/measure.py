"""A sequence through the models, computed once for all sessions and kept."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch

from tae.analysis import facts
from tae.analysis.latent import Pca, decode_latents, fit_pca
from tae.sequence.checkpoint import LoadedSequence
from tae.sequence.clip import Film
from tae.sequence.forecast import STEPS, Forecast, Influence, forecast_frames, influence, one_step
from tae.sequence.model import embed_sequence
from tae.ui.sequences.clips import Clip
from tae.ui.session.cache import read_only
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


def key_of(active: Active, one: Film) -> str:
    """Names model and frames in caches."""
    return f"{active.loaded.digest}|{one.digest}"


@st.cache_resource(max_entries=12, show_spinner=False)
def _shelf(name: str, key: str) -> dict:
    return {}  # filled by `measured`; a forecast of a long film takes up to 115 MB


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
    return measured("sequence_embedded", key, words, lambda: count * pass_seconds(active.config), compute, shelf=_shelf)


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
    return measured(
        "sequence_forecast", key, words, lambda: passes * pass_seconds(active.config), compute, shelf=_shelf
    )


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
        model = f" · {self.lstm.card.name}, {told}" if self.lstm else ""
        return facts.marked(f"{self.clip.title} · {self.active.title}{model}", self.warning)
