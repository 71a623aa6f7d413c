"""Training an LSTM on the latents of image sequences: config, steps, resume, what is measured."""

import math
import platform
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from tae.model.config import Number, Threads, Whole, check_fields
from tae.model.device import pick_device
from tae.sequence.checkpoint import save_sequence
from tae.sequence.data import DemoSequences, Embedder, FileSequences, SequenceSource
from tae.sequence.forecast import evaluate_forecasts
from tae.sequence.metric import decoder_metric
from tae.sequence.model import SequenceModel, pad_sequences
from tae.store.card import Card
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.training import runs
from tae.training.command import RunConfig, TrackerName
from tae.training.config import Count, Positive, Seed, Share
from tae.training.distributed import World
from tae.training.loop import Loop, NotFiniteError, own_folder, tell_skipped
from tae.training.optim import optimizer_tensors, restore_optimizers, set_lr
from tae.training.state import state_files, step_of
from tae.training.tracker import check_tracker

STOPPED_TEST_SEQUENCES = 16
"""A run that was asked to stop measures no more than so many."""


@dataclass(frozen=True, kw_only=True)
class SequenceTrainConfig(RunConfig):
    """One training; every field is a flag of the command line.

    ValueError if a value leaves its range or does not fit another.
    """

    data: Annotated[str, tyro.conf.Positional] = "demo"
    """"demo": glides composed from garment photographs; else a file or folder, see above."""
    checkpoint: Path = Path("checkpoints/demo_tiny_201x201_p16.safetensors")
    """The autoencoder; it stays as it is."""
    fit: Literal["pad", "crop", "stretch"] = "pad"
    """How frames come to the autoencoder's size."""
    clip_frames: Annotated[int, Whole(2, 100_000)] = 16
    """Longest clip of a file; demo glides have 16 frames."""
    sequences: Count = 16_000
    """Demo glides to train on; they are embedded as they are needed."""
    held_out_sequences: Count = 128
    """Held-out sequences to watch the training by."""
    test_sequences: Count = 256
    """Sequences for the final figures on the card: of the demo's test split, or held-out ones of yours."""
    max_unreadable: Share = 0.1
    """Share of unreadable sequences at which the run refuses to start."""
    cache: Path | None = None
    """Folder of embeddings, by content; None: .embeddings beside the run."""

    hidden_dim: Annotated[int, Whole(1, 8192)] = 256
    """Width of the LSTM."""
    num_layers: Annotated[int, Whole(1, 16)] = 2
    """Layers of the LSTM."""
    dropout: Annotated[float, Number(0, 0.95)] = 0.0
    """Between its layers."""

    loss: Literal["metric", "latent", "decoded"] = "metric"
    """The cost of an error of a predicted latent. metric: about its error in pixels, by the decoder's derivative; latent: its
    squared distance; decoded: its error in pixels, which takes far longer."""
    forecast_steps: Annotated[int, Whole(0, 10_000), tyro.conf.arg(aliases=["--rollout-steps"])] = 0
    """Besides the next frame, this many are predicted in a row, from a random frame on, and learnt from. On the demo glides
    that slows the learning of both."""
    batch_size: Count = 64
    """Clips a step."""
    lr: Annotated[float, Number(1e-12, 1e3)] = 5e-3
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Number(0, 10)] = 0.01
    """Weight decay of AdamW."""
    warmup_steps: Annotated[int, Whole(0, 2**31 - 1)] = 100
    """Steps in which the learning rate rises; then it falls as a cosine to 2 %."""
    clip_norm: Positive = 1.0
    """Ceiling of the gradient's norm."""
    seed: Seed = 0
    """Seed of the weights, the order of the data, dropout."""

    steps: Count = 4000
    """Optimizer steps."""

    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/sequences/<data>_<autoencoder>.safetensors. State and logs go to runs/
    beside it."""
    name: str | None = None
    """Name that the app shows."""
    resume: bool = False
    """Go on from the newest whole state of this run."""
    overwrite: bool = False
    """Start anew where --out or an earlier run's state exists, and replace them."""
    eval_every: Count = 200
    """Steps between looks at the held-out sequences."""
    log_every: Count = 20
    """Steps between lines of the log."""
    save_every_s: Annotated[float, Number(0, 1e9)] = 60
    """Seconds between saves of the whole state, from which --resume goes on; 0: after each step."""
    tracker: TrackerName | None = None
    """Tell the figures elsewhere, too. csv: metrics.csv in the run's folder; wandb, mlflow: these services, whose packages
    must be installed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice. The weights are the same to the bit only for the same number."""

    COMMAND: ClassVar = "tae.train_sequence"
    GROUPS: ClassVar = {
        "data": "data",
        "hidden_dim": "model",
        "loss": "optimisation",
        "steps": "budget",
        "out": "logging",
        "device": "machine",
    }
    RENAMED: ClassVar = {"rollout_steps": "forecast_steps"}
    FREE_TO_CHANGE: ClassVar = (*RunConfig.FREE_TO_CHANGE, "cache", "test_sequences")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other: one goes on, the other starts anew")

    @property
    def learns_from(self) -> str:
        return f"sequences of {self.data} and the autoencoder"

    @property
    def out_path(self) -> Path:
        if self.out is not None:
            return self.out
        source = "demo" if self.data == "demo" else Path(self.data).expanduser().stem or "sequences"
        return Path("checkpoints") / "sequences" / f"{source}_{self.checkpoint.stem}.safetensors"


