"""The needs of a training before it starts: memory by kind, operations, the largest batch, and the time of a step.

One training step is played through on fake tensors: PyTorch works out every shape and computes nothing, and what is
alive at each moment is added up. So the plan knows where the peak lies, and nothing but the calibration, which times
a small real piece of the step, sets memory aside. A GPU is played by the CPU's operations with the GPU's choices
(half precision inside attention, byte masks for dropout); what its kernels and its context take besides is left to
`HEADROOM`.
"""

import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tae.model.autoencoder import Blocks, TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.model.counts import count, flops_of
from tae.model.device import DTYPES, Precision, pick_device
from tae.model.layers import Attention, merge_heads
from tae.training.config import TrainConfig
from tae.training.muon import Muon
from tae.training.optim import make_optimizers, squared_errors
from tae.training.precision import median_seconds

HEADROOM = 0.9
"""Share of a device's memory to plan with; the rest is for its context, kernels' scratch space and fragments."""
KINDS = ("weights", "gradients", "optimizer", "average", "copies", "activations", "working")
BATCHES = (2, 4)
"""Batch sizes that are played; sizes of tensors are straight lines between and beyond them. Not 1: for a single image
PyTorch copies here and there what it does not copy for more, a few percent."""
MAX_BATCH = 1 << 20
FEW_TOKENS = 128
"""With fewer, a matrix product spends its time on fetching the weights."""


@dataclass(frozen=True)
class Plan:
    """The needs of training a model. All memory in bytes.

    Attributes:
        num_tokens: N of an image.
        parameters: Numbers that are learnt.
        totals: By kind: weights, gradients, optimizer (Muon's momentum, AdamW's two moments), average (of the weights),
            copies (the weights in half precision), activations (kept for the backward pass), working (the most
            that is alive besides: the batch, its reconstruction, what a single operation needs).
        at_peak: The same kinds at the moment at which most memory is in use.
        peak: Their sum.
        peak_phase: "forward", "backward" or "optimizer": when that is.
        forward_flops: Operations of the matrix products for one image; a multiplication and an addition are two operations.
        train_flops: The same for one image forward and backward, with what checkpointing computes a second time.
        optimizer_flops: Operations of Muon's matrix products in one step, whatever the batch.
    """

    num_tokens: int
    parameters: int
    totals: dict[str, int]
    at_peak: dict[str, int]
    peak: int
    peak_phase: str
    forward_flops: int
    train_flops: int
    optimizer_flops: int


@dataclass(frozen=True)
class Pace:
    """How long a step takes, from a small real piece of it.

    Attributes:
        seconds_per_step: Estimate for one optimizer step; reading of images not included.
        forward_backward: Seconds of these for the forward and backward passes.
        optimizer: Seconds of these for clipping and the optimizers.
        took: Seconds that the calibration took.
        how: What was timed, in words.
    """

    seconds_per_step: float
    forward_backward: float
    optimizer: float
    took: float
    how: str


def plan(
    model_config: ModelConfig,
    batch_size: int,
    precision: Precision = "fp32",
    accumulate: int = 1,
    width: int | None = None,
    device: str = "cpu",
    average: bool = False,
) -> Plan:
    """The needs of one training; nothing is allocated.

    Args:
        model_config: The model; its `use_gradient_checkpointing` and `use_flash_attention` count.
        batch_size: Images an optimizer step.
        precision: Precision of the forward and backward pass.
        accumulate: Parts that the batch is cut into.
        width: Width of the images in pixels, where the config takes any width; None: the widest.
        device: "cpu" or "cuda": the type, which need not be there.
        average: Whether a running average of the weights is kept.

    Raises:
        ValueError: If a value leaves its range or does not fit another.
    """
    if batch_size < 1 or accumulate < 1 or batch_size % accumulate:
        raise ValueError(f"batch_size must be a positive multiple of accumulate, got {batch_size} and {accumulate}")
    profile = _profile(model_config, precision, accumulate > 1, _width(model_config, width), device)
    return profile.plan(batch_size // accumulate, average)


def largest_batch(
    model_config: ModelConfig,
    memory: float,
    precision: Precision = "fp32",
    accumulate: int = 1,
    width: int | None = None,
    device: str = "cuda",
    average: bool = False,
) -> int:
    """The most images a step whose peak stays within `HEADROOM` of a device's memory; 0: not even one an accumulated part.

    Args:
        memory: Memory of the device in bytes.

    The others are those of `plan`.

    Raises:
        ValueError: If a value leaves its range or does not fit another.
    """
    if not memory > 0:
        raise ValueError(f"memory must be a positive number of bytes, got {memory}")
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}")
    profile = _profile(model_config, precision, accumulate > 1, _width(model_config, width), device)

    def fits(part: int) -> bool:
        return profile.plan(part, average).peak <= HEADROOM * memory

    low, high = 0, 1
    while high <= MAX_BATCH and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * accumulate


