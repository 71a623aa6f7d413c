"""Runs: the folders in which trainings keep their state and say how they go; found again after any restart.

A run belongs to a checkpoint file: that of `checkpoints/shoes.safetensors` lies in `checkpoints/runs/shoes/`:

    config.json                     the fields of `TrainConfig`
    status.json                     {"status", "message", "step", "steps", "pace"}, see `Run.status`
    log.jsonl                       a line a logged step
    strips/00000200.png             held-out images above their reconstructions, after that step
    snapshots/00000200.safetensors  the weights after that step, a checkpoint like any other
    state-00000200.safetensors      all that `--resume` needs, the newest two; see `tae.training.run.state`
    events.out.tfevents.*           the same for TensorBoard
    metrics.csv                     the same as a table, where --tracker csv asked for it
    tracker.json                    by which name another tracker knows the run
    output.txt                      what the process printed, where `start` began it; held by it as long as it lives
    pid                             its number
    images/                         the images, where they were dropped onto the app
    stop                            there while somebody asks the process to stop
    lock                            held by the process while it trains

Nothing here needs PyTorch.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from tae.store.atomic import naming, write_whole
from tae.store.places import ROOT
from tae.store.regular import open_regular, parse_json, read_json, read_regular
from tae.training.command import RunConfig
from tae.training.config import TrainConfig

LOGGER = logging.getLogger(__name__)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FOLDER = "runs"
MAX_TEXT_BYTES = 1024**2
MAX_LOG_BYTES = 256 * 1024**2
"""Most bytes of a run's config.json and status.json, and of its log."""
MAX_OUTPUT_SHOWN = 20_000
START_S = 120
"""Where files cannot be held, a run without a word counts as starting for so long."""


class RunError(ValueError):
    """A run cannot be started, resumed or removed; one sentence for its user."""


@dataclass(frozen=True)
class Run:
    """A run as its folder describes it.

    Attributes:
        folder: Its folder; the name is the checkpoint's without its ending.
        config: What was asked for; None where config.json cannot be read.
        status: "starting" (its process lives and does not train yet); "running"; "finished"; "stopped" (asked to);
            "failed" (`message` says why); "died" (its process was ended from outside: `--resume` goes on).
        message: A sentence about the status, or "".
        step: Steps done, as far as the status tells.
        steps: Steps in all; 0 where not yet known.
        pace: Seconds a step, of late; 0 where not yet known.
    """

    folder: Path
    config: TrainConfig | None
    status: str
    message: str
    step: int
    steps: int
    pace: float = 0.0

    @property
    def name(self) -> str:
        """The checkpoint's name without its ending."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint is or will be."""
        return self.folder.parent.parent / f"{self.folder.name}.safetensors"

    @property
    def is_active(self) -> bool:
        """Whether a process works on it."""
        return self.status in ("starting", "running")

    @property
    def has_state(self) -> bool:
        """Whether there is something to resume from."""
        return any(self.folder.glob("state-*.safetensors"))


def folder_of(out: Path) -> Path:
    """The run folder of the checkpoint `out`."""
    return out.parent / FOLDER / out.stem


def list_runs(checkpoints: Path) -> list[Run]:
    """The runs whose checkpoints go to a folder, newest first."""
    dated = []
    for folder in (checkpoints / FOLDER).glob("[!.]*"):
        try:
            dated.append(((folder / "config.json").stat().st_mtime, folder))
        except OSError:  # no run, or one that is being deleted
            continue
    return [read_run(folder) for _, folder in sorted(dated, reverse=True)]


