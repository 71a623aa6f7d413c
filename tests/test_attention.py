"""Attention in numbers: hand-worked maps, invariants, and the recomputed weights against fused attention."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tae import ModelConfig, TransformerAutoencoder, attention

CONFIG = ModelConfig(input_size=(32, 32), patch_size=8, latent_dim=16, num_heads=2, encoder_layers=2, decoder_layers=2)
FIRST = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64)
LAST = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)


def random_maps(seed: int, *shape: int, sharpness: float = 3.0) -> Tensor:
    """Softmax maps of the given shape, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(*shape, generator=generator, dtype=torch.float64)).softmax(dim=-1)


def padded(maps: Tensor, num_tokens: int) -> Tensor:
    """Maps (..., n, n) as the model gives them when n of `num_tokens` tokens are real."""
    more = num_tokens - maps.shape[-1]
    return torch.nn.functional.pad(maps, (0, more, 0, more))


num_tokens = st.shared(st.integers(1, 12))
maps_of_any_kind = st.builds(
    random_maps,
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    num_tokens,
    num_tokens,
    sharpness=st.sampled_from([0.0, 1.0, 30.0, 1000.0]),
)


def test_rollout_of_two_tokens_by_hand():
    # Half identity: [[.9, .1], [.2, .8]], then [[.75, .25], [.05, .95]]; the last one stands on the left.
    expected = torch.tensor([[0.725, 0.275], [0.235, 0.765]], dtype=torch.float64)
    assert_close(attention.rollout([FIRST, LAST]), expected)
    assert_close(attention.rollout(torch.stack([FIRST, LAST])[:, None])[0], expected)


def test_rollout_without_residual_is_the_product_of_the_maps_and_with_nothing_else_the_identity():
    assert_close(attention.rollout([FIRST, LAST], residual=0), LAST @ FIRST)
    assert_close(attention.rollout([FIRST, LAST], residual=1), torch.eye(2, dtype=torch.float64))


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 9),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.2, 0.9, 1.0]),
)
def test_rollout_rows_sum_to_one_after_each_step(seed, num_layers, num_tokens, residual, discarded):
    maps = random_maps(seed, num_layers, 2, num_tokens, num_tokens)
    keep = torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed)) >= discarded
    maps[1:] *= keep[1:]  # weights discarded before the call; the first layer says that all tokens are real
    for steps in range(1, num_layers + 1):
        chained = attention.rollout(maps[:steps], residual)
        assert_close(chained.sum(dim=-1), torch.ones(2, num_tokens, dtype=torch.float64))
        assert chained.min() >= 0


def test_rollout_of_padded_maps_is_that_of_the_real_tokens_and_zero_elsewhere():
    maps = random_maps(0, 3, 2, 5, 5)
    assert_close(attention.rollout(padded(maps, 8)), padded(attention.rollout(maps), 8))


def test_rollout_refuses_what_is_no_stack_of_layers():
    with pytest.raises(ValueError, match="at least one layer"):
        attention.rollout([])
    with pytest.raises(ValueError, match="residual must be from 0 to 1, got 1.5"):
        attention.rollout([FIRST], residual=1.5)


@given(maps_of_any_kind)
def test_entropy_lies_between_zero_and_log_n(maps):
    entropy = attention.entropy(maps)
    assert entropy.shape == maps.shape[:-1]
    assert entropy.min() >= 0
    assert entropy.max() <= math.log(maps.shape[-1]) + 1e-12


def test_entropy_is_zero_for_one_key_and_log_n_for_all_alike():
    assert torch.equal(attention.entropy(torch.eye(5)[None]), torch.zeros(1, 5))
    assert_close(attention.entropy(torch.full((1, 5, 5), 0.2)), torch.full((1, 5), math.log(5)))
    by_hand = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert attention.entropy(FIRST)[0].item() == pytest.approx(by_hand)


