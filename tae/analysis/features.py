"""Patch features: the state of every patch after each layer, how alike they are, and their principal components as colours.

As viewers of self-supervised transformers show them (Caron 2021, DINO; Oquab 2023, DINOv2).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.latent import fit_pca
from tae.model.autoencoder import TransformerAutoencoder


@dataclass(frozen=True)
class Colours:
    """The first three principal components of the patches of one image at one depth, as red, green and blue."""

    rgb: np.ndarray  # (N, 3) float32 in [0, 1]: each component from its least patch to its greatest
    shares: tuple[float, float, float]  # of the variance over the patches, that each component holds


@torch.no_grad()
def read_features(model: TransformerAutoencoder, image: Tensor, part: str = "encoder") -> np.ndarray:
    """The tokens of one image (1, 1, H, W) before a part's first layer and after each: (L + 1, N, D) float32.

    Raises ValueError if it is no one image, or the part is unknown.
    """
    if image.shape[0] != 1:
        raise ValueError(f"image must be one, (1, 1, H, W), got {tuple(image.shape)}")
    tokens, mask = model.layer_input(image, 0, part)
    at = [tokens]
    for block in model.blocks(part):
        at.append(block(at[-1], mask))
    return torch.cat(at).float().cpu().numpy()


def cosine_similarity(features: np.ndarray) -> np.ndarray:
    """The cosine of the angle between any two features of (N, D): (N, N) float32 in [-1, 1]; 0 where one of them is zero."""
    features = np.asarray(features, np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    return np.clip(units @ units.T, -1, 1).astype(np.float32)


def principal_colours(features: np.ndarray) -> Colours:
    """Colours of features (N, D), fitted on them alone: those of two images, or two depths, mean nothing to each other.

    A component in which nothing varies is 0.5 everywhere.
    """
    rgb = np.full((len(features), 3), 0.5)
    shares = [0.0, 0.0, 0.0]
    try:
        pca = fit_pca(features)
    except ValueError:  # fewer than 3 patches, or all of them the same
        return Colours(rgb.astype(np.float32), (0.0, 0.0, 0.0))
    projected = pca.project(features, 3)
    for at in range(projected.shape[1]):
        share = float(pca.variances[at] / pca.variances.sum())
        if share > 1e-9:  # else it is rounding
            low, high = projected[:, at].min(), projected[:, at].max()
            rgb[:, at], shares[at] = (projected[:, at] - low) / (high - low), share
    return Colours(rgb.astype(np.float32), (shares[0], shares[1], shares[2]))
