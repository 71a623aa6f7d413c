"""Interventions as data: what is ablated or changed, in a text short enough for a link.

    encoder/0/3                  head 3 of the encoder's first layer is knocked out
    encoder/0/attention          all heads of that layer
    decoder/1/mlp                the MLP of the decoder's second layer
    encoder/0/temperature=0.5    its weights sharpened (below 1) or flattened (above 1)
    encoder/0/mask=17_18         no query reads tokens 17 and 18
    encoder/0/mask=17-40_52      no query reads tokens 17 to 40 and 52
    encoder/0/rows=4             query 4 (or all) places its weights as in another image
    encoder/0/tokens=4_5         tokens 4 and 5 enter the layer as another image's
    encoder/0/weights=uniform    its weights replaced by uniform ones, the identity, or its own on permuted keys

Several are joined by commas. A set of them has no order; where several meet in a layer, tokens come first, then
temperature, weights, rows and masks, then heads, then the MLP. What is no such intervention raises ValueError.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tae.model.config import MAX_TOKENS, PARTS, ModelConfig

WEIGHTS = ("uniform", "identity", "permuted")
BRANCHES = ("attention", "mlp")
EDITS = ("temperature", "mask", "rows", "tokens", "weights")
TEMPERATURES = (0.01, 100.0)
MAX_INTERVENTIONS = 1024  # in one text, which may come from a stranger's link
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
_RUN = re.compile(rf"({_NUMBER.pattern})(?:-({_NUMBER.pattern}))?", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True)
class Knockout:
    """A head, all heads of a layer, or its MLP, replaced by a baseline.

    A head is its share of what enters the output projection: the projection's bias belongs to no head and stays, also
    where all of them are knocked out. An MLP is all that it adds, its bias included.
    """

    part: str
    layer: int
    target: int | str  # a head's number, "attention" (all heads), or "mlp"

    def __post_init__(self) -> None:
        _check_place(self.part, self.layer)
        if self.target not in BRANCHES and not _is_count(self.target):
            raise ValueError(f"target must be a head's number, attention or mlp, got {_shown(self.target)}")

    @property
    def name(self) -> str:
        """ "encoder/0/3": for a head, that of its map."""
        return f"{self.part}/{self.layer}/{self.target}"

    @property
    def title(self) -> str:
        """In words, such as "Encoder, layer 0, head 3"."""
        words = {"attention": "attention", "mlp": "MLP"}.get(str(self.target), f"head {self.target}")
        return f"{self.part.capitalize()}, layer {self.layer}, {words}"

    @property
    def is_head(self) -> bool:
        """Whether a single head is meant, not a whole branch of the block."""
        return self.target not in BRANCHES


@dataclass(frozen=True)
class Edit:
    """A change of a layer's attention, or of the tokens that enter it."""

    part: str
    layer: int
    kind: str  # one of `EDITS`
    value: float | str | tuple[int, ...]
    """temperature: a number; mask, rows, tokens: token numbers, for rows () is all; weights: one of `WEIGHTS`."""

    def __post_init__(self) -> None:
        _check_place(self.part, self.layer)
        if self.kind not in EDITS:
            raise ValueError(f"kind must be one of {', '.join(EDITS)}, got {_shown(self.kind)}")
        value = self.value
        if self.kind == "temperature":
            low, high = TEMPERATURES
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"temperature must be a number from {low} to {high}, got {_shown(value)}")
            object.__setattr__(self, "value", round(float(value), 6))  # as many digits as its name keeps
        elif self.kind == "weights":
            if value not in WEIGHTS:
                raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {_shown(value)}")
        else:
            if not isinstance(value, (tuple, list)) or not all(_is_count(token) for token in value):
                raise ValueError(f"{self.kind} must be token numbers, got {_shown(value)}")
            if not value and self.kind != "rows":
                raise ValueError(f"{self.kind} must be at least one token number, got none")
            object.__setattr__(self, "value", tuple(sorted(set(value))))

    @property
    def name(self) -> str:
        """ "encoder/0/mask=17_18"."""
        value = self.value
        if self.kind == "temperature":
            text = f"{value:.6f}".rstrip("0").rstrip(".")
        elif isinstance(value, tuple):
            text = runs_to_text(value, "_") or "all"
        else:
            text = str(value)
        return f"{self.part}/{self.layer}/{self.kind}={text}"

    @property
    def title(self) -> str:
        """In words, such as "Encoder, layer 0, temperature 0.5"."""
        where = f"{self.part.capitalize()}, layer {self.layer}"
        value = self.value
        if not isinstance(value, tuple):
            return f"{where}, {f'{value} weights' if self.kind == 'weights' else f'temperature {value:g}'}"
        numbers = ", ".join(str(token) for token in value[:5]) + (f" and {len(value) - 5} more" if value[5:] else "")
        words = {"mask": "masked keys", "rows": "another image's rows", "tokens": "another image's tokens"}[self.kind]
        return f"{where}, {words} {numbers or 'of all queries'}"

    @property
    def tokens(self) -> list[int]:
        """The value of mask, rows and tokens."""
        assert isinstance(self.value, tuple)
        return list(self.value)

    @property
    def temperature(self) -> float:
        """The factor that scores are divided by; only where the edit is of that kind."""
        assert isinstance(self.value, float)
        return self.value

    @property
    def needs_donor(self) -> bool:
        """Whether another image's states are put in."""
        return self.kind in ("rows", "tokens")

    @property
    def changes_nothing(self) -> bool:
        """Whether the model computes the same with it as without."""
        return self.kind == "temperature" and self.value == 1


