"""Fits a checkpoint's lens and writes it beside it.

python -m tae.lens --checkpoint checkpoints/demo_tiny_201x201_p16.safetensors
"""

import sys

import tyro
from tqdm import tqdm

from tae.analysis.lens.states import depth_names
from tae.training.lens import LensConfig, fit_to_file


def main(args: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        config = tyro.cli(LensConfig, description=__doc__, args=args)
        with tqdm(unit=" images", disable=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            path, lens = fit_to_file(config, progress)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for part, one in lens.parts.items():
        print(f"{part}: PSNR on {lens.about['test_images']} test images, raw and tuned (dB)")
        for name, raw, tuned in zip(depth_names(len(one.weight)), one.psnr_raw, one.psnr_tuned, strict=True):
            print(f"  {name:16} {raw:6.2f} {tuned:6.2f}")
    print(f"{path}: {path.stat().st_size:,} bytes, {lens.about['cpu_seconds']} processor seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
