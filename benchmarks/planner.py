"""The planner beside real training steps: memory kept for the backward pass, peak memory, time.

    python -m benchmarks.planner

Kept: every tensor that autograd saves in a real forward pass (with bf16 the weights' copies too), each storage once, and
with checkpointing the tokens that enter each block. Peak: what PyTorch's allocator hands out and takes back over two real
steps; on a CUDA device its own high-water mark. Writes `benchmarks/results/planner.json` and `.md`.
"""

import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import grid, keep
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, preset_config
from tae.model.device import Precision
from tae.training.config import TrainConfig
from tae.training.optim import WeightAverage, make_optimizers
from tae.training.planning.plan import calibrate, forward_loss, plan

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
TIMED = (
    ("tiny", 16, 16),
    ("tiny", None, 16),
    ("small", 16, 16),
    ("small", 8, 4),
    ("medium", 16, 4),
    ("medium", None, 16),
)
"""preset, patch_size, batch_size whose time is compared."""


@dataclass(frozen=True)
class PlannerConfig:
    presets: tuple[str, ...] = ("tiny", "small", "medium")
    """Sizes of models whose memory is measured."""
    timed_steps: int = 5
    """Real steps whose median is compared with the estimate; 0: none."""
    threads: int = 1
    """CPU threads of PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training to compare."""

    group: str
    config: ModelConfig
    batch_size: int
    precision: Precision = "fp32"
    accumulate: int = 1
    width: int | None = None
    average: bool = False


def cases(presets: tuple[str, ...]) -> list[Case]:
    found = []
    for preset, patch_size in itertools.product(presets, (16, 8, None)):
        patch = f"patch {patch_size}" if patch_size else "one token"
        for precision, checkpointing, batch_size in itertools.product(PRECISIONS, (False, True), (1, 4)):
            config = preset_config(preset, patch_size=patch_size, use_gradient_checkpointing=checkpointing)
            found.append(Case(group=f"{preset}, {patch}", config=config, batch_size=batch_size, precision=precision))
    tiny = preset_config("tiny")
    wide = preset_config("tiny", input_size=(152, None))
    for precision in PRECISIONS:
        for width in (320, 1280):
            found.append(Case(group="tiny, Xx152", config=wide, batch_size=4, precision=precision, width=width))
        explicit = preset_config("tiny", use_flash_attention=False)
        found.append(Case(group="tiny, explicit attention", config=explicit, batch_size=4, precision=precision))
        dropout = preset_config("tiny", dropout=0.1)
        found.append(Case(group="tiny, dropout", config=dropout, batch_size=4, precision=precision))
        found.append(Case(group="tiny, two parts, averaged", config=tiny, batch_size=8, precision=precision,
                          accumulate=2, average=True))  # fmt: skip
    return found


