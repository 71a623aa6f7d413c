"""Metrics by hand and against scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tae.model.metrics import measure, psnr_of, r2, seam_ratio, ssim

pictures = arrays(np.float64, (9, 11), elements=st.floats(0, 1))


def test_measures_by_hand() -> None:
    image = np.ones((10, 10))
    image[:2] = 0.5  # 20 foreground pixels
    recon = image + 0.0
    recon[:1] = 0.7  # 10 of them wrong by .2
    recon[9, 9] = 0.9  # and one background pixel by .1
    quality = measure(image, recon)
    assert quality.mse == pytest.approx((10 * 0.04 + 0.01) / 100)
    assert quality.foreground_mse == pytest.approx(10 * 0.04 / 20)
    assert quality.psnr == pytest.approx(-10 * math.log10(0.0041))
    assert quality.as_dict() == {
        "psnr": quality.psnr,
        "ssim": quality.ssim,
        "mse": quality.mse,
        "foreground_mse": quality.foreground_mse,
    }


def test_perfect_copy() -> None:
    image = np.random.default_rng(0).random((12, 12))
    quality = measure(image, image)
    assert quality.mse == 0 and quality.psnr == math.inf and quality.ssim == pytest.approx(1)


@given(pictures, pictures)
def test_psnr_and_ssim_are_scikit_image_s(image: np.ndarray, recon: np.ndarray) -> None:
    quality = measure(image, recon)
    assert quality.ssim == pytest.approx(structural_similarity(image, recon, data_range=1.0))
    with np.errstate(divide="ignore"):
        expected = peak_signal_noise_ratio(image, recon, data_range=1.0)
    assert quality.psnr == pytest.approx(expected)


@given(pictures, pictures)
def test_reconstructions_are_measured_as_a_screen_shows_them(image: np.ndarray, recon: np.ndarray) -> None:
    beyond = np.where(recon == 1, 7.0, np.where(recon == 0, -3.0, recon))
    assert measure(image, beyond) == measure(image, recon) or np.isnan(measure(image, recon).foreground_mse)


def test_foreground_is_darker_than_95_hundredths() -> None:
    image = np.array([[0.949, 0.951] * 4] * 8)
    recon = np.zeros((8, 8))
    assert measure(image, recon).foreground_mse == pytest.approx(0.949**2)
    assert math.isnan(measure(np.ones((8, 8)), recon).foreground_mse)


def test_tiny_images_have_no_ssim() -> None:
    assert math.isnan(ssim(np.ones((6, 9)), np.ones((6, 9))))
    assert math.isfinite(measure(np.ones((6, 9)), np.zeros((6, 9))).psnr)


@pytest.mark.parametrize(("image", "recon"), [((3, 4), (4, 3)), ((1, 3, 4), (1, 3, 4)), ((5,), (5,))])
def test_shapes_that_do_not_fit_are_refused(image: tuple, recon: tuple) -> None:
    with pytest.raises(ValueError, match="must be .H, W. of one shape, got"):
        measure(np.zeros(image), np.zeros(recon))


def test_psnr_of_known_errors() -> None:
    assert psnr_of(1.0) == 0 and psnr_of(0.01) == pytest.approx(20) and psnr_of(0) == math.inf


def test_r2_by_hand() -> None:
    images = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])
    assert r2(images, images) == 1
    assert r2(images, np.full_like(images, 0.5)) == 0
    assert r2(images, images[:, :, ::-1]) == -3
    assert r2(images, images + 5) == pytest.approx(1 - 2 / 1)  # clipped to 1: two zeros are wrong by 1


def test_seam_ratio_by_hand() -> None:
    images = np.zeros((1, 4, 4))
    steps = np.array([0.0, 1.0, 4.0, 5.0])  # 1 inside, 3 across the border in the middle, 1 inside
    assert seam_ratio(images, np.tile(steps, (4, 1))[None], 2) == pytest.approx((3 * 4 + 0) / 8 / ((2 * 4 + 0) / 16))
    ramp = np.arange(8.0)[:, None] + np.arange(8.0)
    assert seam_ratio(np.zeros((2, 8, 8)), np.stack([ramp, ramp]), 4) == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3))
def test_seam_ratio_does_not_depend_on_the_size_of_the_error(seed: int, factor: float) -> None:
    error = np.random.default_rng(seed).normal(size=(2, 12, 12))
    zeros = np.zeros_like(error)
    assert seam_ratio(zeros, error * factor, 4) == pytest.approx(seam_ratio(zeros, error, 4))
