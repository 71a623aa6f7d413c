"""Runs: what their folders say, and processes that live on, are found again, stopped, resumed and removed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tae.training.config import TrainConfig
from tae.training.images.index import read_index
from tae.training.run import runs
from tae.training.run.runs import Run, RunError
from tae.training.trainer import train
from tests.forked import Forked
from tests.training.small import small_config

LIMIT_S = 120


def wait_for(is_so: Callable[[], bool]) -> None:
    """Until it is so; a machine under load may take its time."""
    ends = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)


def ended(run: Run) -> Run:
    wait_for(lambda: not runs.read_run(run.folder).is_active)
    return runs.read_run(run.folder)


def written(folder: Path, config: TrainConfig | None = None, status: str = "", records: int = 0) -> Path:
    """A run's folder as a training leaves it."""
    folder.mkdir(parents=True)
    runs.write_config(folder, config or TrainConfig(steps=40))
    for step in range(1, records + 1):
        runs.append_log(folder, {"step": step, "loss": 1 / step})
    if status:
        runs.write_status(folder, status, "because", records, 40)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "shoes.safetensors"


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that start without importing PyTorch; one test starts one as an app does."""
    monkeypatch.setattr("tae.training.run.runs.subprocess.Popen", Forked)


# ------------------------------------------------------------------------------------------------- what a folder says


HOSTILE_TEXTS = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "endless": b'{"steps": 1e999, "step": 1e999, "status": "running"}',
    "twice": b'{"steps": 3, "steps": 4}',
    "digits": b'{"steps": ' + b"9" * 5000 + b', "step": 3}',
    "list": b"[]",
    "nothing": b"",
    "bytes": b"\xff\xfe\0",
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=list(HOSTILE_TEXTS))
@pytest.mark.parametrize("name", ["config.json", "status.json", "log.jsonl", "output.txt", "pid"])
def test_41_a_run_whose_file_is_broken_is_shown_and_takes_no_other_down(name: str, text: bytes, tmp_path: Path) -> None:
    for run in ("good", "bad"):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        runs.write_config(folder, TrainConfig(steps=9))
        runs.write_status(folder, "finished", "", 9, 9)
    (tmp_path / "runs" / "bad" / name).write_bytes(text)
    found = {run.name: run for run in runs.list_runs(tmp_path)}
    assert found["good"].status == "finished" and found["bad"].status in ("finished", "failed", "died", "stopped")
    if name == "config.json":
        assert "config.json cannot be read" in found["bad"].message
    runs.delete(found["bad"])
    assert [run.name for run in runs.list_runs(tmp_path)] == ["good"]


@pytest.mark.parametrize("name", ["config.json", "status.json", "log.jsonl", "output.txt", "pid", "index.safetensors"])
def test_41_a_pipe_in_the_place_of_a_run_s_file_is_not_waited_for(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "bad"
    folder.mkdir(parents=True)
    runs.write_config(folder, TrainConfig(steps=9))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (run,) = runs.list_runs(tmp_path)
    assert (run.status == "failed") == (name == "config.json") and runs.skipped(folder) == []
    assert read_index(folder) is None
    runs.end_now(run)
    runs.delete(run)


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_run_is_what_its_process_said_last(tmp_path: Path, status: str) -> None:
    run = runs.read_run(written(tmp_path / "runs" / "a", status=status, records=7))
    assert (run.name, run.status, run.message, run.step, run.steps) == ("a", status, "because", 7, 40)
    assert run.checkpoint == tmp_path / "a.safetensors" and not run.is_active


def test_run_whose_process_vanished_died(tmp_path: Path) -> None:
    run = runs.read_run(written(tmp_path / "runs" / "a", status="running", records=3))
    assert (run.status, run.message, run.step) == ("died", "", 3)


def test_run_is_running_while_a_process_holds_its_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "runs" / "a", status="stopped")
    with runs.hold(folder):
        assert runs.read_run(folder).status == "running"
    assert runs.read_run(folder).status == "stopped"


@pytest.mark.parametrize("output", ["error: no such folder\n", "Traceback (most recent call last):\nno such folder\n"])
def test_run_without_a_word_is_told_by_the_end_of_its_output(tmp_path: Path, output: str) -> None:
    folder = written(tmp_path / "runs" / "a")
    (folder / "output.txt").write_text(f"read 1 of 9 files\rread 9 of 9 files\n{output}")
    run = runs.read_run(folder)
    assert (run.status, run.message) == ("failed", "no such folder")
    (folder / "output.txt").write_text("read 1 of 9 files\n")
    assert runs.read_run(folder).status == "died"


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"lerning_rate": 1}', '{"steps": "many"}', '{"steps": -1}'])
def test_broken_config_shows_as_failed_and_hides_no_other_run(tmp_path: Path, content: str) -> None:
    (written(tmp_path / "runs" / "broken") / "config.json").write_text(content)
    written(tmp_path / "runs" / "whole", status="finished")
    found = {run.name: run for run in runs.list_runs(tmp_path)}
    assert found.keys() == {"broken", "whole"}
    assert found["broken"].status == "failed" and str(tmp_path) not in found["broken"].message
    assert found["broken"].config is None and found["whole"].status == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_53_a_full_disk_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device: 'log.jsonl'"):
        runs.append_log(tmp_path, {"step": 1})


def test_torn_line_of_a_log_is_passed_over(tmp_path: Path) -> None:
    folder = written(tmp_path / "runs" / "a", records=3)
    with open(folder / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in runs.read_log(folder)] == [1, 2, 3]


def test_minutes_follow_the_pace_and_leave_pauses_out() -> None:
    records = [{"step": 10, "images_per_s": 16.0}, {"step": 30, "images_per_s": 32.0}, {"step": 40}]
    assert runs.minutes(records, 96) == [1.0, 2.0, 2.0]
    assert runs.minutes([], 16) == []


def test_newest_run_comes_first_and_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "older", "oldest"]):
        os.utime(written(tmp_path / "runs" / name) / "config.json", (10_000 - age, 10_000 - age))
    written(tmp_path / "runs" / ".old.tmp")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "file").touch()
    assert [run.name for run in runs.list_runs(tmp_path)] == ["new", "older", "oldest"]
    assert runs.list_runs(tmp_path / "nowhere") == []


def test_free_name_is_neither_a_checkpoint_s_nor_a_run_s(tmp_path: Path) -> None:
    assert runs.free_name(tmp_path, "shoes") == "shoes"
    (tmp_path / "shoes.safetensors").touch()
    (tmp_path / "runs" / "shoes-2").mkdir(parents=True)
    assert runs.free_name(tmp_path, "shoes") == "shoes-3"


# ------------------------------------------------------------------------------------------------ processes of its own


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_started_run_trains_in_its_own_process_to_the_end(out: Path) -> None:
    run = runs.start(small_config(out))
    assert run.status in ("starting", "running") and run.folder == out.parent / "runs" / "shoes"
    run = ended(run)
    assert (run.status, run.message, run.step, run.steps) == ("finished", "", 6, 6)
    assert out.is_file() and len(runs.read_log(run.folder)) == 6
    with pytest.raises(RunError, match="it is finished"):
        runs.resume(run)


@pytest.mark.slow
def test_run_outlives_the_app_that_started_it(out: Path) -> None:
    code = f"""
