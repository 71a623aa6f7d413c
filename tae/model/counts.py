"""Exact counts of parameters, memory and operations for any config, without allocating a model.

A model is built and run on fake tensors: PyTorch works out every shape, and computes and stores no number.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig

DIAGRAM_PARAMETERS = {
    "tiny": 500_000,
    "small": 2_000_000,
    "medium": 8_000_000,
    "large": 32_000_000,
    "xlarge": 128_000_000,
}
"""The architecture diagram's figures; the structure it draws cannot have so few."""
DIAGRAM_TRAINING_BYTES = 630_000_000  # what it says of training medium at 201x201 in batches of 16, in float32


@dataclass(frozen=True)
class Counts:
    """The size and cost of one model."""

    num_tokens: int  # N
    parameters: int  # numbers that are learnt
    weight_bytes: int  # bytes of the parameters in float32
    activation_bytes: int  # bytes that the forward pass of one image keeps for the backward pass, in float32
    forward_flops: int
    """Operations of the matrix products for one image, encoder and decoder; a multiplication and an addition are two."""
    map_bytes: int  # bytes of the attention maps of one image, all encoder layers and their average, in float32


def count(config: ModelConfig, width: int | None = None) -> Counts:
    """Count for one image `width` pixels wide, or as wide as the config allows.

    Raises ValueError if the model does not take this width.
    """
    if width is None:
        width = config.input_size[1] or config.max_width
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        with torch.device("meta"):
            model = TransformerAutoencoder(config)
        # Fake tensors of the CPU instead of meta tensors: operations choose their form by the device.
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            image = torch.empty(1, 1, config.input_size[0], width)
            activation_bytes = saved_for_backward(model, image)
            flops = forward_flops(model, image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows, columns = config.grid_for(width)
    num_tokens = rows * columns
    return Counts(
        num_tokens=num_tokens,
        parameters=parameters,
        weight_bytes=4 * parameters,
        activation_bytes=activation_bytes,
        forward_flops=flops,
        map_bytes=4 * (config.encoder_layers + 1) * num_tokens**2,
    )


def saved_for_backward(model: TransformerAutoencoder, images: Tensor) -> int:
    """Bytes that one forward pass keeps for the backward pass, each storage once; parameters and images left out.

    With checkpointing, these are above all the tokens that enter each block.
    """
    own = {_storage(tensor) for tensor in (*model.parameters(), images)}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Held until the end, so that no storage is freed and its number given to another.
        saved.setdefault(_storage(tensor), tensor)
        return tensor

    def keep_input(_: nn.Module, inputs: tuple) -> None:
        keep(inputs[0])

    blocks = [*model.encoder.blocks, *model.decoder.blocks] if model.config.use_gradient_checkpointing else []
    hooks = [block.register_forward_pre_hook(keep_input) for block in blocks]  # no saved tensors to PyTorch
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)


def forward_flops(model: TransformerAutoencoder, images: Tensor) -> int:
    """Operations of the matrix products in one forward pass, attention included."""
    with _FlopTally() as tally, torch.no_grad():
        model(images)
    return tally.total


class _FlopTally(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.total += flops_of(func, args, kwargs or {}, output)
        return output


FORMULAS = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention
    ],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ],
}


def flops_of(func: Any, args: tuple, kwargs: dict, output: Any) -> int:
    """Operations of one call, where it multiplies matrices; else 0.

    PyTorch's own formulas without its `FlopCounterMode`: that one hooks every module of the process, those of other
    threads too, and has no formula for the CPU's fused attention.
    """
    formula = FORMULAS.get(func.overloadpacket)
    return 0 if formula is None else formula(*args, **kwargs, out_val=output)


def _storage(tensor: Tensor) -> int:
    """A number that tells storages apart, also those of fake tensors."""
    return tensor.untyped_storage()._cdata
