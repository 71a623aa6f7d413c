"""A training's images, before it starts: the same images as the training's own source."""

from pathlib import Path

import numpy as np
import pytest

from tae.data.encode import encode_png, to_uint8
from tae.data.fit import fit_image
from tae.training.config import TrainConfig
from tae.training.images import preview
from tae.training.images.sources import open_source
from tae.training.planning.advice import TRIED_ON

PLAIN = {"flip": 0.0, "shift": 0.0, "zoom": 0.0, "contrast": 0.0}


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20, 30), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "photos"
    (home / "more").mkdir(parents=True)
    for number in range(40):
        (home / ("more" if number % 2 else "") / f"img{number}.png").write_bytes(encode_png(pixels(number)))
    return home


def config(folder: Path | str, **fields: object) -> TrainConfig:
    return TrainConfig(data=str(folder), input_size=(16, 16), patch_size=8, **fields)  # type: ignore[arg-type]


def test_files_are_counted_without_being_read(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "note.txt").write_text("no picture")
    found = preview.look(str(folder))
    assert found.num_files == 41 and found.is_small
    assert found.num_bytes == sum(path.stat().st_size for path in folder.rglob("*.png"))
    (folder / "new.png").write_bytes(b"nothing")
    assert preview.look(str(folder)) != found


def test_all_files_read_are_what_the_training_reads(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"nothing")
    asked = config(folder, seed=3)
    shown, source = preview.read_all(asked), open_source(asked)
    for number, image in enumerate(shown.images):
        np.testing.assert_array_equal(image, source.image(number))
        assert shown.names[number] == source.describe(number)
    assert len(shown.images) == 8 and shown.num_images == source.num_images
    assert set(shown.sizes) == {(20, 30)} and len(shown.examples) == TRIED_ON
    np.testing.assert_array_equal(shown.examples, [*source.examples(TRIED_ON)])
    assert shown.num_images and shown.num_held_out and shown.num_images + shown.num_held_out == 40
    assert [name for name, _ in shown.skipped] == ["broken.png"]


def test_few_images_are_shown_once_each(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encode_png(pixels(number)))
    shown = preview.read_all(config(tmp_path))
    assert len(shown.images) == len(set(shown.names)) == shown.num_images == 2


def test_demo_images_have_no_end_and_nothing_to_count() -> None:
    shown = preview.read_all(TrainConfig(input_size=(32, 32), patch_size=8))
    assert len(shown.images) == 8 and shown.num_images is None and shown.num_held_out is None


def test_some_files_are_spread_over_all_of_them(folder: Path) -> None:
    shown = preview.read_some(config(folder, **PLAIN), count=5)
    assert shown.names[0] == "img0.png" and shown.names[-1] == "more/img39.png" and len(shown.names) == 5
    fitted = to_uint8(fit_image(pixels(39).astype(np.float32) / 255, (16, 16)).pixels)
    np.testing.assert_array_equal(shown.images[-1], fitted)
    augmented = preview.read_some(config(folder), count=5)
    assert any(not np.array_equal(*pair) for pair in zip(shown.images, augmented.images, strict=True))
    again = preview.read_some(config(folder), count=5)
    assert all(np.array_equal(*pair) for pair in zip(again.images, augmented.images, strict=True))


def test_broken_files_are_named_and_only_broken_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.png: not a supported image"):
        preview.read_some(config(tmp_path))
    (tmp_path / "b.png").write_bytes(encode_png(pixels(0)))
    shown = preview.read_some(config(tmp_path))
    assert shown.names == ["b.png"] and [name for name, _ in shown.skipped] == ["a.png"]


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is none in it"):
        preview.look(str(tmp_path))
