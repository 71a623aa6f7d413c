"""A plan in words: what `python -m tae.plan` takes and prints."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch

from tae.analysis.yardsticks import Yardsticks
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import Number, size_in_words
from tae.model.device import pick_device
from tae.training.config import COMPOSED, MODEL_FIELDS, TrainConfig
from tae.training.images.sources import ImageSource, open_source
from tae.training.planning.advice import ENOUGH_STEPS, best_beginning, shipped_that_fit
from tae.training.planning.plan import HEADROOM, KINDS, calibrate, largest_batch, plan, rough_step_flops
from tae.training.precision import pick_precision


@dataclass(frozen=True, kw_only=True)
class PlanConfig(TrainConfig):
    """A training to plan, told as `tae.train` is told it; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range.
    """

    width: int | None = None
    """Plan for images of this width where any is taken; None: the widest."""
    memory_gb: Annotated[float | None, Number(0.001, 10**6)] = None
    """Say the largest batch for a device with so many GB (10^9 bytes)."""
    calibrate: bool = True
    """Time a small piece of the step on this machine, a few seconds."""

    COMMAND: ClassVar = "tae.plan"
    GROUPS: ClassVar = TrainConfig.GROUPS | {"width": "plan"}


WORDS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "average": "averaged weights",
    "copies": "half precision",
    "activations": "activations",
    "working": "workspace",
}


def report(config: PlanConfig) -> str:
    """The plan in lines for a terminal.

    Raises:
        ValueError: If a value does not fit.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    model_config, average = config.model_config, config.ema_decay > 0
    device = torch.device(config.device) if config.device == "cuda" else pick_device(config.device)
    is_here = device.type == "cpu" or torch.cuda.is_available()
    asked = "bf16" if config.precision == "auto" and not is_here else config.precision
    precision = pick_precision(asked, device, model_config, config.batch_size // config.accumulate)
    shared = (precision, config.accumulate, config.width, device.type)
    it = plan(model_config, config.batch_size, *shared, average)
    lines = [
        f"{config.preset}, {size_in_words(config.input_size)}, {it.num_tokens} token{'s' * (it.num_tokens > 1)} an image, "
        f"{it.parameters / 1e6:.1f} M parameters, batches of {config.batch_size}, {precision} on {device.type}",
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
        most = largest_batch(model_config, config.memory_gb * 1e9, *shared, average)
        reserve = f"with {1 - HEADROOM:.0%} left free"
        fits = f"largest batch for {config.memory_gb:g} GB, {reserve}: {most}"
        lines += [fits if most else f"not even one image fits into {config.memory_gb:g} GB, {reserve}", ""]
    step_flops = config.batch_size * it.train_flops + it.optimizer_flops
    lines += [
        f"operations: {it.forward_flops / 1e9:,.2f} GFLOP an image forward, {it.train_flops / 1e9:,.2f} in training; "
        f"{step_flops / 1e9:,.0f} a step, of which the optimizer's {it.optimizer_flops / 1e9:,.0f}"
    ]
    source = None if config.data in COMPOSED else open_source(config)
    if source is not None:
        lines += [*source.remarks, *(f"skipped {name}: {reason}" for name, reason in source.skipped[:5])]
    if config.calibrate and is_here:
        pace = calibrate(model_config, config.batch_size, *shared)
        lines += [
            f"time: {pace.seconds_per_step:.3g} s a step ({config.batch_size / pace.seconds_per_step:.3g} images/s), "
            f"{_whole(config, pace.seconds_per_step, source)}",
            f"  {pace.how} ({pace.took:.1f} s)",
        ]
        if source is not None:
            lines += ["", *_advice(config, source, pace.seconds_per_step)]
    elif config.calibrate:
        lines.append("time: not measured, there is no CUDA device here")
    return "\n".join(lines)


def _advice(config: PlanConfig, source: ImageSource, seconds: float) -> list[str]:
    """What these images and this budget speak for, in lines; at so many seconds a step as it is asked for."""
    held_out = source.held_out(config.held_out_images)
    yardsticks = Yardsticks(source.examples(200), config.model_config.latent_dim).measure(held_out)
    told = ", ".join(f"{one.name} {one.psnr:.2f} dB" for one in yardsticks)
    lines = [f"{source.num_images} images to train on, {len(held_out)} held out; to be beaten on these: {told}"]
    shipped = shipped_that_fit(config.model_config) if config.warm_start and not config.init_from else []
    begins = best_beginning(TransformerAutoencoder(config.model_config), shipped, held_out) if shipped else None
    if begins:
        lines.append(f"begins with {begins.path.name}, which draws them with {begins.psnr:.2f} dB before any training")
    budget_s = 60 * config.minutes if config.minutes else seconds * config.steps_on(source.num_images)
    flops = rough_step_flops(config.model_config, config.batch_size, config.width)
    steps: dict[tuple[str, int | None], float] = {
        (preset, patch): budget_s / seconds * flops / _step_flops(config, preset, patch)
        for preset in ("tiny", "small", "medium")
        for patch in (8, 16, 32)
        if patch <= config.input_size[0]
    }
    enough = [one for one, count in steps.items() if count >= ENOUGH_STEPS]
    own: tuple[str, int | None] = (config.preset, config.patch_size)
    best = min(enough, key=steps.__getitem__) if enough else max(steps, key=steps.__getitem__)
    if own in steps and begins and steps[own] >= ENOUGH_STEPS / 5:
        best = own
    lines.append(
        f"suggested for {_duration(budget_s)}: {'as it is' if best == own else f'{best[0]} --patch-size {best[1]}'}, about "
        f"{steps[best]:,.0f} steps" + (f"; as asked for, {steps[own]:,.0f}" if own in steps and best != own else "")
    )
    behind = max(one.psnr for one in yardsticks) - (begins.psnr if begins else 0)
    if steps[best] < ENOUGH_STEPS and behind >= 0:
        times = ENOUGH_STEPS / steps[best]
        lines.append(
            f"that is short: to be ahead of all of these, a model that begins {behind:.1f} dB behind wants about "
            f"{ENOUGH_STEPS:,}, {times:.1f} times as long"
            if begins
            else f"that is short: a model that begins with random weights wants {ENOUGH_STEPS:,}, {times:.1f} times as long"
        )
    return lines


def _step_flops(config: PlanConfig, preset: str, patch: int) -> float:
    """Operations of one step of the same training with another model."""
    other = replace(config, preset=preset, patch_size=patch, **dict.fromkeys(MODEL_FIELDS))  # type: ignore[arg-type]
    return rough_step_flops(other.model_config, config.batch_size, config.width)


def _whole(config: PlanConfig, seconds: float, source: ImageSource | None) -> str:
    """The whole training, at so many seconds a step."""
    if config.minutes:
        return f"about {60 * config.minutes / seconds:,.0f} steps in {config.minutes:g} minutes"
    steps = config.steps_on(source.num_images if source else None)
    return f"{_duration(seconds * steps)} for {steps} steps"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
