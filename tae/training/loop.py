"""One training: its parts, its steps, what it looks at and saves. `tae.train` starts and ends it."""

import math
import platform
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tae.analysis.evaluate import evaluate, reconstruct
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, size_in_words
from tae.model.device import DTYPES, pick_precision
from tae.model.metrics import psnr_of
from tae.store.checkpoint import Card, CheckpointError, load_checkpoint, save_checkpoint
from tae.training import distributed, runs
from tae.training.config import TrainConfig, command_line, config_from_dict, config_to_dict, run_id, snapshot_steps
from tae.training.distributed import World, memory_bytes
from tae.training.loader import Batch, Loader
from tae.training.log import TrainLog
from tae.training.optim import (
    WeightAverage,
    lr_schedule,
    make_optimizers,
    optimizer_tensors,
    restore_optimizers,
    set_lr,
    squared_errors,
)
from tae.training.plan import HEADROOM, plan
from tae.training.sources import ImageSource
from tae.training.state import TrainState, find_state, save_state

PACE_STEPS, PACE_SECONDS = 10, 20
"""A time budget becomes a number of steps after so many steps, or so much time if that is sooner."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what is left."""


@dataclass(frozen=True)
class TrainRecord:
    """One step.

    Attributes:
        step: Steps done, from 1.
        steps: Steps in all; 0 while a time budget is not yet turned into steps.
        loss: Mean squared error over the real pixels of the batch.
        lr: Muon's learning rate.
        grad_norm: Before clipping; nan where an fp16 gradient overflowed and the step was left out.
        images_per_s: Of the training, over the last steps.
        loader_images_per_s: What reading alone could deliver.
        seconds_left: Estimate from the pace so far.
        held_out_psnr: dB, where this step looked at the held-out images.
        saved: The checkpoint's path, where this step saved it.
    """

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    images_per_s: float
    loader_images_per_s: float
    seconds_left: float
    held_out_psnr: float | None = None
    saved: Path | None = None


