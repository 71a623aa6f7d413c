"""Exact resume: runs killed by a real SIGKILL anywhere end with the bits of a run that nobody killed."""

import math
import random
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tae import load_checkpoint
from tae.data.demo import compose_square
from tae.training.config import TrainConfig
from tae.training.images.sources import FileSource
from tae.training.run import runs
from tae.training.run.state import state_files
from tae.training.trainer import train
from tests.forked import Forked, run
from tests.training.small import in_child, same_bits, small_config, state_tensors, weights

KILLED = -signal.SIGKILL
pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 11 images: no whole number of batches."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(11):
        Image.fromarray(compose_square("train", index, side=24)).save(folder / f"{index:02}.png")
    return folder


def resumed(config: TrainConfig) -> TrainConfig:
    return replace(config, resume=True)


def straight(config: TrainConfig, out: Path) -> dict:
    """Everything that the same run holds in the end, if nobody kills it."""
    list(train(replace(config, out=out)))
    return state_tensors(runs.folder_of(out))


SETTINGS = {
    "demo images in bf16": {"precision": "bf16"},
    "fp16 with a gradient scaler": {"precision": "fp16"},
    "mixed widths": {"input_size": (16, None), "max_width": 64},
    "a folder with everything": {
        "data": "images",
        "precision": "bf16",
        "dropout": 0.2,
        "ema_decay": 0.9,
        "accumulate": 2,
        "workers": 2,
        "use_gradient_checkpointing": True,
        "seed": 3,
    },
}


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS.keys())
def test_51_a_run_killed_again_and_again_ends_with_the_same_bits(fields: dict, images: Path, tmp_path: Path) -> None:
    if "data" in fields:
        fields = {**fields, "data": str(images)}
    config = small_config(tmp_path / "killed.safetensors", **fields)
    expected = straight(config, tmp_path / "straight.safetensors")
    assert in_child(config, kill_after_step=2) == KILLED
    assert in_child(resumed(config), kill_after_step=5) == KILLED
    list(train(resumed(config)))
    assert same_bits(state_tensors(runs.folder_of(config.out_path)), expected)
    assert same_bits(weights(config.out_path), weights(tmp_path / "straight.safetensors"))
    assert_same_snapshots(config.out_path, tmp_path / "straight.safetensors")


def assert_same_snapshots(first: Path, second: Path) -> None:
    kept = [{path.name: weights(path) for path in runs.snapshots(runs.folder_of(out))} for out in (first, second)]
    assert kept[0].keys() == kept[1].keys() and len(kept[0]) > 0
    assert all(same_bits(kept[0][name], kept[1][name]) for name in kept[0])


def test_50_kills_at_random_steps_change_nothing(tmp_path: Path) -> None:
    config = small_config(tmp_path / "killed.safetensors", steps=30, eval_every=10)
    expected = straight(config, tmp_path / "straight.safetensors")
    for number, step in enumerate(sorted(random.Random(0).sample(range(1, 30), 8))):
        assert in_child(resumed(config) if number else config, kill_after_step=step) == KILLED
    list(train(resumed(config)))
    assert same_bits(state_tensors(runs.folder_of(config.out_path)), expected)


def test_49_a_kill_at_every_touch_of_a_file_is_survived(tmp_path: Path) -> None:
    fields = {"steps": 2, "eval_every": 2, "log_every": 2, "snapshots": 1}  # each file once, but for the state
    config = small_config(tmp_path / "straight.safetensors", **fields)
    expected = straight(config, tmp_path / "straight.safetensors")
    event = 0
    while True:
        out = tmp_path / str(event) / "killed.safetensors"
        config = small_config(out, **fields)
        code = in_child(config, kill_at_event=event)
        if code == 0:
            break
        assert code == KILLED
        list(train(resumed(config)))  # wherever it was, even where it had not begun
        folder = runs.folder_of(out)
        assert same_bits(state_tensors(folder), expected) and out.is_file()
        assert [record["step"] for record in runs.read_log(folder)] == [2]
        assert_same_snapshots(out, tmp_path / "straight.safetensors")
        assert not [path.name for path in folder.rglob("*.tmp")]
        event += 1
    assert event > 20  # of config, status, log, strips, snapshots, states and checkpoint


