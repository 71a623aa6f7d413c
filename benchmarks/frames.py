"""Real frames of drops through the models that have seen simulated ones only.

    python -m benchmarks.frames path/to/frames

Frames of a camera (which are not part of this project: any of one's own do) come to each model's size as `--fit drop` brings
them. Writes `benchmarks/results/frames.json` and `frames.md`.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.data.drops import DropSource
from tae.data.drops.measure import outline_columns
from tae.data.fit import fit_image
from tae.data.stacks import read_frame, scan_folder
from tae.model.metrics import measure
from tae.store.checkpoint import list_checkpoints, load_checkpoint

FIGURES = {
    "psnr": ("PSNR (dB)", ".1f"),
    "outline_distance_px": ("outline (px)", ".2f"),
    "contact_length_error_px": ("contact (px)", ".1f"),
    "left_angle_error_deg": ("left angle", ".1f"),
    "right_angle_error_deg": ("right angle", ".1f"),
}
"""{figure of a frame: (its heading, how its median is written)}."""


@dataclass(frozen=True)
class FramesBenchmark:
    frames: Annotated[Path, tyro.conf.Positional] = Path("frames")
    """Folder of the frames."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: FramesBenchmark) -> None:
    torch.set_num_threads(config.threads)
    if not config.frames.is_dir():
        sys.exit(f"{config.frames} must be a folder of frames")
    frames = [read_frame(path, 0).pixels for path in scan_folder(config.frames).files]
    rows = []
    for listed in list_checkpoints("checkpoints"):
        loaded = load_checkpoint(listed.path)
        if loaded.card.data == DropSource.data:
            model = loaded.model
            seen = [fit_image(one, model.config.input_size, "drop", model.config.max_width).pixels for one in frames]
            rows.append(
                {
                    "name": listed.path.stem,
                    "checkpoint_sha256": loaded.digest,
                    "frames": [figures(model, one) for one in seen],
                }
            )
    sizes = sorted({f"{one.shape[1]}x{one.shape[0]}" for one in frames})
    result = {"sizes": sizes, "checkpoints": rows}
    keep("frames", result, table(result), config.results, "python -m benchmarks.frames path/to/frames")


@torch.inference_mode()
def figures(model: torch.nn.Module, pixels: np.ndarray) -> dict[str, float | None]:
    """How a model draws one frame (H, W) that has its size; None where no drop is found."""
    recon = model(torch.from_numpy(np.array(pixels))[None, None])[0].clamp(0, 1)[0, 0].numpy()
    found = {"psnr": measure(pixels, recon, with_ssim=False).psnr, **outline_columns(pixels, recon)}
    return {name: found[name] for name in FIGURES}


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for row in result["checkpoints"]:
        told = {name: [one[name] for one in row["frames"] if one[name] is not None] for name in FIGURES}
        medians = [
            format(np.median(np.abs(told[name])), how) if told[name] else "-" for name, (_, how) in FIGURES.items()
        ]
        rows.append([f"`{row['name']}`", medians[0], format(min(told["psnr"]), ".1f"), *medians[1:]])
    headings = [heading for heading, _ in FIGURES.values()]
    count = len(result["checkpoints"][0]["frames"])
    return [
        *grid(["median", headings[0], "lowest", *headings[1:]], rows),
        "",
        f"{count} frames of a camera, {' and '.join(result['sizes'])} pixels, none of which any model has seen; degrees, and "
        "pixels of the model's image, in which squares are stretched.",
    ]


if __name__ == "__main__":
    main(tyro.cli(FramesBenchmark, description=__doc__))
