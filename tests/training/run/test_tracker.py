"""Where the figures of a run go besides its own log: a table, services that are played here, TensorBoard's table of runs."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from tae import load_checkpoint
from tae.training.run import runs
from tae.training.trainer import train
from tests.training.small import small_config


def test_a_table_holds_the_log_through_a_resume(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", tracker="csv", steps=6)
    running = train(config)
    for _ in range(5):
        next(running)
    running.close()
    list(train(replace(config, resume=True)))
    folder = runs.folder_of(config.out_path)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    log = runs.log_rows(folder)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    for row, logged in zip(rows, log, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in logged.items()}
    assert rows[2]["held_out_psnr"] and not rows[1]["held_out_psnr"]
    list(train(replace(config, tracker=None, overwrite=True)))
    assert not (folder / "metrics.csv").exists()  # nothing is left of the run before


def play_wandb(calls: list) -> ModuleType:
    module = ModuleType("wandb")

    class Summary(dict):
        def update(self, figures: dict) -> None:  # type: ignore[override]
            calls.append(("final", figures))

    def init(**told: object) -> SimpleNamespace:
        calls.append(("begin", told))
        return SimpleNamespace(
            id=told.get("id") or f"w{len(calls)}",
            log=lambda record, step: calls.append((step, record)),
            summary=Summary(),
            finish=lambda: calls.append(("close", None)),
        )

    module.init = init  # type: ignore[attr-defined]
    return module


def play_mlflow(calls: list) -> ModuleType:
    module = ModuleType("mlflow")

    def start_run(run_id: str | None, run_name: str | None) -> SimpleNamespace:
        calls.append(("begin", {"id": run_id, "name": run_name}))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or f"m{len(calls)}"))

    def log_metrics(figures: dict, step: object = "final") -> None:
        calls.append((step, figures))

    module.start_run, module.log_metrics = start_run, log_metrics  # type: ignore[attr-defined]
    module.log_params = lambda settings: calls[-1][1].update(config=settings)  # type: ignore[attr-defined]
    module.end_run = lambda: calls.append(("close", None))  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(("name", "play"), [("wandb", play_wandb), ("mlflow", play_mlflow)])
def test_a_service_is_told_settings_steps_and_final_figures(
    name: str, play: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple] = []
    monkeypatch.setitem(sys.modules, name, play(calls))  # type: ignore[operator]
    config = small_config(tmp_path / "x.safetensors", tracker=name, steps=3, name="Shoes")
    list(train(config))
    assert [call[0] for call in calls] == ["begin", 1, 2, 3, "final", "close"]
    begun, figures = calls[0][1], calls[4][1]
    assert begun["name"] == "Shoes" and begun["config"]["seed"] == 0
    assert begun["config"]["out"] == "x.safetensors"  # where files lie is nobody's
    assert "loss" in calls[1][1] and "held_out_psnr" in calls[3][1]
    assert figures["final/psnr"] == pytest.approx(load_checkpoint(config.out_path).card.metrics["psnr"])
    known = json.loads((runs.folder_of(config.out_path) / "tracker.json").read_text())[name]
    list(train(replace(config, steps=4, resume=True)))
    begun = calls[6]
    assert begun[0] == "begin" and begun[1]["id"] == known and "config" not in begun[1] and calls[7][0] == 4


def test_a_training_goes_on_where_its_tracker_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    module, said = play_wandb(calls), []
    run = module.init()
    run.log = lambda record, step: 1 // 0
    module.init = lambda **told: run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    config = small_config(tmp_path / "x.safetensors", tracker="wandb", steps=2)
    assert list(train(config, notify=said.append))[-1].saved
    assert "the tracker is told nothing from here on: ZeroDivisionError: integer division or modulo by zero" in said
    assert sum("tracker" in text for text in said) == 1


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ValueError, match="tracker wandb must have the package wandb.*run pip install wandb, or take --tr"
    ):
        list(train(small_config(tmp_path / "x.safetensors", tracker="wandb", data="nowhere")))
    broken = ModuleType("mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", broken)
    with pytest.raises(ValueError, match="tracker mlflow must let the run in, and says AttributeError"):
        list(train(small_config(tmp_path / "x.safetensors", tracker="mlflow")))


def test_tensorboard_s_table_of_runs_has_the_settings_and_the_final_figures(tmp_path: Path) -> None:
    config = small_config(tmp_path / "x.safetensors", steps=3, muon_lr=0.125)
    list(train(config))
    folder = runs.folder_of(config.out_path)
    events = EventAccumulator(str(folder)).Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams  # type: ignore[attr-defined]
    assert settings["muon_lr"].number_value == 0.125 and settings["preset"].string_value == "tiny"
    (psnr,) = events.Scalars("final/psnr")
    assert psnr.step == 3 and psnr.value == pytest.approx(load_checkpoint(config.out_path).card.metrics["psnr"])
    assert {f"final/yardsticks/{name}" for name in load_checkpoint(config.out_path).card.metrics["yardsticks"]} <= {
        *events.Tags()["scalars"]
    }
    assert [path for path in folder.rglob("events*") if path.parent != folder] == []