def test_56_a_torn_newest_state_is_passed_over_and_said(tmp_path: Path) -> None:
    config = small_config(tmp_path / "killed.safetensors")
    expected = straight(config, tmp_path / "straight.safetensors")
    assert in_child(config, kill_after_step=5) == KILLED
    folder = runs.folder_of(config.out_path)
    newest = state_files(folder)[0]
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    said: list[str] = []
    list(train(resumed(config), notify=said.append))
    assert f"{newest.name} is passed over: the file is damaged" in said[1]
    assert said[2] == "resuming after step 4 of 6"
    assert same_bits(state_tensors(folder), expected)


def test_without_any_whole_state_it_begins_again_to_the_same_bits(tmp_path: Path) -> None:
    config = small_config(tmp_path / "killed.safetensors", save_every_s=1e6)
    expected = straight(config, tmp_path / "straight.safetensors")
    assert in_child(config, kill_after_step=5) == KILLED
    said: list[str] = []
    list(train(resumed(config), notify=said.append))
    assert said[1] == "found no whole state of this run: starting from the beginning"
    folder = runs.folder_of(config.out_path)
    assert same_bits(state_tensors(folder), expected)
    assert [record["step"] for record in runs.read_log(folder)] == [1, 2, 3, 4, 5, 6]  # none of them twice
    assert_same_snapshots(config.out_path, tmp_path / "straight.safetensors")


@pytest.mark.parametrize("save_every_s", [0, 1e6])
def test_a_run_begun_from_a_checkpoint_resumes_from_its_state_or_from_that(save_every_s: float, tmp_path: Path) -> None:
    first = small_config(tmp_path / "first.safetensors", seed=5)
    list(train(first))
    config = small_config(tmp_path / "killed.safetensors", init_from=first.out_path, save_every_s=save_every_s)
    expected = straight(config, tmp_path / "straight.safetensors")
    assert in_child(config, kill_after_step=4) == KILLED
    if not save_every_s:
        first.out_path.unlink()  # no longer needed
    list(train(resumed(config)))
    assert same_bits(state_tensors(runs.folder_of(config.out_path)), expected)


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    config = small_config(tmp_path / "done.safetensors")
    list(train(config))
    before = config.out_path.read_bytes()
    said: list[str] = []
    assert list(train(resumed(config), notify=said.append)) == []
    assert "nothing is left to do" in said[-1] and config.out_path.read_bytes() == before
    config.out_path.unlink()
    assert list(train(resumed(config))) == []
    assert config.out_path.is_file()
    assert runs.read_run(runs.folder_of(config.out_path)).status == "finished"


def test_48_a_run_resumed_with_other_values_is_refused(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=1)
    list(train(config))
    for changed, said in (
        ({"adamw_lr": 1e-4}, "adamw_lr: was 0.002, now 0.0001"),
        ({"batch_size": 8, "seed": 1}, "batch_size: was 4, now 8; seed: was 0, now 1"),
        ({"latent_dim": 32}, "latent_dim: was 16, now 32"),
    ):
        with pytest.raises(ValueError, match=said):
            list(train(resumed(small_config(tmp_path / "x.safetensors", steps=1, **changed))))


