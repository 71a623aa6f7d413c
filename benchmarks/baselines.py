"""Baselines of the autoencoder: the mean image, PCA, and a convolutional autoencoder.

    python -m benchmarks.baselines

fits PCA, sweeps the convolutional autoencoder's learning rate, then trains it with the best for the whole budget;
`--go-on --cpu-seconds 310 --lrs 6e-4 --pca-images 0` trains what lies there for some more. `benchmarks.quality` measures
both beside the rest.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tae.analysis.evaluate import reconstruct
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.model.metrics import psnr_of
from tae.training.optim import set_lr, squared_errors


class ConvAutoencoder(nn.Module):
    """A plain convolutional autoencoder with one latent (B, latent_dim), for images in [0, 1] of one size.

    Narrower ones come with `widths`, as to the transformer: they are filled up with white on the right, whatever stood
    there, and what is drawn beyond a width counts neither in training nor in measuring.
    """

    CHANNELS = (16, 32, 64, 96, 96)

    def __init__(self, latent_dim: int = 128, size: tuple[int, int] = (201, 201)) -> None:
        super().__init__()
        self.size = size
        sides = [size]
        for _ in self.CHANNELS:
            sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
        down, up = [], []
        channels = (1, *self.CHANNELS)
        for level, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            if level > 1:
                down += [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            height, width = sides[level]
            missing = (1 - height % 2, 1 - width % 2)  # a side of 26 needs one pixel more than 2 * 13 - 1
            up_layers: list[nn.Module] = [nn.ConvTranspose2d(after, before, 3, 2, 1, output_padding=missing)]
            if level:
                up_layers += [nn.BatchNorm2d(before), nn.GELU()]
            if level > 1:
                up_layers += [nn.Conv2d(before, before, 3, padding=1), nn.BatchNorm2d(before), nn.GELU()]
            up = up_layers + up
        flat = self.CHANNELS[-1] * sides[-1][0] * sides[-1][1]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, flat),
            nn.Unflatten(1, (self.CHANNELS[-1], *sides[-1])),
            nn.GELU(),
            *up,
        )

    def forward(self, x: Tensor, widths: Tensor | None = None) -> tuple[Tensor, None]:
        """(B, 1, H, W) -> (B, 1, H, W); same signature as the transformer's, so that one code measures both."""
        width = x.shape[3]
        ink = 1 - x
        if widths is not None:
            ink = ink.masked_fill((torch.arange(width) >= widths[:, None])[:, None, None], 0)
        ink = nn.functional.pad(ink, (0, self.size[1] - width)).contiguous(memory_format=torch.channels_last)
        return 1 - self.decoder(self.encoder(ink))[..., :width], None


def train_for(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: Callable[[int], Sequence[np.ndarray]],
    cpu_seconds: float,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> int:
    """Train for a budget of processor time: warm-up, cosine to 2 %, clipping and mean squared error as `tae.train` has them.

    Args:
        model: (images, widths=...) -> (reconstruction, anything).
        optimizers: With their peak learning rates.
        batch: step -> uint8 images (H, W).
        cpu_seconds: Processor time of this process, composing the images included.
        report: Called every 100 steps with step, loss, seconds used.

    Returns:
        The steps it took; the model is in eval mode.
    """
    model.train()
    started, step = time.process_time(), 0
    while (used := time.process_time() - started) < cpu_seconds:
        set_lr(
            list(optimizers), min(1.0, (step + 1) / 60) * (0.02 + 0.49 * (1 + math.cos(math.pi * used / cpu_seconds)))
        )
        images, widths = to_batch(list(batch(step)))
        with torch.autocast("cpu", torch.bfloat16):
            recon, _ = model(images, widths=widths)
        columns = images.shape[0] * images.shape[3] if widths is None else int(widths.sum())
        loss = squared_errors(recon, images, widths).sum() / (columns * images.shape[2])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if step % 100 == 0:
            report(step, loss.item(), used)
    model.eval()
    return step


def train_conv(
    batch: Callable[[int], Sequence[np.ndarray]],
    lr: float,
    cpu_seconds: float,
    seed: int = 0,
    model: ConvAutoencoder | None = None,
    report: Callable[[int, float, float], None] = lambda step, loss, seconds: None,
) -> tuple[ConvAutoencoder, int]:
    """Train the convolutional autoencoder with AdamW; see `train_for`.

    Args:
        batch: step -> uint8 images (H, W).
        lr: Peak learning rate.
        cpu_seconds: Processor time.
        seed: Of the weights, where the model is fresh.
        model: To go on with; None: a fresh one for 201x201.
        report: As in `train_for`.

    Returns:
        The model in eval mode, and the steps it took.
    """
    torch.manual_seed(seed)
    model = model or ConvAutoencoder()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1e-4)
    return model, train_for(model, [optimizer], batch, cpu_seconds, report)


