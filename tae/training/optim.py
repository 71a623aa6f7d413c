"""The loss of a training, its optimizers, their learning rate, and the running average of the weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.device import DTYPES
from tae.training.config import TrainConfig
from tae.training.distributed import like
from tae.training.muon import Muon, is_block_matrix
from tae.training.precision import MuonPrecision, pick_muon_precision


def squared_errors(recon: Tensor, images: Tensor, widths: Tensor | None) -> Tensor:
    """Summed squared error of each image (B,) over the pixels within its width, in float32; both are (B, 1, H, W)."""
    squared = (recon.float() - images) ** 2
    if widths is not None:
        mask = torch.arange(images.shape[-1], device=images.device) < widths[:, None].to(images.device)
        squared = squared * mask[:, None, None]
    return squared.sum(dim=(1, 2, 3))


def make_optimizers(
    model: TransformerAutoencoder, config: TrainConfig, muon_precision: MuonPrecision | None = None
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, positions, norms, biases, output.

    Args:
        model: On the device where it learns.
        config: Learning rates and weight decay.
        muon_precision: None: as the config asks, on this machine.
    """
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if is_block_matrix(name, parameter) else others).append(parameter)
    dtype = DTYPES[muon_precision or pick_muon_precision(config.muon_precision, model)]
    return [
        Muon(matrices, config.muon_lr, config.weight_decay, momentum=0.95, dtype=dtype),
        torch.optim.AdamW(others, lr=config.adamw_lr, betas=(0.9, 0.98), weight_decay=0),
    ]


def lr_schedule(gone: float, step: int, risen: float, warmup_steps: int) -> float:
    """Share of the peak learning rate: a cosine down to 2% over the run, after a linear rise.

    Args:
        gone: Share of the whole run that is over, 0 to 1.
        step: Steps since the run began or was prolonged, from 0.
        risen: Share that is over of what then lay ahead; the rise takes a tenth of it at most.
        warmup_steps: Steps of the rise.
    """
    rise = min(1.0, max((step + 1) / max(1, warmup_steps), risen / 0.1))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * gone)))


def set_lr(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every group's learning rate to a share of its peak, the rate that it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * share


def optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """{"optim.<parameter>.<what>": tensor, as the optimizer has it}."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for what, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optim.{name}.{what}"] = value
    return tensors


def restore_optimizers(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took out.

    Raises:
        ValueError: If a tensor is missing.
    """
    homes = {
        id(one): optimizer for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]
    }
    for name, parameter in model.named_parameters():
        start = f"optim.{name}."
        found = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if not found:
            raise ValueError(f"the state holds nothing of the optimizer for {name}")
        homes[id(parameter)].state[parameter] = {what: like(value, parameter) for what, value in found.items()}


class WeightAverage:
    """A running average of the weights (EMA): what is saved and measured in place of the last step's."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, from 1; the first steps count for more, so that the start fades soon."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights and the average; a second call undoes the first, to the bit."""
        for name, parameter in model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(kept)
