"""Models of which the truth is known by construction, made of `small_model`'s in place."""

import torch
from torch import Tensor

from tae.analysis.causal.interventions import Knockout
from tae.model.autoencoder import TransformerAutoencoder
from tests.analysis.reference import draw

NEEDED = Knockout("decoder", 0, 2)
"""The only head that counts in `one_picture`."""
FEEDER = Knockout("encoder", 0, 2)
"""The only head that counts in `one_patch`."""
READ = 6
"""The only patch that `one_patch` reads."""


@torch.no_grad()
def one_picture(model: TransformerAutoencoder, same_values: bool = False) -> Tensor:
    """A decoder that draws one picture, whatever it is told, through one head; returns the picture, with a little noise.

    The latent is cut off, so nothing depends on the image. Only head 2 of the decoder's first layer is connected to
    the output; `same_values` lets it read the same from every token, so that where it places weight does not matter.
    """
    decoder = model.decoder
    for parameter in (decoder.expand.weight, decoder.expand.bias, decoder.start.up.weight):  # type: ignore[union-attr]
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
    return picture + 0.001 * draw(seed=5)


@torch.no_grad()
def one_patch(model: TransformerAutoencoder) -> None:
    """An encoder that reads one patch, the same in each image, a true sink: by one head, which gives it all weight."""
    encoder = model.encoder
    model.decoder.expand.weight[:, :8] = 0  # the latent's first half, where patches are written, is not read
    encoder.patch_embed.proj.weight[7:] = encoder.patch_embed.proj.bias[7:] = 0
    encoder.pos_embed.weight[..., 7:] = 0
    for written in (encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias, encoder.pos_embed.weight):
        written.mul_(0.05)  # far less than the head adds, so that the last norm hardly sees it
    encoder.pos_embed.weight.flatten(0, 1)[READ, 7] = 0.3
    for layer, block in enumerate(encoder.blocks):
        for parameter in block.mlp[-1].parameters():
            parameter.zero_()
        block.attn.proj.bias.zero_()
        kept = torch.zeros_like(block.attn.proj.weight)
        if layer == FEEDER.layer:
            kept[8:, 8:12] = 10 * block.attn.proj.weight[8:, 8:12]  # head 2 alone
            query, key, _ = block.attn.qkv.weight.chunk(3)
            query[8:12] = key[8:12] = 0
            key[8, 7] = 30
            block.attn.qkv.bias[8:12] = torch.tensor([4.0, 0, 0, 0])
        block.attn.proj.weight.copy_(kept)


@torch.no_grad()
def ink_meter(model: TransformerAutoencoder) -> None:
    """A model without attention that draws one grey, the mean ink of the image: the effect of every cover is known.

    Covering a patch changes each pixel by a constant times the change of the patch's mean ink, so the effect is its square.
    """
    mixed = torch.tensor(
        [0.0, 1, -1, 0] * 4
    )  # far from the channel that is written, so that the norms are linear in it
    for part in (model.encoder, model.decoder):
        part.pos_embed.weight.zero_()
        part.norm.weight.fill_(1)
        part.norm.bias.zero_()
        for block in part.blocks:
            for parameter in (*block.attn.proj.parameters(), *block.mlp[-1].parameters()):
                parameter.zero_()
    embed, expand, proj = model.encoder.patch_embed.proj, model.decoder.expand, model.decoder.proj
    for linear in (embed, expand, proj):
        linear.weight.zero_()
        linear.bias.copy_(mixed if linear is not proj else torch.full_like(proj.bias, 0.2))
    embed.weight[0] = 0.05 / embed.in_features
    expand.weight[0, 0] = 0.5
    proj.weight[:, 0] = 5
    model.decoder.start.up.weight.zero_()  # type: ignore[union-attr]
