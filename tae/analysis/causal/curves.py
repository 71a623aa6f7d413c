"""Deletion and insertion: patches covered, or uncovered, in the order that a map gives them."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.occlusion import Box, changed_tokens, cover_of, covered_images, slices_of
from tae.analysis.causal.prefix import Progress, check_one, images_at_once, silent, slices
from tae.model.autoencoder import TransformerAutoencoder


@dataclass(frozen=True)
class Curves:
    """One map's order of patches, put to the test.

    Drawn is likeness to the undisturbed reconstruction: 1 - its mean squared change as a share of the change when all
    patches are covered; 1 is no change, 0 as far away as the covered image, below 0 farther.
    """

    share: np.ndarray  # (S,) share of the patches covered (deletion) or shown (insertion), from 0 to 1
    deletion: np.ndarray  # (S,) patches covered, the strongest first: a map that tells the effect falls fast
    insertion: np.ndarray  # (S,) patches shown on the covered image, the strongest first: such a map rises fast

    @property
    def deletion_area(self) -> float:
        """Area under the curve; smaller is better."""
        return float(np.trapezoid(self.deletion, self.share))

    @property
    def insertion_area(self) -> float:
        """Area under the curve; larger is better."""
        return float(np.trapezoid(self.insertion, self.share))


@torch.no_grad()
def deletion_insertion(
    model: TransformerAutoencoder,
    image: Tensor,
    maps: dict[str, Tensor],
    baseline: float | str | Tensor = 1.0,
    steps: int = 16,
    random_orders: int = 5,
    seed: int = 0,
    region: Box | None = None,
    progress: Progress = silent,
) -> dict[str, Curves]:
    """Deletion and insertion curves of maps, and of random orders: {name: its curves}, and "random order".

    Petsiuk 2018, "RISE: Randomized input sampling for explanation of black-box models", with the reconstruction in the
    place of a class score. Only patches that the cover changes take part, at least one: blank ones would make every
    curve flat.

    Args:
        maps: {name: (N,), larger = more important}. Patches that tie come in random order.
        baseline: What covers a patch; see `occlude`.
        steps: Into how many parts the patches are cut, at most.
        random_orders: How many go into the curve "random order", their mean; 0: none.
        seed: Seed of the random orders.
        region: The part of the reconstruction whose change counts; None: all of it.
    """
    check_one(image)
    cover = cover_of(image, baseline, model.config)
    tokens = changed_tokens(image, cover, model.config).nonzero().flatten().cpu().numpy()
    if not len(tokens):
        raise ValueError("baseline must change the image, got one that covers nothing")
    num_tokens = int(np.prod(model.config.grid_for(image.shape[3])))
    for name, one in maps.items():
        if one.shape != (num_tokens,):
            raise ValueError(f"map {name} must be ({num_tokens},), got {tuple(one.shape)}")
    # Random orders, and each map's ties, are the same whatever other maps there are.
    random = np.random.default_rng([seed, 0])
    orders = []
    for name, one in maps.items():
        ties = np.random.default_rng([seed, zlib.crc32(name.encode())]).random(len(tokens))
        orders.append(np.lexsort((ties, -one.numpy(force=True)[tokens])))  # from the largest value to the smallest
    orders += [random.permutation(len(tokens)) for _ in range(random_orders)]
    counts = np.unique(np.linspace(0, len(tokens), min(steps, len(tokens)) + 1).round().astype(int))
    is_covered = _covered_sets(orders, tokens, counts, num_tokens)
    changes = changes_of(model, image, baseline, is_covered, region, progress)  # deletion's and insertion's
    largest = changes[int(is_covered.sum(dim=1).argmax())]
    likeness = (1 - (changes / largest if largest > 0 else changes)).reshape(len(orders), 2, len(counts))
    curves = [Curves(counts / len(tokens), *one) for one in likeness[: len(maps)]]
    found = dict(zip(maps, curves, strict=True))
    if random_orders:
        found["random order"] = Curves(counts / len(tokens), *likeness[len(maps) :].mean(axis=0))
    return found


def _covered_sets(
    orders: Sequence[np.ndarray], tokens: np.ndarray, counts: np.ndarray, num_tokens: int
) -> torch.Tensor:
    """(orders * 2 * counts, N): what is covered at each step of each order, first of its deletion, then its insertion."""
    sets = np.zeros((len(orders), 2, len(counts), num_tokens), bool)
    for number, order in enumerate(orders):
        for step, count in enumerate(counts):
            sets[number, 0, step, tokens[order[:count]]] = True
            sets[number, 1, step, tokens[order[count:]]] = True
    return torch.from_numpy(sets.reshape(-1, num_tokens))


def changes_of(
    model: TransformerAutoencoder,
    image: Tensor,
    baseline: float | str | Tensor,
    is_covered: Tensor,
    region: Box | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Mean squared change (S,) of the reconstruction, or of a region, when a set of patches (S, N) is covered."""
    rows_in, columns_in = slices_of(region, image)
    plain = model(image)[0]
    # Equal sets are computed once: every order begins and ends with the same two.
    sets, places = torch.unique(is_covered, dim=0, return_inverse=True)
    changes = []
    for part in slices(len(sets), images_at_once(model.config, image.shape[3]), progress):
        chunk = sets[part].to(image.device)
        covered = covered_images(image, chunk, baseline, model.config)
        squared = ((model(covered)[0] - plain)[..., rows_in, columns_in] ** 2).mean(dim=(1, 2, 3))
        differs = (covered != image).flatten(1).any(dim=1)
        changes.append(squared.where(differs, 0))  # the same image: no change, not even rounding
    return torch.cat(changes).double().numpy(force=True)[places.numpy()]
