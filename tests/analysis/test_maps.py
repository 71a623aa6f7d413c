"""Which map is meant: names, words, refusals; and that the map is the very one of the model, however it is fused."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tae import ModelConfig, TransformerAutoencoder, create_autoencoder
from tae.analysis import attention
from tae.analysis.maps import PARTS, MapChoice, all_choices, colour_tops, compute, compute_map
from tests.analysis.reference import all_heads, fuse

CONFIG = ModelConfig(input_size=(24, 32), patch_size=8, num_heads=4, encoder_layers=3, decoder_layers=2)
MODELS = {
    "square": {},
    "any width": {"input_size": (16, None), "max_width": 48},
    "one head": {"num_heads": 1},
    "one layer": {"encoder_layers": 1, "decoder_layers": 1},
    "one token": {"patch_size": None},
}


def picture(model: TransformerAutoencoder, dtype: torch.dtype = torch.float64) -> Tensor:
    height, width = model.config.input_size
    return torch.rand(1, 1, height, width or 24, dtype=dtype)


choices = st.one_of(
    st.builds(
        MapChoice,
        part=st.sampled_from(PARTS),
        layer=st.sampled_from(["average", "rollout"]),
        head=st.sampled_from(attention.FUSIONS),
    ),
    st.builds(
        MapChoice,
        part=st.sampled_from(PARTS),
        layer=st.integers(0, 127).map(str),
        head=st.sampled_from([*attention.FUSIONS, "spread"]) | st.integers(0, 255).map(str),
    ),
)


@given(choices)
def test_a_name_says_which_map_and_comes_back(choice):
    assert MapChoice.from_name(choice.name) == choice
    assert choice.name == f"{choice.part}/{choice.layer}/{choice.head}"


def test_settings_stand_beside_the_name():
    choice = MapChoice.from_name("decoder/rollout/max", weighting="values", discard=0.9)
    assert choice == MapChoice(part="decoder", layer="rollout", head="max", weighting="values", discard=0.9)


def test_a_title_says_it_in_words():
    for name, words in [
        ("encoder/average/mean", "Encoder, average of 3 layers, mean of 4 heads"),
        ("encoder/0/2", "Encoder, layer 0, head 2"),
        ("decoder/rollout/max", "Decoder, rollout over 2 layers, largest of 4 heads"),
        ("decoder/1/min", "Decoder, layer 1, smallest of 4 heads"),
        ("encoder/2/spread", "Encoder, layer 2, spread between 4 heads"),
    ]:
        assert MapChoice.from_name(name).title(CONFIG) == words


def test_a_title_says_weighting_discard_and_a_single_head():
    choice = MapChoice(layer="rollout", weighting="values", discard=0.9)
    assert choice.title(CONFIG).endswith("weighted by value norms, smallest 90% of each row dropped")
    alone = ModelConfig(num_heads=1, encoder_layers=1)
    assert MapChoice().title(alone) == "Encoder, average of 1 layer, its one head"


def test_what_is_no_name_is_refused_with_the_choices():
    for name, expected in [
        ("encoder", "part/layer/head"),
        ("encoder/0/mean/", "part/layer/head"),
        ("Encoder/0/mean", "part must be one of encoder, decoder"),
        ("encoder/first/mean", "layer must be average, rollout or a layer's number"),
        ("encoder/-1/mean", "layer must be"),
        ("encoder/00/mean", "layer must be"),
        ("encoder/٣/mean", "layer must be"),
        ("encoder/99999999999999999999/mean", "layer must be"),
        ("encoder/0/median", "head must be mean, max, min, spread or a head's number"),
        ("encoder/0/1.5", "head must be"),
        ("encoder/average/spread", "belong to one layer"),
        ("encoder/rollout/2", "belong to one layer"),
    ]:
        with pytest.raises(ValueError, match=expected):
            MapChoice.from_name(name)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="weighting must be one of weights, values, got 'gradients'"):
        MapChoice(weighting="gradients")
    for discard in (-0.1, 1.0, float("nan"), True, "0.5"):
        with pytest.raises(ValueError, match="discard must be a number from 0 to less than 1"):
            MapChoice(layer="rollout", discard=discard)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="discard must be 0 where layer is not rollout, got 0.5"):
        MapChoice(layer="0", discard=0.5)


def test_a_model_refuses_layers_and_heads_that_it_does_not_have(small_model):
    model = small_model()
    for name, expected in (
        ("encoder/2/mean", "layer must be from 0 to 1 in the encoder, got 2"),
        ("encoder/0/4", "head must be from 0 to 3, got 4"),
    ):
        with pytest.raises(ValueError, match=expected):
            compute_map(model, picture(model), MapChoice.from_name(name))
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 24, 32\)"):
        compute_map(model, torch.rand(2, 1, 24, 32, dtype=torch.float64), MapChoice())


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_maps_are_the_model_s_own_bit_for_bit(small_model, fields):
    for part, dtype in itertools.product(PARTS, (torch.float32, torch.float64)):
        model = small_model(**fields).to(dtype)
        image = picture(model, dtype)
        maps = model.get_attention_maps(image, part)
        for name, one in maps.items():
            choice = MapChoice(part=part, layer=name.removeprefix("layer_"))
            assert torch.equal(compute_map(model, image, choice), one[0])
        for layer in range(len(maps) - 1):
            heads = model.get_attention_heads(image, layer, part=part)[0]
            expected = {**{str(head): one for head, one in enumerate(heads)}, "max": fuse(heads, "max")}
            for head, one in {**expected, "min": fuse(heads, "min")}.items():
                choice = MapChoice(part=part, layer=str(layer), head=head)
                assert torch.equal(compute_map(model, image, choice), one)


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("weighting", attention.WEIGHTINGS)
def test_maps_over_layers_and_heads_agree_with_all_maps_at_once(small_model, fields, weighting):
    model = small_model(**fields)
    image = picture(model)
    for part in PARTS:
        layers = []
        for layer, (block, tokens, mask) in enumerate(attention.each_layer(model, image, part)):
            heads = all_heads(model, image, layer, part, weighting)[0]
            fused = {head: fuse(heads, head) for head in (*attention.FUSIONS, "spread")}
            if weighting == "values":
                fused["mean"] = attention.value_weighted_sum(block, tokens, mask)[0]
            layers.append(fused)
            for head, expected in {**fused, "0": heads[0], str(len(heads) - 1): heads[-1]}.items():
                choice = MapChoice(part=part, layer=str(layer), head=head, weighting=weighting)
                assert_close(compute_map(model, image, choice), expected)
        for fusion in attention.FUSIONS:
            stack = torch.stack([fused[fusion] for fused in layers])
            choice = {"part": part, "head": fusion, "weighting": weighting}
            assert_close(compute_map(model, image, MapChoice(layer="average", **choice)), stack.mean(dim=0))
            plain = compute(model, image, MapChoice(layer="rollout", **choice))
            assert_close(plain.weights, attention.rollout(stack))
            assert plain.hidden_mass == 0
            kept, hidden = attention.discard_smallest(stack, 0.6)
            thinned = compute(model, image, MapChoice(layer="rollout", discard=0.6, **choice))
            assert_close(thinned.weights, attention.rollout(kept))
            assert thinned.hidden_mass == pytest.approx(float(hidden.mean()))


def test_all_choices_are_distinct_maps_whose_rows_sum_to_one(small_model):
    for weighting in attention.WEIGHTINGS:
        model = small_model(encoder_layers=1)
        image = picture(model)
        for part, num_layers in (("encoder", 1), ("decoder", 2)):
            offered = all_choices(model.config, part, weighting)
            assert len(set(offered)) == len(offered) == 2 * 3 + num_layers * (4 + 4)
            for choice in offered:
                weights = compute_map(model, image, choice)
                assert weights.shape == (12, 12)
                assert weights.min() >= 0
                if choice.head != "spread":
                    assert_close(weights.sum(dim=-1), torch.ones(12, dtype=torch.float64))
        with pytest.raises(ValueError, match="part must be one of"):
            all_choices(model.config, "middle")


def test_a_padded_image_has_the_maps_of_the_image_alone(small_model):
    for weighting in attention.WEIGHTINGS:
        model = small_model(input_size=(16, None), max_width=48)
        image = torch.rand(1, 1, 16, 24, dtype=torch.float64)
        beside, widths = torch.nn.functional.pad(image, (0, 24)), torch.tensor([24])
        real = torch.tensor([0, 1, 2, 6, 7, 8])  # 3 of 6 columns in each of two rows
        choices = [*all_choices(model.config, "encoder", weighting), *all_choices(model.config, "decoder", weighting)]
        choices += [MapChoice(layer="rollout", weighting=weighting, discard=0.5)]
        for choice in choices:
            expected = torch.zeros(12, 12, dtype=torch.float64)
            alone, padded = compute(model, image, choice), compute(model, beside, choice, widths)
            expected[real[:, None], real] = alone.weights
            assert_close(padded.weights, expected)
            assert padded.hidden_mass == pytest.approx(alone.hidden_mass)


def test_equal_heads_have_no_spread():
    model = create_autoencoder(preset=None, input_size=(24, 32), patch_size=8, latent_dim=16, num_heads=4).eval()
    with torch.no_grad():
        model.encoder.blocks[1].attn.qkv.weight[:32] = 0  # no query and no key: every head is uniform
        spread = compute_map(model, torch.rand(1, 1, 24, 32), MapChoice(layer="1", head="spread"))
    np.testing.assert_allclose(spread.numpy(), 0, atol=1e-7)


def test_a_map_carries_no_gradient(small_model):
    model = small_model()
    for name in ("encoder/0/mean", "encoder/0/1", "decoder/rollout/max"):
        for weighting in attention.WEIGHTINGS:
            assert not compute_map(model, picture(model), MapChoice.from_name(name, weighting)).requires_grad


@pytest.mark.parametrize("weighting", attention.WEIGHTINGS)
def test_colour_tops_are_those_of_all_heads_and_layers(small_model, weighting):
    model = small_model()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.mul_(12)  # sharp enough to pass 1.5 x uniform
    image = torch.rand(1, 1, 24, 32, dtype=torch.float64)
    places = itertools.product(PARTS, range(2))
    maps = [all_heads(model, image, layer, part, weighting)[0] for part, layer in places]
    tops = colour_tops(model, image, weighting)
    largest = max(float(one.max()) for one in maps) * 12
    percentile = max(float(np.percentile(one.mean(dim=0).numpy(), 99.5)) for one in maps) * 12
    assert percentile > 1.5
    assert tops == pytest.approx({"shared": percentile, "full": largest}, rel=1e-9)


def test_uniform_attention_keeps_a_range_in_which_it_looks_uniform(small_model):
    model = small_model()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.zero_()
                block.attn.qkv.bias.zero_()
    assert colour_tops(model, torch.rand(1, 1, 24, 32, dtype=torch.float64)) == {"shared": 1.5, "full": 1.5}
