"""The device and the precision that a computation runs in, chosen by capability."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
"""Type of the forward and backward pass; weights and updates are float32."""
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(device: str) -> torch.device:
    """cuda where there is one and "auto" is asked.

    Raises:
        ValueError: If cuda is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("device must be available, got 'cuda' where there is none; choose 'auto' or 'cpu'")
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")


def pick_precision(precision: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """As asked; "auto": the fastest safe one that the hardware has."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_bf16 else "fp32"
