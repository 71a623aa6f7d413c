"""Training: small real runs, how they stop, go on and fail; the command line in a process. Kills: test_resume.py."""

import functools
import json
import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tae import load_checkpoint
from tae.analysis.yardsticks import NAMES
from tae.data.demo import DemoSource, compose_square
from tae.model.autoencoder import TransformerAutoencoder
from tae.train import main
from tae.training import trainer
from tae.training.config import TrainConfig
from tae.training.distributed import World
from tae.training.run import runs
from tae.training.run.log import make_strip
from tae.training.run.loop import TrainingError
from tae.training.trainer import Trainer, TrainRecord, check_compiler, train
from tests import forked
from tests.forked import Forked
from tests.training.small import same_bits, small_config, state_tensors, weights


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 small garments."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(24):
        Image.fromarray(compose_square("train", index, side=32)).save(folder / f"{index:02}.png")
    return folder


def run(config: TrainConfig, **settings) -> list[TrainRecord]:
    return list(train(config, **settings))


@pytest.mark.slow
@pytest.mark.parametrize("device_has", ["numpy", "torch"])
def test_59_memory_that_does_not_suffice_on_a_cpu_ends_with_the_batch_size_to_try(
    device_has: str, tmp_path: Path
) -> None:
    class Greedy(DemoSource):
        """Images that take more memory than there is: NumPy's error, or that of PyTorch's allocator."""

        def image(self, draw: int) -> np.ndarray:
            return np.empty((10**6, 10**9)) if device_has == "numpy" else torch.empty(10**15).numpy()

    config = small_config(tmp_path / "x.safetensors", batch_size=10)
    said = "lower --batch-size from 10 to 5, raise --accumulate"
    with pytest.raises(TrainingError, match=said):
        list(train(config, source=Greedy((16, 16))))
    run = runs.read_run(runs.folder_of(config.out_path))
    assert run.status == "failed" and said in run.message


