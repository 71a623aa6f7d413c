"""Reconstruction quality on the test split: the checkpoint beside the mean image, PCA and a convolutional autoencoder.

    python -m benchmarks.quality

The convolutional autoencoder is read from `benchmarks/results/conv.safetensors`, which `python -m benchmarks.baselines`
trains; PCA is fitted here on as many images as the checkpoint saw. All are measured on the same test images. Writes
`benchmarks/results/quality.json` and `quality.md`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file

from benchmarks.baselines import ConvAutoencoder
from tae.checkpoint import load_checkpoint
from tae.datasets import DemoSource, compose_centred, load_garments, to_batch
from tae.evaluate import reconstruct, summarise
from tae.metrics import r2, seam_ratio

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
    pca_images: int | None = None
    """Images to fit PCA on; None: as many as the checkpoint saw in training."""


class Pca:
    """Principal components of flattened images, fitted in one pass over a stream of any length.

    An exact decomposition of the first batch gives twice as many vectors V as are kept; one pass collects the
    covariance's action on them, and a Nystrom approximation of the covariance from that gives the components (Tropp,
    Yurtsever, Udell, Cevher 2017, "Fixed-rank approximation of a positive-semidefinite matrix from streaming data").
    """

    def __init__(self, batches: Iterator[torch.Tensor], num_components: int, num_start: int = 2048) -> None:
        start: list[torch.Tensor] = []
        while sum(map(len, start)) < num_start:
            batch = next(batches, None)
            if batch is None:
                break
            start.append(batch)
        first = torch.cat(start)
        centred = first - first.mean(dim=0)
        values, vectors = torch.linalg.eigh(centred @ centred.T)  # the small side: (images, images)
        keep = min(2 * num_components, len(first) - 1)
        sketch = torch.linalg.qr(centred.T @ vectors[:, -keep:])[0]  # V (pixels, 2k)
        count, total, action = 0, torch.zeros(first.shape[1], dtype=torch.float64), torch.zeros_like(sketch)

        def everything() -> Iterator[torch.Tensor]:
            yield from start
            yield from batches

        for batch in everything():
            count += len(batch)
            total += batch.sum(dim=0)
            action += batch.T @ (batch @ sketch)
        self.mean = (total / count).float()
        action -= count * self.mean[:, None] * (self.mean @ sketch)
        core = (sketch.T @ action).double()
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        values = values.clamp_min(values[-1] * 1e-9)
        factor = action.double() @ (vectors / values.sqrt())  # covariance ~ factor factor^T
        self.components = torch.linalg.svd(factor, full_matrices=False)[0][:, :num_components].float()
        self.count = count

    def __call__(self, flat: torch.Tensor) -> torch.Tensor:
        """(n, pixels) -> (n, pixels), through the components alone."""
        return self.mean + ((flat - self.mean) @ self.components) @ self.components.T


def main(config: QualityConfig) -> None:
    loaded = load_checkpoint(config.checkpoint)
    source = DemoSource((201, 201))
    test = source.test(config.test_images)
    count = min(config.centred_images, len(load_garments("test").ink))
    centred = [compose_centred("test", index) for index in range(count)]
    num_pca = config.pca_images or loaded.card.training["images_seen"]
    pca = Pca(training_images(source, num_pca), loaded.model.config.latent_dim)
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


def training_images(source: DemoSource, count: int, size: int = 512) -> Iterator[torch.Tensor]:
    """The images that training saw, flattened, (size, pixels) at a time."""
    for start in range(0, count, size):
        images = [source.compose("train", index) for index in range(start, min(start + size, count))]
        yield to_batch(images)[0].flatten(1)


def table(result: dict) -> str:
    """The rows as Markdown."""
    best = max(result["conv"]["sweep"], key=lambda record: record["held_out_psnr"])
    final = result["conv"]["final"]
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
        f"{final['steps']:,} steps, {final['cpu_seconds']:,} processor seconds, learning rate {best['lr']:g}, the best of "
        f"{', '.join(format(record['lr'], 'g') for record in result['conv']['sweep'])} after "
        f"{result['conv']['sweep'][0]['cpu_seconds']} s each. PCA fitted on {result['pca_images']:,} images.",
        f"tae is {abs(gap):.2f} dB {'ahead of' if gap >= 0 else 'behind'} the convolutional autoencoder.",
        "",
        "Command: `python -m benchmarks.quality`",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(tyro.cli(QualityConfig, description=__doc__))
