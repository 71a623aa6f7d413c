"""All states of one pass, and the gradient of a figure with respect to each of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from tae.analysis.causal.knockouts import mixed
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.model.layers import merge_heads

States = dict[tuple[str, str, int], Tensor]
"""{(what, part, layer): state}. What: "tokens" (B, N, D) as they enter the layer, "heads" (B, heads, N, head_dim) before the
output projection, "middle" (B, N, D) with what attention adds, "mlp" (B, N, D), what the MLP adds to that."""


def all_states(model: TransformerAutoencoder, images: Tensor) -> tuple[States, Tensor]:
    """The states of a pass over images (B, 1, H, W) without padding, and the reconstruction (B, 1, H, W)."""
    states: States = {}
    x = model.encoder.embed_tokens(images)[0].detach().requires_grad_()
    for part in PARTS:
        if part == "decoder":
            x = model.decoder.start_tokens(model.encoder.pool(x, None), model.config.grid_for(images.shape[3])[1])
        for layer, block in enumerate(model.blocks(part)):
            states["tokens", part, layer] = x
            states["heads", part, layer] = y = mixed(block.attn, *block.attn.qkv_heads(block.norm1(x)), None)
            states["middle", part, layer] = x = x + block.attn.proj(merge_heads(y))
            states["mlp", part, layer] = added = block.mlp(block.norm2(x))
            x = x + added
    return states, model.finish(x, "decoder", images.shape[3])


def gradients_of(
    model: TransformerAutoencoder, images: Tensor, figure: Callable[[Tensor], Tensor]
) -> tuple[States, States]:
    """The states of a pass, and the gradient of a figure of the reconstruction with respect to each: one pass each way.

    The figure gets (B, 1, H, W) and gives one number. Nothing is left behind in the model's parameters.
    """
    with torch.inference_mode(False), torch.enable_grad():
        states, recon = all_states(model, images.detach().clone())
        gradients = torch.autograd.grad(figure(recon), list(states.values()))
    return {name: state.detach() for name, state in states.items()}, dict(zip(states, gradients, strict=True))
