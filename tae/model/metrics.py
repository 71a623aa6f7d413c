"""How far a reconstruction is from its image: PSNR, SSIM, MSE, foreground MSE, R2, seams.

Images are float arrays (H, W) in [0, 1]; reconstructions are clipped to [0, 1] before they are measured, because
that is what a screen shows.
"""

from dataclasses import asdict, dataclass

import numpy as np
from skimage.metrics import structural_similarity

INK_THRESHOLD = 0.05  # a pixel is foreground where it is darker than white by more than this


@dataclass(frozen=True)
class Quality:
    """One reconstruction against its image."""

    psnr: float  # peak signal-to-noise ratio in dB, peak 1; infinite for a perfect copy
    ssim: float
    """Structural similarity in [-1, 1], over uniform windows of 7x7: up to .03 below that of Wang 2004, whose windows are
    Gaussian. High on blank pages whatever the object."""
    mse: float  # mean squared error over all pixels
    foreground_mse: float  # mean squared error over pixels darker than .95; nan where there is none

    def as_dict(self) -> dict[str, float]:
        """The measures by name."""
        return asdict(self)


def measure(image: np.ndarray, recon: np.ndarray, with_ssim: bool = True) -> Quality:
    """Compare one reconstruction (H, W) with its image (H, W); SSIM, nine tenths of the work, is nan where it is left out.

    Raises ValueError if the shapes differ.
    """
    if image.shape != recon.shape or image.ndim != 2:
        raise ValueError(f"image and recon must be (H, W) of one shape, got {image.shape} and {recon.shape}")
    image = np.asarray(image, np.float64)
    recon = np.clip(np.asarray(recon, np.float64), 0, 1)
    squared = (image - recon) ** 2
    foreground = image < 1 - INK_THRESHOLD
    return Quality(
        psnr=psnr_of(float(squared.mean())),
        ssim=ssim(image, recon) if with_ssim else float("nan"),
        mse=float(squared.mean()),
        foreground_mse=float(squared[foreground].mean()) if foreground.any() else float("nan"),
    )


def psnr_of(mse: float) -> float:
    """PSNR in dB of a mean squared error, peak 1."""
    return float("inf") if mse == 0 else -10 * float(np.log10(mse))


def ssim(image: np.ndarray, recon: np.ndarray) -> float:
    """Structural similarity; nan for images smaller than its 7x7 window."""
    if min(image.shape) < 7:
        return float("nan")
    score = structural_similarity(image, recon, data_range=1.0)
    assert not isinstance(score, tuple)  # it is one only where a map or a gradient is asked for
    return float(score)


def r2(images: np.ndarray, recons: np.ndarray) -> float:
    """Share of the variance about the global mean grey that reconstructions explain; nan where all is one grey."""
    images = np.asarray(images, np.float64)
    recons = np.clip(np.asarray(recons, np.float64), 0, 1)
    variance = ((images - images.mean()) ** 2).sum()
    return float(1 - ((images - recons) ** 2).sum() / variance) if variance else float("nan")


def seam_ratio(images: np.ndarray, recons: np.ndarray, patch_size: int) -> float:
    """How much more the error jumps across patch borders than between neighbours inside patches, for images (n, H, W).

    Mean absolute step of the error across borders over that inside patches: 1 where no seam shows.
    """
    error = np.asarray(recons, np.float64) - np.asarray(images, np.float64)
    across, inside = [], []
    for axis in (1, 2):
        steps = np.abs(np.diff(error, axis=axis))
        is_border = (np.arange(steps.shape[axis]) + 1) % patch_size == 0
        across.append(np.compress(is_border, steps, axis=axis).ravel())
        inside.append(np.compress(~is_border, steps, axis=axis).ravel())
    return float(np.concatenate(across).mean() / np.concatenate(inside).mean())