@given(st.integers(1, 14), st.integers(1, 14), st.sampled_from([1, 8, 16]))
def test_distance_of_the_identity_is_exactly_zero(rows, columns, patch_size):
    maps = torch.eye(rows * columns)[None]
    assert torch.equal(attention.distance(maps, (rows, columns), patch_size), torch.zeros(1, rows * columns))


def test_distance_by_hand():
    assert_close(attention.distance(FIRST, (1, 2), 16), torch.tensor([0.2 * 16, 0.4 * 16], dtype=torch.float64))
    across = torch.zeros(1, 6, 6)
    across[0, 0, 5] = 1  # from row 0, column 0 to row 1, column 2 of a 2 x 3 grid
    assert attention.distance(across, (2, 3), 8)[0, 0].item() == pytest.approx(8 * math.hypot(1, 2))


def test_distance_agrees_with_a_plain_double_loop():
    rows, columns, side = 5, 7, 8
    maps = random_maps(1, 2, rows * columns, rows * columns)
    expected = torch.zeros(2, rows * columns, dtype=torch.float64)
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, across = query // columns - key // columns, query % columns - key % columns
            expected[:, query] += maps[:, query, key] * side * math.hypot(down, across)
    assert_close(attention.distance(maps, (rows, columns), side), expected)


def test_distance_refuses_a_grid_of_another_size():
    with pytest.raises(ValueError, match="grid must hold 2 patches, got 2 x 2"):
        attention.distance(FIRST, (2, 2), 8)


def test_received_by_hand_is_the_mean_over_queries():
    assert_close(attention.received(FIRST), torch.tensor([0.6, 0.4], dtype=torch.float64))


@given(maps_of_any_kind, st.integers(0, 4))
def test_received_sums_to_one_and_padding_receives_nothing(maps, padding):
    num_real = maps.shape[-1]
    received = attention.received(padded(maps, num_real + padding))
    assert_close(received.sum(dim=-1), torch.ones(len(maps), dtype=torch.float64))
    assert_close(received[:, :num_real], attention.received(maps))
    assert torch.equal(received[:, num_real:], torch.zeros(len(maps), padding, dtype=torch.float64))


def test_x_uniform_of_uniform_weights_is_one():
    assert_close(attention.x_uniform(torch.full((3, 4), 0.25), 4), torch.ones(3, 4))


@pytest.mark.parametrize(("largest", "uniform"), [(0.25, True), (0.374, True), (0.376, False), (1.0, False)])
def test_a_map_is_practically_uniform_while_its_largest_weight_is_under_one_and_a_half_times_uniform(largest, uniform):
    maps = torch.full((2, 4, 4), 0.25)
    maps[1, 2] = (1 - largest) / 3
    maps[1, 2, 3] = largest
    assert attention.is_practically_uniform(maps) is uniform


def test_padding_is_no_token_when_a_map_is_judged_uniform():
    assert attention.is_practically_uniform(padded(torch.full((2, 2), 0.5), 4))


def test_sinks_are_the_keys_that_all_queries_feed():
    sunk = torch.full((20, 20), 0.3 / 18)
    sunk[:, 3], sunk[:, 11] = 0.4, 0.3  # 8 and 6 x uniform
    tokens, mass = attention.sinks(sunk)
    assert tokens.tolist() == [3, 11]
    assert mass == pytest.approx(0.7)
    assert attention.sinks(sunk, threshold=7)[0].tolist() == [3]
    padded_tokens, padded_mass = attention.sinks(padded(sunk, 30))
    assert padded_tokens.tolist() == [3, 11]
    assert padded_mass == pytest.approx(0.7)


def test_a_key_that_one_query_alone_feeds_is_no_sink():
    tokens, mass = attention.sinks(torch.eye(20))  # weights of 20 x uniform, but each key receives 1 x uniform
    assert len(tokens) == 0
    assert mass == 0


def test_head_spread_is_the_standard_deviation_between_heads():
    heads = torch.stack([FIRST, LAST])[None]  # (1, 2, 2, 2)
    assert_close(attention.head_spread(heads), torch.tensor([[[0.15, 0.15], [0.15, 0.15]]], dtype=torch.float64))
    assert torch.equal(attention.head_spread(heads[:, :1]), torch.zeros(1, 2, 2, dtype=torch.float64))


