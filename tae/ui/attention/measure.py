"""What the attention pages show of a picture and a model, computed once for all sessions and kept.

Keys of the caches are digests; what begins with `_` is not part of a key.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae.analysis import attention, causal, heads, maps
from tae.analysis.heads import Spread
from tae.analysis.maps import MapChoice, colour_tops
from tae.data.demo import DemoSource
from tae.data.fit import Fitted, fit_image
from tae.data.gallery import gallery
from tae.model.config import PARTS, ModelConfig
from tae.model.metrics import measure
from tae.store.checkpoint import Loaded
from tae.ui.session.models import Active
from tae.ui.session.pictures import Chosen, sample
from tae.ui.session.results import MODEL_LOCK, Result, as_batch, digest_of, pass_seconds, read_only
from tae.ui.session.verdicts import study_of, verdict_of
from tae.ui.session.work import Progress, known, measured
from tae.web.explorer.payload import Side, View, side
from tae.web.report import ReportImage, ReportMap, report
from tae.web.report.findings import small_heads

MAX_MAP_BYTES = 2 * 10**9
"""Of attention maps that are held at once for one view."""
TEST_IMAGES = 64
"""Demo test images behind the measures of a picture."""
PASSES = 2
"""Runs through the whole model that measuring the heads of one part takes."""
HEADS = "heads"
"""Names the measures of test images in caches."""
THUMBNAIL = 96
"""Cells a side, at most, of one head in the overview."""


@dataclass(frozen=True)
class ShownMap:
    """One map.

    Attributes:
        weights: (N, N) float32, rows = query; read only.
        hidden_mass: Share of all weight that was discarded.
    """

    weights: np.ndarray
    hidden_mass: float


def one_map(active: Active, fitted: Fitted, choice: MapChoice) -> ShownMap:
    """The map that is meant.

    Raises:
        ValueError: If the model has no such map.
    """
    return _one_map(active.loaded.digest, digest_of(fitted), choice, active.loaded, fitted)


@st.cache_resource(max_entries=12, show_spinner="Computing attention…")
def _one_map(model_digest: str, digest: str, choice: MapChoice, _loaded: Loaded, _fitted: Fitted) -> ShownMap:
    with MODEL_LOCK:
        computed = maps.compute(_loaded.model, as_batch(_fitted), choice)
    return ShownMap(read_only(computed.weights.numpy()), computed.hidden_mass)


def explorer_side(
    active: Active,
    fitted: Fitted,
    title: str,
    names: tuple[str, ...],
    every: tuple[str, ...],
    weighting: str,
    discard: float,
) -> Side:
    """What the explorer gets of a picture.

    Args:
        active: The model.
        fitted: The picture.
        title: Above it.
        names: Maps that go now.
        every: All maps that can be asked for.
        weighting, discard: As in `MapChoice`; the discard is for rollout only.
    """
    digest = side_digest(active, fitted, weighting, discard)
    return _explorer_side(digest, title, names, every, weighting, discard, active.loaded, fitted)


@st.cache_resource(max_entries=24, show_spinner="Computing attention…")
def _explorer_side(
    digest: str,
    title: str,
    names: tuple[str, ...],
    every: tuple[str, ...],
    weighting: str,
    discard: float,
    _loaded: Loaded,
    _fitted: Fitted,
) -> Side:
    config = _loaded.model.config
    with MODEL_LOCK:
        computed = {
            name: maps.compute_map(_loaded.model, as_batch(_fitted), MapChoice.named(name, weighting, discard)).numpy()
            for name in names
        }
    return side(
        title,
        _fitted.pixels,
        config.grid_for(_fitted.pixels.shape[1]),
        config.tile_size[0],
        computed,
        every,
        digest,
    )


def side_digest(active: Active, fitted: Fitted, weighting: str, discard: float) -> str:
    """What names the maps of `explorer_side` in the browser."""
    return f"{active.loaded.digest[:16]}-{digest_of(fitted)[:16]}-{weighting}-{discard:g}"


def foreground(active: Active, fitted: Fitted) -> np.ndarray:
    """Token numbers (T,) of the patches that are not blank."""
    return causal.foreground_tokens(as_batch(fitted), active.config).numpy()


def range_tops(active: Active, fitted: Fitted, weighting: str) -> dict[str, float]:
    """{"shared": ..., "full": ...} in x uniform."""
    return _range_tops(active.loaded.digest, digest_of(fitted), weighting, active.loaded, fitted)


@st.cache_data(max_entries=64, show_spinner="Computing attention…")
def _range_tops(model_digest: str, digest: str, weighting: str, _loaded: Loaded, _fitted: Fitted) -> dict[str, float]:
    with MODEL_LOCK:
        return colour_tops(_loaded.model, as_batch(_fitted), weighting)


def thumbnails(active: Active, fitted: Fitted, part: str, weighting: str) -> np.ndarray:
    """Every head of a part, small: (L, heads, M, M) float32 in x uniform, strongest of each block; read only."""
    return _thumbnails(active.loaded.digest, digest_of(fitted), part, weighting, active.loaded, fitted)


@st.cache_resource(max_entries=12, show_spinner="Computing all heads…")
def _thumbnails(
    model_digest: str, digest: str, part: str, weighting: str, _loaded: Loaded, _fitted: Fitted
) -> np.ndarray:
    with MODEL_LOCK:
        return read_only(small_heads(_loaded.model, as_batch(_fitted), part, weighting, THUMBNAIL))


def head_statistics(active: Active, fitted: Fitted, part: str) -> dict[str, np.ndarray]:
    """{measure: (layers, heads)} of one picture."""
    return _head_statistics(active.loaded.digest, digest_of(fitted), part, active.loaded, fitted)


@st.cache_data(max_entries=64, show_spinner="Measuring the heads…")
def _head_statistics(
    model_digest: str, digest: str, part: str, _loaded: Loaded, _fitted: Fitted
) -> dict[str, np.ndarray]:
    with MODEL_LOCK:
        return heads.head_statistics(_loaded.model, as_batch(_fitted), part)


def statistics_of_tests(active: Active, part: str) -> Spread | None:
    """The same measures over demo test images of the model's size; None while that is not computed."""
    config = active.config

    def compute(progress: Progress) -> Spread:
        images = DemoSource(config.input_size, config.max_width).test(TEST_IMAGES)
        return heads.statistics_over(active.loaded.model, images, part, progress)

    def seconds() -> float:
        return TEST_IMAGES * PASSES * pass_seconds(config)

    words = f"Measuring {TEST_IMAGES} test images"
    return measured(HEADS, f"{active.loaded.digest}|{part}", words, seconds, compute)


