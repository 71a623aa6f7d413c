"""The plain way of what the package does one head or layer at a time, for tests to compare with."""

import torch
from torch import Tensor

from tae import ModelConfig, TransformerAutoencoder
from tae.analysis import attention


def fuse(heads: Tensor, fusion: str) -> Tensor:
    """Heads (..., heads, N, N) as one map, by one of `attention.FUSIONS` or "spread"."""
    if fusion == "mean":
        return heads.mean(dim=-3)
    if fusion == "spread":
        return heads.std(dim=-3, correction=0)
    return attention.normalised(heads.amax(dim=-3) if fusion == "max" else heads.amin(dim=-3))


@torch.no_grad()
def all_heads(
    model: TransformerAutoencoder,
    images: Tensor,
    layer: int,
    part: str = "encoder",
    weighting: str = "values",
    widths: Tensor | None = None,
) -> Tensor:
    """(B, heads, N, N) of a layer, with either weighting."""
    if weighting == "weights":
        return model.get_attention_heads(images, layer, part=part, widths=widths)
    tokens, mask = model.layer_input(images, layer, part, widths)
    return torch.stack(list(attention.each_head(model.blocks(part)[layer], tokens, mask, "values")), dim=1)


PARTS = ["encoder", "decoder"]


def build(config: ModelConfig, seed: int = 0) -> TransformerAutoencoder:
    """A random model in float64, with attention far from uniform, so that replacing it shows."""
    torch.manual_seed(seed)
    model = TransformerAutoencoder(config).double().eval()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.mul_(3)
    return model


def draw_images(config: ModelConfig, count: int = 3, seed: int = 1) -> Tensor:
    height, width = config.input_size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, height, width or 40, generator=generator, dtype=torch.float64)


def draw(count: int = 1, seed: int = 1, size: tuple[int, int] = (24, 32)) -> Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