class Step:
    """Optimizer steps like those of `tae.train`, on random images."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.model = TransformerAutoencoder(case.config).to(device).train()
        self.optimizers = make_optimizers(self.model, TrainConfig())
        self.average = WeightAverage(self.model, 0.999) if case.average else None
        height, width = case.config.input_size
        part = case.batch_size // case.accumulate
        chosen = width or case.width or case.config.max_width
        self.images = torch.rand(part, 1, height, chosen, device=device)
        self.widths = torch.full((part,), chosen) if width is None else None

    def __call__(self) -> None:
        for _ in range(self.case.accumulate):
            recon, loss = forward_loss(self.model, self.images, self.widths, self.case.precision)
            loss.backward()
            del recon, loss
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad()
        if self.average is not None:
            self.average.update(self.model, 1)


def saved_bytes(case: Case) -> int:
    """What a real forward pass on the CPU keeps for the backward pass, without the weights and the images."""
    step = Step(case, torch.device("cpu"))
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Held until the end, so that no address comes twice.
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    def keep_input(_: nn.Module, inputs: tuple) -> None:
        keep(inputs[0])

    for part in (step.model.encoder, step.model.decoder) if case.config.use_gradient_checkpointing else ():
        for block in part.blocks:
            block.register_forward_pre_hook(keep_input)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward_loss(step.model, step.images, step.widths, case.precision)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*step.model.parameters(), step.images)}
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)


def peak_of(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes in use at once while something runs, beyond what there was before."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results: Any = profiler.profiler.kineto_results  # type: ignore[union-attr]
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    return int(np.cumsum([size for _, size in events]).max())


def run_twice(case: Case, device: torch.device) -> None:
    step = Step(case, device)
    for _ in range(2):  # the first makes the optimizer's state
        step()


def compare(case: Case, device: torch.device) -> dict:
    planned = plan(
        case.config,
        case.batch_size,
        case.precision,
        case.accumulate,
        case.width,
        device.type,
        case.average,
    )
    row = {
        "group": case.group,
        "precision": case.precision,
        "checkpointing": case.config.use_gradient_checkpointing,
        "batch_size": case.batch_size,
        "width": case.width,
        "device": device.type,
        "peak_phase": planned.peak_phase,
        "planned_peak": planned.peak,
        "measured_peak": peak_of(lambda: run_twice(case, device), device),
    }
    if device.type == "cpu":
        row |= {
            "planned_activations": planned.totals["activations"] + planned.totals["copies"],
            "measured_activations": saved_bytes(case),
        }
    return row


def compare_time(preset: str, patch_size: int | None, batch_size: int, precision: Precision, steps: int) -> dict:
    """The estimate, then real steps."""
    config = preset_config(preset, patch_size=patch_size)
    pace = calibrate(config, batch_size, precision)
    step = Step(Case(group="", config=config, batch_size=batch_size, precision=precision), torch.device("cpu"))
    step()
    measured = [seconds(step) for _ in range(steps)]
    return {
        "preset": preset,
        "patch_size": patch_size,
        "batch_size": batch_size,
        "precision": precision,
        "planned": pace.seconds_per_step,
        "measured": float(np.median(measured)),
        "took": pace.took,
    }


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main(config: PlannerConfig) -> None:
    torch.set_num_threads(config.threads)
    devices = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()
    rows = []
    for case in cases(config.presets):
        rows += [compare(case, device) for device in devices]
        print(json.dumps(rows[-1]), flush=True)
    times = []
    if config.timed_steps:
        for case in TIMED:
            times += [compare_time(*case, precision, config.timed_steps) for precision in PRECISIONS]
            print(json.dumps(times[-2:]), flush=True)
    result = {
        "threads": config.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if len(devices) > 1 else None,
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rows": rows,
        "times": times,
    }
    keep("planner", result, table(result))


def table(result: dict) -> list[str]:
    """The rows as Markdown, one line a group."""
    header = ["training", "cases", "kept for the backward pass: planned, measured", "planned / measured"]
    rows = []
    for group in dict.fromkeys(row["group"] for row in result["rows"]):
        cases = [row for row in result["rows"] if row["group"] == group]
        on_cpu = [row for row in cases if row["device"] == "cpu"]
        rows.append([group, len(on_cpu), *compared(on_cpu, "activations"), *compared(on_cpu, "peak")])
        on_cuda = [row for row in cases if row["device"] == "cuda"]
        if on_cuda:
            rows.append([f"{group}, on CUDA", len(on_cuda), "", "", *compared(on_cuda, "peak")])
    if result["cuda"] is None:
        rows.append(["any, on CUDA", "", *2 * ["not measured: no CUDA device", ""]])
    ratios = [row["planned_peak"] / row["measured_peak"] for row in result["rows"]]
    within = sum(abs(ratio - 1) <= 0.1 for ratio in ratios)
    lines = [
        *grid([*header, "peak: planned, measured", "planned / measured"], rows),
        "",
        "Cases: float32 and bf16, with and without checkpointing, batches of 1 and 4 at 201x201; the last four without "
        "checkpointing, batches of 4 or 8, Xx152 at widths 320 and 1280. Megabytes of the largest case; ratios: lowest to "
        "highest of all cases. Peak: over two real steps, weights and optimizer included. "
        f"Within 10%: {within} of {len(ratios)} peaks.",
    ]
    if result["times"]:
        times = []
        for row in result["times"]:
            patch = f"patch {row['patch_size']}" if row["patch_size"] else "one token"
            figures = (row["planned"], row["measured"], row["planned"] / row["measured"])
            name = f"{row['preset']}, {patch}, {row['precision']}"
            times.append([name, row["batch_size"], *(f"{one:.2f}" for one in figures), f"{row['took']:.1f}"])
        header = ["a step", "batch", "planned (s)", "measured (s)", "planned / measured", "calibration took (s)"]
        lines += [
            "",
            *grid(header, times),
            "",
            f"Seconds of the clock, estimate and real steps one after the other, at a load of {result['load']:.1f} on "
            f"{result['cores']} cores (this program is 1 of it).",
        ]
    return [*lines, "", f"{result['threads']} thread, {result['cpu']}, torch {result['torch']}."]


def compared(rows: list[dict], what: str) -> list[str]:
    """Cells: planned and measured of the largest, and the range of the ratios."""
    largest = max(rows, key=lambda row: row[f"measured_{what}"])
    ratios = [row[f"planned_{what}"] / row[f"measured_{what}"] for row in rows]
    low, high = f"{min(ratios):.3f}", f"{max(ratios):.3f}"
    both = ", ".join(f"{largest[f'{how}_{what}'] / 1e6:,.1f}" for how in ("planned", "measured"))
    return [both, low if low == high else f"{low} to {high}"]


if __name__ == "__main__":
    main(tyro.cli(PlannerConfig, description=__doc__))
