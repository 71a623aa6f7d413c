"""Training an autoencoder: its parts, its steps, what it looks at and saves."""

import hashlib
import math
import platform
import shutil
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tae.analysis.evaluate import evaluate, reconstruct
from tae.analysis.yardsticks import Yardstick, Yardsticks, mean_psnr, num_examples, verdict
from tae.data.built_in import BUILT_IN
from tae.data.white import AS_FILE
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, size_in_words
from tae.model.device import DTYPES, MuonPrecision, Precision
from tae.model.transfer import transfer
from tae.store.checkpoint import Card, CheckpointError, load_checkpoint, save_checkpoint
from tae.training import distributed
from tae.training.config import TrainConfig, run_id, snapshot_steps
from tae.training.distributed import World, joined, memory_bytes
from tae.training.images.index import write_index
from tae.training.images.loader import Batch, Loader
from tae.training.images.sources import FileSource, ImageSource, open_for_all
from tae.training.optim import (
    WeightAverage,
    make_optimizers,
    optimizer_tensors,
    restore_optimizers,
    set_lr,
    squared_errors,
)
from tae.training.planning.advice import TRIED_ON, best_beginning, shipped_that_fit
from tae.training.planning.plan import HEADROOM, plan
from tae.training.precision import pick_muon_precision, pick_precision
from tae.training.run import runs
from tae.training.run.loop import Loop, NotFiniteError, own_folder, tell_skipped
from tae.training.run.state import TrainState, read_shards, shapes_in
from tae.training.run.tracker import check_tracker

FEW_STEPS = 300
"""A run of fewer teaches little but the mean image."""
PACE_STEPS = 10
"""After so many steps, a time budget is told in steps."""
MAY_DIFFER = ("workers", "threads", "device")
"""Settings that suit each machine."""
TRIAL_IMAGES = 8
"""How long the last measurements take is told by so many images."""


