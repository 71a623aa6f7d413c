"""How cost grows: time and memory against patches, batch, preset, width, heads, visitors, files, frames, each with its exponent.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --only patches heads        # the other curves stay as they were

A power of the size is fitted to the upper half of each curve, beside that of the operations (of a step: without the
optimizer's) that PyTorch counts there. Times
are processor seconds, the best of some; memory is PyTorch's peak above rest, for files the process's. What does not fit this
machine's memory is counted on the meta device alone. Writes `benchmarks/results/scaling.json`, `.md` and `.svg`; some ten
minutes, five of them the visitors'.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import RESULTS, grid, keep
from benchmarks.embed import measured_listing
from benchmarks.planner import Case, Step, peak_of
from benchmarks.sessions import SessionsConfig, load
from tae.analysis.causal.occlusion import occlude
from tae.analysis.causal.sweeps import head_sweep
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PRESETS, ModelConfig, preset_config
from tae.model.counts import count
from tae.plots.export.render import render
from tae.sequence.model import SequenceModel

PATCH_SIZES = (None, 67, 40, 16, 8, 4, 3)
"""Patches of 201x201: 1 to 4,489."""
FEW = 8
"""Patches that are covered for a time; all of them take N / 8 times as long."""
ENDURED_S = 1.0
"""How long one measurement is repeated."""
LARGEST = 250e6
"""Parameters up to which a model is built and run; beyond, it is counted."""

Point = dict[str, float | None]


@dataclass(frozen=True)
class ScalingConfig:
    only: tuple[str, ...] = ()
    """Curves to measure, by their first word; none: all. The others stay as they were."""
    threads: int = 1
    """CPU threads of PyTorch."""
    out: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def run(call: Callable[[], object], operations: float | None = None, with_gradient: bool = False) -> Point:
    """Processor seconds and peak memory of a call."""
    spent = []
    with torch.set_grad_enabled(with_gradient):
        call()  # warms up
        while sum(spent) < ENDURED_S and len(spent) < 20:
            started = time.process_time()
            call()
            spent.append(time.process_time() - started)
        peak = peak_of(call, torch.device("cpu"))
    return {"seconds": min(spent), "megabytes": peak / 1e6, "operations": operations}


def counted(config: ModelConfig, task: str, batch: int = 1, width: int | None = None) -> float:
    """Operations of a forward pass, of the maps, or of a forward and backward pass, of a model that is never allocated."""
    config = replace(config, use_flash_attention=False)  # the same products, which PyTorch counts
    height, own_width = config.input_size
    with torch.device("meta"):
        model = TransformerAutoencoder(config).requires_grad_(task == "step")
        images = torch.empty(batch, 1, height, width or own_width or config.max_width)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(task == "step"):
        if task == "maps":
            model.get_attention_maps(images)
        elif task == "step":
            model(images)[0].sum().backward()
        else:
            model(images)
    return float(counter.get_total_flops())


def model_of(config: ModelConfig) -> tuple[TransformerAutoencoder, torch.Tensor]:
    torch.manual_seed(0)
    height, width = config.input_size
    model = TransformerAutoencoder(config).eval().requires_grad_(False)
    return model, torch.rand(1, 1, height, width or config.max_width)


def step_of(config: ModelConfig, batch: int = 1) -> Point:
    """Forward, backward and both optimizers."""
    step = Step(Case(group="", config=config, batch_size=batch), torch.device("cpu"))
    return run(step, counted(config, "step", batch), with_gradient=True)


def by_patches(task: str) -> dict[int, Point]:
    found = {}
    for patch_size in PATCH_SIZES:
        config = preset_config("tiny", patch_size=patch_size)
        if config.num_tokens > 1000 and task in ("sweep", "covering"):
            break
        model, image = model_of(config)
        some = range(min(FEW, config.num_tokens))
        calls: dict[str, Callable[[], object]] = {
            "forward": partial(model, image),
            "maps": partial(model.get_attention_maps, image),
            "embedding": partial(model.embed, image),
            "sweep": partial(head_sweep, model, image),
            "covering": partial(occlude, model, image, 0.5, some),
        }
        if task == "step":
            found[config.num_tokens] = step_of(config)
            continue
        point = run(calls[task], counted(config, task) if task in ("forward", "maps") else None)
        if task == "covering":
            point["seconds"] *= config.num_tokens / len(some)  # type: ignore[operator]
        found[config.num_tokens] = point
    return found


def by_batch(task: str) -> dict[int, Point]:
    config = preset_config("tiny")
    model, image = model_of(config)
    batches = (1, 4, 16, 64)
    if task == "step":
        return {batch: step_of(config, batch) for batch in batches}
    images = {batch: image.expand(batch, -1, -1, -1).contiguous() for batch in batches}
    return {batch: run(partial(model, some), counted(config, task, batch)) for batch, some in images.items()}


def by_preset(task: str) -> dict[int, Point]:
    found = {}
    for config in PRESETS.values():
        parameters, operations = count(config).parameters, counted(config, task)
        if parameters > (LARGEST / 4 if task == "step" else LARGEST):  # a step holds gradient and optimizer, too
            found[parameters] = {"seconds": None, "megabytes": None, "operations": operations}
        else:
            found[parameters] = step_of(config) if task == "step" else run(partial(*model_of(config)), operations)
    return found


def by_width(task: str) -> dict[int, Point]:
    config = preset_config("tiny", input_size=(152, None))
    model, image = model_of(config)
    call = {"forward": model, "maps": model.get_attention_maps}[task]
    images = {width: image[..., :width].contiguous() for width in (80, 160, 320, 640, 1280)}
    return {width: run(partial(call, some), counted(config, task, width=width)) for width, some in images.items()}


def by_heads(task: str) -> dict[int, Point]:
    found = {}
    for heads in (1, 2, 4, 8, 16, 32):
        config = preset_config("tiny", num_heads=heads)
        model, image = model_of(config)
        call = {"forward": model, "maps": model.get_attention_maps}[task]
        found[heads] = run(partial(call, image), counted(config, task))
    return found


def by_visitors(task: str) -> dict[int, Point]:
    found = {}
    for number in (1, 5, 20):
        one = asyncio.run(load(SessionsConfig(sessions=number, moves=6)))
        seconds = {"95th percentile": one["p95_s"], "work": one["processor_s"] * one["moves"]}[task]
        found[number] = {"seconds": seconds, "megabytes": None, "operations": None}
    return found


def by_files(task: str) -> dict[int, Point]:
    found = {}
    for number in (1_000, 10_000, 100_000):
        one = measured_listing(number)
        seconds = one["list_seconds"] + one["digest_seconds"]
        found[number] = {"seconds": seconds, "megabytes": one["memory_mb"], "operations": None}
    return found


def by_frames(task: str) -> dict[int, Point]:
    model, image = model_of(preset_config("tiny"))
    sequence = SequenceModel(model).eval()
    latents = torch.rand(1, 4096, model.config.latent_dim)
    found = {}
    for number in (8, 32, 128, 512) if task == "embedding" else (8, 32, 128, 512, 2048):
        frames = image.expand(1, number, -1, -1, -1)
        calls = {"embedding": partial(sequence.embed, frames), "LSTM": partial(sequence.predict, latents[:, :number])}
        found[number] = run(calls[task])
    return found


@dataclass(frozen=True)
class Curve:
    """What is measured against what, the power that theory has for large sizes, and what breaks first."""

    measure: Callable[[str], dict[int, Point]]
    task: str
    title: str
    theory: str
    breaks: str


CURVES = {
    "patches": [
        Curve(
            by_patches,
            "forward",
            "forward pass",
            "1, then 2",
            "Time: attention costs more than the rest from 770 patches on.",
        ),
        Curve(
            by_patches, "maps", "attention maps", "1, then 2", "Memory: N x N numbers a layer; larger patches, or rows."
        ),
        Curve(by_patches, "embedding", "embedding", "1, then 2", "Time, half a pass: the decoder is left out."),
        Curve(
            by_patches, "step", "training step", "1, then 2", "Time; gradient checkpointing where memory ends before."
        ),
        Curve(
            by_patches,
            "sweep",
            "sweep of all heads",
            "1, then 2",
            "Patience: it runs behind the page and can be stopped.",
        ),
        Curve(
            by_patches,
            "covering",
            "covering each patch",
            "2, then 3",
            "Patience first of all: cover the foreground only.",
        ),
    ],
    "batch": [
        Curve(by_batch, "forward", "forward pass", "1", "Nothing: a batch is as dear as its images."),
        Curve(by_batch, "step", "training step", "below 1, then 1", "Memory: `--accumulate` cuts a batch into parts."),
    ],
    "parameters": [
        Curve(by_preset, "forward", "forward pass", "1", "Time, and 5 GB of weights for the largest."),
        Curve(by_preset, "step", "training step", "1", "Memory, 12 to 16 bytes a weight: FSDP over several processes."),
    ],
    "width": [
        Curve(by_width, "forward", "forward pass", "1, then 2", "Nothing up to 1,280 pixels; beyond, windows."),
        Curve(
            by_width,
            "maps",
            "attention maps",
            "1, then 2",
            "The browser's share, N x N numbers a map: it merges patches.",
        ),
    ],
    "heads": [
        Curve(by_heads, "forward", "forward pass", "0", "Heads of few numbers: the products grow thin."),
        Curve(by_heads, "maps", "attention maps", "0, then 1", "Time: each head has its own N x N softmax."),
    ],
    "visitors": [
        Curve(
            by_visitors,
            "95th percentile",
            "waiting, 95th percentile",
            "0, then 1",
            "Processors: a second server beside it.",
        ),
        Curve(by_visitors, "work", "the server's work", "1", "The same: what is computed is shared, pages are not."),
    ],
    "files": [
        Curve(by_files, "listing", "listing a folder", "1", "Memory, 200 bytes a name: shards beyond a few million."),
    ],
    "frames": [
        Curve(by_frames, "embedding", "embedding of a sequence", "1", "Time; memory stays, frames come in chunks."),
        Curve(by_frames, "LSTM", "LSTM over a sequence", "1", "Time: one step needs the one before."),
    ],
}


def exponent(points: dict[str, Point], what: str) -> float | None:
    """The power of the size that fits the upper half of a curve, at least three points; None where there is no such half."""
    known = [(int(size), value[what]) for size, value in points.items() if value[what]]
    half = known[-max(3, (len(known) + 1) // 2) :]
    if len(half) < 3:
        return None
    sizes, values = np.log(np.array(half, dtype=float)).T
    return float(np.polyfit(sizes, values, 1)[0])


def figure_of(result: dict) -> Figure:
    """Time against size, a panel for each quantity, both axes in powers."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    for axes, (name, curves) in zip(figure.subplots(2, 4).flat, CURVES.items(), strict=True):
        for curve, mark in zip(curves, "os^Dv*", strict=False):
            points = result["curves"].get(f"{name}, {curve.title}", {})
            known = [(int(size), one["seconds"]) for size, one in points.items() if one["seconds"]]
            if not known:
                continue
            axes.plot(*np.array(known).reshape(-1, 2).T, marker=mark, markersize=4, linewidth=1.2, label=curve.title)
            axes.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds")
            axes.legend(fontsize=7, frameon=False)
            axes.grid(alpha=0.25)
    return figure


