"""Whether reading keeps up with learning: what an image costs the loader, beside what it costs a training step.

    python -m benchmarks.loader

Photographs of 640x480 in colour, random cuts of six that come with scikit-image, are written as PNG and as JPEG and
trained on at 201x201, augmented. The loader alone reads them from the files (which the system's cache holds) and, as from
the second epoch on, from its memory; the step is that of `tae.train` in float32, once on a batch that lies ready, once on
batches of the loader, when the time that it waits for them is taken. Processor time, which other programs on the machine
hardly touch, beside the clock's. Writes `benchmarks/results/loader.json` and `.md`.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
import tyro
from PIL import Image

from benchmarks import grid, keep
from tae.model.autoencoder import TransformerAutoencoder
from tae.training.config import TrainConfig
from tae.training.images.loader import Loader
from tae.training.images.sources import FileSource
from tae.training.optim import make_optimizers

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


@dataclass(frozen=True)
class LoaderConfig:
    files: int = 1000
    """Photographs of each kind."""
    preset: str = "tiny"
    """Size of the model."""
    batch_size: int = 16
    """Images a step."""
    rounds: int = 5
    """Turns, each of every measurement."""
    batches: int = 10
    """Batches read in a turn."""
    steps: int = 3
    """Training steps in a turn."""
    threads: int = 1
    """CPU threads of PyTorch."""


def write_photographs(folder: Path, count: int, suffix: str) -> None:
    """`count` different images of 640x480: a random cut of a photograph, half of them mirrored."""
    whole = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    left, right, _ = skimage.data.stereo_motorcycle()
    whole += [Image.fromarray(left), Image.fromarray(right)]
    rng = np.random.default_rng(0)
    for number in range(count):
        photograph = whole[number % len(whole)]
        share = rng.uniform(0.6, 1)
        width, height = (round(side * share) for side in photograph.size)
        x, y = (int(rng.integers(room + 1)) for room in (photograph.width - width, photograph.height - height))
        cut = photograph.resize((640, 480), Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
        if rng.random() < 0.5:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        cut.save(folder / f"{number}.{suffix}", quality=90)


def forgetful(config: TrainConfig) -> FileSource:
    """A source that keeps nothing of what it reads."""

    class Forgetful(FileSource):
        CACHE_BYTES = 0

    return Forgetful(config)


def reading(source: FileSource, config: LoaderConfig, workers: int, first_step: int) -> dict[str, float]:
    """What the loader does alone, its consumer doing nothing: CPU milliseconds an image, and images a second."""
    last_step = first_step + config.batches
    cpu, clock = time.process_time(), time.perf_counter()
    with Loader(source, config.batch_size, first_step, last_step, workers=workers) as loader:
        for _ in loader:
            pass
    images = config.batches * config.batch_size
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {"cpu_ms": cpu / images * 1000, "images_per_s": images / clock}


def learning(step: Callable[[torch.Tensor], None], config: LoaderConfig) -> dict[str, float]:
    """What a step costs on a batch that lies ready."""
    images = torch.rand(config.batch_size, 1, 201, 201)
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(config.steps):
        step(images)
    count = config.steps * config.batch_size
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {"cpu_ms": cpu / count * 1000, "images_per_s": count / clock}


def waiting(step: Callable[[torch.Tensor], None], source: FileSource, config: LoaderConfig, first_step: int) -> float:
    """Share of the time in which steps fed by the loader, with its two threads, wait for a batch."""
    waited = 0.0
    with Loader(source, config.batch_size, first_step, first_step + config.steps + 1) as loader:
        batches = iter(loader)
        step(next(batches).images)  # nothing can lie ready for the first
        started = time.perf_counter()
        for _ in range(config.steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            step(batch.images)
    return waited / (time.perf_counter() - started)


def training_step(config: TrainConfig) -> Callable[[torch.Tensor], None]:
    """One step in float32 of a fresh model."""
    torch.manual_seed(0)
    model = TransformerAutoencoder(config.model_config).train()
    optimizers = make_optimizers(model, config)

    def step(images: torch.Tensor) -> None:
        recon, _ = model(images)
        ((recon - images) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step


def measure(config: LoaderConfig, folder: Path, kind: str) -> dict:
    """All figures of one kind of file, a value a turn."""
    train_config = TrainConfig(preset=config.preset, data=str(folder), batch_size=config.batch_size)  # type: ignore[arg-type]
    cpu = time.process_time()
    kept = FileSource(train_config)
    scan_ms = (time.process_time() - cpu) / config.files * 1000
    unkept = forgetful(train_config)
    step = training_step(train_config)
    step(torch.rand(config.batch_size, 1, 201, 201))  # memory is set aside
    turns = []
    for turn in range(config.rounds):
        first = turn * config.batches
        turns.append(
            {
                "files_1": reading(unkept, config, 1, first),
                "files_2": reading(unkept, config, 2, first),
                "memory_1": reading(kept, config, 1, first),
                "memory_2": reading(kept, config, 2, first),
                "step": learning(step, config),
                "waiting": waiting(step, unkept, config, first),
            }
        )
    size = sum(path.stat().st_size for path in folder.iterdir()) / config.files
    return {"kind": kind, "bytes": round(size), "scan_ms": scan_ms, "turns": turns}


def main(config: LoaderConfig) -> None:
    torch.set_num_threads(config.threads)
    rows = []
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png")):
        with tempfile.TemporaryDirectory() as name:
            write_photographs(Path(name), config.files, suffix)
            rows.append(measure(config, Path(name), kind))
        print(rows[-1]["turns"][-1], flush=True)
    result = {
        "preset": config.preset,
        "batch_size": config.batch_size,
        "files": config.files,
        "threads": config.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": os.getloadavg()[1],
        "cores": os.cpu_count(),
        "rows": rows,
    }
    keep("loader", result, table(result))


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for row in result["rows"]:
        rate = {name: 1000 / middle(row, name) for name in ("files_1", "files_2", "memory_1", "memory_2", "step")}
        by_clock = [turn["files_2"]["images_per_s"] / turn["step"]["images_per_s"] for turn in row["turns"]]
        low, ratio, high = np.percentile(by_clock, [25, 50, 75])
        waits = max(turn["waiting"] for turn in row["turns"])
        rows.append(
            [
                f"{row['kind']}, {row['bytes'] / 1000:.0f} kB",
                f"{rate['files_1']:.0f} / {rate['files_2']:.0f}",
                f"{rate['memory_1']:,.0f} / {rate['memory_2']:,.0f}",
                f"{rate['step']:.0f}",
                f"{rate['files_1'] / rate['step']:.1f}",
                f"{rate['memory_1'] / rate['step']:.0f}",
                f"{ratio:.1f} ({low:.1f} to {high:.1f})",
                f"at most {waits:.2%} of the time",
            ]
        )
    header = ["photographs", "loader from files, 1 / 2 threads", "loader from memory, 1 / 2 threads", "training step"]
    header += ["loader / step, files", "loader / step, memory", "by the clock: loader of 2 threads / step"]
    return [
        *grid([*header, "a step waits for its batch"], rows),
        "",
        f"Images a second of processor time, medians of {len(result['rows'][0]['turns'])} turns: a ratio of 5 says that one "
        "reading thread keeps 5 computing ones busy. The last two columns are by the clock, in turns or together, "
        f"while other programs kept the machine busy too (load {result['load']:.0f} on {result['cores']} cores). "
        f"{result['files']:,} photographs of each kind, 640x480 in colour, fitted to 201x201 and augmented; {result['preset']}, "
        f"patch 16, batch {result['batch_size']}, float32, {result['threads']} thread, {result['cpu']}, torch {result['torch']}. "
        "What has been read is kept in memory, up to 2 GiB or about 50,000 images of this size: as long as that suffices, "
        "each file is read once, before the first step.",
    ]


def middle(row: dict, name: str) -> float:
    """Median of a measurement's CPU milliseconds an image."""
    return float(np.median([turn[name]["cpu_ms"] for turn in row["turns"]]))


if __name__ == "__main__":
    main(tyro.cli(LoaderConfig, description=__doc__))
