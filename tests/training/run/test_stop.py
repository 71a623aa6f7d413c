"""The signal to end, as a queue sends it before it kills: obeyed in every phase, and nothing learnt is lost."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tae.data.demo import compose_square
from tae.training import trainer
from tae.training.config import TrainConfig
from tae.training.images import sources
from tae.training.run import runs, terminal
from tae.training.trainer import train
from tests.training.small import begun, run_command, same_bits, small_config, state_tensors

FOR_EVER_S = 600


def _signalled(function: Callable, calls: int, hangs: bool) -> Callable:
    """The same function, in whose so many-th call the process gets the signal; it hangs there, or goes on."""
    count = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGTERM)
            if hangs:
                time.sleep(FOR_EVER_S)
        return function(*args, **kwargs)

    return call


def while_files_are_read() -> None:
    sources.read_frame = _signalled(sources.read_frame, 3, False)  # by a thread


def before_the_first_step() -> None:
    trainer.Yardsticks.__init__ = _signalled(trainer.Yardsticks.__init__, 1, True)


def in_the_third_step() -> None:
    trainer.Trainer._learn = _signalled(trainer.Trainer._learn, 3, False)


def in_a_step_that_hangs() -> None:
    terminal.PATIENCE_S = 0.1
    trainer.Trainer._learn = _signalled(trainer.Trainer._learn, 3, True)


def while_held_out_images_are_looked_at() -> None:
    terminal.PATIENCE_S = 0.1
    trainer.reconstruct = _signalled(trainer.reconstruct, 1, True)


def while_test_images_are_measured() -> None:
    terminal.PATIENCE_S = 0.1
    trainer.evaluate = _signalled(trainer.evaluate, 1, True)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in range(8):
        Image.fromarray(compose_square("train", index, side=16)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = small_config(tmp_path_factory.mktemp("unbroken") / "x.safetensors", data=str(images))
    list(train(config))
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "kept"),
    [
        (while_files_are_read, None),
        (before_the_first_step, 0),
        (in_the_third_step, 3),
        (in_a_step_that_hangs, 2),
        (while_held_out_images_are_looked_at, 2),
        (while_test_images_are_measured, 6),
    ],
)
def test_signal_to_end_is_obeyed_and_resume_goes_on_to_the_same_bits(
    phase: Callable[[], None], kept: int | None, unbroken: TrainConfig, tmp_path: Path
) -> None:
    config = replace(unbroken, out=tmp_path / "x.safetensors", resume=True)
    child = begun(run_command, config, tmp_path, tmp_path / "printed.txt", {}, phase)
    child.join(FOR_EVER_S / 2)
    assert child.exitcode == 130, (tmp_path / "printed.txt").read_text()
    folder = runs.folder_of(config.out_path)
    assert not config.out_path.exists() and (folder / "config.json").exists() == (kept is not None)
    if kept is not None:
        run = runs.read_run(folder)
        assert (run.status, run.has_state) == ("stopped", kept > 0)
        assert (
            [path.stem for path in folder.glob("state-*")] == []
            if not kept
            else (folder / f"state-{kept:08}.safetensors").exists()
        )
    list(train(config))
    assert same_bits(state_tensors(folder), state_tensors(runs.folder_of(unbroken.out_path)))
    assert runs.read_run(folder).status == "finished"