def table(result: dict) -> list[str]:
    rows = []
    for name, curves in CURVES.items():
        for curve in curves:
            points = result["curves"].get(f"{name}, {curve.title}")
            if points is None:
                continue
            sizes = [int(size) for size in points]
            powers = (exponent(points, what) for what in ("seconds", "operations", "megabytes"))
            largest = next(one for one in reversed(points.values()) if one["seconds"])
            rows.append(
                [
                    f"{curve.title} against {name}",
                    " to ".join(
                        f"{size / 1e6:,.1f} M" if size > 1e6 else f"{size:,}" for size in (sizes[0], sizes[-1])
                    ),
                    f"{largest['seconds']:.3g} s"
                    + (f", {largest['megabytes']:,.0f} MB" if largest["megabytes"] else ""),
                    *("" if power is None else f"{abs(power):.2f}" for power in powers),
                    curve.theory,
                    curve.breaks,
                ]
            )
    header = ["cost", "sizes", "the largest run", "power, time", "power, operations", "power, memory", "in theory"]
    return [
        "![Time against size](results/scaling.svg)",
        "",
        *grid([*header, "what breaks first"], rows),
        "",
        "Preset tiny, 201x201, one image, where nothing else is said; patches: of 3 pixels to the whole image, covering from a "
        f"sample of {FEW}; width: 152 high, patch 16; parameters: the presets, counted alone beyond {LARGEST / 1e6:.0f} M (a "
        f"step: {LARGEST / 4e6:.0f} M). Power p: doubling the size costs 2^p, over the upper half of the sizes. "
        f"{result['machine']}.",
    ]


def main(config: ScalingConfig) -> None:
    torch.set_num_threads(config.threads)
    path = config.out / "scaling.json"
    result = json.loads(path.read_text()) if path.exists() else {"curves": {}}
    cpu = torch.backends.cpu.get_cpu_capability()
    result["machine"] = f"{config.threads} thread, {os.cpu_count()} cores, {cpu}, torch {torch.__version__}"
    for name, curves in CURVES.items():
        for curve in curves if not config.only or name in config.only else ():
            points = curve.measure(curve.task)
            result["curves"][f"{name}, {curve.title}"] = {str(size): point for size, point in points.items()}
            print(name, curve.title, points, flush=True)
    keep("scaling", result, table(result), config.out)
    (config.out / "scaling.svg").write_bytes(render(figure_of(result), result["machine"], "svg", ""))


if __name__ == "__main__":
    main(tyro.cli(ScalingConfig, description=__doc__))