@dataclass(frozen=True)
class _Profile:
    """One step as it was played: what is alive after each event, as a constant and a slope over the part's images.

    Attributes:
        constant, slope: (kinds, events), bytes alive.
        phases: Name and first event of each phase.
        totals: (kinds, 2): constant and slope of each kind's total, of those that have one.
    """

    num_tokens: int
    parameters: int
    constant: np.ndarray
    slope: np.ndarray
    phases: tuple[tuple[str, int], ...]
    totals: np.ndarray
    forward_flops: int
    train_flops: int
    optimizer_flops: int

    def plan(self, part: int, average: bool) -> Plan:
        alive = self.constant + part * self.slope  # (kinds, events)
        totals = self.totals @ (1, part)
        alive[KINDS.index("average")] = totals[KINDS.index("average")] = 4 * self.parameters if average else 0
        totals[KINDS.index("working")] = alive[KINDS.index("working")].max()
        event = int(alive.sum(axis=0).argmax())
        return Plan(
            num_tokens=self.num_tokens,
            parameters=self.parameters,
            totals={kind: int(value) for kind, value in zip(KINDS, totals, strict=True)},
            at_peak={kind: int(value) for kind, value in zip(KINDS, alive[:, event], strict=True)},
            peak=int(alive[:, event].sum()),
            peak_phase=[name for name, first in self.phases if first <= event][-1],
            forward_flops=self.forward_flops,
            train_flops=self.train_flops,
            optimizer_flops=self.optimizer_flops,
        )


@lru_cache(maxsize=64)
def _profile(config: ModelConfig, precision: Precision, accumulating: bool, width: int, device: str) -> _Profile:
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        with torch.device("meta"):
            model = TransformerAutoencoder(config)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu").train()
            if device == "cuda":
                _choose_as_a_gpu(model)
            with _Ledger(model) as ledger:
                _play(model, ledger, precision, accumulating, width, device)
    return _summed(model, ledger, config.grid_for(width))


def _play(
    model: TransformerAutoencoder,
    ledger: "_Ledger",
    precision: Precision,
    accumulating: bool,
    width: int,
    device: str,
) -> None:
    """The optimizer's step first, which makes its state; then the passes of both batch sizes."""
    parameters = list(model.parameters())
    optimizers = muon, adamw = make_optimizers(model, TrainConfig(), "bf16" if device == "cuda" else "fp32")
    assert isinstance(muon, Muon)
    for group in adamw.param_groups:
        group["foreach"] = device == "cuda"  # PyTorch's choice by device, which fake tensors hide from it
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    gradients = [parameter.grad for parameter in parameters]
    ledger.name("gradients", gradients)
    # Muon takes some matrices at a time: of those that look alike, one time stands for all.
    alike: dict[tuple[torch.Size, int], list[list[nn.Parameter]]] = {}
    for matrices in muon.batches(muon.param_groups[0]):
        alike.setdefault((matrices[0].shape, len(matrices)), []).append(matrices)
    for matrix in muon.param_groups[0]["params"]:
        muon.state[matrix]["momentum_buffer"] = torch.empty_like(matrix)
        matrix.grad = None
    adamw.step()
    ledger.name("optimizer", tree_leaves([list(optimizer.state.values()) for optimizer in optimizers]))
    ledger.begin("optimizer")
    adamw.step()
    known = dict(zip(map(id, parameters), gradients, strict=True))
    for first, *others in alike.values():
        for matrix in first:
            matrix.grad = known[id(matrix)]
        with ledger.times(1 + len(others)):
            muon.step()
        for matrix in first:
            matrix.grad = None
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    del gradients, gradient, known
    for batch in BATCHES:
        if not accumulating:
            model.zero_grad()
        images = torch.empty(batch, 1, model.config.input_size[0], width)
        widths = torch.empty(batch, dtype=torch.long) if model.config.input_size[1] is None else None
        ledger.begin("forward")
        recon, loss = forward_loss(model, images, widths, precision)
        ledger.keep_all_but(recon, loss)
        ledger.begin("backward")
        loss.backward()
        ledger.name("gradients", [parameter.grad for parameter in parameters])
        ledger.begin("between")
        del images, widths, recon, loss


