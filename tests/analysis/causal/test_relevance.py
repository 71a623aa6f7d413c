"""Relevance: the papers' formulas written out with whole matrices, gradients with respect to the weights themselves."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.analysis.causal.occlusion import Box
from tae.analysis.causal.relevance import relevance
from tae.model.config import PARTS
from tests.analysis.causal.test_knockouts import draw
from tests.configs import SHAPES


def weights_and_ink(model: TransformerAutoencoder, image: Tensor, box: Box) -> tuple[dict[str, list[Tensor]], Tensor]:
    """A forward pass with explicit attention, its weights (1, heads, N, N) as tensors that gradients reach."""
    weights: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    x, _ = model.layer_input(image, 0)
    for part in PARTS:
        if part == "decoder":
            x = model.decoder.start_tokens(model.encoder.norm(x).mean(dim=1), model.config.grid_for(image.shape[3])[1])
        for block in model.blocks(part):
            q, k, v = block.attn.qkv_heads(block.norm1(x))
            weights[part].append((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1))
            x = x + block.attn.proj((weights[part][-1] @ v).transpose(1, 2).flatten(2))
            x = x + block.mlp(block.norm2(x))
    recon = model.decoder.draw(x, image.shape[3])[0, 0]
    return weights, (1 - recon[box.top : box.bottom, box.left : box.right]).sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("box", [Box(0, 0, 8, 12), Box(3, 5, 11, 16)])
def test_relevance_is_the_papers_rule(small_model, shape, box, monkeypatch):
    monkeypatch.setattr("tae.analysis.causal.relevance.ROWS_AT_ONCE", 5)  # several blocks of rows
    model = small_model(**SHAPES[shape])
    image = draw(model)
    weights, ink = weights_and_ink(model, image, box)
    found = relevance(model, image, box)
    for part in PARTS:
        relevances = torch.eye(weights[part][0].shape[-1], dtype=torch.float64)
        for attention in weights[part]:
            (gradient,) = torch.autograd.grad(ink, attention, retain_graph=True)
            weighted = (gradient * attention).clamp(min=0).mean(dim=1)[0].detach()  # eq. 5
            read = (
                rows_read(model, image, box)
                if part == "decoder"
                else torch.ones(len(weighted)).double() / len(weighted)
            )
            relevances = relevances + weighted @ relevances  # eq. 6
        expected = read @ (relevances - torch.eye(len(relevances)))
        assert_close(getattr(found, part), expected)
        assert expected.max() > 0


def rows_read(model: TransformerAutoencoder, image: Tensor, box: Box) -> Tensor:
    """(N,) the share of the box's pixels that each position holds, pixel by pixel."""
    height, width = model.config.tile_size
    columns = model.config.grid_for(image.shape[3])[1]
    counts = torch.zeros(model.config.grid[0] * columns, dtype=torch.float64)
    for y in range(box.top, box.bottom):
        for x in range(box.left, box.right):
            counts[y // height * columns + x // width] += 1
    return counts / counts.sum()


def test_a_region_outside_the_image_is_refused(small_model):
    model = small_model()
    with pytest.raises(ValueError, match="region must be"):
        relevance(model, draw(model), Box(0, 0, 25, 8))