def report_maker(active: Active, chosen: Chosen, fitted: Fitted, choice: MapChoice, view: View) -> Callable[[], bytes]:
    """Makes the report of what is on display, once somebody asks for it; it then has no session to read from."""
    origin = (*chosen.picture.notes, *([chosen.sample.note] if chosen.sample else []))
    picture = ReportImage(title=chosen.title, fitted=fitted, origin=origin, fit=st.session_state.fit)
    shown = ReportMap(choice=choice, query=view.query, direction=view.direction, range=view.range)
    found: dict[str, Spread | None] = {part: known(HEADS, f"{active.loaded.digest}|{part}") for part in PARTS}
    spreads = {part: spread for part, spread in found.items() if spread is not None}
    verdicts = [verdict for part in PARTS if (verdict := verdict_of(active, part)) is not None]

    def make() -> bytes:
        with MODEL_LOCK:
            return report(
                active.loaded, [picture], shown, checkpoint_file=active.key, spreads=spreads, verdicts=verdicts
            )

    return make


def effects_on_tests(active: Active, part: str) -> np.ndarray | None:
    """(layers, heads) PSNR in dB that test images lose as a median when a head is knocked out; None where nobody measured.

    The figures stand beside the checkpoint, where `python -m tae.causal` puts them.
    """
    study = study_of(active)
    if study is None:
        return None
    config = active.config
    names = [[f"{part}/{layer}/{head}" for head in range(config.num_heads)] for layer in range(config.num_layers(part))]
    return np.array([[study.median_damage(name) for name in row] for row in names])


def uniform_statistics(config: ModelConfig, fitted: Fitted) -> dict[str, float]:
    """{measure: what uniform attention would have on this picture}."""
    return heads.uniform_statistics(config, as_batch(fitted))


def attention_maps(active: Active, fitted: Fitted, part: str) -> dict[str, np.ndarray]:
    """{"layer_0": (N, N), ..., "average": (N, N)} float32, rows = query; read only."""
    return _attention_maps(active.loaded.digest, digest_of(fitted), part, active.loaded, fitted)


@st.cache_resource(max_entries=8, show_spinner="Computing attention…")
def _attention_maps(
    model_digest: str, digest: str, part: str, _loaded: Loaded, _fitted: Fitted
) -> dict[str, np.ndarray]:
    with MODEL_LOCK:
        maps = _loaded.model.get_attention_maps(as_batch(_fitted), part=part)
    return {name: read_only(attention_map[0].numpy()) for name, attention_map in maps.items()}


def recomputation_errors(active: Active, fitted: Fitted, part: str) -> list[float]:
    """Largest difference between recomputed weights @ V and the fused output, in each layer."""
    return _recomputation_errors(active.loaded.digest, digest_of(fitted), part, active.loaded, fitted)


@st.cache_data(max_entries=128, show_spinner=False)
def _recomputation_errors(model_digest: str, digest: str, part: str, _loaded: Loaded, _fitted: Fitted) -> list[float]:
    with MODEL_LOCK:
        return attention.recomputation_errors(_loaded.model, as_batch(_fitted), part)


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
        active.loaded.digest,
        digest_of(fitted),
        digest_of(other_fitted),
        part,
        where,
        active.loaded,
        fitted,
        other_fitted,
    )
    return dict(zip(("Uniform weights", f"Attention of: {other.title}"), results, strict=True))


@st.cache_data(max_entries=64, show_spinner="Reconstructing without it…")
def _without_attention(
    model_digest: str,
    digest: str,
    other_digest: str,
    part: str,
    layers: tuple[int, ...] | None,
    _loaded: Loaded,
    _fitted: Fitted,
    _other: Fitted,
) -> list[Result]:
    results = []
    with MODEL_LOCK:
        for replace in (causal.uniform, causal.from_images(_loaded.model, as_batch(_other), part)):
            recon = causal.reconstruct_with(_loaded.model, as_batch(_fitted), replace, part, layers)
            pixels = recon.clamp(0, 1)[0, 0].numpy()
            results.append(Result(_fitted, pixels, measure(_fitted.pixels, pixels)))
    return results