@dataclass(frozen=True)
class SequenceRecord:
    """One step."""

    step: int  # steps done, from 1
    steps: int  # steps in all
    loss: float  # mean over the predictions of the batch; near mean squared error in pixels, but for the loss "latent"
    lr: float  # learning rate
    grad_norm: float  # before clipping
    sequences_per_s: float  # over the last steps
    seconds_left: float  # estimate from the pace so far
    held_out_loss: float | None = None
    """error of one-step predictions, where this step looked at the held-out sequences."""
    held_out_copy: float | None = None  # the same error of the last latent, taken for the next: what no model needs
    saved: Path | None = None  # the checkpoint, where this step saved it


class Stopped(Exception):
    """Asked to stop before a step was taken."""


def open_sequences(
    config: SequenceTrainConfig,
    loaded: Loaded,
    progress: Callable[[int, int], object] = lambda done, total: None,
    go_on: Callable[[], object] = lambda: None,
) -> SequenceSource:
    """The sequences that `config.data` names, embedded by the autoencoder, on the device where it is.

    Args:
        config: The run.
        loaded: The autoencoder.
        progress: Called with (sequences embedded, sequences in all).
        go_on: Called before each frame; what it raises ends the work.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If too few sequences can be read.
    """
    cache = config.cache or config.out_path.parent / runs.FOLDER / ".embeddings"
    embedder = Embedder(loaded.model, cache, config.fit, go_on)
    if config.data == "demo":
        return DemoSequences(embedder, config.sequences, config.seed, progress)
    return FileSequences(embedder, config.data, config.clip_frames, config.seed, config.max_unreadable, progress)


