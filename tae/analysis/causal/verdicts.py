"""Is the attention needed? What a model loses when it is replaced, and what to call one that loses nothing."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal import replacements
from tae.analysis.causal.predictors import Interval, bootstrap_mean
from tae.analysis.causal.prefix import Progress, images_at_once, make_prefix, silent
from tae.analysis.causal.sweeps import psnr_each
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS

REPLACED_BY = {
    "uniform": "uniform weights",
    "identity": "the identity (each patch reads itself)",
    "another": "another image's attention",
    "mean": "the mean map of other images",
    "permuted": "its own weights on permuted keys",
}
PRACTICALLY_NOTHING_DB = 0.5
"""PSNR lost below which attention cannot matter much: 12% more squared error, about what an eye begins to see in a
image, and a small part of the several dB by which test images differ from each other."""
DOUBLED_DB = 3.01
"""PSNR lost where the squared error doubles."""

RULES = (
    (
        "not needed",
        f"uniform weights cost less than {PRACTICALLY_NOTHING_DB:g} dB",
        "12% more squared error is hardly seen",
    ),
    (
        "input-independent",
        f"another image's attention costs less than {PRACTICALLY_NOTHING_DB:g} dB",
        "the maps do not hang on the image",
    ),
    ("needed", f"both cost more than {PRACTICALLY_NOTHING_DB:g} dB", "for a part of the quality"),
    ("needed, at least doubled", f"both cost at least {DOUBLED_DB:g} dB", "10 log 2: twice the squared error"),
    ("on the border", "else", "an interval holds the threshold"),
)
"""(verdict, when it is given, why there), in the order in which `verdict` asks; of an interval, the end that is against it."""


@dataclass(frozen=True)
class Necessity:
    """PSNR lost when attention is replaced, without retraining."""

    psnr: np.ndarray  # (B,) of the undisturbed reconstructions, in dB
    lost: dict[tuple[str, str, str], np.ndarray]
    """{(part, place, replaced by): (B,) in dB}; place is "all" or a layer's number as text; replaced by is a key of
    `REPLACED_BY`."""
    has_attention: bool = True  # False where there is one token, whose weight is always 1

    def mean(self, part: str, place: str, replaced_by: str) -> Interval:
        """The mean over images, with a bootstrap interval where there are enough of them."""
        return bootstrap_mean(self.lost[part, place, replaced_by])

    def places(self, part: str) -> list[str]:
        """ "all", then the layers."""
        return list(dict.fromkeys(place for own, place, _ in self.lost if own == part))

    def table(self, part: str) -> list[dict[str, str | float]]:
        """One row for each replacement: {"replaced_by": in words, "all": mean dB lost, "0": ..., ...}."""
        return [
            {"replaced_by": words, **{place: self.mean(part, place, name).value for place in self.places(part)}}
            for name, words in REPLACED_BY.items()
        ]


def necessity(
    model: TransformerAutoencoder,
    images: Tensor,
    others: Tensor,
    parts: Sequence[str] = PARTS,
    widths: Tensor | None = None,
    seed: int = 0,
    replaced_by: Sequence[str] = tuple(REPLACED_BY),
    each_layer: bool = True,
    progress: Progress = silent,
) -> Necessity:
    """Replace the attention of each layer, and of all, by weights that know nothing of the image.

    Args:
        others: (M, 1, H, W), other images of the same width. Image i borrows the attention of number i, counted round;
            the mean map is over all of them.
        parts: "encoder", "decoder" or both.
        seed: Seed of the permutations.
        replaced_by: Keys of `REPLACED_BY`.
        each_layer: Whether single layers are replaced, too.
    """
    if not set(replaced_by) <= set(REPLACED_BY):
        raise ValueError(f"replaced_by must be among {', '.join(REPLACED_BY)}, got {', '.join(replaced_by)}")
    size = images_at_once(model.config, images.shape[3])
    lost: dict[tuple[str, str, str], list[np.ndarray]] = {}
    psnrs: list[np.ndarray] = []
    means = {part: replacements.mean_map(model, others, part) for part in parts} if "mean" in replaced_by else {}
    starts = range(0, len(images), size)
    layers = {part: range(len(model.blocks(part)) if each_layer else 0) for part in parts}
    places = [(part, layer) for part in parts for layer in (None, *layers[part])]  # None: all layers
    for number, start in enumerate(starts):
        chunk = slice(start, start + size)
        own_widths = None if widths is None else widths[chunk]
        prefix = make_prefix(model, images[chunk], own_widths)
        plain = psnr_each(prefix.images, prefix.recon, own_widths)
        psnrs.append(plain.numpy(force=True))
        borrowed = others[torch.arange(start, start + len(prefix.images)) % len(others)]
        another = (
            {part: replacements.from_images(model, borrowed, part) for part in parts}
            if "another" in replaced_by
            else {}
        )
        by_name: dict[str, replacements.Replacement] = {
            "uniform": replacements.uniform,
            "identity": replacements.identity,
            "permuted": replacements.permuted_keys(seed),
        }
        for step, (part, layer) in enumerate(places):
            only, place = (None, "all") if layer is None else ([layer], str(layer))
            for name in replaced_by:
                replace = another[part] if name == "another" else means[part] if name == "mean" else by_name[name]
                recon = replacements.reconstruct_with(model, prefix.images, replace, part, only, own_widths, prefix)
                values = plain - psnr_each(prefix.images, recon, own_widths)
                lost.setdefault((part, place, name), []).append(values.numpy(force=True))
            progress((number * len(places) + step + 1) / (len(starts) * len(places)))
    joined = {key: np.concatenate(values) for key, values in lost.items()}
    rows, columns = model.config.grid_for(images.shape[3])
    return Necessity(np.concatenate(psnrs), joined, rows * columns > 1)


def quick_necessity(model: TransformerAutoencoder, pairs: Iterable[tuple[Tensor, Tensor]]) -> Necessity:
    """Measure what a verdict on each part as a whole needs, and no more.

    Pairs, at least one, are (image, other), both (1, 1, H, W) in [0, 1]: the other lends its attention.
    """
    needed = ("uniform", "another")
    found = [necessity(model, image, other, replaced_by=needed, each_layer=False) for image, other in pairs]
    lost = {key: np.concatenate([one.lost[key] for one in found]) for key in found[0].lost}
    return Necessity(np.concatenate([one.psnr for one in found]), lost, any(one.has_attention for one in found))


@dataclass(frozen=True)
class Verdict:
    """A name for a part's attention, and the reason."""

    part: str  # "encoder" or "decoder"
    place: str  # "all", or a layer's number as text
    kind: str
    """ "needed"; "input-independent": another image's attention does as well; "not needed": uniform weights do as well;
    "undecided": the interval holds the threshold, or there is no number to judge by; "none": there is one token,
    whose weight is always 1."""
    sentence: str  # in words, with the numbers

    @property
    def tells_little(self) -> bool:
        """Whether maps of this attention tell little of an image, which is to be said above each view of them."""
        return self.kind in ("not needed", "input-independent")


