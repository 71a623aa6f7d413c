"""Runs: the folders in which trainings keep their state and say how they go; found again after any restart.

A run belongs to a checkpoint file: that of `checkpoints/shoes.safetensors` lies in `checkpoints/runs/shoes/`:

    config.json                     the fields of `TrainConfig`
    status.json                     {"status", "message", "step", "steps"}, see `Run.status`
    log.jsonl                       a line a logged step
    strips/00000200.png             held-out images above their reconstructions, after that step
    state-00000200.safetensors      all that `--resume` needs, the newest two; see `tae.trainstate`
    events.out.tfevents.*           the same for TensorBoard
    output.txt                      what the process printed, where the app started it
    images/                         the pictures, where they were dropped onto the app
    stop                            there while somebody asks the process to stop
    lock                            held by the process while it trains

Nothing here needs PyTorch.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tae.trainconfig import TrainConfig, config_from_dict, config_to_dict
from tae.wholefile import write_whole

FOLDER = "runs"


class RunError(ValueError):
    """A run cannot be started, resumed or removed; one sentence for its user."""


@dataclass(frozen=True)
class Run:
    """A run as its folder describes it.

    Attributes:
        folder: Its folder; the name is the checkpoint's without its ending.
        config: What was asked for; None where config.json cannot be read.
        status: "running"; "finished"; "stopped" (asked to); "failed" (`message` says why); "died" (its process was
            ended from outside: `--resume` goes on).
        message: A sentence about the status, or "".
        step: Steps done, as far as the status tells.
        steps: Steps in all; 0 where not yet known.
    """

    folder: Path
    config: TrainConfig | None
    status: str
    message: str
    step: int
    steps: int

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint is or will be."""
        return self.folder.parent.parent / f"{self.folder.name}.safetensors"


def folder_of(out: Path) -> Path:
    """The run folder of the checkpoint `out`."""
    return out.parent / FOLDER / out.stem


def list_runs(checkpoints: Path) -> list[Run]:
    """The runs whose checkpoints go to a folder, newest first."""
    home = checkpoints / FOLDER
    folders = [path for path in home.iterdir() if (path / "config.json").is_file()] if home.is_dir() else []
    return [read_run(path) for path in sorted(folders, key=lambda path: (path / "config.json").stat().st_mtime)[::-1]]


def read_run(folder: Path) -> Run:
    """One run; what is broken in its folder shows as status "failed"."""
    try:
        config = config_from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        return Run(folder, None, "failed", f"its config.json cannot be read: {error}", 0, 0)
    word, message, step, steps = read_status(folder)
    if is_running(folder):
        word = "running"
    elif word == "running":
        word = "died"
    last = next(reversed(read_log(folder)), None)
    return Run(folder, config, word, message, max(step, int(last["step"]) if last else 0), steps)


def is_running(folder: Path) -> bool:
    """Whether a process trains in this folder now."""
    lock = FileLock(folder / "lock")
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, which is made where it is missing.

    Raises:
        RunError: If one already does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock").acquire(timeout=2):  # `is_running` holds it for a moment
            yield
    except Timeout:
        raise RunError(
            f"another process is training in {folder}; wait for it, stop it, or choose another --out"
        ) from None


def write_config(folder: Path, config: TrainConfig) -> None:
    write_whole(folder / "config.json", [json.dumps(config_to_dict(config), indent=1).encode()])


def write_status(folder: Path, status: str, message: str = "", step: int = 0, steps: int = 0) -> None:
    """Say how the run stands; see `Run.status`."""
    values = {"status": status, "message": message, "step": step, "steps": steps}
    write_whole(folder / "status.json", [json.dumps(values).encode()])


def read_status(folder: Path) -> tuple[str, str, int, int]:
    """What `write_status` wrote last: status, message, step, steps; "running" where there is nothing yet."""
    try:
        status = json.loads((folder / "status.json").read_text())
        return (
            str(status["status"]),
            str(status.get("message", "")),
            int(status.get("step", 0)),
            int(status.get("steps", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "running", "", 0, 0


def stop_asked(folder: Path) -> bool:
    return (folder / "stop").exists()


def ask_to_stop(folder: Path) -> None:
    """Ask the process to save and end after its current step."""
    (folder / "stop").touch()


def append_log(folder: Path, record: dict) -> None:
    """One line; floats that are no numbers become null."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


def read_log(folder: Path) -> list[dict]:
    """The records of a run, in the order of their steps; a line torn by a kill is passed over."""
    try:
        lines = (folder / "log.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def cut_log(folder: Path, step: int) -> None:
    """Drop the records and strips after `step`: a resumed run writes them again."""
    records = [record for record in read_log(folder) if record["step"] <= step]
    if (folder / "log.jsonl").exists():
        write_whole(folder / "log.jsonl", ["".join(json.dumps(record) + "\n" for record in records).encode()])
    for strip in strips(folder):
        if int(strip.stem) > step:
            strip.unlink()


def strips(folder: Path) -> list[Path]:
    """Pictures of held-out reconstructions, by step; the name is the step."""
    found = (folder / "strips").glob("*.png") if (folder / "strips").is_dir() else []
    return sorted(path for path in found if path.stem.isdigit())
