"""Heads, branches and tokens ablated or changed, many sets of them in one batch.

Nothing of the model is changed, not even for a moment: the blocks are run from outside, and what stands in for a head
is put where its output was. The undisturbed way to the first change is not run again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tae.analysis.attention import normalised
from tae.analysis.causal.interventions import Edit, Intervention, Knockout, check
from tae.analysis.causal.prefix import Prefix, Progress, images_at_once, make_prefix, silent, slices
from tae.analysis.causal.replacements import identity, on_real_tokens, permuted_keys, uniform
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.model.layers import Attention, TransformerBlock, attention_weights, merge_heads

Place = tuple[str, int]  # (part, layer)
_WEIGHTS = {"uniform": uniform, "identity": identity, "permuted": permuted_keys()}


@dataclass(frozen=True)
class Baseline:
    """Stand-ins for what is knocked out: `ZERO`, `mean_baseline` or `resample_baseline`."""

    kind: str  # "zero", "mean" or "resample"
    num_images: int = 0  # that it comes from
    heads: dict[Place, Tensor] = field(default_factory=dict, repr=False)
    """{place: (M, heads, rows, columns, head_dim)}, what each head adds before the output projection; M is 1 or the
    number of images that will be reconstructed. Empty for zero."""
    mlps: dict[Place, Tensor] = field(default_factory=dict, repr=False)
    """{place: (M, 1, rows, columns, D)}, what each MLP adds."""

    @property
    def title(self) -> str:
        """In words, as it is printed beside each figure."""
        images = f"{self.num_images} image{'s' if self.num_images != 1 else ''}"
        return {"zero": "zero", "mean": f"mean over {images}", "resample": "another image's"}[self.kind]


ZERO = Baseline("zero")


@torch.no_grad()
def mean_baseline(
    model: TransformerAutoencoder, images: Tensor, widths: Tensor | None = None, progress: Progress = silent
) -> Baseline:
    """The mean over images (M, 1, H, W) of what each head and MLP adds, token by token.

    What stays is all that does not depend on the image (mean ablation: Wang 2022, "Interpretability in the wild"). The
    widest must be at least as wide as those that will be reconstructed; a token's mean is over the images in which it
    is real.
    """
    sums: dict[tuple[str, str, int], Tensor] = {}
    grid = model.config.grid_for(images.shape[3])
    counts = torch.zeros(grid[0] * grid[1], dtype=torch.float64)
    for chunk in slices(len(images), images_at_once(model.config, images.shape[3]), progress):
        prefix = make_prefix(model, images[chunk], None if widths is None else widths[chunk])
        real = torch.ones(prefix.tokens["encoder"][0].shape[:2]) if prefix.mask is None else prefix.mask
        counts += real.sum(dim=0).to(counts)
        for place, heads, mlp in branches(model, prefix):
            for name, values in (("heads", heads), ("mlp", mlp.unsqueeze(1))):
                total = (values.double() * real.to(values.device, torch.float64)[:, None, :, None]).sum(dim=0)
                sums[(name, *place)] = sums.get((name, *place), 0) + total
    if not bool((counts > 0).all()):
        raise ValueError("images must fill their batch: none is as wide as it")
    means = {key: (total / counts[:, None].to(total.device)).to(images.dtype) for key, total in sums.items()}
    return _on_grid("mean", len(images), {key: mean[None] for key, mean in means.items()}, grid)


@torch.no_grad()
def resample_baseline(model: TransformerAutoencoder, images: Tensor) -> Baseline:
    """The share that each head and MLP adds for other images, in an undisturbed pass (resample ablation).

    Chan 2022, "Causal scrubbing". The images (M, 1, H, W) are one for all, or as many as will be reconstructed; at
    least as wide as those.
    """
    return baseline_of(model, make_prefix(model, images))


@torch.no_grad()
def baseline_of(model: TransformerAutoencoder, prefix: Prefix) -> Baseline:
    """`resample_baseline` of images whose undisturbed pass is kept."""
    found = {}
    for place, heads, mlp in branches(model, prefix):
        found[("heads", *place)], found[("mlp", *place)] = heads, mlp[:, None]
    return _on_grid("resample", len(prefix.images), found, model.config.grid_for(prefix.images.shape[3]))


@torch.no_grad()
def reconstruct_knocked_out(
    model: TransformerAutoencoder,
    images: Tensor | Prefix,
    interventions: Sequence[Iterable[Intervention]],
    baseline: Baseline = ZERO,
    donor: Prefix | None = None,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Reconstruct with parts of the network knocked out or edited, one set of interventions for each result.

    Args:
        images: (B, 1, H, W) in [0, 1], or their prefix, which saves the undisturbed pass and may have widths.
        interventions: K sets. K = B: one for each image; K = 1: for all images; B = 1: all of them for one image.
        baseline: What stands in for what is knocked out.
        donor: The other image or images (1 or B), for edits that copy rows or tokens; at least as wide.
        batch_size: Reconstructions computed together; None: as many as `TOKENS_AT_ONCE` allows.

    Returns:
        (max(B, K), 1, H, W), near [0, 1]. With no interventions, `model(images)[0]` to the bit.
    """
    prefix = images if isinstance(images, Prefix) else make_prefix(model, images)
    sets = [[one for one in some if not (isinstance(one, Edit) and one.changes_nothing)] for some in interventions]
    num_images, num_tokens = prefix.tokens["encoder"][0].shape[:2]
    if num_images != len(sets) and 1 not in (num_images, len(sets)):
        raise ValueError(
            "interventions must be one set, or one for each image, or many for one image, "
            f"got {len(sets)} sets for {num_images} images"
        )
    for some in sets:
        check(some, model.config, num_tokens)
    if any(isinstance(one, Edit) and one.needs_donor for some in sets for one in some):
        _check_donor(donor, prefix)
    _check_baseline(baseline, model.config.grid_for(prefix.images.shape[3])[1], num_images)
    count = max(num_images, len(sets)) if sets else 0
    samples = [_Sample(number, number % num_images, sets[number % len(sets)]) for number in range(count)]
    recons = prefix.recon[[sample.image for sample in samples]]
    changed = sorted((sample for sample in samples if sample.changes), key=lambda sample: sample.start)
    size = batch_size or images_at_once(model.config, prefix.images.shape[3])
    for chunk in slices(len(changed), size, progress):
        numbers = [sample.number for sample in changed[chunk]]
        recons[numbers] = _run(model, prefix, changed[chunk], baseline, donor)
    return recons


