"""Models of which the truth is known by construction."""

import pytest
import torch
from torch import Tensor

from tae import TransformerAutoencoder
from tests.analysis.reference import NEEDED, draw


@pytest.fixture
def one_picture(small_model):
    """A decoder that draws one picture, whatever it is told, through one head; and that picture, with a little noise.

    The latent is cut off, so nothing depends on the image. Only head 2 of the decoder's first layer is connected to the
    output; `same_values` lets it read the same from every token, so that where it places weight does not matter.
    """

    @torch.no_grad()
    def build(same_values: bool = False) -> tuple[TransformerAutoencoder, Tensor]:
        model = small_model()
        decoder = model.decoder
        for parameter in (decoder.expand.weight, decoder.expand.bias, decoder.start.up.weight):
            parameter.zero_()
        for layer, block in enumerate(decoder.blocks):
            is_connected = torch.zeros(16)
            if layer == NEEDED.layer:
                is_connected[8:12] = 3
                block.attn.qkv.weight.mul_(4)  # sharp attention
                if same_values:
                    block.attn.qkv.weight[32:] = 0
                    block.attn.qkv.bias[32:] = torch.linspace(-2, 2, 16)
            block.attn.proj.weight.mul_(is_connected)
            for parameter in block.mlp[-1].parameters():
                parameter.zero_()
        decoder.proj.weight.mul_(0.1)
        decoder.proj.bias.fill_(0.5)
        picture = model(draw())[0]
        assert 0.05 < picture.min() < picture.max() < 0.95
        return model, picture + 0.001 * draw(seed=5)

    return build
