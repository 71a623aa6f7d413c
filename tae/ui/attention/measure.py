"""The maps and figures of the attention pages, computed once for all sessions and kept."""

from dataclasses import dataclass

import numpy as np

from tae.analysis import attention, heads, maps
from tae.analysis.causal import occlusion
from tae.analysis.heads import Spread
from tae.analysis.maps import MapChoice, colour_tops
from tae.data.built_in import source_for
from tae.model.config import PARTS
from tae.ui.session.cache import MODEL_LOCK, digest_of, kept, read_only
from tae.ui.session.models import Active
from tae.ui.session.results import pass_seconds
from tae.ui.session.scene import Scene
from tae.ui.session.verdicts import study_of
from tae.ui.session.work import Progress, measured
from tae.ui.widgets.report import HEADS
from tae.web.explorer import payload
from tae.web.explorer.payload import Payload, Side, coarsen, heads_merged, in_head_grid, side
from tae.web.report.findings import small_heads

MAX_MAP_BYTES = 2 * 10**9  # bytes of attention maps that are held at once for one view
TEST_IMAGES = 64  # demo test images behind the measures of an image
PASSES = 2  # runs through the whole model that measuring the heads of one part takes
THUMBNAIL = 96  # cells a side, at most, of one head in the overview


@dataclass(frozen=True)
class ShownMap:
    """One map."""

    weights: np.ndarray  # (N, N) float32, rows = query; read only
    hidden_mass: float  # share of all weight that was discarded


@kept("Computing attention…")
def one_map(scene: Scene, choice: MapChoice) -> ShownMap:
    """The map that is meant. Raises ValueError if the model has no such map."""
    with MODEL_LOCK:
        computed = maps.compute(scene.model, scene.batch, choice)
    return ShownMap(read_only(computed.weights.numpy()), computed.hidden_mass)


@kept("Computing attention…")
def key_norms(scene: Scene, part: str, layer: str, head: str) -> tuple[np.ndarray, np.ndarray]:
    """`attention.key_norms` behind a map by its name: means where that is over several layers or heads."""
    places = (int(one) if one.isdecimal() else None for one in (layer, head))
    with MODEL_LOCK:
        value, token = attention.key_norms(scene.model, scene.batch, part, *places)
    return read_only(value.numpy()), read_only(token.numpy())


@kept("Computing attention…")
def explorer_side(
    scene: Scene, title: str, names: tuple[str, ...], every: tuple[str, ...], weighting: str, discard: float
) -> Side:
    """The side of an image in the explorer; maps in `names` go now, those in `every` can be asked for.

    Weighting and discard are as in `MapChoice`, the latter for rollout only.
    """
    with MODEL_LOCK:
        computed = {
            name: maps.compute_map(scene.model, scene.batch, MapChoice.named(name, weighting, discard)).numpy()
            for name in names
        }
    digest = side_digest(scene, weighting, discard)
    return side(title, scene.fitted.pixels, scene.grid, scene.config.tile_size[0], computed, every, digest)


@kept("Computing attention…")
def heads_feed(scene: Scene, weighting: str, discard: float, memory: str) -> Payload:
    """The maps of the head grid, as `tae.web.explorer.payload.heads_feed` has them."""
    grid = scene.grid
    count = sum(in_head_grid(choice.name) for part in PARTS for choice in maps.all_choices(scene.config, part))
    k = heads_merged(grid, count)
    with MODEL_LOCK:
        found = {
            name: coarsen(one.numpy(), grid, k)
            for name, one in maps.head_grid(scene.model, scene.batch, weighting, discard)
        }
    return payload.heads_feed(found, grid, side_digest(scene, weighting, discard), memory)


def side_digest(scene: Scene, weighting: str, discard: float) -> str:
    """What names the maps of `explorer_side` in the browser."""
    return f"{scene.active.loaded.digest[:16]}-{digest_of(scene.fitted)[:16]}-{weighting}-{discard:g}"


def foreground(scene: Scene) -> np.ndarray:
    """Token numbers (T,) of the patches that are not blank."""
    return occlusion.foreground_tokens(scene.batch, scene.config).numpy()


@kept("Computing attention…")
def range_tops(scene: Scene, weighting: str) -> dict[str, float]:
    """{"shared": ..., "full": ...} in x uniform."""
    with MODEL_LOCK:
        return colour_tops(scene.model, scene.batch, weighting)


@kept("Computing all heads…")
def thumbnails(scene: Scene, part: str, weighting: str) -> np.ndarray:
    """Every head of a part, small: (L, heads, M, M) float32 in x uniform, strongest of each block; read only."""
    with MODEL_LOCK:
        return read_only(small_heads(scene.model, scene.batch, part, weighting, THUMBNAIL))


@kept("Measuring the heads…")
def head_statistics(scene: Scene, part: str) -> dict[str, np.ndarray]:
    """{measure: (layers, heads)} of one image."""
    with MODEL_LOCK:
        return heads.head_statistics(scene.model, scene.batch, part)


def statistics_of_tests(active: Active, part: str) -> Spread | None:
    """The same measures over test images of the model's size; None while that is not computed."""
    config = active.config

    def compute(progress: Progress) -> Spread:
        images = source_for(config, active.data).test(TEST_IMAGES)
        return heads.statistics_over(active.loaded.model, images, part, progress)

    words = f"Measuring {TEST_IMAGES} test images"
    key = f"{active.loaded.digest}|{part}"
    return measured(
        HEADS, key, words, lambda: TEST_IMAGES * PASSES * pass_seconds(config), compute, lasting=active.lasts and Spread
    )


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


def uniform_statistics(scene: Scene) -> dict[str, float]:
    """{measure: what uniform attention would have on this image}."""
    return heads.uniform_statistics(scene.config, scene.batch)


@kept("Computing attention…")
def attention_maps(scene: Scene, part: str) -> dict[str, np.ndarray]:
    """{"layer_0": (N, N), ..., "average": (N, N)} float32, rows = query; read only."""
    with MODEL_LOCK:
        found = scene.model.get_attention_maps(scene.batch, part=part)
    return {name: read_only(one[0].numpy()) for name, one in found.items()}


@kept()
def recomputation_errors(scene: Scene, part: str) -> list[float]:
    """Largest difference between recomputed weights @ V and the fused output, in each layer."""
    with MODEL_LOCK:
        return attention.recomputation_errors(scene.model, scene.batch, part)
