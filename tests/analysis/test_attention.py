"""Attention in numbers: hand-worked maps, invariants, and the recomputed weights against fused attention."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tae import ModelConfig, TransformerAutoencoder
from tae.analysis import attention
from tests.analysis.reference import all_heads

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


def test_rollout_by_hand():
    # Half identity: [[.9, .1], [.2, .8]], then [[.75, .25], [.05, .95]]; the last one stands on the left.
    expected = torch.tensor([[0.725, 0.275], [0.235, 0.765]], dtype=torch.float64)
    assert_close(attention.rollout([FIRST, LAST]), expected)
    assert_close(attention.rollout(torch.stack([FIRST, LAST])[:, None])[0], expected)
    assert torch.equal(attention.rollout(one for one in [FIRST, LAST]), attention.rollout([FIRST, LAST]))
    # A third of three keys: .1 goes from each row. Then rows sum to 1 again, half identity, last @ first.
    first = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.3, 0.1, 0.6]], dtype=torch.float64)
    kept = torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3], [1 / 3, 0, 2 / 3]], dtype=torch.float64)
    mixed = (kept + torch.eye(3)) / 2
    thinned, hidden = attention.discard_smallest(first, 0.34)
    assert_close(attention.rollout([thinned, thinned]), mixed @ mixed)
    assert_close(hidden, torch.full((3,), 0.1, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least one layer"):
        attention.rollout([])


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 9), st.integers(0, 3), st.floats(0, 0.999))
def test_rollout_rows_sum_to_one_at_each_step_also_with_padding_and_discarded_weights(
    seed, num_layers, num_real, more, discard
):
    maps = attention.discard_smallest(random_maps(seed, num_layers, 2, num_real, num_real), discard)[0]
    for steps in range(1, num_layers + 1):
        chained = attention.rollout(padded(maps[:steps], num_real + more))
        assert_close(chained, padded(attention.rollout(maps[:steps]), num_real + more))
        assert_close(chained.sum(dim=-1)[:, :num_real], torch.ones(2, num_real, dtype=torch.float64))
        assert chained.min() >= 0
    identity = torch.eye(num_real, dtype=torch.float64)
    kept, hidden = attention.discard_smallest(identity.expand(num_layers, -1, -1), discard)
    assert torch.equal(attention.rollout(kept), identity) and not hidden.any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.9, 0.99]))
def test_discarding_drops_the_smallest_of_each_row_and_tells_their_mass(seed, num_tokens, discard):
    maps = random_maps(seed, 2, num_tokens, num_tokens)
    kept, hidden = attention.discard_smallest(maps, discard)
    dropped = int(discard * num_tokens)
    order = maps.sort(dim=-1)
    assert_close(hidden, order.values[..., :dropped].sum(dim=-1))
    expected = maps.scatter(-1, order.indices[..., :dropped], 0)
    assert_close(kept, expected / expected.sum(dim=-1, keepdim=True))


def test_discarding_counts_real_keys_only_and_padding_hides_nothing():
    maps = random_maps(5, 1, 4, 4)
    kept, hidden = attention.discard_smallest(padded(maps, 9), 0.5)
    alone, hidden_alone = attention.discard_smallest(maps, 0.5)
    assert_close(kept, padded(alone, 9))
    assert_close(hidden[:, :4], hidden_alone)
    assert torch.equal(hidden[:, 4:], torch.zeros(1, 5, dtype=torch.float64))


def test_equal_weights_are_kept_together_so_that_no_order_of_patches_decides():
    uniform = torch.full((4, 4), 0.25)
    assert torch.equal(attention.discard_smallest(uniform, 0.9)[0], uniform)
    ties = torch.tensor([[0.1, 0.3, 0.3, 0.3]]).expand(4, 4)
    kept, hidden = attention.discard_smallest(ties, 0.5)
    assert_close(kept, torch.tensor([[0, 1 / 3, 1 / 3, 1 / 3]]).expand(4, 4))
    assert_close(hidden, torch.full((4,), 0.1))


def test_29_of_100_keys_are_29_and_a_share_out_of_range_is_refused():
    row = torch.arange(1.0, 101, dtype=torch.float64).expand(100, 100)  # 0.29 * 100 is 28.999... in floats
    assert int((attention.discard_smallest(row / row.sum(dim=-1, keepdim=True), 0.29)[0][0] == 0).sum()) == 29
    for discard in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="discard must be from 0 to less than 1"):
            attention.discard_smallest(FIRST, discard)


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


def test_distance_by_hand():
    assert_close(attention.distance(FIRST, (1, 2), 16), torch.tensor([0.2 * 16, 0.4 * 16], dtype=torch.float64))
    across = torch.zeros(1, 6, 6)
    across[0, 0, 5] = 1  # from row 0, column 0 to row 1, column 2 of a 2 x 3 grid
    assert attention.distance(across, (2, 3), 8)[0, 0].item() == pytest.approx(8 * math.hypot(1, 2))
    for rows, columns in ((1, 1), (3, 14), (13, 13)):  # from a patch to itself it is exactly 0
        assert not attention.distance(torch.eye(rows * columns)[None], (rows, columns), 16).any()
    with pytest.raises(ValueError, match="grid must hold 2 patches, got 2 x 2"):
        attention.distance(FIRST, (2, 2), 8)


def test_distance_agrees_with_a_plain_double_loop():
    rows, columns, side = 5, 7, 8
    maps = random_maps(1, 2, rows * columns, rows * columns)
    expected = torch.zeros(2, rows * columns, dtype=torch.float64)
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, across = query // columns - key // columns, query % columns - key % columns
            expected[:, query] += maps[:, query, key] * side * math.hypot(down, across)
    assert_close(attention.distance(maps, (rows, columns), side), expected)


@given(maps_of_any_kind, st.integers(0, 4))
def test_received_sums_to_one_and_padding_receives_nothing(maps, padding):
    assert_close(attention.received(FIRST), torch.tensor([0.6, 0.4], dtype=torch.float64))
    num_real = maps.shape[-1]
    received = attention.received(padded(maps, num_real + padding))
    assert_close(received.sum(dim=-1), torch.ones(len(maps), dtype=torch.float64))
    assert_close(received[:, :num_real], attention.received(maps))
    assert torch.equal(received[:, num_real:], torch.zeros(len(maps), padding, dtype=torch.float64))


def test_a_map_is_practically_uniform_while_its_largest_weight_is_under_one_and_a_half_times_uniform():
    for largest, is_uniform in ((0.25, True), (0.374, True), (0.376, False), (1.0, False)):
        maps = torch.full((2, 4, 4), 0.25)
        maps[1, 2] = (1 - largest) / 3
        maps[1, 2, 3] = largest
        assert attention.is_practically_uniform(maps) is is_uniform
    assert attention.is_practically_uniform(padded(torch.full((2, 2), 0.5), 4)), "padding is no token"


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
    sunk[:3, 3] = 0.01  # seventeen of twenty queries are too few
    assert attention.sinks(sunk)[0].tolist() == [11] and attention.sinks(sunk, share=0.85)[0].tolist() == [3, 11]
    # Weights of 20 x uniform, but each key receives 1 x uniform: a key that one query alone feeds is no sink.
    tokens, mass = attention.sinks(torch.eye(20))
    assert len(tokens) == 0 and mass == 0


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
        assert attention.is_practically_uniform(array) == attention.is_practically_uniform(maps)
        assert attention.sinks(array[0], 1.2)[0].tolist() == attention.sinks(maps[0], 1.2)[0].tolist()


def kobayashi(model: TransformerAutoencoder, images: Tensor, layer: int, part: str) -> tuple[Tensor, Tensor]:
    """||alpha f(x)|| of each head (B, heads, N, N) and ||sum over heads|| (B, N, N), written out one pair at a time."""
    tokens, _ = model.layer_input(images, layer, part)
    block = (model.encoder if part == "encoder" else model.decoder).blocks[layer]
    x, dim = block.norm1(tokens), tokens.shape[-1]
    heads, side = block.attn.num_heads, dim // block.attn.num_heads
    weights = model.get_attention_heads(images, layer, part=part)
    norms = torch.zeros_like(weights)
    together = torch.zeros_like(weights[:, 0])
    for image in range(len(x)):
        for key in range(x.shape[1]):
            value = block.attn.qkv.weight[2 * dim :] @ x[image, key] + block.attn.qkv.bias[2 * dim :]
            moved = [
                block.attn.proj.weight[:, head * side : (head + 1) * side] @ value[head * side : (head + 1) * side]
                for head in range(heads)
            ]
            for query in range(x.shape[1]):
                alphas = weights[image, :, query, key]
                for head in range(heads):
                    norms[image, head, query, key] = (alphas[head] * moved[head]).norm()
                together[image, query, key] = (alphas[:, None] * torch.stack(moved)).sum(dim=0).norm()
    return norms, together


@torch.no_grad()
def test_value_weighting_agrees_with_one_pair_at_a_time(small_model):
    model = small_model(input_size=(24, 16))
    images = torch.rand(2, 1, 24, 16, dtype=torch.float64)
    for part in ("encoder", "decoder"):
        for layer, (block, tokens, mask) in enumerate(attention.each_layer(model, images, part)):
            norms, together = kobayashi(model, images, layer, part)
            assert_close(all_heads(model, images, layer, part), attention.normalised(norms))
            assert_close(attention.value_weighted_sum(block, tokens, mask), attention.normalised(together))


@torch.no_grad()
def hand_worked_block(signs: tuple[float, float]):
    """Two heads of one number each; both give both keys weight 1/2 and move them by +-3 and +-1 in one direction."""
    config = ModelConfig(input_size=(2, 4), patch_size=2, latent_dim=4, num_heads=2, encoder_layers=1, decoder_layers=1)
    block = TransformerAutoencoder(config).double().encoder.blocks[0]
    for parameter in (block.attn.qkv.weight, block.attn.qkv.bias, block.attn.proj.weight, block.attn.proj.bias):
        parameter.zero_()
    block.attn.proj.bias.fill_(100)  # belongs to no token
    # norm1 turns (1, 1, -1, -1) into itself and its opposite into its opposite: the value is 2 or -2, plus a bias of 1.
    block.attn.qkv.weight[8, 0] = block.attn.qkv.weight[10, 0] = 2
    block.attn.qkv.bias[8] = block.attn.qkv.bias[10] = 1
    block.attn.proj.weight[3, 0], block.attn.proj.weight[3, 2] = signs
    tokens = torch.tensor([[[1, 1, -1, -1], [-1, -1, 1, 1]]], dtype=torch.float64)
    return block, tokens


@pytest.mark.parametrize("head", [None, 1])
def test_norms_of_keys_are_those_of_what_they_move_and_of_the_tokens(small_model, head):
    model = small_model()
    image = torch.rand(1, 1, 24, 32, dtype=torch.float64)
    tokens, _ = model.layer_input(image, 1)
    attn = model.encoder.blocks[1].attn
    _, _, v = attn.qkv_heads(model.encoder.blocks[1].norm1(tokens))
    moved = torch.stack([v[0, one] @ attn.proj.weight[:, 4 * one : 4 * one + 4].T for one in range(4)]).norm(dim=-1)
    moved = moved.mean(dim=0) if head is None else moved[head]
    value, length = attention.key_norms(model, image, layer=1, head=head)
    assert_close(value, moved / moved.median())
    assert_close(length, tokens[0].norm(dim=-1) / tokens[0].norm(dim=-1).median())
    over_layers, _ = attention.key_norms(model, image)
    both = [attention.key_norms(model, image, layer=layer)[0] for layer in (0, 1)]
    assert over_layers.median() == 1 and not torch.allclose(over_layers, both[0])


def test_value_weighting_by_hand():
    block, tokens = hand_worked_block((1.0, 2.0))
    # Lengths 3 and 1 (head 0), twice that (head 1), weights 1/2: rows 3/4 and 1/4, for both heads and for their sum.
    expected = torch.tensor([[[0.75, 0.25], [0.75, 0.25]]], dtype=torch.float64)
    for weighted in [*attention.each_head(block, tokens, weighting="values")]:
        assert_close(weighted, expected, rtol=0, atol=1e-5)  # layer norm adds 1e-5 to the variance
    assert_close(attention.value_weighted_sum(block, tokens), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_heads_that_move_a_token_in_opposite_directions_cancel():
    block, tokens = hand_worked_block((1.0, -1.0))
    block.attn.qkv.weight[10, 0], block.attn.qkv.bias[10] = 1, 2  # head 1: values 3 and 1 in the other order of keys
    # Key 0: 3 - 3 = 0; key 1: -1 - 1 = -2. The sum is on key 1 alone, which no single head says.
    summed = attention.value_weighted_sum(block, tokens)
    assert_close(summed, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64), rtol=0, atol=1e-4)
    for weighted in attention.each_head(block, tokens, weighting="values"):
        assert_close(weighted, torch.tensor([[[0.75, 0.25]] * 2], dtype=torch.float64), rtol=0, atol=1e-5)


def test_value_weighting_with_padding_is_that_of_the_image_alone(small_model):
    model = small_model(input_size=(16, None), max_width=48)
    image = torch.rand(1, 1, 16, 24, dtype=torch.float64)
    beside, widths = torch.nn.functional.pad(image, (0, 24)), torch.tensor([24])
    real = torch.tensor([0, 1, 2, 6, 7, 8])  # 3 of 6 columns in each of two rows
    expected = torch.zeros(1, 4, 12, 12, dtype=torch.float64)
    expected[:, :, real[:, None], real] = all_heads(model, image, 1)
    assert_close(all_heads(model, beside, 1, widths=widths), expected)
    alone = attention.value_weighted_sum(*list(attention.each_layer(model, image))[1])
    padded_sum = attention.value_weighted_sum(*list(attention.each_layer(model, beside, widths=widths))[1])
    assert_close(padded_sum[:, real[:, None], real], alone)
    assert_close(padded_sum.sum(dim=-1)[0], torch.zeros(12, dtype=torch.float64).index_fill(0, real, 1))


def test_one_head_at_a_time_gives_the_very_weights_of_all_heads(small_model):
    model = small_model(input_size=(152, None), max_width=640).float()
    images, widths = torch.rand(2, 1, 152, 200), torch.tensor([200, 90])
    for part in ("encoder", "decoder"):
        for layer, (block, tokens, mask) in enumerate(attention.each_layer(model, images, part, widths)):
            whole = model.get_attention_heads(images, layer, part=part, widths=widths)
            assert torch.equal(torch.stack(list(attention.each_head(block, tokens, mask)), dim=1), whole)
            (second,) = attention.each_head(block, tokens, mask, heads=[2])
            assert torch.equal(second, whole[:, 2])


def test_a_block_of_rows_at_a_time_changes_no_value_weighted_sum(small_model, monkeypatch):
    block, tokens, mask = next(attention.each_layer(small_model(), torch.rand(1, 1, 24, 32, dtype=torch.float64)))
    whole = attention.value_weighted_sum(block, tokens, mask)
    monkeypatch.setattr(attention, "ROWS_AT_ONCE", 5)
    assert_close(attention.value_weighted_sum(block, tokens, mask), whole)


def test_recomputed_weights_make_the_fused_output_and_coarse_arithmetic_shows():
    torch.manual_seed(0)
    model = TransformerAutoencoder(replace(CONFIG, input_size=(32, None), max_width=48)).eval()
    images = torch.rand(2, 1, 32, 41)
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, 1e-14)):
        for part in ("encoder", "decoder"):
            for widths in (None, torch.tensor([20, 41])):
                errors = attention.recomputation_errors(model.to(dtype), images.to(dtype), part, widths)
                assert len(errors) == 2 and max(errors) <= most  # rounding, many times over
    coarse = attention.recomputation_errors(model.bfloat16(), images.bfloat16())
    assert min(coarse) > 100 * 1e-6


def test_measures_of_a_model_s_maps_are_the_same_whether_padded_or_not():
    torch.manual_seed(7)
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
