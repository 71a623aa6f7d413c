"""The explorer in a notebook: from whatever holds a picture, with what must be said, and the model left as it was."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tae
from tae import TransformerAutoencoder, load_checkpoint, save_checkpoint
from tae.analysis.maps import MapChoice, compute_map
from tae.data.decode import ImageError
from tae.data.demo import compose_square
from tae.store.card import Card
from tae.web.notebook import Shown
from tests import ROOT
from tests.web import Elements, payloads

BYTES = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)


@pytest.fixture
def model(small_model: Callable[..., TransformerAutoencoder]) -> TransformerAutoencoder:
    return small_model().float()


def payload(shown: Shown) -> dict:
    (found,) = payloads(Elements(shown.page))
    return found


def notes(shown: Shown) -> list[str]:
    return [f"{note['severity']}: {note['text']}" for note in payload(shown)["notes"]]


@pytest.mark.slow
def test_one_picture_looks_alike_however_it_comes(model: TransformerAutoencoder, tmp_path: Path) -> None:
    grey = (BYTES / 255).astype(np.float32)
    Image.fromarray(BYTES).save(tmp_path / "clouds.png")
    given = [
        *(BYTES, grey, grey.astype(np.float64), torch.from_numpy(grey)[None, None], torch.from_numpy(BYTES)),
        torch.from_numpy(grey).requires_grad_(),
        *(grey[None, None], tmp_path / "clouds.png", str(tmp_path / "clouds.png")),
    ]
    made = [payload(tae.show(model, one)) for one in given]
    expected = compute_map(model, torch.from_numpy(grey)[None, None], MapChoice(part="decoder", layer="1")).numpy()
    for one in made:
        (entry,) = [entry for entry in one["maps"] if entry["name"] == "decoder/1/mean"]
        cells = np.frombuffer(base64.b64decode(entry["data"]), "<u2").reshape(12, 12)
        np.testing.assert_allclose((cells / 65535) ** 2 * entry["largest"], expected, atol=1e-4 * expected.max())
        assert one["sides"][0]["image"] == made[0]["sides"][0]["image"]
    assert made[0]["sides"][0]["title"] == "image" and made[-1]["sides"][0]["title"] == "clouds.png"


def test_the_view_is_the_one_asked_for(model: TransformerAutoencoder) -> None:
    shown = tae.show(
        model, BYTES, part="decoder", layer=1, head=3, query=5, direction="to", range="own", weighting="values"
    )
    view = payload(shown)["view"]
    assert [view[name] for name in ("part", "layer", "head", "query")] == ["decoder", "1", "3", 5]
    assert (view["direction"], view["range"]) == ("to", "own")
    assert any("Kobayashi 2020" in note for note in notes(shown))
    assert any("maps cannot be compared by their colours" in note for note in notes(shown))


def test_another_size_is_fitted_and_said(model: TransformerAutoencoder) -> None:
    shown = tae.show(model, np.zeros((48, 48), np.uint8), fit="crop")
    assert any("cropped in the middle from 48x48 to 48x36, scaled" in note for note in notes(shown))


def test_training_is_known_from_the_card_only(model: TransformerAutoencoder, tmp_path: Path) -> None:
    for training, expected in (({"steps": 0}, "error: UNTRAINED MODEL"), ({"steps": 3}, None)):
        card = Card(name="Clouds <b>", training=training)
        loaded = load_checkpoint(save_checkpoint(tmp_path / "x.safetensors", model, card))
        shown = tae.show(loaded, BYTES)
        assert shown.title == "image, Clouds <b>"
        assert (notes(shown)[0][: len("error: UNTRAINED MODEL")] == expected) == (expected is not None)
        assert not any("without its card" in note for note in notes(shown))
    assert "without its card" in notes(tae.show(model, BYTES))[0]
    assert all("where weight was placed" in notes(one)[-1] for one in (tae.show(model, BYTES), shown))


@pytest.mark.slow
def test_attention_that_tells_little_is_called_so(model: TransformerAutoencoder) -> None:
    with torch.no_grad():
        for block in model.blocks("encoder"):
            block.attn.qkv.weight[:32] = 0  # type: ignore[union-attr]
            block.attn.qkv.bias[:32] = 0  # type: ignore[union-attr]
    (said,) = [note for note in notes(tae.show(model, BYTES)) if "the encoder is not needed" in note]
    assert said.startswith("warning: Uniform attention in the encoder costs 0.0 dB") and "this image" in said
    demo = load_checkpoint(ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors")
    assert not any(
        "not needed" in note or "input-independent" in note for note in notes(tae.show(demo, compose_square("test", 0)))
    )


def test_the_model_stays_as_it_was(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model = small_model(dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (payload(tae.show(model, BYTES))["maps"] for _ in range(2))
    assert first == second, "dropout is off"
    assert model.training and next(model.parameters()).dtype == torch.float64
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_one_token_gets_a_notice_and_no_heatmap(small_model: Callable[..., TransformerAutoencoder]) -> None:
    shown = tae.show(small_model(patch_size=None).float(), BYTES)
    assert "one token, the whole image" in shown.page and "<script" not in shown.page
    assert "default-src 'none'" in shown.page


def test_the_frame_holds_the_page_to_the_letter_and_lets_nothing_out(
    model: TransformerAutoencoder, tmp_path: Path
) -> None:
    name = '"><script>alert(1)</script> 衣.png'.replace("/", "-")
    Image.fromarray(BYTES).save(tmp_path / name)
    shown = tae.show(model, tmp_path / name, height=321)
    text = shown._repr_html_()
    assert text.isascii()
    ((tag, attributes),) = Elements(text).found
    assert tag == "iframe" and attributes["srcdoc"] == shown.page and attributes["title"] == name == shown.title
    assert attributes["sandbox"] == "allow-scripts", "with allow-same-origin the frame could reach the notebook"
    assert "height: 321px" in attributes["style"]
    assert repr(shown) == f"<{name}; shows in a notebook, .save(path) writes it as HTML>"


def test_a_page_is_saved_whole(model: TransformerAutoencoder, tmp_path: Path) -> None:
    shown = tae.show(model, BYTES)
    for _ in range(2):  # a cell is run again
        assert shown.save(str(tmp_path / "x.html")) == tmp_path / "x.html"
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == shown.page
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_what_is_no_picture_is_refused(model: TransformerAutoencoder) -> None:
    for image, message in [
        (np.zeros((24, 32, 3), np.uint8), r"image must be \(H, W\) or \(1, 1, H, W\), one grayscale image, got shape"),
        (np.zeros((2, 1, 24, 32), np.float32), "one grayscale image, got shape"),
        (np.zeros((0, 4), np.float32), "one grayscale image, got shape"),
        (np.zeros((24, 32), np.int64), r"image must be float in \[0, 1\] or uint8 in \[0, 255\], got int64"),
        (np.full((24, 32), 200.0), r"image must be in \[0, 1\], 0 black, got 200 to 200; scale it"),
        (np.full((24, 32), np.nan), r"image must be in \[0, 1\], 0 black, got nan"),
        (np.array(None), "one grayscale image, got shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            tae.show(model, image)


def test_other_arguments_are_checked(model: TransformerAutoencoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer must be from 0 to 1 in the encoder, got 2"):
        tae.show(model, BYTES, layer=2)
    with pytest.raises(ValueError, match="unknown mode 'zoom'"):
        tae.show(model, np.zeros((9, 9), np.uint8), fit="zoom")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        tae.show(model, tmp_path / "none.png")
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        tae.show(model, tmp_path / "x.png")
