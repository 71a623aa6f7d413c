"""The whole state of a training, from which `--resume` goes on: weights, optimizer, step, in one sealed safetensors file.

A run's folder holds the newest two, `state-00000200.safetensors` after step 200; which is newest, the step in the name
decides, never a clock. Each is written whole (`tae.store.atomic`) and checked when it is read, so that a file that a kill,
a full disk or a bad sector has torn is passed over for the one before it.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tae.store.sealed import SealedFile

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
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_state(folder: Path, state: TrainState) -> Path:
    """Write a state, then remove all but the newest two.

    Args:
        folder: The run's folder.
        state: Tensors contiguous, on the CPU, float32.

    Raises:
        OSError: If it cannot be written; the earlier states stay.
    """
    path = folder / f"state-{state.step:08}.safetensors"
    FILE.write(path, [json.dumps({"step": state.step, **state.values}, allow_nan=False)], state.tensors)
    for old in state_files(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


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


def find_state(folder: Path, fingerprint: str, notify: Callable[[str], None], if_changed: str) -> TrainState | None:
    """The state from which a run goes on; None, and a sentence, where there is no whole one.

    Args:
        folder: The run's folder.
        fingerprint: What names the data that it learns from now; another one is refused.
        notify: Is told of torn files.
        if_changed: The sentence that refuses it.

    Raises:
        ValueError: If the run learnt from something else.
    """
    state, torn = load_newest(folder)
    for sentence in torn:
        notify(sentence)
    if state is None:
        notify("found no whole state of this run: starting from the beginning")
    elif state.values.get("fingerprint") != fingerprint:
        raise ValueError(if_changed)
    return state


def state_files(folder: Path) -> list[Path]:
    """The state files of a run, the newest first, torn or not."""
    files = folder.iterdir() if folder.is_dir() else []
    return sorted((path for path in files if re.fullmatch(r"state-\d{8,}\.safetensors", path.name)), key=step_of)[::-1]


def step_of(path: Path) -> int:
    """The step after which a state file was written."""
    return int(path.stem.removeprefix("state-"))


def _load(path: Path) -> TrainState:
    with FILE.open(path) as sealed:
        tensors = sealed.read().tensors
    values = sealed.json("state")
    if not isinstance(values, dict) or values.get("step") != step_of(path):
        raise ValueError("it is not of the step that its name says")
    return TrainState(values.pop("step"), tensors, values)
