"""A number or a class from a sequence: predictions after each frame, baselines beside them, and whether they are beaten.

A prediction after a frame is made from the last frames up to it, as many as the model's window, which is what it learnt from. A
target that is the same for a whole sequence is predicted by the mean over all whole windows; one that changes, at each frame.

The baselines: the mean of the training targets (for classes, the most frequent one); a linear model on the mean latent; the same
on the mean of the table's other columns, without any image; an LSTM that was trained as this one, but each sequence with
another's target. Where the target changes, linear models read the frame's own latent and columns. Linear models are ridge
regressions, their penalty chosen by leaving out whole training sequences; of classes, onto 0 and 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tae.analysis.numbers import percent
from tae.sequence.labelled import Labelled
from tae.sequence.model import SequenceModel, pad_sequences
from tae.sequence.table import Column

LSTM = "LSTM"
MEAN = "mean of the training targets"
LATENT = "linear model on the mean latent"
COLUMNS = "linear model on the table's columns"
SHUFFLED = "LSTM trained on shuffled targets"
BASELINES = (MEAN, LATENT, COLUMNS, SHUFFLED)
MIN_SEQUENCES = 6
"""Where there are fewer, all can be better by chance in more than one case of forty."""
FOLDS = 5
MAX_ROWS = 20_000  # frames that a linear baseline is fitted on
WINDOWS_AT_ONCE = 256
MAX_TOLD_CLASSES = 12
CLASS_KEYS = ("by_class", "confusion")
Predictions = dict[str, np.ndarray]


@torch.no_grad()
def predict_each(model: SequenceModel, latents: Tensor, inputs: Tensor | None = None) -> np.ndarray:
    """The model's answer after each frame: (T, 1) in the table's unit, or (T, classes) probabilities, float64.

    Args:
        model: In eval mode, with a target.
        latents: (T, latent_dim).
        inputs: (T, num_inputs), in the table's units; None: the model takes none.
    """
    assert model.config.target is not None
    inputs = latents.new_empty(len(latents), 0) if inputs is None else inputs
    window, device = model.config.target.window, model.centre.device
    latents, inputs = latents.to(device), inputs.to(device)
    answers = [model.predict(latents[None, :window], None, inputs[None, :window])[0]]
    ends = range(window + 1, len(latents) + 1)
    for start in range(0, len(ends), WINDOWS_AT_ONCE):
        some = ends[start : start + WINDOWS_AT_ONCE]
        seen, told = (torch.stack([values[end - window : end] for end in some]) for values in (latents, inputs))
        answers.append(model.predict(seen, None, told)[:, -1])
    found = torch.cat(answers)
    if model.config.target.classes:
        found = found.softmax(dim=-1)
    return found.double().cpu().numpy()


def baselines_each(model: SequenceModel, latents: Tensor, columns: Tensor) -> Predictions:
    """What needs no LSTM says after each frame, as `predict_each` has it: {name: (T, outputs)}.

    Args:
        model: With a target, its baselines fitted.
        latents: (T, latent_dim), of the autoencoder that they were fitted on.
        columns: (T, num_columns), NaN where there is no value; their baseline is left out where there are none.
    """
    assert model.config.target is not None
    per_frame = model.config.target.is_per_frame
    weights = {LATENT: model.linear_latent, COLUMNS: model.linear_columns}
    features = {LATENT: latents.double().numpy(), COLUMNS: _filled(columns, model.column_means)}
    found = {MEAN: np.tile(model.training_mean.double().cpu().numpy(), (len(latents), 1))}
    for name, values in features.items():
        if not values.shape[1]:
            continue
        if not per_frame:
            values = np.cumsum(values, axis=0) / np.arange(1, len(values) + 1)[:, None]
        weight = weights[name].double().cpu().numpy()
        found[name] = values @ weight[:, :-1].T + weight[:, -1]
    return found


def settled(model: SequenceModel, each: np.ndarray, is_lstm: bool = True) -> np.ndarray:
    """Answers after each frame (T, outputs) -> those that are measured: as they are (T, outputs), or one of the whole
    sequence (1, outputs)."""
    assert model.config.target is not None
    if model.config.target.is_per_frame:
        return each
    first = min(model.config.target.window, len(each)) - 1
    return each[first:].mean(axis=0, keepdims=True) if is_lstm else each[-1:]


def fit_baselines(model: SequenceModel, train: Sequence[Labelled]) -> None:
    """Fit what needs no LSTM on the training sequences, and keep it in the model."""
    target = model.config.target
    assert target is not None
    columns = torch.cat([one.columns for one in train]).double()
    means = columns.nanmean(dim=0).nan_to_num(0.0)
    model.column_means.copy_(means)
    truths, latents, others, groups = [], [], [], []
    for number, one in enumerate(train):
        known = ~one.target.isnan()
        parts = one.latents.double().numpy(), _filled(one.columns, means)
        if target.is_per_frame:
            parts = tuple(values[known.numpy()] for values in parts)
        else:
            parts = tuple(values.mean(axis=0, keepdims=True) for values in parts)
        truths.append(one.target[known].double().numpy()[: len(parts[0])])
        latents.append(parts[0])
        others.append(parts[1])
        groups.append(np.full(len(parts[0]), number))
    truth = np.concatenate(truths)
    if target.classes:
        values = np.eye(len(target.classes))[truth.astype(int)]
    else:
        values = truth[:, None]
        model.target_scale.copy_(torch.tensor([truth.mean(), truth.std() or 1.0]))
    model.training_mean.copy_(torch.from_numpy(values.mean(axis=0)))
    chosen = np.random.default_rng(0).permutation(len(values))[:MAX_ROWS]
    of_sequence = np.concatenate(groups)[chosen]
    for kept, features in ((model.linear_latent, latents), (model.linear_columns, others)):
        if kept.shape[1] > 1:
            kept.copy_(torch.from_numpy(_ridge(np.concatenate(features)[chosen], values[chosen], of_sequence)))
    if target.inputs:
        inputs = torch.cat([one.inputs for one in train]).double()
        spread = inputs.std(dim=0, correction=0)
        model.input_scale.copy_(torch.stack([inputs.mean(dim=0), torch.where(spread > 0, spread, 1.0)]))


def _ridge(features: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n, d), (n, outputs) and each row's sequence (n,) -> (outputs, d + 1), the intercept last."""
    from sklearn.linear_model import RidgeCV  # a second, which others need not wait
    from sklearn.model_selection import GroupKFold

    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)  # what never varies says nothing
    features = (features - mean) / spread
    count, folds = len(np.unique(groups)), None  # of one row each, each is left out in turn
    if 1 < count < len(groups):  # a frame's neighbours tell of it
        folds = [*GroupKFold(min(FOLDS, count)).split(features, groups=groups)]
    fitted = RidgeCV(alphas=np.logspace(-3, 5, 17), cv=folds, scoring="neg_mean_squared_error").fit(features, targets)
    weight = np.asarray(fitted.coef_).reshape(targets.shape[1], -1) / spread
    intercept = np.asarray(fitted.intercept_).reshape(-1) - weight @ mean
    return np.concatenate([weight, intercept[:, None]], axis=1)


