"""The page Does it matter? without a browser: its sentences and figures are those of the package, its link restores it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from tae import causal
from tae.causal import Edit, Knockout, from_text
from tae.checkpoint import load_checkpoint
from tae.config import preset_config
from tae.gallery import gallery
from tae.model import TransformerAutoencoder
from tae.ui import causal as ui_causal
from tests.test_pages import DEMO, ROOT, open_page, run, shelf, store, texts  # noqa: F401

PAGE = "Does it matter?"


def image(key: str) -> torch.Tensor:
    """(1, 1, 201, 201)."""
    return torch.from_numpy(gallery((201, 201))[key].load() / np.float32(255))[None, None]


def decibels(text: str) -> float:
    return float(text.removesuffix(" dB"))


@pytest.fixture(scope="module")
def model() -> TransformerAutoencoder:
    return load_checkpoint(ROOT / "checkpoints" / DEMO).model


def test_top_line_says_what_the_package_measures(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, image="garment-30", other="garment-84")
    said = next(one.value for one in app.markdown if "Uniform attention costs" in one.value and "#####" in one.value)
    shown = image("garment-30")
    plain = causal.psnr_each(shown, model(shown)[0].detach())
    for words, replace in (
        ("Uniform", causal.uniform),
        ("another image's", causal.from_images(model, image("garment-84"))),
    ):
        lost = float(plain - causal.psnr_each(shown, causal.reconstruct_with(model, shown, replace)))
        found = re.search(rf"{words} attention (?:costs )?([\d.]+) dB", said)
        assert found and abs(float(found[1]) - lost) < 0.06
    assert "alone costs" in said and "agrees with measured effect at" in said


def test_both_parts_get_their_verdict_beside_the_test_set() -> None:
    page = texts(open_page(PAGE), "markdown", "caption")
    for part in ("encoder", "decoder"):
        assert re.search(rf"attention of the {part} is needed, image by image\.", page)
    assert "Over the test set" in page and "mean of 64 images" in page


def test_knocked_out_heads_lose_what_the_package_loses_and_the_link_restores_them(
    model: TransformerAutoencoder,
) -> None:
    text = "decoder/0/mlp,encoder/0/2"
    app = open_page(PAGE, image="garment-30", causal="knock", changes=text, baseline="zero")
    _, quality, damage = causal.damage_of(model, image("garment-30"), from_text(text))
    psnr, ssim, mse = app.metric
    assert psnr.value == f"{quality.psnr:.1f} dB" and psnr.delta == f"{-damage.psnr_lost:+.2f} dB"
    assert ssim.value == f"{quality.ssim:.3f}" and mse.value == f"{quality.mse:.4f}"
    assert app.query_params["changes"] == text and app.query_params["baseline"] == "zero"
    assert "replaced by zero" in texts(app, "caption")
    assert app.pills("causal_off_encoder_0").value == ["2"] and app.pills("causal_off_decoder_0").value == ["mlp"]


def test_rows_of_the_grid_toggle_and_can_be_undone() -> None:
    app = open_page(PAGE, causal="knock")
    before = app.metric[0].value
    assert not app.metric[0].delta and app.button("causal_undo").disabled
    app.pills("causal_off_encoder_1").set_value(["0", "attention"])
    run(app)
    assert app.session_state.changes == "encoder/1/0,encoder/1/attention"
    app.pills("causal_off_encoder_1").set_value(["attention"])
    run(app)
    app.pills("causal_off_decoder_2").set_value(["mlp"])
    run(app)
    assert app.session_state.changes == "decoder/2/mlp,encoder/1/attention" and app.metric[0].value != before
    app.button("causal_undo").click()
    run(app)
    assert app.session_state.changes == "encoder/1/attention"
    app.button("causal_reset").click()
    run(app)
    assert app.session_state.changes == "" and app.metric[0].value == before
    app.button("causal_undo").click()
    run(app)
    assert app.session_state.changes == "encoder/1/attention"


def test_changes_that_the_model_does_not_have_are_left_out() -> None:
    app = open_page(PAGE, causal="knock", changes="encoder/9/1,<b>,encoder/0/3,encoder/0/mask=5000")
    assert app.session_state.changes == "encoder/0/3"
    assert "3 changes" in texts(app, "info")
    assert not app.error


def test_a_link_keeps_the_last_edit_of_a_kind() -> None:
    config = preset_config("tiny")
    found, refused = ui_causal.interventions_of(
        "encoder/0/temperature=2,encoder/0/temperature=0.5,encoder/0/1,encoder/0/1", config, config.num_tokens
    )
    assert found == (Edit("encoder", 0, "temperature", 0.5), Knockout("encoder", 0, 1)) and refused == 0


def test_random_weights_say_so_and_lose_nothing() -> None:
    app = open_page(PAGE, twin="on")
    assert "Untrained twin" in texts(app, "error")
    said = next(one.value for one in app.markdown if one.value.startswith("#####"))
    assert "UNTRAINED MODEL" in said
    assert "decorative" in texts(app, "markdown")


def test_one_token_gets_a_notice(store: Callable[..., Path]) -> None:  # noqa: F811
    from tae.card import Card
    from tae.checkpoint import save_checkpoint

    folder = store("other.safetensors").parent
    one = TransformerAutoencoder(preset_config("tiny", patch_size=None, encoder_layers=1, decoder_layers=1)).eval()
    card = Card(name="One token", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    save_checkpoint(folder / "one.safetensors", one, card)
    app = open_page(PAGE, checkpoint="one.safetensors")
    assert "one token" in texts(app, "info") and not app.error and len(app.metric) == 0


def test_attention_that_does_not_matter_is_called_so_and_attention_that_does_is_not(
    store: Callable[..., Path],  # noqa: F811
) -> None:
    def flatten(model: TransformerAutoencoder) -> None:
        model.encoder.blocks[0].attn.qkv.weight[:256] = 0  # queries and keys
        model.encoder.blocks[0].attn.qkv.bias[:256] = 0

    path = store("flat.safetensors", flatten)
    flat = load_checkpoint(path)
    found = causal.verdict(ui_causal._quick_necessity(flat.digest, flat))
    assert found.kind == "decorative"
    demo = load_checkpoint(ROOT / "checkpoints" / DEMO)
    assert causal.verdict(ui_causal._quick_necessity(demo.digest, demo)).kind == "needed"
    app = AppTest.from_function(_draw_verdict, kwargs={"file": "flat.safetensors"}, default_timeout=60).run()
    assert "decorative" in app.warning[0].value and not app.exception


def _draw_verdict(file: str) -> None:
    import streamlit as st

    from tae import ui
    from tae.ui import causal

    st.session_state.setdefault("untrained", {})
    st.session_state.setdefault("uploaded_models", {})
    causal.verdict(ui.load_model(file), "encoder")


@pytest.mark.parametrize("key", ["blank", "noise", "chessboard"])
def test_pictures_unlike_the_training_break_nothing(key: str) -> None:
    app = open_page(PAGE, image=key)
    assert not app.error and not app.exception
    if key != "blank":
        assert "fails on this picture" in texts(app, "info")
