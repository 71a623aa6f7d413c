"""The pace of `tae.embed`: images a second beside reading them and beside the model alone, and listing a folder of very many.

    python -m benchmarks.embed --files 1000000

Photographs of 640x480 as PNG and JPEG are embedded by the command's own function, in fp32 and in bf16, in turns with reading
them alone and with the encoder alone; how far bf16 is off is what the command says. Then as many names of PNG files of 8x8
pixels as asked for are listed in a process of its own, as `tae.embed` does: names in natural order, and the digest by which a
run that goes on knows them. Writes `benchmarks/results/embed.json` and `embed.md`.
"""

import io
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks import RESULTS, grid, keep
from benchmarks.attention_maps import processor_seconds
from benchmarks.loader import write_photographs
from tae.model.config import preset_config
from tae.sequence.embedding_job import EmbedConfig, Images, embed_to_file
from tae.sequence.embeddings import read_metadata
from tae.store.checkpoint import load_checkpoint
from tae.store.places import APP

FOLDERS = 100
CHECKPOINT = APP / "checkpoints" / "demo_tiny_201x201_p16.safetensors"
KINDS = {"JPEG, 72 kB": "jpg", "PNG, 431 kB": "png"}
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class EmbedBenchmark:
    files: int = 20_000
    """Images to list, in a hundred folders."""
    images: int = 256
    """Photographs to embed, of each kind."""
    rounds: int = 3
    """Turns."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: EmbedBenchmark) -> None:
    torch.set_num_threads(1)
    cpu = torch.backends.cpu.get_cpu_capability()
    result = {
        "listing": measured_listing(config.files),
        "rows": [embedding(kind, config) for kind in KINDS],
        "machine": f"{CHECKPOINT.stem}, {config.images} photographs of each kind, 1 thread, {cpu}, torch {torch.__version__}",
    }
    keep("embed", result, table(result), config.results, f"python -m benchmarks.embed --files {config.files}")


def embedding(kind: str, config: EmbedBenchmark) -> dict:
    """Images a processor second of the command, of reading alone and of the encoder alone, medians of the turns."""
    with tempfile.TemporaryDirectory() as home:
        folder, out = Path(home, "photographs"), Path(home, "out.npz")
        folder.mkdir()
        write_photographs(folder, config.images, KINDS[kind])
        model = load_checkpoint(CHECKPOINT).model.eval()
        images = Images(str(folder), model.config, "pad")

        def command(precision: str) -> None:
            embed_to_file(
                EmbedConfig(
                    data=str(folder),
                    checkpoint=CHECKPOINT,
                    out=out,
                    precision=precision,  # type: ignore[arg-type]
                    overwrite=True,
                    device="cpu",
                )
            )

        def encoder(precision: str) -> None:
            batch = torch.rand(32, 1, 201, 201)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                for _ in range(config.images // 32):
                    model.embed(batch)

        calls: dict[str, Callable[[], object]] = {"reading": lambda: [images.load(one) for one in range(len(images))]}
        for precision in PRECISIONS:
            calls |= {f"command, {precision}": partial(command, precision)}
            calls |= {f"encoder, {precision}": partial(encoder, precision)}
        turns = [{name: processor_seconds(call) for name, call in calls.items()} for _ in range(config.rounds)]
        command("bf16")
        error = read_metadata(out)["precision_error"]
    pace = {name: config.images / float(np.median([turn[name] for turn in turns])) for name in calls}
    return {"kind": kind, "pace": pace, "error": error}


def measured_listing(files: int) -> dict[str, float]:
    """What a process of its own needs to list so many images, in a hundred folders."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 9).save(buffer, "PNG")
    with tempfile.TemporaryDirectory() as home:
        for number in range(files):
            folder = Path(home, f"folder-{number % FOLDERS}")
            if number < FOLDERS:
                folder.mkdir()
                (folder / "frame_0.png").write_bytes(buffer.getvalue())
            else:
                os.link(folder / "frame_0.png", folder / f"frame_{number}.png")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(listed, (home,))


def listed(folder: str) -> dict[str, float]:
    """Files, seconds and peak memory of listing, above what the process has before it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    images = Images(folder, preset_config("tiny"), "pad")
    seconds = time.process_time() - started
    images.digest()
    return {
        "files": len(images),
        "list_seconds": seconds,
        "digest_seconds": time.process_time() - started - seconds,
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    listing = result["listing"]
    seconds = (f"{listing[name]:.1f}" for name in ("list_seconds", "digest_seconds"))
    rows = []
    for row in result["rows"]:
        pace = row["pace"]
        bounds = {one: 1 / (1 / pace["reading"] + 1 / pace[f"encoder, {one}"]) for one in PRECISIONS}
        rows.append(
            [
                row["kind"],
                *(f"{pace[name]:.0f}" for name in ("reading", "encoder, fp32", "encoder, bf16")),
                *(f"{pace[f'command, {one}']:.0f} ({pace[f'command, {one}'] / bounds[one]:.0%})" for one in PRECISIONS),
                f"{row['error']:.2%}",
            ]
        )
    header = ["photographs 640x480", "reading alone", "encoder alone, fp32", "bf16"]
    return [
        *grid([*header, "`tae.embed`, fp32 (of both bounds)", "bf16", "latents in bf16 off by"], rows),
        "",
        f"Images a processor second, medians in turns: {result['machine']}. Both bounds: reading and encoder, one after the "
        "other. Off by: root mean square, of their spread.",
        "",
        *grid(
            ["files", "listing (s)", "digest (s)", "most memory (MB)"],
            [[f"{listing['files']:,}", *seconds, f"{listing['memory_mb']:.0f}"]],
        ),
        "",
        "Processor time; memory above what the process has before, the names among it.",
    ]


if __name__ == "__main__":
    main(tyro.cli(EmbedBenchmark, description=__doc__))
