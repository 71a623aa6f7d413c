"""A plan in words: what `python -m tae.plan` takes and prints."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro

from tae.model.config import ModelConfig, Threads, check_fields, preset_config, size_in_words
from tae.model.device import Precision, pick_device
from tae.training.config import Count
from tae.training.plan import HEADROOM, KINDS, calibrate, largest_batch, plan


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """A training to plan; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range.
    """

    preset: Annotated[Literal["tiny", "small", "medium", "large", "xlarge"], tyro.conf.Positional] = "tiny"
    """Size of the model."""
    input_size: tuple[int, int | None] = (201, 201)
    """Height and width in pixels; width None: any width."""
    patch_size: int | None = 16
    """Side of a patch in pixels; None: one token for the whole image, as in the diagram."""
    max_width: int = 1280
    """Widest image where the width is None."""
    width: int | None = None
    """Plan for images of this width where any is taken; None: the widest."""
    latent_dim: int | None = None
    """Numbers in the latent; None: the preset's."""
    batch_size: int = 16
    """Images an optimizer step."""
    accumulate: int = 1
    """Parts that a batch is cut into, one after the other."""
    precision: Precision = "fp32"
    """Precision of the forward and backward pass; weights and updates are float32."""
    use_flash_attention: bool = True
    """Fused attention; off: explicit softmax."""
    use_gradient_checkpointing: bool = False
    """Compute activations a second time in the backward pass: less memory, more time."""
    average: bool = False
    """Keep a running average of the weights (EMA)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Whose memory is planned; a GPU that is not there can be planned for, but not timed."""
    memory_gb: float | None = None
    """Say the largest batch for a device with so many GB (10^9 bytes)."""
    steps: Count = 3000
    """Optimizer steps of the whole training."""
    calibrate: bool = True
    """Time a small piece of the step on this machine, a few seconds."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.memory_gb is not None and not 0 < self.memory_gb < 1e6:
            raise ValueError(f"memory_gb must be a positive number of GB, got {self.memory_gb}")

    @property
    def model_config(self) -> ModelConfig:
        own = {} if self.latent_dim is None else {"latent_dim": self.latent_dim}
        names = ("input_size", "patch_size", "max_width", "use_flash_attention", "use_gradient_checkpointing")
        return preset_config(self.preset, **{name: getattr(self, name) for name in names}, **own)


WORDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "average": "averaged weights",
    "copies": "half-precision weights",
    "activations": "kept for the backward pass",
    "working": "working memory",
}


def report(config: PlanConfig) -> str:
    """The plan in lines for a terminal.

    Raises:
        ValueError: If a value does not fit.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    model_config = config.model_config
    device = pick_device("auto").type if config.device == "auto" else config.device
    shared = (config.precision, config.accumulate, config.width)
    it = plan(model_config, config.batch_size, *shared, device, config.average)
    lines = [
        f"{config.preset}, {size_in_words(config.input_size)}, {it.num_tokens} token{'s' * (it.num_tokens > 1)} an image, "
        f"{it.parameters / 1e6:.1f} M parameters, batches of {config.batch_size}, {config.precision} on {device}",
        "",
        f"{'memory (MB)':28}{'in all':>12}{'at the peak':>14}",
    ]
    lines += [
        f"{WORDS[kind]:28}{it.totals[kind] / 1e6:12,.1f}{it.at_peak[kind] / 1e6:14,.1f}"
        for kind in KINDS
        if it.totals[kind]
    ]
    place = {"optimizer": "in the optimizer's step"}.get(it.peak_phase, f"in the {it.peak_phase} pass")
    lines += [f"{'peak, ' + place:40}{it.peak / 1e6:14,.1f}", ""]
    if config.memory_gb is not None:
        most = largest_batch(model_config, config.memory_gb * 1e9, *shared, device, config.average)
        reserve = f"with {1 - HEADROOM:.0%} left free"
        fits = f"largest batch for {config.memory_gb:g} GB, {reserve}: {most}"
        lines += [fits if most else f"not even one image fits into {config.memory_gb:g} GB, {reserve}", ""]
    step_flops = config.batch_size * it.train_flops + it.optimizer_flops
    lines += [
        f"operations: {it.forward_flops / 1e9:,.2f} GFLOP an image forward, {it.train_flops / 1e9:,.2f} in training; "
        f"{step_flops / 1e9:,.0f} a step, of which the optimizer's {it.optimizer_flops / 1e9:,.0f}"
    ]
    if config.calibrate and (device == "cpu" or torch.cuda.is_available()):
        pace = calibrate(model_config, config.batch_size, *shared, device)
        lines += [
            f"time: {pace.seconds_per_step:.3g} s a step ({config.batch_size / pace.seconds_per_step:.3g} images/s), "
            f"{_duration(pace.seconds_per_step * config.steps)} for {config.steps} steps",
            f"  {pace.how} ({pace.took:.1f} s)",
        ]
    elif config.calibrate:
        lines.append("time: not measured, there is no CUDA device here")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
