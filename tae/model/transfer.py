"""Weights of a trained model put into a new one of other sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tae.model.autoencoder import TransformerAutoencoder

ON_THE_GRID = ("pos_embed.weight", "start.down")
"""Ends of the names of tensors whose first two axes are the grid of patches."""


@dataclass(frozen=True)
class Transfer:
    """Names of a model's tensors, by where their values are from."""

    taken: list[str]  # as they were
    resampled: list[str]  # from another grid of patches
    left: list[str]  # as the new model began, because the trained one has none of this shape

    def __str__(self) -> str:
        """One sentence."""
        total = len(self.taken) + len(self.resampled) + len(self.left)
        parts = [f"{len(self.taken)} of {total} tensors are taken over"]
        if self.resampled:
            parts.append(f"resampled to this grid of patches: {', '.join(self.resampled)}")
        if self.left:
            parts.append(f"begun anew, since none of their shape is there: {_short(self.left)}")
        return "; ".join(parts)


@torch.no_grad()
def transfer(model: TransformerAutoencoder, trained: TransformerAutoencoder) -> Transfer:
    """Put every tensor of a trained model that fits into another one, in place; positions are resampled to its grid.

    Raises ValueError if nothing of a block fits: then nothing that matters would be taken over.
    """
    found, state = trained.state_dict(), model.state_dict()
    result = Transfer([], [], [])
    for name, tensor in state.items():
        other = found.get(name)
        if other is not None and other.shape == tensor.shape:
            tensor.copy_(other)
            result.taken.append(name)
        elif other is not None and name.endswith(ON_THE_GRID) and other.shape[2:] == tensor.shape[2:]:
            tensor.copy_(_resampled(other, tensor.shape[0], tensor.shape[1]))
            result.resampled.append(name)
        else:
            result.left.append(name)
    if not any(".blocks." in name for name in result.taken):
        own, others = model.config, trained.config
        raise ValueError(
            "a model to begin with must have blocks of the same width: latent_dim, num_heads and mlp_ratio "
            f"{own.latent_dim}, {own.num_heads}, {own.mlp_ratio:g}, got {others.latent_dim}, {others.num_heads}, "
            f"{others.mlp_ratio:g}"
        )
    return result


def _resampled(grid: Tensor, rows: int, columns: int) -> Tensor:
    """(h, w, ...) -> (rows, columns, ...), bicubic: each position at the same share of the image."""
    flat = grid.float().flatten(2).permute(2, 0, 1)[None]
    scaled = interpolate(flat, (rows, columns), mode="bicubic", align_corners=False, antialias=True)
    return scaled[0].permute(1, 2, 0).unflatten(2, grid.shape[2:]).to(grid.dtype)


def _short(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
