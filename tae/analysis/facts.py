"""Thresholds and facts that pages, figures and reports share, each in one wording."""

from tae.analysis.numbers import percent
from tae.store.card import Origin
from tae.store.names import safe_name

UNIFORM_LIMIT = 1.5
"""A map whose largest weight stays under this many times the uniform weight is practically uniform; no colour range of
weights ends below it, so that such a map stays pale."""
SINK_THRESHOLD, SINK_SHARE = 5.0, 0.9
"""A key to which at least this share of the queries gives more than so many times the uniform weight is a sink."""

UNTRAINED = "UNTRAINED MODEL: random weights"
WARNINGS: dict[Origin, str] = {
    "trained": "",
    "untrained": UNTRAINED,
    "unknown": "ORIGIN UNKNOWN: its file records no training",
}
"""What is said of a model wherever it shows, by its card's origin."""
PRACTICALLY_UNIFORM = f"practically uniform, no weight reaches {UNIFORM_LIMIT} x uniform"
IS_SINK = f"more than {SINK_THRESHOLD:g} x uniform from at least {percent(SINK_SHARE)} of the patches"
OTHER_WEIGHTS = "other weights could give the same output (Brunner 2020)"
"""True where there are more tokens than dimensions in a head."""
ROLLOUT_OF_MIN = "Rows of the smallest weights were made to sum to 1 before that: not the published rollout."
ONE_TOKEN = (
    "This model has one token, the whole image. Each attention matrix is 1x1 and its only weight is exactly 1, whatever "
    "the image"
)
TWO_IMAGES = {
    "activation patching": "States of one image put into another's run (Vig 2020, Meng 2022): the number is the share of the way "
    "between both reconstructions. Control: a third image's.",
    "attribution patching": "Activation patching estimated from one gradient: it times the states' difference (Nanda 2023); of "
    "patches, attention is computed anew (AtP*, Kramár 2024). Control: what was measured.",
    "path patching": "What a part does through one later place alone, all between kept (Wang 2022, Goldowsky-Dill 2023). "
    "Control: what it does in all.",
    "relevance": "Attention weighted by the gradient of a region's ink, summed over layers as it is handed on (Chefer 2021). "
    "Control: what covering each patch does.",
    "share of the way": "How far a reconstruction went from one image's to another's, along the straight line: 0% not at all, "
    "100% as far. Sideways changes are not in it.",
}
"""What is measured of two images, each with its control and its source, as glossary and report define it."""


def marked(text: str, warning: str) -> str:
    """A caption with what is said of the model, where something is, before it."""
    return f"{warning} · {text}" if warning else text


def file_stem(title: str, warning: str) -> str:
    """How names of exported files begin; title may be a stranger's text."""
    return f"{'UNTRAINED_' if warning == UNTRAINED else ''}{safe_name(title)}"


def is_wide(shape: tuple[int, ...]) -> bool:
    """Whether images (height, width) lie below each other rather than side by side."""
    return shape[1] > 2 * shape[0]


def in_a_row(shape: tuple[int, ...], count: int, wide: int = 2) -> int:
    """How many of `count` images (height, width) lie side by side: all, `wide` of them, or one where they are very wide."""
    return count if not is_wide(shape) else min(count, wide) if shape[1] <= 5 * shape[0] else 1
