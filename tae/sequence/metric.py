"""How far two latents are apart in pixels: the decoder's metric, the mean of J^T J over latents of real images.

J is the derivative of the decoded image by the latent, so that (a - b) G (a - b) is, to first order, the mean squared error
between the images that a and b decode to. Errors of latents measured so weigh what shows and forgive what does not.
"""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tae.model.autoencoder import TransformerAutoencoder, eval_mode

DERIVATIVES = 4096  # a metric is made of about so many derivatives, each of one image by one number of its latent
MAX_LATENTS = 64
RIDGE = 1e-3
"""Share of the mean diagonal that is added to it: directions that the decoder ignores stay finite in its inverse."""


@torch.no_grad()
def decoder_metric(model: TransformerAutoencoder, latents: Tensor, width: int | None = None) -> Tensor:
    """Mean of J^T J over latents of real images, divided by the pixels of an image.

    Args:
        latents: (n, latent_dim); of these the first four to `MAX_LATENTS`, as `DERIVATIVES` allows.
        width: Width of the images in pixels, where the model takes any.

    Returns:
        (latent_dim, latent_dim) float64, symmetric, positive semidefinite: (a - b) G (a - b) is about the mean squared
        error of two images.

    Raises:
        ValueError: If the latents or the width do not fit the model.
    """
    dim = model.config.latent_dim
    if latents.ndim != 2 or latents.shape[1] != dim or not len(latents):
        raise ValueError(f"latents must be (n, {dim}) with n at least 1, got {tuple(latents.shape)}")
    weight = model.decoder.expand.weight
    directions = torch.eye(dim, device=weight.device, dtype=weight.dtype)
    total = torch.zeros(dim, dim, dtype=torch.float64)
    # Attention's weights of so many images are held.
    at_once = max(1, min(64, 2**22 // (model.config.num_tokens**2 * model.config.num_heads) or 1))
    chosen = latents[: min(MAX_LATENTS, max(4, DERIVATIVES // dim))].to(weight)
    with eval_mode(model), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward derivative
        for latent in chosen:
            rows = [_derivatives(model, latent, some, width).double().cpu() for some in directions.split(at_once)]
            jacobian = torch.cat(rows)  # (D, pixels)
            total += jacobian @ jacobian.T / jacobian.shape[1]
    return total / len(chosen)


def metric_factor(metric: Tensor) -> Tensor:
    """F (D, D) float64 with F F^T = metric and a small ridge: |(a - b) F|^2 is the squared distance of rows a and b.

    ValueError if the metric is not finite, or zero.
    """
    metric = metric.double()
    ridge = RIDGE * float(metric.diagonal().mean())
    if not torch.isfinite(metric).all() or ridge <= 0:
        raise ValueError("the decoder must answer to its latent with finite numbers; this one does not")
    return torch.linalg.cholesky(metric + ridge * torch.eye(len(metric), dtype=torch.float64, device=metric.device))


def _derivatives(model: TransformerAutoencoder, latent: Tensor, directions: Tensor, width: int | None) -> Tensor:
    """Change of the decoded image along each direction (n, D): (n, pixels)."""
    latents = latent.repeat(len(directions), 1)
    return torch.func.jvp(lambda some: model.decode(some, width), (latents,), (directions,))[1].flatten(1)
