"""One training from start to end: the folder held, resumed or begun, saved, its end told."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import torch

from tae.store.atomic import remove_leftovers
from tae.training import runs
from tae.training.config import TrainConfig, differences
from tae.training.distributed import World, joined
from tae.training.loop import Trainer, TrainingError, TrainRecord, planned
from tae.training.sources import ImageSource, open_source
from tae.training.state import refuse_another_run, refuse_to_replace, refuse_to_share, state_files


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
