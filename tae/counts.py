"""Exact counts of parameters, memory and operations for any config, without allocating a model.

The model is built and run on fake tensors: PyTorch works out every shape and nothing else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tae.config import ModelConfig
from tae.model import TransformerAutoencoder

DIAGRAM_PARAMETERS = {
    "tiny": 500_000,
    "small": 2_000_000,
    "medium": 8_000_000,
    "large": 32_000_000,
    "xlarge": 128_000_000,
}
"""What the architecture diagram says; its structure cannot have so few."""


@dataclass(frozen=True)
class Counts:
    """What one model takes, for one image.

    Attributes:
        num_tokens: N.
        parameters: Numbers that are learnt.
        weight_bytes: In float32.
        training_bytes: Weights, gradients and Adam's two moments in float32: 16 bytes a parameter.
        activation_bytes: What one image's forward pass keeps for the backward pass, in float32.
        forward_flops: One image, encoder and decoder; a multiplication and an addition are two.
        map_bytes: Attention maps of all encoder layers and their average, in float32.
    """

    num_tokens: int
    parameters: int
    weight_bytes: int
    training_bytes: int
    activation_bytes: int
    forward_flops: int
    map_bytes: int


def count(config: ModelConfig, width: int | None = None) -> Counts:
    """Count for one image.

    Args:
        config: Of the model.
        width: Of the image in pixels, where the config leaves it open; None: the widest.

    Raises:
        ValueError: If the model does not take this width.
    """
    height = config.input_size[0]
    width = width or config.input_size[1] or config.max_width
    with torch.device("meta"):
        model = TransformerAutoencoder(config).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")  # shapes of a CPU's tensors, without their memory
        image = torch.empty(1, 1, height, width)
        saved_bytes = saved_for_backward(model, image)
        # The explicit form spells every matrix product out; fused attention does the same ones.
        for part in (model.encoder, model.decoder):
            for block in part.blocks:
                block.attn.use_flash_attention = False
        with FlopCounterMode(display=False) as flops:
            model(image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows, columns = config.grid_for(width)
    num_tokens = rows * columns
    return Counts(
        num_tokens=num_tokens,
        parameters=parameters,
        weight_bytes=4 * parameters,
        training_bytes=16 * parameters,
        activation_bytes=saved_bytes,
        forward_flops=flops.get_total_flops(),
        map_bytes=4 * (config.encoder_layers + 1) * num_tokens**2,
    )


def saved_for_backward(model: TransformerAutoencoder, images: Tensor) -> int:
    """Bytes that one forward pass keeps for the backward pass, each storage once, parameters and images left out."""
    own = {_storage(tensor) for tensor in (*model.parameters(), images)}
    saved: dict[object, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The tensor is held until the end, so that no storage can be freed and its place be counted for another.
        saved.setdefault(_storage(tensor), (tensor, tensor.untyped_storage().nbytes()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)[0]
    del output
    return sum(size for storage, (_, size) in saved.items() if storage not in own)


def _storage(tensor: Tensor) -> object:
    return tensor.untyped_storage()._cdata