def train_sequence(
    config: SequenceTrainConfig,
    loaded: Loaded | None = None,
    source: SequenceSource | None = None,
    should_stop: Callable[[], int] = lambda: False,
    notify: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, str], object] = lambda done, total, doing: None,
) -> Generator[SequenceRecord]:
    """Train and save; yields a record for each step.

    Args:
        loaded: The autoencoder; None: it is read from `config.checkpoint`.
        source: Sequences; None: those that `config.data` names.
        should_stop: Asked while all is made ready, where true ends the run as it is, and after each step; once true there,
            the run looks at the held-out sequences, measures a few of the final ones, saves, and ends. True in the last
            measurement ends that. A file `stop` in the run's folder is asked for as well.
        notify: Called with a sentence about what was found or decided.
        progress: Called before the first step and after the last with (done, in all, what is done, in words).

    Raises:
        ValueError: If the autoencoder, the data or the state does not fit, or the run would replace another's files.
        TrainingError: If the loss or gradient is no longer a number; the state before that step is saved.
        OSError: If something cannot be written; what was saved before stays.
    """
    check_tracker(config.tracker)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device, folder = pick_device(config.device), runs.folder_of(config.out_path)
    training: _Training | None = None

    def asked() -> int:
        return should_stop() or runs.stop_asked(folder)

    def go_on() -> None:
        if not (training and training.is_under_way) and asked():
            raise Stopped

    def tell(doing: str) -> Callable[[int, int], None]:
        def told(done: int, total: int) -> None:
            progress(done, total, doing)
            go_on()

        return told

    def opened() -> tuple[Loaded, SequenceSource]:
        (folder / "stop").unlink(missing_ok=True)  # an earlier run's
        autoencoder = loaded or load_checkpoint(config.checkpoint)
        autoencoder.model.to(device)
        if source is not None:
            return autoencoder, source
        found = open_sequences(config, autoencoder, tell("embedding sequences"), go_on)
        tell_skipped(found.skipped, notify)
        notify(f"{found.num_sequences} {'glides' if config.data == 'demo' else 'clips an epoch'} to train on")
        return autoencoder, found

    world = World(0, 1, device)
    try:
        with own_folder(config, world, opened) as (_, (autoencoder, found)):
            training = _Training(config, autoencoder, found, world, folder, notify, tell)
            if training.step != training.steps:
                go_on()
            yield from training.go(asked)
    except Stopped:
        step = next(map(step_of, state_files(folder)), 0)
        if folder.exists():
            runs.write_status(folder, "stopped", "", step, config.steps)
        notify(f"stopped before another step; {f'step {step} is saved' if step else 'nothing is learnt yet'}")


