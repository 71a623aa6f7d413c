"""The steps of a run, whichever trainer takes them: its folder held, resumed or begun, its stops, its states, its end."""

import math
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from tae.store.atomic import naming, remove_leftovers
from tae.store.regular import read_json
from tae.training.command import RunConfig, shortened
from tae.training.distributed import LostProcessError, World, is_sharded
from tae.training.optim import lr_schedule
from tae.training.run import runs
from tae.training.run.log import TrainLog
from tae.training.run.state import TrainState, find_state, save_state, state_files

TELL_EVERY_S = 2
"""So often the status says how far a run is, besides the log, whose records are the same however fast it goes."""
Source = TypeVar("Source")
Record = TypeVar("Record")


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what is left."""


class Stopped(Exception):
    """Asked to stop before a step was taken."""


class NotFiniteError(ArithmeticError):
    """A step whose loss or gradient is no number; the weights are as they were."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.advice = advice


@contextmanager
def own_folder(config: RunConfig, world: World, open_source: Callable[[], Source]) -> Iterator[tuple[Path, Source]]:
    """Hold a run's folder, so that two runs never write into the same files; what goes wrong is told there too.

    Args:
        config: The run.
        world: Its processes; rank 0 alone reads and writes the folder.
        open_source: Opens what it learns from, which may take hours: after the run could have been refused, before the
            folder is touched.

    Raises:
        ValueError: If the run would replace another's files, or is not the one that it would go on with.
    """
    folder, is_held, is_training = runs.folder_of(config.out_path), False, False

    def tell(status: str, message: str = "") -> None:
        # The app may have begun this run, and waits: then its config lies there, and nothing else.
        is_awaited = (folder / "config.json").is_file() and not (folder / "status.json").exists()
        if world.is_main and (is_held or is_awaited):
            with suppress(OSError):  # the disk is full: the first error is the one to tell
                runs.write_status(folder, status, message, *runs.read_status(folder)[2:])

    with ExitStack() as stack:
        try:
            if world.is_main:
                _refuse_to_replace(config, folder)
            source = open_source()
            if world.is_main:
                stack.enter_context(runs.hold(folder))
                is_held = True
                _clear(config, folder)
                runs.write_config(folder, config)
            _must_share(folder, world)  # and the others wait for what rank 0 prepares
            is_training = True
            try:
                with naming(folder):
                    yield folder, source
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(_less_memory(config, world)) from error
        except (ValueError, OSError) as error:
            tell("failed", str(error))
            if is_training and not world.is_main and not isinstance(error, (TrainingError, LostProcessError)):
                error.add_note(f"rank {world.rank}")  # which the others know nothing of
            raise
        except BaseException as error:
            is_stopped = isinstance(error, (KeyboardInterrupt, GeneratorExit, Stopped))
            if runs.read_status(folder)[0] == "running":
                tell(
                    "stopped" if is_stopped else "failed",
                    "" if is_stopped else f"{type(error).__name__}: {error}"[:500],
                )
            raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice: of a GPU, of Python, or of PyTorch's allocator on a CPU, which has no error of its own."""
    told = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in told or "not enough memory" in told)
    )


def _less_memory(config: RunConfig, world: World) -> str:
    """A sentence with the batch size to try: about half, which all processes and parts can share."""
    share = world.size * getattr(config, "accumulate", 1)
    smaller = config.batch_size // 2 // share * share
    what = f"lower --batch-size from {config.batch_size} to {smaller}" if smaller else "take a smaller model"
    more = ", raise --accumulate, or add --use-gradient-checkpointing" if hasattr(config, "accumulate") else ""
    return f"the memory of the device does not suffice; {what}{more} (python -m tae.plan says what fits)"


def _must_share(folder: Path, world: World) -> None:
    """Refuse processes that do not all see rank 0's folder."""
    if world.size == 1:
        return
    mark = folder / world.shared(f".shared-{uuid.uuid4().hex}".encode()).decode()
    if world.is_main:
        mark.touch()
    world.sum(0)
    fault = "" if mark.exists() else f"another {folder} than rank 0"
    try:
        world.must_be_fine(
            "all machines must share the folder of the run, as on a network disk; name it by --out", fault
        )
    finally:
        if world.is_main:
            mark.unlink(missing_ok=True)