from pathlib import Path
from tae.training.run import runs
from tests.training.small import small_config
runs.start(small_config(Path({str(out)!r}), steps=100_000))
"""
    subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, check=True)
    (run,) = runs.list_runs(out.parent)  # by another process, and the first one is gone
    assert run.is_active
    if sys.platform != "win32":  # pages that are looked at go first
        assert os.getpriority(os.PRIO_PROCESS, int((run.folder / "pid").read_text())) >= 5
    wait_for(lambda: runs.read_run(run.folder).step > 2)
    runs.ask_to_stop(run.folder)
    run = ended(run)
    assert run.status == "stopped" and run.step > 2 and out.is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_stopped_run_goes_on_where_it_was_also_if_it_began_with_a_checkpoint(out: Path) -> None:
    *_, last = train(small_config(out.with_stem("boots"), steps=1))
    run = runs.start(small_config(out, steps=100_000, log_every=1, init_from=last.saved))
    wait_for(lambda: runs.read_run(run.folder).step > 2)
    with pytest.raises(RunError, match="must have been stopped"):
        runs.resume(run)
    with pytest.raises(RunError, match="must be stopped before it is deleted"):
        runs.delete(run)
    runs.ask_to_stop(run.folder)
    stopped = ended(run)
    before = runs.read_log(run.folder)
    runs.resume(stopped)
    wait_for(lambda: runs.read_run(run.folder).step > stopped.step + 2)
    runs.ask_to_stop(run.folder)
    assert ended(run).status == "stopped"
    steps = [record["step"] for record in runs.read_log(run.folder)]
    assert steps == list(range(1, len(steps) + 1)) and runs.read_log(run.folder)[: len(before)] == before


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_run_that_died_before_its_first_save_begins_again(out: Path) -> None:
    folder = written(runs.folder_of(out), small_config(out), status="running", records=2)
    assert runs.read_run(folder).status == "died"
    runs.resume(runs.read_run(folder))
    run = ended(runs.read_run(folder))
    assert (run.status, run.step) == ("finished", 6) and len(runs.read_log(folder)) == 6


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_run_that_cannot_begin_says_why_and_can_be_tried_again(out: Path, tmp_path: Path) -> None:
    run = ended(runs.start(small_config(out, data=str(tmp_path / "nothing here"))))
    assert run.status == "failed" and "nothing here" in run.message and "Traceback" not in run.message
    assert ended(runs.resume(run)).message == run.message


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_process_that_dies_before_its_first_word_is_told_by_its_output(out: Path) -> None:
    run = ended(runs.start(small_config(out, device="cuda")))
    assert run.status == "failed" and "cuda" in run.message.lower()


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_run_can_be_ended_before_its_first_step(out: Path) -> None:
    run = runs.start(small_config(out))
    runs.end_now(run)
    assert ended(run).status in ("died", "stopped", "finished")
    runs.end_now(run)  # of an ended one: nothing happens


def test_name_that_is_taken_is_refused_and_nothing_is_touched(out: Path) -> None:
    folder = written(runs.folder_of(out), status="stopped", records=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match="there is a run shoes already"):
        runs.start(small_config(out))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before
    runs.delete(runs.read_run(folder))
    out.write_bytes(b"a checkpoint")
    with pytest.raises(RunError, match="there is a checkpoint shoes.safetensors already"):
        runs.start(small_config(out))
    assert out.read_bytes() == b"a checkpoint" and not folder.exists()


@pytest.mark.slow
def test_pictures_go_along_and_come_back_if_nothing_starts(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "000001.png").write_bytes(b"a picture")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "no such program"))
        with pytest.raises(OSError):
            runs.start(small_config(out), pictures)
    assert (pictures / "000001.png").read_bytes() == b"a picture" and not runs.folder_of(out).exists()
    run = ended(runs.start(small_config(out, data=str(runs.folder_of(out) / "images")), pictures))
    assert (run.folder / "images" / "000001.png").is_file() and not pictures.exists()
    assert run.status == "failed"  # one that cannot be read is too few


def test_a_log_that_is_cut_loses_the_pictures_and_snapshots_that_come_again(tmp_path: Path) -> None:
    folder = written(tmp_path / "runs" / "a", records=3)
    for name in ("strips/00000002.png", "strips/00000003.png", "snapshots/00000000.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for name in ("00000003.safetensors", "123456789.safetensors", "x.safetensors", ".00000003.safetensors.tmp"):
        (folder / "snapshots" / name).touch()
    assert [path.stem for path in runs.snapshots(folder)] == ["00000000", "00000003", "123456789"]
    runs.cut_log(folder, 2)
    assert [path.stem for path in runs.snapshots(folder)] == ["00000000"]
    assert [path.stem for path in runs.strips(folder)] == ["00000002"]
    assert [record["step"] for record in runs.read_log(folder)] == [1, 2]


def test_a_config_from_before_snapshots_is_read_and_goes_on(tmp_path: Path) -> None:
    folder = written(tmp_path / "runs" / "a", TrainConfig(steps=40, snapshots=3), status="stopped")
    values = json.loads((folder / "config.json").read_text())
    del values["snapshots"]
    (folder / "config.json").write_text(json.dumps(values))
    (run,) = runs.list_runs(tmp_path)
    before, now = TrainConfig(steps=40), TrainConfig(steps=40, snapshots=3)
    assert run.config == before and now.differences(before) == []


# ---------------------------------------------------------------------------------------------------------- deletion


def test_deleting_removes_the_run_and_keeps_the_checkpoint_unless_asked(out: Path) -> None:
    for with_checkpoint in (False, True):
        folder = written(runs.folder_of(out), status="finished")
        (folder / "strips").mkdir()
        (folder / "strips" / "00000001.png").touch()
        (folder / "snapshots").mkdir()
        (folder / "snapshots" / "00000001.safetensors").touch()
        out.write_bytes(b"a checkpoint")
        runs.delete(runs.read_run(folder), with_checkpoint)
        assert list(folder.parent.iterdir()) == []
        assert out.exists() != with_checkpoint


def test_deleting_follows_no_link(out: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    written(precious / "runs" / "elsewhere", status="finished")
    folder = written(runs.folder_of(out), status="finished")
    (folder / "images").symlink_to(precious, target_is_directory=True)
    runs.delete(runs.read_run(folder))
    assert (precious / "runs" / "elsewhere" / "config.json").exists()
    folder.symlink_to(precious / "runs" / "elsewhere", target_is_directory=True)
    for path in (folder, precious):
        with pytest.raises(RunError, match="must be a run's own folder"):
            runs.delete(Run(path, None, "finished", "", 0, 0))
    assert json.loads((precious / "runs" / "elsewhere" / "status.json").read_text())["status"] == "finished"
