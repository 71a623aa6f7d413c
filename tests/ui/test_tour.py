"""Claims of the tour and the story on the demo checkpoint, measured on it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tae import load_checkpoint
from tae.analysis.agreement import compare
from tae.analysis.causal.replacements import reconstruct_with, uniform
from tae.analysis.maps import MapChoice, compute_map
from tae.data.fit import fit_image
from tae.data.gallery import gallery
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.metrics import measure
from tae.ui.shell import glossary
from tae.ui.shell.tour import CHECKPOINT, STORY, TOUR, Step
from tests import ROOT

STEPS = [*TOUR, *STORY]
LOADED = load_checkpoint(ROOT / "checkpoints" / CHECKPOINT)
MODEL: TransformerAutoencoder = LOADED.model
CLOSE, FAR = MapChoice(layer="0", head="3"), MapChoice(layer="2", head="1")


def image(key: str) -> Tensor:
    """(1, 1, 201, 201): the sample as the app hands it to the model."""
    pixels = gallery((201, 201))[key].load()
    grey = pixels if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])
    return torch.from_numpy(fit_image((grey / 255).astype(np.float32), (201, 201)).pixels)[None, None]


def nearby(attention_map: Tensor) -> float:
    """Share of all weight that lies on the patch itself and on the eight patches around it."""
    rows, columns = MODEL.config.grid_for(201)
    row, column = np.divmod(np.arange(rows * columns), columns)
    apart = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column))
    return float((attention_map.numpy() * (apart <= 1)).sum() / len(row))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.title)
def test_steps_can_be_drawn_and_lead_to_what_is_there(step: Step) -> None:
    for text in (step.text, step.invitation):
        assert "{" not in text.replace("{latent_dim}", "")
        glossary.marked(text.format(latent_dim=128))
    samples = gallery(MODEL.config.input_size)
    assert {step.view.get("image"), step.view.get("b_image") or step.view.get("image")} <= set(samples)
    for prefix in ("", "b_"):
        part, layer, head = (
            step.view.get(prefix + name, default)
            for name, default in (("part", "encoder"), ("layer", "average"), ("head", "mean"))
        )
        MapChoice(part=part, layer=layer, head=head).check(MODEL.config)


def test_tour_has_five_steps_and_the_story_is_told_in_single_sentences() -> None:
    assert len(TOUR) == 5 and 6 <= len(STORY) <= 8
    for step in STORY:
        assert step.text.rstrip("?.") == step.text[:-1] and not set(".?!") & set(step.text[:-1])
        assert len(step.text) < 110
    assert all(step.invitation for step in TOUR)


@pytest.mark.parametrize("key", ["garment-84", "garment-30", "garment-79", "square-2"])
def test_close_head_places_most_weight_nearby_and_far_head_almost_none(key: str) -> None:
    assert nearby(compute_map(MODEL, image(key), CLOSE)) > 0.75
    assert nearby(compute_map(MODEL, image(key), FAR)) < 0.1
    assert {("0", "3"), ("2", "1")} <= {(step.view.get("layer"), step.view.get("head")) for step in STEPS}


def test_patch_that_is_shown_is_no_exception() -> None:
    rows, columns = MODEL.config.grid_for(201)
    for step in STEPS:
        head = step.view.get("layer"), step.view.get("head")
        if head not in {("0", "3"), ("2", "1")}:
            continue
        query = int(step.view["query"])
        apart = np.hypot(
            *np.subtract(np.divmod(np.arange(rows * columns), columns), [[query // columns], [query % columns]])
        )
        row = compute_map(MODEL, image(step.view["image"]), CLOSE if head == ("0", "3") else FAR)[query].numpy()
        close, distance = row[apart < 2].sum(), (row * apart).sum()
        assert close > 0.75 if head == ("0", "3") else close < 0.1 and distance > 5, step.title


def test_heads_mean_hides_both() -> None:
    """No layer's mean is as close as the close head, or as far as the far one."""
    means = [nearby(compute_map(MODEL, image("garment-84"), MapChoice(layer=str(layer)))) for layer in range(3)]
    assert all(0.1 < mean < 0.75 for mean in means)


def test_one_head_differs_between_two_pictures() -> None:
    (view,) = {tuple(step.view.items()) for step in STEPS if step.page == "Compare"}
    shown = dict(view)
    assert (shown["layer"], shown["head"]) == (shown["b_layer"], shown["b_head"])
    choice = MapChoice(layer=shown["layer"], head=shown["head"])
    first, second = (compute_map(MODEL, image(shown[name]), choice) for name in ("image", "b_image"))
    agreement = compare(first, second)
    assert agreement.correlation < 0.5
    assert agreement.distance[int(shown["query"])] > 0.8


def psnr(recon: Tensor, given: Tensor) -> float:
    return measure(given[0, 0].numpy(), recon.clamp(0, 1)[0, 0].numpy()).psnr


@torch.inference_mode()
def test_picture_is_lost_without_its_attention() -> None:
    given = image("garment-84")
    without = reconstruct_with(MODEL, given, uniform)
    assert psnr(without, given) < psnr(MODEL(given)[0], given) - 6  # more than twice the error


@torch.inference_mode()
def test_photograph_is_worse_than_nearly_all_test_images_and_the_garment_is_not() -> None:
    percentiles = LOADED.card.metrics["percentiles"]["psnr"]
    for key, fails in (("cat", True), ("garment-84", False), ("square-2", False)):
        given = image(key)
        worse = 100 - np.interp(psnr(MODEL(given)[0], given), percentiles, range(101))
        assert (worse >= 95) == fails
