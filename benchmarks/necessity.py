"""Does the checkpoint need its attention? What it loses without it, and what its maps have to do with effects.

    python -m benchmarks.necessity

PSNR lost on test images when the encoder's attention is replaced, layer by layer and in all layers, by uniform weights, by
another image's attention, and by the mean map of other images; correlation of maps between images; Spearman correlation of
received attention and rollout with the measured effect of covering each foreground patch with white, beside predictors that
need no attention and a map of other images. Writes `benchmarks/results/necessity.json` and `.md`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks import keep
from tae.analysis import attention
from tae.analysis.causal import occlusion
from tae.analysis.causal.predictors import spearman, trivial_predictors
from tae.analysis.causal.replacements import from_images, mean_map, reconstruct_with, uniform
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.store.checkpoint import load_checkpoint

BATCH = 16


@dataclass(frozen=True)
class NecessityConfig:
    checkpoint: Path = Path("checkpoints/demo_tiny_201x201_p16.safetensors")
    """The autoencoder to test."""
    images: int = 256
    """Test images for the replacements."""
    occluded_images: int = 64
    """Test images whose patches are covered one by one."""


def main(config: NecessityConfig) -> None:
    loaded = load_checkpoint(config.checkpoint)
    model = loaded.model
    images, _ = to_batch(DemoSource((201, 201)).test(config.images))
    result = {
        "checkpoint_sha256": loaded.digest,
        "images": config.images,
        "occluded_images": config.occluded_images,
        "loss_db": replacements(model, images),
        "correlation": correlations(model, images[:64]),
        "spearman": against_effect(model, images[: config.occluded_images]),
    }
    keep("necessity", result, table(result))


def psnr(recon: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(B,) in dB, clipped to [0, 1]."""
    return -10 * ((recon.clamp(0, 1) - images) ** 2).mean(dim=(1, 2, 3)).log10()


def replacements(model, images: torch.Tensor) -> dict[str, dict[str, float]]:
    """{replacement: {"all" or layer: mean PSNR lost in dB}}."""
    num_layers = model.config.encoder_layers
    where: dict[str, list[int] | None] = {"all": None, **{f"layer {layer}": [layer] for layer in range(num_layers)}}
    lost: dict[str, dict[str, list[float]]] = {}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        own = psnr(model(batch)[0], batch)
        others = images[(torch.arange(start, start + len(batch)) + len(images) // 2) % len(images)]
        by_name = {
            "uniform weights": uniform,
            "another image's attention": from_images(model, others),
            "mean map of other images": mean_map(model, others),
        }
        for name, replace in by_name.items():
            for place, layers in where.items():
                recon = reconstruct_with(model, batch, replace, layers=layers)
                lost.setdefault(name, {}).setdefault(place, []).extend((own - psnr(recon, batch)).tolist())
    return {name: {place: float(np.mean(values)) for place, values in places.items()} for name, places in lost.items()}


def map_correlation(maps: torch.Tensor) -> float:
    """Mean Pearson correlation between the maps of two images, over all pairs of a batch (B, N, N) without padding.

    Near 1: the map is a fixed layout, whatever the image. nan where a map is constant (one token).

    Raises:
        ValueError: If there are fewer than two images.
    """
    count = len(maps)
    if count < 2:
        raise ValueError(f"maps must be of at least 2 images, got {count}")
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    pairs = flat @ flat.T  # (B, B), 1 on the diagonal
    return float((pairs.sum() - pairs.trace()) / (count * (count - 1)))


def correlations(model, images: torch.Tensor) -> dict[str, float]:
    """{map name: mean Pearson correlation between the maps of two images}."""
    parts = [model.get_attention_maps(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: map_correlation(torch.cat([part[name] for part in parts])) for name in parts[0]}


def against_effect(model, images: torch.Tensor) -> dict[str, dict[str, float]]:
    """{predictor: {"mean", "low", "high"}}: Spearman with the effect of covering foreground patches, bootstrap 95 %."""
    maps = [model.get_attention_maps(image[None]) for image in images]
    received = torch.cat([attention.received(one["average"]) for one in maps])
    layers = [name for name in maps[0] if name != "average"]
    rollouts = torch.cat([attention.received(attention.rollout([one[name] for name in layers])) for one in maps])
    scores: dict[str, list[float]] = {}
    for number, image in enumerate(images):
        tokens = occlusion.foreground_tokens(image[None], model.config)
        effect = occlusion.occlude(model, image[None], baseline=1.0, tokens=tokens).total
        others = torch.arange(len(images)) != number
        predictors = {
            "received attention, average": received[number],
            "rollout": rollouts[number],
            "received attention of other images": received[others].mean(dim=0),
            **trivial_predictors(image[None], model.config),
        }
        for name, predictor in predictors.items():
            scores.setdefault(name, []).append(spearman(predictor[tokens], effect))
    return {name: interval(np.array(values)) for name, values in scores.items()}


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean and its bootstrap 95 % interval over images."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def table(result: dict) -> str:
    """The figures as Markdown."""
    places = list(next(iter(result["loss_db"].values())))
    lines = [
        f"| encoder attention replaced by | {' | '.join(places)} |",
        "| --- " * (len(places) + 1) + "|",
    ]
    for name, lost in result["loss_db"].items():
        lines.append(f"| {name} | {' | '.join(f'{lost[place]:.2f} dB' for place in places)} |")
    maps = result["correlation"]
    lines += [
        "",
        f"PSNR lost, mean over {result['images']} test images.",
        "",
        f"| maps of two images correlate | {' | '.join(maps)} |",
        "| --- " * (len(maps) + 1) + "|",
        f"| Pearson, mean over pairs | {' | '.join(f'{value:.2f}' for value in maps.values())} |",
        "",
        "| Spearman with the effect of covering a foreground patch | mean (95 %) |",
        "| --- | --- |",
    ]
    for name, score in sorted(result["spearman"].items(), key=lambda item: -item[1]["mean"]):
        lines.append(f"| {name} | {score['mean']:.2f} ({score['low']:.2f} to {score['high']:.2f}) |")
    lines += ["", f"{result['occluded_images']} test images.", "", "Command: `python -m benchmarks.necessity`", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    with torch.inference_mode():
        main(tyro.cli(NecessityConfig, description=__doc__))
