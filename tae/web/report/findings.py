"""One image in numbers for a report: reconstruction, chosen map, all heads, measures, and the explorer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.attention import each_head, each_layer, recomputation_errors
from tae.analysis.causal.occlusion import foreground_tokens
from tae.analysis.causal.verdicts import Verdict, quick_necessity, verdict
from tae.analysis.facts import UNIFORM_LIMIT
from tae.analysis.heads import head_statistics, uniform_statistics
from tae.analysis.maps import MapChoice, all_choices, colour_tops, compute, compute_map
from tae.data.built_in import source_for
from tae.data.encode import encode_png
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, ModelConfig
from tae.model.metrics import Quality, measure
from tae.plots.export.heads import overview_cell
from tae.plots.quality import METRICS, worse_than
from tae.plots.style import block_max
from tae.store.checkpoint import Loaded
from tae.web.explorer.payload import Note, Payload, View, map_bytes, payload, side
from tae.web.report.caveats import about_image, about_map
from tae.web.report.request import ReportImage, ReportMap

MAX_MAP_BYTES = 10**9  # of one float32 map; an image with more patches is refused


@dataclass(frozen=True)
class Attention:
    """The attention of a model in one image."""

    weights: np.ndarray  # (N, N) float32, the chosen map
    grid: tuple[int, int]  # (rows, columns) of patches
    query: int  # token number of the chosen patch
    tops: dict[str, float]  # {"shared", "full"}: ends of the colour range in x uniform
    top: float  # end of the colours for the chosen map
    errors: dict[str, list[float]]
    """{part: largest difference of recomputed weights @ V from the fused output, for each layer}."""
    notes: list[Note]  # what to mind of the chosen map
    heads: dict[str, np.ndarray]
    """{part: (L, heads, n, n)} every head's map in x uniform, at most so fine as it is drawn."""
    merged: int  # how many patches one of the n cells stands for, a side
    measures: dict[str, dict[str, np.ndarray]]  # {part: {name of `tae.analysis.heads.MEASURES`: (L, heads)}}
    uniform: dict[str, float]  # {name: value} of uniform attention


@dataclass(frozen=True)
class Findings:
    """One image through one model."""

    image: ReportImage  # as it was given
    recon: np.ndarray  # (H, W) float32 in [0, 1]
    quality: Quality
    worse_than: dict[str, float]
    """{metric: share in percent of test images that did better}; empty where the card has no figures."""
    notes: list[Note]  # what to mind of the image
    attention: Attention | None  # None where the image is one token


@torch.no_grad()
def find(loaded: Loaded, given: ReportImage, view: ReportMap) -> Findings:
    """Run one image through the model; ValueError if it has no such map, or maps would take too much memory."""
    model, image = loaded.model, as_batch(given.fitted.pixels)
    height, width = given.fitted.pixels.shape
    grid = model.config.grid_for(width)
    num_tokens = grid[0] * grid[1]
    if 4 * num_tokens**2 > MAX_MAP_BYTES:
        raise ValueError(
            f"a map must take at most {MAX_MAP_BYTES / 1e9:g} GB, got {4 * num_tokens**2 / 1e9:.2g} GB for {num_tokens} "
            f"patches of an image of {width}x{height}; take a narrower image, or a model with larger patches"
        )
    recon = model(image)[0].clamp(0, 1)[0, 0].numpy()
    quality = measure(given.fitted.pixels, recon)
    places = _places(loaded, quality)
    notes = about_image(given.fitted.notes, places.get("psnr"))
    attention = None if num_tokens == 1 else _attend(model, image, grid, view)
    return Findings(given, recon, quality, places, notes, attention)


def held_out(loaded: Loaded) -> dict[str, np.ndarray]:
    """{metric: (101,)} over the checkpoint's held-out images; empty where it is untrained or its card has none."""
    if loaded.card.origin == "untrained":
        return {}
    percentiles = loaded.card.metrics.get("percentiles", {})
    return {name: np.array(percentiles[name]) for name in METRICS if len(percentiles.get(name, [])) == 101}