def test_a_run_resumed_with_other_images_is_refused(images: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", data=str(images))
    assert in_child(config, kill_after_step=3) == KILLED
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(images / "new.png")
    with pytest.raises(ValueError, match="must be those that the run began with, and they have changed"):
        list(train(resumed(config)))


def test_what_does_not_touch_the_weights_may_change(tmp_path: Path) -> None:
    config = small_config(tmp_path / "killed.safetensors")
    expected = straight(config, tmp_path / "straight.safetensors")
    assert in_child(config, kill_after_step=3) == KILLED
    other = small_config(tmp_path / "killed.safetensors", workers=3, log_every=2, save_every_s=100, resume=True)
    list(train(other))
    assert same_bits(state_tensors(runs.folder_of(config.out_path)), expected)


def test_resuming_what_never_began_begins_it_and_replaces_nothing(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", resume=True)
    expected = straight(config, tmp_path / "straight.safetensors")
    said: list[str] = []
    list(train(config, notify=said.append))
    assert "found no whole state of this run: starting from the beginning" in said
    assert same_bits(state_tensors(runs.folder_of(config.out_path)), expected)
    shutil.rmtree(runs.folder_of(config.out_path))
    before = config.out_path.read_bytes()
    with pytest.raises(ValueError, match="x.safetensors exists already, and no run of it to resume"):
        list(train(config))
    assert config.out_path.read_bytes() == before
    (folder := runs.folder_of(config.out_path)).mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be resumed: its config.json cannot be read"):
        list(train(config))


def test_a_run_is_prolonged_and_its_schedule_planned_anew(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=20, log_every=1, warmup_steps=2)
    list(train(config))
    longer = resumed(replace(config, steps=60))
    said: list[str] = []
    first = next(training := train(longer, notify=said.append))
    training.close()
    assert first.step == 21 and any(text.startswith("prolonged after step 20 to 60 steps") for text in said)
    assert in_child(longer, kill_after_step=30) == KILLED
    list(train(longer))
    rates = [record["lr"] / config.muon_lr for record in runs.read_log(runs.folder_of(config.out_path))]
    assert rates[19] < 0.03 and len(rates) == 60
    cosine = [0.02 + 0.49 * (1 + math.cos(math.pi * step / 60)) for step in range(60)]
    assert rates[20] == pytest.approx(cosine[20] / 2) and rates[21:] == pytest.approx(cosine[21:])
    training = load_checkpoint(config.out_path).card.training
    command = "python -m tae.train tiny"
    assert training["steps"] == 60 and training["finished"]
    assert training["command"].startswith(command) and "--steps 20 " in training["command"]
    legs = training["command"].split(" && ")
    assert legs[1] == legs[0].replace("--steps 20", "--steps 60") + " --resume"
    (tmp_path / "again").mkdir()
    for leg in legs:  # the card's line repeats it, killed on the way or not
        assert run(*shlex.split(leg)[1:], cwd=tmp_path / "again").returncode == 0
    outs = (config.out_path, tmp_path / "again" / "x.safetensors")
    assert same_bits(*(state_tensors(runs.folder_of(out)) for out in outs)) and same_bits(*map(weights, outs))


def test_a_run_is_prolonged_by_time_and_never_shortened(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=6)
    list(train(config))
    with pytest.raises(ValueError, match="steps: was 6, now 5, and a run can only be prolonged"):
        list(train(resumed(replace(config, steps=5))))
    assert runs.read_run(runs.folder_of(config.out_path)).status == "finished"
    records = list(train(resumed(replace(config, minutes=0.05))))
    assert records[0].step == 7 and records[-1].saved == config.out_path
    with pytest.raises(ValueError, match="minutes: was 0.05, now 0.04, and a run can only be prolonged"):
        list(train(resumed(replace(config, minutes=0.04))))
    assert list(train(resumed(replace(config, minutes=0.05)))) == []  # it is finished


def test_epochs_are_a_budget_that_is_prolonged_like_steps(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(7):
        Image.new("L", (16, 16), 30 * number).save(folder / f"{number}.png")
    config = replace(small_config(tmp_path / "x.safetensors", data=str(folder), batch_size=2), steps=3000, epochs=2)
    said: list[str] = []
    done = list(train(config, notify=said.append))[-1].step
    each = done // 2
    assert f"2 epochs of {FileSource(config).num_images} images are {done} steps" in said and each in (2, 3)
    longer = replace(config, epochs=3)
    assert [record.step for record in train(resumed(longer))] == list(range(done + 1, 3 * each + 1))
    told = load_checkpoint(config.out_path).card.training["command"]
    assert "--epochs 2 " in told and " && " in told and "--epochs 3 " in told
    assert "--steps" not in told
    with pytest.raises(ValueError, match="epochs: was 3, now 2"):
        list(train(resumed(config)))
    in_steps = replace(config, epochs=None, steps=done)
    with pytest.raises(ValueError, match="steps of this run are done already"):
        list(train(resumed(in_steps)))
    assert list(train(resumed(replace(in_steps, steps=3 * each)))) == []  # the same budget in other words


def test_60_a_second_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors")
    running = train(config)
    next(running)
    with pytest.raises(ValueError, match="another process is training in"):
        list(train(resumed(config)))
    running.close()
    assert runs.read_run(runs.folder_of(config.out_path)).status == "stopped"
    list(train(resumed(config)))
    assert runs.read_run(runs.folder_of(config.out_path)).status == "finished"


def test_the_command_line_killed_from_outside_resumes_exactly(tmp_path: Path) -> None:
    config = small_config(Path("checkpoints/x.safetensors"), steps=20, eval_every=1, precision="bf16")
    straight(config, tmp_path / "straight.safetensors")
    killed = Forked(["python", "-m", "tae.train", *config.command_line()], tmp_path)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("step 7/"):
            break
    killed.kill()
    killed.communicate()
    again = run("-m", "tae.train", *resumed(config).command_line(), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming after step " in again.stdout and " of 20" in again.stdout
    assert same_bits(weights(tmp_path / config.out_path), weights(tmp_path / "straight.safetensors"))
