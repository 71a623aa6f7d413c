"""Layers and heads in numbers, beside the same numbers of test images: how spread, how far, where to.

They say where weight was placed, not what it was good for: `tae.causal` measures that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.attention import distance, each_head, each_layer, entropy, received, sinks
from tae.analysis.causal.occlusion import foreground_tokens
from tae.analysis.causal.prefix import Progress, check_one, silent
from tae.analysis.facts import IS_SINK
from tae.analysis.numbers import percent
from tae.data.batches import to_batch
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig

TOP_KEYS = 0.05  # share of the keys whose part of all weight "concentration" tells
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
AGREEMENT = 0.9  # an order of layers is stated only if this share of the images has its last layer beyond its first one
SAME_DISTANCE = 0.01
"""Layers whose distances differ by less than this share of the one under uniform attention have no order."""


@dataclass(frozen=True)
class Measure:
    """The meaning of a number of a head, for a reader from outside the field."""

    label: str
    unit: str
    help: str


MEASURES = {  # in the order in which pages list them
    "entropy": Measure(
        "Entropy",
        "share of log N",
        "How evenly a patch spreads its weight: 1 when every patch gets the same, 0 when one patch gets all. "
        "The mean over patches, as a share of the most that is possible.",
    ),
    "distance": Measure(
        "Mean attention distance",
        "pixels",
        "How far, in pixels, weight is placed from the patch that places it, as a mean over patches. "
        "Compare with uniform attention, which reaches as far as the image allows.",
    ),
    "foreground": Measure(
        "Weight on the foreground",
        "share of weight",
        "The share of all weight placed on patches that hold something darker than the page. Uniform attention places "
        "as much as there are such patches; more means that weight gathers on the foreground.",
    ),
    "diagonal": Measure(
        "Weight on itself",
        "x uniform",
        "How much weight a patch places on itself, as a mean over patches: 1 is as much as on any other.",
    ),
    "concentration": Measure(
        "Concentration on few patches",
        "share of weight",
        "The share of all weight that goes to those 5% of the patches which receive most. Close to 1: nearly all "
        "patches place their weight on the same few.",
    ),
    "sinks": Measure(
        "Attention sinks",
        "patches",
        f"How many patches receive {IS_SINK}. Such patches often draw weight whatever they show.",
    ),
}


@torch.no_grad()
def head_statistics(
    model: TransformerAutoencoder, image: Tensor, part: str = "encoder", progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Each measure of every layer and head of one image: {name of `MEASURES`: (L, heads) float64}.

    The image is without padding: distances are those of its own grid. For the decoder, too, the foreground is that of
    the image, not of the reconstruction. One map is held at a time.
    """
    check_one(image)
    config = model.config
    foreground = foreground_tokens(image, config)
    num_layers = config.num_layers(part)
    values = {name: np.zeros((num_layers, config.num_heads)) for name in MEASURES}
    for layer, (block, tokens, _) in enumerate(each_layer(model, image, part)):
        for head, maps in enumerate(each_head(block, tokens)):
            for name, value in _measured(maps[0], foreground, config, image.shape[3]).items():
                values[name][layer, head] = value
            progress((layer * config.num_heads + head + 1) / (num_layers * config.num_heads))
    return values


def uniform_statistics(config: ModelConfig, image: Tensor) -> dict[str, float]:
    """Each measure, {name: value}, if every patch of this image (1, 1, H, W) treated all alike: the dashed line."""
    rows, columns = config.grid_for(image.shape[3])
    num_tokens = rows * columns
    return {
        "entropy": 1.0 if num_tokens > 1 else 0.0,
        "distance": mean_distance(rows, columns) * config.tile_size[0],
        "foreground": len(foreground_tokens(image, config)) / num_tokens,
        "diagonal": 1.0,
        "concentration": _num_top(num_tokens) / num_tokens,
        "sinks": 0.0,
    }


@dataclass(frozen=True)
class Spread:
    """The measures of many images."""

    part: str  # "encoder" or "decoder"
    values: dict[str, np.ndarray]  # {name of `MEASURES`: (num_images, L, heads)}
    uniform: dict[str, np.ndarray]  # {name: (num_images,)} of uniform attention on each image

    @property
    def num_images(self) -> int:
        """How many images were measured."""
        return len(self.values["entropy"])

    def of_layers(self, name: str) -> np.ndarray:
        """`QUANTILES` over images of each layer, heads averaged: (5, L)."""
        return np.quantile(self.values[name].mean(axis=2), QUANTILES, axis=0)


def statistics_over(
    model: TransformerAutoencoder,
    images: Sequence[np.ndarray],
    part: str = "encoder",
    progress: Progress = silent,
) -> Spread:
    """The measures of at least one image, uint8 (H, W), each alone at its own width."""
    if not len(images):
        raise ValueError("images must be at least one, got none")
    parameter = next(model.parameters())
    found, uniform = [], []
    for number, pixels in enumerate(images):
        image = to_batch([pixels])[0].to(parameter)
        found.append(head_statistics(model, image, part))
        uniform.append(uniform_statistics(model.config, image))
        progress((number + 1) / len(images))
    return Spread(
        part,
        {name: np.stack([one[name] for one in found]) for name in MEASURES},
        {name: np.array([one[name] for one in uniform]) for name in MEASURES},
    )


