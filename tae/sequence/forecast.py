"""The predictions of a sequence model as images beside the truth, beside what needs no model, and beside the best there could be.

The baselines: the last frame copied; the mean of the frames so far; the last latent decoded; the latents' last change gone on
with. The ceiling: the autoencoder of the true frame, which is not a prediction. Errors are mean squared, images clipped to
[0, 1] first; what nobody could have known at that time enters no prediction.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tae.model.autoencoder import TransformerAutoencoder
from tae.sequence.model import SequenceModel, decode_sequence, embed_sequence, pad_sequences

LSTM = "LSTM"
COPY = "last frame copied"
MEAN = "mean of past frames"
LAST = "last latent decoded"
LINEAR = "linear extrapolation of latents"
BASELINES = (COPY, MEAN, LAST, LINEAR)
CEILING = "autoencoder of the true frame"
METHODS = (LSTM, *BASELINES, CEILING)
SEEN = 6  # frames that a sequence model sees before its predictions count
STEPS = 10
ORDERS = 16  # random ones behind `Influence.shuffled`, the same in each call


@dataclass(frozen=True)
class Forecast:
    """Predicted frames, and how far they are from the true ones."""

    first: int  # frame that the first prediction is of, from 0
    images: dict[str, np.ndarray]
    """For each of `METHODS` (steps, H, W) float32 in [0, 1]; the ceiling only as far as there are true frames, the
    LSTM only where there is one."""
    latents: dict[str, np.ndarray]
    """(steps, latent_dim) float32 of those methods that predict latents, and of the ceiling."""
    mse: dict[str, np.ndarray]  # for each method (known,), one error for each true frame


@torch.no_grad()
def forecast_frames(
    model: SequenceModel | TransformerAutoencoder,
    frames: Tensor,
    seen: int,
    steps: int = STEPS,
    latents: Tensor | None = None,
    recons: Tensor | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> Forecast:
    """Go on after the first `seen` frames, each prediction taken for the truth by the next.

    Args:
        model: In eval mode; an autoencoder alone has the baselines and the ceiling only.
        frames: (T, 1, H, W) in [0, 1]: those seen, from 1 to T, and true ones to compare with, as far as there are any.
        steps: Frames to predict.
        latents: (T, latent_dim) of the frames, where they are known already.
        recons: (T, 1, H, W) drawn from these, where they are known already.
        progress: Is called with the share that is done.

    Raises:
        ValueError: If an argument does not fit, or a prediction is no finite number.
    """
    if not 1 <= seen <= len(frames):
        raise ValueError(f"seen must be from 1 to the sequence's {len(frames)} frames, got {seen}")
    autoencoder, lstm = _parts(model)
    latents = embed_sequence(autoencoder, frames) if latents is None else latents
    needed = slice(seen - 1, seen + steps)  # the last frame seen, and the true ones to come
    drawn = _drawn(autoencoder, latents[needed], frames) if recons is None else recons[needed]
    last = latents[seen - 1]
    change = last - latents[seen - 2] if seen > 1 else torch.zeros_like(last)
    ahead = torch.arange(1, steps + 1)[:, None]
    predicted = {LINEAR: last + ahead * change}
    if lstm is not None:
        predicted[LSTM] = lstm.forecast(latents[:seen].to(lstm.centre)[None], steps)[0]
    known = {
        COPY: frames[seen - 1 : seen].expand(steps, -1, -1, -1),
        MEAN: frames[:seen].mean(dim=0, keepdim=True).expand(steps, -1, -1, -1),
        LAST: drawn[:1].expand(steps, -1, -1, -1),
        CEILING: drawn[1:],
    }
    found = _compare(autoencoder, frames, seen, predicted, known, progress)
    found.latents[LAST] = last.expand(steps, -1).float().numpy()
    found.latents[CEILING] = latents[seen : seen + steps].float().numpy()
    return found


@torch.no_grad()
def one_step(
    model: SequenceModel | TransformerAutoencoder,
    frames: Tensor,
    latents: Tensor | None = None,
    recons: Tensor | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> Forecast:
    """Each frame but the first from the true ones before it; arguments and errors as `forecast_frames`."""
    if len(frames) < 2:
        raise ValueError(f"frames must be at least two, got {len(frames)}")
    autoencoder, lstm = _parts(model)
    latents = embed_sequence(autoencoder, frames) if latents is None else latents
    drawn = _drawn(autoencoder, latents, frames) if recons is None else recons
    before = latents[:-1]
    change = torch.cat([torch.zeros_like(before[:1]), before[1:] - before[:-1]])
    counts = torch.arange(1, len(frames))[:, None, None, None]
    predicted = {LINEAR: before + change}
    if lstm is not None:
        predicted[LSTM] = lstm.predict(before[None].to(lstm.centre))[0]
    known = {COPY: frames[:-1], MEAN: frames[:-1].cumsum(dim=0) / counts, LAST: drawn[:-1], CEILING: drawn[1:]}
    found = _compare(autoencoder, frames, 1, predicted, known, progress)
    found.latents.update({LAST: before.float().numpy(), CEILING: latents[1:].float().numpy()})
    return found


def mean_errors(forecast: Forecast, seen: int = 0) -> dict[str, float]:
    """The mean of each method's errors over frames that come after `seen` frames; {} where there is none."""
    start = max(0, seen - forecast.first)
    known = {name: errors[start:] for name, errors in forecast.mse.items()}
    return {name: float(errors.mean()) for name, errors in known.items() if len(errors)}