def forward_loss(
    model: torch.nn.Module, images: Tensor, widths: Tensor | None, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The forward pass of a training step on images (B, 1, H, W): the reconstruction, and the loss to go back from."""
    with torch.autocast(images.device.type, DTYPES[precision], enabled=precision != "fp32"):
        recon, _ = model(images, widths=widths)
    return recon, squared_errors(recon, images, widths).sum() / images.numel()


class _Ledger(TorchDispatchMode):
    """Writes down every storage that operations make and every one that dies, and counts their matrix products."""

    def __init__(self, model: TransformerAutoencoder) -> None:
        super().__init__()
        self.numbers: dict[int, int] = {}  # of living storages, by address
        self.sizes: list[int] = []
        self.kinds: list[str] = []
        self.events: list[tuple[int, int]] = []  # number of a storage; +1 made, -1 gone
        self.phases: list[tuple[str, int]] = []
        self.flops: list[int] = []  # by phase
        self._watchers: list[weakref.ref] = []
        self._cast: set[int] = set()
        self._enter(model.parameters(), "weights")
        self._weights = {self._address(parameter) for parameter in model.parameters()}

    def begin(self, phase: str) -> None:
        self.phases.append((phase, len(self.events)))
        self.flops.append(0)

    @contextmanager
    def times(self, count: int) -> Iterator[None]:
        """Operations within count so many times."""
        before = self.flops[-1]
        yield
        self.flops[-1] = before + count * (self.flops[-1] - before)

    def name(self, kind: str, tensors: list) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self.kinds[self.numbers[self._address(tensor)]] = kind

    def keep_all_but(self, *outputs: Tensor) -> None:
        """Keep for the backward pass all that this phase has made and that is still alive."""
        first = self.phases[-1][1]
        born = {number for number, sign in self.events[first:] if sign > 0} & set(self.numbers.values())
        for number in born - {self.numbers[self._address(output)] for output in outputs}:
            self.kinds[number] = "copies" if number in self._cast else "activations"

    def _enter(self, tensors: Any, kind: str) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata in self.numbers:
                continue
            number = len(self.sizes)
            self.numbers[storage._cdata] = number
            self.sizes.append(storage.nbytes())
            self.kinds.append(kind)
            self.events.append((number, 1))
            self._watchers.append(weakref.ref(storage, self._leaver(storage._cdata, number)))

    def _leaver(self, address: int, number: int) -> Callable[[object], None]:
        def leave(_: object) -> None:
            del self.numbers[address]
            self.events.append((number, -1))

        return leave

    @staticmethod
    def _address(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self._enter(made, "working")
        if func is torch.ops.aten._to_copy.default and self._address(args[0]) in self._weights:
            self._cast.add(self.numbers[self._address(output)])
        if self.flops:
            self.flops[-1] += flops_of(func, args, kwargs or {}, output)
        return output


def _summed(model: TransformerAutoencoder, ledger: _Ledger, grid: tuple[int, int]) -> _Profile:
    """Two plays of the same events as one straight line for each event."""
    sizes, kinds = np.array(ledger.sizes, float), np.array([KINDS.index(kind) for kind in ledger.kinds])
    numbers, signs = np.array(ledger.events).T
    deltas = np.zeros((len(KINDS), len(numbers)))
    deltas[kinds[numbers], np.arange(len(numbers))] = signs * sizes[numbers]
    alive = deltas.cumsum(axis=1)
    optimizer, first, backward, first_end, second, _, second_end = (event for _, event in ledger.phases)
    small, large = alive[:, first:first_end], alive[:, second:second_end]
    assert small.shape == large.shape, "both batch sizes must play the same events"
    step = BATCHES[1] - BATCHES[0]
    slope = np.concatenate([np.zeros((len(KINDS), first - optimizer)), (large - small) / step], axis=1)
    constant = np.concatenate([alive[:, optimizer:first], small], axis=1) - BATCHES[0] * slope
    totals = np.zeros((len(KINDS), 2))
    for row in range(len(KINDS)):
        event = int((constant[row] + BATCHES[0] * slope[row]).argmax())
        totals[row] = constant[row, event], slope[row, event]
    flops = dict(zip(("optimizer", "forward", "backward"), ledger.flops, strict=False))
    forward = flops["forward"] // BATCHES[0]
    return _Profile(
        num_tokens=grid[0] * grid[1],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        constant=constant,
        slope=slope,
        phases=(("optimizer", 0), ("forward", first - optimizer), ("backward", backward - optimizer)),
        totals=totals,
        forward_flops=forward,
        train_flops=forward + flops["backward"] // BATCHES[0],
        optimizer_flops=flops["optimizer"],
    )


def _choose_as_a_gpu(model: TransformerAutoencoder) -> None:
    """Make a model on fake CPU tensors choose what it would on a GPU.

    Fake tensors of a GPU end the process where PyTorch was built without one, so those of the CPU play its part.
    """
    for module in model.modules():
        if isinstance(module, Attention) and module.use_flash_attention:
            module.forward = MethodType(_fused_attention, module)
        elif isinstance(module, nn.Dropout) and module.p:
            module.forward = MethodType(_dropout_with_byte_mask, module)


def _fused_attention(self: Attention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """`Attention.forward` in the precision of its input; a GPU's fused kernel drops without keeping a mask."""
    q, k, v = self.qkv_heads(x)
    with torch.autocast("cpu", enabled=False):
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])
    return self.proj(merge_heads(y))


