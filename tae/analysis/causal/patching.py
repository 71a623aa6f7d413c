"""Activation patching: states of one image put into the run of another, and how far the reconstruction goes with them.

    model = load_checkpoint("checkpoints/demo_tiny_201x201_p16.safetensors").model
    found = activation_patching(model, b, a, head_cells(model.config))  # a's heads in b's run: (1, 1, H, W) each
    estimate = attribution_patching(model, b, a, found.cells)  # of found.share, without the sweep
    found.error_of(estimate)
    path_patching(model, b, a, from_name("encoder/0/3"))  # through which later layer

What is put in, a cell, is an intervention: a head, a layer's attention or its MLP as `Knockout`, patches as `Edit` of the
kind "tokens". A's states in B's run tell what is enough to bring A back (denoising); B's in A's run, what A cannot do
without (noising). The two differ where parts stand in for each other (Heimersheim & Nanda 2024, arXiv:2404.15255).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tae.analysis.causal.interventions import Edit, Intervention, Knockout, all_knockouts, check
from tae.analysis.causal.knockouts import baseline_of, mixed, reconstruct_knocked_out
from tae.analysis.causal.predictors import spearman
from tae.analysis.causal.prefix import Prefix, Progress, check_one, images_at_once, prefix_of_one, silent, slices
from tae.analysis.causal.states import all_states, gradients_of
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, ModelConfig
from tae.model.layers import ROWS_AT_ONCE, TransformerBlock, merge_heads

MAX_BLOCKS = 256
"""Cells of a layer at most: where an image has more patches, a cell is a block of k x k of them."""
OWN_MLP = "own MLP"


@dataclass(frozen=True)
class Way:
    """The way from one reconstruction to another, both (1, 1, H, W): the yardstick of patching.

    Like the logit difference of language models it is linear in the output, so that effects can be added and a gradient
    estimates them. What leaves the way sideways it does not see: `closed` does.
    """

    start: Tensor  # the run's own reconstruction
    end: Tensor  # that of the image whose states are put in

    def __post_init__(self) -> None:
        if self.start.shape != self.end.shape:
            raise ValueError(
                "the two images must be of the same size, got "
                f"{tuple(self.end.shape[2:])} for {tuple(self.start.shape[2:])} (height, width)"
            )
        if not float(self._length) > 0:
            raise ValueError("the two images must give different reconstructions: there is no way between equal ones")

    @cached_property
    def _length(self) -> Tensor:
        return ((self.end.double() - self.start.double()) ** 2).sum()

    def share(self, recons: Tensor) -> Tensor:
        """(K,) float64: <R - start, end - start> / |end - start|^2. 0 is still the start, 1 is as far as the end.

        Below 0 it went the other way; above 1, farther.
        """
        way = self.end.double() - self.start.double()
        return ((recons.double() - self.start.double()) * way).sum(dim=(1, 2, 3)) / self._length

    def closed(self, recons: Tensor) -> Tensor:
        """(K,) float64: 1 - |R - end|^2 / |start - end|^2, the part of the squared distance that is closed.

        1 only at the end itself; half of the way, straight, closes .75; below 0 it is farther from the end than before.
        """
        return 1 - ((recons.double() - self.end.double()) ** 2).sum(dim=(1, 2, 3)) / self._length


@dataclass(frozen=True)
class Patching:
    """What each of K cells does, put in alone."""

    cells: tuple[Intervention, ...]  # (K,)
    share: np.ndarray  # (K,) `Way.share`
    closed: np.ndarray  # (K,) `Way.closed`

    def error_of(self, estimate: np.ndarray) -> "EstimateError":
        """How far an estimate of the shares (K,), such as `attribution_patching`'s, is off."""
        is_told = min(np.ptp(estimate), np.ptp(self.share)) > 0
        correlation = float(np.corrcoef(estimate, self.share)[0, 1]) if is_told else math.nan
        deviation = np.abs(estimate - self.share)
        worst = int(deviation.argmax())
        return EstimateError(correlation, spearman(estimate, self.share), float(deviation[worst]), self.cells[worst])


@dataclass(frozen=True)
class EstimateError:
    """An estimate beside what was measured."""

    correlation: float  # Pearson's, over the cells; nan where one of the two is constant
    rank_correlation: float  # Spearman's
    deviation: float  # the largest, as a share of the way
    worst: Intervention  # the cell that it is of


def head_cells(config: ModelConfig, parts: Sequence[str] = PARTS) -> list[Intervention]:
    """Each head, each layer's attention and each MLP, layer by layer."""
    return list(all_knockouts(config, parts))


