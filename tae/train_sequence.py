"""Train an LSTM on an autoencoder's embeddings of image sequences; killed at any moment, it resumes exactly.

    python -m tae.train_sequence
    python -m tae.train_sequence path/to/sequences --checkpoint checkpoints/x.safetensors

A path holds animations (GIF, WebP), videos, .npy stacks (T, H, W), TIFF files of several pages, or folders of frames; without
one, glides along a rail are composed from the demo photographs. Ctrl-C stops after the current step and saves. The same
command with --resume goes on, whatever ended it.
"""

import signal
import sys
from collections.abc import Callable, Sequence

import tyro
from tqdm import tqdm

from tae.model.device import pick_device
from tae.sequence.data import SequenceSource
from tae.sequence.training import SequenceTrainConfig, _refuse_to_replace, open_sequences, train_sequence
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.training import runs
from tae.training.loop import TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        if stop_asked:
            raise KeyboardInterrupt
        stop_asked = True
        say("\nstopping after this step; Ctrl-C again to leave without saving")

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        config = tyro.cli(SequenceTrainConfig, args=arguments, description=__doc__)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask_to_stop)
        _refuse_to_replace(config, runs.folder_of(config.out_path))  # before hours of embedding, too
        loaded = load_checkpoint(config.checkpoint)
        loaded.model.to(pick_device(config.device))
        for record in train_sequence(config, loaded, _open(config, loaded, say), lambda: stop_asked, say):
            line = (
                f"step {record.step}/{record.steps}   loss {record.loss:.5f}   {record.sequences_per_s:.0f} sequences/s   "
                f"{record.seconds_left:.0f} s left"
            )
            if record.held_out_loss is not None:
                say(f"{line}   held-out {record.held_out_loss:.5f}, last latent copied {record.held_out_copy:.5f}")
            elif sys.stdout.isatty():
                print(f"\r\x1b[K{line}\r", end="", flush=True)
            if record.saved:
                say(f"saved {record.saved}")
    except KeyboardInterrupt:
        print("\nleft without saving; --resume goes on from the last state", file=sys.stderr)
        return 130
    except (ValueError, OSError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 130 if stop_asked else 0


def _open(config: SequenceTrainConfig, loaded: Loaded, say: Callable[[str], None]) -> SequenceSource:
    """Open the source with a bar, and say what it holds."""
    with tqdm(unit=" sequences", desc="embedding", disable=config.data == "demo" or not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        source = open_sequences(config, loaded, progress)
    for name, reason in source.skipped[:20]:
        say(f"skipped {name}: {reason}")
    if len(source.skipped) > 20:
        say(f"skipped {len(source.skipped) - 20} more")
    say(f"{source.num_sequences} {'glides' if config.data == 'demo' else 'clips an epoch'} to train on")
    return source


if __name__ == "__main__":
    sys.exit(main())
