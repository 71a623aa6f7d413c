"""Fit a checkpoint's lens and write it beside it.

python -m tae.lens --checkpoint checkpoints/demo_tiny_201x201_p16.safetensors
"""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from tae.analysis.lens.states import depth_names
from tae.cli import door, read
from tae.training.lens import LensConfig, fit_to_file


@door("stopped; no lens is written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(LensConfig, arguments, __doc__)
    with tqdm(unit=" images", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path, lens = fit_to_file(config, progress)
    for part, one in lens.parts.items():
        print(f"{part}: PSNR on {lens.about['test_images']} test images, raw and tuned (dB)")
        for name, raw, tuned in zip(depth_names(len(one.weight)), one.psnr_raw, one.psnr_tuned, strict=True):
            print(f"  {name:16} {raw:6.2f} {tuned:6.2f}")
    print(f"{path}: {path.stat().st_size:,} bytes, {lens.about['cpu_seconds']} processor seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