def test_what_was_decided_on_white_and_size_stands_on_the_card(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(4):
        np.save(
            tmp_path / "deep" / f"{number}.npy", np.linspace(0, 900 + 1000 * number, 256).reshape(16, 16).astype("u2")
        )
    said: list[str] = []
    config = small_config(tmp_path / "x.safetensors", data=str(tmp_path / "deep"), steps=2, fit="stretch")
    list(train(config, notify=said.append))
    training = load_checkpoint(tmp_path / "x.safetensors").card.training
    told = training["white"]
    assert training["fit"] == "stretch"
    why = "values up to 3900 divided by 4095, as of 12 bits, for all together"
    assert told == {"choice": "file", "ends": {"uint16": [0, 4095, why]}} and f"uint16: {why}" in said


@pytest.mark.slow
def test_training_learns_and_says_how_it_goes(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "small.safetensors"
    config = small_config(
        out,
        data=str(pictures),
        input_size=(32, 32),
        latent_dim=64,
        steps=60,
        eval_every=20,
        warmup_steps=5,
        name="Mine",
    )
    records = run(config)
    assert [record.step for record in records] == list(range(1, 61)) and {record.steps for record in records} == {60}
    losses = [record.loss for record in records]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    looked = {record.step: record.held_out_psnr for record in records if record.held_out_psnr is not None}
    assert list(looked) == [20, 40, 60] and looked[60] > looked[20]
    assert records[-1].saved == out and records[-1].seconds_left == 0 and records[0].seconds_left > 0
    assert all(
        record.images_per_s > 0 and record.loader_images_per_s > 0 and record.grad_norm > 0 for record in records
    )
    card = load_checkpoint(out).card
    training = card.training
    assert (training["steps"], training["images_seen"], training["seed"], training["finished"]) == (60, 240, 0, True)
    assert [point["step"] for point in training["curve"]] == [20, 40, 60]
    assert card.name == "Mine" and card.metrics["split"] == "held out" and card.metrics["psnr"] > 5
    assert card.data == "folder pictures" and card.licence == "the user's own"
    assert str(tmp_path) not in str(card)


def test_the_status_tells_the_first_step_and_its_pace_before_there_is_a_record(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", log_every=6, eval_every=6)
    folder, told = runs.folder_of(config.out_path), []
    run(config, should_stop=lambda: told.append((runs.read_status(folder), runs.read_log(folder))) or False)
    (before, _), ((status, _, step, steps, pace), records) = told[:2]
    assert before[2] == 0 and (status, step, steps, records) == ("running", 1, 6, []) and pace > 0
    assert [record["step"] for record in runs.read_log(folder)] == [6]


def test_a_run_s_folder_tells_all_of_it(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", log_every=2)
    said: list[str] = []
    records = run(config, notify=said.append)
    assert re.match(r"[\d,]+ parameters, 4 tokens an image, fp32 on cpu; a step takes 0.00 GB of memory", said[0])
    folder = runs.folder_of(config.out_path)
    found = runs.read_run(folder)
    assert (found.status, found.step, found.steps, found.config) == ("finished", 6, 6, config)
    assert found.checkpoint == config.out_path
    log = runs.read_log(folder)
    assert [record["step"] for record in log] == [2, 3, 4, 6]  # every second one, and where it looked
    assert log[1]["held_out_psnr"] == records[2].held_out_psnr and log[0]["loss"] == records[1].loss
    names = {"step", "loss", "lr", "grad_norm", "images_per_s", "loader_images_per_s", "seconds_left"}
    assert set(log[0]) == names and set(log[1]) == names | {"held_out_psnr", *NAMES}
    assert [{key: record[key] for key in NAMES} for record in (log[1], log[3])] == [
        {one.key: one.psnr for one in records[2].yardsticks}
    ] * 2
    assert any(
        text.startswith("to be beaten on the 2 held-out images: the mean of the training images ") for text in said
    )
    kept = load_checkpoint(config.out_path).card.metrics
    assert set(kept["yardsticks"]) == {*NAMES} and said[-1].startswith(f"on 4 test images: {kept['psnr']:.2f} dB, ")
    assert [path.stem for path in runs.strips(folder)] == ["00000003", "00000006"]
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (record["step"], pytest.approx(record["loss"])) for record in log
    ]
    assert [event.step for event in events.Scalars("held_out_psnr")] == [3, 6]
    assert [event.step for event in events.Images("held_out")] == [3, 6]


def test_a_strip_shows_images_above_their_reconstructions() -> None:
    images = [np.full((10, width), 200, np.uint8) for width in (30, 20)]
    recons = [np.full((10, width), 0.2, np.float32) for width in (30, 20)]
    strip = make_strip(images, recons)
    assert strip.dtype == np.uint8 and (strip == 200).sum() == (strip == 51).sum() == 500
    rows_of_images, rows_of_recons = np.nonzero(strip == 200)[0], np.nonzero(strip == 51)[0]
    between = strip[rows_of_images.max() + 1 : rows_of_recons.min(), 5]
    assert list(between) == [170] + [255] * 8 + [170]  # white images on white do not run into each other
    wide = make_strip([np.zeros((10, 1280), np.uint8)] * 3, [np.zeros((10, 1280), np.float32)] * 3)
    assert (wide == 0).sum() == 6 * 12800 and wide.shape[1] < 1300  # below each other


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_same_seed_gives_the_same_bits(pictures: Path, tmp_path: Path, precision: str) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        run(small_config(path, data=str(pictures), seed=seed, precision=precision, dropout=0.1))
    first, again, other = map(weights, paths)
    assert same_bits(first, again) and not same_bits(first, other)
    assert all(tensor.dtype == torch.float32 for tensor in state_tensors(runs.folder_of(paths[0])).values())


@pytest.mark.slow
def test_parts_of_a_batch_add_up_to_the_whole(tmp_path: Path) -> None:
    fields = {"input_size": (16, None), "max_width": 64, "batch_size": 8, "steps": 2}
    whole, parts = (run(small_config(tmp_path / f"{n}.safetensors", accumulate=n, **fields)) for n in (1, 4))
    assert parts[0].loss == pytest.approx(whole[0].loss, rel=1e-6)
    assert parts[0].grad_norm == pytest.approx(whole[0].grad_norm, rel=1e-5)


@pytest.mark.slow
def test_checkpointed_and_explicit_attention_learn_the_same(tmp_path: Path) -> None:
    plain = run(small_config(tmp_path / "a.safetensors"))
    checkpointed = run(small_config(tmp_path / "b.safetensors", use_gradient_checkpointing=True))
    explicit = run(small_config(tmp_path / "c.safetensors", use_flash_attention=False))
    assert [record.loss for record in checkpointed] == [record.loss for record in plain]
    assert explicit[0].loss == pytest.approx(plain[0].loss, rel=1e-5)
    assert explicit[0].grad_norm == pytest.approx(plain[0].grad_norm, rel=1e-4)


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_is_saved_under_plain_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Graphs of forward and backward passes as for the real compiler; what that makes of them is PyTorch's own matter.
    in_graphs = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", in_graphs)
    torch._dynamo.utils.counters.clear()
    fields = {"steps": 2, "held_out_images": 4, "test_images": 4}  # as many as a batch: each shape is compiled anew
    plain = run(small_config(tmp_path / "a.safetensors", **fields))
    compiled = run(small_config(tmp_path / "b.safetensors", use_compile=True, **fields))
    assert compiled[0].loss == pytest.approx(plain[0].loss, rel=1e-5)
    assert weights(tmp_path / "a.safetensors").keys() == weights(tmp_path / "b.safetensors").keys()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_averaged_weights_are_what_is_saved(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", ema_decay=0.9)
    run(config)
    state = state_tensors(runs.folder_of(config.out_path))
    saved = weights(config.out_path)
    assert same_bits(saved, {name: state[f"ema.{name}"] for name in saved})
    assert not same_bits(saved, {name: state[f"model.{name}"] for name in saved})


class Clock:
    """Time that passes when it is told to, in place of the machine's."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def timed(
    config: TrainConfig,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    took: Callable[[int], float],
    notify: Callable[[str], object] = lambda text: None,
) -> list:
    """The records of a run whose step number n takes so many seconds."""
    monkeypatch.setattr("time.monotonic", clock)
    learn = Trainer._learn

    def slow(self: Trainer, share: float) -> tuple[float, float]:
        clock.now += took(self.step)
        return learn(self, share)

    monkeypatch.setattr(Trainer, "_learn", slow)
    return run(config, notify=notify)


@pytest.mark.slow
def test_a_time_budget_ends_on_time_however_the_pace_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    # The machine is busy at first: a pace taken then would end the run after 60 of its 120 seconds.
    monkeypatch.setattr(Trainer, "_seconds_to_end", lambda *_: 20.0)
    config = small_config(tmp_path / "x.safetensors", minutes=2, snapshots=4, log_every=1)
    records = timed(config, clock, monkeypatch, lambda step: 4.0 if step < 10 else 0.5)
    assert clock.now - 100 == pytest.approx(100, abs=0.5)  # 20 are kept for the end
    assert records[-1].step == records[-1].steps == 10 + 120
    assert load_checkpoint(config.out_path).card.training["steps"] == 130
    assert records[9].steps == pytest.approx(25, abs=1) and records[60].steps == pytest.approx(130, abs=15)
    shares = [record.lr / config.muon_lr for record in records]
    assert max(shares[:4]) == max(shares) > 0.85  # the rise took a tenth of the time
    for record, share in zip(records[10::20], shares[10::20], strict=True):
        gone = (40 + 0.5 * (record.step - 11)) / 100
        assert share == pytest.approx(0.02 + 0.49 * (1 + math.cos(math.pi * gone)))
    assert shares[-1] < 0.03
    assert snapshots(config) == [0, 2, 7, 43]  # at 0, 1/16, 4/16 and 9/16 of the time


@pytest.mark.slow
def test_of_a_short_budget_few_test_images_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(), []
    config = small_config(tmp_path / "x.safetensors", minutes=2)
    measure = trainer.evaluate

    def slow(model: torch.nn.Module, images: list, split: str) -> dict:
        clock.now += 15 * len(images)
        return measure(model, images, split)

    monkeypatch.setattr(trainer, "evaluate", slow)
    timed(config, clock, monkeypatch, lambda step: 1.0, said.append)
    assert load_checkpoint(config.out_path).card.metrics["count"] == 1
    assert "measuring 4 test images would take about 90 of 120 seconds: 1 are measured" in said
    assert clock.now - 100 <= 120


@pytest.mark.slow
def test_the_time_that_is_left_is_rank_0_s_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(Trainer, "_seconds_to_end", lambda *_: 20.0)
    monkeypatch.setattr(
        World, "from_main", lambda self, value: 50.0 if value == 100.0 else value
    )  # as if it were another
    timed(small_config(tmp_path / "x.safetensors", minutes=2), clock, monkeypatch, lambda step: 1.0)
    assert clock.now - 100 == 50


@pytest.mark.slow
def test_a_run_prolonged_by_less_time_than_measuring_takes_ends_with_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, reserve = Clock(), [20.0]
    monkeypatch.setattr(Trainer, "_seconds_to_end", lambda *_: reserve[0])
    config = small_config(tmp_path / "x.safetensors", minutes=2)
    timed(config, clock, monkeypatch, lambda step: 10.0)
    reserve[0] = 40.0  # of 2.2 minutes, 92 seconds are left for steps, and 100 are gone
    longer = TrainConfig(**{**vars(config), "minutes": 2.2, "resume": True})
    (record,) = run(longer)
    assert record.step == record.steps == 11 and record.saved == config.out_path


@pytest.mark.slow
def test_a_time_budget_says_what_it_comes_to(tmp_path: Path) -> None:
    said: list[str] = []
    config = small_config(tmp_path / "x.safetensors", minutes=0.05)
    records = run(config, notify=said.append)
    assert records[0].seconds_left > 0 and records[-1].step == records[-1].steps
    assert sum(text.startswith("0.05 minutes are about ") for text in said) == 1


def test_few_steps_are_told_before_they_are_taken(tmp_path: Path) -> None:
    said: list[str] = []
    training = train(small_config(tmp_path / "x.safetensors", steps=299), notify=said.append)
    next(training)
    training.close()
    assert said[-1].startswith(
        "299 steps are asked for: too few for more than a blur, which takes 300 or more; give more"
    )
    training = train(small_config(tmp_path / "y.safetensors", steps=300), notify=said.append)
    next(training)
    training.close()
    assert "too few" not in said[-1]


def snapshots(config: TrainConfig) -> list[int]:
    return [int(path.stem) for path in runs.snapshots(runs.folder_of(config.out_path))]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_snapshots_hold_the_weights_of_their_steps(tmp_path: Path, ema_decay: float) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=6, snapshots=3, ema_decay=ema_decay)
    run(config)
    assert snapshots(config) == [0, 2]
    first, second = (load_checkpoint(path) for path in runs.snapshots(runs.folder_of(config.out_path)))
    torch.manual_seed(config.seed)
    untrained = TransformerAutoencoder(config.model_config).state_dict()
    assert same_bits(first.model.state_dict(), untrained)
    assert (first.card.origin, second.card.origin) == ("untrained", "trained")  # so that pages say so
    assert second.card.training["steps"] == 2 and second.card.training["finished"] is False
    assert not second.card.metrics and "after 2 steps" in second.card.notes
    answers = iter([False, True])
    stopped = small_config(tmp_path / "stopped.safetensors", steps=6, snapshots=0, ema_decay=ema_decay)
    run(stopped, should_stop=lambda: next(answers))
    assert same_bits(second.model.state_dict(), weights(stopped.out_path)) and snapshots(stopped) == []


def test_a_new_run_leaves_no_snapshots_of_the_one_before(tmp_path: Path) -> None:
    run(small_config(tmp_path / "x.safetensors", steps=6))
    assert snapshots(small_config(tmp_path / "x.safetensors")) == [0, 1, 2, 3, 4]
    again = small_config(tmp_path / "x.safetensors", steps=6, snapshots=2, overwrite=True)
    run(again)
    assert snapshots(again) == [0, 1]


def test_a_new_run_from_a_checkpoint_keeps_its_history(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    run(small_config(first, steps=4, eval_every=2))

    asked = []

    class Watched(DemoSource):
        def draws(self, step: int, batch_size: int) -> list[int]:
            asked.append(step)
            return super().draws(step, batch_size)

    config = small_config(second, init_from=first, steps=3, eval_every=2, workers=1)
    run(config, source=Watched((16, 16)))
    training = load_checkpoint(second).card.training
    assert asked == [4, 5, 6]  # the data goes on where it stopped
    assert (training["steps"], training["images_seen"]) == (7, 28)
    assert [point["step"] for point in training["curve"]] == [2, 4, 6, 7]
    before = load_checkpoint(first).card.training
    assert training["command"].startswith(f"{before['command']} (to step 4), then python -m tae.train tiny")
    assert "--init-from first.safetensors" in training["command"]
    assert training["cpu_seconds"] >= before["cpu_seconds"]


@pytest.mark.slow
def test_a_new_run_takes_from_another_model_what_fits(tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    run(small_config(first, steps=1))
    said: list[str] = []
    run(small_config(tmp_path / "x.safetensors", init_from=first, patch_size=4), notify=said.append)
    assert not any("too few" in one for one in said)  # who begins with a trained model needs few steps
    assert any(text.startswith(f"begins with {first.name}: ") and "resampled" in text for text in said)
    assert load_checkpoint(tmp_path / "x.safetensors").card.training["steps"] == 6  # another model: its own steps alone
    with pytest.raises(ValueError, match="must have blocks of the same width: latent_dim, .* 32, 2, 4, got 16, 2, 4"):
        run(small_config(tmp_path / "y.safetensors", init_from=first, latent_dim=32))


def test_asked_to_stop_it_saves_says_so_and_can_go_on(tmp_path: Path) -> None:
    straight = small_config(tmp_path / "straight.safetensors")
    run(straight)
    config = small_config(tmp_path / "stopped.safetensors", save_every_s=1e6)
    answers = iter([False, False, True])
    records = run(config, should_stop=lambda: next(answers))
    assert len(records) == 3 and records[-1].saved == config.out_path
    card = load_checkpoint(config.out_path).card
    assert card.training["finished"] is False and card.training["steps"] == 3 and card.metrics["psnr"] > 0
    folder = runs.folder_of(config.out_path)
    assert runs.read_run(folder).status == "stopped"
    run(TrainConfig(**{**vars(config), "resume": True}))
    assert same_bits(weights(config.out_path), weights(straight.out_path))
    assert runs.read_run(folder).status == "finished"
    assert load_checkpoint(config.out_path).card.training["finished"] is True


def test_a_stop_file_stops_it(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors")
    folder = runs.folder_of(config.out_path)
    steps = []
    for record in train(config):
        steps.append(record.step)
        if record.step == 2:
            runs.ask_to_stop(folder)
    assert steps == [1, 2, 3] and runs.read_run(folder).status == "stopped"


class Named(DemoSource):
    """Its pictures have names, as those of a folder have."""

    def describe(self, draw: int) -> str:
        return f"picture {draw}"


def test_a_loss_that_is_no_number_stops_it_with_the_last_good_state(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=50, adamw_lr=1e30, muon_lr=1e30, clip_norm=1e30)
    with pytest.raises(TrainingError) as caught:
        run(config, source=Named((16, 16)))
    message = str(caught.value)
    assert "is no longer a number at step" in message and "lower --muon-lr" in message and "picture " in message
    folder = runs.folder_of(config.out_path)
    step = int(message.split("the state after step ")[1].split(" ")[0])
    assert f"at step {step + 1};" in message
    found = runs.read_run(folder)
    assert (found.status, found.message) == ("failed", message)
    assert all(tensor.isfinite().all() for tensor in state_tensors(folder).values())
    assert not config.out_path.exists()


def test_a_loss_that_is_no_number_from_the_start_leaves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(recon: torch.Tensor, images: torch.Tensor, widths: None) -> torch.Tensor:
        return torch.where(torch.arange(len(images)) == 2, torch.nan, recon.square().sum(dim=(1, 2, 3)))

    monkeypatch.setattr("tae.training.trainer.squared_errors", broken)
    config = small_config(tmp_path / "x.safetensors")
    with pytest.raises(TrainingError, match="at step 1; .* the images picture 2; nothing has been learnt yet"):
        run(config, source=Named((16, 16)))
    assert not list(runs.folder_of(config.out_path).glob("state-*"))


@pytest.mark.slow
def test_an_fp16_gradient_that_overflows_is_left_out_and_the_scale_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**30)  # far too much for this loss
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    config = small_config(tmp_path / "x.safetensors", precision="fp16", steps=20)
    records = run(config)
    assert math.isnan(records[0].grad_norm) and math.isfinite(records[-1].grad_norm)
    assert all(math.isfinite(record.loss) for record in records)
    assert "grad_norm" not in runs.read_log(runs.folder_of(config.out_path))[0]


@pytest.mark.slow
def test_any_width_trains_on_mixed_batches(tmp_path: Path) -> None:
    config = small_config(tmp_path / "wide.safetensors", input_size=(32, None), max_width=96, batch_size=3)
    records = run(config)
    assert all(math.isfinite(record.loss) for record in records)
    assert load_checkpoint(tmp_path / "wide.safetensors").card.metrics["split"] == "test"


def test_46_nothing_of_another_run_is_replaced_unasked(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=1)
    run(config)
    before = config.out_path.read_bytes()
    with pytest.raises(ValueError, match="holds a run already; --resume goes on with it, --overwrite starts anew"):
        run(config)
    foreign = tmp_path / "mine.safetensors"
    foreign.write_bytes(before)
    with pytest.raises(ValueError, match="mine.safetensors exists already; choose another --out, or --overwrite it"):
        run(small_config(foreign, steps=1))
    assert config.out_path.read_bytes() == before == foreign.read_bytes()
    run(small_config(config.out_path, steps=2, seed=1, overwrite=True))
    folder = runs.folder_of(config.out_path)
    assert config.out_path.read_bytes() != before and [record["step"] for record in runs.read_log(folder)] == [1, 2]
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


def test_53_a_full_disk_leaves_the_earlier_states_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path / "x.safetensors")
    running = train(config)
    for _ in range(3):
        next(running)
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if "state-" in str(target):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        list(running)
    folder = runs.folder_of(config.out_path)
    found = runs.read_run(folder)
    assert found.status == "failed" and "No space left on device: 'state-00000004.safetensors'" in found.message
    assert state_tensors(folder) and not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


def test_compilation_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="use_compile must have a C"):
        check_compiler(torch.device("cpu"))


SMALL = small_config(Path("checkpoints/small.safetensors")).command_line()


@pytest.mark.slow
def test_command_line_trains_and_prints_its_progress(pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"")
    done = forked.run("-m", "tae.train", *SMALL, "--data", str(pictures), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "skipped broken.png: " in out and "read 25 of 25 files" in out
    line = next(line for line in out.splitlines() if line.startswith("step 6/6"))
    for part in ("loss 0.", "held-out ", " dB", "images/s (reading ", "0:00 left"):
        assert part in line
    assert "saved checkpoints/small.safetensors" in out
    assert load_checkpoint(tmp_path / "checkpoints" / "small.safetensors").card.origin == "trained"


@pytest.mark.slow
def test_52_ctrl_c_saves_what_has_been_learnt(tmp_path: Path) -> None:
    process = Forked(["python", "-m", "tae.train", *SMALL, "--steps", "100000", "--eval-every", "1"], tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # torchrun sends it a second time
    out, errors = process.communicate()
    assert process.returncode == 130 and not errors, errors
    assert "stopping after this step" in out and "saved checkpoints/" in out
    card = load_checkpoint(tmp_path / "checkpoints" / "small.safetensors").card
    assert card.training["finished"] is False and card.training["steps"] >= 3
    status = json.loads((tmp_path / "checkpoints" / "runs" / "small" / "status.json").read_text())
    assert status["status"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tiny", "--data", "nowhere"], "nowhere"),
        (["tiny", "--steps", "0"], "steps must be a whole number from 1"),
        (["huge"], "huge"),
        (["tiny", "--stepz", "3"], "stepz"),
        (["tiny", "--init-from", "missing.safetensors"], "missing.safetensors"),
        (["tiny", "--input-size", "0", "0"], "input_size"),
    ],
)
def test_43_command_line_refuses_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Ctrl-C stays with these tests
    try:
        code = main(arguments)
    except SystemExit as end:  # how the reader of the command line refuses
        code = end.code
    assert code not in (0, None, 130)
    assert said in "".join(capsys.readouterr())
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_card_s_command_repeats_the_run_without_telling_where_files_lie() -> None:
    config = TrainConfig(data="/home/ann/My shoes/", out=Path("/data/x.safetensors"), resume=True, steps=5)
    assert config.command_words() == "python -m tae.train tiny --data 'My shoes' --steps 5 --out x.safetensors"
    drops = TrainConfig(data="/home/ann/drops", epochs=3)  # a folder, not the simulated ones
    assert drops.command_words() == "python -m tae.train tiny --data ./drops --epochs 3"
    assert TrainConfig(data="drops").command_words() == "python -m tae.train tiny --data drops"
    assert TrainConfig(data="a/*.png").command_words(4) == (
        "torchrun --nproc_per_node=4 -m tae.train tiny --data '*.png'"
    )
