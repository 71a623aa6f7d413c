"""Sentences that a reader must know before believing a map: for the report, the explorer and the notebook."""

from collections.abc import Sequence

import numpy as np

from tae.analysis import facts
from tae.analysis.attention import is_practically_uniform, sinks
from tae.analysis.numbers import percent
from tae.model.config import ModelConfig
from tae.store.card import Card
from tae.web.explorer.payload import Note
from tae.web.report.request import ReportMap

_OF_ORIGIN = {
    "untrained": Note(f"{facts.UNTRAINED}. Nothing shown here was learnt.", "error"),
    "unknown": Note(f"{facts.WARNINGS['unknown']}, so that what it learnt from, and how well, is not said.", "warning"),
}
UNKNOWN = Note(
    "Whether this model was trained is not known here: it was given without its card. Give what load_checkpoint returned."
)
NOT_EXPLANATION = Note(
    "The maps say where weight was placed. They do not say why, nor what it was good for: layers can undo each other, "
    "values can be near zero, and other weights can give the same output. What a patch or a head is worth shows only "
    "when it is ablated and the reconstruction is measured."
)
ONE_TOKEN = Note(f"{facts.ONE_TOKEN}: there is nothing to see, so no heatmap is shown.", "warning")


def of_origin(card: Card) -> list[Note]:
    """What is to be said of where a model's weights come from."""
    return [_OF_ORIGIN[card.origin]] if card.origin in _OF_ORIGIN else []


def about_map(
    weights: np.ndarray, view: ReportMap, config: ModelConfig, grid: tuple[int, int], hidden_mass: float
) -> list[Note]:
    """Notes on one map (N, N), the one that `view` chooses.

    `hidden_mass` is the share of all weight that the choice dropped.
    """
    choice, num_tokens = view.choice, len(weights)
    title = choice.title(config)
    strong, plain = [], []  # what makes the map look other than it is; what to know of it
    if choice.head == "spread":
        plain.append(f"{title}: a standard deviation. It shows where the heads differ, and is no weight.")
    else:
        if is_practically_uniform(weights):
            strong.append(f"{title}: {facts.PRACTICALLY_UNIFORM}.")
        tokens, mass = sinks(weights)
        if len(tokens):
            strong.append(f"{title}: {_sinks(tokens.tolist(), mass, grid)}")
    if choice.discard:
        strong.append(f"{title}: what was dropped is {percent(hidden_mass)} of all weight.")
    if view.range == "own":
        strong.append(
            "Colours end at the largest weight of this map alone: a faint pattern looks strong, and maps cannot be "
            "compared by their colours."
        )
    if num_tokens > config.head_dim:
        plain.append(
            f"N {num_tokens} > head_dim {config.head_dim}: attention weights are not determined by what a layer "
            f"computes, {facts.OTHER_WEIGHTS}."
        )
    if choice.weighting == "values":
        plain.append(
            "Weights are multiplied by the length of the value vector that each moves (Kobayashi 2020), and rows made to "
            "sum to 1 again."
        )
    if choice.head in ("max", "min"):
        plain.append(f"{title}: rows were made to sum to 1 again, so these are no head's own weights.")
    if choice.layer == "rollout":
        plain.append(
            "Rollout (Abnar & Zuidema 2020) chains the layers as if half of each one's flow went through its residual "
            "connection; it knows nothing of values and MLPs."
            + (f" {facts.ROLLOUT_OF_MIN}" if choice.head == "min" else "")
        )
    return [*(Note(text, "warning") for text in strong), *map(Note, plain)]


def about_image(fit_notes: Sequence[str], worse_than: float | None) -> list[Note]:
    """Notes on the image itself: what was done to its size, and how it is reconstructed.

    `worse_than` is the share in percent of test images that are reconstructed better; None where the card has no
    figures.
    """
    notes = []
    if fit_notes:
        fitted = "; ".join(fit_notes)
        notes.append(Note(f"The model did not see the image as it came: {fitted}. All maps belong to what it saw."))
    if worse_than is not None and worse_than >= 95:
        share = "all" if worse_than > 99.5 else f"{worse_than:.0f}%"
        unlike = (
            f"Reconstructed worse than {share} of the checkpoint's test images: this image is unlike what the model "
            "was trained on, and its maps are those of a model that fails on it."
        )
        notes.append(Note(unlike, "warning"))
    return notes


def _sinks(tokens: Sequence[int], mass: float, grid: tuple[int, int]) -> str:
    places = ", ".join("row {} column {}".format(*divmod(token, grid[1])) for token in tokens[:8])
    more = f" and {len(tokens) - 8} more" if len(tokens) > 8 else ""
    sinks_take, they_receive = ("sinks take", "They receive") if len(tokens) > 1 else ("sink takes", "It receives")
    return (
        f"{len(tokens)} attention {sinks_take} {percent(mass)} of all weight, {places}{more}. {they_receive} "
        f"{facts.IS_SINK}; such patches often draw weight whatever they show."
    )
