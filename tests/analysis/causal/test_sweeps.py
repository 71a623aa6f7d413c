"""Sweeps, necessity, verdicts: models whose one needed head, or needless attention, is known by construction."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tae.analysis.causal import knockouts, sweeps
from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.prefix import make_prefix
from tae.model.metrics import measure
from tests.analysis.reference import draw
from tests.planted import NEEDED


def test_the_one_needed_head_is_found(one_picture):
    for baseline in ["zero", "resample"]:
        model, picture = one_picture()
        stands_in = knockouts.ZERO if baseline == "zero" else knockouts.resample_baseline(model, draw(seed=3))
        sweep = sweeps.head_sweep(model, picture, stands_in, with_ssim=True)
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
    sweep = sweeps.head_sweep(model, image, parts=["decoder"], with_ssim=True)
    assert {one.part for one in sweep.damage} == {"decoder"}
    knockout = Knockout("decoder", 1, 3)
    recon, quality, damage = sweeps.damage_of(model, image, [knockout])
    pixels = image[0, 0].numpy()
    before = measure(pixels, model(image)[0][0, 0].detach().numpy())
    after = measure(pixels, knockouts.reconstruct_knocked_out(model, image, [[knockout]])[0, 0].numpy())
    assert (quality, sweep.plain) == (after, before)
    assert damage.psnr_lost == pytest.approx(before.psnr - after.psnr)
    assert damage.ssim_lost == pytest.approx(before.ssim - after.ssim)
    assert damage.mse_gained == pytest.approx(after.mse - before.mse)
    assert sweep.damage[knockout].psnr_lost == pytest.approx(damage.psnr_lost)
    assert recon.shape == image.shape


def test_the_ranking_has_every_head_once_the_least_needed_first(small_model):
    model = small_model()
    sweep = sweeps.head_sweep(model, draw())
    ranking = sweep.ranking()
    assert sorted(one.name for one in ranking) == sorted(one.name for one in sweep.damage if one.is_head)
    gained = [sweep.damage[one].mse_gained for one in ranking]
    assert gained == sorted(gained) and len(gained) == 16


def test_heads_are_removed_one_after_another(one_picture):
    model, picture = one_picture()
    prefix = make_prefix(model, picture)
    order = sweeps.head_sweep(model, prefix).ranking()
    curve = sweeps.removal_curve(model, prefix, order, random_orders=4)
    assert curve.psnr.shape == (17,) and curve.random_psnr.shape == (4, 17)
    assert_close(curve.psnr[:16], np.full(16, curve.psnr[0]))  # the needed head goes last
    assert curve.spared() == 15
    for psnr in curve.random_psnr:  # a step at the needed head, wherever it comes
        assert psnr[0] == pytest.approx(curve.psnr[0]) and psnr[-1] == pytest.approx(curve.psnr[-1])
        assert np.unique(psnr.round(6)).size == 2
    assert_close(curve.random_mean, curve.random_psnr.mean(axis=0))
    again = sweeps.removal_curve(model, prefix, order, random_orders=4)
    assert_close(again.random_psnr, curve.random_psnr)
    other = sweeps.removal_curve(model, prefix, order, random_orders=4, seed=1)
    assert not np.array_equal(other.random_psnr, curve.random_psnr)


def test_how_many_heads_are_spared():
    psnr = np.array([20.0, 19.9, 19.5, 18.0, 19.8])
    curve = sweeps.RemovalCurve("zero", (), psnr, psnr[None])
    assert [curve.spared(lost) for lost in (0.05, 0.2, 1.0, 5.0)] == [0, 1, 2, 4]
    psnr[2] = math.nan  # no number tells that nothing was lost
    assert curve.spared(5.0) == 1


def test_psnr_is_that_of_the_metrics_over_each_image_s_own_width():
    images, recons = draw(2), draw(2, seed=2) * 1.5 - 0.2
    for number, (value, width) in enumerate(
        zip(sweeps.psnr_each(images, recons, torch.tensor([32, 11])), (32, 11), strict=True)
    ):
        own = (number, 0, slice(None), slice(width))
        assert value.item() == pytest.approx(measure(images[own].numpy(), recons[own].numpy()).psnr)
    assert sweeps.psnr_each(images, images).tolist() == [math.inf, math.inf]


def test_a_sweep_is_of_one_image(small_model):
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 24, 32\)"):
        sweeps.head_sweep(small_model(), draw(2))
