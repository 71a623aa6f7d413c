"""Wide strips: one latent for all of it, or one for each window.

    python -m benchmarks.windows

Strips of drops of the test split, 1280 and 10,000 pixels wide: the model of 1280 pixels as it is and window by window, and the
model of any width, up to its widest in one latent, and in windows of several widths and overlaps. Writes
`benchmarks/results/windows.json` and `windows.md`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.analysis.evaluate import reconstruct, summarise
from tae.analysis.windows import decode_windows, embed_windows, window_starts
from tae.data.drops import DropSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.store.checkpoint import load_checkpoint

WIDE, VERY_WIDE = 1280, 10_000


@dataclass(frozen=True)
class WindowsBenchmark:
    fixed: Path = Path("checkpoints/drops_tiny_1280x152_p32.safetensors")
    """The model of 1280 pixels."""
    any_width: Path = Path("checkpoints/drops_tiny_Xx152_p32.safetensors")
    """The model of any width."""
    strips: int = 64
    """Strips of 1280 pixels."""
    long_strips: int = 8
    """Strips of 10,000 pixels, one recording beside the other."""
    windows: tuple[int, ...] = (152, 304, 608)
    """Widths of the any-width model's windows."""
    overlaps: tuple[float, ...] = (0, 0.125, 0.25, 0.5)
    """Shares of the narrowest window; the others overlap by the last two."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: WindowsBenchmark) -> None:
    torch.set_num_threads(config.threads)
    fixed, any_width = (load_checkpoint(path) for path in (config.fixed, config.any_width))
    rows = []
    for width, count in ((WIDE, config.strips), (VERY_WIDE, config.long_strips)):
        strips = [strip(index, width) for index in range(count)]
        if width == WIDE:
            rows.append(figures("1280x152, one latent", strips, fixed.model, None))
        else:
            rows.append(figures("1280x152, windows of 1280, overlap 640", strips, fixed.model, (WIDE, WIDE // 2)))
        if width <= any_width.model.config.max_width:
            rows.append(figures("Xx152, one latent", strips, any_width.model, None))
        for window, share in settings(config):
            overlap = round(window * share)
            name = f"Xx152, windows of {window}, overlap {overlap}"
            rows.append(figures(name, strips, any_width.model, (window, overlap)))
    result = {
        "checkpoints": {path.name: one.digest for path, one in ((config.fixed, fixed), (config.any_width, any_width))},
        "latent_dim": fixed.model.config.latent_dim,
        "strips": {str(WIDE): config.strips, str(VERY_WIDE): config.long_strips},
        "rows": rows,
    }
    keep("windows", result, table(result), config.results)


def settings(config: WindowsBenchmark) -> list[tuple[int, float]]:
    """(window, share that overlaps)."""
    narrowest, *others = config.windows
    return [(narrowest, share) for share in config.overlaps] + [
        (window, share) for window in others for share in config.overlaps[-2:]
    ]


def strip(index: int, width: int) -> np.ndarray:
    """(152, width) uint8: frames of recordings from number `index` on, beside each other."""
    source = DropSource((152, WIDE))
    return np.concatenate([source.compose("test", index + n) for n in range(-(-width // WIDE))], axis=1)[:, :width]


def figures(
    name: str, strips: Sequence[np.ndarray], model: TransformerAutoencoder, setting: tuple[int, int] | None
) -> dict:
    """One method on strips (H, W) uint8 of one width; `setting` is (window, overlap), None: one latent."""
    width = strips[0].shape[1]
    started = time.process_time()
    if setting is None:
        recons = reconstruct(model, strips, batch_size=4)
        starts, window = [0], width
    else:
        window, overlap = setting
        starts = window_starts(width, window, overlap)
        recons = []
        for one in strips:
            windows = embed_windows(model, one / np.float32(255), window, overlap)
            recons.append(decode_windows(model, windows).clamp(0, 1).numpy())
    seconds = (time.process_time() - started) / len(strips)
    row = {"method": name, "width": width, "latents": len(starts), "cpu_seconds": seconds}
    row |= {key: value for key, value in summarise(strips, recons, "test").items() if key != "percentiles"}
    row["joint_ratio"] = joint_ratio(strips, recons, starts, window)
    print(row, flush=True)
    return row


def joint_ratio(
    strips: Sequence[np.ndarray], recons: Sequence[np.ndarray], starts: Sequence[int], window: int
) -> float | None:
    """Mean absolute step of the error where a window begins or ends, over that everywhere else; None for one window."""
    joints = sorted({column for start in starts for column in (start, start + window)} - {0, strips[0].shape[1]})
    if not joints:
        return None
    error = np.stack(recons).astype(np.float64) - np.stack(strips) / 255
    steps = np.abs(np.diff(error, axis=2)).mean(axis=(0, 1))  # between columns x and x + 1
    at_joint = np.isin(np.arange(1, error.shape[2]), joints)
    return float(steps[at_joint].mean() / steps[~at_joint].mean())


def table(result: dict) -> list[str]:
    """The rows as Markdown."""
    formats = {"psnr": ".2f", "ssim": ".3f", "mse": ".5f", "foreground_mse": ".4f", "r2": ".3f"}
    rows = []
    for row in result["rows"]:
        joints = "" if row["joint_ratio"] is None else f"{row['joint_ratio']:.2f}"
        figures = (format(row[name], form) for name, form in formats.items())
        start = (f"{row['width']:,} px", row["method"], row["latents"])
        rows.append([*start, *figures, joints, f"{row['cpu_seconds']:.2f}"])
    counts = result["strips"]
    header = ["strip", "method", "latents", "PSNR (dB)", "SSIM", "MSE", "foreground MSE", "R2", "joints", "processor s"]
    return [
        *grid(header, rows),
        "",
        f"{counts[str(WIDE)]} strips of 1,280 and {counts[str(VERY_WIDE)]} of 10,000 pixels, test split; a latent is "
        f"{result['latent_dim']} numbers, so more latents are more numbers for the same strip. Joints: mean absolute step of the "
        "error where a window begins or ends over that elsewhere; 1 = none shows. Processor time of one strip.",
    ]


if __name__ == "__main__":
    main(tyro.cli(WindowsBenchmark, description=__doc__))
