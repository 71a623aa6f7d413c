"""Does a training keep its time, and survive what queues and machines do to it?

    python -m benchmarks.survival

runs `tae.train` as a user would, with its budget of time by the clock; then kills it, signals it to end, kills one of two
processes under torchrun, at random moments, and goes on with the same command; then trains on two machines, played by two
torchruns that find each other over the network of this one. Ends are compared with unbroken runs, bit by bit. Writes
`benchmarks/results/survival.json` and `.md`; about ten minutes of two cores.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file

from benchmarks import RESULTS, grid, keep
from tae.training.run.runs import folder_of, read_log
from tae.training.run.state import state_files

ROOT = RESULTS.parents[1]
SMALL = (
    "--input-size 64 64 --patch-size 8 --steps 120 --batch-size 8 --test-images 32 --held-out-images 8 --eval-every 40"
)
EXACT = "--precision fp32 --muon-precision fp32 --threads 1 --save-every-s 0"
TWO = ("torch.distributed.run", "--nproc_per_node=2", "--standalone", "--max-restarts=1")


@dataclass(frozen=True)
class SurvivalConfig:
    minutes: tuple[float, ...] = (1.0, 2.0)
    """Budgets of time to be kept."""
    times: int = 5
    """Kills of each kind."""
    out: Path = RESULTS
    """Folder of the results."""


def started(out: Path, *launcher: str) -> subprocess.Popen:
    """The command that begins, and goes on."""
    words = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "tae.train", "tiny"]
    words += [*SMALL.split(), *EXACT.split(), "--resume", "--out", str(out)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kept(out: Path) -> dict[str, torch.Tensor]:
    return load_file(state_files(folder_of(out))[0])


def same(first: Path, second: Path) -> bool:
    one, other = kept(first), kept(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def after_step(out: Path, step: int, process: subprocess.Popen) -> None:
    """Wait until the run has written its state after so many steps."""
    while process.poll() is None:
        states = state_files(folder_of(out))
        if states and int(states[0].stem.split("-")[1]) >= step:
            return
        time.sleep(0.02)


def a_worker_of(process: subprocess.Popen) -> int:
    """One of the processes that torchrun started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(random.choice(children))


def budgets(config: SurvivalConfig, folder: Path) -> list[dict]:
    rows = []
    for minutes in config.minutes:
        out = folder / f"budget-{minutes:g}.safetensors"
        words = [sys.executable, "-m", "tae.train", "tiny", "--minutes", str(minutes), "--out", str(out)]
        began = time.monotonic()
        subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        rows.append(
            {"minutes": minutes, "seconds": time.monotonic() - began, "steps": read_log(folder_of(out))[-1]["step"]}
        )
    return rows


def survived(config: SurvivalConfig, folder: Path) -> dict[str, dict]:
    """For each kind of end, how many runs that went on ended with the bits of an unbroken one, and how long the end took."""
    whole = {launcher: folder / f"whole-{len(launcher)}.safetensors" for launcher in ((), TWO)}
    for launcher, out in whole.items():
        started(out, *launcher).wait()
    found = {}
    for name, launcher, number in (
        ("killed, then the same command", (), signal.SIGKILL),
        ("signalled to end, then the same command", (), signal.SIGTERM),
        ("one of two processes killed, under torchrun", TWO, signal.SIGKILL),
    ):
        equal, took = 0, []
        for turn in range(config.times):
            out = folder / f"{number.name}-{len(launcher)}-{turn}.safetensors"
            process = started(out, *launcher)
            after_step(out, random.randrange(2, 110), process)
            if launcher:
                os.kill(a_worker_of(process), number)
            else:
                began = time.monotonic()
                process.send_signal(number)
                process.wait()
                took.append(time.monotonic() - began)
                process = started(out)
            process.wait()
            equal += same(out, whole[launcher])
        found[name] = {"equal": equal, "of": config.times, "seconds": took if number == signal.SIGTERM else []}
    return found


def two_machines(folder: Path) -> dict:
    """The same run on two machines and on one: both are begun anew, so that only the order of sums differs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    out = folder / "machines.safetensors"
    words = ["torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--max-restarts=3", "--rdzv-backend=c10d"]
    machines = [started(out, *words, f"--rdzv-endpoint=localhost:{port}") for _ in range(2)]
    codes = [machine.wait() for machine in machines]
    losses = [[one["loss"] for one in read_log(folder_of(path))] for path in (out, folder / "whole-0.safetensors")]
    return {"codes": codes, "loss": [curve[0] for curve in losses], "last loss": [curve[-1] for curve in losses]}


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for row in result["budgets"]:
        share = row["seconds"] / (60 * row["minutes"]) - 1
        told = f"{row['seconds']:.1f} s ({share:+.1%}, with the imports), {row['steps']} steps"
        rows.append((f"`--minutes {row['minutes']:g}`, from the shell to its prompt", told))
    for name, row in result["survived"].items():
        took = row["seconds"]
        gone = f"; gone after {np.median(took):.1f} s, {max(took):.1f} at most" if took else ""
        rows.append((name, f"equal bits {row['equal']} of {row['of']} times{gone}"))
    machines = result["machines"]
    first, last = (abs(pair[0] / pair[1] - 1) for pair in (machines["loss"], machines["last loss"]))
    ended = "both end well" if machines["codes"] == [0, 0] else f"exit codes {machines['codes']}"
    rows.append(
        ("two machines, beside one process", f"{ended}; loss apart by {first:.1e} at first, {last:.1%} at last")
    )
    return [
        *grid(["what", "how it ended"], rows),
        "",
        "Kills come at random moments; in all rows but the budgets, `tiny` at 64x64 in patches of 8, 120 steps of 8 demo "
        f"images, a state after each. {result['cores']} cores, {result['load']}. torch {result['torch']}.",
    ]


def main(config: SurvivalConfig) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        result = {
            "budgets": budgets(config, folder),
            "survived": survived(config, folder),
            "machines": two_machines(folder),
            "cores": os.cpu_count(),
            "load": "nothing else at work" if load < 0.7 else f"beside other work (load {load:.1f} as it began)",
            "torch": torch.__version__,
        }
    keep("survival", result, table(result), config.out)


if __name__ == "__main__":
    main(tyro.cli(SurvivalConfig, description=__doc__))
