"""Exact counts of parameters, memory and operations for any config, without allocating a model.

A model is built and run on fake tensors: PyTorch works out every shape, and computes and stores no number.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
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
    return _count(config, config.input_size[1] or config.max_width if width is None else width)


@lru_cache(256)
def _count(config: ModelConfig, width: int) -> Counts:
    smallest = replace(config, encoder_layers=1, decoder_layers=1)
    needs = one_each = _needs(smallest, width)
    # The blocks of a part are alike: a second one stands for all others.
    for name in ("encoder_layers", "decoder_layers"):
        if (more := getattr(config, name) - 1) > 0:
            layers: dict[str, Any] = {name: 2}
            needs = needs + more * (_needs(replace(smallest, **layers), width) - one_each)
    parameters, activation_bytes, flops = needs.tolist()
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


def _needs(config: ModelConfig, width: int) -> np.ndarray:
    """(parameters, bytes that one forward pass keeps for the backward pass, operations of its matrix products).

    Kept is each storage once, parameters and the image left out; with checkpointing, above all the tokens that enter each block.
    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        with torch.device("meta"):
            model = TransformerAutoencoder(config)
        # Fake tensors of the CPU instead of meta tensors: operations choose their form by the device.
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            image = torch.empty(1, 1, config.input_size[0], width)
            saved: dict[int, Tensor] = {}

            def keep(tensor: Tensor) -> Tensor:
                # Held until the end, so that no storage is freed and its number given to another.
                saved.setdefault(_storage(tensor), tensor)
                return tensor

            for block in (*model.encoder.blocks, *model.decoder.blocks) if config.use_gradient_checkpointing else ():
                block.register_forward_pre_hook(lambda _, inputs: (keep(inputs[0]), None)[1])  # none saved to PyTorch
            with _FlopTally() as tally, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model(image)
            own = {_storage(tensor) for tensor in (*model.parameters(), image)}
            kept = sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)
    return np.array([sum(parameter.numel() for parameter in model.parameters()), kept, tally.total])


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
