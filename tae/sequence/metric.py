"""How far two latents are apart in pixels: the decoder's metric, the mean of J^T J over latents of real images.

J is the derivative of the decoded image by the latent, so that (a - b) G (a - b) is, to first order, the mean squared error
between the images that a and b decode to. Errors of latents measured so weigh what shows and forgive what does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tae.model.autoencoder import TransformerAutoencoder, eval_mode

MAX_LATENTS = 256
PROBES = 4
"""Random sums of pixels whose derivative is taken, for each latent at least so many, and `PROBES_A_NUMBER` for each number
of the latent in all: with fewer, the estimate would miss directions."""
PROBES_A_NUMBER = 8
DIRECTIONS = 64
"""Differences of two latents, on which the estimate's own error is measured."""
RIDGE = 1e-3
"""Share of the mean diagonal that is added to it: directions that the decoder ignores stay finite in its inverse."""


@dataclass(frozen=True)
class Metric:
    """An estimate of the decoder's metric.

    Attributes:
        matrix: G (latent_dim, latent_dim) float64, symmetric, positive semidefinite: (a - b) G (a - b) is about the mean
            squared error of two images.
        error: Relative standard error of such a distance between two real images' latents, from the spread over the
            latents; nan of a single one.
    """

    matrix: Tensor
    error: float


def decoder_metric(
    model: TransformerAutoencoder,
    latents: Tensor,
    width: int | None = None,
    probes: int | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Metric:
    """Estimate the mean of J^T J over latents of real images, divided by the pixels of an image.

    With v random of unit variance, J^T v v^T J has the mean J^T J, and J^T v is one backward pass through the decoder, where
    J itself takes as many passes as a latent has numbers (Hutchinson 1990). The same latents give the same estimate.

    Args:
        latents: (n, latent_dim); of these the first `MAX_LATENTS`.
        width: Width of the images in pixels, where the model takes any.
        probes: Backward passes for each latent; None: as `PROBES` says.
        progress: Called with (latents done, latents in all).

    Raises:
        ValueError: If the latents or the width do not fit the model.
    """
    dim = model.config.latent_dim
    if latents.ndim != 2 or latents.shape[1] != dim or not len(latents):
        raise ValueError(f"latents must be (n, {dim}) with n at least 1, got {tuple(latents.shape)}")
    weight = model.decoder.expand.weight
    chosen = latents[:MAX_LATENTS].to(weight)
    count = len(chosen)
    probes = probes or max(PROBES, -(-PROBES_A_NUMBER * dim // count))
    random = torch.Generator().manual_seed(0)
    directions = (chosen - chosen.roll(1, 0))[:DIRECTIONS].double()
    total = torch.zeros(dim, dim, dtype=torch.float64, device=weight.device)
    told, done = [], 0  # squared distances along the directions, as each latent has them
    # Attention's weights of so many images are held.
    at_once = max(1, min(16, 2**22 // (model.config.num_tokens**2 * model.config.num_heads)))
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad():
        for some in chosen.split(at_once):
            some = some.clone().requires_grad_()
            pixels = model.decode(some, width).flatten(1)
            rows = []
            for _ in range(probes):
                signs = torch.randint(0, 2, pixels.shape, generator=random).to(pixels) * 2 - 1
                rows.append(torch.autograd.grad(pixels, some, signs, retain_graph=True)[0])
            found = torch.stack(rows, dim=1).double() / pixels.shape[1] ** 0.5  # (some, probes, D)
            total += torch.einsum("npd,npe->de", found, found)
            told.append((found @ directions.T).square().mean(dim=1))  # (some, directions)
            done += len(some)
            progress(done, count)
    distances = torch.cat(told)
    spread = distances.var(dim=0, correction=0) / max(1, count - 1)  # of the mean over the latents
    error = float((spread.sqrt() / distances.mean(dim=0)).nanmean()) if count > 1 else math.nan
    return Metric(total / (count * probes), error)


def metric_factor(metric: Tensor) -> Tensor:
    """F (D, D) float64 with F F^T = metric and a small ridge: |(a - b) F|^2 is the squared distance of rows a and b.

    ValueError if the metric is not finite, or zero.
    """
    metric = metric.double()
    ridge = RIDGE * float(metric.diagonal().mean())
    if not torch.isfinite(metric).all() or ridge <= 0:
        raise ValueError("the decoder must answer to its latent with finite numbers; this one does not")
    return torch.linalg.cholesky(metric + ridge * torch.eye(len(metric), dtype=torch.float64, device=metric.device))
