"""Checkpoints of other formats and programs, made into ours: the only code that lets a pickle be opened.

A pickle is opened in a process of its own, which lets tensors and plain values through alone (`weights_only`), whose memory is
bounded by the file's size, and which hands over a safetensors file. What it holds is told by the names of its tensors:

- the original, AutoEncoder_TransformerV2_0 of the architecture diagram: its one-token form is exactly ours
- ours, where weights were saved without the config and card that `save_checkpoint` writes
"""

import difflib
import hashlib
import math
import multiprocessing
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, PRESETS, ModelConfig, config_from_dict, size_in_words
from tae.store.card import Card, clean_text
from tae.store.checkpoint import CheckpointError, expected_shapes, unprefixed
from tae.store.regular import open_regular, to_json
from tae.store.sealed import DTYPES, MAX_FILE_BYTES, SealedFile, check_finite, check_tensors, describe, shown

WRAPPERS = ("model", "model_state_dict", "state_dict")
"""Keys under which programs keep the weights beside an optimizer, an epoch, a config."""
SIZES: tuple[tuple[int, int], ...] = ((201, 201), (152, 1280))
"""(height, width) that are tried where a file does not say which it was made for."""
SPARE = 2 * 1024**3  # bytes beside three times the file that its process may take: PyTorch itself is there already

ORIGINAL_EPS = 1e-6  # of the original's layer norms

_RENAMED = {
    "patch_embed.proj": "input_proj",
    "pos_embed.weight": "pos_encoding.pos_embedding",
    "decoder.expand": "decoder.latent_expand",
    "decoder.proj": "decoder.output_proj",
    "mlp.2": "mlp.3",
}
"""What the original calls by another name, of ours."""
_HANDED = SealedFile(texts=("about",), what="the tensors of another file")


@dataclass(frozen=True)
class Converted:
    """A checkpoint of another kind as one of ours."""

    model: TransformerAutoencoder  # in eval mode, on the CPU, float32
    card: Card  # says from what, by what and when
    notes: list[str]  # what had to be taken for granted, a sentence each


def convert(path: Path, input_size: tuple[int, int | None] | None = None, num_heads: int | None = None) -> Converted:
    """Read a checkpoint that PyTorch pickled.

    Args:
        path: A .pt, .pth or .ckpt file: a state dict, bare or under one of `WRAPPERS`.
        input_size: (height, width) in pixels, width None for any; None: the one of `SIZES` that fits.
        num_heads: Attention heads, which weights do not tell; None: those of the preset of this width. With one token they
            change nothing.

    Raises:
        CheckpointError: If the file cannot be read, holds more than tensors and plain values, is of no known program, or does not
            say its size.
        ValueError: If the input size or the heads do not fit the weights.
    """
    name = clean_text(path.name, 80) or "file"
    try:
        with open_regular(path) as (file, size):
            if size > MAX_FILE_BYTES:
                raise ValueError(f"the file must be at most {MAX_FILE_BYTES // 1024**3} GiB, got {size} bytes")
            start = file.read(9)
            if not start.startswith((b"PK", b"\x80")):
                already = start[8:] == b"{"
                raise ValueError(
                    "it is a safetensors file, which needs no converting: put it into the folder of checkpoints"
                    if already
                    else "it is no checkpoint that PyTorch pickled"
                )
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        tensors = _handed_over(path, size)
        is_original = any(name.startswith(("encoder.input_proj", "decoder.output_proj")) for name in tensors)
        weights = _weights_of(tensors, is_original)
        if is_original:
            _as_ours(weights)
        config, notes = _config_of(
            weights, input_size, num_heads, ORIGINAL_EPS if is_original else ModelConfig.norm_eps
        )
        check_tensors(describe(weights), expected_shapes(config))
        check_finite(weights)
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read ({error.strerror or 'input/output error'})") from error
    except ValueError as error:
        raise CheckpointError(clean_text(f"{name}: {error}", 2000)) from error
    with torch.device("meta"):
        model = TransformerAutoencoder(config)
    model.load_state_dict(weights, assign=True)
    made_by = "AutoEncoder_TransformerV2_0" if is_original else "tae, weights alone"
    converted = {
        "from": name,
        "sha256": digest,
        "program": made_by,
        "by": "tae.convert",
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    about = f"Converted from {name} ({made_by}). {' '.join(notes)}"
    return Converted(
        model.eval(),
        Card(name=clean_text(path.stem, 80) or "converted", training={"converted": converted}, notes=about),
        notes,
    )


def _handed_over(path: Path, size: int) -> dict[str, Tensor]:
    """The tensors of a pickle, float32, by names without prefixes. Raises ValueError if they cannot be had."""
    with tempfile.TemporaryDirectory(prefix="tae-convert-") as folder:
        out = Path(folder) / "tensors.safetensors"
        # A server that has PyTorch imported forks the processes, so that only the first one waits for that.
        context = (
            multiprocessing.get_context("forkserver") if hasattr(os, "fork") else multiprocessing.get_context("spawn")
        )
        context.set_forkserver_preload([__name__])
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_unpickle, args=(str(path), str(out), 3 * size + SPARE, sender), daemon=True)
        process.start()
        sender.close()
        try:
            fault = receiver.recv()
        except EOFError:
            fault = (
                "the process that opens it ended early: it took more memory or time than such a file should, or no process could "
                "be started from here"
            )
        finally:
            process.join()
        if fault:
            raise ValueError(fault)
        with _HANDED.open(out) as sealed:
            tensors = sealed.read().tensors
    found = {unprefixed(name): tensor.float() for name, tensor in tensors.items()}
    if len(found) < len(tensors):
        raise ValueError("two of its tensors have the same name but for a prefix")
    return found