@torch.no_grad()
def embed_knocked_out(
    model: TransformerAutoencoder, images: Prefix, interventions: Sequence[Intervention], baseline: Baseline = ZERO
) -> Tensor:
    """The latents (B, latent_dim) of images with parts of the encoder knocked out, the same in all of them.

    Raises:
        ValueError: If an intervention is none of the encoder, or copies from another image.
    """
    check(interventions, model.config, images.tokens["encoder"][0].shape[1])
    odd = [one for one in interventions if one.part != "encoder" or (isinstance(one, Edit) and one.needs_donor)]
    if odd or not interventions:
        raise ValueError(
            f"interventions must be of the encoder, without another image, got {[one.name for one in odd]}"
        )
    samples = [_Sample(number, number, interventions) for number in range(len(images.images))]
    return _run(model, images, samples, baseline, None, is_latent=True)


def _check_donor(donor: Prefix | None, prefix: Prefix) -> None:
    if donor is None:
        raise ValueError("donor must be given where another image's rows or tokens are copied")
    if donor.images.shape[1:] != prefix.images.shape[1:] or len(donor.images) not in (1, len(prefix.images)):
        raise ValueError(
            "donor must be one image or as many as those reconstructed, of the same size, got "
            f"{tuple(donor.images.shape)} for {tuple(prefix.images.shape)}"
        )