def _filled(columns: Tensor, means: Tensor) -> np.ndarray:
    """(T, columns) float64 with the training's mean where there is no value."""
    columns = columns.double()
    return torch.where(columns.isnan(), means.double().cpu(), columns).numpy()


def score(predicted: np.ndarray, truth: np.ndarray, classes: Sequence[str] = ()) -> dict[str, Any]:
    """How far predictions are from the truth, as plain JSON values.

    Args:
        predicted: (n, 1) in the table's unit, or (n, classes), of which the largest is the answer.
        truth: (n,) in the same unit, or class numbers.

    Returns:
        {"mae", "r2"}, mean absolute error in the unit, and the share of the variance that is explained, None where all truths
        are the same; or {"accuracy", "by_class": {class: share that is right, None where there is none}, "confusion": rows of the
        true class, columns of the answer}.
    """
    if not classes:
        errors, around = predicted[:, 0] - truth, truth - truth.mean()
        variance = float(around @ around)
        r2 = 1 - float(errors @ errors) / variance if variance > 0 else None
        return {"mae": float(np.abs(errors).mean()), "r2": r2}
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (truth.astype(int), predicted.argmax(axis=1)), 1)
    right, counts = np.diag(confusion), confusion.sum(axis=1)
    by_class = {
        name: float(right[place] / counts[place]) if counts[place] else None for place, name in enumerate(classes)
    }
    accuracy = float(right.sum() / counts.sum())
    return {"accuracy": accuracy, "by_class": by_class, "confusion": confusion.tolist()}