def _unpickle(path: str, out: str, memory: int, sender: Any) -> None:
    """In a process of its own: write the tensors of a pickle; sends "" or what is wrong."""
    _bound(memory)
    warnings.simplefilter("ignore")
    try:
        sender.send(_write_tensors_of(path, Path(out)))
    except Exception as error:  # a broken pickle can raise anything
        sender.send(_why_not(error))


def _bound(memory: int) -> None:
    """Let this process have so many bytes more than it has now, and ten minutes of processor time."""
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # no Linux: what PyTorch lets through is the same, its memory is not bounded
        return
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (600, 600))


def _write_tensors_of(path: str, out: Path) -> str:
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"  # as PyTorch writes since 1.6; older files cannot be mapped
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)  # noqa: TID251 - see above
    if not isinstance(content, Mapping):
        return f"it holds no weights by name, but {type(content).__name__}; expected what model.state_dict() gives"
    states = [content, *(content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))]
    named = [{str(name): one for name, one in state.items() if isinstance(one, Tensor)} for state in states]
    tensors = next(filter(None, reversed(named)), None)
    if not tensors:
        keys = ", ".join(shown(str(key)) for key in [*content][:5]) or "nothing"
        return f"it holds no weights by name; expected under {', '.join(WRAPPERS)} or bare, found {keys}"
    for name, one in tensors.items():
        if one.is_meta or one.layout != torch.strided or one.is_quantized or one.is_complex():
            return (
                f"its tensor {shown(name)} is quantised, sparse, complex or without values; plain numbers are expected"
            )
    known = DTYPES.values()
    plain = {name: (one if one.dtype in known else one.float()).detach().contiguous() for name, one in tensors.items()}
    _HANDED.write(out, [to_json({})], plain)
    return ""


def _why_not(error: Exception) -> str:
    if isinstance(error, MemoryError) or "allocate" in str(error):  # as PyTorch's allocator says it
        return "opening it took more memory than a file of this size should"
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"it holds more than tensors and plain values, such as {shown(foreign[1])}, and could run code; save the state dict "
            "alone where it was made: torch.save(model.state_dict(), ...)"
        )
    return f"PyTorch cannot read it as a checkpoint ({type(error).__name__})"


def _theirs(name: str) -> str:
    """The original's name of a tensor of ours."""
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return name


def _weights_of(tensors: Mapping[str, Tensor], is_original: bool) -> dict[str, Tensor]:
    """A file's tensors by our names. Raises ValueError, with the nearest names on both sides, if they are not all there."""
    layers = {
        f"{part}_layers": len({name.split(".")[2] for name in tensors if name.startswith(f"{part}.blocks.")}) or 1
        for part in PARTS
    }
    patch_size = None if is_original or "decoder.start.down" not in tensors else 16
    axes = expected_shapes(config_from_dict({"patch_size": patch_size, **layers}))
    names = {_theirs(name) if is_original else name: name for name in axes}
    missing = [name for name in names if name not in tensors and not (is_original and name.endswith("qkv.bias"))]
    if missing or not tensors.keys() <= names.keys():
        extra = [name for name in tensors if name not in names]
        raise ValueError(
            "its tensors are not those of AutoEncoder_TransformerV2_0, nor of tae; "
            + "; ".join(
                [*_nearest("missing", missing, extra, "found"), *_nearest("not expected", extra, names, "expected")]
            )
        )
    for name, ours in names.items():
        if name in tensors and (tensors[name].ndim != len(axes[ours]) or 0 in tensors[name].shape):
            raise ValueError(
                f"its tensor {name} must have {len(axes[ours])} axes and no empty one, got {[*tensors[name].shape]}"
            )
    return {ours: tensors[name] for name, ours in names.items() if name in tensors}


