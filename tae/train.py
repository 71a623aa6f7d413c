"""Train a transformer autoencoder on the demo data or on your own images; killed at any moment, it resumes exactly.

    python -m tae.train tiny --steps 3000
    python -m tae.train small --data ~/photographs --out checkpoints/photographs.safetensors
    torchrun --nproc_per_node=4 -m tae.train small --data ~/photographs

Ctrl-C stops after the current step and saves. The same command with --resume goes on, whatever ended it.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tae.cli import door, read
from tae.training.config import TrainConfig
from tae.training.distributed import leave
from tae.training.run.terminal import Terminal, clock
from tae.training.trainer import TrainRecord, train


@door("left without saving; --resume goes on from the last state", is_told_once=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(TrainConfig, arguments, __doc__)
    terminal = Terminal("reading", " files", "read {} of {} files")
    records = train(config, None, terminal.should_stop, terminal.say, terminal.progress)
    return terminal.follow(_lines(records))


def _lines(records: Iterable[TrainRecord]) -> Iterator[tuple[str, bool, Path | None]]:
    held_out = ""
    for record in records:
        if record.held_out_psnr is not None:
            best = max((one.psnr for one in record.yardsticks), default=record.held_out_psnr)
            held_out = (
                f"held-out {record.held_out_psnr:.2f} dB ({record.held_out_psnr - best:+.2f} to the best yardstick)   "
            )
        line = (
            f"step {record.step}/{record.steps or '?'}   loss {record.loss:.5f}   {held_out}"
            f"{record.images_per_s:.1f} images/s (reading {record.loader_images_per_s:.0f})   "
            f"{clock(record.seconds_left)} left"
        )
        yield line, record.held_out_psnr is not None, record.saved


if __name__ == "__main__":
    leave(main())
