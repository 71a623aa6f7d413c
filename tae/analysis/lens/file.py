"""A lens as a file beside its checkpoint: safetensors with JSON metadata, sealed, read as files from strangers are."""

import json
import math
import re
from pathlib import Path
from typing import Any

from tae.analysis.lens.look import Lens, PartLens
from tae.model.config import PARTS, ModelConfig
from tae.store.sealed import SealedFile, check_tensors

SUFFIX = ".lens.safetensors"  # one of `tae.store.checkpoint.COMPANIONS`, so that it is not listed as a checkpoint
TENSORS = {"weight": "F16", "bias": "F32", "mean": "F32", "whiten": "F32"}
NUMBERS = ("usual", "limit", "psnr_raw", "psnr_tuned")  # what a file holds of a `PartLens`


class LensError(ValueError):
    """A lens is refused; one sentence that says why, without the file's folder."""


FILE = SealedFile(program="tae lens", texts=("lens",), what="a lens of this program", error=LensError, is_finite=True)


def lens_path(checkpoint: Path) -> Path:
    """The path of a checkpoint's lens."""
    return checkpoint.with_name(checkpoint.stem + SUFFIX)


def save_lens(path: Path, lens: Lens) -> None:
    """Write a lens, whole or not at all; an OSError leaves nothing behind."""
    tensors = {
        f"{part}.{name}": getattr(one, name).cpu().contiguous() for part, one in lens.parts.items() for name in TENSORS
    }
    numbers = {part: {name: getattr(one, name) for name in NUMBERS} for part, one in lens.parts.items()}
    text = json.dumps({"checkpoint": lens.checkpoint, "about": lens.about, "parts": numbers}, allow_nan=False)
    FILE.write(path, [text], tensors)


def load_lens(path: Path, config: ModelConfig, checkpoint: str) -> Lens:
    """Read a lens, strictly, of the model's config and of the checkpoint whose file has this SHA-256.

    Raises:
        FileNotFoundError: If there is none.
        LensError: If it is of another checkpoint, or is no whole and sound lens of this program.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    with FILE.open(path) as sealed:
        check_tensors(sealed.described, _expected_shapes(config))
        if any(dtype != TENSORS[name.split(".")[1]] for name, (dtype, _) in sealed.described.items()):
            raise ValueError("its tensors are of other types than a lens has")
        tensors = sealed.read().tensors
        of, about, numbers = _checked(sealed.json("lens"), config)
        if of != checkpoint:
            raise ValueError(
                f"it is of another checkpoint ({of[:12]}…, not {checkpoint[:12]}…); fit a new one with "
                "python -m tae.lens --overwrite"
            )
    fields: dict[str, dict[str, Any]] = {
        part: {name: tensors[f"{part}.{name}"] for name in TENSORS} | numbers[part] for part in PARTS
    }
    parts = {part: PartLens(**fields[part]) for part in PARTS}
    return Lens(checkpoint, parts, about)


def _expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    found, dim = {}, config.latent_dim
    for part in PARTS:
        layers = config.num_layers(part)
        shapes = {"weight": (layers, dim, dim), "bias": (layers, dim), "mean": (dim,), "whiten": (dim, dim)}
        found |= {f"{part}.{name}": shape for name, shape in shapes.items()}
    return found


def _checked(found: object, config: ModelConfig) -> tuple[str, dict, dict[str, dict]]:
    """The checkpoint's SHA-256, `Lens.about`, and the numbers of each part, from a description's JSON."""
    wrong = ValueError("its description does not hold what belongs there")
    if not isinstance(found, dict) or not isinstance(parts := found.get("parts"), dict) or parts.keys() != set(PARTS):
        raise wrong
    of, about = found.get("checkpoint"), found.get("about")
    if not isinstance(of, str) or not re.fullmatch("[0-9a-f]{64}", of) or not isinstance(about, dict):
        raise wrong
    numbers = {}
    for part in PARTS:
        one, layers = parts[part], config.num_layers(part)
        if not isinstance(one, dict) or one.keys() != set(NUMBERS):
            raise wrong
        for name in ("psnr_raw", "psnr_tuned"):
            if not isinstance(one[name], list) or len(one[name]) != layers + 1 or not all(map(_is_finite, one[name])):
                raise wrong
        if not _is_finite(one["usual"]) or not _is_finite(one["limit"]) or min(one["usual"], one["limit"]) <= 0:
            raise wrong
        numbers[part] = {name: tuple(value) if isinstance(value, list) else value for name, value in one.items()}
    return of, about, numbers


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