def _refuse_to_replace(config: RunConfig, folder: Path) -> None:
    if runs.is_running(folder):
        raise ValueError(f"another process is training in {folder}; wait for it, stop it, or choose another --out")
    is_begun = (folder / "log.jsonl").exists() or bool(state_files(folder))
    if config.resume and (is_begun or (folder / "config.json").exists()):
        try:
            before = config.from_dict(read_json(folder / "config.json", runs.MAX_TEXT_BYTES))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the run in {folder} cannot be resumed: its config.json cannot be read, {error}"
            ) from None
        changed = config.differences(before) + config.shortened(before)
        if changed:
            raise ValueError(
                f"a resumed run must be what it was; {'; '.join(changed)}; give the same values, or {config.NEW_RUN}"
            )
    elif not config.overwrite:
        if is_begun:
            raise ValueError(f"{folder} holds a run already; --resume goes on with it, --overwrite starts anew")
        if config.out_path.exists():
            and_no_run = ", and no run of it to resume" if config.resume else ""
            raise ValueError(f"{config.out_path} exists already{and_no_run}; choose another --out, or --overwrite it")


def _clear(config: RunConfig, folder: Path) -> None:
    """Leave nothing in the folder that this run would mistake for its own."""
    (folder / "stop").unlink(missing_ok=True)
    for leftovers_in in (folder, folder / "strips", folder / "snapshots"):
        remove_leftovers(leftovers_in)
    remove_leftovers(config.out_path.parent, config.out_path.name)
    if not config.resume:
        told = [*runs.strips(folder), *runs.snapshots(folder), *folder.glob("events.out.tfevents.*")]
        told += [folder / name for name in ("log.jsonl", "metrics.csv", "tracker.json")]
        for path in (*state_files(folder), *told):
            path.unlink(missing_ok=True)


def tell_skipped(skipped: Sequence[tuple[str, str]], notify: Callable[[str], None]) -> None:
    """Say which files are left out: the first twenty with the reason."""
    for name, reason in skipped[:20]:
        notify(f"skipped {name}: {reason}")
    if len(skipped) > 20:
        notify(f"skipped {len(skipped) - 20} more files")


