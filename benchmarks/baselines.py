"""Baselines of the autoencoder: PCA, and a convolutional autoencoder. `benchmarks.quality --baselines` trains them."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tae.data.batches import to_batch
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