class _Training(Loop[SequenceRecord]):
    """The parts of one training."""

    def __init__(
        self,
        config: SequenceTrainConfig,
        loaded: Loaded,
        source: SequenceSource,
        world: World,
        folder: Path,
        notify: Callable[[str], None],
        tell: Callable[[str], Callable[[int, int], None]],
    ) -> None:
        super().__init__(config, source, world, folder, notify)
        self.loaded, self.tell = loaded, tell
        self.asked_to_stop: Callable[[], int] = lambda: False
        self.is_under_way = False  # from then on, a stop is one after a step
        self.model = SequenceModel(loaded.model, config.hidden_dim, config.num_layers, dropout=config.dropout)
        if self.state is None:
            sample = source.sample()
            metric = None
            if config.loss != "latent":
                measured = decoder_metric(loaded.model, sample, source.width, progress=tell("measuring the decoder"))
                metric = measured.matrix
                notify(f"an error in latents tells its error in pixels to about {measured.error:.0%}, measured once")
            self.model.set_coordinates(sample, metric)
        else:
            self.model.load_state_dict(self._weights_in_state(self.model.own_state()), strict=False)
        self.model.to(world.device)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        if self.state is not None:
            self._restore(self.state)
            restore_optimizers(_own(self.model), [self.optimizer], self.state.tensors)

    def go(self, should_stop: Callable[[], int]) -> Generator[SequenceRecord]:
        self.asked_to_stop = should_stop
        yield from super().go(should_stop)

    def _begin(self, stack: ExitStack) -> None:
        self.held_out = self.source.held_out(self.config.held_out_sequences)

    def _record(
        self, loss: float, lr_share: float, grad_norm: float, pace: float, looked: dict[str, Any]
    ) -> SequenceRecord:
        lr, left = self.config.lr * lr_share, pace * (self.steps - self.step)
        return SequenceRecord(self.step, self.steps, loss, lr, grad_norm, self.config.batch_size / pace, left, **looked)

    def _learn(self, lr_share: float) -> tuple[float, float]:
        config = self.config
        seed = int(np.random.SeedSequence([config.seed, self.step]).generate_state(1)[0])
        torch.manual_seed(seed)
        latents, lengths = pad_sequences(self.source.batch(self.step, config.batch_size))
        self.is_under_way = True
        self.model.train()
        loss = self._loss(latents.to(self.world.device), lengths, np.random.default_rng(seed))
        self.optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm))
        value = loss.item()
        if not math.isfinite(value) or not math.isfinite(norm):
            self.optimizer.zero_grad()
            raise NotFiniteError("the loss is no longer a number", "lower --lr")
        set_lr([self.optimizer], lr_share)
        self.optimizer.step()
        return value, norm

    def _loss(self, latents: Tensor, lengths: Tensor, random: np.random.Generator) -> Tensor:
        """The mean error of next-frame predictions, and of predictions in a row from a random frame on."""
        model, longest = self.model, latents.shape[1]
        real = (torch.arange(longest) < lengths[:, None]).to(latents.device)
        errors = [self._errors(model.predict(latents, lengths)[:, :-1], latents[:, 1:], real[:, 1:])]
        if self.config.forecast_steps and longest > 2:
            seen = int(random.integers(2, longest))
            steps = min(self.config.forecast_steps, longest - seen)
            rows = (lengths > seen).to(latents.device)
            predicted = model.forecast(latents[rows, :seen], steps)
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
    def _look(self, loss: float) -> dict[str, Any]:
        """Errors of one-step predictions on held-out sequences: the model's, and the last latent's taken for the next."""
        self.model.eval()
        latents, lengths = pad_sequences(self.held_out)
        latents = latents.to(self.world.device)
        real = (torch.arange(latents.shape[1]) < lengths[:, None]).to(latents.device)[:, 1:]
        predicted = self.model.predict(latents, lengths)[:, :-1]
        own, copy = (
            float(self.model.squared_errors(some, latents[:, 1:])[real].mean()) for some in (predicted, latents[:, :-1])
        )
        looked = {"held_out_loss": own, "held_out_copy": copy}
        self.curve.append({"step": self.step, "loss": loss, **looked})
        return looked

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

    def _test_frames(self, is_stopped: bool) -> Iterator[Tensor]:
        """Sequences for the final figures, with the progress: few where the run was stopped, and none any more once it is."""
        count, tell = self.config.test_sequences, self.tell("measuring test sequences")
        if is_stopped:
            count = min(STOPPED_TEST_SEQUENCES, count)
        for done, frames in enumerate(self.source.test_frames(count), start=1):
            yield frames
            tell(done, count)
            if done < count and not is_stopped and self.asked_to_stop():
                self.notify(f"stopped: the final figures are those of {done} sequences")
                return

    def _tensors(self) -> dict[str, Tensor]:
        own = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in self.model.own_state().items()}
        return own | optimizer_tensors(_own(self.model), [self.optimizer])

    def _write(self, is_stopped: bool) -> Path:
        config, source, self.is_under_way = self.config, self.source, True
        if not is_stopped:
            self._say_what_it_is_worth()
        self.model.eval()
        try:
            metrics = evaluate_forecasts(
                self.model, self._test_frames(is_stopped), split="test" if source.name == "demo" else "held out"
            )
        except ValueError as error:
            self.notify(f"the card has no figures of predictions: {error}")
            metrics = {}
        self._tell_figures(metrics)
        on_cpu = self.world.device.type == "cpu"
        hardware = f"{platform.machine()} CPU" if on_cpu else torch.cuda.get_device_name()
        training = {
            "data": source.data,
            "command": self.commands,
            "seed": config.seed,
            "steps": self.step,
            "batch_size": config.batch_size,
            "sequences": source.num_sequences,
            "seconds": round(self.seconds),
            "cpu_seconds": round(self.cpu_seconds),
            "hardware": hardware,
            "torch": torch.__version__,
            "finished": not is_stopped,
            "curve": self.curve,
        }
        name = config.name or f"{source.name}, LSTM on {self.loaded.card.name}"
        card = Card(name=name, training=training, metrics=metrics, data=source.data, licence=source.licence)
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        return save_sequence(config.out_path, self.model, card, self.loaded.card.name)


def _own(model: SequenceModel) -> torch.nn.Module:
    """The trained modules alone, under the names that they have in the model."""
    return torch.nn.ModuleDict({"lstm": model.lstm, "head": model.head})
