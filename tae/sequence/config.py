"""The config of a training on sequences, and the record of each of its steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from tae.data.fit import FitMode
from tae.data.white import White
from tae.model.config import Number, Threads, Whole, check_fields
from tae.store.names import safe_name
from tae.training.command import RunConfig, TrackerName
from tae.training.config import Count, Positive, Seed, Share

NEXT_FRAME = {"num_layers": 2, "dropout": 0.3, "lr": 5e-3, "steps": 1200}
TARGET = {"num_layers": 1, "dropout": 0.5, "lr": 2e-3, "steps": 800}
"""Values for None in these fields: a number for each recording is soon learnt by heart."""


@dataclass(frozen=True, kw_only=True)
class SequenceTrainConfig(RunConfig):
    """One training; every field is a flag of the command line.

    ValueError if a value leaves its range or does not fit another.
    """

    data: Annotated[str, tyro.conf.Positional] = "drops"
    """"drops": simulated recordings of drops; else a file or folder, see above."""
    checkpoint: Path = Path("checkpoints/drops_tiny_201x201_p16.safetensors")
    """The autoencoder; the file stays as it is."""
    fit: FitMode = "pad"
    """How frames come to the autoencoder's size."""
    white: str = "file"
    """Which number is white beyond 8 bits, decided once for all files. file: as the checkpoint's training decided, else as the
    files say; type: the type's largest; stretch: the smallest number becomes black, the largest white; or black..white, such as
    0..4095."""
    clip_frames: Annotated[int, Whole(2, 100_000)] = 16
    """Longest clip of a file, and with --target the most frames that a prediction is made from."""
    recordings: Count = 5000
    """Simulated recordings of drops to train on; they are embedded before the first step."""
    held_out_sequences: Count = 128
    """Held-out sequences to watch the training by."""
    test_sequences: Count = 256
    """Sequences for the final figures on the card: of the test split of drops, or held-out ones of yours; with
    --target all of yours that are held out count."""
    max_unreadable: Share = 0.1
    """Share of unreadable sequences at which the run refuses to start."""
    cache: Path | None = None
    """Folder of embeddings, by content; None: .embeddings beside the run."""

    target: str | None = None
    """A column of the table beside the frames, which is predicted in place of the next frame: a number or a class for each
    sequence or for each frame. Of simulated drops, viscosity is one."""
    inputs: str | None = None
    """Columns that the LSTM reads beside the latents, such as velocity,rec: names or headers, with commas between."""
    task: Literal["regression", "classification"] | None = None
    """None: classes where the target's column holds texts, a number where it holds numbers."""
    table: Path | None = None
    """One CSV or Parquet file for all sequences; None: those that lie beside the frames."""

    hidden_dim: Annotated[int, Whole(1, 8192)] = 256
    """Width of the LSTM."""
    num_layers: Annotated[int | None, Whole(1, 16)] = None
    """Layers of the LSTM; None: 2, or 1 with --target."""
    dropout: Annotated[float | None, Number(0, 0.95)] = None
    """Between its layers; with --target, before its answer too. None: 0.3, or 0.5 with --target."""

    fine_tune: bool = False
    """With --target: train the encoder too. It becomes a checkpoint of its own beside --checkpoint, where the app lists it, named
    <name of --out>_encoder.safetensors. Each step then embeds all its frames anew, forward and backward: lower --batch-size."""
    encoder_lr: Positive = 1e-4
    """Peak learning rate of the encoder, where it is fine-tuned."""
    loss: Literal["metric", "latent", "decoded"] = "metric"
    """The cost of an error of a predicted latent. metric: about its error in pixels, by the decoder's derivative; latent: its
    squared distance; decoded: its error in pixels, which takes far longer."""
    forecast_steps: Annotated[int, Whole(0, 10_000), tyro.conf.arg(aliases=["--rollout-steps"])] = 0
    """Besides the next frame, this many are predicted in a row, from a random frame on, and learnt from."""
    batch_size: Count = 64
    """Clips a step."""
    lr: Annotated[float | None, Number(1e-12, 1e3)] = None
    """Peak learning rate of AdamW; None: 0.005, or 0.002 with --target."""
    weight_decay: Annotated[float, Number(0, 10)] = 1.0
    """Weight decay of AdamW."""
    warmup_steps: Annotated[int, Whole(0, 2**31 - 1)] = 100
    """Steps in which the learning rate rises; then it falls as a cosine to 2%."""
    clip_norm: Positive = 1.0
    """Ceiling of the gradient's norm."""
    seed: Seed = 0
    """Seed of the weights, the order of the data, dropout."""

    steps: Annotated[int | None, Whole(1, 10**9)] = None
    """Optimizer steps; None: 1200, or 800 with --target."""

    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/sequences/<data>_<autoencoder>.safetensors, or, with --target,
    <data>_<autoencoder>_<target>.safetensors. State and logs go to runs/
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
    BUILT_IN: ClassVar = ("drops",)
    GROUPS: ClassVar = {
        "data": "data",
        "target": "target",
        "hidden_dim": "model",
        "fine_tune": "optimisation",
        "steps": "budget",
        "out": "logging",
        "device": "machine",
    }
    RENAMED: ClassVar = {"rollout_steps": "forecast_steps", "sequences": "recordings"}
    FREE_TO_CHANGE: ClassVar = (*RunConfig.FREE_TO_CHANGE, "cache", "test_sequences")

    def __post_init__(self) -> None:
        for name, value in self.of_task.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_fields(self)
        White(self.white)  # refuses what is no such choice
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other: one goes on, the other starts anew")
        needless = [
            name for name in ("inputs", "task", "table", "fine_tune") if getattr(self, name) and not self.target
        ]
        if needless:
            raise ValueError(
                f"{' and '.join(needless)} belong to a target; name the column that is predicted by --target"
            )
        if self.data == "drops" and self.table:
            raise ValueError(f"simulated drops have a table of their own, got table {self.table}")

    @property
    def of_task(self) -> dict[str, float]:
        """Defaults of the fields that have one for each task."""
        return TARGET if self.target else NEXT_FRAME

    @property
    def input_names(self) -> list[str]:
        """Names of the table's columns that the LSTM reads beside the latents."""
        return [name.strip() for name in (self.inputs or "").split(",") if name.strip()]

    @property
    def learns_from(self) -> str:
        """The data, in words, which must stay the same from step to step."""
        return f"sequences of {self.data} and the autoencoder"

    @property
    def out_path(self) -> Path:
        """Where the checkpoint goes."""
        if self.out is not None:
            return self.out
        source = self.data if self.data in self.BUILT_IN else Path(self.data).expanduser().stem or "sequences"
        what = f"_{safe_name(self.target)}" if self.target else ""
        return Path("checkpoints") / "sequences" / f"{source}_{self.checkpoint.stem}{what}.safetensors"

    @property
    def encoder_path(self) -> Path:
        """Where a fine-tuned encoder goes."""
        return self.checkpoint.with_name(f"{self.out_path.stem}_encoder.safetensors")


@dataclass(frozen=True)
class SequenceRecord:
    """One step."""

    step: int  # steps done, from 1
    steps: int  # steps in all
    loss: float
    """Mean over the predictions of the batch: about mean squared error in pixels, but for the loss "latent"; of a target, mean
    squared error in units of its spread, or cross entropy."""
    lr: float  # learning rate
    grad_norm: float  # before clipping
    sequences_per_s: float  # over the last steps
    seconds_left: float  # estimate from the pace so far
    held_out_loss: float | None = None
    """The same of one-step predictions, or of a target, where this step looked at the held-out sequences."""
    held_out_copy: float | None = None
    """The same of what needs no model: the last latent, taken for the next; of a target, the mean of the training targets."""
    saved: Path | None = None  # the checkpoint, where this step saved it
