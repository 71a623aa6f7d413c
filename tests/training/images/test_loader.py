"""The loader: the same batches whatever the threads, shared out without loss, errors in their place, a clean end."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tae.data.decode import ImageError
from tae.data.demo import DemoSource, compose_square
from tae.training.config import TrainConfig
from tae.training.images.loader import Batch, Loader
from tae.training.images.sources import FileSource


@pytest.fixture
def files(tmp_path: Path) -> FileSource:
    for index in range(20):
        Image.fromarray(compose_square("train", index, side=24)).save(tmp_path / f"{index}.png")
    return FileSource(TrainConfig(data=str(tmp_path), input_size=(24, 24)))


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def wait_until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def load(*arguments, **options) -> list[Batch]:
    with Loader(*arguments, **options) as loader:
        return list(loader)


@pytest.mark.parametrize("workers", [2, 7])
def test_63_batches_are_the_same_whatever_the_number_of_threads(files: FileSource, workers: int) -> None:
    for source in (files, DemoSource((24, None), max_width=90)):
        one, many = (load(source, 5, 3, 12, workers=number) for number in (1, workers))
        assert [batch.step for batch in one] == [batch.step for batch in many] == list(range(3, 12))
        for a, b in zip(one, many, strict=True):
            assert a.draws == b.draws and torch.equal(a.images, b.images)
            assert (a.widths is None) == (b.widths is None)
            assert a.widths is None or b.widths is None or torch.equal(a.widths, b.widths)
    assert not running()


def test_batches_hold_the_source_s_images_in_0_to_1(files: FileSource) -> None:
    for batch in load(files, 4, 0, 3):
        assert batch.images.shape == (4, 1, 24, 24) and batch.images.dtype == torch.float32 and batch.widths is None
        assert batch.draws == files.draws(batch.step, 4)
        for draw, image in zip(batch.draws, batch.images, strict=True):
            assert np.array_equal(np.round(image[0].numpy() * 255), files.image(draw))


def test_steps_may_begin_anywhere(files: FileSource) -> None:
    whole, rest = load(files, 4, 0, 9), load(files, 4, 5, 9)
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[5:], rest, strict=True))
    assert load(files, 4, 5, 5) == []


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch_out(files: FileSource, world_size: int) -> None:
    whole = load(files, 7, 0, 4)
    parts = [load(files, 7, 0, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in range(4):
        for rank in range(world_size):
            assert parts[rank][step].draws == whole[step].draws[rank::world_size]
            assert torch.equal(parts[rank][step].images, whole[step].images[rank::world_size])


def test_process_without_images_is_refused(files: FileSource) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least the number of processes, got 2 and 3"):
        Loader(files, 2, 0, 1, world_size=3)


def test_error_names_the_file_and_comes_up_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        Image.fromarray(compose_square("train", index, side=24)).save(tmp_path / f"{index}.png")
    monkeypatch.setattr(FileSource, "CACHE_BYTES", 0)
    source = FileSource(TrainConfig(data=str(tmp_path), input_size=(24, 24)))
    name = source.describe(2 * 3 + 1)
    (tmp_path / name).unlink()
    steps = []
    with pytest.raises(ImageError, match=f"^{name}: "), Loader(source, 3, 0, 6) as loader:
        for batch in loader:
            steps.append(batch.step)
    assert steps == [0, 1] and not running()


def test_stopping_early_ends_the_threads(files: FileSource) -> None:
    with Loader(files, 4, 0, 10**9) as loader:
        for batch in loader:
            if batch.step == 2:
                break
        assert running()
    assert not running()
    loader.close()
    with Loader(files, 4, 0, 10):
        pass
    assert not running()


def test_error_of_the_consumer_ends_the_threads(files: FileSource) -> None:
    with pytest.raises(KeyError), Loader(files, 4, 0, 10**9) as loader:
        next(iter(loader))
        raise KeyError
    assert not running()


def test_reading_goes_ahead_while_the_model_works_but_not_far(files: FileSource) -> None:
    asked = []
    draws = files.draws
    files.draws = lambda step, batch_size: asked.append(step) or draws(step, batch_size)  # type: ignore[method-assign]
    with Loader(files, 4, 0, 10**9, workers=2) as loader:
        next(iter(loader))
        assert wait_until(lambda: len(asked) == 4)
        time.sleep(0.05)
        assert sorted(asked) == [0, 1, 2, 3]  # the one taken, two in work or ready, one more


def test_speed_is_images_over_the_time_that_threads_were_busy() -> None:
    class Slow(DemoSource):
        def image(self, draw: int) -> np.ndarray:
            time.sleep(0.005)
            return np.zeros((8, 8), np.uint8)

    for workers in (1, 2):
        with Loader(Slow((8, 8)), 4, 0, 6, workers=workers) as loader:
            assert loader.images_per_s == 0
            for _ in loader:
                time.sleep(0.05)  # a slow model does not slow the reading alone
            assert 0.4 * workers * 200 < loader.images_per_s <= workers * 200