def test_map_correlation_of_a_fixed_layout_is_one_and_of_its_opposite_minus_one():
    fixed = random_maps(2, 6, 6)
    assert attention.map_correlation(fixed.expand(4, 6, 6)) == pytest.approx(1)
    assert attention.map_correlation(torch.stack([fixed, 1 - fixed])) == pytest.approx(-1)


def test_map_correlation_is_the_mean_of_pearson_over_pairs():
    maps = random_maps(3, 5, 6, 6)
    matrix = np.corrcoef(maps.flatten(1).numpy())
    assert attention.map_correlation(maps) == pytest.approx(matrix[np.triu_indices(5, 1)].mean())


def test_map_correlation_needs_two_images():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        attention.map_correlation(random_maps(0, 1, 3, 3))


def test_arrays_count_as_tensors_also_when_they_are_read_only():
    maps = random_maps(4, 2, 6, 6)
    array = maps.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(attention.entropy(array), attention.entropy(maps))
        assert torch.equal(attention.received(array), attention.received(maps))
        assert torch.equal(attention.distance(array, (2, 3), 8), attention.distance(maps, (2, 3), 8))
        assert torch.equal(attention.rollout([array, array]), attention.rollout([maps, maps]))
        assert torch.equal(attention.head_spread(array), attention.head_spread(maps))
        assert attention.map_correlation(array) == attention.map_correlation(maps)
        assert attention.is_practically_uniform(array) == attention.is_practically_uniform(maps)
        assert attention.sinks(array[0], 1.2)[0].tolist() == attention.sinks(maps[0], 1.2)[0].tolist()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("widths", [None, [20, 41]])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-14)])
def test_recomputed_weights_make_the_fused_output(part, widths, dtype, most):
    torch.manual_seed(0)
    model = TransformerAutoencoder(replace(CONFIG, input_size=(32, None), max_width=48)).to(dtype).eval()
    images = torch.rand(2, 1, 32, 41, dtype=dtype)
    widths = None if widths is None else torch.tensor(widths)
    for layer in range(2):
        error = attention.recomputation_error(model, images, layer, part, widths)
        assert error <= most  # rounding, many times over


def test_the_recomputation_error_shows_coarse_arithmetic():
    torch.manual_seed(0)
    model = TransformerAutoencoder(CONFIG).eval()
    images = torch.rand(2, 1, 32, 32)
    fine = attention.recomputation_error(model, images, 1)
    coarse = attention.recomputation_error(model.bfloat16(), images.bfloat16(), 1)
    assert coarse > 100 * fine


def test_the_recomputation_error_refuses_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="layer must be from 0 to 1, got 2"):
        attention.recomputation_error(TransformerAutoencoder(CONFIG), torch.rand(1, 1, 32, 32), 2)


@given(st.integers(0, 2**32 - 1))
def test_maps_of_a_model_hold_the_same_whether_padded_or_not(seed):
    torch.manual_seed(seed)
    config = replace(CONFIG, input_size=(16, None), max_width=48, encoder_layers=1, decoder_layers=1)
    model = TransformerAutoencoder(config).double().eval()
    image = torch.rand(1, 1, 16, 24, dtype=torch.float64)
    alone = model.get_attention_maps(image)["layer_0"]
    beside = model.get_attention_maps(torch.nn.functional.pad(image, (0, 24)), widths=torch.tensor([24]))["layer_0"]
    real = [0, 1, 2, 6, 7, 8]  # 3 of 6 columns in each of two rows
    assert_close(attention.received(beside)[:, real], attention.received(alone))
    assert_close(attention.entropy(beside)[:, real], attention.entropy(alone))
    assert_close(attention.distance(beside, (2, 6), 8)[:, real], attention.distance(alone, (2, 3), 8))
    assert attention.is_practically_uniform(beside) == attention.is_practically_uniform(alone)
