"""A report on images without the app: one HTML file with reconstructions, every attention map to explore, and figures.

    python -m tae.explain photograph.png --checkpoint checkpoints/x.safetensors --out report.html
    python -m tae.explain photographs "more/*.png" --checkpoint checkpoints/x.safetensors --out report.html --layer 1

The images come in natural order (img2 before img10), frame by frame; those that cannot be read are named and left out.
"""

import sys
from collections.abc import Sequence

from tae.cli import door, read
from tae.store.names import plain_text
from tae.web.report import MAX_IMAGES
from tae.web.report.job import ExplainConfig, Explained, explain


@door("stopped; no file is left half written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(ExplainConfig, arguments, __doc__)
    _tell(config, explain(config, is_quiet=False))
    return 0


def _tell(config: ExplainConfig, done: Explained) -> None:
    for name, reason in done.skipped[:10]:
        print(f"skipped {plain_text(name)}: {reason}")
    if len(done.skipped) > 10:
        print(f"... and {len(done.skipped) - 10} more, listed in the report")
    if done.beyond:
        print(
            f"left out {done.beyond} images beyond the first {config.max_images}; --max-images takes up to {MAX_IMAGES}"
        )
    if done.maps_bytes is not None:
        print(f"{config.maps}: {done.maps_bytes / 1e6:.1f} MB")
    print(f"{config.out}: {done.images} image{'s' * (done.images != 1)}, {done.size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
