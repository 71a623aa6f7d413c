"""A training on one's own images begins with the shipped model that fits, unless it is told not to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tae import ModelConfig, TransformerAutoencoder, create_autoencoder, load_checkpoint, save_checkpoint
from tae.data.demo import compose_square
from tae.store.card import Card
from tae.store.checkpoint import list_checkpoints
from tae.training import trainer
from tae.training.planning import advice
from tae.training.planning.advice import Shape, best_beginning, fitting_shape, room_used, shipped_that_fit
from tae.training.planning.report import PlanConfig, report
from tae.training.trainer import train
from tests import ROOT
from tests.training.small import same_bits, small_config

FIELDS: dict[str, Any] = {"patch_size": 8, "latent_dim": 16, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1}


def keep(folder: Path, name: str, **fields: Any) -> Path:
    model = create_autoencoder(**{"input_size": (16, 16), **FIELDS, **fields})
    return save_checkpoint(folder / f"{name}.safetensors", model, Card(name=name))


def test_a_size_of_the_images_proportions_is_found_where_the_frame_would_be_padding(tmp_path: Path) -> None:
    strips, photographs = [(130, 1280)] * 3, [(300, 400), (400, 300)]
    assert room_used(strips, (201, 201)) == pytest.approx(130 / 1280)
    square = Shape((201, 201), 16)
    assert fitting_shape(strips, square) == ((152, 1280), 32)  # as a shipped model has it
    assert fitting_shape(strips, Shape((152, 1280), 32)) is None and fitting_shape(photographs, square) is None
    assert fitting_shape([], square) is None
    height, width = fitting_shape([(600, 100)], square, tmp_path).input_size  # type: ignore[union-attr]
    assert width / height == pytest.approx(1 / 6, rel=0.1) and height * width == pytest.approx(201**2, rel=0.1)
    assert fitting_shape([(4000, 10)], square, tmp_path) == ((4016, 8), 8)


def test_models_fit_whose_layers_and_patches_are_alike_and_whose_images_have_about_this_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        advice,
        "SHIPPED",
        ("demo_same", "demo_larger", "demo_wide", "demo_any", "demo_patch", "demo_latent", "demo_deep", "demo_broken"),
    )
    for name, fields in {
        "demo_same": {},
        "demo_larger": {"input_size": (32, 24)},
        "demo_wide": {"input_size": (16, 64)},
        "demo_any": {"input_size": (16, None)},
        "demo_patch": {"patch_size": 4},
        "demo_latent": {"latent_dim": 32},
        "demo_deep": {"encoder_layers": 2},
        "mine": {},
    }.items():
        keep(tmp_path, name, **fields)
    (tmp_path / "demo_broken.safetensors").write_bytes(b"nothing")
    config = small_config(tmp_path / "x.safetensors").model_config

    def names(config: ModelConfig) -> list[str]:
        return [path.stem for path in shipped_that_fit(config, tmp_path)]

    assert names(config) == ["demo_larger", "demo_same"]
    assert names(replace(config, input_size=(16, 80))) == ["demo_wide"]
    assert names(replace(config, input_size=(16, None))) == ["demo_any"]
    assert names(replace(config, input_size=(24, None))) == []
    monkeypatch.undo()
    standard = small_config(tmp_path / "x", patch_size=16, input_size=(201, 201), latent_dim=None, num_heads=None)
    standard = replace(standard, encoder_layers=None, decoder_layers=None)
    shipped = ["demo_tiny_201x201_p16.safetensors", "drops_tiny_201x201_p16.safetensors"]
    assert [path.name for path in shipped_that_fit(standard.model_config)] == shipped
    assert {f"{name}.safetensors" for name in advice.SHIPPED} == {
        one.path.name for one in list_checkpoints(ROOT / "checkpoints")
    }


def test_of_those_that_fit_the_one_is_taken_that_draws_such_images_best(tmp_path: Path) -> None:
    white, black = (np.full((16, 16), grey, np.uint8) for grey in (255, 0))
    paths = []
    for name, grey in (("demo_white", 1.0), ("demo_black", 0.0)):
        model = create_autoencoder(input_size=(16, 16), **FIELDS)
        with torch.no_grad():  # draws one grey
            for parameter in model.decoder.proj.parameters():
                parameter.zero_()
            model.decoder.proj.bias.fill_(1 - grey)
        paths.append(save_checkpoint(tmp_path / f"{name}.safetensors", model, Card(name=name)))
    model = TransformerAutoencoder(small_config(tmp_path / "x").model_config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for images, best in ((white, paths[0]), (black, paths[1])):
        found = best_beginning(model, paths, [images])
        assert found and found.path == best and found.psnr > 60
    assert same_bits(model.state_dict(), before)
    assert best_beginning(model, [], [white]) is None and best_beginning(model, paths, []) is None


@pytest.mark.slow
def test_a_run_on_own_images_begins_warm_says_so_and_repeats_it_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = keep(tmp_path, "demo_same")
    monkeypatch.setattr(trainer, "shipped_that_fit", lambda config: [shipped])
    images = tmp_path / "images"
    images.mkdir()
    for index in range(6):
        Image.fromarray(compose_square("train", index, side=16)).save(images / f"{index}.png")
    said: list[str] = []
    config = small_config(tmp_path / "warm.safetensors", data=str(images), steps=2)
    list(train(config, notify=said.append))
    training = load_checkpoint(config.out_path).card.training
    assert any(text.startswith("begins with a model that draws such images with ") for text in said)
    assert "--init-from demo_same.safetensors" in training["command"] and training["steps"] == 2
    list(train(replace(config, steps=3, resume=True)))
    assert load_checkpoint(config.out_path).card.training["command"].count("--init-from demo_same.safetensors") == 2
    named = small_config(tmp_path / "named.safetensors", data=str(images), steps=2, init_from=shipped)
    anew = small_config(tmp_path / "anew.safetensors", data=str(images), steps=2, warm_start=False)
    demo = small_config(tmp_path / "demo.safetensors", steps=2)
    for other in (named, anew, demo):
        list(train(other))
        training = load_checkpoint(other.out_path).card.training
        assert ("--init-from" in training["command"]) == (other is named)


@pytest.mark.slow
def test_a_plan_for_images_says_what_is_to_be_beaten_and_what_the_budget_allows(tmp_path: Path) -> None:
    for index in range(6):
        Image.fromarray(compose_square("train", index, side=60)).save(tmp_path / f"{index}.png")
    text = report(PlanConfig(data=str(tmp_path), minutes=0.02, threads=1, device="cpu", precision="fp32"))
    assert "images to train on, 1 held out; to be beaten on these: the mean of the training images " in text
    assert "begins with demo_tiny_201x201_p16.safetensors, which draws them with " in text
    assert "suggested for 1 s: tiny --patch-size 32, about " in text
    cold = report(PlanConfig(data=str(tmp_path), minutes=0.02, threads=1, device="cpu", warm_start=False))
    assert (
        "begins with demo" not in cold
        and "that is short: a model that begins with random weights wants 4,000, " in cold
    )
