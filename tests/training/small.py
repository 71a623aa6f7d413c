"""Small real trainings for the tests, in this process or in one that is killed on the way.

Children are those of `tests.forked`: each starts within milliseconds, and dies of a real SIGKILL.
"""

import builtins
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tae import load_checkpoint
from tae.data.demo import SPLITS, load_garments
from tae.train import main
from tae.training.config import TrainConfig
from tae.training.distributed import World, leave
from tae.training.run.state import load_newest, read_shards, shapes_in
from tae.training.trainer import planned
from tests.forked import begun

for _split in SPLITS:
    load_garments(_split)  # kept in memory: the server's children find them there, and the plan below


def small_config(out: Path, **fields: Any) -> TrainConfig:
    """A model of a few thousand numbers on 16x16 pictures: a step takes milliseconds."""
    values = {
        "input_size": (16, 16),
        "patch_size": 8,
        "latent_dim": 16,
        "num_heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "eval_every": 3,
        "held_out_images": 2,
        "test_images": 4,
        "log_every": 1,
        "save_every_s": 0,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "out": out,
    }
    return TrainConfig(**{**values, **fields})


# Most of what a child's first step would wait for:
planned(small_config(Path("planned.safetensors")), World(0, 1, torch.device("cpu")))


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Of a checkpoint."""
    return load_checkpoint(path).model.state_dict()


def state_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Of the newest state of a run: weights, optimizer, average."""
    state, torn = load_newest(folder)
    assert state is not None and not torn
    if state.shards is None:
        return state.tensors
    tensors = {name: torch.empty(shape) for name, shape in shapes_in(state.shards).items()}
    read_shards(state.shards, tensors)
    return tensors


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def in_child(config: TrainConfig, kill_after_step: int | None = None, kill_at_event: int | None = None) -> int:
    """Train in a process of its own.

    Args:
        config: What to train.
        kill_after_step: It kills itself once it has taken this step.
        kill_at_event: It kills itself at this touch of a file, from 0: before it, or in the middle of a write.

    Returns:
        Its exit code: 0, or -SIGKILL.
    """
    child = begun(_train, config, kill_after_step, kill_at_event)
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def in_ranks(
    processes: Sequence[tuple[Path, TrainConfig]], per_machine: int = 1, differs: Callable[[], object] = bool
) -> list[tuple[int, str]]:
    """Train by several processes, as torchrun would start them on machines that can reach each other.

    Args:
        processes: Where each one stands, and what it is to train, by rank.
        per_machine: Processes of a machine.
        differs: Called in the last process before it begins.

    Returns:
        Exit code and what was printed, by rank.
    """
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    shared = {
        "WORLD_SIZE": len(processes),
        "LOCAL_WORLD_SIZE": per_machine,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    children = []
    for rank, (folder, config) in enumerate(processes):
        own = {"RANK": rank, "LOCAL_RANK": rank % per_machine}
        words = {name: str(value) for name, value in (shared | own).items()}
        before = differs if rank == len(processes) - 1 else bool
        children.append(begun(run_command, config, folder, folder / f"printed-{rank}.txt", words, before))
    for child in children:
        child.join()
    printed = [(folder / f"printed-{rank}.txt").read_text() for rank, (folder, _) in enumerate(processes)]
    return [(child.exitcode or 0, text) for child, text in zip(children, printed, strict=True)]


def run_command(
    config: TrainConfig, folder: Path, printed: Path, environment: Mapping[str, str], before: Callable[[], object]
) -> None:
    """In a child: the command in this folder, which prints into a file."""
    os.environ.update(environment)
    os.chdir(folder)
    with open(printed, "w") as sys.stdout:
        sys.stderr = sys.stdout
        before()
        leave(main(config.command_line()))


def _train(config: TrainConfig, kill_after_step: int | None, kill_at_event: int | None) -> None:
    from tae.training.trainer import train

    if kill_at_event is not None:
        die_at_event(kill_at_event)
    for record in train(config):
        if record.step == kill_after_step:
            os.kill(os.getpid(), signal.SIGKILL)


def die_at_event(number: int) -> None:
    """Count what touches files (opening for writing, writing, making durable, renaming, removing); die at one of them."""
    count = 0

    def event(before_dying: Callable[[], object] = lambda: None) -> None:
        nonlocal count
        if count == number:
            before_dying()
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def counted(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            event()
            return function(*args, **kwargs)

        return call

    class TornFile:
        def __init__(self, file: Any) -> None:
            self._file, self._writes = file, 0

        def write(self, data: Any) -> int:
            self._writes += 1
            if self._writes in (1, 30):  # a state is written tensor by tensor: its header, and one in the middle
                half = data[: len(data) // 2]
                event(lambda: (self._file.write(half), self._file.flush()))
            return self._file.write(data)

        def __enter__(self) -> "TornFile":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    plain_open = builtins.open

    def torn_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax"):
            return plain_open(file, mode, *args, **kwargs)
        event()
        return TornFile(plain_open(file, mode, *args, **kwargs))

    from tae.store import atomic
    from tae.training.run import runs

    others = (sys.modules.get(name) for name in ("tae.analysis.causal.job", "tae.sequence.embedding_job"))
    for module in (runs, atomic, *filter(None, others)):  # others where they are imported: that takes seconds
        module.open = torn_open  # type: ignore[attr-defined]
    for name in ("fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
