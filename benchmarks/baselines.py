"""What the autoencoder is measured against: the mean image, PCA, and a convolutional autoencoder.

    python -m benchmarks.baselines --cpu-seconds 5000 --out benchmarks/results/conv.safetensors

sweeps the convolutional autoencoder's learning rate, then trains it with the best for the whole budget;
`benchmarks.quality` measures it beside the others.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn

from tae.datasets import DemoSource, to_batch
from tae.evaluate import reconstruct
from tae.metrics import psnr_of


class ConvAutoencoder(nn.Module):
    """A plain convolutional autoencoder with one latent (B, latent_dim), for 201x201 images in [0, 1]."""

    CHANNELS = (16, 32, 64, 96, 96)
    SIDES = (201, 101, 51, 26, 13, 7)

    def __init__(self, latent_dim: int = 128) -> None:
        super().__init__()
        down, up = [], []
        channels = (1, *self.CHANNELS)
        for level, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            if level > 1:
                down += [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            odd = self.SIDES[level] % 2  # a side of 26 needs one pixel more than 2 * 13 - 1
            up_layers: list[nn.Module] = [nn.ConvTranspose2d(after, before, 3, 2, 1, output_padding=1 - odd)]
            if level:
                up_layers += [nn.BatchNorm2d(before), nn.GELU()]
            if level > 1:
                up_layers += [nn.Conv2d(before, before, 3, padding=1), nn.BatchNorm2d(before), nn.GELU()]
            up = up_layers + up
        flat = self.CHANNELS[-1] * self.SIDES[-1] ** 2
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, flat),
            nn.Unflatten(1, (self.CHANNELS[-1], self.SIDES[-1], self.SIDES[-1])),
            nn.GELU(),
            *up,
        )

    def forward(self, x: Tensor, widths: None = None) -> tuple[Tensor, None]:
        """(B, 1, 201, 201) -> (B, 1, 201, 201); same signature as the transformer's, so that one code measures both."""
        return 1 - self.decoder(self.encoder(1 - x)), None


def train_conv(
    batch: Callable[[int], Sequence[np.ndarray]],
    lr: float,
    cpu_seconds: float,
    seed: int = 0,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[ConvAutoencoder, int]:
    """Train for a budget of processor time: AdamW, warm-up, cosine to 2 %, the same images as the transformer.

    Args:
        batch: step -> uint8 images (201, 201).
        lr: Peak learning rate.
        cpu_seconds: Processor time of this process, composing the images included.
        seed: Of the weights.
        report: Called every 100 steps with step, loss, seconds used.

    Returns:
        The model in eval mode, and the steps it took.
    """
    torch.manual_seed(seed)
    model = ConvAutoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1e-4)
    started, step = time.process_time(), 0
    while (used := time.process_time() - started) < cpu_seconds:
        share = used / cpu_seconds
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 60) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        images, _ = to_batch(list(batch(step)))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            recon, _ = model(images)
        loss = nn.functional.mse_loss(recon.float(), images)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            report(step, loss.item(), used)
    return model.eval(), step


@dataclass(frozen=True)
class BaselineConfig:
    cpu_seconds: float = 5000
    """Budget of the final training, in processor seconds."""
    sweep_seconds: float = 150
    """Budget of each learning rate in the sweep, beside the above."""
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    """Learning rates to try."""
    out: Path = Path("benchmarks/results/conv.safetensors")
    """Where weights go, and a JSON file beside them with the sweep."""


def main(config: BaselineConfig) -> None:
    torch.set_num_threads(1)
    source = DemoSource((201, 201))
    held_out = source.held_out(128)

    def run(lr: float, seconds: float) -> tuple[ConvAutoencoder, dict]:
        started = time.process_time()
        model, steps = train_conv(
            lambda step: source.batch(step, 16),
            lr,
            seconds,
            report=lambda step, loss, used: print(f"lr {lr:g}  step {step}  loss {loss:.5f}  {used:.0f} s", flush=True),
        )
        used = time.process_time() - started
        recons = reconstruct(model, held_out)
        psnr = np.mean([psnr_of(float(((a / 255.0 - b) ** 2).mean())) for a, b in zip(held_out, recons, strict=True)])
        record = {"lr": lr, "steps": steps, "cpu_seconds": round(used), "held_out_psnr": float(psnr)}
        print(record, flush=True)
        return model, record

    sweep = [run(lr, config.sweep_seconds)[1] for lr in config.lrs]
    best = max(sweep, key=lambda record: record["held_out_psnr"])["lr"]
    model, final = run(best, config.cpu_seconds)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, config.out)
    config.out.with_suffix(".json").write_text(json.dumps({"sweep": sweep, "final": final}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(BaselineConfig, description=__doc__))
