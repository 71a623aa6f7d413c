"""Where the colours of attention maps end, so that maps of one picture can be compared by eye."""

import numpy as np
import torch
from torch import Tensor

from tae.attention import UNIFORM_LIMIT, each_head, each_layer
from tae.config import PARTS
from tae.model import TransformerAutoencoder

PERCENTILE = 99.5
"""A few strong weights would leave all others pale: by default the colours end where this share of the weights does."""


@torch.no_grad()
def colour_tops(
    model: TransformerAutoencoder, image: Tensor, weighting: str = "weights", widths: Tensor | None = None
) -> dict[str, float]:
    """Ends of a colour range that all layers and heads of encoder and decoder share, in x uniform, at least 1.5.

    Args:
        model: The autoencoder, in evaluation mode.
        image: (1, 1, H, W) in [0, 1].
        weighting: "weights" or "values", as in `tae.maps.MapChoice`.
        widths: (1,) or None.

    Returns:
        {"shared": the highest 99.5th percentile of a layer's head mean, "full": the largest weight of any head}. Rollout
        and fusions other than the mean may have stronger weights; they then look as dark as the end of the range.
    """
    shared, full = UNIFORM_LIMIT, UNIFORM_LIMIT
    for part in PARTS:
        for block, tokens, mask in each_layer(model, image, part, widths):
            mean: Tensor | None = None
            for one in each_head(block, tokens, mask, weighting):
                full = max(full, float(one.max()) * one.shape[-1])
                mean = one if mean is None else mean.add_(one)
            assert mean is not None
            values = mean.div_(block.attn.num_heads).flatten().numpy()
            shared = max(shared, float(np.percentile(values, PERCENTILE)) * mean.shape[-1])
    return {"shared": shared, "full": max(full, shared)}
