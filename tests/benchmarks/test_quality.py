"""The benchmark of quality: baselines for any size and width, and figures that end up in the card."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import quality
from benchmarks.baselines import ConvAutoencoder, Pca
from tae.analysis.evaluate import evaluate
from tae.data.drops import DropSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.store.card import Card
from tae.store.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("size", [(201, 201), (152, 1280), (20, 33)])
def test_convolutional_autoencoder_gives_back_the_size_that_it_is_made_for(size: tuple[int, int]) -> None:
    conv = ConvAutoencoder(8, size).eval()
    with torch.inference_mode():
        assert conv(torch.rand(1, 1, *size))[0].shape == (1, 1, *size)
        assert conv.encoder(torch.rand(1, 1, *size)).shape == (1, 8)


def test_convolutional_autoencoder_for_squares_is_the_one_of_the_readme() -> None:
    assert quality.count_parameters(ConvAutoencoder(128)) == 1_866_561


def test_convolutional_autoencoder_does_not_see_what_lies_beyond_a_width() -> None:
    torch.manual_seed(0)
    conv = ConvAutoencoder(8, (20, 60)).eval()
    narrow = torch.rand(1, 1, 20, 30)
    padded = torch.cat([narrow, torch.rand(1, 1, 20, 10)], dim=3)
    with torch.inference_mode():
        alone, beside = conv(narrow)[0], conv(padded, torch.tensor([30]))[0]
    torch.testing.assert_close(beside[..., :30], alone)


def fitted_pca(width: int) -> Pca:
    source = DropSource((38, None), max_width=width)
    return Pca(quality.flat(source, 48, width, size=16), 6, num_start=32)


def strips(*widths: int) -> list[np.ndarray]:
    return [DropSource((38, width)).compose("test", index) for index, width in enumerate(widths)]


def test_pca_of_the_widest_images_is_the_plain_projection() -> None:
    pca, images = fitted_pca(160), strips(160, 160, 160)
    plain = pca(quality.filled_up(images, 160).flatten(1)).view(3, 38, 160).clamp(0, 1)
    np.testing.assert_allclose(np.stack(quality.pca_recons(pca, images, 160)), plain.numpy(), atol=1e-4)


def test_pca_fits_the_real_pixels_of_narrower_images_best_whatever_their_order() -> None:
    pca, images = fitted_pca(200), strips(150, 80, 200, 80)
    padded = pca(quality.filled_up(images, 200).flatten(1)).view(4, 38, 200).clamp(0, 1).numpy()
    for number, (image, recon) in enumerate(zip(images, quality.pca_recons(pca, images, 200), strict=True)):
        width = image.shape[1]
        assert recon.shape == image.shape
        charged = np.square(padded[number][:, :width] - image / 255).mean()
        assert np.square(recon - image / 255).mean() <= charged + 1e-6
    alone = quality.pca_recons(pca, images[:1], 200)[0]
    np.testing.assert_allclose(alone, quality.pca_recons(pca, images, 200)[0], atol=1e-4)


@pytest.mark.slow
def test_figures_stand_in_the_card_and_are_those_of_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"input_size": (38, None), "max_width": 200, "patch_size": 19, "latent_dim": 16, "num_heads": 2}
    training = {"steps": 3, "batch_size": 2, "cpu_seconds": 0.2, "curve": [{"step": 3, "held_out_psnr": 9.0}]}
    card = Card(name="crops", data=DropSource.data, training=training, metrics={"psnr": 1.0, "yardsticks": {}})
    model = TransformerAutoencoder(ModelConfig(encoder_layers=1, decoder_layers=1, **shape))
    path = save_checkpoint(tmp_path / "crops.safetensors", model, card)
    before = load_checkpoint(path).model.state_dict()
    config = {"checkpoints": (path,), "results": tmp_path, "pca_images": 40, "test_images": 6, "attention_images": 3}
    quality.main(quality.QualityConfig(**config, baselines=True, conv_lrs=(1e-3, 2e-3), conv_sweep_share=0.5))
    quality.main(quality.QualityConfig(**config, write_card=True))
    loaded = load_checkpoint(path)
    metrics = loaded.card.metrics
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.card.training["curve"] == [{"step": 3, "held_out_psnr": 9.0}]
    test = DropSource((38, None), 200).test(6)
    assert metrics["psnr"] == pytest.approx(evaluate(loaded.model, test, "test")["psnr"], rel=1e-5)
    assert sum(band["count"] for band in metrics["by_width"]) == 6 and "yardsticks" in metrics
    (result,) = json.loads((tmp_path / "quality.json").read_text())["checkpoints"]
    assert result["checkpoint_sha256"] == loaded.digest and result["rows"][0]["psnr"] == metrics["psnr"]
    table = (tmp_path / "quality.md").read_text()
    assert "| convolutional autoencoder |" in table and "median error of the outline" in table


def test_map_correlation_is_the_mean_of_pearson_over_pairs() -> None:
    maps = torch.rand(5, 6, 6, generator=torch.Generator().manual_seed(3))
    matrix = np.corrcoef(maps.flatten(1).numpy())
    assert quality.map_correlation(maps) == pytest.approx(matrix[np.triu_indices(5, 1)].mean())
    assert quality.map_correlation(maps[:1].expand(4, 6, 6)) == pytest.approx(1)
    assert quality.map_correlation(torch.stack([maps[0], 1 - maps[0]])) == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        quality.map_correlation(maps[:1])
