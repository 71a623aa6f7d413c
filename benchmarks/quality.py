"""Reconstruction quality on the test split: the checkpoint beside the mean image, PCA and a convolutional autoencoder.

    python -m benchmarks.quality

PCA and the convolutional autoencoder are read from `benchmarks/results/`, where `python -m benchmarks.baselines` leaves
them, fitted on as many images and trained for as long as the checkpoint. All are measured on the same test images. Writes
`benchmarks/results/quality.json` and `quality.md`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file

from benchmarks.baselines import ConvAutoencoder, Pca
from tae.analysis.evaluate import reconstruct, summarise
from tae.data.batches import to_batch
from tae.data.demo import DemoSource, compose_centred, load_garments
from tae.model.metrics import r2, seam_ratio
from tae.store.checkpoint import load_checkpoint

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class QualityConfig:
    checkpoint: Path = Path("checkpoints/demo_tiny_201x201_p16.safetensors")
    """The autoencoder to measure."""
    conv: Path = RESULTS / "conv.safetensors"
    """Weights of the convolutional autoencoder."""
    test_images: int = 1000
    """Composed squares of the test split."""
    centred_images: int = 1000
    """Single garments in the middle of the frame, 90 % of its side."""
    pca: Path = RESULTS / "pca.safetensors"
    """The fitted PCA."""


def main(config: QualityConfig) -> None:
    loaded = load_checkpoint(config.checkpoint)
    source = DemoSource((201, 201))
    test = source.test(config.test_images)
    count = min(config.centred_images, len(load_garments("test").ink))
    centred = [compose_centred("test", index) for index in range(count)]
    pca = Pca.load(config.pca)
    conv = ConvAutoencoder(loaded.model.config.latent_dim)
    conv.load_state_dict(load_file(config.conv))
    methods: dict[str, Callable[[list[np.ndarray]], list[np.ndarray]]] = {
        "tae tiny, patch 16": lambda images: reconstruct(loaded.model, images),
        "mean image": lambda images: [pca.mean.view(201, 201).numpy()] * len(images),
        "PCA": lambda images: list(pca(to_batch(images)[0].flatten(1)).view(-1, 201, 201).numpy()),
        "convolutional autoencoder": lambda images: reconstruct(conv.eval(), images),
    }
    rows = []
    for name, method in methods.items():
        recons = method(test)
        row = {"method": name, **summarise(test, recons, "test")}
        del row["percentiles"]
        row["seam_ratio"] = seam_ratio(np.stack(test) / 255, np.stack(recons), loaded.model.config.patch_size or 16)
        row["centred_r2"] = r2(np.stack(centred) / 255, np.stack(method(centred)))
        rows.append(row)
        print(row, flush=True)
    conv_training = json.loads(config.conv.with_suffix(".json").read_text())
    training = {key: value for key, value in loaded.card.training.items() if key != "curve"}
    parameters = {
        "tae": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "conv": sum(parameter.numel() for parameter in conv.parameters()),
    }
    result = {
        "checkpoint_sha256": loaded.digest,
        "training": training,
        "conv": conv_training,
        "pca_images": pca.count,
        "parameters": parameters,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quality.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "quality.md").write_text(table(result))
    print(table(result))


def table(result: dict) -> str:
    """The rows as Markdown."""
    sweep, cycles = result["conv"]["sweep"], result["conv"]["cycles"]
    rates = ", then ".join(f"{cycle['lr']:g} for {cycle['cpu_seconds']:,} s" for cycle in cycles)
    lines = [
        "| method, 128 numbers for an image | PSNR (dB) | SSIM | MSE | foreground MSE | R2 | centred R2 | seams |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['method']} | {row['psnr']:.2f} | {row['ssim']:.3f} | {row['mse']:.5f} | {row['foreground_mse']:.4f} | "
            f"{row['r2']:.4f} | {row['centred_r2']:.4f} | {row['seam_ratio']:.2f} |"
        )
    by_name = {row["method"]: row["psnr"] for row in result["rows"]}
    gap = by_name["tae tiny, patch 16"] - by_name["convolutional autoencoder"]
    lines += [
        "",
        f"{result['rows'][0]['count']} composed squares of the test split; centred: single garments over 90 % of the frame. "
        "Seams: mean absolute step of the error across 16-pixel borders over that inside; 1 = none.",
        f"tae: {result['parameters']['tae']:,} parameters, {result['training']['steps']:,} steps, "
        f"{result['training']['cpu_seconds']:,} processor seconds. Convolutional: {result['parameters']['conv']:,} parameters, "
        f"{sum(cycle['steps'] for cycle in cycles):,} steps, {sum(cycle['cpu_seconds'] for cycle in cycles):,} processor "
        f"seconds: learning rate {rates}; the first is the best of {', '.join(format(one['lr'], 'g') for one in sweep)} after "
        f"{sweep[0]['cpu_seconds']} s each. PCA fitted on {result['pca_images']:,} images.",
        f"tae is {abs(gap):.2f} dB {'ahead of' if gap >= 0 else 'behind'} the convolutional autoencoder.",
        "",
        "Commands: `python -m benchmarks.baselines`, `python -m benchmarks.baselines --go-on --cpu-seconds 310 --lrs 6e-4 "
        "--pca-images 0`, `python -m benchmarks.quality`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(tyro.cli(QualityConfig, description=__doc__))