def verdict(found: Necessity, part: str = "encoder", place: str = "all") -> Verdict:
    """Judge from what its replacement costs whether a part's attention, or that of one of its layers, is needed.

    It is called not needed, or input-independent, only if the whole interval of the mean lies under the threshold (of a
    few images, which have none: the mean), and needed only if that of another image's attention lies above it.
    """
    if not found.has_attention:
        sentence = f"The {part} has one token: its attention is always exactly 1, whatever the image."
        return Verdict(part, place, "none", sentence)
    num_images = len(found.psnr)
    uniform_db, other_db = found.mean(part, place, "uniform"), found.mean(part, place, "another")
    where = part if place == "all" else f"{part}'s layer {place}"
    of_images = "this image" if num_images == 1 else f"mean of {num_images} images"
    if not math.isnan(other_db.low):
        of_images += ", 95% intervals"
    numbers = (
        f"Uniform attention in the {where} costs {_db(uniform_db)}, another image's attention {_db(other_db)} "
        f"(PSNR lost, {of_images})"
    )
    if math.isnan(uniform_db.value) or math.isnan(other_db.value):
        because = "reconstructions are exact, or hold no finite numbers"
        sentence = f"What the attention of the {where} is worth cannot be told: {because}."
        return Verdict(part, place, "undecided", sentence)
    if _high(uniform_db) < PRACTICALLY_NOTHING_DB:
        kind = "not needed"
        said = "not needed: weights that are the same everywhere do as well, so its maps tell nothing about the result"
    elif _high(other_db) < PRACTICALLY_NOTHING_DB:
        kind = "input-independent"
        said = "input-independent: another image's attention does as well, so its maps tell little about this image"
    elif _low(other_db) > PRACTICALLY_NOTHING_DB and _low(uniform_db) > PRACTICALLY_NOTHING_DB:
        least = min(_low(uniform_db), _low(other_db))
        grade = "without it the squared error at least doubles" if least >= DOUBLED_DB else "for a part of the quality"
        kind, said = "needed", f"needed, image by image: {grade}"
    else:
        kind = "undecided"
        said = f"on the border: whether it is needed cannot be told at a threshold of {PRACTICALLY_NOTHING_DB:g} dB"
    return Verdict(part, place, kind, f"{numbers}: here the attention of the {where} is {said}.")


def _db(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:z.1f} dB"
    return f"{interval.value:z.1f} dB ({interval.low:z.1f} to {interval.high:z.1f})"


def _high(interval: Interval) -> float:
    return interval.value if math.isnan(interval.high) else interval.high


def _low(interval: Interval) -> float:
    return interval.value if math.isnan(interval.low) else interval.low
