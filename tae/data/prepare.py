"""One image, as bytes, array or PIL image, to the tensor that a model takes: the step that every pipeline needs."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from tae.data.decode import DecodedImage, ImageError, image_of, read_image
from tae.data.fit import fit_image
from tae.model.config import ModelConfig

_ARRAYS = ("L", "RGB", "RGBA", "I;16", "I", "F")
"""PIL's modes whose numbers can be taken as they are."""


class Prepared(NamedTuple):
    """An image as a model takes it."""

    image: Tensor
    """(1, 1, H, W) float32 in [0, 1], 0 black; those of one width become a batch by `torch.cat`."""
    notes: tuple[str, ...]
    """What was done to it, a phrase each."""


def prepare(
    source: bytes | str | Path | np.ndarray | Tensor | Image.Image, model: nn.Module | ModelConfig, fit: str = "pad"
) -> Prepared:
    """Read, turn to grey, scale to [0, 1] and bring to a model's size, by the rules that the app and the training follow.

    Args:
        source: The bytes of a file, or its path; an array or tensor (H, W), (1, H, W), (1, 1, H, W) or (H, W, 1, 3 or 4); or a
            PIL image.
        model: The model, or its config.
        fit: One of `tae.data.fit.FIT_MODES`.

    Raises:
        ImageError: If it is no image that can be read, or cannot be brought to that size.
        ValueError: If `fit` is unknown, or `model` is none of this package.
        OSError: If there is no such file.
    """
    config = getattr(model, "config", model)
    if not isinstance(config, ModelConfig):
        raise ValueError(f"model must be a model or its config, got {type(model).__name__}")
    image = _decoded(source)
    fitted = fit_image(image.pixels, config.input_size, fit, config.max_width)
    return Prepared(torch.from_numpy(np.array(fitted.pixels))[None, None], (*image.notes, *fitted.notes))


def _decoded(source: bytes | str | Path | np.ndarray | Tensor | Image.Image) -> DecodedImage:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_image(bytes(source), shown_side=1)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        return read_image(path.read_bytes(), path.name, shown_side=1)
    if isinstance(source, Image.Image):
        upright = ImageOps.exif_transpose(source)
        if upright.mode not in _ARRAYS:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        values = np.asarray(upright)
    elif isinstance(source, Tensor):
        found = source.detach().cpu()
        values = (found.float() if found.is_floating_point() else found).numpy()  # numpy has no bfloat16
    else:
        values = np.asarray(source)
    shape = values.shape
    if len(shape) == 4 and shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    is_image = values.ndim == 2 or values.ndim == 3 and values.shape[2] in (1, 3, 4)
    if not is_image or not values.size or values.dtype.kind not in "buif":
        raise ImageError(f"an image must be (H, W) or (H, W, 1, 3 or 4) numbers, got {values.dtype} {shape}")
    return image_of(values, shown_side=1)