class Loop(ABC, Generic[Record]):
    """Where a run stands, and its steps. A trainer makes its model, calls `_restore` where there is a state, and says how to
    learn, look and write.

    Resuming is exact: what a step does is a function of (seed, step) and the state, so that a run that was killed ends with
    the weights of one that was not (the same bits on a CPU with as many threads and processes). Only where the budget is one
    of time does the learning rate follow the clock.

    Attributes:
        state: What it goes on from; None: it begins.
        step: Steps done.
        asked: Steps that the budget comes to, where it is not one of time.
        steps: Steps in all; where the budget is one of time, an estimate, 0 while the pace is unknown.
        limit_s: Seconds of steps that a time budget allows; None: the budget is one of steps.
        leg: Step, and share of the run that was over, when it began or was prolonged.
        log: On rank 0, while it takes steps.
        command: Words on the legs before this one, for the card.
        curve: A dict for each look at what is held out.
        seconds: Time trained, resumed or not; cpu_seconds: the processor's.
    """

    def __init__(self, config: Any, source: Any, world: World, folder: Path, notify: Callable[[str], None]) -> None:
        self.config, self.source, self.world, self.folder, self.notify = config, source, world, folder, notify
        self.fingerprint: str = source.fingerprint
        self.asked: int = config.steps_on(getattr(source, "num_images", None))
        self.step, self.steps = 0, self.asked
        self.curve: list[dict] = []
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.limit_s: float | None = None
        self.leg = (0, 0.0)
        self.command = ""
        self.log: TrainLog | None = None
        self.state = None
        if config.resume:
            changed = f"the {config.learns_from} must be those that the run began with, and they have changed"
            self.state = find_state(folder, self.fingerprint, notify, f"{changed}; {config.NEW_RUN}", world)
        if self.state is not None:
            notify(f"resuming after step {self.state.step} of {self.state.values.get('steps', self.steps) or '?'}")
        torch.manual_seed(config.seed)

    @abstractmethod
    def _begin(self, stack: ExitStack) -> None:
        """Make ready what the steps need; what must end with them goes onto the stack."""

    @abstractmethod
    def _learn(self, lr_share: float) -> tuple[float, float]:
        """Take one optimizer step at this share of the learning rate; returns the loss and the norm of its gradient.

        Raises:
            NotFiniteError: If either is no number.
        """

    @abstractmethod
    def _look(self, loss: float) -> dict[str, Any]:
        """Measure what is held out, and add to the curve; returns fields of the record."""

    @abstractmethod
    def _record(self, loss: float, lr_share: float, grad_norm: float, pace: float, looked: dict[str, Any]) -> Record:
        """The record of a step; pace: seconds a step, of late."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """Tensors of the state, as they are."""

    @abstractmethod
    def _write(self, is_stopped: bool) -> Path | None:
        """Measure and write the checkpoint; returns its path, on rank 0."""

    def _values(self) -> dict[str, Any]:
        """Other values of the state."""
        return {}

    def _log(self, record: dict) -> None:
        assert self.log
        self.log.record(record)

    def _tell_figures(self, metrics: dict) -> None:
        """The final figures, for the log; before the first step there is none."""
        if self.log:
            self.log.end(self.step, metrics)

    def _before_state(self) -> None:
        """Called after each step, and once before the first."""

    @property
    def budget(self) -> tuple[str, float]:
        """("steps" or "minutes", how many are asked for)."""
        kind, count = self.config.budget
        return (kind, count) if kind == "minutes" else ("steps", self.asked)

    @property
    def commands(self) -> str:
        """What was typed, leg after leg, as a card tells it: one line where each leg but the last took all of its steps."""
        return self.command + self.config.command_words(self.world.size) + (" --resume" if self.command else "")

    @property
    def gone(self) -> float:
        """Share of the run that is over, 0 to 1: of its time where the budget is one of time, else of its steps."""
        return min(1.0, self.seconds / self.limit_s) if self.limit_s else self.step / self.steps

    def _prolong(self) -> None:
        """Begin another leg where the budget is another one than the state's.

        Raises:
            ValueError: If it is used up already, or is less.
        """
        if self.state is None:
            return
        values = self.state.values
        kind, count = self.budget
        before = values.get("budget") or (self.budget if kind == "minutes" else ("steps", values["steps"]))
        if tuple(before) == (kind, count):
            return
        done = self.step if kind == "steps" else self.seconds / 60
        if count <= done:
            raise ValueError(
                f"{done:.4g} {kind} of this run are done already; to prolong it, give --{kind} more than that"
            )
        if before[0] == kind and count < before[1]:
            raise ValueError(shortened(kind, before[1], count))
        self.steps = self.asked if kind == "steps" else 0
        if "config" in values:  # a state of before that was kept has none
            first = type(self.config).from_dict(values["config"]).command_words(self.world.size)
            is_whole = tuple(before) == ("steps", self.step)  # then one line repeats it
            then = " && " if is_whole else f" (to step {self.step}), then "
            self.command += f"{first}{' --resume' if self.command else ''}{then}"
        self.leg = (self.step, self.gone)
        self.notify(
            f"prolonged after step {self.step} to {count:g} {kind}: the learning rate rises to where it would be by now in a "
            "run of that length"
        )

    def _weights_in_state(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The model's weights of these names.

        Raises:
            ValueError: If the state lacks some.
        """
        assert self.state is not None
        found = {name: self.state.tensors.get(f"model.{name}") for name in names}
        missing = [name for name, tensor in found.items() if tensor is None]
        if missing:
            raise ValueError(f"the state must hold the model's weights, and lacks {', '.join(missing[:5])}")
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _restore(self, state: TrainState) -> None:
        values = state.values
        self.step, self.steps, self.curve = state.step, values.get("steps", self.steps), values["curve"]
        self.seconds, self.cpu_seconds = values["seconds"], values["cpu_seconds"]
        self.leg = tuple(values.get("leg", (0, 0.0)))
        self.command = values.get("command", "")

    def go(self, should_stop: Callable[[], int]) -> Generator[Record]:
        """Take the steps that are left; yields a record for each, the last one once the checkpoint is written.

        Args:
            should_stop: A `tae.training.run.terminal.Stop`, or whether to stop after the step.
        """
        config, world = self.config, self.world
        was_finished = bool(world.from_main(float(runs.read_status(self.folder)[0] == "finished")))
        with ExitStack() as stack:
            if world.is_main:
                runs.cut_log(self.folder, self.step)
                self._write_status("running")
                self.log = TrainLog(self.folder, self.step, config, self.notify)
                stack.callback(self.log.close)
            self._begin(stack)
            self._prolong()
            self._before_state()
            if self.step and self.step == self.steps:  # resumed after the last step
                self._end_again(was_finished)
                return
            started, cpu_started = time.monotonic() - self.seconds, time.process_time() - self.cpu_seconds
            last_save, save_took, paces = time.monotonic(), 0.0, deque(maxlen=50)
            told = -math.inf
            is_last = False
            while not is_last:
                began = time.monotonic()
                (first, over), gone = self.leg, self.gone
                risen = (gone - over) / (1 - over) if over < 1 else 1.0  # prolonged by less than measuring takes
                share = lr_schedule(gone, self.step - first, risen, config.warmup_steps)
                loss, grad_norm = self._learn_or_save(share)
                self.step += 1
                paces.append(time.monotonic() - began)
                self.cpu_seconds = time.process_time() - cpu_started
                wish = int(should_stop()) or int(runs.stop_asked(self.folder))
                asked, at_once, save_due, self.seconds = world.sum(
                    wish > 0,
                    wish > 1,
                    # A large state takes long to write: never more than a twentieth of the time, unless asked.
                    time.monotonic() - last_save
                    >= (max(config.save_every_s, 20 * save_took) if config.save_every_s else 0),
                    (time.monotonic() - started) * world.is_main,
                )
                if self.limit_s:
                    self._estimate_steps(float(np.mean(paces)))
                if world.is_main and time.monotonic() - told >= TELL_EVERY_S:
                    self._write_status("running", float(np.mean(paces)))
                    told = time.monotonic()
                is_stopped = bool(asked) and self.step != self.steps
                is_last = is_stopped or self.step == self.steps
                is_looked_at = not at_once and (is_last or self.step % config.eval_every == 0)
                looked = self._look(loss) if is_looked_at else {}
                record = self._record(loss, share, grad_norm, float(np.mean(paces)), looked)
                # Log and snapshots come before the state: a kill in between is made good, since a resumed run says again
                # what lies after its state, and nothing else.
                if world.is_main and (is_last or looked or self.step % config.log_every == 0):
                    self._log(_plain(record))
                self._before_state()
                if is_last or save_due:
                    last_save = time.monotonic()
                    self._save_state()
                    save_took, last_save = time.monotonic() - last_save, time.monotonic()
                if is_last and at_once:
                    if world.is_main:
                        self._write_status("stopped")
                    self.notify(f"the state after step {self.step} is saved; --resume goes on from it")
                elif is_last:
                    record = replace(record, saved=self._finish(is_stopped))  # type: ignore[type-var]
                yield record

    def _estimate_steps(self, pace: float) -> None:
        """How many steps a time budget allows at this many seconds a step; once the time is over, those done."""
        assert self.limit_s
        (pace,) = self.world.sum(pace / self.world.size)
        left = self.limit_s - self.seconds
        self.steps = self.step + max(1, round(left / pace)) if left > pace / 2 else self.step

    def _learn_or_save(self, share: float) -> tuple[float, float]:
        try:
            return self._learn(share)
        except NotFiniteError as error:
            kept = "nothing has been learnt yet"
            if self.step:
                self._save_state()
                kept = f"the state after step {self.step} is saved, and --resume would go on from it"
            raise TrainingError(f"{error} at step {self.step + 1}; {error.advice}; {kept}") from None

    def _save_state(self) -> None:
        told = ("fingerprint", "steps", "curve", "seconds", "cpu_seconds", "leg", "budget", "command")
        values = {name: getattr(self, name) for name in told} | {"config": self.config.to_dict()} | self._values()
        tensors = {
            name: tensor if is_sharded(tensor) else tensor.detach().cpu().contiguous()
            for name, tensor in self._tensors().items()
        }
        save_state(self.folder, TrainState(self.step, tensors, values), self.world)

    def _finish(self, is_stopped: bool) -> Path | None:
        path = self._write(is_stopped)
        if self.world.is_main:
            self._write_status("stopped" if is_stopped else "finished")
        return path

    def _end_again(self, was_finished: bool) -> None:
        out = self.config.out_path
        if was_finished and out.exists():
            if self.world.is_main:
                self._write_status("finished")
            self.notify(f"all {self.steps} steps are done, and {out} is there; nothing is left to do")
        else:  # killed before the checkpoint was written
            self._finish(False)
            self.notify(f"all {self.steps} steps were done; saved {out}")

    def _write_status(self, status: str, pace: float = 0.0) -> None:
        runs.write_status(self.folder, status, "", self.step, self.steps, pace)


def _plain(record: Any) -> dict:
    """The fields of a record that the log keeps: numbers that are numbers."""
    return {
        name: value
        for name, value in asdict(record).items()
        if name not in ("saved", "steps", "yardsticks") and value is not None and math.isfinite(value)
    }
