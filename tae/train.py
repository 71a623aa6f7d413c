"""Train a transformer autoencoder on the demo data or on a folder of your own images.

    python -m tae.train tiny --steps 3000
    python -m tae.train small --data ~/photographs --out checkpoints/photographs.safetensors

Ctrl-C stops after the current step and saves what has been learnt so far.
"""

import math
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from tae.checkpoint import Card, load_checkpoint, save_checkpoint
from tae.config import preset_config, size_in_words
from tae.datasets import DemoSource, FolderSource, ImageSource, to_batch
from tae.evaluate import evaluate, reconstruct
from tae.metrics import psnr_of
from tae.model import TransformerAutoencoder


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what is left."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; every field is a flag of the command line."""

    preset: Annotated[Literal["tiny", "small", "medium", "large", "xlarge"], tyro.conf.Positional] = "tiny"
    """Size of the model."""
    data: str = "demo"
    """"demo": composed garment photographs; else a folder of images, searched with its subfolders."""
    input_size: tuple[int, int | None] = (201, 201)
    """Height and width in pixels; width None: any width."""
    patch_size: int | None = 16
    """Side of a patch in pixels; None: one token for the whole image, as in the diagram."""
    max_width: int = 1280
    """Widest image where the width is None."""
    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 16
    """Images a step."""
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
    seed: int = 0
    """Of the weights and of the order of the data."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 autocast where the hardware has it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    eval_every: int = 200
    """Steps between looks at the held-out images."""
    save_every_s: int = 180
    """Seconds between saves."""
    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/<data>_<preset>_<size>_p<patch>.safetensors."""
    name: str | None = None
    """Name that the app shows."""
    init_from: Path | None = None
    """Start from this checkpoint's weights; the data goes on where it stopped."""

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "eval_every", "save_every_s"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.warmup_steps < 0 or self.seed < 0:
            raise ValueError(f"warmup_steps and seed must be at least 0, got {self.warmup_steps} and {self.seed}")
        for field in ("muon_lr", "adamw_lr", "clip_norm"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) > 0):
                raise ValueError(f"{field} must be a positive number, got {getattr(self, field)}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")

    @property
    def out_path(self) -> Path:
        if self.out is not None:
            return self.out
        source = "demo" if self.data == "demo" else Path(self.data).name
        patch = "one-token" if self.patch_size is None else f"p{self.patch_size}"
        return Path("checkpoints") / f"{source}_{self.preset}_{size_in_words(self.input_size)}_{patch}.safetensors"


@dataclass(frozen=True)
class TrainRecord:
    """One step.

    Attributes:
        step: Steps done, from 1.
        loss: Mean squared error of the batch.
        lr: Muon's learning rate.
        images_per_s: Since the start.
        seconds_left: Estimate from the pace so far.
        held_out_psnr: dB, where this step looked at the held-out images.
        saved: The checkpoint's path, where this step saved it.
    """

    step: int
    loss: float
    lr: float
    images_per_s: float
    seconds_left: float
    held_out_psnr: float | None = None
    saved: Path | None = None


