"""Gradient-weighted attention: which tokens' attention leads to the ink of a region of the reconstruction.

found = relevance(model, image, Box(64, 64, 112, 112))  # (1, 1, H, W)
found.encoder  # (N,) what attention adds to each patch of the image
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tae.analysis.causal.occlusion import Box, slices_of, tokens_of_pixels
from tae.analysis.causal.prefix import check_one
from tae.analysis.causal.states import gradients_of
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.model.layers import ROWS_AT_ONCE, attention_weights


@dataclass(frozen=True)
class Relevance:
    """Relevance of each token for a region, from 0: what attention adds to the identity from which the rule starts."""

    encoder: Tensor  # (N,) of the image's patches, for the latent as far as it draws the region
    decoder: Tensor  # (N,) of the decoder's positions, for the positions under the region


def relevance(model: TransformerAutoencoder, image: Tensor, region: Box | None = None) -> Relevance:
    """Relevance by the rule R <- R + A_bar R, A_bar = mean over heads of (gradient * A)^+, from R = identity.

    Chefer, Gur & Wolf 2021, "Generic attention-model explainability" (arXiv:2103.15679), eq. 5 and 6; their "Transformer
    interpretability beyond attention visualization" (arXiv:2012.09838) has the relevance of A by layer-wise propagation
    in place of A. The gradient is that of the ink in the region, in pixels of ink. The rows of R that are read: of the
    encoder all, each 1 / N, since the latent is the tokens' mean; of the decoder those of the positions that hold the
    region, by their share of it. Through the latent no relevance is handed on, only the gradient: it is one token.

    Only the rows that are read are carried along, from the last layer to the first, and weights are made in blocks of rows:
    no (N, N) is kept.

    Args:
        image: (1, 1, H, W) in [0, 1].
        region: The part of the reconstruction whose ink counts; None: all of it.
    """
    check_one(image)
    rows_in, columns_in = slices_of(region, image)
    states, gradients = gradients_of(model, image, lambda recon: (1 - recon[..., rows_in, columns_in]).sum())
    owner = tokens_of_pixels(image, model.config)
    num_tokens = states["tokens", "encoder", 0].shape[1]
    held = torch.bincount(owner[rows_in, columns_in].flatten(), minlength=num_tokens).to(image)
    read = {"encoder": torch.full_like(held, 1 / num_tokens), "decoder": held / held.sum()}
    found = {}
    with torch.no_grad():
        for part in PARTS:
            carried = read[part]
            for layer, block in reversed(list(enumerate(model.blocks(part)))):
                q, k, v = (one[0] for one in block.attn.qkv_heads(block.norm1(states["tokens", part, layer])))
                carried = carried + _weighted(q, k, v, gradients["heads", part, layer][0], carried)
            found[part] = carried - read[part]
    return Relevance(found["encoder"], found["decoder"])


def _weighted(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, row: Tensor) -> Tensor:
    """A row (N,) times A_bar (N, N): (N,); q, k, v and the gradient of the heads' outputs (heads, N, head_dim)."""
    total = torch.zeros_like(row)
    for head in range(len(q)):
        for some in torch.arange(q.shape[1], device=q.device).split(ROWS_AT_ONCE):
            weights = attention_weights(q[None, head, some], k[None, head])[0]
            # The outputs are A V, so the gradient with respect to A is that of the outputs times V^T.
            total += row[some] @ (weights * (gradient[head, some] @ v[head].mT)).clamp(min=0).to(row.dtype)
    return total / len(q)