Intervention = Knockout | Edit


def to_text(interventions: Iterable[Intervention]) -> str:
    """One text for a set, the same whatever its order: names joined by commas, "" for none."""
    return ",".join(sorted(intervention.name for intervention in set(interventions)))


def from_text(text: str) -> tuple[Intervention, ...]:
    """The inverse of `to_text`, in the text's order."""
    names = text.split(",") if text else []
    if len(names) > MAX_INTERVENTIONS:
        raise ValueError(f"interventions must be at most {MAX_INTERVENTIONS}, got {len(names)}")
    return tuple(from_name(name) for name in names)


def from_name(name: str) -> Intervention:
    """The inverse of `name`."""
    parts = name.split("/")
    if len(parts) != 3 or not _NUMBER.fullmatch(parts[1]):
        raise ValueError(f"an intervention must be part/layer/what, such as encoder/0/3, got {_shown(name)}")
    part, layer, what = parts[0], int(parts[1]), parts[2]
    kind, equals, value = what.partition("=")
    if not equals:
        return Knockout(part, layer, int(what) if _NUMBER.fullmatch(what) else what)
    if kind == "temperature" and _DECIMAL.fullmatch(value):
        return Edit(part, layer, kind, float(value))
    if kind in ("mask", "rows", "tokens"):
        tokens = () if value == "all" else runs_from_text(value, "_")
        if tokens is not None:
            return Edit(part, layer, kind, tokens)
    return Edit(part, layer, kind, value)


def runs_to_text(tokens: Sequence[int], separator: str) -> str:
    """Token numbers, rising, each once, where three or more that follow each other are written as a run: "3", "17-40"."""
    runs: list[list[int]] = []
    for token in tokens:
        if runs and token == runs[-1][-1] + 1:
            runs[-1].append(token)
        else:
            runs.append([token])
    parts = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(token) for token in run] for run in runs]
    return separator.join(part for run in parts for part in run)


def runs_from_text(text: str, separator: str) -> tuple[int, ...] | None:
    """The inverse of `runs_to_text`, in any order; None for anything else, and beyond all tokens that a model can have."""
    tokens: set[int] = set()
    for part in text.split(separator):
        found = _RUN.fullmatch(part)
        if not found:
            return None
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= MAX_TOKENS:
            return None
        tokens.update(range(first, last + 1))
    return tuple(sorted(tokens))


def check(interventions: Sequence[Intervention], config: ModelConfig, num_tokens: int) -> None:
    """Raise ValueError if a model, for an image of so many tokens, has no such part, or an edit comes twice in a layer."""
    edits = [(one.part, one.layer, one.kind) for one in interventions if isinstance(one, Edit)]
    if twice := sorted({edit for edit in edits if edits.count(edit) > 1}):
        part, layer, kind = twice[0]
        raise ValueError(f"interventions must hold one {kind} at most in {part}/{layer}, got {edits.count(twice[0])}")
    for one in interventions:
        num_layers = config.num_layers(one.part)
        if one.layer >= num_layers:
            raise ValueError(f"layer must be from 0 to {num_layers - 1} in {one.name}, got {one.layer}")
        if isinstance(one, Knockout):
            if isinstance(one.target, int) and one.target >= config.num_heads:
                raise ValueError(f"head must be from 0 to {config.num_heads - 1} in {one.name}, got {one.target}")
        elif isinstance(one.value, tuple) and one.value and one.value[-1] >= num_tokens:
            raise ValueError(f"tokens must be from 0 to {num_tokens - 1} in {one.name[:80]}, got {one.value[-1]}")


def all_knockouts(config: ModelConfig, parts: Sequence[str] = PARTS) -> list[Knockout]:
    """Each head, each layer's attention and each MLP, layer by layer."""
    return [
        Knockout(part, layer, target)
        for part in parts
        for layer in range(config.num_layers(part))
        for target in (*range(config.num_heads), *BRANCHES)
    ]


def _check_place(part: str, layer: int) -> None:
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {_shown(part)}")
    if not _is_count(layer):
        raise ValueError(f"layer must be a whole number, 0 the first, got {_shown(layer)}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 100_000


def _shown(value: object) -> str:
    return repr(value)[:80]
