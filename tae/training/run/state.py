"""The whole state of a training, from which `--resume` goes on: weights, optimizer, step, in one sealed safetensors file.

A run's folder holds the newest two, `state-00000200.safetensors` after step 200; which is newest, the step in the name
decides, never a clock. Each is written whole (`tae.store.atomic`) and checked when it is read, so that a file that a kill,
a full disk or a bad sector has torn is passed over for the one before it.

Where the model is spread over processes (FSDP), each writes its own part into `state-00000200.shards/`, also safetensors, by
`torch.distributed.checkpoint`, so that no process ever holds the whole; the file beside them comes last, and says what
belongs to it. As many processes as one likes can go on from it.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from tae.store.sealed import SealedFile
from tae.training.distributed import ALONE, World, is_sharded

FILE = SealedFile(
    program="tae training",
    texts=("state",),
    what="a training state of this program",
    max_bytes=64 * 1024**3,  # xlarge's weights and optimizer state are 10 GB
)
KEPT = 2


@dataclass(frozen=True)
class TrainState:
    """A run after a step.

    Attributes:
        step: Steps done.
        tensors: By name: "model.<parameter>", "optim.<parameter>.<what>", "ema.<parameter>".
        values: Everything else, as JSON.
        shards: Folder of the parts that hold the tensors, which `read_shards` reads; None: `tensors` holds them.
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    shards: Path | None = None


def save_state(folder: Path, state: TrainState, world: World = ALONE) -> Path:
    """Write a state, then remove all but the newest two. Every process must call it where tensors are sharded.

    Args:
        folder: The run's folder.
        state: Its tensors float32; whole ones contiguous and on the CPU.
        world: The processes.

    Raises:
        OSError: If it cannot be written; the earlier states stay.
    """
    path, values = folder / f"state-{state.step:08}.safetensors", {"step": state.step, **state.values}
    tensors = state.tensors
    if any(map(is_sharded, tensors.values())):
        values["shards"], tensors = _write_shards(_shards_of(path), tensors, world), {}
    if world.is_main:
        FILE.write(path, [json.dumps(values, allow_nan=False)], tensors)
        for old in state_files(folder)[KEPT:]:
            old.unlink(missing_ok=True)
        kept = {_shards_of(path) for path in state_files(folder)}
        for shards in set(folder.glob("state-*.shards")) - kept:
            shutil.rmtree(shards, ignore_errors=True)
    return path


def _write_shards(shards: Path, tensors: dict[str, Tensor], world: World) -> dict[str, str]:
    """Each process's part; returns {file name: SHA-256} of all."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter  # a second, which others need not wait
    from torch.distributed.checkpoint.state_dict_saver import save

    if world.is_main:
        shutil.rmtree(shards, ignore_errors=True)  # of a process that was killed in this very step
    world.sum(0)
    save(tensors, storage_writer=HuggingFaceStorageWriter(str(shards), save_distributed=True))
    own = [path for path in shards.iterdir() if path.name.startswith(f"shard-{world.rank + 1:05}-")]
    told = [text.split() for text in world.gather(" ".join(f"{path.name} {_sha256(path)}" for path in own))]
    return {words[0]: words[1] for words in told if words}


def read_shards(shards: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, sharded or not, from the parts of a state, in place; every process must ask.

    Raises:
        ValueError: If one of them is not there, or has another shape.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    sizes = shapes_in(shards)
    odd = [name for name, tensor in tensors.items() if sizes.get(name) != tuple(tensor.shape)]
    if odd:
        raise ValueError(f"the state must hold the model's tensors, and lacks {', '.join(odd[:5])}")
    with warnings.catch_warnings(action="ignore"):  # that there is one process only
        load(tensors, storage_reader=HuggingFaceStorageReader(str(shards)), no_dist=not dist.is_initialized())


def shapes_in(shards: Path) -> dict[str, tuple[int, ...]]:
    """Name and whole shape of each tensor of a state's parts."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    described = HuggingFaceStorageReader(str(shards)).read_metadata().state_dict_metadata
    return {name: tuple(getattr(one, "size", ())) for name, one in described.items()}


def load_newest(folder: Path) -> tuple[TrainState | None, list[str]]:
    """The newest whole state of a run, and a sentence for each newer file that is torn.

    Returns:
        (None, ...) where there is no whole one.
    """
    torn = []
    for path in state_files(folder):
        try:
            return _load(path), torn
        except ValueError as error:
            torn.append(f"{path.name} is passed over: {error}")
        except OSError as error:
            torn.append(f"{path.name} is passed over: it cannot be read ({error.strerror or 'input/output error'})")
    return None, torn


def find_state(
    folder: Path, fingerprint: str, notify: Callable[[str], None], if_changed: str, world: World = ALONE
) -> TrainState | None:
    """The state from which a run goes on, the same for all processes; None, and a sentence, where there is no whole one.

    Args:
        folder: The run's folder.
        fingerprint: What names the data that it learns from now; another one is refused.
        notify: Is told of torn files.
        if_changed: The sentence that refuses it.
        world: The processes; rank 0 alone looks which state is whole.

    Raises:
        ValueError: If the run learnt from something else, or a process cannot read the state.
    """
    state, torn = load_newest(folder) if world.is_main else (None, [])
    for sentence in torn:
        notify(sentence)
    step, fault = int(world.from_main(-1 if state is None else state.step)), ""
    if step < 0:
        notify("found no whole state of this run: starting from the beginning")
        return None
    if not world.is_main:
        try:
            state = _load(folder / f"state-{step:08}.safetensors", is_checked=False)
        except (OSError, ValueError) as error:
            fault = f"none after step {step}: {error.strerror if isinstance(error, OSError) else error}"
    world.must_be_fine("all processes must find the same state in the run's folder, which all machines share", fault)
    assert state is not None
    if state.values.get("fingerprint") != fingerprint:
        raise ValueError(if_changed)
    return state


def state_files(folder: Path) -> list[Path]:
    """The state files of a run, the newest first, torn or not."""
    files = folder.iterdir() if folder.is_dir() else []
    return sorted((path for path in files if re.fullmatch(r"state-\d{8,}\.safetensors", path.name)), key=step_of)[::-1]


def step_of(path: Path) -> int:
    """The step after which a state file was written."""
    return int(path.stem.removeprefix("state-"))


def _load(path: Path, is_checked: bool = True) -> TrainState:
    """One file; is_checked: whether its parts are read through as well."""
    with FILE.open(path) as sealed:
        tensors = sealed.read().tensors
    values = sealed.json("state")
    if not isinstance(values, dict) or values.get("step") != step_of(path):
        raise ValueError("it is not of the step that its name says")
    parts, shards = values.pop("shards", None), _shards_of(path)
    if parts is not None and is_checked:
        found = {name: _sha256(shards / Path(name).name) for name in parts}
        if found != parts or {file.name for file in shards.iterdir()} != set(parts):
            raise ValueError("its parts are damaged")
    return TrainState(values.pop("step"), tensors, values, None if parts is None else shards)


def _shards_of(path: Path) -> Path:
    return path.with_suffix(".shards")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
