"""What a model makes of a picture, computed once for all sessions and kept."""

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from tae.config import ModelConfig
from tae.gallery import gallery
from tae.images import Fitted, Picture, fit_image
from tae.ui.models import Active
from tae.ui.pictures import Chosen, sample

if TYPE_CHECKING:
    from torch import Tensor

    from tae.checkpoint import Loaded
    from tae.metrics import Quality
    from tae.plan import Pace

MAX_MAP_BYTES = 2 * 10**9
"""Of attention maps that are held at once for one view."""
_MODEL_LOCK = threading.Lock()
"""Sessions share two cores: one forward pass at a time is faster for everybody than many at once."""


@dataclass(frozen=True)
class Result:
    """One picture through one model.

    Attributes:
        fitted: What the model saw, and notes on how it came about.
        recon: (H, W) float32 in [0, 1].
        quality: How far the two are apart.
    """

    fitted: Fitted
    recon: np.ndarray
    quality: "Quality"


def fit(active: Active, chosen: Chosen) -> Fitted:
    """The picture as the model sees it.

    Raises:
        ImageError: If it cannot be brought to the model's size.
    """
    config = active.config
    return _fit(config.input_size, config.max_width, st.session_state.fit, chosen.digest, chosen.picture)


@st.cache_data(max_entries=256, show_spinner=False)
def _fit(input_size: tuple[int, int | None], max_width: int, mode: str, digest: str, _picture: Picture) -> Fitted:
    return fit_image(_picture.pixels, input_size, mode, max_width)


def reconstruct(active: Active, chosen: Chosen) -> Result:
    """The picture through the model, measured.

    Raises:
        ImageError: If it cannot be brought to the model's size.
    """
    fitted = fit(active, chosen)
    return _reconstruct(active.loaded.digest, chosen.digest, st.session_state.fit, active.loaded, fitted)


@st.cache_data(max_entries=256, show_spinner=False)
def _reconstruct(model_digest: str, digest: str, mode: str, _loaded: "Loaded", _fitted: Fitted) -> Result:
    import torch

    from tae.metrics import measure

    with _MODEL_LOCK, torch.inference_mode():
        recon = _loaded.model(_as_batch(_fitted))[0].clamp(0, 1)[0, 0].numpy()
    return Result(_fitted, recon, measure(_fitted.pixels, recon))


def attention_maps(active: Active, fitted: Fitted, part: str) -> dict[str, np.ndarray]:
    """{"layer_0": (N, N), ..., "average": (N, N)} float32, rows = query; read only."""
    return _attention_maps(active.loaded.digest, _digest(fitted), part, active.loaded, fitted)


@st.cache_resource(max_entries=8, show_spinner="Computing attention…")
def _attention_maps(
    model_digest: str, digest: str, part: str, _loaded: "Loaded", _fitted: Fitted
) -> dict[str, np.ndarray]:
    with _MODEL_LOCK:
        maps = _loaded.model.get_attention_maps(_as_batch(_fitted), part=part)
    return {name: _read_only(attention_map[0].numpy()) for name, attention_map in maps.items()}


def attention_heads(active: Active, fitted: Fitted, part: str, layer: int) -> np.ndarray:
    """(heads, N, N) float32 of one layer, read only."""
    return _attention_heads(active.loaded.digest, _digest(fitted), part, layer, active.loaded, fitted)


@st.cache_resource(max_entries=4, show_spinner="Computing the heads…")
def _attention_heads(
    model_digest: str, digest: str, part: str, layer: int, _loaded: "Loaded", _fitted: Fitted
) -> np.ndarray:
    with _MODEL_LOCK:
        return _read_only(_loaded.model.get_attention_heads(_as_batch(_fitted), layer, part=part)[0].numpy())


def recomputation_error(active: Active, fitted: Fitted, part: str, layer: int) -> float:
    """Largest difference between recomputed weights @ V and the fused output, in one layer."""
    return _recomputation_error(active.loaded.digest, _digest(fitted), part, layer, active.loaded, fitted)


@st.cache_data(max_entries=256, show_spinner=False)
def _recomputation_error(
    model_digest: str, digest: str, part: str, layer: int, _loaded: "Loaded", _fitted: Fitted
) -> float:
    from tae import attention

    with _MODEL_LOCK:
        return attention.recomputation_error(_loaded.model, _as_batch(_fitted), layer, part)


