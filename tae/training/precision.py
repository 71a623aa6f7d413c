"""Which precision is fastest here: measured on this machine, once for each shape, and kept, so that it stays the same."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from tae.model.config import ModelConfig
from tae.model.device import DTYPES, MuonPrecision, Precision
from tae.model.layers import TransformerBlock
from tae.store.atomic import write_whole
from tae.store.places import cache_folder
from tae.training.muon import is_block_matrix, orthogonalised

SHARE = 0.85
"""bf16 is chosen where it takes at most this share of float32's time: below that, its rounding buys nothing."""
OPERATIONS, WIDTH = 1e9, 512
"""A block is measured on images for about so many operations, and a wider one at this width: on a processor that lacks bf16
units, bf16 takes a hundred times as long as it should."""
SECONDS = 0.1
"""A candidate is run for at least so long."""


def pick_precision(
    asked: Literal["auto"] | Precision, device: torch.device, config: ModelConfig, batch_size: int
) -> Precision:
    """As asked; "auto": bf16 or fp16 on a GPU, by what it has; on a CPU the one in which a block learns faster.

    Args:
        asked: A precision or "auto".
        device: Where the model computes.
        config: The model, with its own number of heads, width and tokens.
        batch_size: Images a process computes at a time.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    step = 4 * config.head_dim  # a config's width is a multiple of 4
    width = min(config.latent_dim, max(1, WIDTH // step) * step)
    rows = int(OPERATIONS / (6 * (4 + 2 * config.mlp_ratio) * width**2))
    tokens = min(config.num_tokens, max(64, rows))
    images = max(1, min(batch_size, rows // tokens))
    heads = width // config.head_dim

    def learn(precision: Precision) -> Callable[[], object]:
        block = TransformerBlock(replace(config, latent_dim=width, num_heads=heads, dropout=0.0))
        x = torch.zeros(images, tokens, width, requires_grad=True)

        def run() -> None:
            with torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
                y = block(x, None)
            y.sum().backward()

        return run

    shape = f"{images} x {tokens} tokens of {width}, {heads} heads, MLP {config.mlp_ratio:g}"
    return faster(f"block, {shape}", lambda: learn("fp32"), lambda: learn("bf16"))


def pick_muon_precision(asked: Literal["auto"] | MuonPrecision, model: nn.Module) -> MuonPrecision:
    """As asked; "auto": bf16 on a GPU; on a CPU the one in which the model's largest matrix is made orthogonal faster."""
    if asked != "auto":
        return asked
    matrices = [one for name, one in model.named_parameters() if is_block_matrix(name, one)]
    if matrices[0].device.type == "cuda":
        return "bf16"
    largest = max((one.shape for one in matrices), key=lambda shape: shape[0] * shape[1] * min(shape))
    rows, columns = (min(side, WIDTH // 2 if side == min(largest) else 2 * WIDTH) for side in largest)

    def turn(dtype: torch.dtype) -> Callable[[], object]:
        x = torch.eye(rows, columns)[None]
        return lambda: orthogonalised(x, dtype)

    return faster(f"muon, {rows} x {columns}", lambda: turn(torch.float32), lambda: turn(torch.bfloat16))


def faster(question: str, fp32: Callable[[], Callable], bf16: Callable[[], Callable]) -> MuonPrecision:
    """The answer kept for this machine, or measured now and kept.

    Args:
        question: Names what is measured, with its shape.
        fp32: Makes what is measured in float32, a function without arguments.
        bf16: The same in bf16.
    """
    took = _seconds(f"{question}, {torch.get_num_threads()} threads", {"fp32": fp32, "bf16": bf16})
    return "bf16" if took["bf16"] <= SHARE * took["fp32"] else "fp32"


def _seconds(question: str, makers: Mapping[str, Callable[[], Callable]]) -> dict[str, float]:
    """Seconds that each takes, from this machine's file of answers; where none can be written, known to this process alone."""
    machine = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    try:
        path = cache_folder() / "precision.json"
        with FileLock(f"{path}.lock"):  # of two processes that ask, one measures, undisturbed by the other
            answers = _read(path)
            here = answers.setdefault(machine, {})
            if set(here.get(question, ())) != set(makers):
                here[question] = _measured(makers)
                write_whole(path, [json.dumps(answers, indent=1).encode()])
            return here[question]
    except OSError:
        if question not in _UNWRITTEN:
            _UNWRITTEN[question] = _measured(makers)
        return _UNWRITTEN[question]


_UNWRITTEN: dict[str, dict[str, float]] = {}


def _read(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The file, or nothing where it is not what this module writes."""
    try:
        answers = json.loads(path.read_text())
        assert all(took > 0 for here in answers.values() for one in here.values() for took in one.values())
        return answers
    except (OSError, ValueError, AssertionError, AttributeError, TypeError):
        return {}


def _measured(makers: Mapping[str, Callable[[], Callable]]) -> dict[str, float]:
    """The lower of two medians each, taken in turns, so that a disturbance must meet both."""
    took: dict[str, list[float]] = {name: [] for name in makers}
    with torch.random.fork_rng(devices=[]):  # a run draws the same numbers, whether it had to measure or not
        for _ in range(2):
            for name, make in makers.items():
                took[name].append(median_seconds(make(), torch.device("cpu"), SECONDS / 2))
    return {name: min(medians) for name, medians in took.items()}


def median_seconds(call: Callable[[], object], device: torch.device, budget: float) -> float:
    """Median of two to nine runs, by the budget; the first run warms up, unless it alone takes four times the budget."""
    times: list[float] = []
    while len(times) < 10 and (sum(times) <= budget or (len(times) < 3 and sum(times) <= 4 * budget)):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:] or times))


@cache
def _processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
