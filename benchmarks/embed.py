"""What listing a folder of very many images costs `tae.embed`, before the first one is embedded.

    python -m benchmarks.embed --files 1000000

Makes as many names of PNG files of 8x8 pixels in a temporary folder, then, in a process of its own, lists them as `tae.embed`
does: names in natural order, and the digest by which a run that goes on knows them. Writes `benchmarks/results/embed.json`
and `embed.md`.
"""

import io
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from PIL import Image

from benchmarks import RESULTS, grid, keep
from tae.model.config import preset_config
from tae.sequence.embedding_job import Images

FOLDERS = 100


@dataclass(frozen=True)
class EmbedBenchmark:
    files: int = 20_000
    """Images, in a hundred folders."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: EmbedBenchmark) -> None:
    result = measured_listing(config.files)
    keep("embed", result, table(result), config.results, f"python -m benchmarks.embed --files {config.files}")


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


def table(result: dict[str, float]) -> list[str]:
    """The figures as Markdown."""
    seconds = (f"{result[name]:.1f}" for name in ("list_seconds", "digest_seconds"))
    return [
        *grid(
            ["files", "listing (s)", "digest (s)", "most memory (MB)"],
            [[f"{result['files']:,}", *seconds, f"{result['memory_mb']:.0f}"]],
        ),
        "",
        "Processor time; memory above what the process has before, the names among it.",
    ]


if __name__ == "__main__":
    main(tyro.cli(EmbedBenchmark, description=__doc__))
