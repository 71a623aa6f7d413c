"""Training on sequences: it learns and measures what it says, resumes to the same bits, and stops before it spoils anything."""

import json
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from tae import Card, create_autoencoder, save_checkpoint
from tae.data.encode import encode_gif
from tae.sequence import training
from tae.sequence.checkpoint import load_sequence
from tae.sequence.forecast import BASELINES, LSTM, METHODS
from tae.sequence.training import SequenceTrainConfig, open_sequences, train_sequence
from tae.store.checkpoint import load_checkpoint
from tae.train_sequence import main
from tae.training.run import runs
from tae.training.run.loop import TrainingError
from tae.training.run.state import load_newest, state_files
from tests import ROOT
from tests.forked import run


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_autoencoder(
        (24, 32), None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1
    )
    return save_checkpoint(tmp_path_factory.mktemp("autoencoder") / "a.safetensors", model, Card(name="garments"))


def small(autoencoder: Path, out: Path, **fields: object) -> SequenceTrainConfig:
    values = {
        "checkpoint": autoencoder,
        "hidden_dim": 8,
        "num_layers": 1,
        "steps": 8,
        "batch_size": 4,
        "recordings": 6,
        "warmup_steps": 2,
        "eval_every": 4,
        "held_out_sequences": 2,
        "test_sequences": 2,
        "log_every": 1,
        "save_every_s": 0,
        "device": "cpu",
        "threads": 1,
        "cache": autoencoder.parent / "embeddings",
        "out": out,
    }
    return SequenceTrainConfig(**{**values, **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def straight(autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> SequenceTrainConfig:
    """A run that was never left."""
    config = small(autoencoder, tmp_path_factory.mktemp("straight") / "straight.safetensors")
    list(train_sequence(config))
    return config


def leave_after(steps: int, config: SequenceTrainConfig) -> None:
    """Nothing is said or saved any more."""
    running = train_sequence(config)
    for _ in range(steps):
        next(running)
    running.close()


def resume(config: SequenceTrainConfig) -> list[str]:
    """Go on to the end; returns what was said."""
    said: list[str] = []
    list(train_sequence(replace(config, resume=True), notify=said.append))
    return said


def state(config: SequenceTrainConfig) -> dict[str, torch.Tensor]:
    found, torn = load_newest(runs.folder_of(config.out_path))
    assert found is not None and not torn
    return found.tensors


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sequences(folder: Path, count: int = 12) -> Path:
    """Animations of a square that moves to the right."""
    folder.mkdir()
    for number in range(count):
        frames = []
        for step in range(8):
            image = Image.new("L", (32, 24), 255)
            image.paste(0, (3 * step, 2 + number, 3 * step + 8, 10 + number))
            frames.append(image)
        frames[0].save(folder / f"{number}.gif", save_all=True, append_images=frames[1:], loop=0)
    return folder


@pytest.mark.slow
def test_a_run_learns_measures_itself_and_leaves_a_checkpoint(autoencoder: Path, tmp_path: Path) -> None:
    config = small(
        autoencoder,
        tmp_path / "x.safetensors",
        data=str(sequences(tmp_path / "squares")),
        steps=120,
        batch_size=11,
        hidden_dim=32,
        lr=1e-2,
        eval_every=20,
    )
    records = list(train_sequence(config))
    assert [record.step for record in records] == [*range(1, 121)]
    looks = [record for record in records if record.held_out_loss is not None]
    assert len(looks) == 6 and looks[-1].held_out_loss is not None and looks[-1].held_out_copy is not None
    assert looks[-1].held_out_loss < 0.5 * looks[-1].held_out_copy
    assert records[-1].saved == config.out_path
    model = load_checkpoint(autoencoder).model
    loaded = load_sequence(config.out_path, model)
    assert loaded.belongs.name == "garments"
    figures = loaded.card.metrics
    assert figures["split"] == "held out" and figures["count"] >= 1 and set(figures["one_step"]) == set(METHODS)
    assert set(figures["horizon"]) == set(BASELINES)
    assert loaded.card.training["command"].startswith("python -m tae.train_sequence squares --checkpoint a.safetensors")
    assert [point["step"] for point in loaded.card.training["curve"]] == [20, 40, 60, 80, 100, 120]
    log = runs.read_log(runs.folder_of(config.out_path))
    assert [record["step"] for record in log] == [*range(1, 121)]
    assert runs.read_status(runs.folder_of(config.out_path))[:4] == ("finished", "", 120, 120)


def test_an_autoencoder_is_left_as_it_is(autoencoder: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(autoencoder)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    list(train_sequence(small(autoencoder, tmp_path / "x.safetensors", weight_decay=1.0, loss="decoded"), loaded))
    assert same_bits(before, loaded.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("has_all_settings", [False, True])
def test_a_run_left_at_any_step_resumes_to_the_same_bits(
    has_all_settings: bool, straight: SequenceTrainConfig, autoencoder: Path, tmp_path: Path
) -> None:
    if has_all_settings:
        fields = {"num_layers": 2, "dropout": 0.3, "seed": 3, "forecast_steps": 3, "loss": "decoded", "clip_frames": 5}
        data = str(sequences(tmp_path / "squares"))
        straight = small(autoencoder, tmp_path / "straight.safetensors", data=data, **fields)
        list(train_sequence(straight))
    for steps in (1, 8):  # on the way, and before the checkpoint is written
        config = replace(straight, out=tmp_path / f"left-{steps}.safetensors")
        leave_after(steps, config)
        assert f"resuming after step {steps} of 8" in resume(config)
        assert same_bits(state(config), state(straight))
        assert [one["step"] for one in runs.read_log(runs.folder_of(config.out_path))] == [*range(1, 9)]
        model = load_checkpoint(autoencoder).model
        first, second = (load_sequence(one.out_path, model).model.own_state() for one in (config, straight))
        assert same_bits(first, second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "status"), [(signal.SIGKILL, -signal.SIGKILL, "running"), (signal.SIGTERM, 130, "stopped")]
)
def test_52_a_run_that_is_killed_or_asked_to_end_in_a_step_resumes_to_the_same_bits(
    number: int, code: int, status: str, straight: SequenceTrainConfig, tmp_path: Path
) -> None:
    config = replace(straight, out=tmp_path / "ended.safetensors")
    script = (
        "import os, sys\n"
        "from tae.sequence.training import _Training\n"
        "from tae.train_sequence import main\n"
        "learn = _Training._learn\n"
        "def signalled(self, share):\n"
        "    if self.step == 5:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "    return learn(self, share)\n"
        "_Training._learn = signalled\n"
        "sys.exit(main())\n"
    )
    ended = run("-c", script, *config.command_line())
    assert ended.returncode == code, ended.stderr
    assert runs.read_status(runs.folder_of(config.out_path))[0] == status and not config.out_path.exists()
    assert ("the state after step 6 is saved" in ended.stdout) == (number == signal.SIGTERM)
    list(train_sequence(replace(config, resume=True)))
    assert same_bits(state(config), state(straight))


@pytest.mark.slow
def test_a_stopped_run_saves_and_a_finished_one_has_nothing_left(autoencoder: Path, tmp_path: Path) -> None:
    config = small(autoencoder, tmp_path / "x.safetensors")
    said: list[str] = []
    running = train_sequence(config, should_stop=lambda: "step 1" in said)
    assert next(running).saved is None
    said.append("step 1")
    records = list(running)
    assert len(records) == 1 and records[0].saved == config.out_path
    assert runs.read_status(runs.folder_of(config.out_path))[0] == "stopped"
    assert len(list(train_sequence(replace(config, resume=True)))) == 6
    before, said = config.out_path.read_bytes(), []
    assert list(train_sequence(replace(config, resume=True), notify=said.append)) == []
    assert "nothing is left to do" in said[-1] and config.out_path.read_bytes() == before
    config.out_path.unlink()  # as if killed before the checkpoint was written
    assert list(train_sequence(replace(config, resume=True))) == []
    assert config.out_path.is_file()


def test_a_stop_before_the_first_step_trains_nothing_and_saves_nothing(
    autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said, words = small(autoencoder, tmp_path / "x.safetensors"), [], []
    write = runs.write_status
    monkeypatch.setattr(runs, "write_status", lambda *told: (words.append(told[1]), write(*told)))
    assert not list(train_sequence(config, should_stop=lambda: True, notify=said.append))
    assert not config.out_path.exists() and not state_files(runs.folder_of(config.out_path))
    assert words and set(words) <= {"running", "stopped"} and words[-1] == "stopped"  # never "failed" on the way
    assert said[-1] == "stopped before another step; nothing is learnt yet"
    assert len(list(train_sequence(replace(config, resume=True)))) == 8


@pytest.mark.slow
@pytest.mark.parametrize("data", ["drops", "files"])
def test_every_phase_before_the_first_step_is_told_and_can_be_stopped(
    data: str, autoencoder: Path, tmp_path: Path
) -> None:
    source = "drops" if data == "drops" else str(sequences(tmp_path / "squares"))
    config = small(autoencoder, tmp_path / "x.safetensors", data=source, cache=tmp_path / "empty", steps=2)
    phases: dict[str, int] = {}

    def told(done: int, total: int, doing: str) -> None:
        assert 0 < done <= total
        phases[doing] = done

    assert list(train_sequence(config, progress=told))[-1].saved
    assert list(phases) == ["embedding sequences", "measuring the decoder", "measuring test sequences"]
    for doing in list(phases)[:2]:
        out = tmp_path / f"{doing}.safetensors"
        phases.clear()
        assert not list(train_sequence(replace(config, out=out), progress=told, should_stop=lambda: doing in phases))  # noqa: B023
        assert list(phases)[-1] == doing and not out.exists()
    folder = runs.folder_of(tmp_path / "by file.safetensors")  # as the app asks
    said: list[str] = []

    def ask(done: int, total: int, doing: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        runs.ask_to_stop(folder)

    asked = replace(config, out=tmp_path / "by file.safetensors")
    assert not list(train_sequence(asked, progress=ask, notify=said.append))
    assert said[-1] == "stopped before another step; nothing is learnt yet"
    assert len(list(train_sequence(asked))) == 2  # what was asked then is not asked now


def test_the_last_measurement_ends_when_asked_and_keeps_what_was_learnt(autoencoder: Path, tmp_path: Path) -> None:
    config = small(autoencoder, tmp_path / "x.safetensors", steps=1, test_sequences=4)
    phases, said = [], []
    *_, last = train_sequence(
        config,
        should_stop=lambda: phases.count("measuring test sequences") == 2,
        notify=said.append,
        progress=lambda done, total, doing: phases.append(doing),
    )
    card = load_sequence(config.out_path, load_checkpoint(autoencoder).model).card
    assert last.saved == config.out_path and card.training["finished"] and card.metrics["count"] == 2
    assert "stopped: the final figures are those of 2 sequences" in said


def test_a_stop_before_a_resumed_step_leaves_the_state_as_it_is(autoencoder: Path, tmp_path: Path) -> None:
    config, said = small(autoencoder, tmp_path / "x.safetensors"), []
    leave_after(3, config)
    before = state(config)
    assert not list(train_sequence(replace(config, resume=True), should_stop=lambda: True, notify=said.append))
    assert said[-1] == "stopped before another step; step 3 is saved" and same_bits(state(config), before)
    assert runs.read_status(runs.folder_of(config.out_path))[:4] == ("stopped", "", 3, 8)
    assert not config.out_path.exists()


def test_a_run_that_is_no_better_than_a_copy_says_so(autoencoder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    still = tmp_path / "still"
    still.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (12, 24, 32), np.uint8)
    for number, frame in enumerate(noise):  # nothing ever moves: the last latent is the best that there is
        np.save(still / f"{number}.npy", np.stack([frame] * 8))
    config = small(
        autoencoder, tmp_path / "x.safetensors", data=str(still), steps=20, batch_size=8, lr=1e-2, eval_every=5
    )
    records = list(train_sequence(config, notify=said.append))
    assert records[-1].held_out_copy == 0
    assert (
        "held-out sequences are predicted no better than by their last latent" in said[-1]
        and "against 0.00000" in said[-1]
    )


def test_a_run_that_got_worse_says_where_it_was_best_however_it_ended(autoencoder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "noise"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):  # walks at random: nothing learnt from some of them holds for another
        walk = np.clip(128 + random.normal(0, 20, (8, 24, 32)).cumsum(0), 0, 255)
        np.save(folder / f"{number}.npy", walk.astype(np.uint8))
    values = {"steps": 60, "batch_size": 11, "hidden_dim": 64, "lr": 3e-2, "eval_every": 5, "save_every_s": 1e6}
    config = small(autoencoder, tmp_path / "x.safetensors", data=str(folder), **values)
    looks = [record for record in train_sequence(config, notify=said.append) if record.held_out_loss is not None]
    best = min(looks, key=lambda look: look.held_out_loss or 0)
    assert best.step < 60
    assert f"it was lowest after step {best.step}, {best.held_out_loss:.5f}): take more sequences, or fewer" in said[-1]
    config.out_path.unlink()  # as if killed before the checkpoint was written
    again: list[str] = []
    assert not list(train_sequence(replace(config, resume=True), notify=again.append))
    assert again[-2] == said[-1] and config.out_path.is_file()


def test_57_a_loss_that_is_no_number_stops_the_run_and_keeps_the_step_before(autoencoder: Path, tmp_path: Path) -> None:
    config, loaded = small(autoencoder, tmp_path / "x.safetensors", save_every_s=1e6), load_checkpoint(autoencoder)

    class Broken:
        """A source whose fourth batch holds NaN, as a faulty disk might."""

        def __init__(self, source: object) -> None:
            self.source = source

        def __getattr__(self, name: str) -> object:
            return getattr(self.source, name)

        def batch(self, step: int, batch_size: int) -> list[torch.Tensor]:
            clips = self.source.batch(step, batch_size)  # type: ignore[attr-defined]
            return [clip * float("nan") for clip in clips] if step == 3 else clips

    broken = Broken(open_sequences(config, loaded))
    with pytest.raises(
        TrainingError, match="the loss is no longer a number at step 4; lower --lr; the state after step 3"
    ):
        list(train_sequence(config, loaded, broken))  # type: ignore[arg-type]
    assert runs.read_status(runs.folder_of(config.out_path))[0] == "failed"
    assert state_files(runs.folder_of(config.out_path))[0].name == "state-00000003.safetensors"
    assert all(torch.isfinite(tensor).all() for tensor in state(config).values())
    assert len(list(train_sequence(replace(config, resume=True)))) == 5


def test_a_run_resumed_with_other_values_is_refused(straight: SequenceTrainConfig) -> None:
    for changed, said in (
        ({"lr": 1e-4}, "lr: was 0.005, now 0.0001"),
        ({"hidden_dim": 9}, "hidden_dim: was 8, now 9"),
        ({"loss": "latent"}, "loss: was 'metric', now 'latent'"),
    ):
        with pytest.raises(ValueError, match=said):
            list(train_sequence(replace(straight, resume=True, **changed)))


def test_a_run_resumed_with_other_sequences_or_autoencoder_is_refused(autoencoder: Path, tmp_path: Path) -> None:
    folder = sequences(tmp_path / "squares")
    config = small(autoencoder, tmp_path / "x.safetensors", data=str(folder))
    next(train_sequence(config))
    other = load_checkpoint(autoencoder)
    with torch.no_grad():
        other.model.encoder.norm.bias.add_(0.1)
    with pytest.raises(ValueError, match="must be those that the run began with, and they have changed"):
        list(train_sequence(replace(config, resume=True), other))
    (folder / "3.gif").unlink()
    with pytest.raises(ValueError, match="must be those that the run began with, and they have changed"):
        list(train_sequence(replace(config, resume=True)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 1000000000, got 0"),
        ({"clip_frames": 1}, "clip_frames must be a whole number from 2 to 100000, got 1"),
        ({"lr": float("nan")}, "lr must be a number from 1e-12 to 1000, got nan"),
        ({"resume": True, "overwrite": True}, "resume and overwrite exclude each other"),
    ],
)
def test_a_config_that_cannot_be_is_refused(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SequenceTrainConfig(**fields)


def test_a_config_survives_json_and_the_command_line(tmp_path: Path) -> None:
    config = SequenceTrainConfig(
        data="some folder",
        checkpoint=tmp_path / "a.safetensors",
        hidden_dim=64,
        loss="decoded",
        threads=1,
        lr=1e-3,
        cache=tmp_path,
        out=tmp_path / "x.safetensors",
        overwrite=True,
    )
    assert SequenceTrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert tyro.cli(SequenceTrainConfig, args=config.command_line()) == config
    assert tyro.cli(SequenceTrainConfig, args=[]) == SequenceTrainConfig()
    assert tyro.cli(SequenceTrainConfig, args=["--rollout-steps", "3"]) == SequenceTrainConfig(forecast_steps=3)
    older = {"rollout_steps": 3, "sequences": 16_000, "recordings": 5000}
    assert SequenceTrainConfig.from_dict(older) == SequenceTrainConfig(forecast_steps=3)
    told = SequenceTrainConfig(target="speed", steps=1200)  # each task has defaults of its own
    assert (told.num_layers, told.dropout) == (1, 0.5) != (SequenceTrainConfig().num_layers, 0.5)
    assert told.command_line() == ["--target", "speed", "--steps", "1200"]
    assert tyro.cli(SequenceTrainConfig, args=told.command_line()) == told
    assert SequenceTrainConfig.from_dict(told.to_dict()) == told
    shown = config.command_words()
    assert str(tmp_path) not in shown and "--overwrite" not in shown and "'some folder'" in shown
    with pytest.raises(ValueError, match="must be a dict of the fields of SequenceTrainConfig"):
        SequenceTrainConfig.from_dict({"wings": 2})


@pytest.mark.slow
def test_the_command_trains_on_a_folder_and_says_what_it_left_out(autoencoder: Path, tmp_path: Path) -> None:
    folder = sequences(tmp_path / "squares")
    (folder / "5.gif").write_bytes((folder / "5.gif").read_bytes()[:60])
    config = small(autoencoder, tmp_path / "x.safetensors", data=str(folder), max_unreadable=0.2)
    done = run("-m", "tae.train_sequence", *config.command_line())
    assert done.returncode == 0, done.stderr
    assert "skipped 5.gif: " in done.stdout and "step 8/8" in done.stdout and f"saved {config.out_path}" in done.stdout
    assert load_sequence(config.out_path, load_checkpoint(autoencoder).model).card.data == "folder squares"


def test_the_command_refuses_before_it_embeds_anything(
    autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(autoencoder, tmp_path / "x.safetensors", data=str(sequences(tmp_path / "squares")), steps=2)
    list(train_sequence(config))
    fresh = replace(config, cache=tmp_path / "empty")
    monkeypatch.setattr(sys, "argv", ["train_sequence", *fresh.command_line()])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 1
    assert "holds a run already" in capsys.readouterr().err.replace("\n", " ") and not (tmp_path / "empty").exists()


def test_the_command_says_what_is_wrong_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, autoencoder: Path
) -> None:
    arguments = [
        "tae",
        str(tmp_path / "none"),
        "--checkpoint",
        str(autoencoder),
        "--out",
        str(tmp_path / "x.safetensors"),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 1
    assert "is neither a folder nor a file" in capsys.readouterr().err
    np.save(tmp_path / "none.npy", np.zeros((3, 24, 32, 1), np.uint8))
    monkeypatch.setattr(sys, "argv", [arguments[0], str(tmp_path / "none.npy"), *arguments[2:]])
    assert main() == 1
    assert "a single sequence must have at least four frames, got 3" in capsys.readouterr().err


README_LINES = re.findall(
    r"<!-- needs sequences -->\n```python\n(.*?)```", (ROOT / "tae" / "sequence" / "README.md").read_text(), re.DOTALL
)


@pytest.mark.slow
def test_the_readme_s_lines_predict_on_a_folder_of_one_s_own(tmp_path: Path) -> None:
    (code,) = README_LINES
    folder = tmp_path / "path" / "to" / "sequences"
    (folder / "walk").mkdir(parents=True)
    frames = np.full((6, 40, 60), 255, np.uint8)
    for number, frame in enumerate(frames):
        frame[10:30, 5 * number : 5 * number + 20] = 0
        Image.fromarray(frame).save(folder / "walk" / f"{number}.png")
    (folder / "run.gif").write_bytes(encode_gif(frames))
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" {")[0] for line in lines] == ["run.gif", "walk"] and all(LSTM in line for line in lines)
    for name in ("run.gif", "walk"):
        with Image.open(tmp_path / f"{name}_predicted.gif") as image:
            assert getattr(image, "n_frames", 1) == 10 and image.size == (201, 201)


def test_58_a_held_out_loss_that_is_no_number_is_never_the_lowest() -> None:
    said: list[str] = []
    losses = ((5, float("nan")), (10, 0.2), (15, 0.5))
    curve = [{"step": step, "held_out_loss": loss, "held_out_copy": 0.3} for step, loss in losses]
    training._Training._say_what_it_is_worth(SimpleNamespace(curve=curve, notify=said.append))  # type: ignore[arg-type]
    assert "it was lowest after step 10, 0.20000" in said[0]
