"""Which precision is fastest here: measured on this machine, once for each shape, and kept, so that it stays the same."""

import json
import platform
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

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
TOKENS = 2704
"""A block is measured on at most so many tokens: 16 squares of 169."""
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
    tokens = config.num_tokens
    images = max(1, min(batch_size, TOKENS // tokens))

    def learn(precision: Precision) -> Callable[[], object]:
        block = TransformerBlock(config.latent_dim, config.num_heads, config.mlp_ratio, 0.0, config.use_flash_attention)
        x = torch.zeros(images, tokens, config.latent_dim, requires_grad=True)

        def run() -> None:
            with torch.autocast("cpu", DTYPES[precision], enabled=precision != "fp32"):
                y = block(x, None)
            y.sum().backward()

        return run

    shape = f"{images} x {tokens} tokens of {config.latent_dim}, {config.num_heads} heads, MLP {config.mlp_ratio:g}"
    return faster(f"block, {shape}", lambda: learn("fp32"), lambda: learn("bf16"))


def pick_muon_precision(asked: Literal["auto"] | MuonPrecision, model: nn.Module) -> MuonPrecision:
    """As asked; "auto": bf16 on a GPU; on a CPU the one in which the model's largest matrix is orthogonalised faster."""
    if asked != "auto":
        return asked
    matrices = [one for name, one in model.named_parameters() if is_block_matrix(name, one)]
    if matrices[0].device.type == "cuda":
        return "bf16"
    rows, columns = max((one.shape for one in matrices), key=lambda shape: shape[0] * shape[1] * min(shape))

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
    from torch.utils.benchmark import Timer  # slow to import, and rarely asked

    took: dict[str, list[float]] = {name: [] for name in makers}
    with torch.random.fork_rng(devices=[]):  # a run draws the same numbers, whether it had to measure or not
        for _ in range(2):
            for name, make in makers.items():
                timer = Timer("run()", globals={"run": make()}, num_threads=torch.get_num_threads())
                took[name].append(timer.blocked_autorange(min_run_time=SECONDS / 2).median)
    return {name: min(medians) for name, medians in took.items()}


@cache
def _processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