def _check_baseline(baseline: Baseline, columns: int, num_images: int) -> None:
    if not baseline.heads:
        return
    found = next(iter(baseline.heads.values()))
    if found.shape[3] < columns or len(found) not in (1, num_images):
        raise ValueError(
            "the baseline's images must be at least as wide as those reconstructed, and for resample one or as many, got "
            f"{found.shape[3]} columns of patches and {len(found)} images for {columns} and {num_images}"
        )


class _Sample:
    """One image with one set of interventions."""

    def __init__(self, number: int, image: int, interventions: Iterable[Intervention]) -> None:
        self.number, self.image = number, image
        self.changes: dict[Place, list[Intervention]] = defaultdict(list)
        for one in interventions:
            self.changes[one.part, one.layer].append(one)
        self.start = min(((PARTS.index(part), layer) for part, layer in self.changes), default=(0, 0))


def _run(
    model: TransformerAutoencoder,
    prefix: Prefix,
    samples: list[_Sample],
    baseline: Baseline,
    donor: Prefix | None,
    is_latent: bool = False,
) -> Tensor:
    """Samples, sorted by where they start, to their reconstructions: each joins the batch in its first changed layer.

    With `is_latent`, to their latents; then all start in the encoder.
    """
    width = prefix.images.shape[3]
    columns = model.config.grid_for(width)[1]
    images = torch.tensor([sample.image for sample in samples], device=prefix.images.device)
    masks = None if prefix.mask is None else prefix.mask[images]
    num_active = 0
    x = prefix.tokens["encoder"][0][:0]
    for number, part in enumerate(PARTS):
        if number and num_active:
            latent = model.encoder.pool(x, None if masks is None else masks[:num_active])
            if is_latent:
                return latent
            x = model.decoder.start_tokens(latent, columns)
        for layer, block in enumerate(model.blocks(part)):
            joined = sum(sample.start <= (number, layer) for sample in samples)
            if joined > num_active:
                new = prefix.tokens[part][layer][images[num_active:joined]]
                x, num_active = torch.cat([x, new]) if num_active else new, joined
            mask = None if masks is None else masks[:num_active]
            active = enumerate(samples[:num_active])
            changes = [(row, one.image, one.changes.get((part, layer), [])) for row, one in active]
            if any(changed for *_, changed in changes):
                x = _Changed(block, (part, layer), changes, columns, baseline, donor)(x, mask)
            elif changes:
                x = block(x, mask)
    widths = None if prefix.widths is None else prefix.widths[images.to(prefix.widths.device)]
    return model.finish(x, "decoder", width, widths)


