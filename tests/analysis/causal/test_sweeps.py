"""Sweeps, necessity, verdicts: models whose one needed head, or needless attention, is known by construction."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.analysis import causal
from tae.analysis.causal import Knockout
from tae.analysis.causal.predictors import Interval, Scores
from tae.analysis.causal.verdicts import Necessity
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.model.metrics import measure
from tae.store.checkpoint import load_checkpoint

NEEDED = Knockout("decoder", 0, 2)


def draw(count: int = 1, seed: int = 1, size: tuple[int, int] = (24, 32)) -> Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def one_picture(small_model):
    """A decoder that draws one picture, whatever it is told, through one head; and that picture, with a little noise.

    The latent is cut off, so nothing depends on the image. Only head 2 of the decoder's first layer is connected to the
    output; `same_values` lets it read the same from every token, so that where it places weight does not matter.
    """

    @torch.no_grad()
    def build(same_values: bool = False) -> tuple[TransformerAutoencoder, Tensor]:
        model = small_model()
        decoder = model.decoder
        for parameter in (decoder.expand.weight, decoder.expand.bias, decoder.start.up.weight):
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
        return model, picture + 0.001 * draw(seed=5)

    return build


@pytest.mark.parametrize("baseline", ["zero", "resample"])
def test_the_one_needed_head_is_found(one_picture, baseline):
    model, picture = one_picture()
    stands_in = causal.ZERO if baseline == "zero" else causal.resample_baseline(model, draw(seed=3))
    sweep = causal.head_sweep(model, picture, stands_in)
    if baseline == "resample":  # every image gives this head the same: nothing that it does depends on the image
        assert max(abs(damage.psnr_lost) for damage in sweep.damage.values()) < 1e-9
        return
    assert sweep.ranking()[-1] == NEEDED
    assert sweep.damage[NEEDED].psnr_lost > 10
    assert sweep.damage[NEEDED].ssim_lost > 0.1
    needed = {NEEDED, Knockout("decoder", 0, "attention")}
    assert {one for one, damage in sweep.damage.items() if abs(damage.psnr_lost) > 1e-9} == needed
    assert np.argwhere(sweep.heads("decoder") > 1).tolist() == [[0, 2]]
    assert sweep.heads("encoder").shape == (2, 4)
    whole = sweep.damage[Knockout("decoder", 0, "attention")].psnr_lost
    assert whole == pytest.approx(sweep.damage[NEEDED].psnr_lost)


def test_the_damage_is_the_change_of_the_measures(small_model):
    model, image = small_model(), draw()
    sweep = causal.head_sweep(model, image, parts=["decoder"])
    assert {one.part for one in sweep.damage} == {"decoder"}
    knockout = Knockout("decoder", 1, 3)
    recon, quality, damage = causal.damage_of(model, image, [knockout])
    pixels = image[0, 0].numpy()
    before = measure(pixels, model(image)[0][0, 0].detach().numpy())
    after = measure(pixels, causal.reconstruct_knocked_out(model, image, [[knockout]])[0, 0].numpy())
    assert (quality, sweep.plain) == (after, before)
    assert damage.psnr_lost == pytest.approx(before.psnr - after.psnr)
    assert damage.ssim_lost == pytest.approx(before.ssim - after.ssim)
    assert damage.mse_gained == pytest.approx(after.mse - before.mse)
    assert sweep.damage[knockout].psnr_lost == pytest.approx(damage.psnr_lost)
    assert recon.shape == image.shape


def test_the_ranking_has_every_head_once_the_least_needed_first(small_model):
    model = small_model()
    sweep = causal.head_sweep(model, draw())
    ranking = sweep.ranking()
    assert sorted(one.name for one in ranking) == sorted(one.name for one in sweep.damage if one.is_head)
    gained = [sweep.damage[one].mse_gained for one in ranking]
    assert gained == sorted(gained) and len(gained) == 16


def test_heads_are_removed_one_after_another(one_picture):
    model, picture = one_picture()
    prefix = causal.make_prefix(model, picture)
    order = causal.head_sweep(model, prefix).ranking()
    curve = causal.removal_curve(model, prefix, order, random_orders=4)
    assert curve.psnr.shape == (17,) and curve.random_psnr.shape == (4, 17)
    assert_close(curve.psnr[:16], np.full(16, curve.psnr[0]))  # the needed head goes last
    assert curve.spared() == 15
    for psnr in curve.random_psnr:  # a step at the needed head, wherever it comes
        assert psnr[0] == pytest.approx(curve.psnr[0]) and psnr[-1] == pytest.approx(curve.psnr[-1])
        assert np.unique(psnr.round(6)).size == 2
    assert_close(curve.random_mean, curve.random_psnr.mean(axis=0))
    again = causal.removal_curve(model, prefix, order, random_orders=4)
    assert_close(again.random_psnr, curve.random_psnr)
    other = causal.removal_curve(model, prefix, order, random_orders=4, seed=1)
    assert not np.array_equal(other.random_psnr, curve.random_psnr)


def test_how_many_heads_are_spared():
    psnr = np.array([20.0, 19.9, 19.5, 18.0, 19.8])
    curve = causal.RemovalCurve("zero", (), psnr, psnr[None])
    assert [curve.spared(lost) for lost in (0.05, 0.2, 1.0, 5.0)] == [0, 1, 2, 4]
    psnr[2] = math.nan  # no number tells that nothing was lost
    assert curve.spared(5.0) == 1


def test_attention_that_draws_the_same_for_every_image_is_wallpaper(one_picture):
    model, picture = one_picture()
    found = causal.necessity(model, picture, draw(3, seed=2))
    assert found.mean("decoder", "all", "uniform").value > 3
    for name in ("another", "mean"):
        assert found.mean("decoder", "all", name).value == pytest.approx(0, abs=1e-6)
    assert found.mean("decoder", "1", "uniform").value == pytest.approx(0, abs=1e-6)  # not connected
    said = causal.verdict(found, "decoder")
    assert (said.kind, said.part, said.place) == ("wallpaper", "decoder", "all")
    assert "wallpaper" in said.sentence and "this image" in said.sentence
    assert causal.verdict(found, "decoder", "1").kind == "decorative"


def test_attention_that_reads_the_same_from_everywhere_is_decorative(one_picture):
    model, picture = one_picture(same_values=True)
    assert causal.head_sweep(model, picture).damage[NEEDED].psnr_lost > 3  # the head is needed, its weights are not
    found = causal.necessity(model, picture, draw(2, seed=2))
    for name in causal.REPLACED_BY:
        assert found.mean("decoder", "all", name).value == pytest.approx(0, abs=1e-6)
    said = causal.verdict(found, "decoder")
    assert said.kind == "decorative"
    assert "attention of the decoder is decorative" in said.sentence


def test_the_demo_checkpoint_needs_its_attention():
    model = load_checkpoint("checkpoints/demo_tiny_201x201_p16.safetensors").model
    images, _ = to_batch(DemoSource((201, 201)).test(8))
    found = causal.necessity(model, images[:4], images[4:], parts=["encoder"])
    said = causal.verdict(found)
    assert said.kind == "needed" and "mean of 4 images" in said.sentence
    assert found.mean("encoder", "all", "uniform").value > found.mean("encoder", "all", "another").value > 3


def test_one_token_has_no_attention_to_judge(small_model):
    model = small_model(patch_size=None)
    found = causal.necessity(model, draw(2), draw(2, seed=2))
    assert max(np.abs(lost).max() for lost in found.lost.values()) < 1e-9
    for part in ("encoder", "decoder"):
        assert causal.verdict(found, part).kind == "none"
    assert causal.headline(found, causal.head_sweep(model, draw())) == causal.verdict(found).sentence


def test_necessity_is_the_loss_under_each_replacement(small_model):
    model, images, others = small_model(), draw(3), draw(2, seed=2)
    found = causal.necessity(model, images, others, seed=4)
    assert found.places("decoder") == ["all", "0", "1"]
    assert len(found.lost) == 2 * 3 * 5
    plain = causal.psnr_each(images, model(images)[0].detach())
    assert_close(torch.from_numpy(found.psnr), plain)
    for part in ("encoder", "decoder"):
        replacements = {
            "uniform": causal.uniform,
            "identity": causal.identity,
            "another": causal.from_images(model, others[[0, 1, 0]], part),
            "mean": causal.mean_map(model, others, part),
            "random": causal.random_weights(4),
        }
        for place, layers in {"all": None, "0": [0], "1": [1]}.items():
            for name, replace in replacements.items():
                recon = causal.reconstruct_with(model, images, replace, part, layers)
                expected = (plain - causal.psnr_each(images, recon)).numpy()
                np.testing.assert_allclose(found.lost[part, place, name], expected, atol=1e-9)
    row = found.table("encoder")[2]
    assert row["replaced_by"] == "another image's attention"
    assert row["1"] == pytest.approx(found.lost["encoder", "1", "another"].mean())


def test_quick_necessity_is_what_a_verdict_needs_of_the_whole(small_model):
    model, images, others = small_model(), draw(3), draw(3, seed=2)
    whole = causal.necessity(model, images, others)
    quick = causal.quick_necessity(model, zip(images.split(1), others.split(1), strict=True))
    np.testing.assert_allclose(quick.psnr, whole.psnr)
    assert {*quick.lost} == {(part, "all", name) for part in ("encoder", "decoder") for name in ("uniform", "another")}
    for key, lost in quick.lost.items():
        np.testing.assert_allclose(lost, whole.lost[key], atol=1e-9)
    for part in ("encoder", "decoder"):
        assert causal.verdict(quick, part) == causal.verdict(whole, part)
    with pytest.raises(ValueError, match="replaced_by must be among uniform, identity"):
        causal.necessity(model, images, others, replaced_by=["nothing"])
    one_token = causal.quick_necessity(small_model(patch_size=None), [(images[:1], others[:1])])
    assert causal.verdict(one_token).kind == "none"


def test_necessity_in_parts_and_with_widths_is_that_of_each_image(small_model, monkeypatch):
    model = small_model(input_size=(16, None), max_width=64)
    images, others, widths = draw(3, size=(16, 40)), draw(2, 2, (16, 40)), torch.tensor([40, 9, 25])
    monkeypatch.setattr("tae.analysis.causal.prefix.TOKENS_AT_ONCE", 20)  # two images of 10 tokens
    shares = []
    together = causal.necessity(model, images, others, widths=widths, progress=shares.append)
    assert shares == pytest.approx([step / 12 for step in range(1, 13)])
    for number, width in enumerate(widths.tolist()):
        lenders = others.roll(-number, 0)
        alone = causal.necessity(model, images[number : number + 1, :, :, :width].clone(), lenders[..., :width].clone())
        keys = [("encoder", "all", "uniform"), ("encoder", "0", "identity")]
        if width == 40:  # a wider image lends what it places on the tokens that are there; cut, it would be another
            keys += [("decoder", "1", "another"), ("encoder", "all", "mean")]
        for key in keys:
            assert together.lost[key][number] == pytest.approx(alone.lost[key][0])


def test_random_weights_are_the_same_for_all_images_and_rows_sum_to_one():
    weights = torch.full((2, 3, 5, 5), 0.2, dtype=torch.float64)
    weights[1, :, 4], weights[1, :, :, 4] = 0, 0  # the second image is narrower
    drawn = causal.random_weights(1)(0, weights)
    assert_close(drawn.sum(dim=-1)[0], torch.ones(3, 5, dtype=torch.float64))
    assert_close(drawn.sum(dim=-1)[1, :, :4], torch.ones(3, 4, dtype=torch.float64))
    assert drawn[1, :, 4].abs().sum() == drawn[1, :, :, 4].abs().sum() == 0
    assert_close(drawn[1, :, :4, :4] * drawn[0, :, :4, :4].sum(-1, keepdim=True), drawn[0, :, :4, :4])
    assert torch.equal(drawn, causal.random_weights(1)(0, weights))
    assert not torch.equal(drawn, causal.random_weights(1)(1, weights))
    assert not torch.equal(drawn, causal.random_weights(2)(0, weights))


def test_psnr_is_that_of_the_metrics_over_each_image_s_own_width():
    images, recons = draw(2), draw(2, seed=2) * 1.5 - 0.2
    for number, (value, width) in enumerate(
        zip(causal.psnr_each(images, recons, torch.tensor([32, 11])), (32, 11), strict=True)
    ):
        own = (number, 0, slice(None), slice(width))
        assert value.item() == pytest.approx(measure(images[own].numpy(), recons[own].numpy()).psnr)
    assert causal.psnr_each(images, images).tolist() == [math.inf, math.inf]


def necessity_of(uniform: list[float], another: list[float]) -> Necessity:
    lost = {
        ("encoder", "all", "uniform"): np.array(uniform),
        ("encoder", "all", "another"): np.array(another),
    }
    return Necessity(np.full(len(uniform), 25.0), lost)


@pytest.mark.parametrize(
    ("uniform", "another", "kind"),
    [
        ([9.0], [6.0], "needed"),
        ([9.0], [0.4], "wallpaper"),
        ([0.4], [0.1], "decorative"),
        ([0.4], [3.0], "decorative"),
        ([9.0, 9.1, 9.2] * 2, [0.1, 0.2, 1.5] * 2, "undecided"),
        ([9.0, 9.1, 9.2] * 2, [0.1, 0.2, 0.3] * 2, "wallpaper"),
        ([9.0, 9.1, 9.2] * 2, [0.6, 0.8, 0.7] * 2, "needed"),
        ([0.1, 0.9, 0.4] * 2, [0.6, 0.8, 0.7] * 2, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval(uniform, another, kind):
    said = causal.verdict(necessity_of(uniform, another))
    assert said.kind == kind
    assert f"{np.mean(another):.1f} dB" in said.sentence


@pytest.mark.parametrize("another", [[math.nan], [math.nan] * 6])
def test_what_is_no_number_has_a_verdict_without_numbers(another):
    said = causal.verdict(necessity_of([0.0] * len(another), another))
    assert said.kind == "undecided" and not said.tells_little
    assert "cannot be told" in said.sentence and "nan" not in said.sentence


def test_the_headline_holds_the_four_numbers(one_picture):
    model, picture = one_picture()
    sweep = causal.head_sweep(model, picture)
    scores = Scores(
        {
            "rollout": Interval(0.71, 0.6, 0.8),
            "ink in the patch": Interval(0.55, 0.4, 0.6),
            "random": Interval(float("nan"), float("nan"), float("nan")),
        },
        {},
        Interval(0.16, 0.1, 0.2),
        64,
        "images",
    )
    assert causal.headline(necessity_of([19.04], [10.42]), sweep, scores) == (
        "Uniform attention costs 19.0 dB, another image's attention 10.4 dB; head 2 of decoder layer 0 alone costs "
        f"{sweep.damage[NEEDED].psnr_lost:.1f} dB; rollout agrees with measured effect at 0.71 "
        "(ink in the patch alone: 0.55)."
    )


@pytest.mark.parametrize(
    ("uniform", "another", "said"),
    [
        (3.0, 1.5, "Uniform attention costs 3.0 dB, another image's attention 1.5 dB; "),
        (0.01, -0.04, "Uniform attention costs nothing, another image's attention costs nothing; "),
        (2.0, 0.0, "Uniform attention costs 2.0 dB, another image's attention costs nothing; "),
        (-0.2, 0.3, "Uniform attention gains 0.2 dB, another image's attention costs 0.3 dB; "),
        (-0.2, -0.06, "Uniform attention gains 0.2 dB, another image's attention gains 0.1 dB; "),
    ],
)
def test_the_headline_says_what_gains_and_what_costs_nothing(uniform, another, said, one_picture):
    model, picture = one_picture()
    sweep = causal.head_sweep(model, picture)
    assert causal.headline(necessity_of([uniform], [another]), sweep).startswith(said)
    idle = dataclasses.replace(
        sweep, damage={one: dataclasses.replace(lost, psnr_lost=-0.04) for one, lost in sweep.damage.items()}
    )
    told = causal.headline(necessity_of([uniform], [another]), idle)
    assert told == f"{said}no head alone costs anything."


@pytest.mark.parametrize(
    ("agreement", "high", "said"),
    [
        (
            -0.4,
            -0.1,
            "every attention map disagrees with measured effect (at best -0.40, rollout; ink in the patch alone: 0.00)",
        ),
        (
            -0.4,
            0.1,
            "no attention map tells the measured effect (at best -0.40, rollout; ink in the patch alone: 0.00)",
        ),
        (-0.001, 0.1, "rollout agrees with measured effect at 0.00 (ink in the patch alone: 0.00)"),
    ],
)
def test_the_headline_does_not_call_a_disagreement_an_agreement(agreement, high, said, one_picture):
    model, picture = one_picture()
    scores = Scores(
        {
            "rollout": Interval(agreement, -0.5, high),
            "ink in the patch": Interval(-0.001, -0.4, 0.6),
            "received attention, average": Interval(agreement - 0.1, -0.6, 0.1),
        },
        {},
        Interval(0.16, 0.1, 0.2),
        64,
        "images",
    )
    told = causal.headline(necessity_of([1], [1]), causal.head_sweep(model, picture), scores)
    assert told.endswith(f"; {said}.")


def test_a_sweep_is_of_one_image(small_model):
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 24, 32\)"):
        causal.head_sweep(small_model(), draw(2))