class Trainer:
    """The parts of one training and where it stands."""

    def __init__(
        self,
        config: TrainConfig,
        model_config: ModelConfig,
        source: ImageSource,
        world: World,
        folder: Path,
        notify: Callable[[str], None],
    ) -> None:
        self.config, self.source, self.world, self.folder, self.notify = config, source, world, folder, notify
        self.precision = pick_precision(config.precision, world.device)
        self.fingerprint = source.fingerprint
        self.id = run_id(config, self.fingerprint)
        torch.manual_seed(config.seed)
        self.model = TransformerAutoencoder(model_config)
        self.history = {"steps": 0, "images_seen": 0, "seconds": 0, "cpu_seconds": 0, "curve": [], "command": ""}
        self.step, self.steps = 0, 0 if config.minutes else config.steps
        self.curve: list[dict] = []
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.last_snapshot = -1
        state = self._find_state()
        if state is not None:
            self._take_weights(state)
        elif config.init_from is not None:
            self._start_from(config.init_from)
        self.network = self._spread()
        self.optimizers = make_optimizers(self.model, config)
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == "fp16")  # type: ignore[attr-defined]
        if state is not None:
            self._restore(state)
        if config.use_compile:
            check_compiler(world.device)
            for block in (*self.model.encoder.blocks, *self.model.decoder.blocks):
                block.compile()  # in place, and block by block: all are alike, so that one compilation serves them

    # ---- where it starts

    def _find_state(self) -> TrainState | None:
        if not self.config.resume:
            return None
        state = find_state(
            self.folder,
            self.fingerprint,
            self.notify,
            f"the images of {self.config.data} must be those that the run began with, and they have changed; "
            "start a new run, with --init-from to keep what was learnt",
        )
        if state is not None:
            self.notify(f"resuming after step {state.step} of {state.values['steps'] or '?'}")
        return state

    def _start_from(self, path: Path) -> None:
        loaded = load_checkpoint(path)
        asked, found = asdict(self.model.config), asdict(loaded.model.config)
        free = ("use_flash_attention", "use_gradient_checkpointing", "dropout", "preset")
        differing = [
            f"{name}: asked {value!r}, found {found[name]!r}"
            for name, value in asked.items()
            if name not in free and found[name] != value
        ]
        if differing:
            raise ValueError(f"--init-from must hold the same model: {'; '.join(differing)}")
        self.model.load_state_dict(loaded.model.state_dict())
        self.history = {name: loaded.card.training.get(name, start) for name, start in self.history.items()}
        if self.history["command"]:
            self.history["command"] += f" (to step {self.history['steps']}), then "

    def _take_weights(self, state: TrainState) -> None:
        weights = {name: state.tensors.get(f"model.{name}") for name in self.model.state_dict()}
        missing = [name for name, tensor in weights.items() if tensor is None]
        if missing:
            raise ValueError(f"the state must hold the model's weights, and lacks {', '.join(missing[:5])}")
        self.model.load_state_dict(weights)  # strict: shapes too

    def _restore(self, state: TrainState) -> None:
        restore_optimizers(self.model, self.optimizers, state.tensors)
        if self.average is not None:
            for name, parameter in self.model.named_parameters():
                self.average.weights[name] = distributed.like(state.tensors[f"ema.{name}"], parameter)
        values = state.values
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self.step, self.steps, self.curve, self.history = (
            state.step,
            values["steps"],
            values["curve"],
            values["history"],
        )
        self.seconds, self.cpu_seconds = values["seconds"], values["cpu_seconds"]

    def _spread(self) -> torch.nn.Module:
        """Put the model where it computes; returns what the forward pass goes through."""
        world = self.world
        self.model.train()
        if world.size > 1 and self._is_sharded():
            if self.precision == "fp16":
                raise ValueError(
                    "parallel 'fsdp' must have precision bf16 or fp32, got fp16; choose one of these, or ddp"
                )
            distributed.shard(self.model, world)
            return self.model
        self.model.to(world.device)
        return distributed.replicate(self.model, world) if world.size > 1 else self.model

    def _is_sharded(self) -> bool:
        if self.config.parallel != "auto":
            return self.config.parallel == "fsdp"
        if self.world.device.type != "cuda":
            return False
        return self.world.any(not planned(self.config, self.world)[1])[0]

    # ---- the loop

    def go(self, should_stop: Callable[[], bool]) -> Generator[TrainRecord]:
        config, world = self.config, self.world
        self.log = TrainLog(self.folder, self.step) if world.is_main else None
        held_out = self.source.held_out(config.held_out_images)
        was_finished = bool(world.from_main(float(runs.read_status(self.folder)[0] == "finished")))
        if world.is_main:
            runs.write_status(self.folder, "running", step=self.step, steps=self.steps)
        kept = runs.snapshots(self.folder) if world.is_main else []
        self.last_snapshot = int(world.from_main(float(kept[-1].stem) if kept else -1.0))
        self._snapshot_if_due()
        started, cpu_started = time.monotonic() - self.seconds, time.process_time() - self.cpu_seconds
        last_save, save_took, paces = time.monotonic(), 0.0, deque(maxlen=50)
        first, first_step = self.history["images_seen"] // config.batch_size, self.step
        is_stopped = False
        loader = Loader(
            self.source,
            config.batch_size,
            first + self.step,
            first + self.steps if self.steps else sys.maxsize,
            world.rank,
            world.size,
            config.workers,
        )
        try:
            with loader:
                batches = iter(loader)
                while not is_stopped and (not self.steps or self.step < self.steps):
                    began = time.monotonic()
                    batch = next(batches)
                    share = lr_schedule(self.step, self.steps or sys.maxsize, config.warmup_steps)
                    try:
                        loss, grad_norm = self._learn(batch, share)
                    except _NotFiniteError as error:
                        kept = "nothing has been learnt yet"
                        if self.step:
                            self._save_state()
                            kept = f"the state after step {self.step} is saved, and --resume would go on from it"
                        raise TrainingError(
                            f"{error} at step {self.step + 1}; lower --muon-lr and --adamw-lr, or look at the images "
                            f"{self._names(batch, error.images)}; {kept}"
                        ) from None
                    self.step += 1
                    paces.append(time.monotonic() - began)
                    self.seconds, self.cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
                    asked, time_to_save = world.any(
                        should_stop() or runs.stop_asked(self.folder),
                        # A large state takes long to write: never more than a twentieth of the time, unless asked.
                        time.monotonic() - last_save
                        >= (max(config.save_every_s, 20 * save_took) if config.save_every_s else 0),
                    )
                    if not self.steps:
                        time_to_save = self._decide_steps(paces) or time_to_save
                    is_stopped = asked and self.step != self.steps
                    is_last = is_stopped or self.step == self.steps
                    held_out_psnr = None
                    if is_last or self.step % config.eval_every == 0:
                        held_out_psnr = self._look(held_out, loss)
                    pace = float(np.mean(paces))
                    record = TrainRecord(
                        self.step,
                        self.steps,
                        loss,
                        config.muon_lr * share,
                        grad_norm,
                        config.batch_size / pace,
                        loader.images_per_s * world.size,
                        pace * (self.steps - self.step) if self.steps else (config.minutes or 0) * 60 - self.seconds,
                        held_out_psnr,
                    )
                    # The log comes before the state: a kill between the two is made good, since a resumed run says again
                    # what lies after its state, and nothing else.
                    if self.log and (is_last or held_out_psnr is not None or self.step % config.log_every == 0):
                        self.log.record(_plain(record))
                    self._snapshot_if_due()  # before the state, for the same reason: what lies after it comes again
                    if is_last or time_to_save:
                        last_save = time.monotonic()
                        self._save_state()
                        save_took, last_save = time.monotonic() - last_save, time.monotonic()
                    yield replace(record, saved=self._finish(is_stopped)) if is_last else record
            if first_step == self.steps:  # resumed after the last step
                if was_finished and config.out_path.exists():
                    self.notify(
                        f"all {self.steps} steps are done, and {config.out_path} is there; nothing is left to do"
                    )
                    if world.is_main:
                        runs.write_status(self.folder, "finished", "", self.step, self.steps)
                else:  # killed before the checkpoint was written
                    self._finish(False)
                    self.notify(f"all {self.steps} steps were done; saved {config.out_path}")
        finally:
            if self.log:
                self.log.close()

    def _learn(self, batch: Batch, lr_share: float) -> tuple[float, float]:
        """One optimizer step; returns the loss over the whole batch, and the norm of its gradient.

        Raises:
            _NotFiniteError: If either is no number; the weights are as they were.
        """
        world, parts = self.world, self.config.accumulate
        torch.manual_seed(_seed_of(self.config.seed, self.step, world.rank))
        widths = batch.widths
        real = batch.images.shape[2] * (
            len(batch.images) * batch.images.shape[3] if widths is None else int(widths.sum())
        )
        (pixels,) = world.sum(real)
        errors = []
        size = len(batch.images) // parts
        for part in range(parts):
            chosen = slice(part * size, (part + 1) * size)
            images = batch.images[chosen].to(world.device, non_blocking=True)
            own_widths = None if widths is None else widths[chosen]
            with self._gradients_shared(part == parts - 1):
                with torch.autocast(world.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
                    recon, _ = self.network(images, widths=own_widths)
                error = squared_errors(recon, images, own_widths)
                # Processes average their gradients, and the mean is over the pixels of all: hence their number.
                self.scaler.scale(error.sum() * (world.size / pixels)).backward()
            errors.append(error.detach())
        error = torch.cat(errors)
        loss = world.sum(error.sum().item())[0] / pixels
        if not math.isfinite(loss):
            self._forget_gradients()
            raise _NotFiniteError("the loss is no longer a number", (~error.isfinite()).nonzero().flatten().tolist())
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = distributed.norm_of(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < 1):
            self._forget_gradients()
            raise _NotFiniteError("the gradient is no longer a number", [*range(len(error))])
        set_lr(self.optimizers, lr_share)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._forget_gradients()
        if self.average is not None:
            self.average.update(self.model, self.step)
        return loss, norm

    def _gradients_shared(self, is_last_part: bool):
        """Processes exchange gradients once a step, not once a part."""
        if isinstance(self.network, DistributedDataParallel) and not is_last_part:
            return self.network.no_sync()
        if self.world.size > 1 and self.network is self.model:
            self.model.set_requires_gradient_sync(is_last_part)  # type: ignore[operator]
        return nullcontext()

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _names(self, batch: Batch, numbers: list[int]) -> str:
        names = [self.source.describe(batch.draws[number]) for number in numbers[:5]]
        everyone = [text for text in self.world.gather(", ".join(names)) if text]
        return ", ".join(everyone)[:500] or "of this batch"

    def _decide_steps(self, paces: deque) -> bool:
        """Turn the time budget into steps, once the pace is known; returns whether it just did."""
        assert self.config.minutes is not None
        known = list(paces)[2:] or list(paces)  # the first steps warm up
        is_enough = self.step >= PACE_STEPS or (self.step >= 3 and self.seconds >= PACE_SECONDS)
        if not self.world.from_main(float(is_enough)):
            return False
        left = max(0.0, self.config.minutes * 60 - self.seconds)
        self.steps = self.step + max(1, int(self.world.from_main(left / float(np.mean(known)))))
        self.notify(f"{self.config.minutes:g} minutes are about {self.steps} steps here")
        return True

    # ---- looking and saving

    def _look(self, held_out: list[np.ndarray], loss: float) -> float:
        """Held-out PSNR, with the strip; the averaged weights where there are any."""
        with self._weights_to_show():
            recons = reconstruct(self.model, held_out)
        errors = [float(((a / 255.0 - b) ** 2).mean()) for a, b in zip(held_out, recons, strict=True)]
        psnr = float(np.mean([psnr_of(max(error, 1e-10)) for error in errors]))  # a perfect copy counts as 100 dB
        self.curve.append({"step": self.history["steps"] + self.step, "loss": loss, "held_out_psnr": psnr})
        if self.log:
            self.log.strip(self.step, held_out, recons)
        return psnr

    def _weights_to_show(self) -> ExitStack:
        stack = ExitStack()
        if self.average is not None:
            self.average.swap(self.model)
            stack.callback(self.average.swap, self.model)
        return stack

    def _save_state(self) -> None:
        values = {
            "config": config_to_dict(self.config),
            "fingerprint": self.fingerprint,
            "steps": self.steps,
            "curve": self.curve,
            "history": self.history,
            "scaler": self.scaler.state_dict(),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        tensors = {f"model.{name}": distributed.whole(tensor) for name, tensor in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self.model, self.optimizers)
        if self.average is not None:
            tensors |= {f"ema.{name}": distributed.whole(tensor) for name, tensor in self.average.weights.items()}
        if self.world.is_main:
            save_state(self.folder, TrainState(self.step, tensors, values))

    def _snapshot_if_due(self) -> None:
        """Keep the weights to show; of several that became due while a time budget had no steps yet, the last alone."""
        if self.step and self.step == self.steps:
            return  # the checkpoint is the last of them
        due = snapshot_steps(self.steps, self.config.snapshots) if self.steps else [0] * bool(self.config.snapshots)
        if not any(self.last_snapshot < step <= self.step for step in due):
            return
        self.last_snapshot = self.step
        (cpu_seconds,) = self.world.sum(self.cpu_seconds)
        with self._weights_to_show():
            weights = self._whole_weights()
        if not self.world.is_main:
            return
        try:  # a training goes on without them
            card = self._card(
                {}, cpu_seconds, False, f"A snapshot on the way, after {self.step:,} steps of run {self.id}."
            )
            (self.folder / "snapshots").mkdir(exist_ok=True)
            self._save(self.folder / "snapshots" / f"{self.step:08}.safetensors", weights, card)
        except CheckpointError:  # weights that are no numbers: the next step tells what is to be done
            return
        except (OSError, ValueError) as error:
            self.notify(f"no snapshot is kept after step {self.step}: {error}")

    def _finish(self, is_stopped: bool) -> Path | None:
        """Measure and write the checkpoint; returns its path, on rank 0."""
        config, source, world = self.config, self.source, self.world
        (cpu_seconds,) = world.sum(self.cpu_seconds)
        with self._weights_to_show():
            metrics = evaluate(
                self.model, source.test(config.test_images), "test" if source.name == "demo" else "held out"
            )
            weights = self._whole_weights()
        if not world.is_main:
            return None
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        path = self._save(config.out_path, weights, self._card(metrics, cpu_seconds, not is_stopped))
        runs.write_status(self.folder, "stopped" if is_stopped else "finished", "", self.step, self.steps)
        return path

    def _whole_weights(self) -> dict[str, Tensor]:
        """Of the model as it is, on the CPU; every process must ask."""
        return {name: distributed.whole(tensor) for name, tensor in self.model.state_dict().items()}

    def _save(self, path: Path, weights: dict[str, Tensor], card: Card) -> Path:
        with torch.device("meta"):  # names and shapes: the memory is that of the weights
            shown = TransformerAutoencoder(self.model.config)
        shown.load_state_dict(weights, assign=True)
        return save_checkpoint(path, shown, card)

    def _card(self, metrics: dict, cpu_seconds: float, is_finished: bool, notes: str = "") -> Card:
        """The model card after this step, of an untrained model before the first; cpu_seconds: of all processes."""
        config, source, world = self.config, self.source, self.world
        training = {
            "data": source.data,
            "command": self.history["command"] + command_words(config, world.size),
            "seed": config.seed,
            "steps": self.history["steps"] + self.step,
            "batch_size": config.batch_size,
            "images_seen": self.history["images_seen"] + self.step * config.batch_size,
            "seconds": round(self.history["seconds"] + self.seconds),
            "cpu_seconds": round(self.history["cpu_seconds"] + cpu_seconds),
            "hardware": _hardware(world),
            "precision": "fp32" if self.precision == "fp32" else f"{self.precision} autocast",
            "torch": torch.__version__,
            "run": self.id,
            "finished": is_finished,
            "curve": [*self.history["curve"], *self.curve],
        }
        name = config.name or f"{source.name} {config.preset} {size_in_words(config.input_size)}"
        return Card(
            name=name,
            training=training if training["steps"] else {},
            metrics=metrics,
            data=source.data,
            licence=source.licence,
            notes=notes,
        )


class _NotFiniteError(ArithmeticError):
    def __init__(self, text: str, images: list[int]) -> None:
        super().__init__(text)
        self.images = images


def planned(config: TrainConfig, world: World) -> tuple[str, bool]:
    """What one process's step will take, in a sentence, and whether its device has so much."""
    device = world.device.type
    precision = pick_precision(config.precision, world.device)
    share = config.batch_size // world.size
    it = plan(config.model_config, share, precision, config.accumulate, device=device, average=config.ema_decay > 0)
    has = memory_bytes(device)
    fits = not has or it.peak <= HEADROOM * has
    text = (
        f"{it.parameters:,} parameters, {it.num_tokens} tokens an image, {precision} on {device}; a step takes "
        f"{it.peak / 1e9:.2f} GB of memory" + (f", of {has / 1e9:.1f} GB that there are" if has else "")
    )
    if not fits:
        text += ": too much; lower --batch-size, raise --accumulate, or add --use-gradient-checkpointing"
    return text, fits


def check_compiler(device: torch.device) -> None:
    """Refuse compilation where it cannot work.

    Raises:
        ValueError: If there is no C++ compiler for the CPU.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ValueError("use_compile must have a C++ compiler on this machine, and there is none; leave it out")


def command_words(config: TrainConfig, processes: int = 1) -> str:
    """The command line that asks for this run, as a card shows it; folders by name alone, since a card travels."""
    told = config_to_dict(config) | {"resume": False, "overwrite": False}
    for name, path in (("out", config.out), ("init_from", config.init_from)):
        told[name] = path and path.name
    if config.data != "demo":
        told["data"] = Path(config.data).name or config.data
    words = [f"'{word}'" if set(word) & set(" *?[") else word for word in command_line(config_from_dict(told))]
    start = "python -m" if processes == 1 else f"torchrun --nproc_per_node={processes} -m"
    return " ".join([start, "tae.train", *words])


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _plain(record: TrainRecord) -> dict:
    """What the log keeps of a record: numbers that are numbers."""
    return {
        name: value
        for name, value in asdict(record).items()
        if name not in ("saved", "steps") and value is not None and math.isfinite(value)
    }


def _hardware(world: World) -> str:
    if world.device.type == "cuda":
        name = torch.cuda.get_device_name(world.device)
        return name if world.size == 1 else f"{world.size} x {name}"
    threads = torch.get_num_threads()
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    if world.size > 1:
        words = f"{world.size} processes of {words}"
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {words}"