def _dropout_with_byte_mask(self: nn.Dropout, x: Tensor) -> Tensor:
    return torch.native_dropout(x, self.p, True)[0]


def _width(config: ModelConfig, width: int | None) -> int:
    fixed = config.input_size[1]
    widest = fixed or config.max_width
    if width is not None and (width != fixed if fixed else not 1 <= width <= widest):
        wanted = str(fixed) if fixed else f"from 1 to {widest} (max_width)"
        raise ValueError(f"width must be {wanted}, got {width}")
    return width or widest


def rough_step_flops(model_config: ModelConfig, batch_size: int, width: int | None = None) -> float:
    """About the operations of a step, in a twentieth of the time of `plan`: a backward pass takes two forward ones."""
    counted = count(replace(model_config, encoder_layers=1, decoder_layers=1), width)
    layers, dim = model_config.encoder_layers + model_config.decoder_layers, model_config.latent_dim
    forward = counted.forward_flops + (layers - 2) * _block_flops(model_config, counted.num_tokens)
    hidden = round(model_config.mlp_ratio * dim)
    matrices = ((3 * dim, dim), (dim, dim), (hidden, dim), (dim, hidden))
    return 3 * batch_size * forward + layers * _muon_flops(matrices)


def calibrate(
    model_config: ModelConfig,
    batch_size: int,
    precision: Precision = "fp32",
    accumulate: int = 1,
    width: int | None = None,
    device: str = "cpu",
    seconds: float = 4.0,
) -> Pace:
    """Estimate the time of a step from a small real piece of it: one block of each kind, few images, a part of the rows.

    A whole step of a model with one block in each part is timed, then a block alone and its matrices in Muon; the
    rest of the blocks, images and rows are added by their operations.

    Args:
        device: "cpu" or "cuda"; must be there.
        seconds: About how long this may take; a large block takes longer than that even at its smallest.

    The others are those of `plan`.

    Raises:
        ValueError: If a value leaves its range or does not fit another, or the device is not there.
    """
    began = time.perf_counter()
    whole = plan(model_config, batch_size, precision, accumulate, width)  # checks the values
    where = pick_device(device)
    part, width = batch_size // accumulate, _width(model_config, width)
    one_each = replace(model_config, encoder_layers=1, decoder_layers=1)
    with torch.random.fork_rng(devices=[]):
        allowance = _allowance(where, precision, seconds)
    images, rows = _piece(one_each, part, width, allowance)
    tile_height = model_config.tile_size[0]
    small_config = (
        one_each if rows is None else replace(one_each, input_size=(rows * tile_height, one_each.input_size[1]))
    )
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []), torch.enable_grad():
        model = TransformerAutoencoder(small_config).to(where).train()
        optimizers = make_optimizers(model, TrainConfig())
        batch = torch.rand(images, 1, small_config.input_size[0], width, device=where)
        widths = torch.full((images,), width) if small_config.input_size[1] is None else None

        def passes() -> None:
            model.zero_grad()
            forward_loss(model, batch, widths, precision)[1].backward()

        blocks = model.encoder.blocks
        tokens = torch.randn(
            images, small_config.grid_for(width)[0] * small_config.grid_for(width)[1], model_config.latent_dim
        )
        tokens = tokens.to(where).requires_grad_()

        def block() -> None:
            with torch.autocast(where.type, DTYPES[precision], enabled=precision != "fp32"):
                y = blocks(tokens, None)
            y.float().sum().backward()

        budget = seconds / 4
        pass_time, block_time = median_seconds(passes, where, budget), median_seconds(block, where, budget)
        others = median_seconds(lambda: _clip_and_step(model, optimizers[1]), where, budget / 2)
        matrices = [blocks[0].attn.proj.weight] if whole.optimizer_flops > 2e12 else list(_block_matrices(blocks))
        optimizers[0].param_groups[0]["params"] = matrices
        muon_time = median_seconds(optimizers[0].step, where, budget)
    layers = model_config.encoder_layers + model_config.decoder_layers
    scale = part / images * whole.num_tokens / tokens.shape[1]
    block_scale = (
        part / images * _block_flops(model_config, whole.num_tokens) / _block_flops(model_config, tokens.shape[1])
    )
    forward_backward = accumulate * (layers * block_scale * block_time + scale * max(0.0, pass_time - 2 * block_time))
    optimizer = others + muon_time * whole.optimizer_flops / _muon_flops([matrix.shape for matrix in matrices])
    pieces = f"{images} image{'s' * (images > 1)} of {tokens.shape[1]} tokens, one block in each part"
    return Pace(
        seconds_per_step=forward_backward + optimizer,
        forward_backward=forward_backward,
        optimizer=optimizer,
        took=time.perf_counter() - began,
        how=f"timed: {pieces}; the rest in proportion to its operations",
    )


