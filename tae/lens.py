"""The layers' lens: the state after each layer, drawn as an image by the rest of the network's own last steps.

    python -m tae.lens --checkpoint checkpoints/demo_tiny_201x201_p16.safetensors

A state is what one image is after so many layers, the depth: 0 before the first, L after the last. It is read behind
the part's final norm: of the encoder it is a latent (the mean of the tokens), which the whole decoder draws; of the
decoder it is tokens, which the output projection draws. So at depth L it gives the model's own reconstruction.

- Raw (nostalgebraist 2020, "interpreting GPT: the logit lens"): the state as it is. Before depth L what draws it gets
  something that it was not trained on; `View.distance` says how far from the usual.
- Tuned (Belrose 2023, "Eliciting latent predictions from transformers with the tuned lens"): first through a
  translator, an affine map for each depth that takes the state to the one at depth L by least squares over images of
  the train split. A good tuned picture says that a linear map finds the content in the state, not that the network
  reads it there.

This command fits the translators and writes them beside the checkpoint, as <name>.lens.safetensors.
"""

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from tae.checkpoint import load_checkpoint
from tae.config import ModelConfig
from tae.datasets import to_batch
from tae.distributed import pick_device
from tae.layers import unpatchify
from tae.model import TransformerAutoencoder
from tae.sources import open_source
from tae.tensorfile import (
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
from tae.trainconfig import TrainConfig

PROGRAM = "tae lens"
FORMAT_VERSION = "1"
SUFFIX = ".lens.safetensors"
"""One of `tae.checkpoint.COMPANIONS`, so that it is not listed as a checkpoint."""
PARTS = ("encoder", "decoder")
TENSORS = ("weight", "bias", "mean", "whiten")
NUMBERS = ("usual", "limit", "psnr_raw", "psnr_tuned")
"""What a file holds of a `PartLens`."""
USUAL_SHARE = 0.99
"""A state is out of distribution where it lies farther out than this share of the test images' own last states."""

MAX_PSNR = 100.0
"""In dB; a perfect copy, which has infinitely many, counts as so many in a mean."""

Batch = tuple[Tensor, Tensor | None]
"""Images (B, 1, H, W) in [0, 1], and widths (B,) where these differ."""


class LensError(ValueError):
    """A lens is refused; one sentence that says why, without the file's folder."""


@dataclass(frozen=True)
class States:
    """The states of images in one part.

    Attributes:
        part: "encoder" or "decoder".
        at: By depth, 0 to L: latents (B, D) of the encoder, tokens (B, N, D) of the decoder.
        mask: (B, N), True = real; None where there is no padding.
        width: Of the batch, in pixels.
        widths: (B,) or None.
    """

    part: str
    at: list[Tensor]
    mask: Tensor | None
    width: int
    widths: Tensor | None

    def rows(self, depth: int) -> Tensor:
        """The states of one depth, one below the other (rows, D), padding left out."""
        state = self.at[depth]
        if self.part == "encoder":
            return state
        return state.flatten(0, 1) if self.mask is None else state[self.mask]


@torch.no_grad()
def read_states(
    model: TransformerAutoencoder, images: Tensor, part: str = "encoder", widths: Tensor | None = None
) -> States:
    """Run a part, keeping what images are after each of its layers.

    Args:
        model: The autoencoder, in evaluation mode.
        images: (B, 1, H, W) in [0, 1].
        part: "encoder" or "decoder".
        widths: (B,) or None.

    Raises:
        ValueError: If an argument does not fit.
    """
    x, mask = model.layer_input(images, 0, part, widths)

    def leave(x: Tensor) -> Tensor:
        return model.encoder.pool(x, mask) if part == "encoder" else model.decoder.norm(x)

    at = [leave(x)]
    for block in (model.encoder if part == "encoder" else model.decoder).blocks:
        x = block(x, mask)
        at.append(leave(x))
    return States(part, at, mask, images.shape[-1], widths)


@torch.no_grad()
def draw(model: TransformerAutoencoder, states: States, depth: int, translated: Tensor | None = None) -> Tensor:
    """What the rest of the network makes of a state: images (B, 1, H, W), 0 beyond each one's width.

    Args:
        model: The autoencoder, in evaluation mode.
        states: Of `read_states`.
        depth: Layers done.
        translated: Drawn in place of the state, of its shape.
    """
    state = states.at[depth] if translated is None else translated
    if states.part == "encoder":
        return model.decode(state, states.width, states.widths)
    config = model.config
    tiles = model.decoder.proj(state)
    grid = config.grid_for(states.width)
    ink = unpatchify(tiles, grid, config.tile_size, model.decoder.overlap, states.mask)
    images = 1 - ink[..., : config.input_size[0], : states.width]
    return images if states.widths is None else images * _real_pixels(states.widths, images)


def fit_translator(states: Tensor, targets: Tensor, ridge: float = 1e-4) -> tuple[Tensor, Tensor]:
    """The affine map that takes states to targets with the least squared error.

    Args:
        states: (n, D).
        targets: (n, D).
        ridge: Penalty on what the map does beyond leaving a state as it is, as a multiple of the states' mean variance.

    Returns:
        weight (D, D), bias (D,), float64: state + state @ weight + bias.
    """
    sums = _Sums(states.shape[1])
    sums.add(states, targets)
    return sums.solve(ridge)


@dataclass(frozen=True)
class PartLens:
    """The translators of one part, and what is usual for its last states.

    Attributes:
        weight: (L, D, D) float16, of depths 0 to L - 1; the identity comes on top.
        bias: (L, D) float32.
        mean: (D,) float32, of the last states of training images.
        whiten: (D, D) float32: (state - mean) @ whiten has about unit variance in each direction.
        usual: Median distance of the test images' last states, before division by it.
        limit: The `USUAL_SHARE` quantile of their distances, in multiples of `usual`.
        psnr_raw: By depth, 0 to L: mean over test images in dB.
        psnr_tuned: The same.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    whiten: Tensor
    usual: float
    limit: float
    psnr_raw: tuple[float, ...]
    psnr_tuned: tuple[float, ...]

    def translate(self, state: Tensor, depth: int) -> Tensor:
        """A state (..., D) of a depth as the translator says it will be at depth L; at depth L itself, the same."""
        if depth == len(self.weight):
            return state
        return state + state @ self.weight[depth].to(state) + self.bias[depth].to(state)

    def distance(self, state: Tensor, mask: Tensor | None = None) -> Tensor:
        """How far states are from what the drawing step usually gets.

        Args:
            state: (B, D), or (B, N, D).
            mask: (B, N) or None.

        Returns:
            (B,) root mean square over tokens of Mahalanobis' distance, as a multiple of the test images' median.
        """
        return _outlying(state, self.mean, self.whiten, mask) / self.usual


@dataclass(frozen=True)
class Lens:
    """The lens of one checkpoint.

    Attributes:
        checkpoint: SHA-256 of its file, in hex.
        parts: {"encoder": ..., "decoder": ...}.
        about: What it was fitted on: data, train_images, test_images, ridge, seconds.
    """

    checkpoint: str
    parts: dict[str, PartLens]
    about: dict


@dataclass(frozen=True)
class View:
    """A part of the model seen through the lens.

    Attributes:
        part: "encoder" or "decoder".
        tuned: Whether through translators.
        recons: (L + 1, B, 1, H, W) by depth, near [0, 1] and not clipped to it.
        psnr: (L + 1, B) in dB, clipped to [0, 1], over each image's own width.
        distance: (L + 1, B), see `PartLens.distance`; None without a lens.
        limit: Above it a state is out of distribution; None without a lens.
    """

    part: str
    tuned: bool
    recons: Tensor
    psnr: Tensor
    distance: Tensor | None
    limit: float | None

    @property
    def is_unusual(self) -> Tensor | None:
        """(L + 1, B), True where a picture is drawn from a state out of distribution; None without a lens."""
        return None if self.distance is None or self.limit is None else self.distance > self.limit


@torch.no_grad()
def look(
    model: TransformerAutoencoder,
    images: Tensor,
    part: str = "encoder",
    lens: Lens | None = None,
    tuned: bool = False,
    widths: Tensor | None = None,
) -> View:
    """Draw the state at each depth of a part.

    Args:
        model: The autoencoder, in evaluation mode.
        images: (B, 1, H, W) in [0, 1].
        part: "encoder" or "decoder".
        lens: Of the same checkpoint; None: raw pictures without distances.
        tuned: Whether states go through the translators first.
        widths: (B,) or None.

    Raises:
        ValueError: If an argument does not fit.
    """
    if tuned and lens is None:
        raise ValueError("lens must be given for tuned pictures; fit one with python -m tae.lens")
    states = read_states(model, images, part, widths)
    own = None if lens is None else lens.parts[part]
    recons, psnr, distance = [], [], []
    for depth, raw in enumerate(states.at):
        state = own.translate(raw, depth) if own is not None and tuned else raw
        recons.append(draw(model, states, depth, state))
        psnr.append(_psnr(recons[-1], images, widths))
        if own is not None:
            distance.append(own.distance(state, states.mask))
    return View(
        part,
        tuned,
        torch.stack(recons),
        torch.stack(psnr),
        torch.stack(distance) if distance else None,
        None if own is None else own.limit,
    )


def depth_names(num_layers: int) -> list[str]:
    """What pages call the depths 0 to L."""
    return ["before layer 0", *(f"after layer {layer}" for layer in range(num_layers))]


def fit_lens(
    model: TransformerAutoencoder,
    checkpoint: str,
    train: Iterable[Batch],
    test: Iterable[Batch],
    ridge: float = 1e-4,
    progress: Callable[[int], None] = lambda count: None,
) -> Lens:
    """Fit translators on training images, and measure what they are worth on test images.

    Args:
        model: The autoencoder, in evaluation mode.
        checkpoint: SHA-256 of its file.
        train: Batches of the train split, gone through once. Directions that they do not span stay as they are.
        test: Batches of the test split, gone through once.
        ridge: See `fit_translator`.
        progress: Called with the number of images in each batch that is done.

    Raises:
        ValueError: If there are no images, or not two training images.
    """
    device = next(model.parameters()).device
    dim = model.config.latent_dim
    num_layers = {"encoder": model.config.encoder_layers, "decoder": model.config.decoder_layers}
    sums = {part: [_Sums(dim) for _ in range(num_layers[part] + 1)] for part in PARTS}
    num_train = 0
    for images, widths in train:
        for part in PARTS:
            states = read_states(model, images.to(device), part, widths)
            targets = states.rows(num_layers[part])
            for depth, one in enumerate(sums[part]):
                one.add(states.rows(depth), targets)
        num_train += len(images)
        progress(len(images))
    if num_train < 2:
        raise ValueError(f"training images must be at least 2, got {num_train}")
    parts = {}
    for part in PARTS:
        solved = [one.solve(ridge) for one in sums[part][:-1]]
        weight = torch.stack([weight for weight, _ in solved]).half()
        if not torch.isfinite(weight).all():
            raise ValueError("translators must be finite, got numbers beyond half precision; give a larger ridge")
        bias = torch.stack([bias for _, bias in solved]).float()
        mean, whiten = sums[part][-1].whitening()
        parts[part] = PartLens(weight, bias, mean, whiten, 1.0, math.inf, (), ())
    measured, num_test = _measure(model, Lens(checkpoint, parts, {}), test, progress)
    about = {"train_images": num_train, "test_images": num_test, "ridge": ridge}
    return Lens(checkpoint, measured, about)


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


class _Sums:
    """Running sums over rows, from which least squares and variances follow; float64, so that none is lost."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.states = torch.zeros(dim, dtype=torch.float64)
        self.changes = torch.zeros(dim, dtype=torch.float64)
        self.states_states = torch.zeros(dim, dim, dtype=torch.float64)
        self.states_changes = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, states: Tensor, targets: Tensor) -> None:
        """(n, D) and (n, D)."""
        states, targets = states.detach().double().cpu(), targets.detach().double().cpu()
        changes = targets - states
        self.count += len(states)
        self.states += states.sum(dim=0)
        self.changes += changes.sum(dim=0)
        self.states_states += states.T @ states
        self.states_changes += states.T @ changes

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """weight (D, D) and bias (D,) of `fit_translator`."""
        mean, change = self.states / self.count, self.changes / self.count
        shared = self.states_changes / self.count - torch.outer(mean, change)
        weight = torch.linalg.solve(_lifted(self._covariance(), ridge), shared)
        return weight, change - mean @ weight

    def whitening(self) -> tuple[Tensor, Tensor]:
        """mean (D,) and whiten (D, D) of `PartLens`.

        Directions in which states hardly vary count as varying by at least a thousandth of the mean variance: what
        rounding does there is no distance.
        """
        values, vectors = torch.linalg.eigh(_lifted(self._covariance(), 1e-3))
        return (self.states / self.count).float(), (vectors / values.sqrt()).float()

    def _covariance(self) -> Tensor:
        mean = self.states / self.count
        return self.states_states / self.count - torch.outer(mean, mean)