def patch_cells(config: ModelConfig, width: int, parts: Sequence[str] = PARTS) -> list[Intervention]:
    """Each patch of each layer, in the state in which it enters the layer; blocks of patches beyond `MAX_BLOCKS`."""
    rows, columns = config.grid_for(width)
    k = 1
    while -(-rows // k) * -(-columns // k) > MAX_BLOCKS:
        k += 1
    blocks = torch.arange(rows * columns).unflatten(0, (rows, columns))
    tokens = [tuple(one.flatten().tolist()) for band in blocks.split(k) for one in band.split(k, dim=1)]
    return [
        Edit(part, layer, "tokens", some)
        for part in parts
        for layer in range(config.num_layers(part))
        for some in tokens
    ]


@torch.no_grad()
def patched(
    model: TransformerAutoencoder, base: Prefix, source: Prefix, sets: Sequence[Sequence[Intervention]]
) -> Tensor:
    """(K, 1, H, W): the base's reconstruction with each set of cells as in the source's run, (1, 1, H, W) both."""
    return reconstruct_knocked_out(model, base, sets, baseline_of(model, source), source)


@torch.no_grad()
def activation_patching(
    model: TransformerAutoencoder,
    base: Tensor | Prefix,
    source: Tensor | Prefix,
    cells: Sequence[Intervention],
    goal: Tensor | None = None,
    progress: Progress = silent,
) -> Patching:
    """Put each cell of the source's run into the base's, one at a time (causal tracing, activation patching).

    Vig 2020, Meng 2022, Wang 2022; the direction after Heimersheim & Nanda 2024. The latent is the mean over tokens: a
    single patch of the encoder moves it by about 1 / N of the way, unless others read from it.

    Args:
        base: The image (1, 1, H, W) whose run is changed, or its prefix.
        source: The image that lends its states, of the same size.
        cells: (K,) `head_cells`, `patch_cells`, or others.
        goal: The reconstruction (1, 1, H, W) that the way leads to; None: the source's. With another than the source's it is a
            control: how far any image's states would go there.

    Raises:
        ValueError: If the sizes differ, a cell is none of the model's, or start and goal are equal.
    """
    base, source = prefix_of_one(model, base), prefix_of_one(model, source)
    way = Way(base.recon, source.recon if goal is None else goal)
    stand_in = baseline_of(model, source)
    order = sorted(range(len(cells)), key=lambda number: (PARTS.index(cells[number].part), cells[number].layer))
    share, closed = np.zeros((2, len(cells)))
    for chunk in slices(len(cells), images_at_once(model.config, base.images.shape[3]), progress):
        numbers = order[chunk]  # only so many reconstructions are held
        recons = reconstruct_knocked_out(model, base, [[cells[number]] for number in numbers], stand_in, source)
        share[numbers], closed[numbers] = way.share(recons).numpy(force=True), way.closed(recons).numpy(force=True)
    return Patching(tuple(cells), share, closed)


def attribution_patching(
    model: TransformerAutoencoder,
    base: Tensor,
    source: Tensor,
    cells: Sequence[Intervention],
    recompute_attention: bool = True,
) -> np.ndarray:
    """Estimate `Patching.share` of all cells (K,) from two forward passes and one backward, whatever K.

    Gradient of the share with respect to each state of the base's run, times the difference of the two runs' states (Nanda
    2023, "Attribution patching"). Exact where the network is linear; else to first order: set it beside `activation_patching`.

    Args:
        recompute_attention: Of patches, the attention of the layer that they enter is computed anew with their query, key and
            value, and the gradient is taken from the heads on: a saturated softmax has no slope. This is the QK fix of AtP*
            (Kramar 2024, arXiv:2403.00745), with the value that moves by the new weight. Its other mend, GradDrop, is left
            out: over heads of the shipped models it is farther from what is measured.
    """
    for image in (base, source):
        check_one(image)
    for cell in cells:
        check([cell], model.config, int(np.prod(model.config.grid_for(base.shape[3]))))
    with torch.no_grad():
        others, end = all_states(model, source)
    states, gradients = gradients_of(model, base, lambda recon: Way(recon.detach(), end).share(recon).sum())
    products: dict[tuple[str, str, int], Tensor] = {}

    def product(what: str, part: str, layer: int) -> Tensor:
        """Its values for a patch (N,), a head and patch (heads, N), or an MLP and patch (N,)."""
        name = what, part, layer
        if name not in products:
            with torch.no_grad():
                if what == "tokens" and recompute_attention:
                    block = model.blocks(part)[layer]
                    slopes = gradients["middle", part, layer], gradients["heads", part, layer]
                    products[name] = _of_patches(block, states[name], others[name], *slopes)
                else:
                    products[name] = (gradients[name].double() * (others[name] - states[name]).double()).sum(dim=-1)[0]
        return products[name]

    def estimate(cell: Intervention) -> Tensor:
        if isinstance(cell, Edit):
            return product("tokens", cell.part, cell.layer)[cell.tokens].sum()
        if cell.target == "mlp":
            return product("mlp", cell.part, cell.layer).sum()
        heads = product("heads", cell.part, cell.layer).sum(dim=-1)
        return heads.sum() if cell.target == "attention" else heads[int(cell.target)]

    return np.array([float(estimate(cell)) for cell in cells])


def _of_patches(block: TransformerBlock, own: Tensor, other: Tensor, of_middle: Tensor, of_heads: Tensor) -> Tensor:
    """(N,) what each token of a layer does alone, other in place of own, both (1, N, D), with attention computed anew.

    Past the attention by the gradient of the state behind it, through it by that of the heads. Its key and value are in each
    other query's row, where all other weights keep their proportions; its query makes its own row anew.
    """
    found = (of_middle[0] * (other - own)[0]).sum(dim=-1).double()
    runs = zip(*(block.attn.qkv_heads(block.norm1(one)) for one in (own, other)), strict=True)
    (q, q_other), (k, k_other), (v, v_other) = ((one[0], another[0]) for one, another in runs)
    scale = q.shape[-1] ** -0.5
    for head, slope in enumerate(of_heads[0]):
        for start in range(0, len(slope), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            scores, of_weights = scale * q[head, rows] @ k[head].mT, slope[rows] @ v[head].mT
            weights, total = scores.softmax(dim=-1), scores.logsumexp(dim=-1, keepdim=True)
            mean = (weights * of_weights).sum(dim=-1, keepdim=True)
            # Of all keys but one: the weight that they have, and the mean over it. The strongest may have left next to nothing.
            rest = 1 - weights
            mean_of_rest = (mean - weights * of_weights) / rest
            top = scores.argmax(dim=-1, keepdim=True)
            others = scores.scatter(1, top, -torch.inf)
            log_rest = total + rest.log().scatter_(1, top, others.logsumexp(dim=-1, keepdim=True) - total)
            mean_of_rest.scatter_(1, top, (others.softmax(dim=-1) * of_weights).sum(dim=-1, keepdim=True))
            anew = (scale * q[head, rows] @ k_other[head].mT - log_rest).sigmoid()
            of_key = of_weights + slope[rows] @ (v_other - v)[head].mT
            by_key = anew * of_key + (1 - anew) * mean_of_rest - mean
            by_key.diagonal(start).zero_()  # its own row comes with its query
            found += by_key.sum(dim=0)
            scores = scale * q_other[head, rows] @ k[head].mT
            scores.diagonal(start).copy_(scale * (q_other[head, rows] * k_other[head, rows]).sum(dim=-1))
            of_weights.diagonal(start).copy_(of_key.diagonal(start))
            found[rows] += (scores.softmax(dim=-1) * of_weights).sum(dim=-1) - mean[:, 0]
    return found


@torch.no_grad()
def path_patching(
    model: TransformerAutoencoder, base: Tensor | Prefix, source: Tensor | Prefix, sender: Knockout
) -> dict[str, float]:
    """The effect of one head, all heads or an MLP of a layer through each later place alone, as a share of the way.

    The sender's output as in the source's run reaches the receiver straight through the residual stream: all that lies
    between is kept as in the base's run. The receiver works with it, and what follows works with what the receiver then adds
    (Wang 2022, "Interpretability in the wild"; Goldowsky-Dill 2023, arXiv:2304.05969).

    Returns:
        {receiver: share}: "own MLP" of the same layer, "layer 1", ... of the same part, and "latent" or "image" for what passes
        by all of them. In a linear network they add up to what `activation_patching` gives the sender.
    """
    base, source = prefix_of_one(model, base), prefix_of_one(model, source)
    way = Way(base.recon, source.recon)
    part, first, width = sender.part, sender.layer, base.images.shape[3]
    check([sender], model.config, base.tokens["encoder"][0].shape[1])
    blocks = list(model.blocks(part))
    block, x = blocks[first], base.tokens[part][first]
    own, other = (
        mixed(block.attn, *block.attn.qkv_heads(block.norm1(one.tokens[part][first])), None) for one in (base, source)
    )
    middle = x + block.attn.proj(merge_heads(own))
    found: dict[str, float] = {}

    def go_on(tokens: Tensor, layer: int) -> float:
        for later in blocks[layer:]:
            tokens = later(tokens, None)
        return float(way.share(model.finish(tokens, part, width)))

    if sender.target == "mlp":
        others = source.tokens[part][first]
        there = others + block.attn.proj(merge_heads(other))
        sent = block.mlp(block.norm2(there)) - block.mlp(block.norm2(middle))
    else:
        chosen = slice(None) if sender.target == "attention" else slice(int(sender.target), int(sender.target) + 1)
        difference = torch.zeros_like(own)
        difference[:, chosen] = (other - own)[:, chosen]
        sent = F.linear(merge_heads(difference), block.attn.proj.weight)
        found[OWN_MLP] = go_on(middle + block.mlp(block.norm2(middle + sent)), first + 1)
    x = block(x, None)
    for layer in range(first + 1, len(blocks)):
        found[f"layer {layer}"] = go_on(blocks[layer](x + sent, None) - sent, layer + 1)
        x = blocks[layer](x, None)
    found["latent" if part == "encoder" else "image"] = go_on(x + sent, len(blocks))
    return found
