"""A model's held-out figures: what a card states and what the app compares an image with."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tae.data.batches import to_batch
from tae.model.autoencoder import eval_mode
from tae.model.metrics import measure, r2

PERCENTILES = 101


@torch.no_grad()
def reconstruct(model: nn.Module, images: Sequence[np.ndarray], batch_size: int = 16) -> list[np.ndarray]:
    """Reconstruct uint8 images (H, W), `batch_size` at once: (H, W) float32 each, clipped to [0, 1].

    Widths may differ where the model takes any. The model is the autoencoder, or any module called alike:
    `model(images, widths=...)[0]`.
    """
    device = next(model.parameters()).device
    recons: list[np.ndarray] = []
    with eval_mode(model):
        for start in range(0, len(images), batch_size):
            chunk = list(images[start : start + batch_size])
            batch, widths = to_batch(chunk)
            recon = model(batch.to(device), widths=widths)[0].clamp(0, 1).float().cpu().numpy()
            recons += [recon[number, 0, :, : image.shape[1]] for number, image in enumerate(chunk)]
    return recons


def evaluate(model: nn.Module, images: Sequence[np.ndarray], split: str) -> dict:
    """Held-out figures over uint8 images (H, W), as plain JSON values.

    Returns:
        {"split", "count", "psnr", "ssim", "mse", "foreground_mse", "r2": means, "percentiles": {metric: 101 values from
        the 0th to the 100th}}.
    """
    return summarise(images, reconstruct(model, images), split)


def summarise(images: Sequence[np.ndarray], recons: Sequence[np.ndarray], split: str) -> dict:
    """The figures of `evaluate` for reconstructions that came from anywhere, a baseline for example."""
    shown = [image / 255.0 for image in images]
    qualities = [measure(image, recon).as_dict() for image, recon in zip(shown, recons, strict=True)]
    means: dict = {"split": split, "count": len(shown)}
    percentiles = {}
    for metric in ("psnr", "ssim", "mse", "foreground_mse"):
        values = np.array([quality[metric] for quality in qualities])
        values = values[np.isfinite(values)]
        if len(values):
            means[metric] = float(values.mean())
            percentiles[metric] = [float(value) for value in np.percentile(values, np.linspace(0, 100, PERCENTILES))]
    score = r2(_flat(shown), _flat(recons))
    if np.isfinite(score):  # not where all images are one grey
        means["r2"] = score
    return {**means, "percentiles": percentiles}


def psnr_of_batch(images: Tensor, recons: Tensor, widths: Tensor | None = None) -> Tensor:
    """(B,) in dB, of recons (B, 1, H, W) clipped to [0, 1], over each image's own width."""
    squared = (images - recons.clamp(0, 1)) ** 2
    if widths is None:
        return -10 * squared.mean(dim=(1, 2, 3)).log10()
    total = (squared * real_pixels(widths, images)).sum(dim=(1, 2, 3))
    return -10 * (total / (widths.to(total) * images.shape[2])).log10()


def real_pixels(widths: Tensor, images: Tensor) -> Tensor:
    """(B, 1, 1, W), True within each image's width."""
    columns = torch.arange(images.shape[-1], device=images.device)
    return (columns < widths[:, None].to(images.device))[:, None, None]


def _flat(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([image.ravel() for image in images])