def _lifted(covariance: Tensor, share: float) -> Tensor:
    """A covariance (D, D) plus a share of its mean variance in each direction; invertible even where nothing varies."""
    lift = max(share * float(covariance.diagonal().mean()), 1e-12)
    return covariance + lift * torch.eye(len(covariance), dtype=covariance.dtype)


def _outlying(state: Tensor, mean: Tensor, whiten: Tensor, mask: Tensor | None) -> Tensor:
    """(B,) root mean square over tokens and directions of whitened states (B, D) or (B, N, D)."""
    squares = ((state - mean.to(state)) @ whiten.to(state)).square().mean(dim=-1)
    if squares.ndim == 1:
        return squares.sqrt()
    if mask is None:
        return squares.mean(dim=1).sqrt()
    return ((squares * mask).sum(dim=1) / mask.sum(dim=1)).sqrt()


def _real_pixels(widths: Tensor, images: Tensor) -> Tensor:
    """(B, 1, 1, W), True within each image's width."""
    columns = torch.arange(images.shape[-1], device=images.device)
    return (columns < widths[:, None].to(images.device))[:, None, None]


def _psnr(recons: Tensor, images: Tensor, widths: Tensor | None) -> Tensor:
    """(B,) in dB, of recons clipped to [0, 1], over each image's own width."""
    squares = (recons.clamp(0, 1) - images).square()
    if widths is None:
        return -10 * squares.mean(dim=(1, 2, 3)).log10()
    total = (squares * _real_pixels(widths, images)).sum(dim=(1, 2, 3))
    return -10 * (total / (images.shape[2] * widths.to(total))).log10()


