"""Train an LSTM on an autoencoder's embeddings of image sequences; killed at any moment, it resumes exactly.

    python -m tae.train_sequence
    python -m tae.train_sequence path/to/sequences --checkpoint checkpoints/x.safetensors
    python -m tae.train_sequence path/to/sequences --target viscosity --checkpoint checkpoints/x.safetensors
    python -m tae.train_sequence --target viscosity

A path holds animations (GIF, WebP), videos, .npy stacks (T, H, W), TIFF files of several pages, or folders of frames; without
one, simulated recordings of drops. With --target, a column of the table beside the frames (CSV or
Parquet, see tae/sequence/table.py) is predicted, a number or a class, and the figures of held-out sequences stand beside those of
a mean, of linear models and of a run on shuffled targets. Ctrl-C stops after the current step and saves. The same
command with --resume goes on, whatever ended it.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tae.cli import door, read
from tae.sequence.config import SequenceRecord, SequenceTrainConfig
from tae.sequence.training import train_sequence
from tae.training.run.terminal import Terminal


@door("left without saving; --resume goes on from the last state")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(SequenceTrainConfig, arguments, __doc__)
    terminal = Terminal("embedding", " sequences")
    terminal.has_begun = True  # it asks in every phase
    records = train_sequence(config, None, None, terminal.should_stop, terminal.say, terminal.progress)
    return terminal.follow(_lines(records, "mean of the training targets" if config.target else "last latent copied"))


def _lines(records: Iterable[SequenceRecord], baseline: str) -> Iterator[tuple[str, bool, Path | None]]:
    for record in records:
        line = (
            f"step {record.step}/{record.steps}   loss {record.loss:.5f}   {record.sequences_per_s:.0f} sequences/s   "
            f"{record.seconds_left:.0f} s left"
        )
        if record.held_out_loss is not None:
            line += f"   held-out {record.held_out_loss:.5f}, {baseline} {record.held_out_copy:.5f}"
        yield line, record.held_out_loss is not None, record.saved


if __name__ == "__main__":
    sys.exit(main())
