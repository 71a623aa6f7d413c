"""A lens as a file beside its checkpoint: safetensors with JSON metadata, sealed, read as files from strangers are."""

import json
import math
import re
from pathlib import Path

import torch

from tae.analysis.lens.look import Lens, PartLens
from tae.model.config import PARTS, ModelConfig
from tae.store.sealed import (
    describe,
    digests_of,
    open_regular,
    parse_json,
    read_contents,
    read_header,
    seal,
    shown,
    write_tensors,
)

PROGRAM = "tae lens"
FORMAT_VERSION = "1"
SUFFIX = ".lens.safetensors"
"""One of `tae.store.checkpoint.COMPANIONS`, so that it is not listed as a checkpoint."""
TENSORS = ("weight", "bias", "mean", "whiten")
NUMBERS = ("usual", "limit", "psnr_raw", "psnr_tuned")
"""What a file holds of a `PartLens`."""


class LensError(ValueError):
    """A lens is refused; one sentence that says why, without the file's folder."""


def lens_path(checkpoint: Path) -> Path:
    """Where a checkpoint's lens lies."""
    return checkpoint.with_name(checkpoint.stem + SUFFIX)


def save_lens(path: Path, lens: Lens) -> None:
    """Write a lens, whole or not at all.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    tensors = {
        f"{part}.{name}": getattr(one, name).cpu().contiguous() for part, one in lens.parts.items() for name in TENSORS
    }
    numbers = {part: {name: getattr(one, name) for name in NUMBERS} for part, one in lens.parts.items()}
    text = json.dumps({"checkpoint": lens.checkpoint, "about": lens.about, "parts": numbers}, allow_nan=False)
    metadata = {"program": PROGRAM, "format_version": FORMAT_VERSION, "lens": text}
    sha256 = seal([FORMAT_VERSION, text], describe(tensors), digests_of(tensors))
    write_tensors(path, tensors, {**metadata, "sha256": sha256})


def load_lens(path: Path, config: ModelConfig, checkpoint: str) -> Lens:
    """Read a lens, strictly.

    Args:
        path: Of the file.
        config: Of the model.
        checkpoint: SHA-256 of the checkpoint's file, which the lens must be of.

    Raises:
        FileNotFoundError: If there is none.
        LensError: If it is of another checkpoint, or is no whole and sound lens of this program.
    """
    try:
        with open_regular(path) as (file, size):
            header = read_header(file, size)
            metadata = header.metadata
            if metadata.get("program") != PROGRAM:
                raise ValueError("it is not a lens of this program")
            if metadata.get("format_version") != FORMAT_VERSION:
                version = shown(metadata.get("format_version", "")) or "none"
                raise ValueError(f"its format must be {FORMAT_VERSION}, got {version}")
            if "lens" not in metadata or "sha256" not in metadata:
                raise ValueError("its metadata lack lens or sha256")
            described = {entry.name: (entry.dtype, entry.shape) for entry in header.entries}
            if described != (expected := _expected(config)):
                wrong = sorted(name for name in {*described, *expected} if described.get(name) != expected.get(name))
                raise ValueError(f"its tensors are not those of the model: {', '.join(map(shown, wrong[:5]))}")
            contents = read_contents(file, header)
        if seal([FORMAT_VERSION, metadata["lens"]], described, contents.digests) != metadata["sha256"]:
            raise ValueError("the file is damaged: its content does not have the SHA-256 that it was saved with")
        found = parse_json(metadata["lens"], "its description")
        of, about, numbers = _checked(found, config)
        if of != checkpoint:
            raise ValueError(
                f"it is of another checkpoint ({of[:12]}…, not {checkpoint[:12]}…); fit a new one with "
                "python -m tae.lens --overwrite"
            )
        if not all(bool(torch.isfinite(tensor).all()) for tensor in contents.tensors.values()):
            raise ValueError("it holds NaN or infinity")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LensError(f"{path.name}: cannot be read ({error.strerror or 'input/output error'})") from error
    except ValueError as error:
        raise LensError(f"{path.name}: {error}") from error
    parts = {
        part: PartLens(**{name: contents.tensors[f"{part}.{name}"] for name in TENSORS}, **numbers[part])
        for part in PARTS
    }
    return Lens(checkpoint, parts, about)


def _expected(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    dim = config.latent_dim
    return {
        f"{part}.{name}": kind
        for part, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers))
        for name, kind in {
            "weight": ("F16", (layers, dim, dim)),
            "bias": ("F32", (layers, dim)),
            "mean": ("F32", (dim,)),
            "whiten": ("F32", (dim, dim)),
        }.items()
    }


def _checked(found: object, config: ModelConfig) -> tuple[str, dict, dict[str, dict]]:
    """The checkpoint's SHA-256, `Lens.about`, and the numbers of each part, from a description's JSON."""
    wrong = ValueError("its description does not hold what belongs there")
    if not isinstance(found, dict) or not isinstance(parts := found.get("parts"), dict) or parts.keys() != set(PARTS):
        raise wrong
    of, about = found.get("checkpoint"), found.get("about")
    if not isinstance(of, str) or not re.fullmatch("[0-9a-f]{64}", of) or not isinstance(about, dict):
        raise wrong
    numbers = {}
    for part, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        one = parts[part]
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
