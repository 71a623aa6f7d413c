"""The model card: what a checkpoint tells about its model. Cards come from strangers, so every value is checked."""

import json
import math
import re
import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Literal

Origin = Literal["trained", "untrained", "unknown"]
"""Where a model's weights come from: a training, chance, or nothing is said."""

MAX_CARD_BYTES = 512 * 1024
TEXT_LIMITS = {"name": 80, "data": 500, "licence": 500, "notes": 4000}
COUNTS = ("seed", "steps", "batch_size", "images_seen", "count")
NUMBERS = ("seconds", "cpu_seconds", "psnr", "ssim", "mse", "foreground_mse", "r2")
GROUPS = ("by_width",)


@dataclass(frozen=True, kw_only=True)
class Card:
    """A checkpoint's account of its model: checked, copied, and its texts cleaned, when it is made.

    Raises ValueError if a value has the wrong type, is not finite, or all of it is larger than `MAX_CARD_BYTES`.
    """

    name: str  # display name, one line
    training: dict = field(default_factory=dict)
    """Where the weights come from: data, command, seed, steps, seconds, hardware, curve; of a converted file,
    converted; empty: not known."""
    metrics: dict = field(default_factory=dict)
    """Held-out figures, as `tae.analysis.evaluate.evaluate` makes them: psnr, ssim, mse, foreground_mse, r2, percentiles. Beside
    them, where somebody measured it, by_width: [{"group": its name, "psnr": mean in dB, "count": images,
    "unseen": whether training never shows such images}, ...]."""
    data: str = ""
    licence: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        for name, limit in TEXT_LIMITS.items():
            text = getattr(self, name)
            if not isinstance(text, str):
                raise ValueError(f"the card's {name} must be a text, got {type(text).__name__}")
            object.__setattr__(self, name, clean_text(text, limit))
        if not self.name:
            raise ValueError("the card's name must not be blank")
        for name in ("training", "metrics"):
            values = getattr(self, name)
            if not isinstance(values, dict):
                raise ValueError(f"the card's {name} must be a dict, got {type(values).__name__}")
            values = _plain_dict(values, name)
            for key, value in values.items():
                if not _is_as_expected(key, value):
                    raise ValueError(f"the card's {key} in {name} does not hold the numbers that belong there")
            object.__setattr__(self, name, values)
        size = len(json.dumps(asdict(self), ensure_ascii=False).encode())
        if size > MAX_CARD_BYTES:
            raise ValueError(f"the card must be at most {MAX_CARD_BYTES} bytes of JSON, got {size}")

    @property
    def command(self) -> str:
        """What trained it; one line where that repeats it. Older cards part whole legs, too, by words. "": not known."""
        told = str(self.training.get("command", ""))
        return re.sub(r"(--steps (\d+)\b[^(]*) \(to step \2\), then (?=[^(]* --resume$)", r"\1 && ", told)

    @property
    def origin(self) -> Origin:
        """Untrained only where the card says so, by 0 steps; unknown where it is silent, or the file was converted."""
        if self.training.get("steps") == 0:
            return "untrained"
        return "trained" if self.training and "converted" not in self.training else "unknown"


def clean_text(text: str, limit: int) -> str:
    """One line without control, bidirectional, zero-width and private characters; cut to `limit`, it ends in "…"."""
    kept = (c for c in text[: 10 * limit] if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    text = " ".join("".join(kept).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _plain(value: object, where: str, depth: int) -> object:
    """A copy in JSON's types, with texts cleaned."""
    if depth == 0:
        raise ValueError(f"the card's {where} is nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(value, 2000)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)  # numpy's float64 is a float too
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, (int, float)):
        raise ValueError(f"the card's {where} must hold finite numbers only")
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, depth - 1) for item in value]
    if isinstance(value, dict):
        return _plain_dict(value, where, depth - 1)
    raise ValueError(f"the card's {where} must be made of texts, numbers, lists and dicts, got {type(value).__name__}")


def _plain_dict(values: dict, where: str, depth: int = 6) -> dict:
    if not all(isinstance(key, str) for key in values):
        raise ValueError(f"the card's {where} must have texts as keys")
    return {clean_text(key, 80): _plain(value, where, depth) for key, value in values.items()}


def _is_as_expected(name: str, value: object) -> bool:
    """What pages and training calculate with must be numbers; anything else is only shown."""
    if name in COUNTS:
        return _is_number(value) and isinstance(value, int) and value >= 0
    if name in NUMBERS:
        return _is_number(value)
    if name == "curve":
        return isinstance(value, list) and all(
            isinstance(point, dict) and all(map(_is_number, point.values())) for point in value
        )
    if name in GROUPS:
        return isinstance(value, list) and all(map(_is_group, value))
    if name == "percentiles":
        return isinstance(value, dict) and all(
            isinstance(values, list) and values and all(map(_is_number, values)) for values in value.values()
        )
    return True


def _is_group(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("group"), str)
        and _is_number(value.get("psnr"))
        and isinstance(value.get("unseen"), bool)
        and _is_as_expected("count", value.get("count"))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
