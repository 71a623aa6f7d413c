"""Training: small real runs, their schedule and optimisers, how they stop, go on and fail; the command line in a process."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tae import TransformerAutoencoder, load_checkpoint
from tae.config import preset_config
from tae.datasets import FolderSource, compose_square
from tae.train import (
    TrainConfig,
    TrainingError,
    TrainRecord,
    lr_schedule,
    make_optimizers,
    masked_mse,
    pick_autocast,
    pick_device,
    train,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 small garments."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(24):
        Image.fromarray(compose_square("train", index, side=32)).save(folder / f"{index:02}.png")
    return folder


def config_for(folder: Path, out: Path, **fields: object) -> TrainConfig:
    values = {
        "data": str(folder),
        "input_size": (32, 32),
        "patch_size": 8,
        "steps": 4,
        "batch_size": 4,
        "warmup_steps": 2,
        "eval_every": 2,
        "precision": "fp32",
        "out": out,
    }
    return TrainConfig(**{**values, **fields})  # type: ignore[arg-type]


def run(config: TrainConfig, **settings) -> list[TrainRecord]:
    return list(train(config, **settings))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def test_training_learns_and_says_how_it_goes(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "small.safetensors"
    records = run(config_for(pictures, out, steps=60, eval_every=20, warmup_steps=5))
    assert [record.step for record in records] == list(range(1, 61))
    losses = [record.loss for record in records]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    looked = {record.step: record.held_out_psnr for record in records if record.held_out_psnr is not None}
    assert list(looked) == [20, 40, 60] and looked[60] > looked[20]
    assert records[-1].saved == out and records[-1].seconds_left == 0 and records[0].seconds_left > 0
    card = load_checkpoint(out).card
    training = card.training
    assert (training["steps"], training["images_seen"], training["seed"], training["finished"]) == (60, 240, 0, True)
    assert [point["step"] for point in training["curve"]] == [20, 40, 60]
    assert card.metrics["split"] == "held out" and card.metrics["psnr"] == pytest.approx(looked[60], abs=0.01)
    assert card.data == "folder pictures" and card.licence == "the user's own"
    assert str(tmp_path) not in str(card)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_seed_gives_the_same_bits(pictures: Path, tmp_path: Path, precision: str) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        run(config_for(pictures, path, seed=seed, precision=precision))
    first, again, other = map(weights, paths)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_going_on_from_a_checkpoint_keeps_its_history(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run(config_for(pictures, first))
    source = FolderSource(pictures, (32, 32))
    asked = []
    batch = source.batch
    source.batch = lambda step, size: asked.append(step) or batch(step, size)  # type: ignore[method-assign]
    run(config_for(pictures, second, init_from=first, steps=3), source=source)
    training = load_checkpoint(second).card.training
    assert asked == [4, 5, 6]  # the data goes on where it stopped
    assert (training["steps"], training["images_seen"]) == (7, 28)
    assert [point["step"] for point in training["curve"]] == [2, 4, 6, 7]
    before = load_checkpoint(first).card.training
    assert training["command"].startswith(f"{before['command']} (to step 4), then python -m tae.train tiny")
    assert "--init-from first.safetensors" in training["command"]
    assert training["cpu_seconds"] >= before["cpu_seconds"]


def test_going_on_from_another_model_is_refused(pictures: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    run(config_for(pictures, first, steps=1))
    with pytest.raises(ValueError, match="must hold the same model: patch_size: asked 16, found 8"):
        run(config_for(pictures, tmp_path / "x.safetensors", init_from=first, patch_size=16))


def test_asked_to_stop_it_saves_and_says_so(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped.safetensors"
    answers = iter([False, False, True])
    records = run(config_for(pictures, out, steps=100), should_stop=lambda: next(answers))
    assert len(records) == 3 and records[-1].saved == out
    card = load_checkpoint(out).card
    assert card.training["finished"] is False and card.training["steps"] == 3 and card.metrics["psnr"] > 0


def test_loss_that_is_no_number_stops_it_and_the_last_save_stays(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    run(config_for(pictures, out))
    before = out.read_bytes()
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d+; lower --muon-lr"):
        run(config_for(pictures, out, steps=50, adamw_lr=1e30, muon_lr=1e30))
    assert out.read_bytes() == before


def test_any_width_trains_on_mixed_batches(tmp_path: Path) -> None:
    config = TrainConfig(
        input_size=(32, None), max_width=96, patch_size=8, steps=2, batch_size=3, out=tmp_path / "wide.safetensors"
    )
    records = run(config)
    assert all(math.isfinite(record.loss) for record in records)
    assert load_checkpoint(tmp_path / "wide.safetensors").card.metrics["split"] == "test"


def test_saves_come_while_it_runs(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**6, 100))
    monkeypatch.setattr("tae.train.time.monotonic", lambda: next(ticks))
    records = run(config_for(pictures, tmp_path / "x.safetensors", save_every_s=1))
    assert all(record.saved for record in records)


def test_learning_rate_rises_then_falls_as_a_cosine() -> None:
    shares = [lr_schedule(step, 100, 10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[4] == pytest.approx(
        0.5 * (0.02 + 0.49 * (1 + math.cos(0.04 * math.pi)))
    )
    assert shares[50] == pytest.approx(0.51)
    assert shares[10:] == sorted(shares[10:], reverse=True) and shares[-1] == pytest.approx(0.02, abs=1e-3)
    assert lr_schedule(0, 1, 0) == 1


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = TransformerAutoencoder(preset_config("tiny", encoder_layers=1, decoder_layers=1))
    muon, adamw = make_optimizers(model, TrainConfig(muon_lr=0.5, adamw_lr=0.25, weight_decay=0.125))
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = [
        [names[id(parameter)] for group in one.param_groups for parameter in group["params"]] for one in (muon, adamw)
    ]
    ends = ("attn.qkv.weight", "attn.proj.weight", "mlp.0.weight", "mlp.2.weight")
    assert sorted(taken[0]) == sorted(f"{part}.blocks.0.{end}" for part in ("encoder", "decoder") for end in ends)
    assert sorted(taken[0] + taken[1]) == sorted(names.values())
    assert [(one.param_groups[0]["lr"], one.param_groups[0]["weight_decay"]) for one in (muon, adamw)] == [
        (0.5, 0.125),
        (0.25, 0),
    ]


def test_loss_counts_real_pixels_only() -> None:
    images, recon = torch.rand(2, 1, 4, 6), torch.rand(2, 1, 4, 6)
    squared = (images - recon) ** 2
    assert_close(masked_mse(recon, images, None), squared.mean())
    expected = torch.cat([squared[0, 0, :, :2].flatten(), squared[1, 0].flatten()]).mean()
    assert_close(masked_mse(recon, images, torch.tensor([2, 6])), expected)
    recon[0, ..., 2:] = 1e6
    assert_close(masked_mse(recon, images, torch.tensor([2, 6])), expected)


def test_hardware_is_chosen_by_what_there_is() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="got 'cuda' where there is none; choose 'auto' or 'cpu'"):
            pick_device("cuda")
    assert pick_autocast("bf16", torch.device("cpu")) and not pick_autocast("fp32", torch.device("cpu"))
    assert isinstance(pick_autocast("auto", torch.device("cpu")), bool)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("eval_every", 0),
        ("save_every_s", 0),
        ("warmup_steps", -1),
        ("seed", -1),
        ("muon_lr", 0),
        ("adamw_lr", float("nan")),
        ("clip_norm", float("inf")),
        ("weight_decay", -0.1),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}.* must be"):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_checkpoints_are_named_by_what_they_hold() -> None:
    assert str(TrainConfig().out_path) == "checkpoints/demo_tiny_201x201_p16.safetensors"
    wide = TrainConfig(preset="small", data="/somewhere/My shoes/", input_size=(152, None), patch_size=None)
    assert str(wide.out_path) == "checkpoints/My shoes_small_Xx152_one-token.safetensors"


def command_line(*arguments: str, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tae.train", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


SMALL = ["--input-size", "32", "32", "--patch-size", "8", "--batch-size", "4"]


def test_command_line_trains_and_prints_its_progress(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"")
    process = command_line("tiny", "--data", str(pictures), "--steps", "4", "--eval-every", "2", *SMALL, cwd=tmp_path)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "skipped broken.png: " in out
    line = next(line for line in out.splitlines() if line.startswith("step 4/4"))
    for part in ("loss 0.", "held-out ", " dB", "images/s", "0:00 left"):
        assert part in line
    assert "saved checkpoints/pictures_tiny_32x32_p8.safetensors" in out
    assert load_checkpoint(tmp_path / "checkpoints" / "pictures_tiny_32x32_p8.safetensors").card.is_trained


def test_ctrl_c_saves_what_has_been_learnt(pictures: Path, tmp_path: Path) -> None:
    process = command_line(
        "tiny", "--data", str(pictures), "--steps", "100000", "--eval-every", "1", *SMALL, cwd=tmp_path
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 130 and not errors
    assert "stopping after this step" in out and "saved checkpoints/" in out
    card = load_checkpoint(next((tmp_path / "checkpoints").iterdir())).card
    assert card.training["finished"] is False and card.training["steps"] >= 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tiny", "--data", "nowhere"], "nowhere is not a folder"),
        (["tiny", "--steps", "0"], "steps must be at least 1, got 0"),
        (["huge"], "huge"),
        (["tiny", "--stepz", "3"], "stepz"),
        (["tiny", "--init-from", "missing.safetensors"], "missing.safetensors"),
        (["tiny", "--input-size", "0", "0"], "input_size"),
    ],
)
def test_command_line_refuses_in_words(tmp_path: Path, arguments: list[str], said: str) -> None:
    process = command_line(*arguments, cwd=tmp_path)
    out, errors = process.communicate()
    assert process.returncode not in (0, 130)
    assert said in out + errors and "Traceback" not in out + errors
    assert not list(tmp_path.iterdir())
