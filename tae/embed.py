"""Embed images in bulk: the latent of every image of a folder, of an array stack, of the pages of a TIFF, in one file.

    python -m tae.embed photographs --checkpoint checkpoints/x.safetensors --out photographs.parquet

The images come in natural order (img2 before img10), frame by frame. Work is done in parts, each kept in a file of the
folder <out>.parts as soon as it is whole: a process that was killed goes on from there when it is started again with
the same command, and the result is the same to the bit. At the end the parts become one file, and are removed. With --table,
the columns of a table go along. What one machine is too slow for is work for a cluster's own engine: tae/sequence/README.md has
recipes for Ray Data and Spark.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tae.cli import door, read
from tae.sequence.embedding_job import EmbedConfig, Written, embed_to_file
from tae.store.names import plain_text


@door("stopped; the same command goes on from here")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(EmbedConfig, arguments, __doc__)
    with tqdm(unit=" images", disable=None) as bar:

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.initial = done  # what was there before does not count for the pace
            bar.total, bar.n = total, done
            bar.refresh()

        written = embed_to_file(config, show)
    _report(config.out, written)
    return 0


def _report(out: Path, written: Written) -> None:
    for name, frame, reason in written.skipped[:5]:
        print(f"skipped {plain_text(name)}{f', frame {frame}' if frame else ''}: {reason}")
    if written.unreadable > 5:
        print(f"... and {written.unreadable - 5} more, listed in the file's metadata")
    if written.told:
        print(written.told)
    pace = "nothing was left to do" if written.images_per_s is None else f"{written.images_per_s:.1f} images/s"
    print(f"{out}: {written.images} images, {written.unreadable} unreadable, {pace}")


if __name__ == "__main__":
    sys.exit(main())