@dataclass(frozen=True)
class MapSummary:
    """One map in four numbers.

    Attributes:
        largest: Its largest weight, in x uniform.
        entropy_share: Mean entropy of its queries over log N, in [0, 1]; 1: all weight is spread evenly.
        distance: Mean attention distance in pixels.
        on_itself: Mean weight of a patch on itself, in x uniform.
    """

    largest: float
    entropy_share: float
    distance: float
    on_itself: float


def map_summaries(active: Active, fitted: Fitted, part: str) -> dict[str, MapSummary]:
    """Each map of `attention_maps` in four numbers."""
    return _map_summaries(active.loaded.digest, _digest(fitted), part, active, fitted)


@st.cache_data(max_entries=64, show_spinner=False)
def _map_summaries(
    model_digest: str, digest: str, part: str, _active: Active, _fitted: Fitted
) -> dict[str, MapSummary]:
    from tae import attention

    config = _active.config
    grid = config.grid_for(_fitted.pixels.shape[1])
    return {
        name: MapSummary(
            largest=float(one.max()) * len(one),
            entropy_share=float(attention.entropy(one).mean()) / float(np.log(len(one))),
            distance=float(attention.distance(one, grid, config.tile_size[0]).mean()),
            on_itself=float(one.diagonal().mean()) * len(one),
        )
        for name, one in attention_maps(_active, _fitted, part).items()
    }


def without_attention(
    active: Active, chosen: Chosen, fitted: Fitted, part: str, layers: list[int] | None
) -> dict[str, Result]:
    """{what stood in for a picture's attention: the reconstruction}; layers None: all of the part."""
    samples = gallery(active.config.input_size, active.config.max_width)
    other = sample(*next((key, one) for key, one in samples.items() if key != chosen.key))
    height, width = fitted.pixels.shape
    other_fitted = fit_image(other.picture.pixels, (height, width))
    where = None if layers is None else tuple(layers)
    results = _without_attention(
        active.loaded.digest, _digest(fitted), _digest(other_fitted), part, where, active.loaded, fitted, other_fitted
    )
    return dict(zip(("Uniform weights", f"Attention of: {other.title}"), results, strict=True))


@st.cache_data(max_entries=64, show_spinner="Reconstructing without it…")
def _without_attention(
    model_digest: str,
    digest: str,
    other_digest: str,
    part: str,
    layers: tuple[int, ...] | None,
    _loaded: "Loaded",
    _fitted: Fitted,
    _other: Fitted,
) -> list[Result]:
    from tae import causal
    from tae.metrics import measure

    results = []
    with _MODEL_LOCK:
        for replace in (causal.uniform, causal.from_images(_loaded.model, _as_batch(_other), part)):
            recon = causal.reconstruct_with(_loaded.model, _as_batch(_fitted), replace, part, layers)
            pixels = recon.clamp(0, 1)[0, 0].numpy()
            results.append(Result(_fitted, pixels, measure(_fitted.pixels, pixels)))
    return results


def forward_seconds(config: ModelConfig) -> float:
    """Seconds that one image takes through all blocks: one real block is timed, three runs, the fastest counts."""
    import time

    import torch

    from tae.layers import TransformerBlock

    with _MODEL_LOCK, torch.inference_mode():
        block = TransformerBlock(config.latent_dim, config.num_heads, config.mlp_ratio, 0.0, config.use_flash_attention)
        tokens = torch.randn(1, config.num_tokens, config.latent_dim)
        seconds = []
        for _ in range(4):  # the first warms up
            started = time.perf_counter()
            block.eval()(tokens)
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) * (config.encoder_layers + config.decoder_layers)


@st.cache_data(max_entries=64, show_spinner="Timing a piece of a step…")
def training_pace(config: ModelConfig, batch_size: int, precision: str, accumulate: int, device: str) -> "Pace":
    """How long a training step takes here.

    Raises:
        ValueError: If a value does not fit.
    """
    from tae.plan import calibrate

    with _MODEL_LOCK:
        return calibrate(config, batch_size, precision, accumulate, device=device, seconds=2)  # type: ignore[arg-type]


def _as_batch(fitted: Fitted) -> "Tensor":
    import torch

    return torch.from_numpy(np.array(fitted.pixels, np.float32))[None, None]


def _digest(fitted: Fitted) -> str:
    return hashlib.sha256(fitted.pixels.tobytes() + str(fitted.pixels.shape).encode()).hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
