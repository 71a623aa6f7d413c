"""Held-out figures: in batches as one by one, of known models, ready for a card."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tae.analysis.evaluate import evaluate, reconstruct, summarise
from tae.data.demo import DemoSource, compose_square
from tae.model.metrics import measure
from tae.store.card import Card


class Copy(nn.Module):
    """Gives every picture back, `shift` lighter."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor, widths: Tensor | None = None) -> tuple[Tensor, None]:
        return x + self.shift, None


def squares(count: int, side: int = 24) -> list[np.ndarray]:
    return [compose_square("val", index, side=side) for index in range(count)]


def test_batches_give_what_single_images_give(small_model) -> None:
    model, images = small_model(input_size=(24, 24)).float(), squares(7)
    together = reconstruct(model, images, batch_size=3)
    for image, recon in zip(images, together, strict=True):
        alone = reconstruct(model, [image])[0]
        assert recon.shape == image.shape and recon.dtype == np.float32
        assert recon.min() >= 0 and recon.max() <= 1
        np.testing.assert_allclose(recon, alone, atol=1e-5)


def test_mixed_widths_come_back_at_their_own(small_model) -> None:
    model = small_model(input_size=(16, None), max_width=80).float()
    images = DemoSource((16, None), 80).held_out(5)
    for image, recon in zip(images, reconstruct(model, images), strict=True):
        assert recon.shape == image.shape
        np.testing.assert_allclose(recon, reconstruct(model, [image])[0], atol=1e-5)


def test_training_mode_is_left_as_it_was(small_model) -> None:
    for training in (True, False):
        model = small_model(input_size=(24, 24), dropout=0.5).float().train(training)
        first, second = reconstruct(model, squares(1)), reconstruct(model, squares(1))
        assert np.array_equal(first[0], second[0])  # no dropout
        assert model.training is training and not any(parameter.grad is not None for parameter in model.parameters())


def test_figures_of_a_constant_error_are_known() -> None:
    images = [np.full((8, 8), 100, np.uint8), np.full((8, 8), 50, np.uint8)]
    figures = evaluate(Copy(0.1), images, "val")
    assert (figures["split"], figures["count"]) == ("val", 2)
    assert figures["mse"] == pytest.approx(0.01, rel=1e-5) and figures["psnr"] == pytest.approx(20, rel=1e-5)
    assert figures["foreground_mse"] == pytest.approx(0.01, rel=1e-5)
    variance = ((100 - 50) / 2 / 255) ** 2
    assert figures["r2"] == pytest.approx(1 - 0.01 / variance, rel=1e-4)


def test_means_and_percentiles_are_over_images(small_model) -> None:
    images = squares(9)
    recons = reconstruct(small_model(input_size=(24, 24)).float(), images)
    figures = summarise(images, recons, "test")
    values = [measure(image / 255, recon).psnr for image, recon in zip(images, recons, strict=True)]
    assert figures["psnr"] == pytest.approx(np.mean(values))
    for metric in ("psnr", "ssim", "mse", "foreground_mse"):
        percentiles = figures["percentiles"][metric]
        assert len(percentiles) == 101 and percentiles == sorted(percentiles)
    assert figures["percentiles"]["psnr"][0] == pytest.approx(min(values))
    assert figures["percentiles"]["psnr"][50] == pytest.approx(np.median(values))
    assert figures["percentiles"]["psnr"][100] == pytest.approx(max(values))


def test_figures_of_any_images_fit_a_card() -> None:
    for images in [
        squares(3),
        [np.full((8, 8), 255, np.uint8)] * 2,
        [np.zeros((4, 4), np.uint8), np.full((4, 4), 9, np.uint8)],
    ]:
        for shift in [0.0, 0.2]:
            figures = evaluate(Copy(shift), images, "held out")
            assert all(math.isfinite(value) for value in figures.values() if isinstance(value, float))
            assert Card(name="x", metrics=json.loads(json.dumps(figures, allow_nan=False))).metrics == figures