class Pca:
    """Principal components of flattened images, fitted in one pass over a stream of any length.

    An exact decomposition of the first batch gives twice as many vectors V as are kept; one pass collects the
    covariance's action on them, and a Nystrom approximation of the covariance from that gives the components (Tropp,
    Yurtsever, Udell, Cevher 2017, "Fixed-rank approximation of a positive-semidefinite matrix from streaming data").
    """

    def __init__(self, batches: Iterator[torch.Tensor], num_components: int, num_start: int = 2048) -> None:
        start: list[torch.Tensor] = []
        while sum(map(len, start)) < num_start:
            batch = next(batches, None)
            if batch is None:
                break
            start.append(batch)
        first = torch.cat(start)
        centred = first - first.mean(dim=0)
        values, vectors = torch.linalg.eigh(centred @ centred.T)  # the small side: (images, images)
        keep = min(2 * num_components, len(first) - 1)
        sketch = torch.linalg.qr(centred.T @ vectors[:, -keep:])[0]  # V (pixels, 2k)
        count, total, action = 0, torch.zeros(first.shape[1], dtype=torch.float64), torch.zeros_like(sketch)

        def everything() -> Iterator[torch.Tensor]:
            yield from start
            yield from batches

        for batch in everything():
            count += len(batch)
            total += batch.sum(dim=0)
            action += batch.T @ (batch @ sketch)
        self.mean = (total / count).float()
        action -= count * self.mean[:, None] * (self.mean @ sketch)
        core = (sketch.T @ action).double()
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        values = values.clamp_min(values[-1] * 1e-9)
        factor = action.double() @ (vectors / values.sqrt())  # covariance ~ factor factor^T
        self.components = torch.linalg.svd(factor, full_matrices=False)[0][:, :num_components].float()
        self.count = count

    def save(self, path: Path) -> None:
        """Write mean and components, so that another run can measure with them."""
        tensors = {"mean": self.mean, "components": self.components.contiguous(), "count": torch.tensor(self.count)}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> "Pca":
        """What `save` wrote."""
        pca = cls.__new__(cls)
        tensors = load_file(path)
        pca.mean, pca.components, pca.count = tensors["mean"], tensors["components"], int(tensors["count"])
        return pca

    def __call__(self, flat: torch.Tensor) -> torch.Tensor:
        """(n, pixels) -> (n, pixels), through the components alone."""
        return self.mean + ((flat - self.mean) @ self.components) @ self.components.T


def training_images(source: DemoSource, count: int, size: int = 512) -> Iterator[torch.Tensor]:
    """The images that training saw, flattened, (size, pixels) at a time."""
    for start in range(0, count, size):
        images = [source.compose("train", index) for index in range(start, min(start + size, count))]
        yield to_batch(images)[0].flatten(1)


@dataclass(frozen=True)
class BaselineConfig:
    cpu_seconds: float = 6200
    """Budget of the final training, in processor seconds; 0: fit PCA only."""
    sweep_seconds: float = 150
    """Budget of each learning rate in the sweep, beside the above."""
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    """Learning rates to try."""
    out: Path = Path("benchmarks/results/conv.safetensors")
    """Where the weights go, a JSON file with the sweep beside them."""
    go_on: bool = False
    """Train the weights that lie there with the first of the learning rates, instead of fresh ones with a sweep."""
    pca_images: int = 280_464
    """Images to fit PCA on, the same that training sees; 0: leave the fitted one as it is."""
    pca_out: Path = Path("benchmarks/results/pca.safetensors")
    """Where mean and components go."""


def main(config: BaselineConfig) -> None:
    torch.set_num_threads(1)
    source = DemoSource((201, 201))
    held_out = source.held_out(128)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    if config.pca_images:
        Pca(training_images(source, config.pca_images), 128).save(config.pca_out)
    if config.cpu_seconds == 0:
        return

    def run(
        lr: float, seconds: float, start: ConvAutoencoder | None = None, done: int = 0
    ) -> tuple[ConvAutoencoder, dict]:
        started = time.process_time()
        model, steps = train_conv(
            lambda step: source.batch(done + step, 16),
            lr,
            seconds,
            model=start,
            report=lambda step, loss, used: print(f"lr {lr:g}  step {step}  loss {loss:.5f}  {used:.0f} s", flush=True),
        )
        used = time.process_time() - started
        recons = reconstruct(model, held_out)
        psnr = np.mean([psnr_of(float(((a / 255.0 - b) ** 2).mean())) for a, b in zip(held_out, recons, strict=True)])
        record = {"lr": lr, "steps": steps, "cpu_seconds": round(used), "held_out_psnr": float(psnr)}
        print(record, flush=True)
        return model, record

    if config.go_on:
        before = json.loads(config.out.with_suffix(".json").read_text())
        start = ConvAutoencoder()
        start.load_state_dict(load_file(config.out))
        steps_done = sum(cycle["steps"] for cycle in before["cycles"])
        model, cycle = run(config.lrs[0], config.cpu_seconds, start, steps_done)
        sweep, cycles = before["sweep"], [*before["cycles"], cycle]
    else:
        sweep = [run(lr, config.sweep_seconds)[1] for lr in config.lrs]
        best = max(sweep, key=lambda record: record["held_out_psnr"])["lr"]
        model, cycle = run(best, config.cpu_seconds)
        cycles = [cycle]
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, config.out)
    config.out.with_suffix(".json").write_text(json.dumps({"sweep": sweep, "cycles": cycles}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(BaselineConfig, description=__doc__))
