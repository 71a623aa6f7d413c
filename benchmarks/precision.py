"""Gain or cost of bf16 in a training step on a CPU, with its units and without, beside what the measurement chooses.

    python -m benchmarks.precision

times forward and backward pass in both types, and one step of Muon as the library has it (each matrix by itself, in bf16)
and as `tae` has it, in turns, in processor time of one thread; then once more in a process that may use AVX2 alone, as on
an ordinary laptop. Writes `benchmarks/results/precision.json` and `.md`; some minutes of one core.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.model.device import DTYPES
from tae.training.config import TrainConfig
from tae.training.muon import Muon, is_block_matrix
from tae.training.optim import make_optimizers
from tae.training.planning.plan import forward_loss
from tae.training.precision import pick_muon_precision, pick_precision

ONLY_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class PrecisionConfig:
    presets: tuple[str, ...] = ("tiny", "small")
    """Models, at 201x201 in patches of 16."""
    batch_size: int = 16
    """Images a step."""
    rounds: int = 3
    """Turns; the median counts."""
    here: bool = False
    """Print what this process measures, as JSON, and write nothing."""
    out: Path = RESULTS
    """Folder of the results."""


def measure(config: PrecisionConfig) -> list[dict]:
    """Processor seconds of each part of a step, a row a preset."""
    torch.set_num_threads(1)
    rows = []
    for preset in config.presets:
        model = TransformerAutoencoder(preset_config(preset)).train()
        images = torch.rand(config.batch_size, 1, 201, 201)
        forward_loss(model, images, None, "fp32")[1].backward()
        library = torch.optim.Muon(
            [one for name, one in model.named_parameters() if is_block_matrix(name, one)], lr=1e-3
        )
        muon = make_optimizers(model, TrainConfig(), "fp32")[0]
        assert isinstance(muon, Muon)

        def ours(precision: str, muon: Muon = muon) -> None:
            muon.dtype = DTYPES[precision]
            muon.step()

        def passes(precision: str, model: TransformerAutoencoder = model, images: torch.Tensor = images) -> None:
            forward_loss(model, images, None, precision)[1].backward()  # type: ignore[arg-type]

        calls: dict[str, Callable[[], object]] = {
            "passes fp32": lambda: passes("fp32"),
            "passes bf16": lambda: passes("bf16"),
            "library's Muon": library.step,
            "Muon fp32": lambda: ours("fp32"),
            "Muon bf16": lambda: ours("bf16"),
        }
        took = {name: [] for name in calls}
        for _ in range(config.rounds):
            for name, call in calls.items():
                started = time.process_time()
                call()
                took[name].append(time.process_time() - started)
        cpu = torch.device("cpu")
        rows.append(
            {
                "preset": preset,
                "seconds": {name: float(np.median(values)) for name, values in took.items()},
                "passes in": pick_precision("auto", cpu, model.config, config.batch_size),
                "Muon in": pick_muon_precision("auto", model),
            }
        )
    return rows


def measure_apart(config: PrecisionConfig, **environment: str) -> list[dict]:
    """The same in a process of its own, which these variables keep from some of the processor's instructions."""
    words = [sys.executable, "-m", "benchmarks.precision", "--here", "--batch-size", str(config.batch_size)]
    words += ["--rounds", str(config.rounds), "--presets", *config.presets]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(result: dict) -> list[str]:
    """The figures as Markdown, in the passes' float32 time."""
    rows = []
    for machine, measured in result["machines"].items():
        for row in measured:
            seconds = row["seconds"]
            shares = (
                seconds[name] / seconds["passes fp32"] for name in list(seconds)[1:3] + ["Muon bf16", "Muon fp32"]
            )
            chosen = f"{row['passes in']}, {row['Muon in']}"
            rows.append([f"{machine}, {row['preset']}", *(f"{share:.2f}" for share in shares), chosen])
    header = ["processor, model", "passes in bf16", "the library's Muon", "Muon in bf16", "Muon in fp32"]
    return [
        *grid([*header, "chosen: passes, Muon"], rows),
        "",
        f"Batches of {result['batch_size']} at 201x201, patch 16, in multiples of forward and backward pass in float32 "
        f"(processor time, one thread, medians of {result['rounds']} turns). AVX2 alone: the same machine, kept from "
        f"everything newer. torch {result['torch']}.",
    ]


def main(config: PrecisionConfig) -> None:
    if config.here:
        print(json.dumps(measure(config)))
        return
    capability = torch.backends.cpu.get_cpu_capability()
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    machines = {f"{capability}{' with bf16 units' if has_bf16 else ''}": measure_apart(config)}
    if capability not in ("AVX2", "DEFAULT"):
        machines["AVX2 alone"] = measure_apart(config, **ONLY_AVX2)
    result = {
        "machines": machines,
        "batch_size": config.batch_size,
        "rounds": config.rounds,
        "torch": torch.__version__,
    }
    keep("precision", result, table(result), config.out)


if __name__ == "__main__":
    main(tyro.cli(PrecisionConfig, description=__doc__))
