"""What one training run is: `TrainConfig`, its command line, the model it asks for."""

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tae.model.config import ModelConfig, patch_in_names, preset_config, size_in_words

Precision = Literal["auto", "fp32", "bf16", "fp16"]
MODEL_FIELDS = ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio")
"""Of the model; None in a `TrainConfig` stands for the preset's value."""
FREE_TO_CHANGE = ("resume", "overwrite", "workers", "log_every", "save_every_s", "snapshots", "name", "parallel")
"""What may differ when a run is resumed, because the weights do not depend on it, or are in its state already."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range or does not fit another.
    """

    preset: Annotated[Literal["tiny", "small", "medium", "large", "xlarge"], tyro.conf.Positional] = "tiny"
    """Size of the model."""
    data: str = "demo"
    """"demo": composed garment photographs; else a folder of images, searched with its subfolders; one file: a .npy
    stack (T, H, W) or a multi-page TIFF; or a pattern in quotes, such as "photos/**/*.png"."""
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

    steps: int = 3000
    """Optimizer steps."""
    minutes: float | None = None
    """A time budget in place of --steps: the pace is measured at the start, and turned into a number of steps."""
    batch_size: int = 16
    """Images an optimizer step, over all processes."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other: less memory, the same gradient."""
    muon_lr: float = 0.02
    """Learning rate of Muon, for the matrices of the blocks."""
    adamw_lr: float = 2e-3
    """Learning rate of AdamW, for everything else."""
    weight_decay: float = 0.01
    """Of Muon; AdamW has none."""
    warmup_steps: int = 60
    """Steps in which the learning rate rises; then it falls as a cosine to 2 %."""
    clip_norm: float = 1.0
    """Ceiling of the gradient's norm."""
    ema_decay: float = 0.0
    """Keep a running average of the weights, and save and measure that one; 0: no average; .999 is usual."""
    seed: int = 0
    """Of the weights, the order of the data, augmentation and dropout."""

    flip: float = 0.5
    """Share of your images that are mirrored left to right. This and the next three leave the demo data alone: those
    are composed anew for every step."""
    shift: float = 0.05
    """Images are moved by up to this share of their sides."""
    zoom: float = 0.1
    """Images are enlarged or shrunk by up to this share."""
    contrast: float = 0.1
    """Contrast and brightness are changed by up to this share."""

    precision: Precision = "auto"
    """Of the forward and backward pass; weights and updates are float32. auto: bf16 where the hardware multiplies in it,
    else fp16 with a gradient scaler on CUDA, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: int | None = None
    """CPU threads; None: PyTorch's choice. The weights are the same to the bit only for the same number."""
    use_flash_attention: bool = True
    """Fused attention; off: explicit softmax."""
    use_gradient_checkpointing: bool = False
    """Compute activations a second time in the backward pass: less memory, more time."""
    use_compile: bool = False
    """torch.compile: minutes at the start, for faster steps on a GPU. Needs a C++ compiler."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """With torchrun. ddp: each process holds the whole model; fsdp: weights, gradients and optimizer are spread over the
    processes; auto: ddp where a device can hold them."""
    workers: int = 2
    """Threads that read and prepare images ahead of the model."""

    eval_every: int = 200
    """Steps between looks at the held-out images."""
    held_out_images: int = 64
    """Held-out images to watch the training by."""
    test_images: int = 512
    """Images for the final figures on the card: of the demo's test split, or held-out ones of yours."""
    log_every: int = 10
    """Steps between lines of the log."""
    save_every_s: float = 60
    """Seconds between saves of the whole state, from which --resume goes on; 0: after each step."""
    snapshots: int = 8
    """Copies of the weights kept on the way, from the untrained ones on, denser at the start, where most happens; the page
    Layers looks at a picture through them. 0: none."""
    max_unreadable: float = 0.1
    """Share of unreadable files at which the run refuses to start."""

    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/<data>_<preset>_<size>_p<patch>.safetensors. State and logs go to
    runs/ beside it."""
    name: str | None = None
    """Name that the app shows."""
    resume: bool = False
    """Go on from the newest whole state of this run."""
    overwrite: bool = False
    """Start anew where --out or an earlier run's state exists, and replace them."""
    init_from: Path | None = None
    """A new run that starts from this checkpoint's weights; with --resume only where the run has no state yet."""

    def __post_init__(self) -> None:
        whole = ("steps", "batch_size", "accumulate", "eval_every", "held_out_images", "test_images", "log_every")
        for field in whole:
            _check(field, getattr(self, field), 1, 10**9, int)
        for field in ("warmup_steps", "seed"):
            _check(field, getattr(self, field), 0, 2**31 - 1, int)
        _check("workers", self.workers, 1, 64, int)
        _check("snapshots", self.snapshots, 0, 1000, int)
        if self.threads is not None:
            _check("threads", self.threads, 1, 1024, int)
        if self.minutes is not None:
            _check("minutes", self.minutes, 0.01, 10**6, float)
        for field in ("muon_lr", "adamw_lr", "clip_norm"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field} must be a positive number, got {value}")
        for field, high in {"weight_decay": 10, "ema_decay": 0.999999, "flip": 1, "max_unreadable": 1}.items():
            _check(field, getattr(self, field), 0, high, float)
        for field in ("shift", "zoom", "contrast"):
            _check(field, getattr(self, field), 0, 0.9, float)
        _check("save_every_s", self.save_every_s, 0, 10**9, float)
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

    @property
    def out_path(self) -> Path:
        if self.out is not None:
            return self.out
        source = "demo" if self.data == "demo" else Path(self.data.split("*")[0]).name or "pictures"
        patch = patch_in_names(self.patch_size)
        return Path("checkpoints") / f"{source}_{self.preset}_{size_in_words(self.input_size)}_{patch}.safetensors"


