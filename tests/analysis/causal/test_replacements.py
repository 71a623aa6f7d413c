"""Attention replaced: the identity changes nothing, and replacements do what they say."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tae.analysis.causal import occlusion, replacements
from tests.analysis.reference import PARTS, build, draw_images
from tests.configs import ANY_WIDTH, CONFIGS, SQUARE


def keep(layer: int, weights: Tensor) -> Tensor:
    return weights


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_weights_that_are_kept_or_brought_from_the_same_images_give_the_plain_reconstruction(config):
    model, images = build(config), draw_images(config)
    plain = model(images)[0]
    for part in PARTS:
        for layers in (None, [], [1], [0, 1]):
            assert_close(replacements.reconstruct_with(model, images, keep, part, layers), plain)
        assert_close(
            replacements.reconstruct_with(model, images, replacements.from_images(model, images, part), part), plain
        )


def test_weights_that_are_kept_give_the_plain_reconstruction_of_mixed_widths():
    for part in PARTS:
        model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH), torch.tensor([40, 9, 25])
        recon = replacements.reconstruct_with(model, images, keep, part, widths=widths)
        assert_close(recon, model(images, widths=widths)[0])


def test_a_replacement_gets_the_weights_of_every_head_in_the_chosen_layers_only():
    for part in PARTS:
        model, images = build(SQUARE), draw_images(SQUARE)
        seen = {}

        def watch(layer, weights, seen=seen):
            seen[layer] = weights
            return weights

        replacements.reconstruct_with(model, images, watch, part, layers=[1])
        assert list(seen) == [1]
        assert_close(seen[1], model.get_attention_heads(images, 1, part=part))


def test_a_replacement_sees_zero_rows_and_columns_where_there_is_padding():
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2), torch.tensor([40, 16])

    def check(layer, weights):
        assert_close(weights, model.get_attention_heads(images, layer, widths=widths))
        assert weights[1, :, [2, 3, 4]].abs().max() == 0
        return weights

    replacements.reconstruct_with(model, images, check, widths=widths)


def test_permuted_keys_are_as_sharp_and_the_same_for_all_queries_and_images():
    weights = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    found = replacements.permuted_keys(1)(0, weights)
    assert_close(found.sort(dim=-1).values, weights.sort(dim=-1).values)
    for head in range(3):
        keys = [int((weights[0, head, 0] == value).nonzero()) for value in found[0, head, 0]]
        assert sorted(keys) == [*range(6)] and keys != [*range(6)]
        assert torch.equal(found[:, head], weights[:, head][..., keys])
    weights[1, :, 4:], weights[1, :, :, 4:] = 0, 0  # padding stays where it is
    padded = replacements.permuted_keys(1)(0, weights)
    assert padded[1, :, 4:].abs().max() == 0 and padded[1, :, :, 4:].abs().max() == 0
    assert_close(padded.sort(dim=-1).values, weights.sort(dim=-1).values)
    assert not torch.equal(replacements.permuted_keys(2)(0, weights), padded)


def test_what_is_placed_on_padding_is_ignored():
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2), torch.tensor([40, 16])

    def leak(layer, weights):
        return torch.where(weights == 0, 5.0, weights)

    for part in PARTS:
        recon = replacements.reconstruct_with(model, images, leak, part, widths=widths)
        assert_close(recon, model(images, widths=widths)[0])


def test_uniform_weights_by_hand():
    config = replace(SQUARE, encoder_layers=1)
    model, images = build(config), draw_images(config)
    block = model.encoder.blocks[0]
    with torch.no_grad():
        x, _ = model.layer_input(images, 0)
        value = block.attn.qkv(block.norm1(x))[..., 2 * config.latent_dim :]
        x = x + block.attn.proj(value.mean(dim=1, keepdim=True))  # every token gets the mean of all values
        x = x + block.mlp(block.norm2(x))
        expected = model.decode(model.encoder.norm(x).mean(dim=1))
    recon = replacements.reconstruct_with(model, images, replacements.uniform)
    assert_close(recon, expected)
    assert (recon - model(images)[0]).abs().max() > 1e-3


def test_uniform_gives_each_of_two_tokens_one_half_and_padding_nothing():
    weights = torch.tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[None, None]
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])[None, None]
    assert torch.equal(replacements.uniform(0, weights), expected)


def test_a_row_of_zeros_is_a_query_that_reads_nothing():
    config = replace(SQUARE, encoder_layers=1)
    model, images = build(config), draw_images(config)
    block = model.encoder.blocks[0]
    with torch.no_grad():
        x, _ = model.layer_input(images, 0)
        x = x + block.attn.proj.bias
        x = x + block.mlp(block.norm2(x))
        expected = model.decode(model.encoder.norm(x).mean(dim=1))
    assert_close(replacements.reconstruct_with(model, images, lambda layer, weights: weights * 0), expected)


def test_from_images_brings_the_weights_of_an_undisturbed_pass():
    for part in PARTS:
        model, images, others = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, seed=2)
        replacement, seen = replacements.from_images(model, others, part), {}

        def watch(layer, weights, seen=seen, replacement=replacement):
            seen[layer] = replacement(layer, weights)
            return seen[layer]

        recon = replacements.reconstruct_with(model, images, watch, part)
        for layer in range(2):
            assert_close(seen[layer], model.get_attention_heads(others, layer, part=part))
        assert (recon - model(images)[0]).abs().max() > 1e-3


def test_one_other_image_serves_a_whole_batch():
    model, images, other = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, 1, seed=2)
    alone = replacements.reconstruct_with(model, images, replacements.from_images(model, other))
    repeated = replacements.reconstruct_with(
        model, images, replacements.from_images(model, other.expand(3, -1, -1, -1))
    )
    assert_close(alone, repeated)


def test_the_mean_map_is_the_mean_of_the_heads_weights():
    for part in PARTS:
        model, images, others = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, 5, seed=2)
        replacement = replacements.mean_map(model, others, part)
        own = torch.full((3, 2, 16, 16), 1 / 16, dtype=torch.float64)
        for layer in range(2):
            expected = model.get_attention_heads(others, layer, part=part).mean(dim=0)
            for weights in replacement(layer, own):
                assert_close(weights, expected)
        recon = replacements.reconstruct_with(model, images, replacement, part)
        assert (recon - model(images)[0]).abs().max() > 1e-3


def test_the_mean_map_of_mixed_widths_leaves_out_images_in_which_a_query_is_padding():
    model, others, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2, seed=2), torch.tensor([40, 16])
    own = model.get_attention_heads(draw_images(ANY_WIDTH, 1), 0)
    mean = replacements.mean_map(model, others, widths=widths)(0, own)[0]
    heads = model.get_attention_heads(others, 0, widths=widths)
    narrow, wide_only = [0, 1, 5, 6], [2, 3, 4, 7, 8, 9]  # 2 of 5 columns in each of two rows
    assert_close(mean[:, narrow], heads.mean(dim=0)[:, narrow])
    assert_close(mean[:, wide_only], heads[0][:, wide_only])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["uniform", "from images"])
def test_a_padded_batch_of_mixed_widths_equals_the_images_one_by_one(part, name):
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH), torch.tensor([40, 9, 25])
    others = draw_images(ANY_WIDTH, seed=2)

    def recon(images: Tensor, others: Tensor, widths: Tensor | None) -> Tensor:
        replacement = (
            replacements.uniform if name == "uniform" else replacements.from_images(model, others, part, widths)
        )
        return replacements.reconstruct_with(model, images, replacement, part, widths=widths)

    together = recon(images, others, widths)
    for number, width in enumerate(widths.tolist()):
        one = (slice(number, number + 1), slice(None), slice(None), slice(width))
        assert_close(together[one], recon(images[one], others[one], None))
        assert together[number, :, :, width:].abs().sum() == 0


def test_wider_images_lend_attention_to_a_narrower_one_by_their_real_share():
    model, images, others = build(ANY_WIDTH), draw_images(ANY_WIDTH, 1), draw_images(ANY_WIDTH, 1, seed=2)
    widths = torch.tensor([16])
    replacement = replacements.from_images(model, others)
    lent = replacement(0, model.get_attention_heads(images, 0, widths=widths))[0]
    kept = model.get_attention_heads(others, 0)[0][:, [0, 1, 5, 6]][:, :, [0, 1, 5, 6]]
    assert_close(lent[:, [0, 1, 5, 6]][:, :, [0, 1, 5, 6]], kept / kept.sum(dim=-1, keepdim=True))
    assert_close(lent.sum(), torch.tensor(8.0, dtype=torch.float64))  # 2 heads, 4 real queries, nothing on padding


def test_attention_that_does_not_fit_is_refused():
    model, images = build(ANY_WIDTH), draw_images(ANY_WIDTH)
    narrow = replacements.from_images(model, images, widths=torch.tensor([40, 9, 25]))
    with pytest.raises(ValueError, match="at least as wide"):
        replacements.reconstruct_with(model, images, narrow)
    with pytest.raises(ValueError, match="in a batch of the same width"):
        replacements.reconstruct_with(model, images, replacements.from_images(model, images[..., :24]))
    with pytest.raises(ValueError, match="one or as many"):
        replacements.reconstruct_with(model, images, replacements.from_images(model, images[:2]))
    with pytest.raises(ValueError, match=r"replaced weights must be \(3, 2, 10, 10\), got \(3, 2, 10\)"):
        replacements.reconstruct_with(model, images, lambda layer, weights: weights[..., 0])
    with pytest.raises(ValueError, match=r"layers must be from 0 to 1, got \[2\]"):
        replacements.reconstruct_with(model, images, keep, layers=[2])
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder', got 'middle'"):
        replacements.reconstruct_with(model, images, keep, part="middle")


def test_one_token_has_no_attention_to_replace():
    for part in PARTS:
        config = CONFIGS["one token"]
        model, images = build(config), draw_images(config)
        for replacement in (replacements.uniform, replacements.mean_map(model, images, part)):
            assert_close(replacements.reconstruct_with(model, images, replacement, part), model(images)[0])


def test_interventions_leave_the_model_as_it_was_while_others_use_it():
    model, images = build(SQUARE), draw_images(SQUARE)
    before, plain = copy.deepcopy(model.state_dict()), model(images)[0]
    modules = {name: set(vars(module)) for name, module in model.named_modules()}

    def intervene(_: int) -> Tensor:
        return replacements.reconstruct_with(model, images, replacements.uniform)

    with ThreadPoolExecutor(4) as pool:
        disturbed = pool.map(intervene, range(20))
        undisturbed = pool.map(lambda _: model(images)[0], range(20))
        for recon in disturbed:
            assert torch.equal(recon, intervene(0))
        for recon in undisturbed:
            assert torch.equal(recon, plain)
    occlusion.occlude(model, images[:1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
