"""The search for a demo checkpoint's shape: candidates trained for the same processor time each.

    python -m benchmarks.sweep rails
    python -m benchmarks.sweep squares

All of one kind see the same images, on one thread, and are measured on the same images of the val split. Writes
`benchmarks/results/sweep.json` and `sweep.md`. The squares' time is a sixteenth of what the demo checkpoint had: its card's
curve says what the rest brings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from benchmarks.baselines import train_for
from benchmarks.rails import HEIGHT, RESULTS, WIDE, count_parameters, mean_psnr
from tae.analysis.causal import replacements
from tae.analysis.evaluate import reconstruct
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PRESETS, ModelConfig, config_to_dict, size_in_words
from tae.model.metrics import r2, seam_ratio
from tae.training.config import TrainConfig
from tae.training.optim import make_optimizers

Kind = Literal["rails", "squares"]
WIDEST = 960
"""In pixels, of rails where any width goes."""
SEAM_SIDE = 16
"""In pixels: seams of all squares are measured at one distance, whatever the patch."""


def rail_model(patch_size: int, latent_dim: int, layers: int = 3, width: int | None = WIDE, **more) -> ModelConfig:
    """A candidate: `layers` blocks in the encoder and as many in the decoder, heads of 32 numbers."""
    return ModelConfig(
        input_size=(HEIGHT, width),
        max_width=WIDEST if width is None else WIDE,
        patch_size=patch_size,
        latent_dim=latent_dim,
        num_heads=latent_dim // 32,
        encoder_layers=layers,
        decoder_layers=layers,
        **more,
    )


def square_model(preset: str, patch_size: int) -> ModelConfig:
    """A preset at 201x201."""
    fields = {**config_to_dict(PRESETS[preset]), "input_size": (201, 201), "patch_size": patch_size}
    return ModelConfig(**fields)


@dataclass(frozen=True)
class Candidate:
    model: ModelConfig
    batch_size: int = 8
    muon_lr: float = 0.01
    adamw_lr: float = 1e-3

    @property
    def name(self) -> str:
        shape = self.model
        return (
            f"{size_in_words(shape.input_size)}, patch {shape.patch_size}, latent {shape.latent_dim}, "
            f"{shape.encoder_layers} + {shape.decoder_layers} layers, batch {self.batch_size}, "
            f"learning rates {self.muon_lr:g} and {self.adamw_lr:g}"
        )


CANDIDATES: dict[Kind, list[Candidate]] = {
    "rails": [
        Candidate(rail_model(32, 128)),
        Candidate(rail_model(32, 256)),
        Candidate(rail_model(16, 128)),
        Candidate(rail_model(38, 128)),
        Candidate(rail_model(32, 128), muon_lr=0.02, adamw_lr=2e-3),
        Candidate(rail_model(32, 128, width=None), 16),
        Candidate(rail_model(32, 256, width=None), 16),
    ],
    "squares": [
        Candidate(square_model("tiny", 16), 16),
        Candidate(square_model("tiny", 8), 16),
        Candidate(square_model("small", 16), 16),
    ],
}
SECONDS: dict[Kind, float] = {"rails": 100, "squares": 400}
"""Processor seconds of each candidate."""


@dataclass(frozen=True)
class SweepConfig:
    kind: tyro.conf.Positional[Kind]
    """Which candidates."""
    seconds: float | None = None
    """Processor seconds of each candidate; none: 100 for rails, 400 for squares."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: SweepConfig) -> None:
    torch.set_num_threads(config.threads)
    seconds = config.seconds or SECONDS[config.kind]
    for one in CANDIDATES[config.kind]:
        store(config.results, config.kind, try_out(one, seconds))


def try_out(one: Candidate, cpu_seconds: float) -> dict:
    """Train one candidate and look at 64 images of the val split."""
    torch.manual_seed(0)
    source = DemoSource(one.model.input_size, one.model.max_width)
    model = TransformerAutoencoder(one.model)
    optimizers = make_optimizers(model, TrainConfig(muon_lr=one.muon_lr, adamw_lr=one.adamw_lr))
    steps = train_for(model, optimizers, lambda step: source.batch(step, one.batch_size), cpu_seconds)
    held_out = source.held_out(64)
    recons = reconstruct(model, held_out)
    side = SEAM_SIDE if one.model.input_size[0] == one.model.input_size[1] else one.model.tile_size[0]
    seams = [seam_ratio(image[None] / 255, recon[None], side) for image, recon in zip(held_out, recons, strict=True)]
    return {
        "name": one.name,
        "model": config_to_dict(one.model),
        "num_tokens": one.model.num_tokens,
        "parameters": count_parameters(model),
        "batch_size": one.batch_size,
        "cpu_seconds": cpu_seconds,
        "steps": steps,
        "psnr": mean_psnr(held_out, recons),
        "r2": r2(
            np.concatenate([image.ravel() / 255 for image in held_out]),
            np.concatenate([recon.ravel() for recon in recons]),
        ),
        "seam_ratio": float(np.mean(seams)),
        "lost": attention_losses(model, held_out[:16]) if one.model.input_size[1] else {},
    }


def attention_losses(model: TransformerAutoencoder, images: Sequence[np.ndarray]) -> dict[str, float]:
    """PSNR lost in dB with uniform weights, and with those of another image, in all layers of the encoder."""
    batch, _ = to_batch(list(images))
    with torch.inference_mode():
        own, uniform, swapped = (
            mean_psnr(images, list(recon.clamp(0, 1)[:, 0].numpy()))
            for recon in (
                model(batch)[0],
                replacements.reconstruct_with(model, batch, replacements.uniform),
                replacements.reconstruct_with(model, batch, replacements.from_images(model, batch.roll(1, dims=0))),
            )
        )
    return {"uniform": own - uniform, "swapped": own - swapped}


def store(folder: Path, kind: Kind, record: dict) -> None:
    """Put one record into sweep.json, in place of an older one of the same name, and write the tables anew."""
    path = folder / "sweep.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    others = [one for one in result.get(kind, []) if one["name"] != record["name"]]
    result[kind] = sorted([*others, record], key=lambda one: -one["psnr"])
    path.write_text(json.dumps(result, indent=1) + "\n")
    tables = [table(of_kind) for _, of_kind in sorted(result.items())]
    commands = ", ".join(f"`python -m benchmarks.sweep {name}`" for name in sorted(result))
    (folder / "sweep.md").write_text("\n".join([*tables, f"Commands: {commands}", ""]))
    print(json.dumps(record), flush=True)


def table(records: list[dict]) -> str:
    """One kind's candidates as Markdown, the best first."""
    lines = [
        "| shape | tokens | parameters | steps | images | val PSNR (dB) | R2 | seams | uniform attention costs | "
        "another image's |",
        "| --- " * 10 + "|",
    ]
    for one in records:
        lost = [f"{one['lost'][kind]:.2f} dB" if one["lost"] else "" for kind in ("uniform", "swapped")]
        lines.append(
            f"| {one['name']} | {one['num_tokens']} | {one['parameters'] / 1e6:.1f} M | {one['steps']} | "
            f"{one['steps'] * one['batch_size']} | {one['psnr']:.2f} | {one['r2']:.3f} | {one['seam_ratio']:.2f} | "
            f"{lost[0]} | {lost[1]} |"
        )
    seconds = " or ".join(f"{value:g}" for value in sorted({one["cpu_seconds"] for one in records}))
    return "\n".join(
        [*lines, "", f"{seconds} processor seconds each, one thread, one seed, 64 images of the val split.", ""]
    )


if __name__ == "__main__":
    main(tyro.cli(SweepConfig, description=__doc__))