@dataclass(frozen=True)
class Influence:
    """Mean squared change of the image predicted after the last frame, when earlier ones go or change places."""

    dropped: np.ndarray  # (T,) without frame t
    swapped: np.ndarray  # (T - 1,) with frames t and t + 1 exchanged
    shuffled: float  # mean over random orders of all frames but the last


@torch.no_grad()
def influence(
    model: SequenceModel,
    latents: Tensor,
    width: int | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> Influence:
    """The change in the prediction of the next frame when frames are dropped, exchanged and shuffled.

    The model is in eval mode, with the head "next"; the latents (T, latent_dim) are of at least two frames seen.
    """
    count = len(latents)
    if count < 2:
        raise ValueError(f"latents must be of at least two frames, got {count}")
    latents = latents.to(model.centre)
    everything = list(range(count))
    dropped = [everything[:t] + everything[t + 1 :] for t in everything]
    swapped = [[*everything[:t], t + 1, t, *everything[t + 2 :]] for t in everything[:-1]]
    random = np.random.default_rng(0)
    shuffled = [[*random.permutation(count - 1).tolist(), count - 1] for _ in range(ORDERS)]
    batch, lengths = pad_sequences(latents[order] for order in (everything, *dropped, *swapped, *shuffled))
    predicted = model.forecast(batch, 1, lengths)[:, 0]
    images = decode_sequence(model.autoencoder, predicted, width, _counted(len(batch), progress)).clamp(0, 1)
    changes = (images[1:] - images[:1]).square().mean(dim=(1, 2, 3)).double().cpu().numpy()
    return Influence(changes[:count], changes[count : 2 * count - 1], float(changes[2 * count - 1 :].mean()))


def evaluate_forecasts(
    model: SequenceModel, sequences: Iterable[Tensor], seen: int = SEEN, steps: int = STEPS, split: str = "held out"
) -> dict:
    """Errors over many sequences, as plain JSON values: what a card states.

    Args:
        model: In eval mode, with the head "next".
        sequences: (T, 1, H, W) each; those of no more than `seen` frames are left out; ValueError if none is left.
        seen: Frames before the first that counts.
        steps: To forecast; fewer where a sequence ends sooner.
        split: What the sequences are.

    Returns:
        {"split", "count", "seen", "one_step": {method: mean MSE of the frames after the first `seen`}, "roll_out": {method:
        [mean MSE, step by step]}, "wins": {baseline: sequences in which the LSTM's one-step error is lower}, "horizon":
        {baseline: steps up to which the LSTM is better, with 95% confidence}}.
    """
    single: dict[str, list[float]] = {name: [] for name in METHODS}
    rolled: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    for frames in sequences:
        if len(frames) <= seen:
            continue
        latents = embed_sequence(model.autoencoder, frames)
        each, together = one_step(model, frames, latents), forecast_frames(model, frames, seen, steps, latents)
        for name in METHODS:
            single[name].append(float(each.mse[name][seen - 1 :].mean()))
            errors = np.full(steps, np.nan)
            errors[: len(together.mse[name])] = together.mse[name]
            rolled[name].append(errors)
    if not single[LSTM]:
        raise ValueError(f"a sequence must have more than {seen} frames to be measured, got none")
    tables = {name: np.stack(rows) for name, rows in rolled.items()}
    lasted = int((~np.isnan(tables[LSTM])).any(axis=0).sum())
    return {
        "split": split,
        "count": len(single[LSTM]),
        "seen": seen,
        "one_step": {name: float(np.mean(values)) for name, values in single.items()},
        "roll_out": {name: np.nanmean(table[:, :lasted], axis=0).tolist() for name, table in tables.items()},
        "wins": {name: int(np.sum(np.array(single[LSTM]) < single[name])) for name in BASELINES},
        "horizon": {name: _horizon(tables[LSTM] - tables[name]) for name in BASELINES},
    }


def _horizon(differences: np.ndarray) -> int:
    """Steps, from the first, up to which the mean of the columns of (sequences, steps) is below 0 in 97.5% of bootstraps."""
    random = np.random.default_rng(0)
    for step, column in enumerate(differences.T):
        known = column[~np.isnan(column)]
        if not len(known):
            return step
        means = random.choice(known, (2000, len(known))).mean(axis=1)
        if np.percentile(means, 97.5) >= 0:
            return step
    return differences.shape[1]


def _counted(total: int, progress: Callable[[float], object]) -> Callable[[int], None]:
    """Counts what is done and tells progress the share of the total."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done / total)

    return count


def _parts(model: SequenceModel | TransformerAutoencoder) -> tuple[TransformerAutoencoder, SequenceModel | None]:
    return (model.autoencoder, model) if isinstance(model, SequenceModel) else (model, None)


def _drawn(autoencoder: TransformerAutoencoder, latents: Tensor, frames: Tensor) -> Tensor:
    return decode_sequence(autoencoder, latents, frames.shape[-1])


def _compare(
    autoencoder: TransformerAutoencoder,
    frames: Tensor,
    first: int,
    latents: dict[str, Tensor],
    known: dict[str, Tensor],
    progress: Callable[[float], object],
) -> Forecast:
    """Decode what is latent, clip all, and measure as far as there are true frames; known: images that are there already."""
    decoded = _counted(sum(map(len, latents.values())), progress)
    drawn = {name: decode_sequence(autoencoder, some, frames.shape[-1], decoded) for name, some in latents.items()}
    images = {**known, **drawn}
    found = {name: images[name][:, 0].clamp(0, 1).float().cpu().numpy() for name in METHODS if name in images}
    for name, predictions in found.items():
        if not np.isfinite(predictions).all():
            raise ValueError(
                f"predictions must be finite numbers, and those of {name!r} are not; choose another checkpoint"
            )
    targets = frames[first:, 0].cpu().numpy().astype(np.float64)
    mse = {}
    for name, predictions in found.items():
        compared = min(len(predictions), len(targets))
        mse[name] = ((predictions[:compared] - targets[:compared]) ** 2).mean(axis=(1, 2))
    return Forecast(first, found, {name: some.float().cpu().numpy() for name, some in latents.items()}, mse)