def train(
    config: TrainConfig,
    source: ImageSource | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[TrainRecord]:
    """Train and save; yields a record for each step.

    Args:
        config: What to train, on what, for how long.
        source: Images; None: those that `config.data` names.
        should_stop: Asked after each step; once true, the run looks at the held-out images, saves, and ends.

    Raises:
        ValueError: If the model, the data or the starting checkpoint does not fit.
        TrainingError: If the loss is no longer a number; the last save stays.
    """
    device = pick_device(config.device)
    autocast = pick_autocast(config.precision, device)
    source = source or open_source(config)
    torch.manual_seed(config.seed)
    model, history = _starting_model(config)
    model.to(device).train()
    optimizers = make_optimizers(model, config)
    held_out = source.held_out(64)
    first_step = history["images_seen"] // config.batch_size
    started, cpu_started, last_save = time.monotonic(), time.process_time(), time.monotonic()
    curve: list[dict] = list(history["curve"])

    def save(step: int, metrics: dict) -> Path:
        training = {
            "data": source.data,
            "command": history["command"] + _command(config),
            "seed": config.seed,
            "steps": history["steps"] + step,
            "batch_size": config.batch_size,
            "images_seen": history["images_seen"] + step * config.batch_size,
            "seconds": round(history["seconds"] + time.monotonic() - started),
            "cpu_seconds": round(history["cpu_seconds"] + time.process_time() - cpu_started),
            "hardware": _hardware(device),
            "precision": "bf16 autocast" if autocast else "fp32",
            "torch": torch.__version__,
            "finished": step == config.steps,
            "curve": curve,
        }
        size = size_in_words(config.input_size)
        name = config.name or f"{source.name} {config.preset} {size}"
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        card = Card(name=name, training=training, metrics=metrics, data=source.data, licence=source.licence, notes="")
        return save_checkpoint(config.out_path, model, card)

    # The next batch is made while this one is learnt from.
    with ThreadPoolExecutor(max_workers=1) as loader:
        upcoming = loader.submit(source.batch, first_step, config.batch_size)
        for step in range(1, config.steps + 1):
            images, widths = to_batch(upcoming.result())
            if step < config.steps:
                upcoming = loader.submit(source.batch, first_step + step, config.batch_size)
            lr_share = lr_schedule(step - 1, config.steps, config.warmup_steps)
            loss = _step(model, optimizers, images.to(device), widths, lr_share, autocast, config.clip_norm)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} at step {step}; lower --muon-lr and --adamw-lr, or start again from the "
                    f"last save, {config.out_path}"
                )
            stopping = step == config.steps or should_stop()
            held_out_psnr, saved = None, None
            if stopping or step % config.eval_every == 0:
                held_out_psnr = _held_out_psnr(model, held_out)
                curve.append({"step": history["steps"] + step, "loss": loss, "held_out_psnr": held_out_psnr})
            if stopping:
                saved = save(step, evaluate(model, source.test(512), "test" if source.name == "demo" else "held out"))
            elif time.monotonic() - last_save > config.save_every_s:
                saved = save(step, {})
                last_save = time.monotonic()
            pace = (time.monotonic() - started) / step
            yield TrainRecord(
                step,
                loss,
                config.muon_lr * lr_share,
                config.batch_size / pace,
                pace * (config.steps - step),
                held_out_psnr,
                saved,
            )
            if stopping:
                return


