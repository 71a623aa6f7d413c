"""Patches covered one by one, and gradients: what the reconstruction, or a region of it, owes to each patch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tae.analysis.causal.prefix import Progress, check_one, images_at_once, silent, slices
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.model.layers import patchify
from tae.model.metrics import INK_THRESHOLD


class Box(NamedTuple):
    """A region of an image in pixels: rows top to bottom, columns left to right, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


COVERS = {
    "white": "white",
    "mean": "the image's mean grey",
    "blur": "the image, blurred",
    "mean image": "the mean of other images",
    "another": "another image",
    "imputed": "what its surroundings suggest",
}
"""What a study covers patches with."""


@dataclass(frozen=True)
class Occlusion:
    """What covering each of T patches does to the reconstruction; both (T,), in squared change, mean over its pixels."""

    total: Tensor
    inside: Tensor  # the part of it in the covered patch's own pixels; the rest is elsewhere

    @property
    def share_inside(self) -> float:
        """The part of all patches' effect that lies inside the covered one, in [0, 1]; nan where there is no effect."""
        total = float(self.total.sum())
        return float(self.inside.sum()) / total if total > 0 else math.nan


@torch.no_grad()
def occlude(
    model: TransformerAutoencoder,
    image: Tensor,
    baseline: float | str | Tensor = 1.0,
    tokens: Tensor | Sequence[int] | None = None,
    batch_size: int | None = None,
    region: Box | None = None,
    progress: Progress = silent,
) -> Occlusion:
    """How much the reconstruction changes when one patch of the image is covered.

    Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", for a reconstruction instead of a
    class. Whatever covers a patch leads away from the data that trained the network: name it beside the figures.

    Args:
        baseline: What covers a patch: a grey in [0, 1] (1 is white), "mean" for the image's mean grey, "blur" for the
            image blurred, "imputed" for what the pixels around it suggest (`impute`), or an image (1, 1, H, W) that lends its
            own patch.
        tokens: (T,) token numbers; None: all N. `foreground_tokens` are those that are not blank.
        batch_size: Covered images that go through the model at once; None: as many as `TOKENS_AT_ONCE` allows.
        region: The part of the reconstruction whose change counts; None: all of it.

    Returns:
        Exactly 0 where the cover changes nothing.
    """
    check_one(image)
    rows, columns = model.config.grid_for(image.shape[3])
    rows_in, columns_in = slices_of(region, image)
    every = torch.arange(rows * columns)
    tokens = torch.as_tensor(every if tokens is None else tokens, dtype=torch.long, device=image.device)
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < rows * columns:
        raise ValueError(f"tokens must be from 0 to {rows * columns - 1}, got {tokens.tolist()}")
    cover = cover_of(image, baseline, model.config)
    token_of_pixel = tokens_of_pixels(image, model.config)

    def run(images: Tensor) -> Tensor:
        return model(images)[0][:, 0, rows_in, columns_in].flatten(1)

    plain, owner = run(image), token_of_pixel[rows_in, columns_in].flatten()
    total, inside = image.new_zeros(2, len(tokens))
    # Covering blank with blank is not computed: rounding would put an order into what must be ties.
    changes = changed_tokens(image, cover, model.config)[tokens].nonzero().flatten()
    for part in slices(len(changes), batch_size or images_at_once(model.config, image.shape[3]), progress):
        chunk = changes[part]
        covered = torch.where(token_of_pixel == tokens[chunk, None, None, None], cover, image)
        change = (run(covered) - plain) ** 2
        total[chunk] = change.mean(dim=1)
        inside[chunk] = (change * (owner == tokens[chunk, None])).mean(dim=1)
    return Occlusion(total, inside)


@dataclass(frozen=True)
class GradientInput:
    """Gradient times input, patch by patch."""

    signed: Tensor
    """(N,) sums over the patch's pixels: above 0 where its ink puts ink into the region, below where it takes some
    away, to first order. In units of mean ink of the region."""
    absolute: Tensor  # (N,) sums of absolute values: what counts as much in whichever direction


