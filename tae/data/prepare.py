"""One image, as bytes, array or PIL image, to the tensor that a model takes: the step that every pipeline needs."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from tae.data.decode import DecodedImage, extents_of_array, frame_shape, image_of, read_image
from tae.data.fit import fit_image
from tae.data.limits import ImageError
from tae.data.white import White
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
    source: bytes | str | Path | np.ndarray | Tensor | Image.Image,
    model: nn.Module | ModelConfig,
    fit: str = "pad",
    white: str | White = "file",
) -> Prepared:
    """Read, turn to grey, scale to [0, 1] and bring to a model's size, by the rules that the app and the training follow.

    Args:
        source: The bytes of a file, or its path; an array or tensor (H, W), (1, H, W), (1, 1, H, W) or (H, W, 1, 3 or 4); or a
            PIL image. Of a stack the first is taken.
        model: The model, or its config.
        fit: One of `tae.data.fit.FIT_MODES`.
        white: Which number is white: "file", "type", "stretch", or black and white such as "0..4095" (`tae.data.white`). For what
            a training decided for its files, `White.of_training(loaded.card.training)`.

    Raises:
        ImageError: If it is no image that can be read, or cannot be brought to that size.
        ValueError: If `fit` or `white` is unknown, or `model` is none of this package.
        OSError: If there is no such file.
    """
    config = getattr(model, "config", model)
    if not isinstance(config, ModelConfig):
        raise ValueError(f"model must be a model or its config, got {type(model).__name__}")
    image = _decoded(source, White(white) if isinstance(white, str) else white)
    fitted = fit_image(image.pixels, config.input_size, fit, config.max_width)
    return Prepared(torch.from_numpy(np.array(fitted.pixels))[None, None], (*image.notes, *fitted.notes))


def _decoded(source: bytes | str | Path | np.ndarray | Tensor | Image.Image, white: White) -> DecodedImage:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_image(bytes(source), white=white, shown_side=1)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        return read_image(path.read_bytes(), path.name, white, shown_side=1)
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
    if values.ndim < 2 or not values.size or values.dtype.kind not in "buif":
        raise ImageError(f"an image must be (H, W) or (H, W, 1, 3 or 4) numbers, got {values.dtype} {values.shape}")
    count, frame = frame_shape(values.shape)
    values = values.reshape(count, *frame)
    if count == 1:
        return image_of(values[0], white, shown_side=1)
    notes = ["the first of several frames or pages"]
    return image_of(values[0], white.decide(extents_of_array(values)), shown_side=1, notes=notes)