def _nearest(what: str, names: Sequence[str], others: Iterable[str], where: str) -> list[str]:
    """Some of the names, each with the one of the others that is most like it; [] where there are none."""
    others, told = [*others], []
    for name in names[:3]:
        near = difflib.get_close_matches(name, others, 1, 0.5)
        told.append(shown(name) + (f" (nearest that is {where}: {shown(near[0])})" if near else ""))
    return [f"{len(names)} {what}: {', '.join(told)}{', ...' if len(names) > 3 else ''}"] if names else []


def _as_ours(weights: dict[str, Tensor]) -> None:
    """The original's weights, in place: it works on the image, ours on ink = 1 - image, and its qkv have no bias."""
    first, last = "encoder.patch_embed.proj", "decoder.proj"
    if len(weights[f"{first}.bias"]) != len(weights[f"{first}.weight"]):
        raise ValueError("encoder.input_proj must have as many biases as rows of weights")
    biases = [f"{name[:-6]}bias" in weights for name in weights if name.endswith("qkv.weight")]
    if any(biases) and not all(biases):
        raise ValueError("the qkv of all its blocks must have a bias, or none")
    weights[f"{first}.bias"] = (weights[f"{first}.bias"].double() + weights[f"{first}.weight"].double().sum(1)).float()
    weights[f"{last}.bias"] = 1 - weights[f"{last}.bias"]
    for name in (first, last):
        weights[f"{name}.weight"] = -weights[f"{name}.weight"]
    for name, tensor in [*weights.items()]:
        if name.endswith("pos_embed.weight"):  # a row for each pixel, of which one is ever used
            if len(tensor) != 1:
                raise ValueError(f"its position tables must be (1, positions, numbers), got {[*tensor.shape]}")
            weights[name] = tensor[:, :1]
        elif name.endswith("qkv.weight"):
            weights.setdefault(name.replace("weight", "bias"), tensor.new_zeros(len(tensor)))


def _config_of(
    weights: Mapping[str, Tensor], asked: tuple[int, int | None] | None, num_heads: int | None, norm_eps: float
) -> tuple[ModelConfig, list[str]]:
    """The config that weights have, and what had to be taken for granted."""
    notes: list[str] = []
    embed, grid = weights["encoder.patch_embed.proj.weight"], weights["encoder.pos_embed.weight"]
    dim, pixels = embed.shape
    rows, columns = grid.shape[:2]
    is_one_token = (rows, columns) == (1, 1)
    side = math.isqrt(pixels)
    if not is_one_token and side**2 != pixels:
        raise ValueError(f"its patches have {pixels} pixels, and only square patches are known")

    def fits(size: tuple[int, int | None]) -> bool:
        height, width = size
        if is_one_token:
            return pixels % height == 0 if width is None else height * width == pixels
        return -(-height // side) == rows and (width is None or -(-width // side) == columns)

    has = f"{pixels} pixels" if is_one_token else f"{rows} x {columns} patches of {side} pixels"
    size = asked or next(filter(fits, SIZES), None)
    if size is None:
        raise ValueError(
            f"its images have {has}, whose height and width the file does not tell; give --input-size HEIGHT WIDTH"
        )
    if not fits(size):
        raise ValueError(f"its images have {has}, which is not the input size {size_in_words(size)} (height {size[0]})")
    if asked is None:
        notes.append(
            f"Taken for a model of {size_in_words(size)} images, which its {has} fit; if they were of another size, or of any "
            "width, give --input-size."
        )
    if norm_eps != ORIGINAL_EPS:
        notes.append(f"What its layer norms add is not in the file: taken to be {norm_eps:g}.")
    layers = {
        f"{part}_layers": sum(f"{part}.blocks." in name and "norm1.w" in name for name in weights) for part in PARTS
    }
    hidden = weights["encoder.blocks.0.mlp.0.weight"].shape[0]
    ratio = hidden / dim if int(dim * (hidden / dim)) == hidden else (hidden + 0.5) / dim  # what gives just so many
    shape: dict[str, Any] = {"latent_dim": dim, **layers, "mlp_ratio": ratio}
    alike = [one for one in PRESETS.values() if one.latent_dim == dim]
    heads = num_heads or (alike[0].num_heads if alike else 1 if is_one_token else None)
    if heads is None:
        raise ValueError(f"no preset has {dim} numbers, and weights do not tell the attention heads; give --num-heads")
    if num_heads is None:
        notes.append(
            f"Heads are not in the file: taken to be {heads}"
            + (
                ", which changes nothing with one token."
                if is_one_token
                else ", as in the preset; --num-heads for others."
            )
        )
    named = [one.preset for one in alike if all(getattr(one, name) == value for name, value in shape.items())]
    config = ModelConfig(
        input_size=size,
        patch_size=None if is_one_token else side,
        num_heads=heads,
        max_width=1280 if size[1] else pixels // size[0] if is_one_token else columns * side,
        norm_eps=norm_eps,
        preset=named[0] if named and heads == alike[0].num_heads else None,
        **shape,
    )
    return config, notes
