"""The benchmark of rails: baselines for any size and width, and figures that end up in the card."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import rails
from benchmarks.baselines import ConvAutoencoder, Pca
from tae.analysis.evaluate import evaluate
from tae.data.demo import DemoSource, compose_rail, num_garments
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
    assert rails.count_parameters(ConvAutoencoder(128)) == 1_866_561


def test_convolutional_autoencoder_does_not_see_what_lies_beyond_a_width() -> None:
    torch.manual_seed(0)
    conv = ConvAutoencoder(8, (20, 60)).eval()
    narrow = torch.rand(1, 1, 20, 30)
    padded = torch.cat([narrow, torch.rand(1, 1, 20, 10)], dim=3)
    with torch.inference_mode():
        alone, beside = conv(narrow)[0], conv(padded, torch.tensor([30]))[0]
    torch.testing.assert_close(beside[..., :30], alone)


def fitted_pca(width: int) -> Pca:
    source = DemoSource((rails.HEIGHT, None), max_width=width)
    return Pca(rails.flat_rails(source, 48, width, size=16), 6, num_start=32)


def test_pca_of_the_widest_images_is_the_plain_projection() -> None:
    pca = fitted_pca(160)
    images = [compose_rail("test", index, width=160) for index in range(3)]
    plain = pca(rails.filled_up(images, 160).flatten(1)).view(3, rails.HEIGHT, 160).clamp(0, 1)
    np.testing.assert_allclose(np.stack(rails.pca_recons(pca, images, 160)), plain.numpy(), atol=1e-4)


def test_pca_fits_the_real_pixels_of_narrower_images_best_whatever_their_order() -> None:
    pca = fitted_pca(400)
    images = [compose_rail("test", index, width=width) for index, width in enumerate((300, 160, 400, 160))]
    padded = pca(rails.filled_up(images, 400).flatten(1)).view(4, rails.HEIGHT, 400).clamp(0, 1).numpy()
    for number, (image, recon) in enumerate(zip(images, rails.pca_recons(pca, images, 400), strict=True)):
        width = image.shape[1]
        assert recon.shape == image.shape
        charged = np.square(padded[number][:, :width] - image / 255).mean()
        assert np.square(recon - image / 255).mean() <= charged + 1e-6
    alone = rails.pca_recons(pca, images[:1], 400)[0]
    np.testing.assert_allclose(alone, rails.pca_recons(pca, images, 400)[0], atol=1e-4)


def small_checkpoint(folder: Path, width: int | None) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        input_size=(rails.HEIGHT, width),
        max_width=620,
        patch_size=76,
        latent_dim=16,
        num_heads=2,
        encoder_layers=1,
        decoder_layers=1,
    )
    training = {"steps": 3, "batch_size": 2, "cpu_seconds": 0.2, "curve": [{"step": 3, "held_out_psnr": 9.0}]}
    card = Card(name="rails", training=training, metrics={"psnr": 1.0})
    return save_checkpoint(folder / "rails.safetensors", TransformerAutoencoder(config), card)


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 1280])
def test_figures_by_group_stand_in_the_card_and_are_those_of_the_file(width: int | None, tmp_path: Path) -> None:
    path = small_checkpoint(tmp_path, width)
    before = load_checkpoint(path).model.state_dict()
    config = {"checkpoints": (path,), "results": tmp_path, "pca_images": 40, "test_images": 3, "group_images": 1}
    rails.main(rails.RailsConfig(**config, baselines=True, conv_lrs=(1e-3, 2e-3), conv_sweep_seconds=0.1))
    rails.main(rails.RailsConfig(**config, write_card=True))
    loaded = load_checkpoint(path)
    metrics = loaded.card.metrics
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.card.training["curve"] == [{"step": 3, "held_out_psnr": 9.0}]
    test = DemoSource(loaded.model.config.input_size, 620).test(3)
    assert metrics["psnr"] == pytest.approx(evaluate(loaded.model, test, "test")["psnr"], rel=1e-5)
    by_garments = {one["group"]: one for one in metrics["by_garments"]}
    if width:
        assert list(by_garments) == ["1", "3", "5", "7", "9"] and "by_width" not in metrics
        assert [one["unseen"] for one in by_garments.values()] == [True] * 4 + [False]
    else:
        assert list(by_garments) == [str(number) for number in range(1, num_garments(620) + 1)]
        bands = {one["group"]: one["unseen"] for one in metrics["by_width"]}
        assert [band for band, unseen in bands.items() if unseen] == ["500-599"]
        assert list(bands)[0] == "152-199" and list(bands)[-1] == "600-620"
    assert all(one["count"] == 1 and np.isfinite(one["psnr"]) for one in by_garments.values())
    (result,) = json.loads((tmp_path / "rails.json").read_text())["checkpoints"]
    assert result["checkpoint_sha256"] == loaded.digest and result["rows"][0]["psnr"] == metrics["psnr"]
    table = (tmp_path / "rails.md").read_text()
    assert "convolutional autoencoder" in table and "500-599*" in table or width