@dataclass(frozen=True)
class TrainRecord:
    """One step.

    Attributes:
        step: Steps done, from 1.
        steps: Steps in all; of a time budget an estimate.
        loss: Mean squared error over the real pixels of the batch.
        lr: Muon's learning rate.
        grad_norm: Before clipping; nan where an fp16 gradient overflowed and the step was left out.
        images_per_s: Pace of the training, over the last steps.
        loader_images_per_s: What reading alone could deliver.
        seconds_left: Estimate from the pace so far.
        held_out_psnr: dB, where this step looked at the held-out images.
        yardsticks: What simple codes reach on the same images, where it looked; on rank 0.
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
    yardsticks: tuple[Yardstick, ...] = ()
    saved: Path | None = None


def train(
    config: TrainConfig,
    source: ImageSource | None = None,
    should_stop: Callable[[], int] = lambda: False,
    notify: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[TrainRecord]:
    """Train and save; yields a record for each step. Under torchrun every process calls it, and rank 0 alone writes.

    Args:
        config: What to train, on what, for how long.
        source: Images; None: those that `config.data` names.
        should_stop: Asked after each step; once true, the run looks at the held-out images, saves, and ends; where it is
            `Stop.AT_ONCE`, it saves its state alone.
        notify: Called with a sentence about what was found or decided.
        progress: Called with (files read, files in all) while they are opened.

    Raises:
        ValueError: If the model, the data, the state or the starting checkpoint does not fit, or the run would replace
            another's files.
        TrainingError: If the loss or gradient is no longer a number; the state before that step is saved.
        OSError: If something cannot be written; what was saved before stays.
    """
    model_config = config.model_config  # refused before anything is read or written
    check_tracker(config.tracker)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with joined(config.device, config.timeout_minutes) as world:
        if config.batch_size % (world.size * config.accumulate):
            raise ValueError(
                "batch_size must be a multiple of processes times accumulate, got "
                f"{config.batch_size}, {world.size} and {config.accumulate}"
            )
        asked = {name: str(value) for name, value in config.to_dict().items() if name not in MAY_DIFFER}
        world.must_agree("code and settings", {"tae": code_digest(), "torch": torch.__version__.split("+")[0], **asked})

        def images() -> ImageSource:
            if source is not None:
                return source
            opened = open_for_all(config, world, runs.folder_of(config.out_path), progress)
            tell_skipped(opened.skipped, notify)
            if opened.num_images is not None:
                notify(f"{opened.num_images} images to train on, {len(opened.skipped)} files skipped")
            for remark in opened.remarks:
                notify(remark)
            return opened

        with own_folder(config, world, images) as (folder, found):
            if isinstance(found, FileSource) and world.is_main:
                write_index(folder, found.index)
            notify(planned(config, world)[0])
            told = len(found.skipped)
            try:
                yield from Trainer(config, model_config, found, world, folder, notify).go(should_stop)
            finally:
                tell_skipped(found.skipped[told:], notify)  # where images are first read as their turn comes


class Trainer(Loop[TrainRecord]):
    """The parts of one training."""

    def __init__(
        self,
        config: TrainConfig,
        model_config: ModelConfig,
        source: ImageSource,
        world: World,
        folder: Path,
        notify: Callable[[str], None],
    ) -> None:
        super().__init__(config, source, world, folder, notify)
        self.steps = 0 if config.minutes else self.asked
        kept = self.state.values if self.state else {}
        self.precision: Precision = kept.get("precision") or world.agreed(precision_of(config, world), DTYPES)
        self.id = kept.get("id") or run_id(config, self.fingerprint)
        self.model = TransformerAutoencoder(model_config)
        self.history: dict[str, Any] = {
            "steps": 0,
            "images_seen": 0,
            "seconds": 0,
            "cpu_seconds": 0,
            "curve": [],
            "command": "",
        }
        self.last_snapshot, self.num_test, self.num_skipped = -1, config.test_images, len(source.skipped)
        if self.state is not None and self.state.values.get("config", {}).get("init_from"):
            self.config = replace(
                config, init_from=Path(self.state.values["config"]["init_from"])
            )  # chosen when it began
        if self.state is not None and self.state.shards is None:
            self.model.load_state_dict(self._weights_in_state(self.model.state_dict()))  # strict: shapes too
        elif self.state is None:
            self._begin_with_another()
        self.network = self._spread()
        self.muon_precision: MuonPrecision = kept.get("muon_precision") or world.agreed(
            pick_muon_precision(config.muon_precision, self.model), DTYPES
        )
        self.optimizers = make_optimizers(self.model, config, self.muon_precision)
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.precision == "fp16")  # type: ignore[attr-defined]
        if self.state is not None:
            self._restore(self.state)
        if config.use_compile:
            check_compiler(world.device)
            for block in (*self.model.encoder.blocks, *self.model.decoder.blocks):
                block.compile()  # in place, and block by block: all are alike, so that one compilation serves them

    # ---- where it starts

    def _begin_with_another(self) -> None:
        """The weights of the checkpoint that is asked for, or of the shipped one that draws images of the user's own best."""
        path = self.config.init_from
        if path is None and self.config.warm_start and self.source.num_images is not None:
            path = self._shipped()
            self.config = replace(self.config, init_from=path)
        if path is None:
            return
        before = self._start_from(path)
        if before is not None:
            self.history = {name: before.get(name, start) for name, start in self.history.items()}
            if self.history["command"]:
                self.history["command"] += f" (to step {self.history['steps']}), then "

    def _shipped(self) -> Path | None:
        """The shipped checkpoint that fits and, by rank 0's figures, draws such images best."""
        shipped = {one.name: one for one in shipped_that_fit(self.model.config)}
        found = None
        if self.world.is_main and shipped:
            found = best_beginning(self.model, [*shipped.values()], [*self.source.examples(TRIED_ON)])
        name = self.world.shared(found.path.name.encode() if found else b"").decode()
        fault = f"no {name} in its folder of checkpoints" if name and name not in shipped else ""
        self.world.must_be_fine("all processes must have the shipped model to begin with, or --no-warm-start", fault)
        if found:
            self.notify(
                f"begins with a model that draws such images with {found.psnr:.2f} dB; --no-warm-start to begin anew"
            )
        return shipped[name] if name else None

    def _start_from(self, path: Path) -> dict[str, Any] | None:
        """Take over its weights; its training, where it is the same model of the same images, whose steps are this one's too."""
        loaded = load_checkpoint(path)
        asked, found = asdict(self.model.config), asdict(loaded.model.config)
        free = ("use_flash_attention", "use_gradient_checkpointing", "dropout", "preset")
        self.notify(f"begins with {path.name}: {transfer(self.model, loaded.model)}")
        is_alike = all(found[name] == value for name, value in asked.items() if name not in free)
        return loaded.card.training if is_alike and loaded.card.data == self.source.data else None

    def _restore(self, state: TrainState) -> None:
        super()._restore(state)
        if state.shards is not None:
            self._read_shards(state.shards)
        else:
            restore_optimizers(self.model, self.optimizers, state.tensors)
            if self.average is not None:
                for name, parameter in self.model.named_parameters():
                    self.average.weights[name] = distributed.like(state.tensors[f"ema.{name}"], parameter)
        if state.values["scaler"]:
            self.scaler.load_state_dict(state.values["scaler"])
        self.history = state.values["history"]
        kept = runs.snapshots(self.folder) if self.world.is_main else []
        last = float(kept[-1].stem) if kept else -1.0
        self.last_snapshot = state.values.get("snapshot_place", int(self.world.from_main(last)))

    def _read_shards(self, shards: Path) -> None:
        """Fill what is there from the parts of a state; what the optimizers keep is made for it first."""
        shapes = shapes_in(shards)
        kept: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            start = f"optim.{name}."
            for whole_name in (one for one in shapes if one.startswith(start)):
                alike = shapes[whole_name] == tuple(parameter.shape)
                kept[whole_name] = torch.zeros_like(parameter) if alike else torch.zeros(shapes[whole_name])
        restore_optimizers(self.model, self.optimizers, kept)
        read_shards(shards, self._tensors())

    def _spread(self) -> torch.nn.Module:
        """Put the model where it computes; returns what the forward pass goes through."""
        world = self.world
        self.model.train()
        if world.size > 1 and self._is_sharded():
            if self.precision == "fp16":
                raise ValueError(
                    "parallel 'fsdp' must have precision bf16 or fp32, got fp16; choose one of these, or ddp"
                )
            distributed.shard(self.model, world, self.config.parallel == "hsdp")
            return self.model
        self.model.to(world.device)
        return distributed.replicate(self.model, world) if world.size > 1 else self.model

    def _is_sharded(self) -> bool:
        if self.config.parallel != "auto":
            return self.config.parallel in ("fsdp", "hsdp")
        if self.world.device.type != "cuda":
            return False
        return self.world.any(not planned(self.config, self.world)[1])[0]

    # ---- the steps

    def _prolong(self) -> None:
        leg = self.leg
        super()._prolong()
        if self.leg != leg:
            self.last_snapshot = int(1e6 * self.gone) if self.limit_s else self.step

    def _begin(self, stack: ExitStack) -> None:
        config, world = self.config, self.world
        began = time.monotonic()
        self.held_out = self.source.held_out(config.held_out_images)
        self.measured: list[Yardstick] = []
        if world.is_main:
            self._measure_yardsticks()
        if config.epochs:
            self.notify(f"{config.epochs} epochs of {self.source.num_images} images are {self.asked} steps")
        if not config.minutes and self._few(self.asked):
            self.notify(f"{self.asked} steps are asked for{self._few(self.asked)}")
        if config.minutes:
            budget = 60 * config.minutes
            reserve = self._seconds_to_end(budget)
            until_now = min(budget / 3, time.monotonic() - began)
            # Rank 0's on all: it alone measures yardsticks, and a limit of its own would give each rank another schedule.
            self.limit_s = world.from_main(budget - until_now - reserve)
        first = self.history["images_seen"] // config.batch_size
        last = sys.maxsize if config.minutes else first + self.asked
        self.loader = stack.enter_context(
            Loader(self.source, config.batch_size, first + self.step, last, world.rank, world.size, config.workers)
        )
        self.batches = iter(self.loader)

    def _measure_yardsticks(self) -> None:
        """Fit them to as many images as the run will see, and tell what they reach on the held-out ones."""
        config = self.config
        count = num_examples(config.input_size[0] * (config.input_size[1] or config.max_width))
        if not config.minutes:
            count = min(count, self.asked * config.batch_size)
        self.yardsticks = Yardsticks(self.source.examples(count), self.model.config.latent_dim)
        self.measured = self.yardsticks.measure(self.held_out)
        told = ", ".join(f"{one.name} {one.psnr:.2f} dB" for one in self.measured)
        self.notify(f"to be beaten on the {len(self.held_out)} held-out image{'s' * (len(self.held_out) != 1)}: {told}")

    def _estimate_steps(self, pace: float) -> None:
        super()._estimate_steps(pace)
        taken = self.step - self.leg[0]
        if taken == PACE_STEPS or taken < PACE_STEPS and self.step == self.steps:
            self.notify(f"{self.config.minutes:g} minutes are about {self.steps} steps here{self._few(self.steps)}")

    def _few(self, steps: int) -> str:
        """A warning to append where a run from random weights is so short that it can teach little; else nothing."""
        if steps >= FEW_STEPS or self.config.init_from is not None:
            return ""
        return (
            f": too few for more than a blur, which takes {FEW_STEPS} or more; give more --steps or --minutes, take a smaller "
            "preset or larger patches, or begin with a trained model by --init-from"
        )

    def _seconds_to_end(self, budget: float) -> float:
        """Time that measuring after the last step will take, from a few images."""
        config, began = self.config, time.monotonic()
        images = self.source.test(min(TRIAL_IMAGES, config.test_images))
        evaluate(self.model, images, "trial")
        took = (time.monotonic() - began) * (config.test_images + len(self.held_out)) / max(1, len(images))
        (took,) = self.world.sum(took / self.world.size)
        if took > budget / 3:
            self.num_test = max(1, int(config.test_images * budget / 3 / took))
            self.notify(
                f"measuring {config.test_images} test images would take about {took:.0f} of {budget:.0f} seconds: "
                f"{self.num_test} are measured"
            )
        return min(took, budget / 3)

    def _record(
        self, loss: float, lr_share: float, grad_norm: float, pace: float, looked: dict[str, Any]
    ) -> TrainRecord:
        config = self.config
        return TrainRecord(
            self.step,
            self.steps,
            loss,
            config.muon_lr * lr_share,
            grad_norm,
            config.batch_size / pace,
            self.loader.images_per_s * self.world.size,
            self.limit_s - self.seconds if self.limit_s else pace * (self.steps - self.step),
            **looked,
        )

    def _log(self, record: dict) -> None:
        record |= {one.key: one.psnr for one in self.measured} if "held_out_psnr" in record else {}
        if self.limit_s:
            record["steps"] = self.steps  # an estimate, which nothing else tells
        super()._log(record)

    def _learn(self, lr_share: float) -> tuple[float, float]:
        batch = next(self.batches)
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
            odd = (~error.isfinite()).nonzero().flatten().tolist()
            raise NotFiniteError("the loss is no longer a number", self._advice(batch, odd))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = distributed.norm_of(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < 1):
            self._forget_gradients()
            raise NotFiniteError("the gradient is no longer a number", self._advice(batch, [*range(len(error))]))
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

    def _advice(self, batch: Batch, numbers: list[int]) -> str:
        names = [self.source.describe(batch.draws[number]) for number in numbers[:5]]
        everyone = [text for text in self.world.gather(", ".join(names)) if text]
        images = ", ".join(everyone)[:500] or "of this batch"
        return f"lower --muon-lr and --adamw-lr, or look at the images {images}"

    # ---- looking and saving

    def _look(self, loss: float) -> dict[str, Any]:
        """Held-out PSNR, with the strip; of the averaged weights where there are any."""
        held_out = self.held_out
        with self._weights_to_show():
            recons = reconstruct(self.model, held_out)
        psnr = mean_psnr([image / 255.0 for image in held_out], recons)
        self.curve.append({"step": self.history["steps"] + self.step, "loss": loss, "held_out_psnr": psnr})
        if self.log:
            self.log.strip(self.step, held_out, recons)
        return {"held_out_psnr": psnr, "yardsticks": tuple(self.measured)}

    def _weights_to_show(self) -> ExitStack:
        stack = ExitStack()
        if self.average is not None:
            self.average.swap(self.model)
            stack.callback(self.average.swap, self.model)
        return stack

    def _values(self) -> dict:
        return {
            "history": self.history,
            "id": self.id,
            "snapshot_place": self.last_snapshot,
            "precision": self.precision,
            "muon_precision": self.muon_precision,
            "scaler": self.scaler.state_dict(),
        }

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        tensors |= optimizer_tensors(self.model, self.optimizers)
        if self.average is not None:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.average.weights.items()}
        return tensors

    def _before_state(self) -> None:
        """Keep a snapshot where one is due; of several that became due within a step, the last alone."""
        if self.step and self.step == self.steps:
            return  # the checkpoint is the last of them
        place, whole = (int(1e6 * self.gone), 10**6) if self.limit_s else (self.step, self.steps)
        if not any(self.last_snapshot < due <= place for due in snapshot_steps(whole, self.config.snapshots)):
            return
        self.last_snapshot = place
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

    def _write(self, is_stopped: bool) -> Path | None:
        config, source, world = self.config, self.source, self.world
        unread = len(source.skipped) - self.num_skipped  # where images are first read as their turn comes
        cpu_seconds, in_all = world.sum(self.cpu_seconds, unread)
        if in_all > unread:
            self.notify(
                f"{in_all:.0f} images could not be read, counted by each of {world.size} processes; {unread} by this one"
            )
        images = source.test(self.num_test)
        with self._weights_to_show():
            metrics = evaluate(self.model, images, "test" if config.data in BUILT_IN else "held out")
            weights = self._whole_weights()
        if not world.is_main:
            return None
        measured = self.yardsticks.measure(images)
        metrics["yardsticks"] = {one.key: one.psnr for one in measured}
        self._tell_figures(metrics)
        if "psnr" in metrics:
            self.notify(f"on {len(images)} {metrics['split']} images: {verdict(metrics['psnr'], measured)[1]}")
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        return self._save(config.out_path, weights, self._card(metrics, cpu_seconds, not is_stopped))

    def _whole_weights(self) -> dict[str, Tensor]:
        """Weights of the model as it is, on the CPU of rank 0 alone; every process must ask."""
        weights = {}
        for name, tensor in self.model.state_dict().items():
            full = distributed.unsharded(tensor)
            if self.world.is_main:
                weights[name] = distributed.whole(full)
        return weights

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
            "command": self.history["command"] + self.commands,
            "seed": config.seed,
            "steps": self.history["steps"] + self.step,
            "batch_size": config.batch_size,
            "images_seen": self.history["images_seen"] + self.step * config.batch_size,
            "seconds": round(self.history["seconds"] + self.seconds),
            "cpu_seconds": round(self.history["cpu_seconds"] + cpu_seconds),
            "hardware": _hardware(world),
            "precision": f"{self.precision}{'' if self.precision == 'fp32' else ' autocast'}, Muon {self.muon_precision}",
            "torch": torch.__version__,
            "run": self.id,
            "finished": is_finished,
            "curve": [*self.history["curve"], *self.curve],
        }
        if source.white.decided or source.white != AS_FILE:
            training["white"] = source.white.to_dict()
        if config.fit != TrainConfig.fit:
            training["fit"] = config.fit
        name = config.name or f"{source.name} {config.preset} {size_in_words(config.input_size)}"
        return Card(
            name=name,
            training=training if training["steps"] else {"steps": 0},
            metrics=metrics,
            data=source.data,
            licence=source.licence,
            notes=notes,
        )


@cache
def code_digest() -> str:
    """Tells this version of the package from others: the start of the SHA-256 of its Python files."""
    home, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(path.relative_to(home).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def precision_of(config: TrainConfig, world: World) -> Precision:
    """The precision of a process, unless another machine among them decides otherwise."""
    images = config.batch_size // (world.size * config.accumulate)
    return pick_precision(config.precision, world.device, config.model_config, images)


def planned(config: TrainConfig, world: World) -> tuple[str, bool]:
    """A sentence on the needs of one process's step, and whether its device has so much."""
    device = world.device.type
    precision = precision_of(config, world)
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


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _hardware(world: World) -> str:
    if world.device.type == "cuda":
        name = torch.cuda.get_device_name(world.device)
        return name if world.size == 1 else f"{world.size} x {name}"
    threads = torch.get_num_threads()
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    if world.size > 1:
        words = f"{world.size} processes of {words}"
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {words}"