def gradient_x_input(model: TransformerAutoencoder, image: Tensor, region: Box | None = None) -> GradientInput:
    """How the mean ink of the reconstruction, or of a region of it, hangs on the ink of each patch, to first order.

    Shrikumar 2016, "Not just a black box" (gradient x input), for ink = 1 - grey, so that white paper is no input. It
    tells what a small change would do; what covering a whole patch does, `occlude` measures.
    """
    check_one(image)
    rows_in, columns_in = slices_of(region, image)
    # Gradients with respect to the image alone: nothing is left behind in the model's parameters.
    with torch.inference_mode(False), torch.enable_grad():
        own = image.detach().clone().requires_grad_()
        ink = (1 - model(own)[0][..., rows_in, columns_in]).mean()
        (gradient,) = torch.autograd.grad(ink, own)
        product = (-gradient * (1 - own)).detach()  # d/d ink = -d/d grey
    tiles = to_tiles(product, model.config)
    return GradientInput(tiles.sum(dim=1), tiles.abs().sum(dim=1))


def region_inputs(
    model: TransformerAutoencoder,
    image: Tensor,
    region: Box,
    how: str = "gradient",
    baseline: float | str | Tensor = 1.0,
    progress: Progress = silent,
) -> Tensor:
    """The patches of the image that produce a region of its reconstruction: (N,), larger = more.

    By "gradient" (`gradient_x_input`, absolute) in units of ink, or by "occlusion" (`occlude`, with its
    baseline and progress) in units of squared change.
    """
    if how == "gradient":
        return gradient_x_input(model, image, region).absolute
    if how == "occlusion":
        return occlude(model, image, baseline, region=region, progress=progress).total
    raise ValueError(f"how must be gradient or occlusion, got {how!r}")


def foreground_tokens(image: Tensor, config: ModelConfig) -> Tensor:
    """Token numbers (T,) of the patches of an image (1, 1, H, W) that hold a foreground pixel (darker than .95)."""
    return to_tiles(image < 1 - INK_THRESHOLD, config).any(dim=1).nonzero().flatten()


def cover_of(image: Tensor, baseline: float | str | Tensor, config: ModelConfig) -> Tensor:
    """The image (1, 1, H, W) that a baseline stands for; see `occlude`.

    The blur is a Gaussian whose standard deviation is half a patch, at most an eighth of the image's shorter side.
    """
    if isinstance(baseline, Tensor):
        if baseline.shape != image.shape:
            raise ValueError(f"baseline must be {tuple(image.shape)} like the image, got {tuple(baseline.shape)}")
        return baseline.to(image)
    if baseline == "mean":
        return image.mean().expand_as(image)
    if baseline == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = min(max(config.tile_size) / 2, min(image.shape[2:]) / 8)
        blurred = gaussian_filter(image[0, 0].numpy(force=True), sigma, mode="nearest")
        return torch.from_numpy(blurred).to(image)[None, None]
    if baseline == "imputed":
        return impute(image, tokens_of_pixels(image, config))
    if isinstance(baseline, str):
        raise ValueError(f"baseline must be a grey, 'mean', 'blur', 'imputed', or an image, got {baseline!r}")
    return torch.full_like(image, baseline)


def covered_images(image: Tensor, sets: Tensor, baseline: float | str | Tensor, config: ModelConfig) -> Tensor:
    """An image (1, 1, H, W) with sets (S, N) of its patches, True = covered, under a baseline as for `occlude`: (S, 1, H, W)."""
    is_covered = sets.to(image.device)[:, tokens_of_pixels(image, config)][:, None]
    if isinstance(baseline, str) and baseline == "imputed":
        # As one hole: patches side by side tell nothing of each other.
        return torch.cat([impute(image, torch.where(one[0], 0, -1)) for one in is_covered])
    return torch.where(is_covered, cover_of(image, baseline, config), image)


