"""Knock-outs and edits: nothing changes nothing, each does what a changed copy of the model does, batches agree."""

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.analysis.causal import knockouts
from tae.analysis.causal.interventions import Edit, Knockout, all_knockouts
from tae.analysis.causal.prefix import make_prefix
from tae.analysis.causal.replacements import from_images, identity, permuted_keys, reconstruct_with, uniform
from tae.analysis.maps import PARTS
from tests.configs import SHAPES


def draw(model: TransformerAutoencoder, count: int = 1, seed: int = 1) -> Tensor:
    height, width = model.config.input_size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, height, width or 40, generator=generator, dtype=torch.float64)


def knocked_out_by_hand(
    model: TransformerAutoencoder, images: Tensor, knockout: Knockout, heads: Tensor | None = None, mlp=None
) -> Tensor:
    """A copy of the model whose modules are tampered with; `heads` (N, D) and `mlp` (N, D) stand in."""
    model = copy.deepcopy(model)
    block = (model.encoder if knockout.part == "encoder" else model.decoder).blocks[knockout.layer]
    head_dim = model.config.latent_dim // model.config.num_heads
    if knockout.target == "mlp":

        def put(module, inputs, output: Tensor) -> Tensor:
            return torch.zeros_like(output) if mlp is None else mlp.expand_as(output)

        block.mlp.register_forward_hook(put)  # type: ignore[arg-type]
    else:
        chosen = slice(None)
        if isinstance(knockout.target, int):
            chosen = slice(knockout.target * head_dim, (knockout.target + 1) * head_dim)

        def tamper(module, inputs):
            changed = inputs[0].clone()
            changed[..., chosen] = 0 if heads is None else heads[..., chosen]
            return (changed,)

        block.attn.proj.register_forward_pre_hook(tamper)
    with torch.no_grad():
        return model(images)[0]


