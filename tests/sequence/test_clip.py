"""Films: which frames of a file are looked at, and strips as windows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tae.data.decode import ImageError
from tae.data.encode import encode_gif
from tae.model.config import ModelConfig
from tae.sequence.clip import MAX_FRAMES, most_frames, open_film
from tae.sequence.data import Found, find_sequences

SHAPE = {"latent_dim": 16, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1, "patch_size": 8}
SQUARE = ModelConfig(input_size=(24, 24), **SHAPE)  # type: ignore[arg-type]
ANY_WIDTH = ModelConfig(input_size=(24, None), max_width=96, **SHAPE)  # type: ignore[arg-type]


def greys(count: int, height: int = 24, width: int = 24) -> np.ndarray:
    """Frame t is grey t / 255 everywhere."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, height, width))


def one(path: Path) -> Found:
    return find_sequences(path)[0]


def values(frames: np.ndarray) -> list[int]:
    assert (frames == frames[:, :1, :1]).all()
    return np.round(frames[:, 0, 0] * 255).astype(int).tolist()


def test_a_gif_comes_frame_by_frame(tmp_path: Path) -> None:
    (tmp_path / "x.gif").write_bytes(encode_gif(greys(7)))
    film = open_film(one(tmp_path / "x.gif"), SQUARE)
    assert film.frames.shape == (7, 24, 24) and film.frames.dtype == np.float32
    assert values(film.frames) == [0, 1, 2, 3, 4, 5, 6] and film.notes == () and film.starts is None


def test_every_third_frame_and_no_more_than_a_person_looks_through(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ascontiguousarray(greys(200)))
    few = open_film(one(tmp_path / "x.npy"), SQUARE, every=3)
    assert values(few.frames) == [*range(0, 200, 3)] and few.notes == ("every 3rd frame",)
    all_of_them = open_film(one(tmp_path / "x.npy"), SQUARE)
    assert values(all_of_them.frames) == [*range(MAX_FRAMES)] and all_of_them.notes == ("the first 120 of more frames",)
    np.save(tmp_path / "y.npy", np.ascontiguousarray(greys(MAX_FRAMES)))
    assert open_film(one(tmp_path / "y.npy"), SQUARE).notes == ()


def test_wide_frames_are_fewer() -> None:
    assert most_frames(24, 24) == MAX_FRAMES and most_frames(152, 1280) == 30 and most_frames(10_000, 10_000) == 2


def test_pictures_of_a_folder_are_frames_and_broken_ones_are_told(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(greys(11)[number]).save(tmp_path / f"img{number}.png")
    (tmp_path / "img3.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    film = open_film(one(tmp_path), SQUARE)
    assert values(film.frames) == [1, 2, 10] and [name for name, _ in film.skipped] == ["img3.png"]


def test_a_wide_picture_is_its_windows_from_left_to_right(tmp_path: Path) -> None:
    strip = np.arange(24 * 100, dtype=np.float32).reshape(24, 100) / 2400
    np.save(tmp_path / "strip.npy", strip)
    film = open_film(one(tmp_path / "strip.npy"), SQUARE)
    assert film.starts == (0, 12, 24, 36, 48, 60, 72, 76)
    scaled = (strip - strip.min()) / (strip.max() - strip.min())  # how floats beyond [0, 1] or within are read
    for frame, start in zip(film.frames, film.starts or (), strict=True):
        np.testing.assert_allclose(frame, scaled[:, start : start + 24], atol=2e-3)
    assert "a strip of 100x24 pixels as 8 windows of 24" in film.notes[-1]
    wider = open_film(one(tmp_path / "strip.npy"), ANY_WIDTH)
    assert wider.frames.shape[1:] == (24, 48) and wider.starts == (0, 24, 48, 52)


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_one_picture_has_no_next_frame(kind: str, tmp_path: Path) -> None:
    Image.fromarray(greys(5)[4]).save(tmp_path / f"x.{kind}")
    with pytest.raises(
        ImageError, match="at least two frames, or be one image that is wide enough .* of 24x24; got one"
    ):
        open_film(one(tmp_path / f"x.{kind}"), SQUARE)


def test_too_few_of_them_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "x.gif").write_bytes(encode_gif(greys(3)))
    with pytest.raises(ImageError, match="got 1 of every 5; take more of them"):
        open_film(one(tmp_path / "x.gif"), SQUARE, every=5)


def test_a_torn_animation_is_refused(tmp_path: Path) -> None:
    data = encode_gif(np.random.default_rng(0).integers(0, 255, (5, 24, 24), np.uint8))
    (tmp_path / "x.gif").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="damaged or cut short"):
        open_film(one(tmp_path / "x.gif"), SQUARE)
