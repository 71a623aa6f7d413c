"""Translators by least squares, and what is usual, from images of the train split; their worth on the test split."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from tae.analysis.lens.look import Lens, PartLens, look
from tae.analysis.lens.states import read_states
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS

MAX_PSNR = 100.0  # in dB; a perfect copy, which has infinitely many, counts as so many in a mean
IN_DISTRIBUTION = 0.99
"""Share of the test images' own last states within the limit of a lens: the largest would grow with their number."""

Batch = tuple[Tensor, Tensor | None]  # images (B, 1, H, W) in [0, 1], and widths (B,) where these differ


def fit_lens(
    model: TransformerAutoencoder,
    checkpoint: str,
    train: Iterable[Batch],
    test: Iterable[Batch],
    ridge: float = 1e-4,
    progress: Callable[[int], None] = lambda count: None,
) -> Lens:
    """Fit translators on training images, and measure what they are worth on test images.

    Args:
        checkpoint: SHA-256 of its file.
        train: Batches of the train split, gone through once. Directions that they do not span stay as they are.
        test: Batches of the test split, gone through once.
        ridge: Penalty on changing a state at all, as a multiple of the states' mean variance.
        progress: Called with the number of images in each batch that is done.
    """
    device = next(model.parameters()).device
    dim = model.config.latent_dim
    sums = {part: [LeastSquares(dim) for _ in range(model.config.num_layers(part) + 1)] for part in PARTS}
    num_train = 0
    for images, widths in train:
        for part in PARTS:
            states = read_states(model, images.to(device), part, widths)
            targets = states.rows(model.config.num_layers(part))
            for depth, one in enumerate(sums[part]):
                one.add(states.rows(depth), targets)
        num_train += len(images)
        progress(len(images))
    if num_train < 2:
        raise ValueError(f"training images must be at least 2, got {num_train}")
    parts = {}
    for part in PARTS:
        solved = [one.solve(ridge) for one in sums[part][:-1]]
        weight = torch.stack([weight for weight, _ in solved]).half()
        if not torch.isfinite(weight).all():
            raise ValueError("translators must be finite, got numbers beyond half precision; give a larger ridge")
        bias = torch.stack([bias for _, bias in solved]).float()
        mean, whiten = sums[part][-1].whitening()
        parts[part] = PartLens(weight, bias, mean, whiten, 1.0, math.inf, (), ())
    measured, num_test = _measure(model, Lens(checkpoint, parts, {}), test, progress)
    about = {"train_images": num_train, "test_images": num_test, "ridge": ridge}
    return Lens(checkpoint, measured, about)


class LeastSquares:
    """The affine map of states to targets with the least squared error, from running sums over rows in float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.states = torch.zeros(dim, dtype=torch.float64)
        self.changes = torch.zeros(dim, dtype=torch.float64)
        self.states_states = torch.zeros(dim, dim, dtype=torch.float64)
        self.states_changes = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, states: Tensor, targets: Tensor) -> None:
        """Take states (n, D) and their targets (n, D) in."""
        states, targets = states.detach().double().cpu(), targets.detach().double().cpu()
        changes = targets - states
        self.count += len(states)
        self.states += states.sum(dim=0)
        self.changes += changes.sum(dim=0)
        self.states_states += states.T @ states
        self.states_changes += states.T @ changes

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """weight (D, D), bias (D,), float64: a state becomes state + state @ weight + bias; ridge as for `fit_lens`."""
        mean, change = self.states / self.count, self.changes / self.count
        shared = self.states_changes / self.count - torch.outer(mean, change)
        weight = torch.linalg.solve(_lifted(self._covariance(), ridge), shared)
        return weight, change - mean @ weight

    def whitening(self) -> tuple[Tensor, Tensor]:
        """mean (D,) and whiten (D, D) of `PartLens`.

        Directions in which states hardly vary count as varying by at least a thousandth of the mean variance: what
        rounding does there is no distance.
        """
        values, vectors = torch.linalg.eigh(_lifted(self._covariance(), 1e-3))
        return (self.states / self.count).float(), (vectors / values.sqrt()).float()

    def _covariance(self) -> Tensor:
        mean = self.states / self.count
        return self.states_states / self.count - torch.outer(mean, mean)


def _lifted(covariance: Tensor, share: float) -> Tensor:
    """A covariance (D, D) plus a share of its mean variance in each direction; invertible even where nothing varies."""
    lift = max(share * float(covariance.diagonal().mean()), 1e-12)
    return covariance + lift * torch.eye(len(covariance), dtype=covariance.dtype)


def _measure(
    model: TransformerAutoencoder, lens: Lens, test: Iterable[Batch], progress: Callable[[int], None]
) -> tuple[dict[str, PartLens], int]:
    """The parts with their `usual`, `limit` and PSNR filled in, and the number of test images."""
    device = next(model.parameters()).device
    raw: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    tuned: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    last: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for images, widths in test:
        for part in PARTS:
            seen = look(model, images.to(device), part, lens, widths=widths)
            assert seen.distance is not None
            raw[part].append(seen.psnr.cpu())
            last[part].append(seen.distance[-1].cpu())
            tuned[part].append(look(model, images.to(device), part, lens, tuned=True, widths=widths).psnr.cpu())
        progress(len(images))
    if not last["encoder"]:
        raise ValueError("test images must be at least 1, got none")
    parts = {}
    for part, one in lens.parts.items():
        distances = torch.cat(last[part]).double()
        usual = max(float(distances.median()), 1e-6)
        limit = max(float(distances.quantile(IN_DISTRIBUTION)) / usual, 1.0)
        psnr_raw, psnr_tuned = (
            tuple(torch.cat(found[part], dim=1).double().clamp(max=MAX_PSNR).mean(dim=1).tolist())
            for found in (raw, tuned)
        )
        parts[part] = replace(one, usual=usual, limit=limit, psnr_raw=psnr_raw, psnr_tuned=psnr_tuned)
    return parts, sum(map(len, last["encoder"]))
