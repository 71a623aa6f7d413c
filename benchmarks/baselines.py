"""Baselines of the autoencoder: PCA, and a convolutional autoencoder. `benchmarks.quality --baselines` trains them."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tae.data.batches import to_batch
from tae.training.optim import lr_schedule, optimizer_tensors, restore_optimizers, set_lr, squared_errors


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


Batch = Callable[[int], Sequence[np.ndarray]]
"""step -> uint8 images (H, W)."""


def take_step(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], images: Sequence[np.ndarray]) -> float:
    """One step down the mean squared error of the real pixels, clipped, in bf16, as `tae.train` has it; returns the loss."""
    batch, widths = to_batch(list(images))
    with torch.autocast("cpu", torch.bfloat16):
        recon, _ = model(batch, widths=widths)
    columns = batch.shape[0] * batch.shape[3] if widths is None else int(widths.sum())
    loss = squared_errors(recon, batch, widths).sum() / (columns * batch.shape[2])
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def cost_ratio(
    first: tuple[nn.Module, Sequence[torch.optim.Optimizer]],
    second: tuple[nn.Module, Sequence[torch.optim.Optimizer]],
    batch: Batch,
    rounds: int = 20,
) -> float:
    """Median of the processor time of a step of the first over one of the second, composing the images included.

    They take turns, so that what else the machine does, which changes what a processor second is worth, weighs on both.
    """
    ratios = []
    for step in range(-2, rounds):
        used = []
        for model, optimizers in (first, second):
            began = time.process_time()
            take_step(model, optimizers, batch(abs(step)))
            used.append(time.process_time() - began)
        if step >= 0:
            ratios.append(used[0] / used[1])
    return float(np.median(ratios))


def conv_optimizer(model: ConvAutoencoder, lr: float) -> torch.optim.Optimizer:
    """AdamW; the model's weights are put into the order in which convolutions are fast."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=1e-4)


def train_conv(
    model: ConvAutoencoder,
    batch: Batch,
    lr: float,
    steps: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
    state: Path | None = None,
) -> None:
    """Train a convolutional autoencoder with AdamW; warm-up and cosine to 2% as `tae.train` has them.

    Args:
        lr: Peak learning rate.
        report: Called every 100 steps with step and loss.
        state: A file that is kept up every 100 steps, and gone on from.

    The model is in eval mode afterwards.
    """
    model.train()
    optimizer, first = conv_optimizer(model, lr), 0
    if state is not None and state.exists():
        kept = load_file(state)
        first = int(kept.pop("step"))
        model.load_state_dict({name: kept[f"model.{name}"] for name in model.state_dict()})
        restore_optimizers(model, [optimizer], kept)
    for step in range(first, steps):
        set_lr([optimizer], lr_schedule(step / steps, step, step / steps, 60))
        loss = take_step(model, [optimizer], batch(step))
        if (step + 1) % 100 == 0:
            report(step + 1, loss)
            if state is not None:
                kept = {f"model.{name}": one for name, one in model.state_dict().items()}
                kept |= optimizer_tensors(model, [optimizer]) | {"step": torch.tensor(step + 1)}
                save_file({name: one.contiguous() for name, one in kept.items()}, state)
    model.eval()


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
