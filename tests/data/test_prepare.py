"""`tae.prepare`: whatever form an image comes in, it becomes the same tensor."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tae
from tae.data.decode import ImageError
from tae.data.demo import compose_square
from tae.training.config import TrainConfig
from tae.training.images.sources import FileSource

MODEL = tae.create_autoencoder(input_size=(40, 40), latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1)


def test_every_form_of_an_image_gives_the_same_tensor_that_a_training_sees(tmp_path: Path) -> None:
    pixels = compose_square("train", 3, side=60)
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG")
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(file.getvalue())
    forms = [file.getvalue(), tmp_path / "0.png", str(tmp_path / "0.png"), pixels, image, image.convert("P")]
    forms += [pixels[None, None], torch.from_numpy(pixels), torch.from_numpy(pixels / 255.0), image.convert("RGB")]
    tensors = [tae.prepare(form, MODEL).image for form in forms]
    assert tensors[0].shape == (1, 1, 40, 40) and tensors[0].dtype == torch.float32
    for tensor in tensors[1:]:
        torch.testing.assert_close(tensor, tensors[0], rtol=0, atol=1e-6)
    trained = FileSource(
        TrainConfig(data=str(tmp_path), input_size=(40, 40), flip=0, shift=0, zoom=0, contrast=0)
    ).image(0)
    assert np.abs(trained / 255 - tensors[0][0, 0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert MODEL.embed(torch.cat(tensors[:3])).shape == (3, 16)


def test_notes_say_what_was_done_and_transparency_and_rotation_are_kept() -> None:
    turned = Image.new("L", (80, 40), 100)
    turned.getexif()[0x0112] = 6  # stored lying on its side
    upright = Image.frombytes("L", (80, 40), turned.tobytes())
    upright.info["exif"] = turned.getexif().tobytes()
    assert tae.prepare(upright, MODEL).notes == (
        "scaled from 40x80 to 20x40, padded with grey 0.39, like its border, to 40x40",
    )
    clear = Image.new("LA", (40, 40), (0, 0))
    assert float(tae.prepare(clear, MODEL).image.min()) == 1.0  # on white
    deep = tae.prepare(np.full((40, 40), 32768, np.uint16), MODEL.config)
    assert float(deep.image.mean()) == pytest.approx(32768 / 65535, abs=1e-6)


@pytest.mark.parametrize("source", [b"", b"no image", np.zeros((2, 3, 4, 5)), np.zeros((0, 4)), np.array([["a"]])])
def test_what_is_no_image_is_refused(source: object) -> None:
    with pytest.raises(ImageError):
        tae.prepare(source, MODEL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model must be a model or its config, got str"):
        tae.prepare(np.zeros((4, 4)), "tiny")  # type: ignore[arg-type]