def read_run(folder: Path) -> Run:
    """One run; what is broken in its folder shows as status "failed", with the reason."""
    try:
        config = TrainConfig.from_dict(read_json(folder / "config.json", MAX_TEXT_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return Run(folder, None, "failed", f"its config.json cannot be read: {reason}", 0, 0)
    try:
        return _read_run(folder, config)
    except Exception as error:  # whatever lies there must not take the others down
        return Run(folder, config, "failed", f"its files cannot be read: {error}", 0, 0)


def _read_run(folder: Path, config: TrainConfig) -> Run:
    is_training, is_alive = is_running(folder), _is_alive(folder)
    # After the look at its process, which says how it ended, then ends.
    word, message, step, steps, pace = read_status(folder)
    if is_training:
        word, message = "running", ""
    elif word == "running" and is_alive:
        word, message = "starting", _last_line(folder)
    elif word == "running":
        # A process that could, said so itself; the others left a traceback or an error at the end of what they printed.
        last = _last_line(folder)
        is_told = last.startswith("error: ") or "Traceback (most recent call last)" in read_output(folder)
        word, message = ("failed", last.removeprefix("error: ")) if is_told else ("died", "")
    last_record = next(reversed(read_log(folder)), None)
    if config.minutes is None:
        steps = steps or (0 if config.epochs else config.steps)
    elif last_record and last_record["step"] >= step and isinstance(last_record.get("steps"), int):
        steps = last_record["steps"]
    return Run(folder, config, word, message, max(step, int(last_record["step"]) if last_record else 0), steps, pace)


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


def start(config: TrainConfig, images: Path | None = None) -> Run:
    """Begin a training in a process of its own, which lives on when the caller ends.

    Args:
        config: The run; a relative `out` starts from `ROOT`.
        images: A folder that becomes the run's `images/`: `config.data` must name it by where it will be.

    Raises:
        RunError: If there is such a run or checkpoint already.
        OSError: If its folder cannot be made or its process cannot be started; nothing is left behind.
    """
    out = ROOT / config.out_path
    folder = folder_of(out)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        raise RunError(f"the name must be a new one, and there is a checkpoint {out.name} already; choose another")
    try:
        folder.mkdir()
    except FileExistsError:
        raise RunError(
            f"the name must be a new one, and there is a run {folder.name} already; choose another"
        ) from None
    try:
        if images is not None:
            os.replace(images, folder / "images")
        write_config(folder, config)
        _spawn(folder, config)
    except BaseException:
        if images is not None and (folder / "images").exists():
            os.replace(folder / "images", images)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return read_run(folder)


def resume(run: Run, **budget: float) -> Run:
    """Go on with a run whose process has ended, from its newest state; without one, begin it again.

    Args:
        run: Stopped or broken off; finished too where a larger budget prolongs it.
        budget: `steps` or `minutes` in place of the run's.

    Raises:
        RunError: If it is at work, is finished and not prolonged, or cannot be read.
        OSError: If its process cannot be started.
    """
    run = read_run(run.folder)
    if run.config is None:
        raise RunError(f"{run.name} must have a config that can be read to go on; {run.message}")
    if run.is_active or (run.status == "finished" and not budget):
        raise RunError(f"{run.name} must have been stopped to go on, and it is {run.status}")
    begun = run.has_state or bool(read_log(run.folder))
    config = replace(run.config, resume=begun, overwrite=False, **budget)  # type: ignore[arg-type]
    _spawn(run.folder, config)
    return read_run(run.folder)


def delete(run: Run, with_checkpoint: bool = False) -> None:
    """Remove a run's folder: state, log, strips, snapshots, dropped images; its checkpoint stays unless asked for.

    Nothing outside the folder of runs is removed: a link that lies there goes, what it leads to stays.

    Raises:
        RunError: If it is at work, or is no folder of a folder of runs.
        OSError: If it cannot be removed.
    """
    folder = run.folder
    if folder.parent.name != FOLDER or folder.is_symlink() or not os.path.lexists(folder / "config.json"):
        raise RunError(f"{run.name} must be a run's own folder to be deleted; remove it by hand")
    if read_run(folder).is_active:
        raise RunError(f"{run.name} must be stopped before it is deleted, and it is {read_run(folder).status}")
    beside = folder.with_name(f".{folder.name[:40]}.{uuid.uuid4().hex}.tmp")
    os.replace(folder, beside)  # at once: nobody sees half a run
    shutil.rmtree(beside)  # follows no links
    if with_checkpoint:
        run.checkpoint.unlink(missing_ok=True)


def end_now(run: Run) -> None:
    """Tell the process to end even where it takes no steps, for instance while it still reads the images."""
    try:
        number = int(read_regular(run.folder / "pid", 100))
        if _is_alive(run.folder):  # so the number is still its own
            os.kill(number, signal.SIGTERM)
    except (OSError, ValueError):
        return  # it has ended, or `start` did not begin it


def free_name(checkpoints: Path, name: str) -> str:
    """The name itself, or with -2, -3 ... behind it, such that neither a checkpoint nor a run has it."""
    number, free = 1, name
    while (checkpoints / f"{free}.safetensors").exists() or (checkpoints / FOLDER / free).exists():
        number += 1
        free = f"{name}-{number}"
    return free


def size_bytes(folder: Path) -> int:
    """Bytes that a run's files take on the disk."""
    return sum(os.lstat(os.path.join(root, name)).st_size for root, _, names in os.walk(folder) for name in names)


def read_output(folder: Path) -> str:
    """The end of what the process printed; "" where `start` did not begin it."""
    try:
        with open_regular(folder / "output.txt") as (file, size):
            file.seek(max(0, size - MAX_OUTPUT_SHOWN))
            return file.read(MAX_OUTPUT_SHOWN).decode(errors="replace")
    except (OSError, ValueError):
        return ""


def skipped(folder: Path) -> list[str]:
    """What the process said of files that it left out, names and reasons; [] where `start` did not begin it."""
    try:
        with open_regular(folder / "output.txt") as (file, _):  # it says so before the first step
            lines = file.read(MAX_OUTPUT_SHOWN).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return []
    return [line.removeprefix("skipped ") for line in lines if line.startswith("skipped ")]


def _last_line(folder: Path) -> str:
    lines = [line.split("\r")[-1].strip() for line in read_output(folder).splitlines()]
    return next((line[:500] for line in reversed(lines) if line), "")


def _spawn(folder: Path, config: TrainConfig) -> None:
    """Start the process; it holds output.txt from its first moment to its last, whatever ends it."""
    with open(folder / "output.txt", "wb") as output:
        if fcntl:
            fcntl.flock(output, fcntl.LOCK_EX)
        for name in ("stop", "status.json"):
            (folder / name).unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "tae.train", *config.command_line()],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C for the app is none for its trainings
        )
    (folder / "pid").write_text(str(process.pid))
    _stand_back(process.pid)
    threading.Thread(target=_see_end, args=(process, folder.name), daemon=True).start()


