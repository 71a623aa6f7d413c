"""The page Layers without a browser: its pictures and numbers are the lens's own, and it says when they mislead."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from tae import runs
from tae.card import Card
from tae.checkpoint import load_checkpoint, save_checkpoint
from tae.config import PARTS, preset_config
from tae.datasets import DemoSource
from tae.gallery import gallery
from tae.images import encode_png
from tae.lens import lens_path, load_lens, look
from tae.model import TransformerAutoencoder
from tae.trainconfig import TrainConfig
from tests.test_pages import DEMO, HOSTILE, ROOT, bring, go, open_page, run, shelf, texts  # noqa: F401

PAGE = "Layers"
TINY = {"input_size": (32, 32), "patch_size": 8, "latent_dim": 16, "encoder_layers": 2, "decoder_layers": 1}


@pytest.fixture
def keep(shelf: Path) -> Callable[..., Path]:  # noqa: F811
    """Saves a very small model among the checkpoints; fields of its card and its shape may differ."""

    def save(file: str = "small.safetensors", data: str = DemoSource.data, **fields: object) -> Path:
        torch.manual_seed(1)
        model = TransformerAutoencoder(preset_config("tiny", **{**TINY, **fields})).eval()  # type: ignore[arg-type]
        card = Card(name=file, training={"steps": 1}, metrics={}, data=data, licence="", notes="")
        return save_checkpoint(shelf / file, model, card)

    return save


def charts(app: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]  # type: ignore[attr-defined]


def decibels(chart: dict) -> list[float]:
    return [float(re.findall(r": (-?[\d.]+) dB", note["text"])[0]) for note in chart["layout"]["annotations"]]


@pytest.mark.parametrize("way", ["tuned", "raw"])
def test_strips_and_curves_are_what_the_lens_gives(way: str) -> None:
    app = open_page(PAGE, image="garment-30", lens=way)
    loaded = load_checkpoint(ROOT / "checkpoints" / DEMO)
    lens = load_lens(lens_path(ROOT / "checkpoints" / DEMO), loaded.model.config, loaded.digest)
    image = torch.from_numpy(gallery((201, 201))["garment-30"].load() / np.float32(255))[None, None]
    drawn = charts(app)
    unusual = 0
    for number, part in enumerate(PARTS):
        view = look(loaded.model, image, part, lens, tuned=way == "tuned")
        np.testing.assert_allclose(decibels(drawn[number]), view.psnr[:, 0], atol=0.051)
        assert view.is_unusual is not None
        unusual += int(view.is_unusual.sum())
        curves = {trace["name"]: trace["y"] for trace in drawn[2 + number]["data"]}
        assert set(curves) == {"raw", "tuned", "raw, mean of test images", "tuned, mean of test images"}
    warnings = [one.value for one in app.warning]
    assert (len(warnings), unusual > 0) == ((1, True) if way == "raw" else (0, False))
    if warnings:
        assert f"({unusual} of 8)" in warnings[0]
    assert app.segmented_control("choose_lens").value == way


def test_sentence_names_the_layer_that_adds_most() -> None:
    app = open_page(PAGE, lens="raw")
    found = decibels(charts(app)[0])
    said = next(one.value for one in app.markdown if one.value.startswith("**Encoder**:"))
    assert f"layer {int(np.diff(found).argmax())} adds most" in said and f"at {found[0]:.1f} dB" in said


def test_status_says_which_states_these_are() -> None:
    page = texts(open_page(PAGE), "caption")
    for words in ("Decoder · tuned · 3 layers", "out of distribution above", "fitted on 4000 training images"):
        assert words in page


def test_checkpoint_without_a_lens_shows_raw_pictures_and_a_click_fits_one(keep: Callable[..., Path]) -> None:
    path = keep()
    app = open_page(PAGE)
    assert "No lens has been fitted" in texts(app, "info") and not app.segmented_control
    assert [len(chart["data"]) for chart in charts(app)[2:]] == [1, 1]
    app.button("causal_start_lens").click()
    run(app)
    loaded = load_checkpoint(path)
    lens = load_lens(lens_path(path), loaded.model.config, loaded.digest)
    assert lens.about["train_images"] == 4000
    assert "No lens" not in texts(app, "info")
    run(app)
    assert app.segmented_control("choose_lens").value == "tuned" and "No lens" not in texts(app, "info")


def test_uploaded_checkpoint_gets_its_lens_without_a_file(
    keep: Callable[..., Path],
    shelf: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    keep()
    other = Path(shutil.move(keep("other.safetensors", latent_dim=32), tmp_path / "other.safetensors"))
    app = go(bring(open_page(), other.name, other.read_bytes()), PAGE)
    app.session_state.checkpoint = next(iter(app.session_state.uploaded_models))
    run(app)
    app.button("causal_start_lens").click()
    run(app)
    assert not app.error and app.segmented_control("choose_lens").value == "tuned"
    assert [path.name for path in shelf.glob("*.lens.*")] == []


def test_lens_is_fitted_on_the_images_of_the_run_or_the_page_says_that_it_is_not(
    keep: Callable[..., Path], tmp_path: Path
) -> None:
    path = keep(data="Photographs of trees")
    said = texts(open_page(PAGE), "info")
    assert "Fitting takes the demo images" in said and "--data <your images>" in said
    folder = runs.folder_of(path)
    folder.mkdir(parents=True)
    runs.write_config(folder, TrainConfig(data=str(tmp_path / "gone"), out=path))
    app = open_page(PAGE)
    assert "the images of its training" in texts(app, "info")
    app.button("causal_start_lens").click()
    run(app)
    assert "No lens could be fitted" in app.error[0].value and not lens_path(path).exists()


def test_damaged_lens_is_a_sentence_and_pictures_are_raw(keep: Callable[..., Path]) -> None:
    path = keep()
    lens_path(path).write_bytes(b"no lens")
    app = open_page(PAGE)
    assert lens_path(path).name.replace(".", "\\.") in app.warning[0].value
    assert not app.segmented_control and not app.button_group and len(charts(app)) == 4
    assert "causal_start_lens" not in [button.key for button in app.button]


def test_one_token_model_has_layers_too(keep: Callable[..., Path]) -> None:
    keep(patch_size=None)
    app = open_page(PAGE)
    assert [len(decibels(chart)) for chart in charts(app)[:2]] == [3, 2]
    assert "no layer adds anything" in texts(app, "markdown")  # it never learnt


def test_untrained_model_is_called_so_and_offers_no_lens() -> None:
    app = open_page(PAGE)
    config = preset_config("tiny", **TINY)  # type: ignore[arg-type]
    app.session_state.untrained = {"untrained-x": config}
    app.session_state.checkpoint = "untrained-x"
    run(app)
    assert "UNTRAINED MODEL" in texts(app, "caption") and not app.info
    assert "Untrained" in texts(app, "error")


def test_held_out_pictures_of_the_training_are_shown_as_such(keep: Callable[..., Path]) -> None:
    path = keep()
    assert not open_page(PAGE).select_slider
    folder = runs.folder_of(path) / "strips"
    folder.mkdir(parents=True)
    for step in (20, 100, 300):
        (folder / f"{step:08}.png").write_bytes(encode_png(np.full((16, 16), step % 256, np.uint8)))
    app = open_page(PAGE)
    assert app.select_slider[0].options == ["20", "100", "300"] and app.select_slider[0].value == "300"
    said = texts(app, "caption")
    assert "Not your picture" in said and "after step 300" in said
    app = open_page(PAGE, moment="100")
    assert "after step 100" in texts(app, "caption") and app.query_params["moment"] == "100"


def test_words_of_strangers_stay_words(keep: Callable[..., Path]) -> None:
    keep(data=HOSTILE)
    app = open_page(PAGE)
    assert not app.exception and "<img" not in texts(app).replace("\\<img", "")