def _allowance(device: torch.device, precision: Precision, seconds: float) -> float:
    """Operations that one timed pass may take."""
    a, b = (torch.randn(512, 512, device=device, dtype=DTYPES[precision]) for _ in range(2))
    return seconds / 4 * 2 * 512**3 / median_seconds(lambda: a @ b, device, 0.1)


def _piece(config: ModelConfig, part: int, width: int, allowance: float) -> tuple[int, int | None]:
    """Images to time, and rows of patches if one image is too much; None: all of them."""
    profile = _profile(config, "fp32", False, width, "cpu")
    images = min(part, max(1, int(allowance / profile.train_flops)))
    rows, columns = config.grid_for(width)
    enough = max(math.ceil(FEW_TOKENS / columns), int(rows * allowance / profile.train_flops))
    return images, enough if enough < rows and profile.train_flops > allowance else None


def _clip_and_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _block_matrices(blocks: Blocks) -> Iterator[Tensor]:
    return (parameter for name, parameter in blocks.named_parameters() if parameter.ndim == 2)


def _muon_flops(shapes: Iterable[Sequence[int]]) -> int:
    """Operations of five Newton-Schulz iterations, three products each, for matrices of these shapes."""
    return sum(5 * (4 * short**2 * long + 2 * short**3) for short, long in map(sorted, shapes))


def _block_flops(config: ModelConfig, num_tokens: int) -> float:
    dim = config.latent_dim
    return num_tokens * ((8 + 4 * config.mlp_ratio) * dim**2 + 4 * num_tokens * dim)