@dataclass(frozen=True)
class Locality:
    """Whether attention reaches farther from layer to layer, over many images."""

    part: str  # "encoder" or "decoder"
    distance: np.ndarray  # (L,) median over images of each layer's mean attention distance in pixels, heads averaged
    uniform: float  # median over images of the distance under uniform attention, in pixels
    share: np.ndarray
    """(L,) median of each image's distance as a share of its own under uniform attention; nan where that is 0."""
    num_images: int
    num_farther: int  # images in which the last layer reaches farther than the first
    num_nearer: int  # images in which it reaches less far
    order: str
    """ "rising" or "falling" where the medians are in that order from layer to layer, differ by more than
    `SAME_DISTANCE`, and at least `AGREEMENT` of the images agree for their first and last layer; else "none"."""

    @property
    def sentence(self) -> str:
        """In words, with the numbers, beside what the architecture diagram says."""
        images = f"{self.num_images} image{'s' if self.num_images > 1 else ''}"
        if not self.uniform:
            return f"The {self.part} has one token: there is no distance to speak of."
        layers = ", ".join(
            f"layer {layer} {pixels:.0f} px ({percent(share)})"
            for layer, (pixels, share) in enumerate(zip(self.distance, self.share, strict=True))
        )
        numbers = (
            f"Mean attention distance in the {self.part}, median of {images}: {layers}; in brackets, as a share of the "
            f"distance under uniform attention ({self.uniform:.0f} px)."
        )
        if len(self.distance) == 1:
            return f"{numbers} With one layer there is no early or late."
        counted = f"the last layer reaches farther than the first in {self.num_farther} of {images}"
        if self.order == "rising":
            said = "rises from layer to layer, as the architecture diagram states (early local, late global)"
        elif self.order == "falling":
            said = "falls from layer to layer, the reverse of what the architecture diagram states"
            counted = f"the last layer reaches less far than the first in {self.num_nearer} of {images}"
        elif np.ptp(self.share) < SAME_DISTANCE:
            return f"{numbers} For this checkpoint it is practically the same in all layers."
        else:
            said = (
                "does not rise from layer to layer, as the architecture diagram states (early local, late global)"
                f": layer {self.share.argmax()} reaches farthest, layer {self.share.argmin()} least far"
            )
            counted = f"in {self.num_farther} of {images} the last layer reaches farther than the first"
        separator = ";" if self.order == "none" else ":"
        return (
            f"{numbers} For this checkpoint the distance {said}{separator} {counted}. "
            "It tells how far weight is placed, not which features a layer holds."
        )


def locality(spread: Spread) -> Locality:
    """How far attention reaches, layer by layer: "early layers: local, late layers: global", put to the test."""
    by_layer = spread.values["distance"].mean(axis=2)  # (num_images, L)
    uniform = spread.uniform["distance"]
    shares = by_layer / np.where(uniform > 0, uniform, np.nan)[:, None]
    median = np.median(shares, axis=0)
    first, last = by_layer[:, 0], by_layer[:, -1]
    farther, nearer = int((last > first).sum()), int((last < first).sum())
    steps = np.diff(median)
    order = "none"
    differs = bool(np.ptp(median) >= SAME_DISTANCE)  # never for one layer, nor for one token, where it is nan
    if differs and bool((steps > 0).all()) and farther >= AGREEMENT * len(first):
        order = "rising"
    elif differs and bool((steps < 0).all()) and nearer >= AGREEMENT * len(first):
        order = "falling"
    return Locality(
        part=spread.part,
        distance=np.median(by_layer, axis=0),
        uniform=float(np.median(uniform)),
        share=median,
        num_images=len(first),
        num_farther=farther,
        num_nearer=nearer,
        order=order,
    )


def _measured(attention_map: Tensor, foreground: Tensor, config: ModelConfig, width: int) -> dict[str, float]:
    """Every measure of one map (N, N)."""
    num_tokens = len(attention_map)
    shares = received(attention_map)
    reach = distance(attention_map, config.grid_for(width), config.tile_size[0])
    return {
        "entropy": float(entropy(attention_map).mean()) / math.log(num_tokens) if num_tokens > 1 else 0.0,
        "distance": float(reach.mean()),
        "foreground": float(shares[foreground].sum()),
        "diagonal": float(attention_map.diagonal().mean()) * num_tokens,
        "concentration": float(shares.topk(_num_top(num_tokens)).values.sum()),
        "sinks": float(len(sinks(attention_map)[0])),
    }


def _num_top(num_tokens: int) -> int:
    """How many keys are 5% of them: at least one, rounded up."""
    return math.ceil(TOP_KEYS * num_tokens)


def mean_distance(rows: int, columns: int) -> float:
    """Mean distance between two patches of a grid, itself included, in patches.

    Sums over the (2 rows - 1) x (2 columns - 1) offsets, each of which (rows - |down|) (columns - |across|) pairs have.
    """
    down, across = np.arange(1 - rows, rows)[:, None], np.arange(1 - columns, columns)
    pairs = (rows - np.abs(down)) * (columns - np.abs(across))
    return float((pairs * np.hypot(down, across)).sum() / pairs.sum())
