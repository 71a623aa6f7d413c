"""One training run: `TrainConfig`, its command line, the model it asks for."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from tae.data.fit import FitMode
from tae.data.white import White
from tae.model.config import (
    ModelConfig,
    Number,
    Threads,
    Whole,
    check_fields,
    patch_in_names,
    preset_config,
    size_in_words,
)
from tae.model.device import MuonPrecision, Precision
from tae.training.command import RunConfig, TrackerName, refuse_both

Count = Annotated[int, Whole(1, 10**9)]
Grouping = Literal["file", "stem", "folder"]
Positive = Annotated[float, Number(1e-30, 1e30)]
Seed = Annotated[int, Whole(0, 2**31 - 1)]
Share = Annotated[float, Number(0, 1)]
MODEL_FIELDS = ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio")
"""Fields of the model; None in a `TrainConfig` stands for the preset's value."""


COMPOSED = ("demo", "drops")
"""Data that come with the package, without end; a folder so called is ./drops. `tae.training.images.sources` makes them."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """One training run; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range or does not fit another.
    """

    preset: Annotated[Literal["tiny", "small", "medium", "large", "xlarge"], tyro.conf.Positional] = "tiny"
    """Size of the model."""
    input_size: tuple[int, int | None] = (201, 201)
    """Height and width in pixels; width None: any width."""
    patch_size: int | None = 16
    """Side of a patch in pixels; None: one token for the whole image, as in the diagram."""
    max_width: int = 1280
    """Widest image where the width is None."""
    latent_dim: int | None = None
    """Numbers in the latent; None: the preset's. The same holds for the next four."""
    num_heads: int | None = None
    """Attention heads."""
    encoder_layers: int | None = None
    """Blocks of the encoder."""
    decoder_layers: int | None = None
    """Blocks of the decoder."""
    mlp_ratio: float | None = None
    """Hidden width of a block's MLP, as a multiple of latent_dim."""
    dropout: float = 0.0
    """Share of activations dropped in training."""

    data: str = "demo"
    """"demo": composed garment photographs; "drops": simulated drops on a tilted plate; else a folder of images, searched
    with its subfolders; one file: a .npy stack (T, H, W) or a multi-page TIFF; or a pattern in quotes, such as
    "photos/**/*.png". What outgrows a folder: tar shards as WebDataset writes them, "wds:shards/photos-{000..099}.tar", or a
    data set of Hugging Face's, "hf:NAME" or "hf:FOLDER"."""
    white: str = "file"
    """Which number is white beyond 8 bits, decided once for all files. file: as the files say; type: the type's largest; stretch:
    the smallest number becomes black, the largest white; or black..white, such as 0..4095."""
    fit: FitMode = "pad"
    """How your images come to the model's size. pad: whole; crop: the middle; stretch: whole, out of proportion; drop: cut out
    about a drop on a line at the bottom, as the simulated ones are."""
    flip: Share = 0.5
    """Share of your images that are mirrored left to right. This and the next three leave composed images alone: those
    are composed anew for every step."""
    shift: Annotated[float, Number(0, 0.9)] = 0.05
    """Images are moved by up to this share of their sides."""
    zoom: Annotated[float, Number(0, 0.9)] = 0.1
    """Images are enlarged or shrunk by up to this share."""
    contrast: Annotated[float, Number(0, 0.9)] = 0.1
    """Contrast and brightness are changed by up to this share."""
    hold_out_by: Grouping = "file"
    """What stays together when files are held out. file: each by itself; stem: files whose names differ only in the last
    number, such as crops of one photograph; folder: all files of a folder."""
    held_out_images: Count = 64
    """Held-out images to watch the training by."""
    test_images: Count = 512
    """Images for the final figures on the card: of the test split of what comes with the package, or held-out ones of yours."""
    max_unreadable: Share = 0.1
    """Share of unreadable files at which the run refuses to start."""

    batch_size: Count = 16
    """Images an optimizer step, over all processes."""
    accumulate: Count = 1
    """Parts that a batch is cut into, one after the other: less memory, the same gradient."""
    lr: Annotated[float | None, Number(1e-30, 1e30)] = None
    """Both learning rates at once: Muon's, and a tenth of it for AdamW, the ratio of their defaults."""
    muon_lr: Positive = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    adamw_lr: Positive = 2e-3
    """Learning rate of AdamW, for everything else."""
    weight_decay: Annotated[float, Number(0, 10)] = 0.01
    """Weight decay of Muon; AdamW has none."""
    warmup_steps: Annotated[int, Whole(0, 2**31 - 1)] = 60
    """Steps in which the learning rate rises, a tenth of the run at most; then it falls as a cosine to 2%."""
    clip_norm: Positive = 1.0
    """Ceiling of the gradient's norm."""
    ema_decay: Annotated[float, Number(0, 0.999999)] = 0.0
    """Keep a running average of the weights, and save and measure that one; 0: no average; .999 is usual."""
    seed: Seed = 0
    """Seed of the weights, the order of the data, augmentation and dropout."""
    init_from: Path | None = None
    """A new run that starts from the weights of this checkpoint, as far as they fit: positions are resampled to another size
    or patch; with --resume only where the run has no state yet."""
    warm_start: bool = True
    """Where --init-from names none, begin on images of your own with the shipped model that fits, if one does: it saves
    most of the first steps."""

    steps: Count = 3000
    """Optimizer steps."""
    epochs: Annotated[int | None, Whole(1, 10**9)] = None
    """A budget in place of --steps: how often each image of yours is seen."""
    minutes: Annotated[float | None, Number(0.01, 10**6)] = None
    """A time budget in place of --steps: the learning rate falls with the time that is gone, and the last step and what is
    measured after it end when the time does."""

    precision: Literal["auto", Precision] = "auto"
    """Precision of the forward and backward pass; weights and updates are float32. auto: on a CPU bf16 where a
    short measurement finds it faster than fp32; on a GPU bf16 where it has that, else fp16 with a gradient scaler."""
    muon_precision: Literal["auto", MuonPrecision] = "auto"
    """Precision in which Muon makes a matrix orthogonal. auto: bf16 on a GPU, on a CPU the faster."""

    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/<data>_<preset>_<size>_p<patch>.safetensors. State and logs go to
    runs/ beside it."""
    name: str | None = None
    """Name that the app shows."""
    resume: bool = False
    """Go on from the newest whole state of this run, or begin it where there is none; with more --steps or --minutes than
    before it is prolonged."""
    overwrite: bool = False
    """Start anew where --out or an earlier run's state exists, and replace them."""
    eval_every: Count = 200
    """Steps between looks at the held-out images."""
    log_every: Count = 10
    """Steps between lines of the log."""
    save_every_s: Annotated[float, Number(0, 10**9)] = 60
    """Seconds between saves of the whole state, from which --resume goes on; 0: after each step."""
    tracker: TrackerName | None = None
    """Tell the figures elsewhere, too. csv: metrics.csv in the run's folder; wandb, mlflow: these services, whose packages
    must be installed."""
    snapshots: Annotated[int, Whole(0, 1000)] = 8
    """Copies of the weights kept on the way, from the untrained ones on, denser at the start, where most happens; the page
    Layers looks at an image through them. 0: none."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice. The weights are the same to the bit only for the same number."""
    workers: Annotated[int, Whole(1, 64)] = 2
    """Threads that read and prepare images ahead of the model."""
    use_flash_attention: bool = True
    """Fused attention; off: explicit softmax."""
    use_gradient_checkpointing: bool = False
    """Compute activations a second time in the backward pass: less memory, more time."""
    use_compile: bool = False
    """torch.compile: minutes at the start, for faster steps on a GPU. Needs a C++ compiler."""
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = "auto"
    """With torchrun. ddp: each process holds the whole model; fsdp: weights, gradients and optimizer are spread over the
    processes; hsdp: over those of each machine; auto: ddp where a device can hold them, else fsdp."""
    timeout_minutes: Annotated[float, Number(0.1, 10**4)] = 10
    """With torchrun: how long a process waits for the others before it takes one of them for lost."""

    COMMAND: ClassVar = "tae.train"
    BUILT_IN: ClassVar = COMPOSED
    GROUPS: ClassVar = {
        "preset": "model",
        "data": "data",
        "batch_size": "optimisation",
        "steps": "budget",
        "precision": "precision",
        "out": "logging",
        "device": "machine",
    }
    INSTEAD: ClassVar = {"lr": ("muon_lr", "adamw_lr"), "epochs": ("steps", "minutes")}
    BUDGET: ClassVar = ("steps", "minutes", "epochs")
    NEW_RUN: ClassVar = "start a new run, with --init-from to keep what was learnt"
    FREE_TO_CHANGE: ClassVar = (*RunConfig.FREE_TO_CHANGE, "lr", "workers", "snapshots", "parallel", "timeout_minutes")

    def __post_init__(self) -> None:
        check_fields(self)
        White(self.white)  # refuses what is no such choice
        refuse_both(self.INSTEAD, lambda name: getattr(self, name) != getattr(TrainConfig, name))
        if self.lr is not None:  # from here on, the two that it stands for tell it
            ratio = self.adamw_lr / self.muon_lr
            for name, rate in (("muon_lr", self.lr), ("adamw_lr", self.lr * ratio), ("lr", None)):
                object.__setattr__(self, name, rate)
        if self.epochs and self.data in COMPOSED:
            self.steps_on(None)
        if self.out is not None and self.out.suffix != ".safetensors":
            object.__setattr__(self, "out", self.out.with_name(f"{self.out.name}.safetensors"))
        longest = max(self.input_size[0], self.input_size[1] or self.max_width)
        if self.patch_size is not None and self.patch_size > longest:
            raise ValueError(
                f"patch_size must be at most the image's longer side, {longest}, got {self.patch_size}; None makes the whole "
                "image one token"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size must be a multiple of accumulate, got {self.batch_size} and {self.accumulate}"
            )
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other: one goes on, the other starts anew")

    @property
    def model_config(self) -> ModelConfig:
        """The model to train.

        Raises:
            ValueError: If its fields do not fit each other.
        """
        own = {name: getattr(self, name) for name in MODEL_FIELDS if getattr(self, name) is not None}
        return preset_config(
            self.preset,
            input_size=self.input_size,
            patch_size=self.patch_size,
            max_width=self.max_width,
            dropout=self.dropout,
            use_flash_attention=self.use_flash_attention,
            use_gradient_checkpointing=self.use_gradient_checkpointing,
            **own,
        )

    def steps_on(self, num_images: int | None) -> int:
        """Steps that are asked for; see `RunConfig.steps_on`."""
        if self.epochs is None:
            return self.steps
        if num_images is None:
            raise ValueError(
                f"epochs must count images of which there is an end, got {self.epochs} of {self.data}, which are composed "
                "without end; give --steps or --minutes"
            )
        return self.epochs * math.ceil(num_images / self.batch_size)

    @property
    def learns_from(self) -> str:
        """The data, in words, which must stay the same from step to step."""
        return f"images of {self.data}"

    @property
    def out_path(self) -> Path:
        """Where the checkpoint goes."""
        if self.out is not None:
            return self.out
        places = re.split(r"[*{#]", re.sub("^(wds|hf):", "", self.data))
        source = "demo" if self.data == "demo" else Path(places[0]).name.rstrip("-_.") or "pictures"
        patch = patch_in_names(self.patch_size)
        return Path("checkpoints") / f"{source}_{self.preset}_{size_in_words(self.input_size)}_{patch}.safetensors"


def run_id(config: TrainConfig, fingerprint: str) -> str:
    """Names a training, in hex: what its weights follow from, wherever it is written and however often it is resumed.

    Args:
        config: The run.
        fingerprint: What names the images that it learns from.
    """
    told = {name: value for name, value in config.to_dict().items() if name not in (*config.FREE_TO_CHANGE, "out")}
    return hashlib.sha256(json.dumps([told, fingerprint], sort_keys=True).encode()).hexdigest()[:16]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps a run of `steps` keeps snapshots: the first before any, the gaps growing evenly, so that the end,
    of which the checkpoint itself tells, would be the next one.

    Returns:
        Rising; fewer than `count` where the run is so short that some would be the same.
    """
    return sorted({number * number * steps // (count * count) for number in range(count)})
