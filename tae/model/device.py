"""The device that a computation runs on, chosen by capability, and the types that it may compute in."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]  # type of the forward and backward pass; weights and updates are float32
MuonPrecision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(device: str) -> torch.device:
    """cuda where there is one and "auto" is asked. Raises ValueError if cuda is asked for and there is none."""
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("device must be available, got 'cuda' where there is none; choose 'auto' or 'cpu'")
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")