def _stand_back(process: int) -> None:
    """Whoever looks at a page goes first; a training takes what is left of the processor, all of it where nobody looks."""
    with suppress(OSError):  # it has ended already
        if sys.platform != "win32":
            os.setpriority(os.PRIO_PROCESS, process, max(5, os.getpriority(os.PRIO_PROCESS, process)))
        autogroup = Path(f"/proc/{process}/autogroup")  # Linux weighs sessions against each other by this number alone
        if autogroup.exists():
            autogroup.write_text("5")


def _see_end(process: subprocess.Popen, name: str) -> None:
    """Wait for it, or its end would leave a zombie."""
    LOGGER.info("run %s began: process %d", name, process.pid)
    LOGGER.info("run %s ended with code %d", name, process.wait())


def _is_alive(folder: Path) -> bool:
    """Whether the process that `start` began lives."""
    try:
        with open_regular(folder / "output.txt") as (output, _):
            if fcntl:
                fcntl.flock(output, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask do not see each other
                return False
            return time.time() - os.fstat(output.fileno()).st_mtime < START_S
    except BlockingIOError:
        return True
    except (OSError, ValueError):
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


def write_config(folder: Path, config: RunConfig) -> None:
    """Write what was asked for, from which a run is found and resumed."""
    write_whole(folder / "config.json", [json.dumps(config.to_dict(), indent=1).encode()])


def write_status(
    folder: Path, status: str, message: str = "", step: int = 0, steps: int = 0, pace: float = 0.0
) -> None:
    """Say how the run stands; see `Run.status`."""
    values = {"status": status, "message": message, "step": step, "steps": steps, "pace": pace}
    write_whole(folder / "status.json", [json.dumps(values).encode()])


def read_status(folder: Path) -> tuple[str, str, int, int, float]:
    """The last of `write_status`: status, message, step, steps, pace; "running" where there is nothing yet."""
    try:
        status = read_json(folder / "status.json", MAX_TEXT_BYTES)
        return (
            str(status["status"]),
            str(status.get("message", "")),
            int(status.get("step", 0)),
            int(status.get("steps", 0)),
            float(status.get("pace", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "running", "", 0, 0, 0.0


def stop_asked(folder: Path) -> bool:
    """Whether `ask_to_stop` was called since the run began or was resumed."""
    return (folder / "stop").exists()


def ask_to_stop(folder: Path) -> None:
    """Ask the process to save and end after its current step."""
    (folder / "stop").touch()


def append_log(folder: Path, record: dict) -> None:
    """One line; floats that are no numbers become null."""
    with naming(folder / "log.jsonl"), open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")


def read_log(folder: Path) -> list[dict]:
    """The records of a run, in the order of their steps; a line torn by a kill is passed over."""
    try:
        lines = read_regular(folder / "log.jsonl", MAX_LOG_BYTES).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return []
    records = []
    for line in lines:
        try:
            record = parse_json(line, "a line")
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            records.append(record)
    return records


def minutes(records: list[dict], batch_size: int) -> list[float]:
    """Time trained up to each record, from the pace that each tells: pauses between stop and resume do not count."""
    total, before, times = 0.0, 0, []
    for record in records:
        pace = record.get("images_per_s")
        if isinstance(pace, (int, float)) and pace > 0:
            total += (record["step"] - before) * batch_size / pace / 60
        before = record["step"]
        times.append(total)
    return times


def log_rows(folder: Path) -> list[dict]:
    """The records with the same names in each, as a table needs them; None where a record has no such number."""
    records = read_log(folder)
    names = list(dict.fromkeys(name for record in records for name in record))
    return [{name: record.get(name) for name in names} for record in records]


def config_differences(configs: list[TrainConfig]) -> dict[str, list[str]]:
    """{field: its value in each config, as a text} of the fields in which they are not all alike; files' places aside."""
    plain = [config.to_dict() for config in configs]
    return {
        name: [str(values[name]) for values in plain]
        for name in (plain[0] if plain else ())
        if name not in ("out", "name", "resume", "overwrite")
        and any(values[name] != plain[0][name] for values in plain)
    }


def cut_log(folder: Path, step: int) -> None:
    """Drop the records, strips and snapshots after `step`: a resumed run writes them again."""
    records = [record for record in read_log(folder) if record["step"] <= step]
    if (folder / "log.jsonl").exists():
        write_whole(folder / "log.jsonl", ["".join(json.dumps(record) + "\n" for record in records).encode()])
    for path in (*strips(folder), *snapshots(folder)):
        if int(path.stem) > step:
            path.unlink()


def strips(folder: Path) -> list[Path]:
    """Images of held-out reconstructions, by step; the name is the step."""
    return by_step(folder / "strips", ".png")


def snapshots(folder: Path) -> list[Path]:
    """Checkpoints of the weights on the way, by step; the name is the step. Whether they are sound is not looked at."""
    return by_step(folder / "snapshots", ".safetensors")


def by_step(folder: Path, suffix: str) -> list[Path]:
    """Files of a folder whose names are steps, in their order."""
    paths = (
        folder.iterdir() if folder.is_dir() and not folder.is_symlink() else []
    )  # a link leads to what is not the run's
    named = [
        path for path in paths if path.suffix == suffix and re.fullmatch("[0-9]{8,12}", path.stem) and path.is_file()
    ]
    return sorted(named, key=lambda path: int(path.stem))
