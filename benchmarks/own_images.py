"""A few minutes of training on images of one's own, with the defaults, beside simple codes.

    python -m benchmarks.own_images
    python -m benchmarks.own_images --kinds strips --minutes 20

Photographs: crops of the 16 that come with scikit-image and scikit-learn, 19 of each; those that are held out are of other
photographs. Strips: spectrograms of drawn calls, whistles and clicks, of any width. Trains by `tae.train` in a process of
its own, and writes `benchmarks/results/own_images.json` and `own_images.md`.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image
from scipy import signal

from benchmarks import RESULTS, grid, keep
from tae.analysis.yardsticks import NAMES
from tae.store.checkpoint import load_checkpoint

PHOTOGRAPHS = {
    "skimage.data": (
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png hubble_deep_field.jpg "
        "moon.png motorcycle_left.png page.png retina.jpg rocket.jpg"
    ),
    "sklearn.datasets": "images/china.jpg images/flower.jpg",
}
CROPS = 19  # of each
STRIPS = 221
RATE, HEIGHT = 8000, 152


@dataclass(frozen=True)
class OwnImagesBenchmark:
    kinds: tuple[Literal["photographs", "strips"], ...] = ("photographs", "strips")
    """What to train on; figures of the others stay."""
    minutes: float = 10
    """Time of each training."""
    threads: int = 2
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: OwnImagesBenchmark) -> None:
    path = config.results / "own_images.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    for kind in config.kinds:
        with tempfile.TemporaryDirectory() as folder:
            rows[kind] = trained(kind, Path(folder), config.minutes, config.threads)
        print(rows[kind], flush=True)
    keep("own_images", rows, table(rows), config.results)


def trained(kind: str, folder: Path, minutes: float, threads: int) -> dict:
    """Make the images, train on them, and return what the checkpoint's card says."""
    words = ["--data", str(folder / kind), "--minutes", str(minutes), "--threads", str(threads)]
    if kind == "photographs":
        count = write_photographs(folder / kind)
        words += ["--hold-out-by", "folder"]
    else:
        count = write_strips(folder / kind)
        words += ["--input-size", "152", "None", "--patch-size", "32"]
    out = folder / "trained.safetensors"
    subprocess.run([sys.executable, "-m", "tae.train", "tiny", *words, "--out", str(out)], check=True)
    card = load_checkpoint(out).card
    told = ("count", "psnr", "yardsticks")
    return {
        "images": count,
        "minutes": minutes,
        "options": " ".join(words[6:]),
        **{name: card.metrics[name] for name in told},
        **{name: card.training[name] for name in ("steps", "seconds", "cpu_seconds", "hardware")},
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def write_photographs(folder: Path) -> int:
    """Crops of photographs, a folder for each; returns how many."""
    random = np.random.default_rng(0)
    for module, names in PHOTOGRAPHS.items():
        (beside,) = (Path(place) for place in import_module(module).__path__)
        for name in names.split():
            photograph = Image.open(beside / name).convert("L")
            place = folder / Path(name).stem
            place.mkdir(parents=True)
            for number in range(CROPS):
                side = int(random.integers(150, min(photograph.size) + 1))
                left, top = (int(random.integers(extent - side + 1)) for extent in photograph.size)
                photograph.crop((left, top, left + side, top + side)).save(place / f"{number:02}.png")
    return CROPS * sum(len(names.split()) for names in PHOTOGRAPHS.values())


def write_strips(folder: Path) -> int:
    """Spectrograms of drawn sounds, dark where it is loud; returns how many."""
    folder.mkdir()
    for number in range(STRIPS):
        random = np.random.default_rng([1, number])
        width = int(random.integers(300, 961))
        window = signal.get_window("hann", 2 * HEIGHT)
        transform = signal.ShortTimeFFT(window, hop=64, fs=RATE)
        sound = drawn_sound(random, 64 * width)
        power = np.abs(transform.stft(sound))[:HEIGHT, :width][::-1]
        decibels = np.clip(20 * np.log10(power / power.max() + 1e-9), -60, 0)
        Image.fromarray((-decibels / 60 * 255).astype(np.uint8)).save(folder / f"{number:03}.png")
    return STRIPS


def drawn_sound(random: np.random.Generator, length: int) -> np.ndarray:
    """Gliding whistles with harmonics, and clicks, over noise."""
    times = np.arange(length) / RATE
    sound = 0.02 * random.standard_normal(length)
    for _ in range(int(random.integers(2, 9))):
        start, lasts = random.uniform(0, times[-1]), random.uniform(0.1, 1.5)
        since = (times - start) / lasts
        pitch = random.uniform(200, 1500) * np.exp(
            random.normal(0, 0.5) * since + random.normal(0, 0.1) * np.sin(9 * since)
        )
        phase = 2 * np.pi * np.cumsum(np.clip(pitch, 50, RATE / 2)) / RATE
        envelope = np.where((since > 0) & (since < 1), np.sin(np.pi * np.clip(since, 0, 1)), 0)
        sound += envelope * sum(random.uniform(0.1, 1) / order * np.sin(order * phase) for order in (1, 2, 3))
    clicks = random.integers(0, length, int(random.integers(0, 5)))
    sound[clicks] += random.uniform(3, 10, len(clicks))
    return sound


def table(rows: dict[str, dict]) -> list[str]:
    """The figures as Markdown."""
    lines = []
    for kind, row in rows.items():
        cells = (format(row["yardsticks"][key], ".2f") if key in row["yardsticks"] else "-" for key in NAMES)
        told = (f"{row['steps']:,}", f"{row['seconds'] / 60:.1f}")
        lines.append([f"{row['images']} {kind}, {row['count']} held out", f"{row['psnr']:.2f}", *cells, *told])
    conditions = [f"{kind} {row['threads']} threads, {row['cpu_capability']}" for kind, row in rows.items()]
    return [
        *grid(["held-out PSNR (dB)", "this model", *NAMES.values(), "steps", "minutes"], lines),
        "",
        f"Preset tiny, the defaults besides the size and what is held out together ({'; '.join(conditions)}).",
    ]


if __name__ == "__main__":
    main(tyro.cli(OwnImagesBenchmark, description=__doc__))