def explorable(
    model: TransformerAutoencoder,
    image: ReportImage,
    view: ReportMap,
    query: int,
    tops: dict[str, float],
    notes: list[Note],
    status: dict[str, str],
    budget: int,
) -> tuple[Payload, list[str]]:
    """The explorer's data with as many maps as fit, for a page that cannot ask for more, and the names of the others.

    It opens with the view at a query token; tops, notes and status are as for `tae.web.explorer.payload.payload`. The
    budget is in bytes of the data as JSON; the map on display goes in any case.
    """
    pixels = image.fitted.pixels
    grid = model.config.grid_for(pixels.shape[1])
    choice = view.choice
    names = [one.name for part in PARTS for one in all_choices(model.config, part)]
    left = 3 * (budget - 3000 - len(encode_png(pixels)) * 4 // 3 - 30 * len(names)) // 4  # base64: a third more
    chosen = sorted(names, key=lambda name: _rank(name, choice))[: max(1, left // (map_bytes(grid) + 120))]

    def map_of(name: str) -> np.ndarray:
        return compute_map(model, as_batch(pixels), MapChoice.named(name, choice.weighting, choice.discard)).numpy()

    digest = hashlib.sha256(f"{pixels.shape}{choice.weighting}{choice.discard}".encode() + pixels.tobytes())
    one = side(
        title=image.title,
        image=pixels,
        grid=grid,
        patch_size=model.config.tile_size[0],
        maps={name: map_of(name) for name in chosen},
        names=names,
        digest=digest.hexdigest(),
    )
    part, layer, head = choice.name.split("/")
    opens = View(part=part, layer=layer, head=head, query=query, direction=view.direction, range=view.range)
    return payload([one], opens, tops, notes, status), [name for name in names if name not in chosen]


def statuses(config: ModelConfig, errors: dict[str, list[float]]) -> dict[str, str]:
    """Texts of the explorer below the maps of each part and layer."""
    found = {}
    for part, of_layers in errors.items():
        found[part] = f"head_dim {config.head_dim}"
        for layer, error in [("average", max(of_layers)), ("rollout", max(of_layers)), *enumerate(of_layers)]:
            found[f"{part}/{layer}"] = differs(error)
    return found


def differs(error: float) -> str:
    """How far recomputed weights @ V are from the fused output."""
    return f"recomputation error at most {error:.1e}"


def errors_of_parts(model: TransformerAutoencoder, pixels: np.ndarray) -> dict[str, list[float]]:
    """{part: `tae.analysis.attention.recomputation_errors`}."""
    image = as_batch(pixels)
    return {part: recomputation_errors(model, image, part) for part in PARTS}


def query_of(view: ReportMap, weights: np.ndarray, foreground: np.ndarray) -> int:
    """The patch to open with: the one asked for, else the one on the foreground that spreads its weight least.

    `foreground` are token numbers (T,); all are looked at where there is none.
    """
    if view.query is not None and view.query < len(weights):
        return view.query
    candidates = foreground if len(foreground) else np.arange(len(weights))
    return int(candidates[weights[candidates].max(axis=1).argmax()])


def _attend(model: TransformerAutoencoder, image: Tensor, grid: tuple[int, int], view: ReportMap) -> Attention:
    config, choice = model.config, view.choice
    computed = compute(model, image, choice)
    weights = computed.weights.numpy()
    tops = colour_tops(model, image, choice.weighting)
    own_top = max(UNIFORM_LIMIT, float(weights.max()) * len(weights))
    max_cells = overview_cell(max(map(config.num_layers, PARTS)), config.num_heads)
    return Attention(
        weights=weights,
        grid=grid,
        query=query_of(view, weights, foreground_tokens(image, config).numpy()),
        tops=tops,
        top=own_top if view.range == "own" else tops[view.range],
        errors=errors_of_parts(model, image[0, 0].numpy()),
        notes=about_map(weights, view, config, grid, computed.hidden_mass),
        heads={part: small_heads(model, image, part, choice.weighting, max_cells) for part in PARTS},
        merged=-(-len(weights) // max_cells),
        measures={part: head_statistics(model, image, part) for part in PARTS},
        uniform=uniform_statistics(config, image),
    )


def small_heads(model: TransformerAutoencoder, image: Tensor, part: str, weighting: str, max_cells: int) -> np.ndarray:
    """Every head's map (L, heads, n, n) float32 in x uniform, of blocks the strongest, n at most `max_cells`."""
    layers = []
    for block, tokens, mask in each_layer(model, image, part):
        heads = each_head(block, tokens, mask, weighting)
        layers.append([block_max(one[0].numpy() * one.shape[-1], max_cells)[0] for one in heads])
    return np.array(layers, np.float32)


def _places(loaded: Loaded, quality: Quality) -> dict[str, float]:
    found = {}
    for metric, percentiles in held_out(loaded).items():
        value = getattr(quality, metric)
        if np.isfinite(value):
            found[metric] = worse_than(percentiles, value, METRICS[metric][2])
    return found


def _rank(name: str, choice: MapChoice) -> int:
    """The order of maps where not all fit."""
    part, layer, head = name.split("/")
    if name == choice.name:
        return 0
    is_other_part = part != choice.part
    if head == "mean":
        return 1 + is_other_part
    if layer == choice.layer:
        return 3 + is_other_part
    return 5 + is_other_part + 2 * (not head.isdecimal())


def verdicts_on(model: TransformerAutoencoder, images: Sequence[np.ndarray], data: str = "") -> list[Verdict]:
    """Verdicts on encoder and decoder from these images, (H, W) in [0, 1]; test images lend their attention.

    data: What the model's card says of its images, which tells which test images these are.

    Where `python -m tae.causal` has left a study, that tells more: it is over many images.
    """
    source = source_for(model.config, data)
    batches = map(as_batch, images)
    found = quick_necessity(model, ((image, source.test_at(image.shape[3], 1, image)) for image in batches))
    return [verdict(found, part) for part in PARTS]


def as_batch(pixels: np.ndarray) -> Tensor:
    """(1, 1, H, W) float32 of one image (H, W)."""
    return torch.from_numpy(np.array(pixels, np.float32))[None, None]