def open_source(config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> ImageSource:
    """The images that `config.data` names.

    Raises:
        FileNotFoundError: If it is neither "demo" nor a folder.
        ValueError: If too few of the folder's files can be read.
    """
    if config.data == "demo":
        return DemoSource(config.input_size, config.max_width, config.seed)
    return FolderSource(Path(config.data).expanduser(), config.input_size, config.max_width, config.seed, progress)


def make_optimizers(model: TransformerAutoencoder, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices of the blocks, AdamW for embeddings, positions, norms, biases, output."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if ".blocks." in name and parameter.ndim == 2 else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay, momentum=0.95),
        torch.optim.AdamW(others, lr=config.adamw_lr, betas=(0.9, 0.98), weight_decay=0),
    ]


def lr_schedule(step: int, steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine down to 2 %; `step` counts from 0."""
    rise = min(1.0, (step + 1) / max(1, warmup_steps))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def masked_mse(recon: Tensor, images: Tensor, widths: Tensor | None) -> Tensor:
    """Mean squared error (B, 1, H, W) over the pixels that lie within each image's width."""
    squared = (recon.float() - images) ** 2
    if widths is None:
        return squared.mean()
    mask = torch.arange(images.shape[-1], device=images.device) < widths[:, None].to(images.device)
    return (squared * mask[:, None, None]).sum() / (mask.sum() * images.shape[2])


def pick_device(device: str) -> torch.device:
    """cuda where there is one and "auto" is asked.

    Raises:
        ValueError: If cuda is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("device must be available, got 'cuda' where there is none; choose 'auto' or 'cpu'")
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")


def pick_autocast(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: as asked, or where the hardware multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _step(
    model: TransformerAutoencoder,
    optimizers: list[torch.optim.Optimizer],
    images: Tensor,
    widths: Tensor | None,
    lr_share: float,
    autocast: bool,
    clip_norm: float,
) -> float:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        recon, _ = model(images, widths=widths)
    loss = masked_mse(recon, images, widths)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            peak = group.setdefault("peak_lr", group["lr"])
            group["lr"] = peak * lr_share
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _starting_model(config: TrainConfig) -> tuple[TransformerAutoencoder, dict]:
    """A fresh model or the one to go on from, and what it has been through."""
    history = {"steps": 0, "images_seen": 0, "seconds": 0, "cpu_seconds": 0, "curve": [], "command": ""}
    wanted = preset_config(
        config.preset, input_size=config.input_size, patch_size=config.patch_size, max_width=config.max_width
    )
    if config.init_from is None:
        return TransformerAutoencoder(wanted), history
    loaded = load_checkpoint(config.init_from)
    if loaded.model.config != wanted:
        differing = [
            f"{name}: asked {value!r}, found {asdict(loaded.model.config)[name]!r}"
            for name, value in asdict(wanted).items()
            if asdict(loaded.model.config)[name] != value
        ]
        raise ValueError(f"--init-from must hold the same model: {'; '.join(differing)}")
    history = {name: loaded.card.training.get(name, start) for name, start in history.items()}
    if history["command"]:
        history["command"] += f" (to step {history['steps']}), then "
    return loaded.model, history


def _held_out_psnr(model: TransformerAutoencoder, images: list[np.ndarray]) -> float:
    recons = reconstruct(model, images)
    errors = [float(((a / 255.0 - b) ** 2).mean()) for a, b in zip(images, recons, strict=True)]
    return float(np.mean([psnr_of(max(error, 1e-10)) for error in errors]))  # a perfect copy counts as 100 dB


def _command(config: TrainConfig) -> str:
    """The command line that asks for this run; folders shown by name alone, since a card travels."""
    parts = [f"python -m tae.train {config.preset}"]
    defaults = asdict(TrainConfig())
    for name, value in asdict(config).items():
        if name != "preset" and value != defaults[name]:
            shown = value.name if isinstance(value, Path) else value
            shown = Path(shown).name if name == "data" else shown
            words = " ".join(map(str, shown)) if isinstance(shown, tuple) else str(shown)
            parts.append(
                f"--{name.replace('_', '-')} {words!r}"
                if " " in words and name == "name"
                else f"--{name.replace('_', '-')} {words}"
            )
    return " ".join(parts)


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {words}"


def main() -> int:
    """The command line; returns the exit code."""
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        if stop_asked:
            raise KeyboardInterrupt
        stop_asked = True
        print("\nstopping after this step; Ctrl-C again to leave without saving", flush=True)

    try:
        config = tyro.cli(TrainConfig, description=__doc__)
        signal.signal(signal.SIGINT, ask_to_stop)
        source = open_source(config, _show_scan)
        for name, reason in getattr(source, "skipped", []):
            print(f"skipped {name}: {reason}")
        last_psnr = ""
        for record in train(config, source, lambda: stop_asked):
            if record.held_out_psnr is not None:
                last_psnr = f"held-out {record.held_out_psnr:.2f} dB   "
            line = (
                f"step {record.step}/{config.steps}   loss {record.loss:.5f}   {last_psnr}"
                f"{record.images_per_s:.1f} images/s   {_clock(record.seconds_left)} left"
            )
            is_news = record.held_out_psnr is not None or record.saved is not None
            if sys.stdout.isatty():
                print(f"\r\x1b[K{line}", end="\n" if is_news else "", flush=True)
            elif is_news:
                print(line, flush=True)
            if record.saved:
                print(f"saved {record.saved}", flush=True)
    except KeyboardInterrupt:
        print("\nleft without saving; the last save stays", file=sys.stderr)
        return 130
    except (ValueError, OSError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 130 if stop_asked else 0


def _show_scan(read: int, total: int) -> None:
    if sys.stdout.isatty() or read == total:
        print(f"\r\x1b[Kread {read} of {total} files", end="\n" if read == total else "", flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


if __name__ == "__main__":
    sys.exit(main())
