"""Drops train as the demo images do: in three sizes, without end, each a function of its number."""

from pathlib import Path

import numpy as np
import pytest

from tae.data.drops import DropSource
from tae.data.drops.frame import draw_frame
from tae.training.config import COMPOSED, TrainConfig
from tae.training.images.sources import BUILT_IN, open_source


def test_sizes_are_square_strip_and_crop() -> None:
    for size, view in (((201, 201), "square"), ((152, 1280), "strip"), ((152, None), "crop")):
        images = DropSource(size).held_out(3)
        for index, image in enumerate(images):
            np.testing.assert_array_equal(image, getattr(draw_frame("val", index), view)())
    assert DropSource((64, 320)).image(0).shape == (64, 320) and DropSource((64, 64)).image(0).shape == (64, 64)
    assert DropSource((76, None), max_width=100).image(0).shape == (76, 100)  # drop 0 is wider


def test_crops_of_a_step_are_of_like_widths_and_none_comes_twice() -> None:
    source = DropSource((152, None), max_width=400)
    steps = [source.draws(step, 4) for step in range(32)]
    assert sorted(draw for step in steps for draw in step) == list(range(128))
    for step in steps[:4]:
        widths = [source.image(draw).shape[1] for draw in step]
        assert max(widths) <= 400 and max(widths) < 2 * min(widths)


def test_splits_and_seeds_differ_and_a_fingerprint_tells() -> None:
    source = DropSource((201, 201))
    images = [source.image(0), source.held_out(1)[0], source.test(1)[0], DropSource((201, 201), seed=1).image(0)]
    assert len({image.tobytes() for image in images}) == 4
    sources = [
        source,
        DropSource((201, 201), seed=1),
        DropSource((152, 1280)),
        DropSource((152, None)),
        DropSource((64, 64)),
    ]
    assert len({source.fingerprint for source in sources}) == 5
    assert DropSource((201, 201)).fingerprint == source.fingerprint


def test_a_training_finds_drops_by_name_and_a_folder_so_called_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(data="drops", input_size=(152, 1280), seed=3)
    source = open_source(config)
    assert isinstance(source, DropSource) and source.seed == 3 and source.width == 1280
    assert config.out_path.name == "drops_tiny_1280x152_p16.safetensors"
    (tmp_path / "drops").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="at least two readable images|no"):
        open_source(TrainConfig(data="./drops"))
    assert tuple(BUILT_IN) == COMPOSED
    with pytest.raises(ValueError, match="epochs must count images of which there is an end, got 2 of drops"):
        TrainConfig(data="drops", epochs=2)
