"""Train a transformer autoencoder on the demo data or on your own images; killed at any moment, it resumes exactly.

    python -m tae.train tiny --steps 3000
    python -m tae.train small --data ~/photographs --out checkpoints/photographs.safetensors
    torchrun --nproc_per_node=4 -m tae.train small --data ~/photographs

Ctrl-C stops after the current step and saves. The same command with --resume goes on, whatever ended it.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from tqdm import tqdm

from tae.training import distributed, runs
from tae.training.config import TrainConfig
from tae.training.distributed import leave
from tae.training.loop import TrainingError
from tae.training.run import train
from tae.training.sources import ImageSource, open_source


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        if stop_asked:
            raise KeyboardInterrupt
        stop_asked = True
        say("\nstopping after this step; Ctrl-C again to leave without saving")

    is_main = distributed.rank_asked() == 0

    def say(text: str) -> None:
        if is_main:
            print(text, flush=True)

    folder: Path | None = None
    try:
        config = tyro.cli(TrainConfig, args=arguments, description=__doc__)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ask_to_stop)
        config.model_config  # noqa: B018 (refuses what cannot be built before the images are read)
        folder = runs.folder_of(config.out_path)
        source = _open(config, say)
        last_psnr = ""
        for record in train(config, source, lambda: stop_asked, say):
            if not is_main:
                continue
            if record.held_out_psnr is not None:
                last_psnr = f"held-out {record.held_out_psnr:.2f} dB   "
            line = (
                f"step {record.step}/{record.steps or '?'}   loss {record.loss:.5f}   {last_psnr}"
                f"{record.images_per_s:.1f} images/s (reading {record.loader_images_per_s:.0f})   "
                f"{_clock(record.seconds_left)} left"
            )
            is_news = record.held_out_psnr is not None or record.saved is not None
            if sys.stdout.isatty():
                print(f"\r\x1b[K{line}", end="\n" if is_news else "", flush=True)
            elif is_news:
                print(line, flush=True)
            if record.saved:
                say(f"saved {record.saved}")
    except KeyboardInterrupt:
        print("\nleft without saving; --resume goes on from the last state", file=sys.stderr)
        return 130
    except (ValueError, OSError, TrainingError) as error:
        if is_main:
            print(f"error: {error}", file=sys.stderr)
            _tell_folder(folder, str(error))
        return 1
    return 130 if stop_asked else 0


def _open(config: TrainConfig, say: Callable[[str], None]) -> ImageSource:
    """Open the source with a bar, and say what it holds."""
    with tqdm(
        total=None, unit=" files", desc="reading", disable=config.data == "demo" or not sys.stderr.isatty()
    ) as bar:

        def progress(read: int, total: int) -> None:
            bar.total = total
            bar.update(read - bar.n)
            if bar.disable and (read == total or read % max(1, total // 10) == 0):
                say(f"read {read} of {total} files")

        source = open_source(config, progress)
    for name, reason in source.skipped[:20]:
        say(f"skipped {name}: {reason}")
    if len(source.skipped) > 20:
        say(f"skipped {len(source.skipped) - 20} more files")
    if source.num_images is not None:
        say(f"{source.num_images} images to train on, {len(source.skipped)} files skipped")
    return source


def _tell_folder(folder: Path | None, message: str) -> None:
    """The app started this run and waits: what went wrong before the training began stands in its folder too."""
    if folder and (folder / "config.json").is_file() and not (folder / "status.json").exists():
        runs.write_status(folder, "failed", message)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


if __name__ == "__main__":
    leave(main())
