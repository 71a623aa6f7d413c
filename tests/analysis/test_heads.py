"""Layers and heads in numbers: hand-worked maps, uniform attention, a plain float64 reference, and words that hold."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tae import ModelConfig, TransformerAutoencoder
from tae.analysis.attention import received, sinks
from tae.analysis.heads import MEASURES, Spread, head_statistics, locality, statistics_over, uniform_statistics

CONFIG = ModelConfig(input_size=(24, 32), patch_size=8, latent_dim=16, num_heads=4, encoder_layers=2, decoder_layers=2)


def with_ink(height: int = 24, width: int = 32) -> Tensor:
    """A white picture with ink in its first patch and, one pixel wide, in the last."""
    image = torch.ones(1, 1, height, width, dtype=torch.float64)
    image[..., :6, :6] = 0.2
    image[..., -1, -1] = 0.9
    return image


@torch.no_grad()
def made_uniform(model: TransformerAutoencoder) -> TransformerAutoencoder:
    """No queries and no keys: every head treats all patches alike."""
    for part in (model.encoder, model.decoder):
        for block in part.blocks:
            dim = block.attn.qkv.weight.shape[1]
            block.attn.qkv.weight[: 2 * dim] = 0
            block.attn.qkv.bias[: 2 * dim] = 0
    return model


def by_loops(heads: Tensor, columns: int, side: int, foreground: list[int]) -> dict[str, float]:
    """Every measure of one map, pair by pair."""
    n = len(heads)
    entropy = distance = on_foreground = diagonal = 0.0
    gets, feeds = [0.0] * n, [0] * n
    for query, key in itertools.product(range(n), repeat=2):
        weight = float(heads[query, key])
        entropy -= weight * math.log(weight) / math.log(n) / n
        away = math.hypot(query // columns - key // columns, query % columns - key % columns)
        distance += weight * away * side / n
        on_foreground += weight / n * (key in foreground)
        diagonal += weight * (query == key)
        gets[key] += weight / n
        feeds[key] += weight * n > 5
    top = math.ceil(0.05 * n)
    return {
        "entropy": entropy,
        "distance": distance,
        "foreground": on_foreground,
        "diagonal": diagonal,
        "concentration": sum(sorted(gets)[-top:]),
        "sinks": sum(fed >= 0.9 * n for fed in feeds),
    }


def test_measures_agree_with_one_pair_at_a_time(small_model):
    for part in ["encoder", "decoder"]:
        for size in [(24, 32), (20, 70)]:
            model = small_model(input_size=size, encoder_layers=3)
            image = with_ink(*size)
            found = head_statistics(model, image, part)
            rows, columns = model.config.grid
            assert set(found) == set(MEASURES)
            for layer in range(3 if part == "encoder" else 2):
                for head, one in enumerate(model.get_attention_heads(image, layer, part=part)[0]):
                    expected = by_loops(one, columns, 8, [0, rows * columns - 1])
                    for name, values in found.items():
                        assert values.shape == (3 if part == "encoder" else 2, 4)
                        assert values[layer, head] == pytest.approx(expected[name], rel=1e-9), name


def test_uniform_attention_has_the_values_of_the_dashed_line(small_model):
    for size, width in [((24, 32), 32), ((20, None), 70), ((16, None), 5), ((9, 9), 9)]:
        for part in ["encoder", "decoder"]:
            model = made_uniform(small_model(input_size=size, max_width=80))
            image = with_ink(size[0], width)
            expected = uniform_statistics(model.config, image)
            for name, values in head_statistics(model, image, part).items():
                assert set(expected) == set(MEASURES)
                np.testing.assert_allclose(values, expected[name], rtol=1e-9, err_msg=name)


def test_uniform_attention_by_hand():
    values = uniform_statistics(CONFIG, with_ink())
    assert values["foreground"] == 2 / 12
    assert values["concentration"] == 1 / 12  # 5% of 12 keys, rounded up
    two = ModelConfig(input_size=(8, 16), patch_size=8)
    assert uniform_statistics(two, torch.ones(1, 1, 8, 16))["distance"] == 4  # half of the weight, 8 pixels away


@given(st.integers(1, 9), st.integers(1, 9))
def test_uniform_distance_agrees_with_all_pairs(rows, columns):
    config = ModelConfig(input_size=(16 * rows, 16 * columns), patch_size=16)
    places = [(16 * row, 16 * column) for row in range(rows) for column in range(columns)]
    pairs = [math.dist(a, b) for a in places for b in places]
    image = torch.ones(1, 1, 16 * rows, 16 * columns)
    assert uniform_statistics(config, image)["distance"] == pytest.approx(float(np.mean(pairs)))


def test_one_token_has_neither_spread_nor_reach(small_model):
    model = small_model(patch_size=None)
    image = with_ink()
    for name, expected in uniform_statistics(model.config, image).items():
        np.testing.assert_allclose(head_statistics(model, image)[name], expected, err_msg=name)


def test_a_head_that_feeds_one_key_is_concentrated_and_has_a_sink(small_model):
    model = made_uniform(small_model(input_size=(24, 80), num_heads=1, encoder_layers=1))
    block = model.encoder.blocks[0]
    with torch.no_grad():
        block.norm1.weight.fill_(1)
        block.norm1.bias.zero_()
        # Each query is 40 * (1, 0, ...); a key is its token's first number, which token 7 alone has large.
        block.attn.qkv.bias[0] = 40
        block.attn.qkv.weight[16, 0] = 1
        model.encoder.pos_embed.weight.zero_()
        model.encoder.pos_embed.weight[0, 7, 0] = 100
        found = head_statistics(model, torch.ones(1, 1, 24, 80, dtype=torch.float64))
    weights = model.get_attention_heads(torch.ones(1, 1, 24, 80, dtype=torch.float64), 0)[0, 0]
    assert sinks(weights)[0].tolist() == [7] and float(received(weights)[7]) > 0.99
    assert found["sinks"].item() == 1
    assert found["concentration"].item() > 0.99
    assert found["entropy"].item() < 0.05


def test_images_of_any_width_are_measured_on_their_own_grid(small_model):
    model = small_model(input_size=(20, None), max_width=80)
    images = [np.full((20, width), 255, np.uint8) for width in (80, 24, 41)]
    for image in images:
        image[3:9, 3:9] = 40
    shares: list[float] = []
    spread = statistics_over(model, images, "decoder", progress=shares.append)
    assert spread.num_images == 3 and shares == [1 / 3, 2 / 3, 1]
    for number, image in enumerate(images):
        tensor = torch.from_numpy(image / np.float32(255))[None, None].double()
        alone = head_statistics(model, tensor, "decoder")
        for name in MEASURES:
            np.testing.assert_allclose(spread.values[name][number], alone[name], rtol=1e-9)
            assert spread.uniform[name][number] == uniform_statistics(model.config, tensor)[name]
    assert spread.uniform["distance"][0] > spread.uniform["distance"][2] > spread.uniform["distance"][1]


def test_quantiles_are_taken_over_images_of_the_mean_of_heads():
    values = np.arange(101.0)[:, None, None] * np.array([[1.0, 3.0], [10.0, 10.0]])  # (images, L, heads)
    spread = Spread("encoder", {"entropy": values}, {})
    np.testing.assert_allclose(spread.of_layers("entropy")[:, 0], [10, 50, 100, 150, 190])


def test_progress_runs_to_one_and_bad_input_is_refused(small_model):
    model = small_model()
    shares: list[float] = []
    head_statistics(model, with_ink(), progress=shares.append)
    assert shares == [number / 8 for number in range(1, 9)]
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 24, 32\)"):
        head_statistics(model, torch.ones(2, 1, 24, 32, dtype=torch.float64))
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder', got 'middle'"):
        head_statistics(model, with_ink(), "middle")
    with pytest.raises(ValueError, match="at least one, got none"):
        statistics_over(model, [])


def of_distances(by_layer: Sequence[Sequence[float]], uniform: float = 100.0) -> Spread:
    """Images whose heads all have the given distances, one list of layers for each image."""
    values = np.array(by_layer)[:, :, None].repeat(2, axis=2)
    return Spread("encoder", {"distance": values, "entropy": values}, {"distance": np.full(len(values), uniform)})


def test_locality_states_an_order_only_where_medians_and_images_agree():
    rising = locality(of_distances([[20, 40, 80]] * 9 + [[80, 40, 20]]))
    assert (rising.order, rising.num_farther, rising.num_nearer) == ("rising", 9, 1)
    assert rising.distance.tolist() == [20, 40, 80] and rising.share.tolist() == [0.2, 0.4, 0.8]
    assert locality(of_distances([[20, 40, 80]] * 8 + [[80, 40, 20]] * 2)).order == "none"  # 80% is too few
    assert locality(of_distances([[80, 40, 20]] * 10)).order == "falling"
    assert locality(of_distances([[20, 80, 40]] * 10)).order == "none"
    assert locality(of_distances([[20, 20, 20]] * 10)).order == "none"
    assert locality(of_distances([[20]] * 10)).order == "none"


def test_locality_compares_each_image_with_its_own_grid():
    spread = of_distances([[20.0, 30.0], [200.0, 300.0], [300.0, 390.0]])
    spread.uniform["distance"][:] = [50, 500, 600]
    found = locality(spread)
    np.testing.assert_allclose(found.share, [0.4, 0.6])
    assert found.distance.tolist() == [200, 300] and found.uniform == 500


def test_the_sentence_has_the_numbers_and_says_no_more_than_they_do():
    rising = locality(of_distances([[20, 40, 80]] * 10)).sentence
    assert "layer 0 20 px (20%), layer 1 40 px (40%), layer 2 80 px (80%)" in rising
    assert "median of 10 images" in rising and "under uniform attention (100 px)" in rising
    assert "rises from layer to layer" in rising and "farther than the first in 10 of 10 images" in rising
    falling = locality(of_distances([[80, 40, 20]] * 9 + [[20, 40, 80]])).sentence
    assert "falls from layer to layer" in falling and "less far than the first in 9 of 10 images" in falling
    none = locality(of_distances([[20, 80, 40]] * 10)).sentence
    assert "does not rise from layer to layer" in none
    assert "layer 1 reaches farthest, layer 0 least far; in 10 of 10 images the last layer" in none
    for sentence in (rising, falling, none):
        assert "not which features a layer holds" in sentence
    same = locality(of_distances([[20.0, 20.2, 20.4]] * 10))
    assert same.order == "none" and "practically the same in all layers" in same.sentence
    assert "no early or late" in locality(of_distances([[20]])).sentence
    assert "one token" in locality(of_distances([[0.0, 0.0]], uniform=0)).sentence
