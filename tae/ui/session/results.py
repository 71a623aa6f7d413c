"""An image through a model, and how long a pass takes here."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from tae.data.decode import ImageError
from tae.data.drops import DropSource
from tae.data.drops.measure import outline_columns, shows_drop
from tae.data.fit import FIT_MODES, FitMode, Fitted, fit_image
from tae.model.config import ModelConfig
from tae.ui.session.cache import MODEL_LOCK, kept, read_only
from tae.ui.session.images import Chosen
from tae.ui.session.models import Active

if TYPE_CHECKING:
    from torch import Tensor

    from tae.model.metrics import Quality
    from tae.store.checkpoint import Loaded
    from tae.training.planning.plan import Pace

NO_NUMBERS = "the model draws no finite numbers, as after a training that ran away; choose another checkpoint"


@dataclass(frozen=True)
class Result:
    """One image through one model."""

    fitted: Fitted  # what the model saw, and notes on how it came about
    recon: np.ndarray  # (H, W) float32 in [0, 1]
    quality: "Quality"  # how far the two are apart

    @cached_property
    def figures(self) -> dict[str, float | None]:
        """A row of a table: the quality, and how the outline is off where the image shows a drop."""
        return {**self.quality.as_dict(), **outline_columns(self.fitted.pixels, self.recon)}

    @classmethod
    def of(cls, fitted: Fitted, recon: "Tensor") -> "Result":
        """Measures a reconstruction (1, 1, H, W); what leaves [0, 1] is cut off."""
        from tae.model.metrics import measure

        pixels = read_only(recon.clamp(0, 1)[0, 0].numpy())
        return cls(fitted, pixels, measure(fitted.pixels, pixels))


def fit_mode(active: Active, pixels: np.ndarray, digest: str) -> FitMode:
    """How an image (H, W), which its digest names, comes to the model's size.

    As the visitor chose, or as the images came that the model learnt from.
    """
    for mode in (st.session_state.fit, active.loaded.card.training.get("fit")):
        if isinstance(mode, str) and mode in FIT_MODES:
            return mode  # type: ignore[return-value]
    return "drop" if active.data == DropSource.data and _shows_drop(digest, pixels) else "pad"


@kept()
def _shows_drop(digest: str, _pixels: np.ndarray) -> bool:
    return shows_drop((255 * _pixels).astype(np.uint8))


def fit(active: Active, chosen: Chosen) -> Fitted:
    """The image as the model sees it. Raises ImageError if it cannot be brought to the model's size."""
    config = active.config
    return _fit(config.input_size, config.max_width, fit_mode(active, chosen.image.pixels, chosen.digest), chosen)


@kept()
def _fit(input_size: tuple[int, int | None], max_width: int, mode: FitMode, chosen: Chosen) -> Fitted:
    return fit_image(chosen.image.pixels, input_size, mode, max_width)


def reconstruct(active: Active, chosen: Chosen) -> Result:
    """The image through the model, measured.

    Raises ImageError if it cannot be brought to the model's size, or the model draws no finite numbers from it.
    """
    return _reconstruct(active.loaded, fit(active, chosen))


@kept()
def _reconstruct(loaded: "Loaded", fitted: Fitted) -> Result:
    with MODEL_LOCK:
        return Result.of(fitted, recon_of(loaded, fitted))


def recon_of(loaded: "Loaded", fitted: Fitted) -> "Tensor":
    """(1, 1, H, W), a fitted image through the model, for who holds the models; ImageError where it draws no finite numbers."""
    import torch

    with torch.inference_mode():
        recon = loaded.model(as_batch(fitted))[0].clamp(0, 1)
    if not recon.isfinite().all():
        raise ImageError(NO_NUMBERS)
    return recon


def forward_seconds(config: ModelConfig) -> float:
    """Seconds that one image takes through all blocks: one real block is timed, three runs, the fastest counts."""
    import time

    import torch

    from tae.model.layers import TransformerBlock

    with MODEL_LOCK, torch.inference_mode():
        block = TransformerBlock(config).eval()
        tokens = torch.randn(1, config.num_tokens, config.latent_dim)
        seconds = []
        for _ in range(4):  # the first warms up
            started = time.perf_counter()
            block(tokens)
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) * (config.encoder_layers + config.decoder_layers)


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def pass_seconds(config: ModelConfig) -> float:
    """About how long one image takes through the whole model here; measured anew after a minute, once others are done."""
    return forward_seconds(config)


@st.cache_data(max_entries=64, show_spinner="Timing a piece of a step…")
def training_pace(config: ModelConfig, batch_size: int, precision: str, accumulate: int, device: str) -> "Pace":
    """How long a training step takes here. Raises ValueError if a value does not fit."""
    from tae.training.planning.plan import calibrate

    with MODEL_LOCK:
        return calibrate(config, batch_size, precision, accumulate, device=device, seconds=2)  # type: ignore[arg-type]


def as_batch(fitted: Fitted) -> "Tensor":
    """(1, 1, H, W)."""
    import torch

    return torch.from_numpy(np.array(fitted.pixels, np.float32))[None, None]
