"""Yardsticks: what simple codes reach on the same images, so that a figure in dB says what a model is worth."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from tae.data.composed import BuiltIn
from tae.model.metrics import psnr_of

EXAMPLES = 2000
EXAMPLE_BYTES = 2 * 10**8
"""Training images that the yardsticks learn from, and the memory that these take, at most."""
PIXELS_AT_ONCE = 4096
"""PCA takes so many pixels of all images at a time."""
PERFECT = 1e-10
"""Mean squared error below which an image counts as 100 dB."""


NAMES = {
    "mean_image": "the mean of the training images",
    "mean_grey": "each image's own mean grey",
    "pca": "PCA with as many numbers",
    "thumbnail": "a thumbnail of as many pixels",
}
"""Keys, as logs and cards have them, and words; the weakest kind first."""


@dataclass(frozen=True)
class Yardstick:
    """One simple code's figure.

    Attributes:
        key: One of `NAMES`.
        psnr: Mean PSNR over the images, in dB.
    """

    key: str
    psnr: float

    @property
    def name(self) -> str:
        """The name that is shown."""
        return NAMES[self.key]


class Yardsticks:
    """Simple codes with as many numbers an image as a model's latent, or fewer, fitted to its training images.

    The mean of the training images (where widths vary, the mean of each row) and their principal components are learnt; an
    image's own mean grey and a thumbnail need no learning.
    """

    def __init__(self, training_images: Iterable[np.ndarray], latent_dim: int) -> None:
        """Look at each training image once; they are held in memory meanwhile, a byte a pixel.

        Args:
            training_images: (H, W) uint8, at least one, all of one height; where widths differ, PCA is left out.
            latent_dim: Numbers an image.

        Raises:
            ValueError: If there is no image.
        """
        images = list(training_images)
        if not images:
            raise ValueError("yardsticks must have at least one training image, got none")
        self.latent_dim = latent_dim
        columns = sum(image.shape[1] for image in images)
        self.row_means = np.sum([image.sum(axis=1) for image in images], axis=0) / columns / 255
        self.mean_image, self.components = None, np.zeros((0, 0))
        if len({image.shape for image in images}) == 1:
            flat = np.stack([image.ravel() for image in images])
            self.mean_image = flat.mean(axis=0).reshape(images[0].shape) / 255
            self.components = principal_components(flat, min(latent_dim, len(flat) - 1))

    def measure(self, images: Sequence[np.ndarray]) -> list[Yardstick]:
        """The figure of each on images (H, W) uint8, the weakest kind first."""
        shown = [image / 255.0 for image in images]
        mean = self.mean_image
        if mean is not None and {image.shape for image in shown} != {mean.shape}:
            mean = None
        rows = self.row_means[:, None]
        recons = {
            "mean_image": [np.repeat(rows, image.shape[1], axis=1) if mean is None else mean for image in shown],
            "mean_grey": [np.full_like(image, image.mean()) for image in shown],
            "thumbnail": [thumbnail(image, self.latent_dim) for image in shown],
        }
        if mean is not None and len(self.components):
            centred = np.stack([(image - mean).ravel() for image in shown])
            drawn = mean.ravel() + centred @ self.components.T @ self.components
            recons["pca"] = [*drawn.clip(0, 1).reshape(-1, *shown[0].shape)]
        return [Yardstick(key, mean_psnr(shown, recons[key])) for key in NAMES if key in recons]


def num_examples(pixels: int) -> int:
    """How many training images of so many pixels the yardsticks learn from."""
    return min(EXAMPLES, max(2, EXAMPLE_BYTES // pixels))


def yardsticks_of(source: BuiltIn, latent_dim: int, count: int) -> list[Yardstick]:
    """Those on the first `count` test images of data that come with the package, learnt from their training images."""
    examples = num_examples(source.height * (source.width or source.max_width))
    return Yardsticks(source.examples(examples), latent_dim).measure(source.test(count))


def principal_components(images: np.ndarray, count: int) -> np.ndarray:
    """(count, pixels), orthonormal: the directions in which flattened images (n, pixels), uint8, vary most.

    By way of the products of the images with each other, or of the pixels, whichever are fewer: exact, with no more than a
    slice of pixels in float32. Of fewer pixels than `count` there are as many directions as pixels.
    """
    mean = images.mean(axis=0, dtype=np.float64)
    if images.shape[1] < len(images):
        centred = torch.from_numpy((images - mean).astype(np.float32))
        _, vectors = torch.linalg.eigh((centred.T @ centred).double())
        return vectors[:, -count:].T.float().numpy()
    slices = [slice(start, start + PIXELS_AT_ONCE) for start in range(0, images.shape[1], PIXELS_AT_ONCE)]
    gram = torch.zeros(len(images), len(images), dtype=torch.float64)
    for some in slices:
        centred = torch.from_numpy((images[:, some] - mean[some]).astype(np.float32))
        gram += centred @ centred.T
    values, vectors = torch.linalg.eigh(gram)
    scale = values.clamp_min(max(1e-9, 1e-9 * float(values[-1]))).sqrt()
    weights = (vectors / scale)[:, len(images) - count :]
    parts = [weights.T.numpy() @ (images[:, some] - mean[some]) for some in slices]
    return np.concatenate(parts, axis=1).astype(np.float32)


def yardsticks_in(values: object) -> list[Yardstick]:
    """Those that a log's record or a card, which may be anybody's, has under their keys."""
    found = values if isinstance(values, dict) else {}
    return [
        Yardstick(key, float(found[key]))
        for key in NAMES
        if isinstance(found.get(key), (int, float)) and math.isfinite(found[key])
    ]


def mean_psnr(images: Sequence[np.ndarray], recons: Sequence[np.ndarray]) -> float:
    """Mean over images of their PSNR in dB; images and reconstructions (H, W) in [0, 1]."""
    errors = [float(((image - recon) ** 2).mean()) for image, recon in zip(images, recons, strict=True)]
    return float(np.mean([psnr_of(max(error, PERFECT)) for error in errors]))


def thumbnail(image: np.ndarray, numbers: int) -> np.ndarray:
    """An image (H, W) in [0, 1] made as small as `numbers` pixels at most, in its own proportions, and large again; bicubic."""
    height, width = image.shape
    rows = min(height, max(1, round(math.sqrt(numbers * height / width))), numbers)
    columns = min(width, max(1, numbers // rows))
    pixels = torch.from_numpy(image)[None, None].float()
    small = interpolate(pixels, (rows, columns), mode="bicubic", antialias=True)
    return interpolate(small, (height, width), mode="bicubic").clamp(0, 1)[0, 0].numpy()


def verdict(psnr: float, yardsticks: Sequence[Yardstick]) -> tuple[bool, str]:
    """Whether a model is ahead of all of them, and a sentence that says of which, by how much.

    Args:
        psnr: The model's, on the same images, in dB.
        yardsticks: At least one.
    """
    best = max(yardsticks, key=lambda one: one.psnr)
    behind = [one for one in yardsticks if one.psnr >= psnr]
    if not behind:
        return True, f"{psnr:.2f} dB, ahead of every yardstick: {psnr - best.psnr:.2f} dB ahead of {best.name}"
    if len(behind) == len(yardsticks):
        named = f"behind every yardstick, {best.psnr - psnr:.2f} dB behind {best.name}"
    else:
        named = " and ".join(f"{one.psnr - psnr:.2f} dB behind {one.name}" for one in behind)
    is_blank = any(one.key == "mean_image" for one in behind)
    return False, f"{psnr:.2f} dB, {named}" + (": worse than one average shown for every image" if is_blank else "")
