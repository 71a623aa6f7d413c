"""Simple codes of as many numbers, on the test images of the shipped checkpoints.

    python -m benchmarks.yardsticks

As a training fits and tells them (`tae.analysis.yardsticks`). Writes `benchmarks/results/yardsticks.json` and `yardsticks.md`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.analysis.evaluate import evaluate
from tae.analysis.yardsticks import NAMES, verdict, yardsticks_of
from tae.data.built_in import source_for
from tae.store.checkpoint import list_checkpoints, load_checkpoint


@dataclass(frozen=True)
class YardstickBenchmark:
    test_images: int = 512
    """Images of the test split."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: YardstickBenchmark) -> None:
    torch.set_num_threads(config.threads)
    rows = []
    for listed in list_checkpoints("checkpoints"):
        loaded = load_checkpoint(listed.path)
        shape, source = loaded.model.config, source_for(loaded.model.config, loaded.card.data)
        psnr = evaluate(loaded.model, source.test(config.test_images), "test")["psnr"]
        found = yardsticks_of(source, shape.latent_dim, config.test_images)
        rows.append(
            {
                "name": listed.path.stem,
                "checkpoint_sha256": loaded.digest,
                "psnr": psnr,
                "yardsticks": {one.key: one.psnr for one in found},
                "verdict": verdict(psnr, found)[1],
                "ahead_after": ahead_after(loaded.card.training["curve"], max(one.psnr for one in found)),
            }
        )
        print(rows[-1], flush=True)
    result = {"test_images": config.test_images, "checkpoints": rows}
    keep("yardsticks", result, table(result), config.results)


def ahead_after(curve: list[dict], best: float) -> int | None:
    """The first step at which the held-out images of a card's curve were drawn better than the best yardstick draws."""
    return next((point["step"] for point in curve if point.get("held_out_psnr", 0) > best), None)


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for row in result["checkpoints"]:
        cells = (format(row["yardsticks"][key], ".2f") if key in row["yardsticks"] else "-" for key in NAMES)
        ahead = "-" if row["ahead_after"] is None else format(row["ahead_after"], ",")
        rows.append([f"`{row['name']}`", f"{row['psnr']:.2f}", *cells, ahead])
    return [
        *grid(["PSNR (dB)", "this model", *NAMES.values(), "ahead of all after step"], rows),
        "",
        f"{result['test_images']} images of the test split. As many numbers as the latent has, or fewer; a dash: where widths "
        "vary, there is no PCA of whole images. Steps: of the held-out curve on the card; each began with random weights.",
    ]


if __name__ == "__main__":
    main(tyro.cli(YardstickBenchmark, description=__doc__))
