"""Kinds of heads: planted heads, distances as two maps compared have them, and groups worked out by hand."""

import math

import numpy as np
import pytest
import torch

from tae import ModelConfig, TransformerAutoencoder
from tae.analysis import agreement, kinds
from tae.analysis.causal.interventions import Knockout
from tests.analysis.reference import build, draw_images
from tests.configs import CONFIGS, SQUARE

GRID = 6
PLANTED = ModelConfig(
    input_size=(48, 48), patch_size=8, latent_dim=160, num_heads=4, encoder_layers=1, decoder_layers=1
)
NAMED = ["local", "previous row", "foreground-seeking", "diffuse"]


@pytest.fixture(scope="module")
def planted() -> TransformerAutoencoder:
    """The encoder's heads: one looks around itself, one at the row above, one for ink, one at all alike.

    Of a token's 160 numbers the first 36 are its place, one of them 1; the next is its ink.
    """
    model = TransformerAutoencoder(PLANTED).double().eval()
    count, width = GRID * GRID, 40
    rows, columns = (one.flatten() for one in torch.meshgrid(*[torch.arange(GRID)] * 2, indexing="ij"))
    near = (rows[:, None] - rows).abs() + (columns[:, None] - columns).abs() <= 1
    above = (rows[:, None] - 1 == rows) & (columns[:, None] == columns)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
        encoder = model.encoder
        encoder.pos_embed.weight.copy_(torch.eye(count, 160).unflatten(0, (GRID, GRID)))
        encoder.patch_embed.proj.weight[count] = 1 / 64
        encoder.norm.weight.fill_(1)
        block = encoder.blocks[0]
        block.norm1.weight.fill_(1)
        for head, table in enumerate((near, above)):
            block.attn.qkv.weight[head * width : head * width + count, :count] = 10.0 * table.T
            block.attn.qkv.weight[160 + head * width : 160 + head * width + count, :count] = torch.eye(count)
        block.attn.qkv.bias[2 * width] = 10.0
        block.attn.qkv.weight[160 + 2 * width, count] = 1.0
    return model


def with_ink(count: int) -> torch.Tensor:
    """White images with a black patch each, another every time."""
    images = torch.ones(count, 1, 48, 48, dtype=torch.float64)
    for number, image in enumerate(images):
        row, column = divmod(7 * number + 8, GRID)
        image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0
    return images


def test_planted_heads_are_named_by_what_they_do(planted: TransformerAutoencoder) -> None:
    found = kinds.heads_over(planted, with_ink(3))
    for head, name in enumerate(NAMED):
        assert name in found.kinds_of(head), (name, found.numbers_of(head))
    local, above, ink, diffuse = (found.numbers_of(head) for head in range(4))
    assert above["previous row"] > 0.9 and local["previous row"] == pytest.approx(local["next column"], abs=0.03)
    assert ink["own change"] > 0.5 and ink["foreground"] > 20 and "foreground-seeking" not in found.kinds_of(0)
    assert diffuse == pytest.approx(
        {**diffuse, "reach": 1, "itself": 1 / 36, "foreground": 1, "entropy": 1, "own change": 0, "sinks": 0}
    )
    assert "fixed" in found.kinds_of(1) and "fixed" not in found.kinds_of(2)
    for images in (draw_images(PLANTED, 3) / 2, torch.ones(3, 1, 48, 48).double()):  # ink on all patches, and on none
        assert np.isnan(kinds.heads_over(planted, images).numbers["foreground"]).all()


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_distances_are_those_of_two_maps_compared(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "AT_ONCE", at_once)  # one query at a time, and all of them
    model, images = build(SQUARE), draw_images(SQUARE, 2)
    found = kinds.heads_over(model, images)
    maps = [
        [
            heads
            for part in ("encoder", "decoder")
            for layer in range(2)
            for heads in model.get_attention_heads(one, layer, part=part)[0]
        ]
        for one in images.split(1)
    ]
    assert [head.name for head in found.heads[3:5]] == ["encoder/1/1", "decoder/0/0"]
    for first, second in ((0, 1), (2, 7), (5, 5)):
        expected = np.mean([agreement.compare(one[first], one[second]).mean_distance for one in maps])
        assert found.distance[first, second] == found.distance[second, first] == pytest.approx(expected, abs=1e-9)
    change = agreement.compare(maps[0][4], maps[1][4]).mean_distance
    assert found.numbers["own change"][4] == pytest.approx(change, abs=1e-9)


def test_heads_that_are_near_are_one_group_side_by_side() -> None:
    places = np.array([0.0, 0.9, 0.1, 0.5, 0.85])
    tree = kinds.cluster(np.abs(places[:, None] - places), cut=0.2)
    assert tree.groups[0] == tree.groups[2] and tree.groups[1] == tree.groups[4] and len(set(tree.groups)) == 3
    assert sorted(places[list(tree.order)].tolist()) in (
        places[list(tree.order)].tolist(),
        places[list(tree.order)][::-1].tolist(),
    )
    # .05 and .1 within the pairs; the middle one is .4 from 0 and .1, .375 from the others; then .65 on average
    np.testing.assert_allclose(tree.merges[:3, 2], [0.05, 0.1, 0.375])
    with pytest.raises(ValueError, match="finite"):
        kinds.cluster(np.full((2, 2), math.nan), 0.1)


def test_a_card_shows_what_a_head_gives_and_its_attribution(planted: TransformerAutoencoder) -> None:
    images = with_ink(2)
    head = Knockout("encoder", 0, 1)
    weights = planted.get_attention_heads(images, 0)[:, 1]
    np.testing.assert_allclose(
        kinds.received_over(planted, images, head, 8), 36 * weights[:, 8].numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        kinds.received_over(planted, images, head), 36 * weights.mean(dim=1).numpy(), rtol=1e-5, atol=1e-6
    )
    shares = kinds.attributions(planted, images)
    assert shares.shape == (2, 8)
    assert np.abs(shares[:, :4]).max() == 0 < np.abs(shares[:, 4:]).max()  # of the encoder's heads nothing is handed on


def test_what_does_not_fit_is_refused() -> None:
    model, images = build(SQUARE), draw_images(SQUARE, 2)
    with pytest.raises(ValueError, match="at least 2"):
        kinds.heads_over(model, images[:1])
    with pytest.raises(ValueError, match="query must be from 0 to 15"):
        kinds.received_over(model, images, Knockout("encoder", 0, 0), 16)
    with pytest.raises(ValueError, match="one of the model's"):
        kinds.received_over(model, images, Knockout("encoder", 2, 0))
    with pytest.raises(ValueError, match="more than one token"):
        kinds.heads_over(build(CONFIGS["one token"]), draw_images(CONFIGS["one token"], 2))
