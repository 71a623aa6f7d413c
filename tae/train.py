"""Train a transformer autoencoder on the demo data or on your own images; killed at any moment, it resumes exactly.

    python -m tae.train tiny --steps 3000
    python -m tae.train small --data ~/photographs --out checkpoints/photographs.safetensors
    torchrun --nproc_per_node=4 -m tae.train small --data ~/photographs

Ctrl-C stops after the current step and saves. The same command with --resume goes on, whatever ended it.
"""

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from tae import distributed, runs
from tae.distributed import World, joined, leave
from tae.sources import ImageSource, open_source
from tae.trainconfig import TrainConfig, differences
from tae.trainer import Trainer, TrainingError, TrainRecord, planned
from tae.trainstate import refuse_another_run, refuse_to_replace, refuse_to_share, state_files
from tae.wholefile import remove_leftovers


def train(
    config: TrainConfig,
    source: ImageSource | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    notify: Callable[[str], None] = lambda text: None,
) -> Generator[TrainRecord]:
    """Train and save; yields a record for each step. Under torchrun every process calls it, and rank 0 alone writes.

    Resuming is exact: the order of the data and all randomness are functions of (seed, step), and the state holds the
    rest, so that a run that was killed ends with the weights of one that was not (the same bits on a CPU with as many
    threads and processes).

    Args:
        config: What to train, on what, for how long.
        source: Images; None: those that `config.data` names.
        should_stop: Asked after each step; once true, the run looks at the held-out images, saves, and ends.
        notify: Called with a sentence about what was found or decided.

    Raises:
        ValueError: If the model, the data, the state or the starting checkpoint does not fit, or the run would replace
            another's files.
        TrainingError: If the loss or gradient is no longer a number; the state before that step is saved.
        OSError: If something cannot be written; what was saved before stays.
    """
    model_config = config.model_config  # refused before anything is read or written
    folder = runs.folder_of(config.out_path)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with ExitStack() as stack:
        world = stack.enter_context(joined(config.device))
        if config.batch_size % (world.size * config.accumulate):
            raise ValueError(
                "batch_size must be a multiple of processes times accumulate, got "
                f"{config.batch_size}, {world.size} and {config.accumulate}"
            )
        if world.is_main:
            _refuse_to_replace(config, folder)
        source = source or open_source(config)
        if world.is_main:
            stack.enter_context(runs.hold(folder))
            _prepare_folder(config, folder)
            runs.write_config(folder, config)
        world.sum(0.0)  # the others wait for what rank 0 prepares
        try:
            notify(planned(config, world)[0])
            trainer = Trainer(config, model_config, source, world, folder, notify)
            yield from trainer.go(should_stop)
        except torch.OutOfMemoryError as error:
            message = (
                "the memory of the device does not suffice; lower --batch-size, raise --accumulate, or add "
                "--use-gradient-checkpointing (python -m tae.plan says what fits)"
            )
            _write_failure(world, folder, message)
            raise TrainingError(message) from error
        except (ValueError, OSError, TrainingError) as error:
            _write_failure(world, folder, str(error))
            raise


def _refuse_to_replace(config: TrainConfig, folder: Path) -> None:
    """Two runs never write into the same files."""
    refuse_to_share(folder)
    if config.resume:
        before = runs.read_run(folder).config if (folder / "config.json").exists() else None
        changed = None if before is None else differences(before, config)
        refuse_another_run(
            changed, folder, "give the same values, or start a new run, with --init-from to keep what was learnt"
        )
    else:
        refuse_to_replace(folder, config.out_path, config.overwrite)


def _prepare_folder(config: TrainConfig, folder: Path) -> None:
    """Leave nothing in the folder that this run would mistake for its own."""
    (folder / "stop").unlink(missing_ok=True)
    for leftovers_in in (folder, folder / "strips", folder / "snapshots"):
        remove_leftovers(leftovers_in)
    remove_leftovers(config.out_path.parent, config.out_path.name)
    if not config.resume:
        told = [*runs.strips(folder), *runs.snapshots(folder), *folder.glob("events.out.tfevents.*")]
        for path in (*state_files(folder), *told, folder / "log.jsonl"):
            path.unlink(missing_ok=True)


def _write_failure(world: World, folder: Path, message: str) -> None:
    if world.is_main:
        try:
            _, _, step, steps = runs.read_status(folder)
            runs.write_status(folder, "failed", message, step, steps)
        except OSError:  # the disk is full: the first error is the one to tell
            pass


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
