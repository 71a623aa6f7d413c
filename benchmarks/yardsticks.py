"""What simple codes of as many numbers reach on the test images of the shipped checkpoints.

    python -m benchmarks.yardsticks

As a training fits and tells them (`tae.analysis.yardsticks`). Writes `benchmarks/results/yardsticks.json` and `yardsticks.md`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from tae.analysis.evaluate import evaluate
from tae.analysis.yardsticks import NAMES, verdict, yardsticks_of
from tae.data.built_in import source_for
from tae.store.checkpoint import list_checkpoints, load_checkpoint

RESULTS = Path(__file__).parent / "results"


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
            }
        )
        print(rows[-1], flush=True)
    result = {"test_images": config.test_images, "checkpoints": rows}
    (config.results / "yardsticks.json").write_text(json.dumps(result, indent=1) + "\n")
    (config.results / "yardsticks.md").write_text(table(result))


def table(result: dict) -> str:
    lines = [f"| PSNR (dB) | this model | {' | '.join(NAMES.values())} |", "| --- " * (len(NAMES) + 2) + "|"]
    for row in result["checkpoints"]:
        cells = (format(row["yardsticks"][key], ".2f") if key in row["yardsticks"] else "-" for key in NAMES)
        lines.append(f"| `{row['name']}` | {row['psnr']:.2f} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{result['test_images']} images of the test split. As many numbers as the latent has, or fewer; a dash: where widths "
        "vary, there is no PCA of whole images.",
        "",
        "Command: `python -m benchmarks.yardsticks`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(YardstickBenchmark, description=__doc__))
