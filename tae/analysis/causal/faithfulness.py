"""Infidelity and sensitivity of maps: whether their numbers add up to what covering does, and hold where nothing changed."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.curves import changes_of
from tae.analysis.causal.occlusion import Box
from tae.analysis.causal.prefix import Progress, check_one, silent
from tae.model.autoencoder import TransformerAutoencoder

SETS, SHARE = 32, 0.1
"""Sets of patches that are covered to measure infidelity, and the share of the patches in each."""
RADIUS, DRAWS = 0.02, 8
"""The largest change of a pixel, and how many changed images, that sensitivity is measured with."""


@torch.no_grad()
def infidelity(
    model: TransformerAutoencoder,
    image: Tensor,
    maps: Mapping[str, Tensor],
    tokens: Tensor,
    baseline: float | str | Tensor = 1.0,
    sets: int = SETS,
    seed: int = 0,
    region: Box | None = None,
    progress: Progress = silent,
) -> dict[str, float]:
    """How far the sum of a map over covered patches is from what covering them does: {name: 0 = it tells all of it}.

    Yeh 2019, "On the (in)fidelity and sensitivity of explanations", with the squared change of the reconstruction in the place
    of a class score, as many patches as `SHARE` says covered at random in place of the noise, and the best factor for each map,
    for a map has no units: sum over sets of (change - factor * sum of the map)^2, as a share of the same of a map that is flat.
    1: no better than that; above: worse.

    Args:
        maps: {name: (N,), larger = more effect expected}.
        tokens: (T,) the patches that sets are drawn from, at least one.
        baseline: What covers a patch; see `occlude`.
        sets: How many, at least one.
        region: The part of the reconstruction whose change counts; None: all of it.

    Returns:
        nan where each set changes the same, so where there is one patch, or the cover changes nothing.
    """
    check_one(image)
    random, numbers = np.random.default_rng(seed), tokens.numpy(force=True)
    num_tokens = int(np.prod(model.config.grid_for(image.shape[3])))
    is_covered = np.zeros((sets, num_tokens), bool)
    for one in is_covered:
        one[random.permutation(numbers)[: max(1, round(SHARE * len(numbers)))]] = True
    changes = changes_of(model, image, baseline, torch.from_numpy(is_covered), region, progress)
    found, of_flat = {}, ((changes - changes.mean()) ** 2).sum()
    for name, values in maps.items():
        told = is_covered @ values.double().numpy(force=True)
        factor = changes @ told / max(told @ told, np.finfo(float).tiny)
        found[name] = float(((changes - factor * told) ** 2).sum() / of_flat) if of_flat > 0 else np.nan
    return found


def max_sensitivity(
    explain: Callable[[Tensor], Mapping[str, Tensor]],
    image: Tensor,
    radius: float = RADIUS,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, float]:
    """How much maps change at most when no pixel changes by more than a little: {name: change as a share of the map}.

    Yeh 2019: the largest, over noise drawn evenly within the radius, of |map(image + noise) - map(image)| / |map(image)|.

    Args:
        explain: image (1, 1, H, W) -> {name: map}.
        radius: In grey; noisy images are cut to [0, 1], so that the model takes them.
        draws: Noisy images.

    Returns:
        nan for a map that is 0 everywhere.
    """
    check_one(image)
    generator = torch.Generator().manual_seed(seed)
    plain = explain(image)
    lengths = {name: float(values.norm()) or math.nan for name, values in plain.items()}
    found = dict.fromkeys(plain, 0.0)
    for draw in range(draws):
        noise = (2 * torch.rand(image.shape, generator=generator) - 1).to(image) * radius
        for name, values in explain((image + noise).clamp(0, 1)).items():
            change = float((values - plain[name]).norm()) / lengths[name]
            found[name] = max(found[name], change) if change == change else change
        progress((draw + 1) / draws)
    return found
