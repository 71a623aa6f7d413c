"""Training an LSTM on the latents of image sequences: config, steps, resume, what is measured."""

import json
import math
import platform
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from tae.model.device import pick_device
from tae.sequence.checkpoint import save_sequence
from tae.sequence.data import DemoSequences, Embedder, FileSequences, SequenceSource
from tae.sequence.forecast import evaluate_forecasts
from tae.sequence.metric import decoder_metric
from tae.sequence.model import SequenceModel, pad_sequences
from tae.store.atomic import remove_leftovers, write_whole
from tae.store.card import Card
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.training import runs
from tae.training.loop import TrainingError
from tae.training.optim import lr_schedule, optimizer_tensors, restore_optimizers, set_lr
from tae.training.state import (
    TrainState,
    find_state,
    refuse_another_run,
    refuse_to_replace,
    refuse_to_share,
    save_state,
    state_files,
)

FREE_TO_CHANGE = ("resume", "overwrite", "log_every", "save_every_s", "name", "cache", "test_sequences")
"""What may differ when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class SequenceTrainConfig:
    """One training; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range or does not fit another.
    """

    data: Annotated[str, tyro.conf.Positional] = "demo"
    """"demo": glides composed from garment photographs; else a file or folder, see above."""
    checkpoint: Path = Path("checkpoints/demo_tiny_201x201_p16.safetensors")
    """The autoencoder; it stays as it is."""
    fit: Literal["pad", "crop", "stretch"] = "pad"
    """How frames come to the autoencoder's size."""

    hidden_dim: int = 256
    """Of the LSTM."""
    num_layers: int = 2
    """Of the LSTM."""
    dropout: float = 0.0
    """Between its layers."""

    loss: Literal["metric", "latent", "decoded"] = "metric"
    """What an error of a predicted latent costs. metric: about its error in pixels, by the decoder's derivative; latent: its
    squared distance; decoded: its error in pixels, which takes far longer."""
    rollout_steps: int = 0
    """Besides the next frame, this many are predicted in a row, from a random frame on, and learnt from. On the demo glides
    that slows the learning of both."""
    steps: int = 4000
    """Optimizer steps."""
    batch_size: int = 64
    """Clips a step."""
    clip_frames: int = 16
    """Longest clip of a file; demo glides have 16 frames."""
    sequences: int = 16_000
    """Demo glides to train on; they are embedded as they are needed."""
    lr: float = 5e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises; then it falls as a cosine to 2 %."""
    clip_norm: float = 1.0
    """Ceiling of the gradient's norm."""
    seed: int = 0
    """Of the weights, the order of the data, dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: int | None = None
    """CPU threads; None: PyTorch's choice. The weights are the same to the bit only for the same number."""

    eval_every: int = 200
    """Steps between looks at the held-out sequences."""
    held_out_sequences: int = 128
    """Held-out sequences to watch the training by."""
    test_sequences: int = 256
    """Sequences for the final figures on the card: of the demo's test split, or held-out ones of yours."""
    log_every: int = 20
    """Steps between lines of the log."""
    save_every_s: float = 60
    """Seconds between saves of the whole state, from which --resume goes on; 0: after each step."""
    max_unreadable: float = 0.1
    """Share of unreadable sequences at which the run refuses to start."""
    cache: Path | None = None
    """Folder of embeddings, by content; None: .embeddings beside the run."""

    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/sequences/<data>_<autoencoder>.safetensors. State and logs go to runs/
    beside it."""
    name: str | None = None
    """Name that the app shows."""
    resume: bool = False
    """Go on from the newest whole state of this run."""
    overwrite: bool = False
    """Start anew where --out or an earlier run's state exists, and replace them."""

    def __post_init__(self) -> None:
        whole = ("steps", "batch_size", "sequences", "eval_every", "held_out_sequences", "test_sequences", "log_every")
        for name, low, high in (
            *((name, 1, 10**9) for name in whole),
            ("hidden_dim", 1, 8192),
            ("num_layers", 1, 16),
            ("clip_frames", 2, 100_000),
            ("rollout_steps", 0, 10_000),
            ("warmup_steps", 0, 2**31 - 1),
            ("seed", 0, 2**31 - 1),
            ("threads", 1, 1024),
        ):
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        for name, low, high in (
            ("dropout", 0, 0.95),
            ("lr", 1e-12, 1e3),
            ("clip_norm", 1e-12, 1e12),
            ("weight_decay", 0, 10),
            ("save_every_s", 0, 1e9),
            ("max_unreadable", 0, 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:  # NaN too
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other: one goes on, the other starts anew")

    @property
    def out_path(self) -> Path:
        if self.out is not None:
            return self.out
        source = "demo" if self.data == "demo" else Path(self.data).expanduser().stem or "sequences"
        return Path("checkpoints") / "sequences" / f"{source}_{self.checkpoint.stem}.safetensors"


@dataclass(frozen=True)
class SequenceRecord:
    """One step.

    Attributes:
        step: Steps done, from 1.
        steps: Steps in all.
        loss: Mean over the predictions of the batch; near mean squared error in pixels, but for the loss "latent".
        lr: Learning rate.
        grad_norm: Before clipping.
        sequences_per_s: Over the last steps.
        seconds_left: Estimate from the pace so far.
        held_out_loss: Of one-step predictions, where this step looked at the held-out sequences.
        held_out_copy: The same error of the last latent, taken for the next: what no model needs.
        saved: The checkpoint's path, where this step saved it.
    """

    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    sequences_per_s: float
    seconds_left: float
    held_out_loss: float | None = None
    held_out_copy: float | None = None
    saved: Path | None = None


def open_sequences(
    config: SequenceTrainConfig, loaded: Loaded, progress: Callable[[int, int], None] | None = None
) -> SequenceSource:
    """The sequences that `config.data` names, embedded by the autoencoder, on the device where it is.

    Args:
        config: Of the run.
        loaded: The autoencoder's checkpoint.
        progress: Called with (sequences embedded, sequences in all).

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If too few sequences can be read.
    """
    cache = config.cache or config.out_path.parent / runs.FOLDER / ".embeddings"
    embedder = Embedder(loaded.model, cache, config.fit)
    if config.data == "demo":
        return DemoSequences(embedder, config.sequences, config.seed)
    return FileSequences(embedder, config.data, config.clip_frames, config.seed, config.max_unreadable, progress)


def train_sequence(
    config: SequenceTrainConfig,
    loaded: Loaded | None = None,
    source: SequenceSource | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    notify: Callable[[str], None] = lambda text: None,
) -> Generator[SequenceRecord]:
    """Train and save; yields a record for each step.

    Resuming is exact: what a step sees is a function of (seed, step), and the state holds the rest, so that a run that was
    killed ends with the weights of one that was not (the same bits on a CPU with as many threads).

    Args:
        config: What to train, on what, for how long.
        loaded: The autoencoder; None: it is read from `config.checkpoint`.
        source: Sequences; None: those that `config.data` names.
        should_stop: Asked before the first step, where true ends the run as it is, and after each; once true there, the run
            looks at the held-out sequences, saves, and ends.
        notify: Called with a sentence about what was found or decided.

    Raises:
        ValueError: If the autoencoder, the data or the state does not fit, or the run would replace another's files.
        TrainingError: If the loss or gradient is no longer a number; the state before that step is saved.
        OSError: If something cannot be written; what was saved before stays.
    """
    folder = runs.folder_of(config.out_path)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _refuse_to_replace(config, folder)
    with ExitStack() as stack:
        stack.enter_context(runs.hold(folder))
        _prepare_folder(config, folder)
        try:
            loaded = loaded or load_checkpoint(config.checkpoint)
            loaded.model.to(pick_device(config.device))
            source = source or open_sequences(config, loaded)
            yield from _Training(config, loaded, source, folder, notify).go(should_stop)
        except (ValueError, OSError, TrainingError) as error:
            _, _, step, steps = runs.read_status(folder)
            runs.write_status(folder, "failed", str(error), step, steps)
            raise


class _Training:
    """The parts of one training and where it stands."""

    def __init__(
        self,
        config: SequenceTrainConfig,
        loaded: Loaded,
        source: SequenceSource,
        folder: Path,
        notify: Callable[[str], None],
    ) -> None:
        self.config, self.loaded, self.source, self.folder, self.notify = config, loaded, source, folder, notify
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0
        self.curve: list[dict] = []
        self.fingerprint = source.fingerprint
        torch.manual_seed(config.seed)
        self.model = SequenceModel(loaded.model, config.hidden_dim, config.num_layers, dropout=config.dropout)
        self.device = next(loaded.model.parameters()).device
        state = self._find_state()
        if state is None:
            sample = source.sample()
            metric = None
            if config.loss != "latent":
                notify("measuring what a change of the latent does to the picture; this is done once")
                metric = decoder_metric(loaded.model, sample, source.width)
            self.model.set_coordinates(sample, metric)
        else:
            self._take_weights(state)
        self.model.to(self.device)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        if state is not None:
            restore_optimizers(_own(self.model), [self.optimizer], state.tensors)
            self.step, self.curve = state.step, state.values["curve"]
            self.seconds, self.cpu_seconds = state.values["seconds"], state.values["cpu_seconds"]

    def _find_state(self) -> TrainState | None:
        if not self.config.resume:
            return None
        state = find_state(
            self.folder,
            self.fingerprint,
            self.notify,
            f"the sequences of {self.config.data} and the autoencoder must be those that the run began with, and they have "
            "changed; start a new run",
        )
        if state is not None:
            self.notify(f"resuming after step {state.step} of {self.config.steps}")
        return state

    def _take_weights(self, state: TrainState) -> None:
        own = self.model.own_state()
        missing = [name for name in own if f"model.{name}" not in state.tensors]
        if missing:
            raise ValueError(f"the state must hold the model's weights, and lacks {', '.join(missing[:5])}")
        self.model.load_state_dict({name: state.tensors[f"model.{name}"] for name in own}, strict=False)

    def go(self, should_stop: Callable[[], bool]) -> Generator[SequenceRecord]:
        config = self.config
        runs.cut_log(self.folder, self.step)
        was_finished = runs.read_status(self.folder)[0] == "finished"
        runs.write_status(self.folder, "running", step=self.step, steps=config.steps)
        held_out = self.source.held_out(config.held_out_sequences)
        started, cpu_started = time.monotonic() - self.seconds, time.process_time() - self.cpu_seconds
        last_save, paces, is_stopped = time.monotonic(), [], False
        if self.step == config.steps:  # resumed after the last step
            if was_finished and config.out_path.exists():
                runs.write_status(self.folder, "finished", "", self.step, config.steps)
                self.notify(f"all {config.steps} steps are done, and {config.out_path} is there; nothing is left to do")
            else:  # killed before the checkpoint was written
                self._finish(False)
                self.notify(f"all {config.steps} steps were done; saved {config.out_path}")
        elif should_stop() or runs.stop_asked(self.folder):  # while all this was made ready
            runs.write_status(self.folder, "stopped", "", self.step, config.steps)
            self.notify(
                "stopped before another step; "
                + (f"step {self.step} is saved" if self.step else "nothing is learnt yet")
            )
            return
        while self.step < config.steps and not is_stopped:
            began = time.monotonic()
            share = lr_schedule(self.step, config.steps, config.warmup_steps)
            loss, grad_norm = self._learn(share)
            self.step += 1
            paces = [*paces[-49:], time.monotonic() - began]
            self.seconds, self.cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
            is_stopped = (should_stop() or runs.stop_asked(self.folder)) and self.step != config.steps
            is_last = is_stopped or self.step == config.steps
            looked = is_last or self.step % config.eval_every == 0
            errors = self._look(held_out, loss) if looked else (None, None)
            pace = float(np.mean(paces))
            record = SequenceRecord(
                self.step,
                config.steps,
                loss,
                config.lr * share,
                grad_norm,
                config.batch_size / pace,
                pace * (config.steps - self.step),
                *errors,
            )
            if looked or self.step % config.log_every == 0:
                told = {name: value for name, value in asdict(record).items() if value is not None and name != "steps"}
                runs.append_log(self.folder, told)
            if is_last or time.monotonic() - last_save >= config.save_every_s:
                self._save_state()
                last_save = time.monotonic()
            if is_last:
                record = SequenceRecord(**{**vars(record), "saved": self._finish(is_stopped)})
            yield record

    def _learn(self, lr_share: float) -> tuple[float, float]:
        """One optimizer step; returns the loss and the norm of its gradient.

        Raises:
            TrainingError: If either is no number; the weights are as they were, and saved.
        """
        config = self.config
        seed = int(np.random.SeedSequence([config.seed, self.step]).generate_state(1)[0])
        torch.manual_seed(seed)
        latents, lengths = pad_sequences(self.source.batch(self.step, config.batch_size))
        self.model.train()
        loss = self._loss(latents.to(self.device), lengths, np.random.default_rng(seed))
        self.optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm))
        value = loss.item()
        if not math.isfinite(value) or not math.isfinite(norm):
            self.optimizer.zero_grad()
            kept = "nothing has been learnt yet"
            if self.step:
                self._save_state()
                kept = f"the state after step {self.step} is saved, and --resume would go on from it"
            raise TrainingError(f"the loss is no longer a number at step {self.step + 1}; lower --lr; {kept}")
        set_lr([self.optimizer], lr_share)
        self.optimizer.step()
        return value, norm

    def _loss(self, latents: Tensor, lengths: Tensor, random: np.random.Generator) -> Tensor:
        """The mean error of next-frame predictions, and of predictions in a row from a random frame on."""
        model, longest = self.model, latents.shape[1]
        real = (torch.arange(longest) < lengths[:, None]).to(latents.device)
        errors = [self._errors(model.predict(latents, lengths)[:, :-1], latents[:, 1:], real[:, 1:])]
        if self.config.rollout_steps and longest > 2:
            seen = int(random.integers(2, longest))
            steps = min(self.config.rollout_steps, longest - seen)
            rows = (lengths > seen).to(latents.device)
            predicted = model.rollout(latents[rows, :seen], steps)
            errors.append(self._errors(predicted, latents[rows, seen : seen + steps], real[rows, seen : seen + steps]))
        return torch.stack(errors).mean()

    def _errors(self, predicted: Tensor, latents: Tensor, real: Tensor) -> Tensor:
        predicted, latents = predicted[real], latents[real]
        if self.config.loss != "decoded":
            return self.model.squared_errors(predicted, latents).mean()
        with torch.no_grad():
            images = self.model.decode(latents, self.source.width)
        return (self.model.decode(predicted, self.source.width) - images).square().mean()

    @torch.no_grad()
    def _look(self, held_out: Sequence[Tensor], loss: float) -> tuple[float, float]:
        """Errors of one-step predictions on held-out sequences: the model's, and the last latent's taken for the next."""
        self.model.eval()
        latents, lengths = pad_sequences(held_out)
        latents = latents.to(self.device)
        real = (torch.arange(latents.shape[1]) < lengths[:, None]).to(self.device)[:, 1:]
        predicted = self.model.predict(latents, lengths)[:, :-1]
        own, copy = (
            float(self.model.squared_errors(some, latents[:, 1:])[real].mean()) for some in (predicted, latents[:, :-1])
        )
        self.curve.append({"step": self.step, "loss": loss, "held_out_loss": own, "held_out_copy": copy})
        return own, copy

    def _say_what_it_is_worth(self) -> None:
        """Where held-out sequences are predicted no better than by their last latent, which needs no training."""
        last = self.curve[-1]
        if last["held_out_loss"] < last["held_out_copy"]:
            return
        best = min(self.curve, key=lambda look: look["held_out_loss"])
        was, remedy = "", "train for longer, or on more sequences"
        if best["held_out_loss"] < last["held_out_loss"]:
            was = f"; it was lowest after step {best['step']}, {best['held_out_loss']:.5f}"
            remedy = "take more sequences, or fewer steps"
        self.notify(
            f"held-out sequences are predicted no better than by their last latent ({last['held_out_loss']:.5f} against "
            f"{last['held_out_copy']:.5f}{was}): {remedy}"
        )

    def _save_state(self) -> None:
        tensors = {
            f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in self.model.own_state().items()
        }
        tensors |= optimizer_tensors(_own(self.model), [self.optimizer])
        values = {
            "fingerprint": self.fingerprint,
            "curve": self.curve,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        save_state(self.folder, TrainState(self.step, tensors, values))

    def _finish(self, is_stopped: bool) -> Path:
        """Measure and write the checkpoint; returns its path."""
        config, source = self.config, self.source
        if not is_stopped:
            self._say_what_it_is_worth()
        self.model.eval()
        try:
            frames = source.test_frames(config.test_sequences)
            metrics = evaluate_forecasts(self.model, frames, split="test" if source.name == "demo" else "held out")
        except ValueError as error:
            self.notify(f"the card has no figures of predictions: {error}")
            metrics = {}
        training = {
            "data": source.data,
            "command": command_words(config),
            "seed": config.seed,
            "steps": self.step,
            "batch_size": config.batch_size,
            "sequences": source.num_sequences,
            "seconds": round(self.seconds),
            "cpu_seconds": round(self.cpu_seconds),
            "hardware": f"{platform.machine()} CPU" if self.device.type == "cpu" else torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "finished": not is_stopped,
            "curve": self.curve,
        }
        name = config.name or f"{source.name}, LSTM on {self.loaded.card.name}"
        card = Card(name=name, training=training, metrics=metrics, data=source.data, licence=source.licence)
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        path = save_sequence(config.out_path, self.model, card, self.loaded.card.name)
        runs.write_status(self.folder, "stopped" if is_stopped else "finished", "", self.step, config.steps)
        return path


def config_to_dict(config: SequenceTrainConfig) -> dict[str, Any]:
    """Plain values that JSON can carry."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def config_from_dict(values: object) -> SequenceTrainConfig:
    """The config that `config_to_dict` and JSON made plain.

    Raises:
        ValueError: If it is no dict, names an unknown field, or `SequenceTrainConfig` refuses a value.
    """
    known = {field.name for field in fields(SequenceTrainConfig)}
    if not isinstance(values, dict) or not values.keys() <= known:
        raise ValueError("a training config must be a dict of the fields of SequenceTrainConfig")
    paths = {name: Path(values[name]) for name in ("checkpoint", "cache", "out") if isinstance(values.get(name), str)}
    return SequenceTrainConfig(**{**values, **paths})


def command_line(config: SequenceTrainConfig) -> list[str]:
    """The arguments of `python -m tae.train_sequence` that ask for this run; what stands at its default is left out."""
    words = [] if config.data == "demo" else [config.data]
    for field in fields(SequenceTrainConfig):
        value = getattr(config, field.name)
        if field.name == "data" or value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        words += [flag if value else flag.replace("--", "--no-", 1)] if isinstance(value, bool) else [flag, str(value)]
    return words


def command_words(config: SequenceTrainConfig) -> str:
    """The command line as a card shows it; folders by name alone, since a card travels."""
    told = {**config_to_dict(config), "resume": False, "overwrite": False, "cache": None}
    told["checkpoint"] = config.checkpoint.name
    told["out"] = config.out and config.out.name
    told["data"] = config.data if config.data == "demo" else Path(config.data).name
    words = [f"'{word}'" if " " in word else word for word in command_line(config_from_dict(told))]
    return " ".join(["python -m tae.train_sequence", *words])


def _own(model: SequenceModel) -> torch.nn.Module:
    """The trained modules alone, under the names that they have in the model."""
    return torch.nn.ModuleDict({"lstm": model.lstm, "head": model.head})


def _refuse_to_replace(config: SequenceTrainConfig, folder: Path) -> None:
    """Two runs never write into the same files."""
    refuse_to_share(folder)
    if config.resume:
        refuse_another_run(_changed(config, folder), folder, "or start a new run")
    else:
        refuse_to_replace(folder, config.out_path, config.overwrite)


def _changed(config: SequenceTrainConfig, folder: Path) -> list[str] | None:
    """What differs from the run in this folder; None where there is none."""
    try:
        before = config_from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError):
        return None
    return [
        f"{field.name}: was {getattr(before, field.name)!r}, now {getattr(config, field.name)!r}"
        for field in fields(SequenceTrainConfig)
        if field.name not in FREE_TO_CHANGE and getattr(before, field.name) != getattr(config, field.name)
    ]


def _prepare_folder(config: SequenceTrainConfig, folder: Path) -> None:
    """Leave nothing in the folder that this run would mistake for its own, and say what it is."""
    (folder / "stop").unlink(missing_ok=True)
    remove_leftovers(folder)
    remove_leftovers(config.out_path.parent, config.out_path.name)
    if not config.resume:
        for path in [*state_files(folder), folder / "log.jsonl"]:
            path.unlink(missing_ok=True)
    write_whole(folder / "config.json", [json.dumps(config_to_dict(config), indent=1).encode()])
