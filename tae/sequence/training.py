"""Training an LSTM on the latents of image sequences: the next frame, or a target of a table (`target_training`)."""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tae.data.white import White
from tae.model.device import pick_device
from tae.sequence.config import SequenceRecord, SequenceTrainConfig
from tae.sequence.data import Embedder, FileSequences, SequenceSource
from tae.sequence.drops import DROPS, DropSequences
from tae.sequence.forecast import evaluate_forecasts
from tae.sequence.labelled import LabelledSequences, Wanted, labelled_drops, labelled_files
from tae.sequence.metric import decoder_metric
from tae.sequence.model import SequenceModel, pad_sequences
from tae.sequence.steps import SequenceLoop
from tae.sequence.target_training import TargetTraining
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.training.distributed import World
from tae.training.run import runs
from tae.training.run.loop import Stopped, own_folder, tell_skipped
from tae.training.run.state import state_files, step_of
from tae.training.run.tracker import check_tracker

STOPPED_TEST_SEQUENCES = 16
"""A run that was asked to stop measures no more than so many."""


def open_sequences(
    config: SequenceTrainConfig,
    loaded: Loaded,
    progress: Callable[[int, int], object] = lambda done, total: None,
    go_on: Callable[[], object] = lambda: None,
) -> SequenceSource | LabelledSequences:
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
    white = White.chosen(config.white, loaded.card.training)
    embedder = Embedder(loaded.model, cache, config.fit, go_on, white)
    if config.target:
        wanted = Wanted(
            target=config.target,
            inputs=config.input_names,
            task=config.task,
            window=config.clip_frames,
            seed=config.seed,
        )
        if config.data == DROPS:
            watch, test = config.held_out_sequences, config.test_sequences
            return labelled_drops(embedder, wanted, config.recordings, watch, test, progress)
        unreadable, watch = config.max_unreadable, config.held_out_sequences
        return labelled_files(embedder, config.data, wanted, config.table, unreadable, watch, progress)
    if config.data == DROPS:
        watch = config.held_out_sequences
        return DropSequences(embedder, config.recordings, watch, config.clip_frames, config.seed, progress)
    return FileSequences(embedder, config.data, config.clip_frames, config.seed, config.max_unreadable, progress)


def train_sequence(
    config: SequenceTrainConfig,
    loaded: Loaded | None = None,
    source: SequenceSource | LabelledSequences | None = None,
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
    training: SequenceLoop | None = None

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

    def opened() -> tuple[Loaded, SequenceSource | LabelledSequences]:
        (folder / "stop").unlink(missing_ok=True)  # an earlier run's
        if config.fine_tune and not config.resume:
            _refuse_to_replace(config.encoder_path, config)
        autoencoder = loaded or load_checkpoint(config.checkpoint)
        autoencoder.model.to(device)
        if source is not None:
            return autoencoder, source
        found = open_sequences(config, autoencoder, tell("embedding sequences"), go_on)
        tell_skipped(found.skipped, notify)
        for sentence in getattr(found, "told", ()):
            notify(sentence)
        notify(f"{found.num_sequences} clips an epoch to train on")
        return autoencoder, found

    world = World(0, 1, device)
    try:
        with own_folder(config, world, opened) as (_, (autoencoder, found)):
            kind = TargetTraining if config.target else _Training
            training = kind(config, autoencoder, found, world, folder, notify, tell)
            if training.step != training.steps:
                go_on()
            yield from training.go(asked)
    except Stopped:
        step = next(map(step_of, state_files(folder)), 0)
        if folder.exists():
            runs.write_status(folder, "stopped", "", step, config.steps or 0)
        notify(f"stopped before another step; {f'step {step} is saved' if step else 'nothing is learnt yet'}")


def _refuse_to_replace(encoder: Path, config: SequenceTrainConfig) -> None:
    if encoder.resolve() == config.checkpoint.resolve():
        raise ValueError(f"the fine-tuned encoder would replace {encoder}, which it begins from; choose another --out")
    if encoder.exists() and not config.overwrite:
        raise ValueError(
            f"{encoder} exists already, where the fine-tuned encoder would go; choose another --out, or --overwrite it"
        )


class _Training(SequenceLoop):
    """The parts of one training on the next frame."""

    def _make(self) -> None:
        config, source = self.config, self.source
        self.model = SequenceModel(self.loaded.model, config.hidden_dim, config.num_layers, dropout=config.dropout)
        if self.state is None:
            sample = source.sample()
            metric = None
            if config.loss != "latent":
                measured = decoder_metric(
                    self.loaded.model, sample, source.width, progress=self.tell("measuring the decoder")
                )
                metric = measured.matrix
                self.notify(
                    f"an error in latents tells its error in pixels to about {measured.error:.0%}, measured once"
                )
            self.model.set_coordinates(sample, metric)
        else:
            self.model.load_state_dict(self._weights_in_state(self.model.own_state()), strict=False)
        self.model.to(self.world.device)
        self.learning = torch.nn.ModuleDict({"lstm": self.model.lstm, "head": self.model.head})

    def _begin(self, stack: ExitStack) -> None:
        self.held_out = self.source.held_out(self.config.held_out_sequences)

    def _learn(self, lr_share: float) -> tuple[float, float]:
        config = self.config
        seed = int(np.random.SeedSequence([config.seed, self.step]).generate_state(1)[0])
        torch.manual_seed(seed)
        latents, lengths = pad_sequences(self.source.batch(self.step, config.batch_size))
        self.is_under_way = True
        self.model.train()
        loss = self._loss(latents.to(self.world.device), lengths, np.random.default_rng(seed))
        return self._descend(loss, loss, lr_share, [[*self.learning.parameters()]])

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
        best = min(self.curve, key=lambda look: (math.isnan(look["held_out_loss"]), look["held_out_loss"]))
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

    def _write(self, is_stopped: bool) -> Path:
        source, self.is_under_way = self.source, True
        if not is_stopped:
            self._say_what_it_is_worth()
        self.model.eval()
        try:
            metrics = evaluate_forecasts(
                self.model, self._test_frames(is_stopped), split="test" if self.config.data == DROPS else "held out"
            )
        except ValueError as error:
            self.notify(f"the card has no figures of predictions: {error}")
            metrics = {}
        self._tell_figures(metrics)
        return self._save(f"{source.name}, LSTM on {self.loaded.card.name}", metrics, is_stopped)
