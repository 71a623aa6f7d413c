"""Which attention map is meant: one name for pages, links, exports, reports and commands, and the map itself.

A map's name is "part/layer/head": "encoder/average/mean", "encoder/0/3", "decoder/rollout/max".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis import attention
from tae.analysis.facts import UNIFORM_LIMIT
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, ModelConfig
from tae.model.layers import TransformerBlock

OVER_LAYERS = ("average", "rollout")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
_HEADS_IN_WORDS = {"mean": "mean of", "max": "largest of", "min": "smallest of", "spread": "spread between"}


@dataclass(frozen=True, kw_only=True)
class MapChoice:
    """One map of a model; ValueError if a value is unknown, or two do not go together."""

    part: str = "encoder"
    layer: str = "average"  # "average" (the mean over layers), "rollout", or a layer's number, "0" the first
    head: str = "mean"
    """How heads are fused ("mean", "max", "min"), "spread" (standard deviation between heads), or a head's number."""
    weighting: str = "weights"
    """"weights", or "values": each weight times the length of the value vector that it moves (Kobayashi 2020)."""
    discard: float = 0.0  # for rollout: share of the smallest weights in each row that is dropped, in [0, 1)

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {_shown(self.part)}")
        if self.layer not in OVER_LAYERS and not _is_number(self.layer):
            raise ValueError(f"layer must be {', '.join(OVER_LAYERS)} or a layer's number, got {_shown(self.layer)}")
        if self.head not in _HEADS_IN_WORDS and not _is_number(self.head):
            raise ValueError(f"head must be {', '.join(_HEADS_IN_WORDS)} or a head's number, got {_shown(self.head)}")
        if self.weighting not in attention.WEIGHTINGS:
            raise ValueError(
                f"weighting must be one of {', '.join(attention.WEIGHTINGS)}, got {_shown(self.weighting)}"
            )
        if isinstance(self.discard, bool) or not isinstance(self.discard, (int, float)) or not 0 <= self.discard < 1:
            raise ValueError(f"discard must be a number from 0 to less than 1, got {_shown(self.discard)}")
        if self.layer in OVER_LAYERS and self.head not in attention.FUSIONS:
            # Head 3 of one layer and head 3 of the next have nothing in common.
            raise ValueError(
                f"head must be {', '.join(attention.FUSIONS)} where layer is {self.layer}, got {_shown(self.head)}; "
                "single heads and their spread belong to one layer"
            )
        if self.discard and self.layer != "rollout":
            raise ValueError(f"discard must be 0 where layer is not rollout, got {self.discard}")

    @property
    def name(self) -> str:
        """ "encoder/0/mean"; weighting and discard are settings beside it."""
        return f"{self.part}/{self.layer}/{self.head}"

    @classmethod
    def from_name(cls, name: str, weighting: str = "weights", discard: float = 0.0) -> "MapChoice":
        """The inverse of `name`; raises ValueError for any other text."""
        parts = name.split("/") if isinstance(name, str) else []
        if len(parts) != 3:
            raise ValueError(f"a map's name must be part/layer/head, such as encoder/0/mean, got {_shown(name)}")
        part, layer, head = parts
        return cls(part=part, layer=layer, head=head, weighting=weighting, discard=discard)

    @classmethod
    def named(cls, name: str, weighting: str, discard: float) -> "MapChoice":
        """The map of a name with settings that hold for many: the discard is for rollout, and left out of all others."""
        return cls.from_name(name, weighting, discard if "/rollout/" in name else 0.0)

    def check(self, config: ModelConfig) -> None:
        """Raise ValueError if a model has no such layer or head; the text says which there are."""
        num_layers = config.num_layers(self.part)
        if self.layer not in OVER_LAYERS and int(self.layer) >= num_layers:
            raise ValueError(f"layer must be from 0 to {num_layers - 1} in the {self.part}, got {self.layer}")
        if _is_number(self.head) and int(self.head) >= config.num_heads:
            raise ValueError(f"head must be from 0 to {config.num_heads - 1}, got {self.head}")

    def title(self, config: ModelConfig) -> str:
        """In words, such as "Encoder, layer 0, head 2" or "Decoder, rollout over 3 layers, largest of 4 heads"."""
        num_layers = config.num_layers(self.part)
        if self.layer in OVER_LAYERS:
            word = "average of" if self.layer == "average" else "rollout over"
            layer = f"{word} {num_layers} layer{'s' if num_layers > 1 else ''}"
        else:
            layer = f"layer {self.layer}"
        if config.num_heads == 1 and self.head in attention.FUSIONS:
            head = "its one head"
        elif self.head in _HEADS_IN_WORDS:
            head = f"{_HEADS_IN_WORDS[self.head]} {config.num_heads} heads"
        else:
            head = f"head {self.head}"
        words = [self.part.capitalize(), layer, head]
        if self.weighting == "values":
            words.append("weighted by value norms")
        if self.discard:
            words.append(f"smallest {self.discard * 100:.4g}% of each row dropped")
        return ", ".join(words)