def _measure(
    model: TransformerAutoencoder, lens: Lens, test: Iterable[Batch], progress: Callable[[int], None]
) -> tuple[dict[str, PartLens], int]:
    """The parts with their `usual`, `limit` and PSNR filled in, and the number of test images."""
    device = next(model.parameters()).device
    raw: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    tuned: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    last: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for images, widths in test:
        for part in PARTS:
            seen = look(model, images.to(device), part, lens, widths=widths)
            assert seen.distance is not None
            raw[part].append(seen.psnr.cpu())
            last[part].append(seen.distance[-1].cpu())
            tuned[part].append(look(model, images.to(device), part, lens, tuned=True, widths=widths).psnr.cpu())
        progress(len(images))
    if not last["encoder"]:
        raise ValueError("test images must be at least 1, got none")
    parts = {}
    for part, one in lens.parts.items():
        distances = torch.cat(last[part]).double()
        usual = max(float(distances.median()), 1e-6)
        limit = float(distances.quantile(USUAL_SHARE)) / usual
        psnr_raw, psnr_tuned = (
            tuple(torch.cat(found[part], dim=1).double().clamp(max=MAX_PSNR).mean(dim=1).tolist())
            for found in (raw, tuned)
        )
        parts[part] = replace(one, usual=usual, limit=limit, psnr_raw=psnr_raw, psnr_tuned=psnr_tuned)
    return parts, sum(map(len, last["encoder"]))


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


