"""The cost of the whole network at a glance: CKA of all states, and all heads measured, compared and named, for each image.

    python -m benchmarks.glance

Each over a few images, as a multiple of one full forward pass of as many, one at a time. Processor seconds of one thread, in
turns: median of the ratios and quartiles. Writes `benchmarks/results/glance.json` and `.md`.
"""

from dataclasses import dataclass
from functools import partial

import torch
import tyro

from benchmarks import grid, keep
from benchmarks.attention_maps import words
from benchmarks.causal import PATCH_SIZES, beside_a_pass
from tae.analysis.cka import BATCH, cka
from tae.analysis.kinds import all_heads, heads_over
from tae.model.autoencoder import create_autoencoder


@dataclass(frozen=True)
class GlanceConfig:
    preset: str = "tiny"
    """Size of the model."""
    rounds: int = 5
    """Turns of all ways."""
    threads: int = 1
    """CPU threads of PyTorch."""


def main(config: GlanceConfig) -> None:
    torch.set_num_threads(config.threads)
    rows = [row for num_tokens, patch_size in PATCH_SIZES.items() for row in measured(config, num_tokens, patch_size)]
    result = {"rows": rows, "preset": config.preset, "threads": config.threads, "torch": torch.__version__}
    result["cpu"] = torch.backends.cpu.get_cpu_capability()
    keep("glance", result, table(result))


def measured(config: GlanceConfig, num_tokens: int, patch_size: int) -> list[dict]:
    """Both at one size of patches."""
    torch.manual_seed(0)
    model = create_autoencoder((201, 201), config.preset, patch_size=patch_size).eval()
    images = torch.rand(BATCH, 1, 201, 201)
    ways = {
        "CKA of all states, of all tokens and of their mean": (BATCH, cka),
        f"{len(all_heads(model.config))} heads measured, and every two of them compared": (2, heads_over),
    }
    rows = []
    for name, (count, way) in ways.items():
        found = beside_a_pass(partial(way, model, images[:count]), lambda: model(images[:1]), config.rounds)
        each = {key: [one / count for one in values] for key, values in found.items()}
        rows.append({"num_tokens": num_tokens, "name": name, **each})
    return rows


def table(result: dict) -> list[str]:
    """The rows as Markdown."""
    rows = [(row["num_tokens"], row["name"], f"{row['ours_s'][1]:.3f}", words(row["passes"])) for row in result["rows"]]
    return [
        *grid(["N", "task, for each image", "tae, s", "tae / one full pass"], rows),
        "",
        f"Processor seconds, median; ratios: median (quartiles), in turns. {result['preset']}, 201x201, patches of 16 and 8, "
        f"random weights, {result['threads']} thread, {result['cpu']}, torch {result['torch']}.",
    ]


if __name__ == "__main__":
    with torch.no_grad():
        main(tyro.cli(GlanceConfig, description=__doc__))
