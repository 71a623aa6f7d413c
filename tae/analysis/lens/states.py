"""The state of images after each layer of a part, and what the rest of the network makes of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tae.model.autoencoder import TransformerAutoencoder


@dataclass(frozen=True)
class States:
    """The states of images in one part."""

    part: str  # "encoder" or "decoder"
    at: list[Tensor]  # by depth, 0 to L: latents (B, D) of the encoder, tokens (B, N, D) of the decoder
    mask: Tensor | None  # (B, N), True = real; None where there is no padding
    width: int  # of the batch, in pixels
    widths: Tensor | None  # (B,)

    def rows(self, depth: int) -> Tensor:
        """The states of one depth, one below the other (rows, D), padding left out."""
        state = self.at[depth]
        if self.part == "encoder":
            return state
        return state.flatten(0, 1) if self.mask is None else state[self.mask]


@torch.no_grad()
def read_states(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> States:
    """Run a part, keeping what images are after each of its layers."""
    x, mask = model.layer_input(images, 0, part, widths)

    def leave(x: Tensor) -> Tensor:
        return model.encoder.pool(x, mask) if part == "encoder" else model.decoder.norm(x)

    at = [leave(x)]
    for block in model.blocks(part):
        x = block(x, mask)
        at.append(leave(x))
    return States(part, at, mask, images.shape[-1], widths)


@torch.no_grad()
def draw(model: TransformerAutoencoder, states: States, depth: int, translated: Tensor | None = None) -> Tensor:
    """Draw the state after `depth` layers, or `translated` in its place, by the rest of the network.

    (B, 1, H, W), 0 beyond each one's width.
    """
    state = states.at[depth] if translated is None else translated
    if states.part == "encoder":
        return model.decode(state, states.width, states.widths)
    return model.decoder.draw_normed(state, states.width, states.widths)


def depth_names(num_layers: int) -> list[str]:
    """Names for the depths 0 to L on pages."""
    return ["before layer 0", *(f"after layer {layer}" for layer in range(num_layers))]
