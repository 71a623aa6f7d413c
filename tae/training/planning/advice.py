"""Advice for a training on one's own images: what it had best begin with, and be, by the shipped models and the budget."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tae.analysis.evaluate import reconstruct
from tae.analysis.yardsticks import mean_psnr
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.model.transfer import transfer
from tae.store.checkpoint import list_checkpoints, load_checkpoint
from tae.store.places import APP, SHIPPED

TRIED_ON = 8
"""Images by which the shipped models that fit are told apart."""
ENOUGH_STEPS = 4000
"""Steps after which a model that began with nothing is ahead of every yardstick: the shipped ones were after 1,800 to 6,600,
the median is 3,800 (`python -m benchmarks.yardsticks`)."""
_ALIKE = ("latent_dim", "num_heads", "mlp_ratio", "patch_size", "encoder_layers", "decoder_layers")


class Beginning(NamedTuple):
    """A model to begin with, and what it is worth on these images before any training, in dB."""

    path: Path
    psnr: float


def shipped_that_fit(config: ModelConfig, folder: Path = APP / "checkpoints") -> list[Path]:
    """The shipped checkpoints whose layers and patches are this model's, for images of about its shape.

    Their positions may be of another grid: they are resampled.
    """
    height, width = config.input_size
    paths = []
    for one in list_checkpoints(folder):
        if one.config is None or one.error or one.path.stem not in SHIPPED:
            continue
        other_height, other_width = one.config.input_size
        is_alike = all(getattr(one.config, name) == getattr(config, name) for name in _ALIKE)
        if width is None or other_width is None:
            is_alike = is_alike and width is other_width and height == other_height
        else:
            is_alike = is_alike and 0.5 <= (width / height) / (other_width / other_height) <= 2
        if is_alike:
            paths.append(one.path)
    return paths


class Shape(NamedTuple):
    """A size of images (height, width), and the side of its patches."""

    input_size: tuple[int, int]
    patch_size: int | None


def room_used(sizes: Sequence[tuple[int, int]], input_size: tuple[int, int]) -> float:
    """Share of a frame of this size that images of these sizes fill, in the median; the rest is padding."""
    height, width = input_size
    shares = [(w / h) / (width / height) for h, w in sizes]
    return float(np.median([min(share, 1 / share) for share in shares]))


def fitting_shape(sizes: Sequence[tuple[int, int]], asked: Shape, folder: Path = APP / "checkpoints") -> Shape | None:
    """What would suit images of these sizes (height, width) better, where most of the frame that is asked for is padding.

    That of a shipped model, whose weights then serve, where it has their proportions; else as many pixels as are asked for.
    None where what is asked for suits them, or nothing does.
    """
    if not sizes or room_used(sizes, asked.input_size) >= 0.5:
        return None
    for one in list_checkpoints(folder):
        if one.config is not None and not one.error and one.path.stem in SHIPPED:
            height, width = one.config.input_size
            if width is not None and room_used(sizes, (height, width)) >= 0.5:
                return Shape((height, width), one.config.patch_size)
    proportions = float(np.median([width / height for height, width in sizes]))
    height = 8 * max(1, round((asked.input_size[0] * asked.input_size[1] / proportions) ** 0.5 / 8))
    width = 8 * max(1, round(height * proportions / 8))
    side = asked.patch_size
    return Shape((height, width), side if side is None or side <= min(height, width) else 8)


def best_beginning(
    model: TransformerAutoencoder, paths: Sequence[Path], images: Sequence[np.ndarray]
) -> Beginning | None:
    """The one of these checkpoints that draws images (H, W) uint8 best once its weights stand in a copy of this model.

    None where there is no checkpoint, or no image.
    """
    shown, found = [image / 255.0 for image in images], []
    for path in paths if shown else ():
        tried = deepcopy(model)
        transfer(tried, load_checkpoint(path).model)
        found.append(Beginning(path, mean_psnr(shown, reconstruct(tried, images))))
    return max(found, key=lambda one: one.psnr) if found else None