def costs(predicted: np.ndarray, truth: np.ndarray, is_class: bool) -> np.ndarray:
    """(n,) of each prediction: its absolute error, or 1 where the class is wrong."""
    return (predicted.argmax(axis=1) != truth).astype(float) if is_class else np.abs(predicted[:, 0] - truth)


def evaluate_target(
    model: SequenceModel, groups: Mapping[str, Sequence[tuple[Labelled, Tensor]]], shuffled: SequenceModel | None
) -> dict[str, Any]:
    """Figures of groups of sequences that were not trained on, as plain JSON values: what a card states.

    Args:
        model: In eval mode, its baselines fitted.
        groups: Sequences, each with the latents that the model reads: those of its own encoder.
        shuffled: The LSTM that was trained on shuffled targets.

    Returns:
        {"target", "classes", "is_per_frame", "groups": [{"group", "sequences", "predictions", "methods": {method: as `score`, but
        for what follows}, "by_class" and "confusion" of the LSTM, "better_than" and "worse_than": {baseline: whether its cost is
        higher, or lower, with 95% confidence over the sequences}}]}.
    """
    target = model.config.target
    assert target is not None
    told: list[dict[str, Any]] = []
    for name, sequences in groups.items():
        if not sequences:
            continue
        predicted: dict[str, list[np.ndarray]] = {}
        truths: list[np.ndarray] = []
        for one, latents in sequences:
            each = {LSTM: predict_each(model, latents, one.inputs), **baselines_each(model, one.latents, one.columns)}
            if shuffled is not None:
                each[SHUFFLED] = predict_each(shuffled, one.latents, one.inputs)
            truth = one.target.double().numpy() if target.is_per_frame else one.target[:1].double().numpy()
            known = ~np.isnan(truth)
            truths.append(truth[known])
            for method, answers in each.items():
                predicted.setdefault(method, []).append(settled(model, answers, method in (LSTM, SHUFFLED))[known])
        truth = np.concatenate(truths)
        by_sequence = {
            method: np.array(
                [costs(some, right, bool(target.classes)).mean() for some, right in zip(parts, truths, strict=True)]
            )
            for method, parts in predicted.items()
        }
        there = [name for name in BASELINES if name in by_sequence]
        methods = {method: score(np.concatenate(some), truth, target.classes) for method, some in predicted.items()}
        of_classes = {key: methods[LSTM][key] for key in CLASS_KEYS if target.classes}
        told.append(
            {
                "group": name,
                "sequences": len(sequences),
                "predictions": len(truth),
                "methods": {
                    method: {key: value for key, value in found.items() if key not in CLASS_KEYS}
                    for method, found in methods.items()
                },
                **of_classes,
                "better_than": {name: is_lower(by_sequence[LSTM] - by_sequence[name]) for name in there},
                "worse_than": {name: is_lower(by_sequence[name] - by_sequence[LSTM]) for name in there},
            }
        )
    return {
        "target": target.header,
        "classes": [*target.classes],
        "is_per_frame": target.is_per_frame,
        "count": sum(group["sequences"] for group in told),
        "groups": told,
    }