@dataclass(frozen=True)
class _Changed:
    """One block as `TransformerBlock.forward` runs it, with changes to some of its samples."""

    block: TransformerBlock
    place: Place
    changes: list[tuple[int, int, list[Intervention]]]  # row of the batch, image, what is changed
    columns: int
    baseline: Baseline
    donor: Prefix | None

    def __call__(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attention = self.block.attn
        for row, image, edit in self._edits("tokens"):  # in place: the batch is a copy of what the prefix holds
            tokens, number = self._of_donor(image)
            x[row, edit.tokens] = tokens[number, edit.tokens]
        q, k, v = attention.qkv_heads(self.block.norm1(x))
        for row, _, edit in self._edits("temperature"):
            q[row] /= edit.temperature
        y = mixed(attention, q, k, v, mask)
        for row, image, changes in self.changes:
            kinds = {change.kind: change for change in changes if isinstance(change, Edit)}
            if kinds.keys() & {"weights", "rows", "mask"}:
                one = slice(row, row + 1)
                weights = self._edited_weights(q[one], k[one], None if mask is None else mask[one], image, kinds)
                y[row] = (weights.to(v.dtype) @ v[one])[0]
            heads = {change.target for change in changes if isinstance(change, Knockout) and change.target != "mlp"}
            if "attention" in heads:
                heads = range(attention.num_heads)
            for head in heads:
                y[row, int(head)] = self._stand_in(self.baseline.heads, image, int(head)) if self.baseline.heads else 0
        x = x + attention.proj(merge_heads(y))
        added = self.block.mlp(self.block.norm2(x))
        for row, image, changes in self.changes:
            if any(isinstance(change, Knockout) and change.target == "mlp" for change in changes):
                added[row] = self._stand_in(self.baseline.mlps, image, 0) if self.baseline.mlps else 0
        return x + added

    def _edits(self, kind: str) -> Iterator[tuple[int, int, Edit]]:
        for row, image, changes in self.changes:
            for change in changes:
                if isinstance(change, Edit) and change.kind == kind:
                    yield row, image, change

    def _edited_weights(self, q: Tensor, k: Tensor, mask: Tensor | None, image: int, edits: dict[str, Edit]) -> Tensor:
        """(1, heads, N, N)."""
        layer = self.place[1]
        weights = attention_weights(q, k, mask)
        if mask is not None:
            weights = weights * mask[:, None, :, None]
        if "weights" in edits:
            weights = _WEIGHTS[str(edits["weights"].value)](layer, weights)
        if "rows" in edits:
            others = self._donor_weights(image, weights)
            rows = edits["rows"].tokens or slice(None)
            weights = weights.clone()
            weights[:, :, rows] = others[:, :, rows]
        if "mask" in edits:
            weights = weights.clone()
            weights[..., edits["mask"].tokens] = 0
            weights = normalised(weights)
        return weights

    def _donor_weights(self, image: int, weights: Tensor) -> Tensor:
        tokens, number = self._of_donor(image)
        assert self.donor is not None
        mask = None if self.donor.mask is None else self.donor.mask[number : number + 1]
        return on_real_tokens(self.block.head_weights(tokens[number : number + 1], mask), weights)

    def _of_donor(self, image: int) -> tuple[Tensor, int]:
        """The tokens (B, N, D) that enter the layer, and which of them lend theirs to an image."""
        assert self.donor is not None  # checked before
        tokens = self.donor.tokens[self.place[0]][self.place[1]]
        return tokens, image if len(tokens) > 1 else 0

    def _stand_in(self, values: dict[Place, Tensor], image: int, head: int) -> Tensor:
        """(N, head_dim or D) of the baseline, cut to the width of these images."""
        found = values[self.place]
        return found[image if len(found) > 1 else 0, head, :, : self.columns].flatten(0, 1)


def mixed(attention: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The result of `Attention.forward` between its projections: (B, heads, N, head_dim)."""
    if attention.use_flash_attention:
        key_mask = None if mask is None else mask[:, None, None, :]
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask)
    return attention_weights(q, k, mask).to(v.dtype) @ v


def branches(model: TransformerAutoencoder, prefix: Prefix) -> Iterator[tuple[Place, Tensor, Tensor]]:
    """The shares that each layer adds: its place, heads (B, heads, N, head_dim) before the projection, MLP (B, N, D)."""
    for part in PARTS:
        for layer, (block, x) in enumerate(zip(model.blocks(part), prefix.tokens[part], strict=True)):
            y = mixed(block.attn, *block.attn.qkv_heads(block.norm1(x)), prefix.mask)
            x = x + block.attn.proj(merge_heads(y))
            yield (part, layer), y, block.mlp(block.norm2(x))


def _on_grid(kind: str, num_images: int, found: dict[tuple[str, str, int], Tensor], grid: tuple[int, int]) -> Baseline:
    heads, mlps = {}, {}
    for (name, part, layer), values in found.items():  # (M, heads or 1, N, dim)
        (heads if name == "heads" else mlps)[part, layer] = values.unflatten(2, grid)
    return Baseline(kind, num_images, heads, mlps)
