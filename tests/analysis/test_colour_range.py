"""Colour ranges: shared by all maps of a picture, whatever their number."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tae import TransformerAutoencoder
from tae.analysis.attention import value_weighted
from tae.analysis.maps import colour_tops


@pytest.mark.parametrize("weighting", ["weights", "values"])
def test_tops_are_those_of_all_heads_and_layers(
    small_model: Callable[..., TransformerAutoencoder], weighting: str
) -> None:
    model = small_model()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.mul_(12)  # sharp enough to pass 1.5 x uniform
    image = torch.rand(1, 1, 24, 32, dtype=torch.float64)
    maps = []
    for part in ("encoder", "decoder"):
        for layer in range(2):
            if weighting == "values":
                maps.append(value_weighted(model, image, layer, part)[0])
            else:
                maps.append(model.get_attention_heads(image, layer, part=part)[0])
    tops = colour_tops(model, image, weighting)
    largest = max(float(one.max()) for one in maps) * 12
    percentile = max(float(np.percentile(one.mean(dim=0).numpy(), 99.5)) for one in maps) * 12
    assert percentile > 1.5
    assert tops == pytest.approx({"shared": percentile, "full": largest}, rel=1e-9)


def test_uniform_attention_keeps_a_range_in_which_it_looks_uniform(
    small_model: Callable[..., TransformerAutoencoder],
) -> None:
    model = small_model()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.zero_()
                block.attn.qkv.bias.zero_()
    assert colour_tops(model, torch.rand(1, 1, 24, 32, dtype=torch.float64)) == {"shared": 1.5, "full": 1.5}