@dataclass(frozen=True, kw_only=True)
class LensConfig:
    """One fit; every field is a flag of the command line.

    Raises:
        ValueError: If a value leaves its range.
    """

    checkpoint: Path
    """The model; its lens is written beside it."""
    data: str = "demo"
    """Images, split as in training: "demo", a folder, a file or a pattern, as for python -m tae.train."""
    train_images: int = 4000
    """Images of the train split to fit on, or all of yours where there are fewer."""
    test_images: int = 256
    """Images of the test split to measure with."""
    batch_size: int = 16
    """Images at once."""
    ridge: float = 1e-4
    """Penalty on what a translator does beyond leaving a state as it is, as a multiple of the states' mean variance."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: int | None = None
    """CPU threads; None: PyTorch's choice."""
    overwrite: bool = False
    """Replace the lens that is there."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("train_images", 2, 10**7),
            ("test_images", 1, 10**6),
            ("batch_size", 1, 4096),
            ("threads", 1, 1024),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value}")
        if not (math.isfinite(self.ridge) and self.ridge > 0):
            raise ValueError(f"ridge must be above 0, got {self.ridge}")


def fit_to_file(config: LensConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Path, Lens]:
    """What the command line does.

    Args:
        config: Of the fit.
        progress: Called with (images done, images in all).

    Returns:
        The file, and the lens.

    Raises:
        FileNotFoundError: If there is no such data.
        ValueError: If there is a lens already, or the checkpoint or another argument is not valid.
        OSError: If the file cannot be written.
    """
    started = time.perf_counter()
    out = lens_path(config.checkpoint)
    if out.exists() and not config.overwrite:
        raise ValueError(f"{out.name} must not exist, and it does; replace it with --overwrite")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    loaded = load_checkpoint(config.checkpoint)
    model = loaded.model.to(pick_device(config.device))
    shape = model.config
    source = open_source(TrainConfig(data=config.data, input_size=shape.input_size, max_width=shape.max_width))
    wanted = config.train_images if source.num_images is None else min(config.train_images, source.num_images)
    test_images = sorted(source.test(config.test_images), key=lambda image: image.shape[1])
    total, done = wanted + len(test_images), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    def train() -> Iterable[Batch]:
        for step in range(-(-wanted // config.batch_size)):
            draws = source.draws(step, config.batch_size)[: wanted - step * config.batch_size]
            yield to_batch([source.image(number) for number in draws])

    size = config.batch_size
    test = (to_batch(test_images[start : start + size]) for start in range(0, len(test_images), size))
    lens = fit_lens(model, loaded.digest, train(), test, config.ridge, tell)
    about = {"data": source.data, **lens.about, "seconds": round(time.perf_counter() - started, 1)}
    lens = Lens(lens.checkpoint, lens.parts, about)
    save_lens(out, lens)
    return out, lens


def main(args: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        config = tyro.cli(LensConfig, description=__doc__, args=args)
        with tqdm(unit=" images", disable=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            path, lens = fit_to_file(config, progress)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for part, one in lens.parts.items():
        print(f"{part}: PSNR on {lens.about['test_images']} test images, raw and tuned (dB)")
        for name, raw, tuned in zip(depth_names(len(one.weight)), one.psnr_raw, one.psnr_tuned, strict=True):
            print(f"  {name:16} {raw:6.2f} {tuned:6.2f}")
    print(f"{path}: {path.stat().st_size:,} bytes, {lens.about['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