@dataclass(frozen=True)
class ComputedMap:
    """A map, and what was left out of it."""

    weights: Tensor  # (N, N), rows = query, columns = key; rows sum to 1, but for "spread"; 0 for padding
    hidden_mass: float  # share of all weight that `discard` dropped, the mean over real queries and layers


def compute_map(model: TransformerAutoencoder, image: Tensor, choice: MapChoice) -> Tensor:
    """The chosen map (N, N) of one image; see `compute`."""
    return compute(model, image, choice).weights


@torch.no_grad()
def compute(
    model: TransformerAutoencoder, image: Tensor, choice: MapChoice, widths: Tensor | None = None
) -> ComputedMap:
    """The chosen map of one image, with the mass that it hides.

    Single heads are those of `model.get_attention_heads`, means those of `model.get_attention_maps`, bit for bit.
    "average" is the mean over layers of the fused heads, "rollout" chains the fused heads. With weighting "values", the
    "mean" over heads is the length of the sum of all that the heads move (`tae.analysis.attention.value_weighted_sum`);
    every other fusion takes the heads' weighted maps. A few maps are held at a time, never those of all heads or all
    layers. `widths` (1,) is the image's own width in pixels.
    """
    choice.check(model.config)
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(f"image must be (1, 1, H, W), got {tuple(image.shape)}")
    if choice.layer == "rollout":
        masses = []

        def kept() -> Iterator[Tensor]:
            for layer_map in _fused_layers(model, image, choice, widths):
                if choice.discard:
                    is_real = layer_map.sum(dim=-1) > 0
                    layer_map, dropped = attention.discard_smallest(layer_map, choice.discard)
                    masses.append(float(dropped[is_real].mean()))
                yield layer_map

        chained = attention.rollout(kept())[0]
        return ComputedMap(chained, sum(masses) / len(masses) if masses else 0.0)
    total = torch.empty(0)
    for layer, layer_map in enumerate(_fused_layers(model, image, choice, widths)):
        if choice.layer == "average":
            total = layer_map if layer == 0 else total.add_(layer_map)
        elif layer == int(choice.layer):
            return ComputedMap(layer_map[0], 0.0)
    return ComputedMap(total.div_(model.config.num_layers(choice.part))[0], 0.0)


@torch.no_grad()
def head_grid(
    model: TransformerAutoencoder, image: Tensor, weighting: str = "weights", discard: float = 0.0
) -> Iterator[tuple[str, Tensor]]:
    """Every single head's map, each layer's mean, and their average and rollout, of both parts, in one pass of each.

    Args:
        model: The model.
        image: (1, 1, H, W) in [0, 1].
        weighting: As in `MapChoice`.
        discard: As in `MapChoice`, for rollout.

    Yields:
        ("part/layer/head", (N, N)), which equals `compute_map` of that name to rounding.
    """
    for part in PARTS:
        means: list[Tensor] = []
        for layer, (block, tokens, mask) in enumerate(attention.each_layer(model, image, part)):
            total: Tensor | None = None
            for head, one in enumerate(attention.each_head(block, tokens, mask, weighting)):
                yield f"{part}/{layer}/{head}", one[0]
                total = one.clone() if total is None else total.add_(one)
            assert total is not None
            is_sum = weighting == "values"
            mean = attention.value_weighted_sum(block, tokens, mask) if is_sum else total.div_(block.attn.num_heads)
            means.append(mean)
            yield f"{part}/{layer}/mean", mean[0]
        yield f"{part}/average/mean", torch.stack([mean[0] for mean in means]).mean(dim=0)
        kept = (attention.discard_smallest(mean, discard)[0] if discard else mean for mean in means)
        yield f"{part}/rollout/mean", attention.rollout(kept)[0]


