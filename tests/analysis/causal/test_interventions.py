"""Interventions: the identity changes nothing, replacements do what they say, occlusion agrees with a plain loop."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tae import ModelConfig, TransformerAutoencoder
from tae.analysis import causal

SQUARE = ModelConfig(input_size=(32, 32), patch_size=8, latent_dim=16, num_heads=2, encoder_layers=2, decoder_layers=2)
CONFIGS = {
    "square": SQUARE,
    "odd size": replace(SQUARE, input_size=(19, 37)),
    "one token": replace(SQUARE, patch_size=None),
    "any width": replace(SQUARE, input_size=(16, None), max_width=64),
    "explicit attention": replace(SQUARE, use_flash_attention=False),
}
PARTS = ["encoder", "decoder"]
ANY_WIDTH = CONFIGS["any width"]


def build(config: ModelConfig, seed: int = 0) -> TransformerAutoencoder:
    """A random model in float64, with attention far from uniform, so that replacing it shows."""
    torch.manual_seed(seed)
    model = TransformerAutoencoder(config).double().eval()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.qkv.weight.mul_(3)
    return model


def draw_images(config: ModelConfig, count: int = 3, seed: int = 1) -> Tensor:
    height, width = config.input_size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, height, width or 40, generator=generator, dtype=torch.float64)


def keep(layer: int, weights: Tensor) -> Tensor:
    return weights


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("layers", [None, [], [1], [0, 1]])
def test_weights_that_are_kept_give_the_plain_reconstruction(config, part, layers):
    model, images = build(config), draw_images(config)
    assert_close(causal.reconstruct_with(model, images, keep, part, layers), model(images)[0])


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_kept_give_the_plain_reconstruction_of_mixed_widths(part):
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH), torch.tensor([40, 9, 25])
    recon = causal.reconstruct_with(model, images, keep, part, widths=widths)
    assert_close(recon, model(images, widths=widths)[0])


@pytest.mark.parametrize("part", PARTS)
def test_a_replacement_gets_the_weights_of_every_head_in_the_chosen_layers_only(part):
    model, images = build(SQUARE), draw_images(SQUARE)
    seen = {}

    def watch(layer, weights):
        seen[layer] = weights
        return weights

    causal.reconstruct_with(model, images, watch, part, layers=[1])
    assert list(seen) == [1]
    assert_close(seen[1], model.get_attention_heads(images, 1, part=part))


def test_a_replacement_sees_zero_rows_and_columns_where_there_is_padding():
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2), torch.tensor([40, 16])

    def check(layer, weights):
        assert_close(weights, model.get_attention_heads(images, layer, widths=widths))
        assert weights[1, :, [2, 3, 4]].abs().max() == 0
        return weights

    causal.reconstruct_with(model, images, check, widths=widths)


def test_what_is_placed_on_padding_is_ignored():
    model, images, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2), torch.tensor([40, 16])

    def leak(layer, weights):
        return torch.where(weights == 0, 5.0, weights)

    for part in PARTS:
        recon = causal.reconstruct_with(model, images, leak, part, widths=widths)
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
    recon = causal.reconstruct_with(model, images, causal.uniform)
    assert_close(recon, expected)
    assert (recon - model(images)[0]).abs().max() > 1e-3


def test_uniform_gives_each_of_two_tokens_one_half_and_padding_nothing():
    weights = torch.tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[None, None]
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])[None, None]
    assert torch.equal(causal.uniform(0, weights), expected)


def test_a_row_of_zeros_is_a_query_that_reads_nothing():
    config = replace(SQUARE, encoder_layers=1)
    model, images = build(config), draw_images(config)
    block = model.encoder.blocks[0]
    with torch.no_grad():
        x, _ = model.layer_input(images, 0)
        x = x + block.attn.proj.bias
        x = x + block.mlp(block.norm2(x))
        expected = model.decode(model.encoder.norm(x).mean(dim=1))
    assert_close(causal.reconstruct_with(model, images, lambda layer, weights: weights * 0), expected)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_images_own_attention_reproduces_its_reconstruction(config, part):
    model, images = build(config), draw_images(config)
    recon = causal.reconstruct_with(model, images, causal.from_images(model, images, part), part)
    assert_close(recon, model(images)[0])


@pytest.mark.parametrize("part", PARTS)
def test_from_images_brings_the_weights_of_an_undisturbed_pass(part):
    model, images, others = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, seed=2)
    replacement, seen = causal.from_images(model, others, part), {}

    def watch(layer, weights):
        seen[layer] = replacement(layer, weights)
        return seen[layer]

    recon = causal.reconstruct_with(model, images, watch, part)
    for layer in range(2):
        assert_close(seen[layer], model.get_attention_heads(others, layer, part=part))
    assert (recon - model(images)[0]).abs().max() > 1e-3


def test_one_other_image_serves_a_whole_batch():
    model, images, other = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, 1, seed=2)
    alone = causal.reconstruct_with(model, images, causal.from_images(model, other))
    repeated = causal.reconstruct_with(model, images, causal.from_images(model, other.expand(3, -1, -1, -1)))
    assert_close(alone, repeated)


def test_swapped_is_the_attention_of_the_image_before():
    model, images = build(SQUARE), draw_images(SQUARE)
    # In layer 0 nothing is disturbed yet, so that both ways to another image's attention are the same.
    before = causal.from_images(model, images[[2, 0, 1]])
    swapped = causal.reconstruct_with(model, images, causal.swapped, layers=[0])
    assert_close(swapped, causal.reconstruct_with(model, images, before, layers=[0]))
    assert (swapped - model(images)[0]).abs().max() > 1e-3


def test_images_that_are_alike_can_swap_attention_freely():
    model, images = build(SQUARE), draw_images(SQUARE, 1).expand(3, -1, -1, -1)
    assert_close(causal.reconstruct_with(model, images, causal.swapped), model(images)[0])


@pytest.mark.parametrize("part", PARTS)
def test_the_mean_map_is_the_mean_of_the_heads_weights(part):
    model, images, others = build(SQUARE), draw_images(SQUARE), draw_images(SQUARE, 5, seed=2)
    replacement = causal.mean_map(model, others, part)
    own = torch.full((3, 2, 16, 16), 1 / 16, dtype=torch.float64)
    for layer in range(2):
        expected = model.get_attention_heads(others, layer, part=part).mean(dim=0)
        for weights in replacement(layer, own):
            assert_close(weights, expected)
    recon = causal.reconstruct_with(model, images, replacement, part)
    assert (recon - model(images)[0]).abs().max() > 1e-3


def test_the_mean_map_of_mixed_widths_leaves_out_images_in_which_a_query_is_padding():
    model, others, widths = build(ANY_WIDTH), draw_images(ANY_WIDTH, 2, seed=2), torch.tensor([40, 16])
    own = model.get_attention_heads(draw_images(ANY_WIDTH, 1), 0)
    mean = causal.mean_map(model, others, widths=widths)(0, own)[0]
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
        replacement = causal.uniform if name == "uniform" else causal.from_images(model, others, part, widths)
        return causal.reconstruct_with(model, images, replacement, part, widths=widths)

    together = recon(images, others, widths)
    for number, width in enumerate(widths.tolist()):
        one = (slice(number, number + 1), slice(None), slice(None), slice(width))
        assert_close(together[one], recon(images[one], others[one], None))
        assert together[number, :, :, width:].abs().sum() == 0


def test_wider_images_lend_attention_to_a_narrower_one_by_their_real_share():
    model, images, others = build(ANY_WIDTH), draw_images(ANY_WIDTH, 1), draw_images(ANY_WIDTH, 1, seed=2)
    widths = torch.tensor([16])
    replacement = causal.from_images(model, others)
    lent = replacement(0, model.get_attention_heads(images, 0, widths=widths))[0]
    kept = model.get_attention_heads(others, 0)[0][:, [0, 1, 5, 6]][:, :, [0, 1, 5, 6]]
    assert_close(lent[:, [0, 1, 5, 6]][:, :, [0, 1, 5, 6]], kept / kept.sum(dim=-1, keepdim=True))
    assert_close(lent.sum(), torch.tensor(8.0, dtype=torch.float64))  # 2 heads, 4 real queries, nothing on padding


def test_attention_that_does_not_fit_is_refused():
    model, images = build(ANY_WIDTH), draw_images(ANY_WIDTH)
    narrow = causal.from_images(model, images, widths=torch.tensor([40, 9, 25]))
    with pytest.raises(ValueError, match="at least as wide"):
        causal.reconstruct_with(model, images, narrow)
    with pytest.raises(ValueError, match="in a batch of the same width"):
        causal.reconstruct_with(model, images, causal.from_images(model, images[..., :24]))
    with pytest.raises(ValueError, match="one or as many"):
        causal.reconstruct_with(model, images, causal.from_images(model, images[:2]))
    with pytest.raises(ValueError, match="at least 2 to swap"):
        causal.reconstruct_with(model, images[:1], causal.swapped)
    with pytest.raises(ValueError, match=r"replaced weights must be \(3, 2, 10, 10\), got \(3, 2, 10\)"):
        causal.reconstruct_with(model, images, lambda layer, weights: weights[..., 0])
    with pytest.raises(ValueError, match=r"layers must be from 0 to 1, got \[2\]"):
        causal.reconstruct_with(model, images, keep, layers=[2])
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder', got 'middle'"):
        causal.reconstruct_with(model, images, keep, part="middle")


@pytest.mark.parametrize("part", PARTS)
def test_one_token_has_no_attention_to_replace(part):
    config = CONFIGS["one token"]
    model, images = build(config), draw_images(config)
    for replacement in (causal.uniform, causal.swapped, causal.mean_map(model, images, part)):
        assert_close(causal.reconstruct_with(model, images, replacement, part), model(images)[0])


def test_interventions_leave_the_model_as_it_was_while_others_use_it():
    model, images = build(SQUARE), draw_images(SQUARE)
    before, plain = copy.deepcopy(model.state_dict()), model(images)[0]
    modules = {name: set(vars(module)) for name, module in model.named_modules()}

    def intervene(_: int) -> Tensor:
        return causal.reconstruct_with(model, images, causal.uniform)

    with ThreadPoolExecutor(4) as pool:
        disturbed = pool.map(intervene, range(20))
        undisturbed = pool.map(lambda _: model(images)[0], range(20))
        for recon in disturbed:
            assert torch.equal(recon, intervene(0))
        for recon in undisturbed:
            assert torch.equal(recon, plain)
    causal.occlusion_effect(model, images[:1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("baseline", [1.0, 0.25, "mean", "image"])
def test_occlusion_agrees_with_covering_each_patch_by_hand(config, baseline):
    model, image = build(config), draw_images(config, 1)
    other = draw_images(config, 1, seed=2)
    cover = {"mean": torch.full_like(image, image.mean().item()), "image": other}.get(
        baseline, torch.full_like(image, baseline if isinstance(baseline, float) else 0)
    )
    rows, columns = config.grid_for(image.shape[3])
    height, width = config.tile_size
    expected = []
    for row in range(rows):
        for column in range(columns):
            covered = image.clone()
            place = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
            covered[place] = cover[place]
            expected.append((model(covered)[0] - model(image)[0]).square().mean())
    effect = causal.occlusion_effect(model, image, other if baseline == "image" else baseline, batch_size=3)
    assert_close(effect, torch.stack(expected))
    assert effect.min() > 0


def test_occlusion_of_some_tokens_is_that_part_of_all_in_their_order():
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    everywhere = causal.occlusion_effect(model, image)
    tokens = [9, 0, 9, 15]
    assert everywhere.shape == (16,)
    for chosen in (tokens, torch.tensor(tokens)):
        assert_close(causal.occlusion_effect(model, image, tokens=chosen, batch_size=2), everywhere[tokens])
    assert causal.occlusion_effect(model, image, tokens=[]).shape == (0,)


def test_covering_blank_with_blank_has_exactly_no_effect():
    model = TransformerAutoencoder(SQUARE).eval()  # float32, where rounding would show
    image = torch.ones(1, 1, 32, 32)
    image[..., 8:16, 16:24] = 0.3
    effect = causal.occlusion_effect(model, image)
    assert effect.nonzero().flatten().tolist() == [6]
    assert causal.occlusion_effect(model, image, baseline=image).abs().max() == 0


def test_occlusion_refuses_what_does_not_fit():
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 32, 32\)"):
        causal.occlusion_effect(model, image.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match=r"tokens must be from 0 to 15, got \[3, 16\]"):
        causal.occlusion_effect(model, image, tokens=[3, 16])
    with pytest.raises(ValueError, match="baseline must be a grey, 'mean', 'blur', or an image, got 'black'"):
        causal.occlusion_effect(model, image, baseline="black")
    with pytest.raises(ValueError, match=r"baseline must be \(1, 1, 32, 32\) like the image, got \(1, 1, 8, 8\)"):
        causal.occlusion_effect(model, image, baseline=torch.ones(1, 1, 8, 8))


def test_foreground_is_where_a_single_pixel_is_dark_enough():
    image = torch.ones(1, 1, 19, 37)  # 3 x 5 patches, the last row and column cut
    image[..., 18, 36] = 0.94
    image[..., 7, 8] = 0.0
    image[..., 12, 20] = 0.96
    assert causal.foreground_tokens(image, CONFIGS["odd size"]).tolist() == [1, 14]
    assert causal.foreground_tokens(torch.ones(1, 1, 19, 37), CONFIGS["odd size"]).tolist() == []


def test_trivial_predictors_by_hand():
    config = replace(SQUARE, input_size=(8, 16))  # two patches
    image = torch.ones(1, 1, 8, 16)
    image[..., :4, 8:] = 0.2
    found = causal.trivial_predictors(image, config)
    assert_close(found["ink in the patch"], torch.tensor([0.0, 0.4]))
    assert_close(found["contrast in the patch"], torch.tensor([0.0, 0.4]))
    assert_close(found["nearness to the centre"], torch.tensor([-4.0, -4.0]))


def test_the_patch_in_the_middle_is_nearest_to_the_centre_of_the_image_not_of_the_padded_grid():
    config = replace(SQUARE, input_size=(24, 33))  # 3 x 5 patches, the last column one pixel wide
    nearness = causal.trivial_predictors(torch.ones(1, 1, 24, 33), config)["nearness to the centre"]
    assert nearness.reshape(3, 5)[1].tolist() == [-12.5, -4.5, -3.5, -11.5, -19.5]
    assert nearness[0].item() == pytest.approx(-np.hypot(8, 12.5))


def test_the_random_order_is_the_same_for_the_same_picture_and_new_for_another():
    one, other = draw_images(SQUARE, 2).split(1)
    first = causal.trivial_predictors(one, SQUARE)["random"]
    assert torch.equal(first, causal.trivial_predictors(one.clone(), SQUARE)["random"])
    assert not torch.equal(first, causal.trivial_predictors(other, SQUARE)["random"])
    assert not torch.equal(first, causal.trivial_predictors(one, SQUARE, seed=1)["random"])


def test_spearman_compares_orders():
    values = torch.tensor([0.1, 3.0, 2.0, 10.0])
    assert causal.spearman(values, values.exp()) == pytest.approx(1)
    assert causal.spearman(values, -values.numpy()) == pytest.approx(-1)
    # Ranks 1 2 3 4 and 1.5 1.5 3 4: covariance 4.5, variances 5 and 4.5.
    assert causal.spearman(torch.arange(4), torch.tensor([5, 5, 6, 7])) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_spearman_is_symmetric_and_knows_only_ranks(values, seed):
    a = np.array(values, float)
    b = np.random.default_rng(seed).permutation(a)
    score = causal.spearman(a, b)
    assert score == pytest.approx(causal.spearman(b, a), nan_ok=True)
    assert score == pytest.approx(causal.spearman(a**3 + 7, b), nan_ok=True)
    assert np.isnan(score) == (len(set(values)) == 1)


def test_spearman_is_undefined_for_a_constant_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(causal.spearman(torch.ones(3), torch.arange(3)))
        assert np.isnan(causal.spearman(torch.ones(1), torch.ones(1)))
        assert np.isnan(causal.spearman(torch.ones(0), torch.ones(0)))