def branch_outputs(model: TransformerAutoencoder, images: Tensor, part: str, layer: int) -> tuple[Tensor, Tensor]:
    """What enters the output projection (B, N, D), and what the MLP adds."""
    block = (model.encoder if part == "encoder" else model.decoder).blocks[layer]
    seen = {}
    handles = [
        block.attn.proj.register_forward_pre_hook(lambda module, inputs: seen.update(heads=inputs[0])),
        block.mlp.register_forward_hook(lambda module, inputs, output: seen.update(mlp=output)),
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return seen["heads"], seen["mlp"]


def test_an_intervention_that_changes_nothing_changes_no_bit(small_model):
    for dtype in [torch.float32, torch.float64]:
        for shape in SHAPES.values():
            model = small_model(**shape).to(dtype)
            image = draw(model).to(dtype)
            plain = model(image)[0]
            assert torch.equal(make_prefix(model, image).recon, plain)
            own = knockouts.resample_baseline(model, image)
            for interventions in ([], [Edit("encoder", 0, "temperature", 1)]):
                assert torch.equal(knockouts.reconstruct_knocked_out(model, image, [interventions]), plain)
            for part in PARTS:  # its own heads and MLP in their place
                everything = [Knockout(part, 0, 1), Knockout(part, 1, "attention"), Knockout(part, 1, "mlp")]
                assert torch.equal(knockouts.reconstruct_knocked_out(model, image, [everything], own), plain)


def test_no_sets_give_no_reconstructions(small_model):
    model = small_model()
    assert knockouts.reconstruct_knocked_out(model, draw(model), []).shape == (0, 1, 24, 32)


def test_knocking_out_all_heads_and_mlps_leaves_the_residual_path(small_model):
    for shape in SHAPES.values():
        model = small_model(**shape)
        images = draw(model, 2)
        every = all_knockouts(model.config)
        recon = knockouts.reconstruct_knocked_out(model, images, [[one for one in every if one.target != "attention"]])
        x, _ = model.layer_input(images, 0)
        with torch.no_grad():
            for block in model.encoder.blocks:
                x = x + block.attn.proj.bias  # it belongs to no head
            latent = model.encoder.norm(x).mean(dim=1)
            x = model.decoder.start_tokens(latent, model.config.grid_for(images.shape[3])[1])
            for block in model.decoder.blocks:
                x = x + block.attn.proj.bias
            expected = model.finish(x, "decoder", images.shape[3])
        assert_close(recon, expected)
        branches = [one for one in every if not one.is_head]
        assert_close(knockouts.reconstruct_knocked_out(model, images, [branches]), expected)


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("target", [2, "attention", "mlp"])
def test_a_knockout_is_what_a_tampered_copy_of_the_model_does(small_model, part, target, baseline):
    model = small_model()
    image, others = draw(model), draw(model, 5, seed=2)
    stands_in = {
        "zero": knockouts.ZERO,
        "mean": knockouts.mean_baseline(model, others),
        "resample": knockouts.resample_baseline(model, others[:1]),
    }[baseline]
    for layer in range(2):
        heads, mlp = branch_outputs(model, others, part, layer)
        by_hand = {"zero": (None, None), "mean": (heads.mean(0), mlp.mean(0)), "resample": (heads[0], mlp[0])}
        knockout = Knockout(part, layer, target)
        expected = knocked_out_by_hand(model, image, knockout, *by_hand[baseline])
        assert_close(knockouts.reconstruct_knocked_out(model, image, [[knockout]], stands_in), expected)
        assert (expected - model(image)[0]).abs().max() > 1e-4


def test_all_heads_are_the_attention(small_model):
    model = small_model()
    image, baseline = draw(model), knockouts.mean_baseline(model, draw(model, 3, seed=2))
    heads = [Knockout("decoder", 1, head) for head in range(4)]
    together, attention = knockouts.reconstruct_knocked_out(
        model, image, [heads, [Knockout("decoder", 1, "attention")]], baseline
    )
    assert torch.equal(together, attention)


@pytest.mark.slow
def test_many_sets_in_one_batch_are_each_alone_without_the_prefix(small_model):
    for batch_size in [None, 1, 5]:
        model = small_model()
        image, donor = draw(model), make_prefix(model, draw(model, seed=2))
        sets = [[one] for one in all_knockouts(model.config)]
        sets += [[], [Knockout("encoder", 1, 0), Knockout("decoder", 0, "mlp")], [Edit("decoder", 1, "rows", ())]]
        sets += [
            [Edit("encoder", 1, "mask", (3,)), Knockout("encoder", 1, 2)],
            [Edit("decoder", 0, "temperature", 0.3)],
        ]
        together = knockouts.reconstruct_knocked_out(model, image, sets, donor=donor, batch_size=batch_size)
        assert together.shape == (len(sets), 1, 24, 32)
        for recon, interventions in zip(together, sets, strict=True):
            alone = knockouts.reconstruct_knocked_out(model, image, [interventions], donor=donor)
            assert_close(recon, alone[0])
            if len(interventions) == 1 and isinstance(interventions[0], Knockout):
                assert_close(recon, knocked_out_by_hand(model, image, interventions[0])[0])


def test_one_set_for_each_image_and_one_for_all(small_model):
    model = small_model()
    images = draw(model, 3)
    sets = [[Knockout("encoder", 1, 0)], [], [Knockout("decoder", 0, "mlp")]]
    each = knockouts.reconstruct_knocked_out(model, images, sets)
    for number in range(3):
        one = slice(number, number + 1)
        assert_close(each[one], knockouts.reconstruct_knocked_out(model, images[one], [sets[number]]))
    for_all = knockouts.reconstruct_knocked_out(model, images, sets[:1])
    assert_close(for_all, knocked_out_by_hand(model, images, Knockout("encoder", 1, 0)))


def test_mixed_widths_in_one_batch_equal_the_images_one_by_one(small_model):
    model = small_model(**SHAPES["any width"])
    images, widths = draw(model, 3), torch.tensor([40, 9, 25])
    baseline = knockouts.mean_baseline(model, draw(model, 2, seed=2), torch.tensor([40, 16]))
    sets = [
        [Knockout("encoder", 0, 1), Knockout("decoder", 1, "mlp")],
        [Edit("encoder", 1, "mask", (0,)), Edit("encoder", 1, "weights", "uniform")],
        [Edit("decoder", 0, "temperature", 2), Knockout("decoder", 0, 3)],
    ]
    for one in sets:
        prefix = make_prefix(model, images, widths)
        together = knockouts.reconstruct_knocked_out(model, prefix, [one], baseline)
        for number, width in enumerate(widths.tolist()):
            alone = knockouts.reconstruct_knocked_out(
                model, images[number : number + 1, :, :, :width].clone(), [one], baseline
            )
            assert_close(together[number : number + 1, :, :, :width], alone)
            assert together[number, :, :, width:].abs().sum() == 0


def test_the_mean_baseline_leaves_out_images_in_which_a_token_is_padding(small_model):
    model = small_model(**SHAPES["any width"])
    images, widths = draw(model, 2), torch.tensor([40, 16])
    mean = knockouts.mean_baseline(model, images, widths)
    wide = knockouts.resample_baseline(model, images[:1]).heads["encoder", 1][0]  # (heads, 2, 5, head_dim)
    narrow = knockouts.resample_baseline(model, images[1:, :, :, :16].clone()).heads["encoder", 1][0]
    assert_close(mean.heads["encoder", 1][0][:, :, :2], (wide[:, :, :2] + narrow) / 2)
    assert_close(mean.heads["encoder", 1][0][:, :, 2:], wide[:, :, 2:])
    assert mean.title == "mean over 2 images"


def test_the_mean_baseline_does_not_depend_on_how_images_are_batched(small_model, monkeypatch):
    model = small_model()
    images = draw(model, 5)
    whole = knockouts.mean_baseline(model, images)
    monkeypatch.setattr("tae.analysis.causal.prefix.TOKENS_AT_ONCE", 24)  # two images of 12 tokens
    parts = knockouts.mean_baseline(model, images)
    for place, values in whole.heads.items():
        assert_close(parts.heads[place], values)


def test_temperature_divides_the_scores(small_model):
    model = small_model()
    images = draw(model, 2)
    for temperature in (0.25, 3.0):
        changed = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in (changed.decoder.blocks[1].attn.qkv.weight, changed.decoder.blocks[1].attn.qkv.bias):
                parameter[:16] /= temperature  # the queries
            expected = changed(images)[0]
        edit = Edit("decoder", 1, "temperature", temperature)
        assert_close(knockouts.reconstruct_knocked_out(model, images, [[edit]]), expected)


@pytest.mark.parametrize("part", PARTS)
def test_edits_of_weights_are_the_replacements_they_name(small_model, part):
    model = small_model()
    images, other = draw(model, 2), draw(model, seed=2)
    donor = make_prefix(model, other)
    lent = from_images(model, other, part)

    def without_keys(layer: int, weights: Tensor) -> Tensor:
        kept = weights.clone()
        kept[..., [0, 7]] = 0
        return kept / kept.sum(dim=-1, keepdim=True)

    def one_row(layer: int, weights: Tensor) -> Tensor:
        changed = weights.clone()
        changed[:, :, 5] = lent(layer, weights)[:, :, 5]
        return changed

    replacements = {
        Edit(part, 1, "mask", (7, 0)): without_keys,
        Edit(part, 1, "rows", ()): lent,
        Edit(part, 1, "rows", (5,)): one_row,
        Edit(part, 1, "weights", "uniform"): uniform,
        Edit(part, 1, "weights", "identity"): identity,
        Edit(part, 1, "weights", "permuted"): permuted_keys(),
    }
    for edit, replace in replacements.items():
        expected = reconstruct_with(model, images, replace, part, [1])
        assert_close(knockouts.reconstruct_knocked_out(model, images, [[edit]], donor=donor), expected)
        assert (expected - model(images)[0]).abs().max() > 1e-5


def test_copying_all_tokens_gives_the_other_image(small_model):
    model = small_model()
    images, others = draw(model, 2), draw(model, 2, seed=2)
    everything = Edit("encoder", 0, "tokens", tuple(range(12)))
    recon = knockouts.reconstruct_knocked_out(model, images, [[everything]], donor=make_prefix(model, others))
    assert_close(recon, model(others)[0])


def test_copying_some_tokens_into_a_layer_is_what_a_changed_layer_input_does(small_model):
    model = small_model()
    image, other = draw(model), draw(model, seed=2)
    tokens, _ = model.layer_input(image, 1, "decoder")
    tokens[:, [2, 9]] = model.layer_input(other, 1, "decoder")[0][:, [2, 9]]
    with torch.no_grad():
        expected = model.finish(model.decoder.blocks[1](tokens), "decoder", 32)
    edit = Edit("decoder", 1, "tokens", (2, 9))
    assert_close(knockouts.reconstruct_knocked_out(model, image, [[edit]], donor=make_prefix(model, other)), expected)


def test_edits_and_knockouts_go_together(small_model):
    model = small_model()
    image = draw(model)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.encoder.blocks[0].attn.proj.weight[:, 4:8] = 0  # head 1
        expected = reconstruct_with(changed, image, uniform, layers=[0])
    both = [Edit("encoder", 0, "weights", "uniform"), Knockout("encoder", 0, 1)]
    assert_close(knockouts.reconstruct_knocked_out(model, image, [both]), expected)


def test_reconstructing_from_the_prefix_is_reconstructing(small_model):
    model = small_model(**SHAPES["any width"])
    images, widths = draw(model, 2), torch.tensor([40, 16])
    prefix = make_prefix(model, images, widths)
    for part in PARTS:
        for layers in (None, [1], []):
            expected = reconstruct_with(model, images, uniform, part, layers, widths)
            assert_close(reconstruct_with(model, images, uniform, part, layers, widths, prefix), expected)


def test_knocking_out_leaves_model_and_prefix_as_they_were(small_model):
    model = small_model()
    prefix = make_prefix(model, draw(model))
    before = copy.deepcopy((model.state_dict(), prefix.tokens, prefix.recon))
    sets = [[one] for one in all_knockouts(model.config)]
    sets += [[Edit("encoder", 0, kind, (1,))] for kind in ("mask", "rows", "tokens")]
    knockouts.reconstruct_knocked_out(model, prefix, sets, knockouts.resample_baseline(model, prefix.images), prefix)
    for was, now in zip(before, (model.state_dict(), prefix.tokens, prefix.recon), strict=True):
        assert_close(now, was, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_progress_counts_up_and_can_stop_the_work(small_model):
    model = small_model()
    sets = [[one] for one in all_knockouts(model.config)]
    shares = []
    knockouts.reconstruct_knocked_out(model, draw(model), sets, batch_size=5, progress=shares.append)
    assert shares == [min(5 * step, 24) / 24 for step in range(1, 6)]

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        knockouts.reconstruct_knocked_out(model, draw(model), sets, batch_size=5, progress=stop)


def test_what_does_not_fit_is_refused(small_model):
    model = small_model(**SHAPES["any width"])
    images = draw(model, 3)

    def reconstruct(*interventions, sets=None, **more):
        return knockouts.reconstruct_knocked_out(model, images, sets or [list(interventions)], **more)

    with pytest.raises(ValueError, match="layer must be from 0 to 1 in encoder/2/mlp, got 2"):
        reconstruct(Knockout("encoder", 2, "mlp"))
    with pytest.raises(ValueError, match="head must be from 0 to 3 in decoder/0/4, got 4"):
        reconstruct(Knockout("decoder", 0, 4))
    with pytest.raises(ValueError, match="tokens must be from 0 to 9 in encoder/0/mask=3_10, got 10"):
        reconstruct(Edit("encoder", 0, "mask", (10, 3)))
    with pytest.raises(ValueError, match="one mask at most in encoder/0, got 2"):
        reconstruct(Edit("encoder", 0, "mask", (1,)), Edit("encoder", 0, "mask", (2,)))
    with pytest.raises(ValueError, match="got 2 sets for 3 images"):
        reconstruct(sets=[[], []])
    with pytest.raises(ValueError, match="donor must be given"):
        reconstruct(Edit("encoder", 0, "rows", ()))
    with pytest.raises(ValueError, match=r"of the same size, got \(1, 1, 16, 24\)"):
        reconstruct(Edit("encoder", 0, "rows", ()), donor=make_prefix(model, images[:1, :, :, :24]))
    with pytest.raises(ValueError, match="at least as wide as those reconstructed"):
        reconstruct(Knockout("encoder", 0, 0), baseline=knockouts.mean_baseline(model, images[..., :24]))
    with pytest.raises(ValueError, match="got 5 columns of patches and 2 images for 5 and 3"):
        reconstruct(Knockout("encoder", 0, 0), baseline=knockouts.resample_baseline(model, images[:2]))