def all_choices(config: ModelConfig, part: str = "encoder", weighting: str = "weights") -> list[MapChoice]:
    """Every map that a part of a model has: average, rollout, then layer by layer fusions, spread and single heads."""
    MapChoice(part=part, weighting=weighting)
    heads = [*attention.FUSIONS, "spread", *(str(head) for head in range(config.num_heads))]
    layers = [(layer, head) for layer in OVER_LAYERS for head in attention.FUSIONS]
    layers += [(str(layer), head) for layer in range(config.num_layers(part)) for head in heads]
    return [MapChoice(part=part, layer=layer, head=head, weighting=weighting) for layer, head in layers]


def _fused_layers(
    model: TransformerAutoencoder, image: Tensor, choice: MapChoice, widths: Tensor | None
) -> Iterator[Tensor]:
    """(1, N, N) of each layer in turn, from the first; each may be changed in place."""
    if choice.head == "mean" and choice.weighting == "weights":
        # The way of `get_attention_maps`: each block's output comes from the map itself, not from fused attention.
        tokens, mask = model.layer_input(image, 0, choice.part, widths)
        for block in model.blocks(choice.part):
            tokens, layer_map = block.forward_with_map(tokens, mask)
            yield layer_map
        return
    for layer, (block, tokens, mask) in enumerate(attention.each_layer(model, image, choice.part, widths)):
        if choice.layer in OVER_LAYERS or layer == int(choice.layer):
            yield _fused_heads(block, tokens, mask, choice)
        else:
            yield tokens.new_empty(0)  # nobody asks for it


def _fused_heads(block: TransformerBlock, tokens: Tensor, mask: Tensor | None, choice: MapChoice) -> Tensor:
    """(1, N, N), one head at a time."""
    if choice.head == "mean":
        return attention.value_weighted_sum(block, tokens, mask)
    wanted = [int(choice.head)] if _is_number(choice.head) else None
    heads = attention.each_head(block, tokens, mask, choice.weighting, wanted)
    fused = next(heads)
    if choice.head == "spread":
        return _spread(fused, heads)
    for one in heads:
        fused = torch.maximum(fused, one, out=fused) if choice.head == "max" else torch.minimum(fused, one, out=fused)
    return attention.normalised(fused) if choice.head in attention.FUSIONS else fused


def _spread(mean: Tensor, others: Iterator[Tensor]) -> Tensor:
    """Standard deviation between maps that come one after another (Welford 1962); `mean` is the first, and changed."""
    squares = torch.zeros_like(mean)
    count = 1
    for count, one in enumerate(others, start=2):
        away = one - mean
        mean += away / count
        squares += away.mul_(one.sub_(mean))
    return squares.div_(count).clamp_min_(0).sqrt_()


def _is_number(text: object) -> bool:
    return isinstance(text, str) and _NUMBER.fullmatch(text) is not None


def _shown(value: object) -> str:
    return repr(value)[:80]


PERCENTILE = 99.5
"""A few strong weights would leave all others pale: by default the colours end where this share of the weights does."""


@torch.no_grad()
def colour_tops(model: TransformerAutoencoder, image: Tensor, weighting: str = "weights") -> dict[str, float]:
    """Ends of a colour range that all layers and heads of encoder and decoder share, in x uniform, at least 1.5.

    Returns:
        {"shared": the highest 99.5th percentile of a layer's head mean, "full": the largest weight of any head}. Rollout
        and fusions other than the mean may have stronger weights; they then look as dark as the end of the range.
    """
    shared, full = UNIFORM_LIMIT, UNIFORM_LIMIT
    for part in PARTS:
        for block, tokens, mask in attention.each_layer(model, image, part):
            mean: Tensor | None = None
            for one in attention.each_head(block, tokens, mask, weighting):
                full = max(full, float(one.max()) * one.shape[-1])
                mean = one if mean is None else mean.add_(one)
            assert mean is not None
            values = mean.div_(block.attn.num_heads).flatten().numpy()
            shared = max(shared, float(np.percentile(values, PERCENTILE)) * mean.shape[-1])
    return {"shared": shared, "full": max(full, shared)}