def is_lower(differences: np.ndarray) -> bool:
    """Whether the mean of differences (n,) is below 0 in 97.5% of bootstraps; never of fewer than `MIN_SEQUENCES`."""
    if len(differences) < MIN_SEQUENCES:
        return False
    means = np.random.default_rng(0).choice(differences, (2000, len(differences))).mean(axis=1)
    return bool(np.percentile(means, 97.5) < 0)


def sentences(figures: Mapping[str, Any]) -> list[str]:
    """The figures of `evaluate_target` in words: for each group, how good the LSTM is, and which baselines it beats."""
    unit = Column(figures["target"], ()).unit
    told = []
    for group in figures["groups"]:
        words = {method: in_words(score, unit) for method, score in group["methods"].items()}
        others = "; ".join(f"{name} {words[name]}" for name in BASELINES if name in words)
        told.append(
            f"{group['group']}, {group['sequences']} sequences: {LSTM} {words[LSTM]}, {standing(group)} ({others})"
        )
        by_class = group.get("by_class", {})
        if by_class:
            shares = ", ".join(
                f"{name} {'none there' if share is None else f'{percent(share)}'}" for name, share in by_class.items()
            )
            told.append(f"{group['group']}, right of each class: {shares}")
            if len(by_class) <= MAX_TOLD_CLASSES:
                lines = (
                    f"{name} as {', '.join(f'{other} {count}' for other, count in zip(by_class, row, strict=True) if count)}"
                    for name, row in zip(by_class, group["confusion"], strict=True)
                    if any(row)
                )
                told.append(f"{group['group']}, answered: {'; '.join(lines)}")
    return told


def standing(group: Mapping[str, Any]) -> str:
    """Which baselines the LSTM beats in a group of `evaluate_target`."""
    unsure = [name for name, is_better in group["better_than"].items() if not is_better]
    told = []
    if "worse_than" in group:
        worse = [name for name in unsure if group["worse_than"].get(name)]
        unsure = [name for name in unsure if name not in worse]
        told += [f"worse than {', '.join(worse)}"] * bool(worse)
        told += [f"no different from {', '.join(unsure)}"] * bool(unsure)
    elif unsure:  # of an older card, which tells nothing else
        told = [f"no surer than chance to be better than {', '.join(unsure)}"]
    return "; ".join(told) or "better than every baseline"


def in_words(score: Mapping[str, Any], unit: str) -> str:
    """Such as "MAE 3.21 mPa s, R2 0.81", or "82% right"."""
    if "accuracy" in score:
        return f"{percent(score['accuracy'])} right"
    r2 = "" if score["r2"] is None else f", R2 {score['r2']:.2f}"
    return f"MAE {score['mae']:.3g}{f' {unit}' if unit else ''}{r2}"


def masked_loss(model: SequenceModel, answers: Tensor, truth: Tensor) -> Tensor:
    """Mean over the frames with a target: squared error in units of its spread, or cross entropy.

    Args:
        answers: (B, T, outputs), as `SequenceModel.predict` gives them.
        truth: (B, T), NaN where there is no target.
    """
    known = ~truth.isnan()
    if not known.any():  # clips between two values
        return 0 * answers.sum()
    answers, truth = answers[known], truth[known]
    if model.config.head == "classification":
        return torch.nn.functional.cross_entropy(answers, truth.long())
    return ((answers[:, 0] - truth) / model.target_scale[1]).square().mean()


def padded(sequences: Sequence[Tensor]) -> Tensor:
    """Targets (T,) of any lengths -> (B, longest T), NaN behind each."""
    values, lengths = pad_sequences(sequences)
    return values.masked_fill(torch.arange(values.shape[1]) >= lengths[:, None], torch.nan)
