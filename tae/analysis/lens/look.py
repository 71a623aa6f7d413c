"""A part of the model seen through the lens: images by depth, their PSNR, and how far their states are from usual."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tae.analysis.evaluate import psnr_of_batch
from tae.analysis.lens.states import draw, read_states
from tae.model.autoencoder import TransformerAutoencoder


@dataclass(frozen=True)
class PartLens:
    """The translators of one part, and what is usual for its last states."""

    weight: Tensor  # (L, D, D) float16, of depths 0 to L - 1; the identity comes on top
    bias: Tensor  # (L, D) float32
    mean: Tensor  # (D,) float32, of the last states of training images
    whiten: Tensor  # (D, D) float32: (state - mean) @ whiten has about unit variance in each direction
    usual: float  # median distance of the test images' last states, before division by it
    limit: float  # 99 of 100 of their distances are smaller, in multiples of `usual`
    psnr_raw: tuple[float, ...]  # by depth, 0 to L: mean over test images in dB
    psnr_tuned: tuple[float, ...]  # the same

    def translate(self, state: Tensor, depth: int) -> Tensor:
        """A state (..., D) of a depth as the translator says it will be at depth L; at depth L itself, the same."""
        if depth == len(self.weight):
            return state
        return state + state @ self.weight[depth].to(state) + self.bias[depth].to(state)

    def distance(self, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """How far states (B, D), or (B, N, D) with their mask (B, N), are from what the drawing step usually gets.

        (B,) root mean square over tokens of Mahalanobis' distance, as a multiple of the test images' median.
        """
        squares = ((state - self.mean.to(state)) @ self.whiten.to(state)).square().mean(dim=-1)
        if squares.ndim == 2:
            squares = squares.mean(dim=1) if mask is None else (squares * mask).sum(dim=1) / mask.sum(dim=1)
        return squares.sqrt() / self.usual


@dataclass(frozen=True)
class Lens:
    """The lens of one checkpoint."""

    checkpoint: str  # SHA-256 of its file, in hex
    parts: dict[str, PartLens]  # by "encoder" and "decoder"
    about: dict  # what it was fitted on: data, train_images, test_images, ridge, cpu_seconds


@dataclass(frozen=True)
class LensImages:
    """A part of the model seen through the lens."""

    part: str  # "encoder" or "decoder"
    recons: Tensor  # (L + 1, B, 1, H, W) by depth, near [0, 1] and not clipped to it
    psnr: Tensor  # (L + 1, B) in dB, clipped to [0, 1], over each image's own width
    distance: Tensor | None  # (L + 1, B), see `PartLens.distance`; None without a lens
    limit: float | None  # 99 of 100 test images' own last states are nearer; a state above it is out of distribution

    @property
    def is_unusual(self) -> Tensor | None:
        """(L + 1, B), True where an image is drawn from a state out of distribution; None without a lens.

        Never of the last state, however rare the image: the network draws its reconstruction from that one.
        """
        if self.distance is None or self.limit is None:
            return None
        found = self.distance > self.limit
        found[-1] = False
        return found


@torch.no_grad()
def look(
    model: TransformerAutoencoder,
    images: Tensor,
    part: str = "encoder",
    lens: Lens | None = None,
    tuned: bool = False,
    widths: Tensor | None = None,
) -> LensImages:
    """Draw the state at each depth of a part, through the translators if `tuned`.

    The lens is that of the same checkpoint; None: raw images without distances.
    """
    if tuned and lens is None:
        raise ValueError("lens must be given for tuned images; fit one with python -m tae.lens")
    states = read_states(model, images, part, widths)
    own = None if lens is None else lens.parts[part]
    recons, psnr, distance = [], [], []
    for depth, raw in enumerate(states.at):
        state = own.translate(raw, depth) if own is not None and tuned else raw
        recons.append(draw(model, states, depth, state))
        psnr.append(psnr_of_batch(images, recons[-1], widths))
        if own is not None:
            distance.append(own.distance(state, states.mask))
    return LensImages(
        part,
        torch.stack(recons),
        torch.stack(psnr),
        torch.stack(distance) if distance else None,
        None if own is None else own.limit,
    )