NEIGHBOURS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12, (1, -1): 1 / 12}
"""Weights of half of a pixel's eight neighbours by (rows, columns) from it; the other half has the same."""
IMPUTED_NOISE = 0.01


def impute(image: Tensor, hole: Tensor) -> Tensor:
    """Fill holes with what the pixels around each suggest: an image (1, 1, H, W) -> (1, 1, H, W).

    Noisy linear imputation, the cover of ROAD (Rong 2022, "A consistent and efficient evaluation strategy for attribution
    methods"): each pixel of a hole becomes the weighted mean of its neighbours, direct ones 1/6, diagonal ones 1/12, all solved
    together, and a little noise, so that neither the cover's shape nor its grey tells the network where something was.

    Args:
        hole: (H, W) number of the hole that a pixel is in, each filled as if it were the only one; below 0: it stays. One
            hole that is the whole image becomes its mean grey. The noise is the same for images of equal size.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import spsolve

    pixels, holes = image[0, 0].numpy(force=True).astype(np.float64), hole.numpy(force=True)
    (height, width), inside, found = pixels.shape, holes >= 0, pixels.copy()
    found[inside] = pixels.mean()
    if len(np.unique(holes)) > 1:
        place = np.full((height, width), -1)
        place[inside] = np.arange(inside.sum())
        diagonal, known, entries = np.zeros(pixels.shape), np.zeros(pixels.shape), []
        for (down, across), weight in NEIGHBOURS.items():
            here = np.s_[: height - down, max(0, -across) : width - max(0, across)]
            there = np.s_[down:, max(0, across) : width - max(0, -across)]
            for one, other in ((here, there), (there, here)):
                is_known = holes[one] != holes[other]
                diagonal[one] += weight
                known[one] += weight * is_known * pixels[other]
                unknown = inside[one] & ~is_known
                entries.append((place[one][unknown], place[other][unknown], np.full(unknown.sum(), -weight)))
        entries.append((place[inside], place[inside], diagonal[inside]))
        row, column, value = (np.concatenate(one) for one in zip(*entries, strict=True))
        matrix = coo_array((value, (row, column))).tocsc()
        found[inside] = spsolve(matrix, known[inside], permc_spec="MMD_AT_PLUS_A")
    found[inside] += IMPUTED_NOISE * np.random.default_rng(0).standard_normal(pixels.shape)[inside]
    return torch.from_numpy(found.clip(0, 1)).to(image)[None, None]


def changed_tokens(image: Tensor, cover: Tensor, config: ModelConfig) -> Tensor:
    """(N,), True for the patches in which a cover (1, 1, H, W) differs from the image."""
    return to_tiles(cover != image, config).any(dim=1)


def tokens_of_pixels(image: Tensor, config: ModelConfig) -> Tensor:
    """(H, W) the token that each pixel belongs to."""
    columns = config.grid_for(image.shape[3])[1]
    tile_height, tile_width = config.tile_size
    row = torch.arange(image.shape[2], device=image.device) // tile_height
    column = torch.arange(image.shape[3], device=image.device) // tile_width
    return row[:, None] * columns + column


def to_tiles(values: Tensor, config: ModelConfig) -> Tensor:
    """Values of each pixel (1, 1, H, W) -> those of each patch (N, pixels), 0 beyond the image."""
    rows, columns = config.grid_for(values.shape[3])
    tile_height, tile_width = config.tile_size
    padding = (0, columns * tile_width - values.shape[3], 0, rows * tile_height - values.shape[2])
    return patchify(F.pad(values, padding), config.tile_size)[0]


def slices_of(region: Box | None, image: Tensor) -> tuple[slice, slice]:
    """Rows and columns of a region inside an image (..., H, W); None is all of it."""
    height, width = image.shape[2:]
    if region is None:
        return slice(0, height), slice(0, width)
    top, left, bottom, right = region
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(
            f"region must be (top, left, bottom, right) inside {height} rows and {width} columns, got {tuple(region)}"
        )
    return slice(top, bottom), slice(left, right)
