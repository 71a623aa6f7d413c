"""The influence of frames, patches of frames and heads of the encoder on a predicted number; each changed, all else as it was.

Effects are changes of the prediction for the whole sequence (where the target changes within it, of the one after the last
frame): in the table's unit, or of the probability of a class. They are signed: above 0, the prediction is higher without.
Whatever stands in for what is ablated leads off what training has shown; it is named beside the figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.knockouts import embed_knocked_out
from tae.analysis.causal.occlusion import changed_tokens, tokens_of_pixels
from tae.analysis.causal.prefix import images_at_once, make_prefix, slices
from tae.sequence.model import SequenceModel, embed_sequence
from tae.sequence.target import WINDOWS_AT_ONCE

ORDERS = 16
"""Random orders behind `FrameEffects.shuffled`, the same in each call."""
Progress = Callable[[float], object]


@dataclass(frozen=True)
class FrameEffects:
    """Frames changed in the latents that the LSTM reads."""

    plain: float
    """The prediction itself."""
    dropped: np.ndarray
    """(T,): without this frame; its neighbours follow each other."""
    covered: np.ndarray
    """(T,): an empty white page in its place."""
    shuffled: np.ndarray
    """(ORDERS,): all frames in a random order, with their inputs."""


@dataclass(frozen=True)
class HeadEffects:
    """Heads of the encoder, what they add replaced by zero."""

    each: np.ndarray
    """(layers, heads, T): in one frame."""
    whole: np.ndarray
    """(layers, heads): in all frames at once."""


@torch.no_grad()
def answers(model: SequenceModel, latents: Tensor, inputs: Tensor, outcome: int = 0) -> np.ndarray:
    """(K,) predictions of K sequences of one length, float64.

    Args:
        model: In eval mode, with a target.
        latents: (K, T, latent_dim).
        inputs: (K, T, num_inputs), in the table's units.
        outcome: The class whose probability is meant; 0 for a number.
    """
    target = model.config.target
    assert target is not None
    window, length = min(target.window, latents.shape[1]), latents.shape[1]
    starts = [length - window] if target.is_per_frame else [*range(length - window + 1)]
    found = []
    for some in slices(len(latents), max(1, WINDOWS_AT_ONCE // len(starts))):
        seen, told = (
            torch.cat([values[some, start : start + window] for start in starts]) for values in (latents, inputs)
        )
        answer = model.predict(seen.to(model.centre), None, told.to(model.centre))[:, -1]
        answer = answer.softmax(dim=-1) if target.classes else answer
        found.append(answer[:, outcome].double().unflatten(0, (len(starts), -1)).mean(dim=0).cpu())
    return torch.cat(found).numpy()


def frame_effects(
    model: SequenceModel, frames: Tensor, latents: Tensor, inputs: Tensor, outcome: int = 0
) -> FrameEffects:
    """Drop, cover and shuffle the frames (T, 1, H, W) of a sequence, of which latents and inputs are known; T at least 2."""
    count = len(latents)
    if count < 2:
        raise ValueError(f"a sequence must have at least two frames, got {count}")
    (blank,) = embed_sequence(model.autoencoder, torch.ones_like(frames[:1]))
    plain = float(answers(model, latents[None], inputs[None], outcome)[0])
    kept = torch.tensor([[t for t in range(count) if t != left] for left in range(count)])
    random = np.random.default_rng(0)
    orders = torch.from_numpy(np.stack([random.permutation(count) for _ in range(ORDERS)]))
    covered = latents.repeat(count, 1, 1)
    covered[range(count), range(count)] = blank
    dropped, shuffled = (answers(model, latents[order], inputs[order], outcome) for order in (kept, orders))
    covered = answers(model, covered, inputs.expand(count, -1, -1), outcome)
    return FrameEffects(plain, dropped - plain, covered - plain, shuffled - plain)


@torch.no_grad()
def patch_effects(
    model: SequenceModel,
    frames: Tensor,
    latents: Tensor,
    inputs: Tensor,
    places: Sequence[Sequence[int]],
    outcome: int = 0,
    progress: Progress = lambda share: None,
) -> np.ndarray:
    """(len(places), N): white in place of one patch (Zeiler & Fergus 2014), through encoder and LSTM.

    Args:
        frames: (T, 1, H, W) in [0, 1].
        latents: (T, latent_dim) of them.
        inputs: (T, num_inputs).
        places: The numbers of the frames in which the patch is covered at once, such as [[3], range(T)]. A patch that is white
            in all of them changes nothing, exactly.
        progress: Is called with the share that is done.
    """
    config = model.autoencoder.config
    plain = float(answers(model, latents[None], inputs[None], outcome)[0])
    rows, columns = config.grid_for(frames.shape[3])
    effects = np.zeros((len(places), rows * columns))
    size, of_pixel = images_at_once(config, frames.shape[3]), tokens_of_pixels(frames[:1], config)
    white = torch.ones_like(frames[:1])
    done, total = 0, sum(map(len, places))
    for row, numbers in enumerate(places):
        inked = torch.stack([changed_tokens(frames[number : number + 1], white, config) for number in numbers])
        tokens = inked.any(dim=0).nonzero().flatten()
        for part in slices(len(tokens), size):
            chunk = tokens[part]
            changed = latents.repeat(len(chunk), 1, 1)
            for place, number in enumerate(numbers, start=1):
                images = torch.where(of_pixel == chunk[:, None, None, None], white, frames[number : number + 1])
                changed[:, number] = embed_sequence(model.autoencoder, images, size)
                share = (part.start * len(numbers) + place * len(chunk)) / len(tokens)
                progress(min(1.0, (done + share) / total))
            effects[row, chunk.numpy()] = answers(model, changed, inputs.expand(len(chunk), -1, -1), outcome) - plain
        done += len(numbers)
    return effects


@torch.no_grad()
def head_effects(
    model: SequenceModel,
    frames: Tensor,
    latents: Tensor,
    inputs: Tensor,
    outcome: int = 0,
    progress: Progress = lambda share: None,
) -> HeadEffects:
    """Ablate each head of the encoder, in each frame alone and in all; arguments as `patch_effects`."""
    autoencoder, count = model.autoencoder, len(frames)
    config = autoencoder.config
    plain = float(answers(model, latents[None], inputs[None], outcome)[0])
    changed = latents.new_empty(config.encoder_layers, config.num_heads, *latents.shape)
    for part in slices(count, images_at_once(config, frames.shape[3]), progress):
        prefix = make_prefix(autoencoder, frames[part])
        for layer in range(config.encoder_layers):
            for head in range(config.num_heads):
                changed[layer, head, part] = embed_knocked_out(autoencoder, prefix, [Knockout("encoder", layer, head)])
    each = np.zeros((config.encoder_layers, config.num_heads, count))
    whole = np.zeros(each.shape[:2])
    for layer, head in np.ndindex(whole.shape):
        single = latents.repeat(count, 1, 1)
        single[range(count), range(count)] = changed[layer, head]
        both = torch.cat([single, changed[layer, head][None]])
        found = answers(model, both, inputs.expand(count + 1, -1, -1), outcome) - plain
        each[layer, head], whole[layer, head] = found[:-1], found[-1]
    return HeadEffects(each, whole)
