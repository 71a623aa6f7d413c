"""Every head, every layer's attention, every MLP knocked out in turn; heads removed one after another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tae.analysis.causal.interventions import Intervention, Knockout, all_knockouts
from tae.analysis.causal.knockouts import ZERO, Baseline, reconstruct_knocked_out
from tae.analysis.causal.prefix import Prefix, Progress, prefix_of_one, silent
from tae.analysis.evaluate import psnr_of_batch
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.model.metrics import Quality, measure


@dataclass(frozen=True)
class Damage:
    """The change in a reconstruction's quality under an intervention, signed: above 0 it became worse."""

    psnr_lost: float  # in dB
    ssim_lost: float  # nan for images under 7 pixels, and where a sweep leaves it out
    mse_gained: float  # over all pixels


@dataclass(frozen=True)
class Sweep:
    """Single knock-outs of one image's reconstruction.

    One head at a time hides redundancy: two heads that stand in for each other look dispensable, each alone.
    `removal_curve` and sets of knock-outs show it.
    """

    baseline: str  # what stood in for what was knocked out, in words
    plain: Quality  # of the undisturbed reconstruction
    damage: dict[Knockout, Damage]  # {knock-out: its damage}, layer by layer, as `all_knockouts` lists them

    def heads(self, part: str, measure: str = "psnr_lost") -> np.ndarray:
        """(L, heads) of a part, in the measure's unit."""
        found = [(one, getattr(damage, measure)) for one, damage in self.damage.items() if one.part == part]
        num_layers = 1 + max((one.layer for one, _ in found), default=-1)
        return np.array([value for one, value in found if one.is_head]).reshape(num_layers, -1)

    def ranking(self) -> list[Knockout]:
        """All heads, the one whose loss matters least first; heads that tie stay in the order of their layers."""
        heads = [one for one in self.damage if one.is_head]
        return sorted(heads, key=lambda one: self.damage[one].mse_gained)


def head_sweep(
    model: TransformerAutoencoder,
    image: Tensor | Prefix,
    baseline: Baseline = ZERO,
    parts: Sequence[str] = PARTS,
    progress: Progress = silent,
    with_ssim: bool = False,
) -> Sweep:
    """Knock out each head, each layer's attention and each MLP, one at a time.

    The image (1, 1, H, W) in [0, 1] is without padding, or its prefix; the parts are "encoder", "decoder" or both. With SSIM,
    which is nan without, it takes twice as long.
    """
    prefix = prefix_of_one(model, image)
    knockouts = all_knockouts(model.config, parts)
    recons = reconstruct_knocked_out(model, prefix, [[one] for one in knockouts], baseline, progress=progress)
    plain = _quality(prefix, prefix.recon, with_ssim)
    qualities = [_quality(prefix, recon, with_ssim) for recon in recons]
    damage = {one: _damage(plain, quality) for one, quality in zip(knockouts, qualities, strict=True)}
    return Sweep(baseline.title, plain, damage)


def damage_of(
    model: TransformerAutoencoder,
    image: Tensor | Prefix,
    interventions: Iterable[Intervention],
    baseline: Baseline = ZERO,
    donor: Prefix | None = None,
) -> tuple[Tensor, Quality, Damage]:
    """One set of interventions on one image: the reconstruction (1, 1, H, W), its quality, and what was lost."""
    prefix = prefix_of_one(model, image)
    recon = reconstruct_knocked_out(model, prefix, [list(interventions)], baseline, donor)
    quality = _quality(prefix, recon)
    return recon, quality, _damage(_quality(prefix, prefix.recon), quality)


@dataclass(frozen=True)
class RemovalCurve:
    """Quality as heads are removed, the least important first, against random orders."""

    baseline: str  # what stood in for removed heads, in words
    order: tuple[Knockout, ...]  # (K,) heads, as they were removed
    psnr: np.ndarray  # (K + 1,) in dB, after 0 to K removals
    random_psnr: np.ndarray  # (R, K + 1) of R random orders; all curves end where all heads are gone

    @property
    def random_mean(self) -> np.ndarray:
        """(K + 1,)."""
        return self.random_psnr.mean(axis=0)

    def spared(self, lost_db: float = 1.0) -> int:
        """How many heads can be removed, in this order, before more than `lost_db` is lost, or it cannot be told."""
        return int(np.argmax(np.append(~(self.psnr[0] - self.psnr <= lost_db), True))) - 1


def removal_curve(
    model: TransformerAutoencoder,
    image: Tensor | Prefix,
    order: Sequence[Knockout],
    baseline: Baseline = ZERO,
    random_orders: int = 5,
    seed: int = 0,
    progress: Progress = silent,
) -> RemovalCurve:
    """Remove more and more heads in an order (`Sweep.ranking`, or any other), against random orders of the same heads.

    The image (1, 1, H, W) in [0, 1] is without padding, or its prefix; the first head of the order goes first.
    """
    prefix = prefix_of_one(model, image)
    random = np.random.default_rng(seed)
    orders = [list(order)] + [[order[index] for index in random.permutation(len(order))] for _ in range(random_orders)]
    sets = [one[:count] for one in orders for count in range(len(order) + 1)]
    recons = reconstruct_knocked_out(model, prefix, sets, baseline, progress=progress)
    psnr = psnr_each(prefix.images, recons).numpy(force=True).reshape(len(orders), -1)
    return RemovalCurve(baseline.title, tuple(order), psnr[0], psnr[1:])


def psnr_each(images: Tensor, recons: Tensor, widths: Tensor | None = None) -> Tensor:
    """PSNR of each reconstruction in dB, (B,) float64, over each one's own width; images may be one for all."""
    return psnr_of_batch(images.double(), recons.double(), widths)


def _quality(prefix: Prefix, recon: Tensor, with_ssim: bool = True) -> Quality:
    pixels = recon.reshape(prefix.images.shape[2:]).numpy(force=True)
    return measure(prefix.images[0, 0].numpy(force=True), pixels, with_ssim)


def _damage(plain: Quality, quality: Quality) -> Damage:
    return Damage(plain.psnr - quality.psnr, plain.ssim - quality.ssim, quality.mse - plain.mse)