def run_id(config: TrainConfig, fingerprint: str) -> str:
    """Names a training, in hex: what its weights follow from, wherever it is written and however often it is resumed.

    Args:
        config: Of the run.
        fingerprint: Of what it learns from.
    """
    told = {name: value for name, value in config_to_dict(config).items() if name not in (*FREE_TO_CHANGE, "out")}
    return hashlib.sha256(json.dumps([told, fingerprint], sort_keys=True).encode()).hexdigest()[:16]


def snapshot_steps(steps: int, count: int) -> list[int]:
    """After which steps a run of `steps` keeps snapshots: the first before any, the gaps growing evenly, so that the end,
    of which the checkpoint itself tells, would be the next one.

    Returns:
        Rising; fewer than `count` where the run is so short that some would be the same.
    """
    return sorted({number * number * steps // (count * count) for number in range(count)})


def command_line(config: TrainConfig) -> list[str]:
    """The arguments of `python -m tae.train` that ask for this run; what stands at its default is left out."""
    words = [config.preset]
    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name == "preset" or value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            values = value if isinstance(value, tuple) else (value,)
            texts = [str(one) for one in values]
            # A text that begins with a dash would be taken for a flag.
            words += [f"{flag}={texts[0]}"] if texts[0].startswith("-") and len(texts) == 1 else [flag, *texts]
    return words


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain values that JSON can carry."""
    plain = {}
    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        plain[field.name] = (
            str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        )
    return plain


def config_from_dict(values: object) -> TrainConfig:
    """The config that `config_to_dict` and JSON made plain.

    Raises:
        ValueError: If it is no dict, names an unknown field, or `TrainConfig` refuses a value.
    """
    known = {field.name for field in fields(TrainConfig)}
    if not isinstance(values, dict) or not values.keys() <= known:
        raise ValueError("a training config must be a dict of the fields of TrainConfig")
    values = dict(values)
    for name in ("out", "init_from"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    if "input_size" in values:
        values["input_size"] = tuple(values["input_size"])
    try:
        return TrainConfig(**values)
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"a training config holds a value of the wrong type: {error}") from None


def differences(before: TrainConfig, now: TrainConfig) -> list[str]:
    """What a resumed run may not change and does, a phrase each."""
    return [
        f"{field.name}: was {getattr(before, field.name)!r}, now {getattr(now, field.name)!r}"
        for field in fields(TrainConfig)
        if field.name not in FREE_TO_CHANGE and getattr(before, field.name) != getattr(now, field.name)
    ]


def _check(name: str, value: object, low: float, high: float, kind: type) -> None:
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:  # NaN too
        words = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {words} from {low:g} to {high:g}, got {value!r}")
