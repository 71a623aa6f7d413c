"""The demo checkpoints through the lens, and how many dimensions of its latent are in use.

    python -m benchmarks.lens

First fit what is missing, for each checkpoint: `python -m tae.lens --checkpoint checkpoints/<name>.safetensors`. Test
images: PSNR of the state after each layer, raw and tuned; how far raw states lie from what the drawing step usually gets;
the share of images that a page would warn of; variance of the latents by principal direction. Writes
`benchmarks/results/lens.json` and `.md`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.analysis import latent
from tae.analysis.lens import Lens, depth_names, lens_path, load_lens, look
from tae.data.batches import to_batch
from tae.data.built_in import source_for
from tae.model.config import PARTS
from tae.model.metrics import psnr_of
from tae.store.checkpoint import Loaded, load_checkpoint

DIMENSIONS = (8, 32)
"""Latents are also decoded with so many principal directions kept."""


@dataclass(frozen=True)
class LensBenchmarkConfig:
    checkpoints: tuple[Path, ...] = (
        Path("checkpoints/demo_tiny_201x201_p16.safetensors"),
        Path("checkpoints/drops_tiny_201x201_p16.safetensors"),
        Path("checkpoints/drops_tiny_1280x152_p32.safetensors"),
        Path("checkpoints/drops_tiny_Xx152_p32.safetensors"),
    )
    """Each with its lens beside it."""
    images: int = 256
    """Test images that are looked at through the lens, after those whose latents are counted: none that it was measured on."""
    embedded: int = 1000
    """Test images whose latents are counted."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = RESULTS
    """Folder of the result files."""


def main(config: LensBenchmarkConfig) -> None:
    torch.set_num_threads(config.threads)
    result = {path.stem: figures(path, config) for path in config.checkpoints}
    keep("lens", result, table(result), config.results)


def figures(path: Path, config: LensBenchmarkConfig) -> dict:
    """All that is told of one checkpoint, as plain JSON values."""
    loaded = load_checkpoint(path)
    shape = loaded.model.config
    lens = load_lens(lens_path(path), shape, loaded.digest)
    images = source_for(shape, loaded.card.data).test(config.embedded + config.images)
    counted, tested = images[: config.embedded], images[config.embedded :]
    return {
        "checkpoint_sha256": loaded.digest,
        "fit": lens.about,
        "lens_bytes": lens_path(path).stat().st_size,
        "images": config.images,
        "parts": {part: by_depth(loaded, lens, part, tested) for part in PARTS},
        "latent": dimensions(loaded, counted, tested),
    }


def by_depth(loaded: Loaded, lens: Lens, part: str, images: list[np.ndarray]) -> list[dict]:
    """[{"depth", "raw", "tuned": mean PSNR in dB, "distance": median, "unusual": share}, ...]."""
    raw, tuned, distance, unusual = [], [], [], []
    for image in images:
        batch, _ = to_batch([image])
        seen = look(loaded.model, batch, part, lens)
        assert seen.distance is not None and seen.is_unusual is not None
        raw.append(seen.psnr[:, 0].numpy())
        distance.append(seen.distance[:, 0].numpy())
        unusual.append(seen.is_unusual[:, 0].numpy())
        tuned.append(look(loaded.model, batch, part, lens, tuned=True).psnr[:, 0].numpy())
    return [
        {
            "depth": name,
            "raw": float(np.mean([one[depth] for one in raw])),
            "tuned": float(np.mean([one[depth] for one in tuned])),
            "distance": float(np.median([one[depth] for one in distance])),
            "unusual": float(np.mean([one[depth] for one in unusual])),
        }
        for depth, name in enumerate(depth_names(len(raw[0]) - 1))
    ]


def dimensions(loaded: Loaded, images: list[np.ndarray], tested: list[np.ndarray]) -> dict:
    """How many dimensions are in use, by variance, and what the decoder makes of the strongest alone."""
    model = loaded.model
    pca = latent.fit_pca(latent.embed_images(model, images))
    latents = latent.embed_images(model, tested)
    psnr = {}
    for count in (*DIMENSIONS, len(pca.variances)):
        kept = pca.truncated(latents, count)
        recons = [
            latent.decode_latents(model, one[None], image.shape[1])[0] for one, image in zip(kept, tested, strict=True)
        ]
        errors = [np.mean((image / 255 - recon) ** 2) for image, recon in zip(tested, recons, strict=True)]
        psnr[str(count)] = float(np.mean([psnr_of(float(error)) for error in errors]))
    return {
        "images": len(images),
        "participation_ratio": latent.participation_ratio(pca.variances),
        "effective_rank": latent.effective_rank(pca.variances),
        "dimensions_95": latent.dimensions_for(pca.variances, 0.95),
        "psnr_by_dimensions": psnr,
    }


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    header = ["checkpoint", "part", "state", "raw", "tuned", "raw state's distance, x usual", "images warned of"]
    rows = [
        [name, part, row["depth"], *(f"{row[kind]:.2f} dB" for kind in ("raw", "tuned"))]
        + [f"{row['distance']:.1f}", f"{row['unusual']:.0%}"]
        for name, one in result.items()
        for part, depths in one["parts"].items()
        for row in depths
    ]
    fits = "; ".join(
        f"{name}: {one['fit']['train_images']} training images, {one['fit']['cpu_seconds']:.0f} processor seconds, "
        f"{one['lens_bytes'] / 1e3:.0f} kB"
        for name, one in result.items()
    )
    counts = []
    for name, one in result.items():
        counted = one["latent"]
        psnr = ", ".join(f"{count}: {value:.1f} dB" for count, value in counted["psnr_by_dimensions"].items())
        sizes = (f"{counted[key]:.1f}" for key in ("participation_ratio", "effective_rank"))
        counts.append([name, *sizes, counted["dimensions_95"], psnr])
    header_of_counts = ["checkpoint", "participation ratio", "effective rank", "directions with 95% of the variance"]
    first = next(iter(result.values()))
    return [
        *grid(header, rows),
        "",
        f"PSNR, mean over {first['images']} test images, of the image that the rest of the network draws from a state. Usual: "
        "the median distance of test images' own last states; a page warns beyond what 99 of 100 of them keep. "
        f"Translators fitted on {fits}.",
        "",
        *grid([*header_of_counts, "PSNR from the strongest directions"], counts),
        "",
        f"Latents of {first['latent']['images']} test images.",
    ]


if __name__ == "__main__":
    with torch.inference_mode():
        main(tyro.cli(LensBenchmarkConfig, description=__doc__))
