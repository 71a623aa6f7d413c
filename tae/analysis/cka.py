"""Linear CKA: how alike any two states of the network are over many images, whatever rotation lies between them.

Kornblith 2019, "Similarity of neural network representations revisited", with the unbiased estimator of HSIC (Song 2012), whose
expectation over unrelated states is 0 for however few images; averaged over small batches (Nguyen 2021), so that memory does
not grow with their number. It is ruled by the directions in which states vary most (Davari 2023, "Reliability of CKA").
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.prefix import Progress, silent
from tae.analysis.lens.states import depth_names
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS, ModelConfig

BATCH = 32  # images whose states are compared with each other; fewer where they have many tokens
LEAST = 8  # with fewer than 4 the estimator is not defined, and with few it wavers
MAX_NUMBERS = 2**25  # of one state of a batch
ROUNDING = 1e-10
"""A state whose squares vary by less than this share of themselves is the same for all images: the rest is rounding."""
TOKENS = ("all", "mean")
"""What a state is: all tokens of an image, one after the other (Raghu 2021, "Do vision transformers see like convolutional
neural networks?"), or their mean, as the latent is made. The mean says nothing of what differs between the patches of an image,
and so is not ruled by it."""


@dataclass(frozen=True)
class Cka:
    """How alike S states are."""

    names: tuple[str, ...]  # (S,) such as "encoder, after layer 0"
    value: np.ndarray
    """(S, S) float64, about in [0, 1]: 1 where one state is the other, turned and scaled; nan where a state is the same for all
    images."""
    error: np.ndarray  # (S, S) standard error over the batches of images (jackknife); nan of a single batch
    control: np.ndarray  # (S, S) the same of each image's state and the next image's: 0 but for chance
    num_images: int


def state_names(config: ModelConfig) -> tuple[str, ...]:
    """Names of the states in the order in which an image takes them; the latent is one."""
    encoder, decoder = ([f"{part}, {name}" for name in depth_names(config.num_layers(part))] for part in PARTS)
    return (*encoder, "latent", *decoder)


@torch.no_grad()
def cka(model: TransformerAutoencoder, images: Tensor, progress: Progress = silent) -> dict[str, Cka]:
    """{one of `TOKENS`: CKA of all states}, over images (B, 1, H, W) of one width, B at least `LEAST`.

    One state of a batch is held at a time. ValueError if there are fewer images, or they do not fit the model.
    """
    if len(images) < LEAST:
        raise ValueError(f"images must be at least {LEAST}, got {len(images)}")
    config = model.config
    rows, columns = config.grid_for(images.shape[3])
    size = min(BATCH, max(LEAST, MAX_NUMBERS // (rows * columns * config.latent_dim)))
    like = next(model.parameters())
    batches = images.tensor_split(max(1, len(images) // size))  # none is smaller than the size
    found: dict[str, list[Tensor]] = {tokens: [] for tokens in TOKENS}  # (2, S, S) each: own images, and others
    for number, batch in enumerate(batches):
        pairs = [
            (u_centred(one), u_centred(one.mean(dim=1) if one.ndim == 3 else one))
            for one in _states(model, batch.to(like))
        ]
        for tokens, centred in zip(TOKENS, map(torch.stack, zip(*pairs, strict=True)), strict=True):
            found[tokens].append(torch.stack([hsic(centred, centred), hsic(centred, centred.roll((1, 1), (1, 2)))]))
        progress((number + 1) / len(batches))
    names = state_names(config)
    return {tokens: _cka(names, torch.stack(each).numpy(), len(images)) for tokens, each in found.items()}


def _cka(names: tuple[str, ...], each: np.ndarray, num_images: int) -> Cka:
    """From HSIC (batches, 2, S, S)."""
    (own, others), lengths = each.mean(axis=0), each[:, 0].mean(axis=0).diagonal()
    value, control = (_normalised(one, lengths) for one in (own, others))
    return Cka(names, value, _jackknife(each[:, 0]), control, num_images)


def u_centred(state: Tensor) -> Tensor:
    """The products of every two of n images' states (n, ...), without what depends on one of the two alone: (n, n) float64.

    U-centring (Szekely & Rizzo 2014): the diagonal is 0 and every row sums to 0.
    """
    flat = state.flatten(1).double()
    size = flat.square().sum()
    flat = flat - flat.mean(dim=0)  # changes nothing but the rounding
    if flat.square().sum() <= ROUNDING * size:
        flat = torch.zeros_like(flat)
    gram = (flat @ flat.T).cpu().fill_diagonal_(0)
    count = len(gram)
    sums = gram.sum(dim=0) / (count - 2)
    return (gram - sums - sums[:, None] + gram.sum() / ((count - 1) * (count - 2))).fill_diagonal_(0)


def hsic(first: Tensor, second: Tensor) -> Tensor:
    """Song's unbiased estimate of HSIC for every two of `u_centred` products (S, n, n) and (T, n, n): (S, T)."""
    count = first.shape[-1]
    return first.flatten(1) @ second.flatten(1).T / (count * (count - 3))


def _states(model: TransformerAutoencoder, images: Tensor) -> Iterator[Tensor]:
    """Every state of a pass, one after another, as `state_names` has them: tokens (B, N, D), and the latent (B, D)."""
    x, _ = model.encoder.embed_tokens(images)
    for part in PARTS:
        yield x
        for block in model.blocks(part):
            x = block(x, None)
            yield x
        if part == "encoder":
            latent = model.encoder.pool(x, None)
            yield latent
            x = model.decoder.start_tokens(latent, model.config.grid_for(images.shape[3])[1])


def _normalised(products: np.ndarray, own: np.ndarray) -> np.ndarray:
    """HSIC (S, S) as CKA, from that of each state with itself (S,); nan where that is not above 0."""
    lengths = np.sqrt(np.where(own > 0, own, math.nan))
    return products / np.outer(lengths, lengths)


def _jackknife(each: np.ndarray) -> np.ndarray:
    """Standard error (S, S) of the CKA of the mean of HSIC (batches, S, S), leaving each batch out in turn."""
    count = len(each)
    if count < 2:
        return np.full(each.shape[1:], math.nan)
    sums = [each.sum(axis=0) - one for one in each]
    without = np.stack([_normalised(one, one.diagonal()) for one in sums])
    return np.sqrt((count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
