"""A run's config as JSON and as a command line, and back: exact inverses, for whichever trainer's config."""

import re
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object

TrackerName = Literal["csv", "wandb", "mlflow"]
"""Where figures may go besides a run's log; see `tae.training.run.tracker`."""


class RunConfig:
    """Base of the configs: frozen dataclasses, of which every field is a flag, and the first the positional argument."""

    COMMAND: ClassVar[str]
    """Module of the command."""
    BUDGET: ClassVar[tuple[str, ...]] = ("steps", "minutes")
    """Fields that prolong a run that is resumed."""
    FREE_TO_CHANGE: ClassVar[tuple[str, ...]] = ("resume", "overwrite", "log_every", "save_every_s", "name", "tracker")
    """Other fields that may differ in a resumed run: the weights do not depend on them, or are in its state already."""
    GROUPS: ClassVar[dict[str, str]] = {}
    """Headings of the help: {first field below it: heading}."""
    INSTEAD: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fields that stand in place of others, and exclude them."""
    BUILT_IN: ClassVar[tuple[str, ...]] = ("demo",)
    """Names of data that come with the package."""
    RENAMED: ClassVar[dict[str, str]] = {}
    """Names that older runs give a field: its name now."""
    NEW_RUN: ClassVar[str] = "start a new run"
    """Advice where another run was to be resumed."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict]
        data: Any
        steps: Any
        name: Any
        tracker: Any
        batch_size: Any
        resume: Any
        overwrite: Any
        threads: Any
        device: Any

    @property
    def learns_from(self) -> str:
        """The data, in words, which must stay the same from step to step."""
        raise NotImplementedError

    @property
    def out_path(self) -> Path:
        """Where the checkpoint goes."""
        raise NotImplementedError

    @property
    def of_task(self) -> dict[str, float]:
        """Defaults of fields whose None stands for something that depends on others."""
        return {}

    @property
    def budget(self) -> tuple[str, float]:
        """The one of `BUDGET` that counts, and how many: steps where nothing else is given."""
        given = [name for name in self.BUDGET if name != "steps" and getattr(self, name, None)]
        return (given[0], getattr(self, given[0])) if given else ("steps", self.steps)

    def steps_on(self, num_images: int | None) -> int:
        """Steps that are asked for, where the budget is not one of time.

        Args:
            num_images: Images to train on; None: composed without end, or nothing that is counted.

        Raises:
            ValueError: If they follow from the number of images, and there is none.
        """
        return self.steps

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can carry."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: str(value) if isinstance(value, Path) else [*value] if isinstance(value, tuple) else value
            for name, value in plain.items()
        }

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """The config that `to_dict` and JSON made plain.

        Raises:
            ValueError: If it is no dict, names an unknown field, or the config refuses a value.
        """
        hints = get_type_hints(cls)
        known = values if isinstance(values, dict) else {"": None}
        now = {cls.RENAMED.get(name, name): value for name, value in known.items()}
        if not now.keys() <= {field.name for field in fields(cls)}:
            raise ValueError(f"a training config must be a dict of the fields of {cls.__name__}")
        try:
            return cls(**{name: _typed(value, hints[name]) for name, value in now.items()})
        except TypeError as error:  # a text where a number belongs
            raise ValueError(f"a training config holds a value of the wrong type: {error}") from None

    def command_line(self) -> list[str]:
        """The arguments of the command that ask for this run; what stands at its default is left out."""
        first, *others = fields(self)
        words = [getattr(self, first.name)]
        if words == [first.default] and first.name == "data":
            words = []
        for field in others:
            value = getattr(self, field.name)
            if value == self.of_task.get(field.name, field.default):
                continue
            flag = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
                continue
            texts = [str(one) for one in (value if isinstance(value, tuple) else (value,))]
            # A text that begins with a dash would be taken for a flag.
            words += [f"{flag}={texts[0]}"] if texts[0].startswith("-") and len(texts) == 1 else [flag, *texts]
        return words

    def to_travel(self) -> dict[str, Any]:
        """As `to_dict`, for others to read: files and folders by name alone, and without what concerns one machine.

        What a field has by itself lies in the project, where others find it.
        """
        defaults = {field.name: field.default for field in fields(self)}
        told = {
            name: Path(value).name
            if isinstance(getattr(self, name), Path) and getattr(self, name) != defaults[name]
            else value
            for name, value in self.to_dict().items()
            if name not in ("resume", "overwrite", "cache")
        }
        if self.data not in self.BUILT_IN:
            kind = re.match("(wds:|hf:)?", self.data)[0]  # type: ignore[index]
            name = Path(self.data.removeprefix(kind)).name or self.data
            told["data"] = kind + (f"./{name}" if name in self.BUILT_IN and self.data not in self.BUILT_IN else name)
        return told

    def command_words(self, processes: int = 1) -> str:
        """The command as a card shows it, which travels."""
        words = self.from_dict(self.to_travel()).command_line()
        words = [f"'{word}'" if set(word) & set(" *?[{") else word for word in words]
        start = "python -m" if processes == 1 else f"torchrun --nproc_per_node={processes} -m"
        return " ".join([start, self.COMMAND, *words])

    def differences(self, before: "RunConfig") -> list[str]:
        """Changes that this run, resumed, may not make and does, a phrase each."""
        return [
            f"{field.name}: was {getattr(before, field.name)!r}, now {getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in (*self.FREE_TO_CHANGE, *self.BUDGET)
            and getattr(before, field.name) != getattr(self, field.name)
        ]

    def shortened(self, before: "RunConfig") -> list[str]:
        """A phrase where this run, resumed, would lessen its budget."""
        (kind, now), (kind_before, was) = self.budget, before.budget
        return [shortened(kind, was, now)] if kind == kind_before and now < was else []


def shortened(kind: str, was: float, now: float) -> str:
    """A phrase on a budget that is less than it was."""
    return f"{kind}: was {was:g}, now {now:g}, and a run can only be prolonged"


def refuse_both(instead: dict[str, tuple[str, ...]], is_given: Callable[[str], bool]) -> None:
    """Raise ValueError where a field is given beside one that it stands in place of; instead: as `RunConfig.INSTEAD`."""
    for name, others in instead.items():
        both = [other for other in others if is_given(other)] if is_given(name) else []
        if both:
            raise ValueError(f"{name} stands in place of {' and '.join(others)}, got {name} with {' and '.join(both)}")


@cache
def field_texts(config: type) -> dict[str, str]:
    """{field of a dataclass: the text below it in its source}, its bases' fields among them."""
    kinds = reversed(config.__mro__[:-1])
    return {
        one.arg_name: " ".join((one.description or "").split())
        for kind in kinds
        for one in parse_from_object(kind).params
    }


def _typed(value: Any, hint: Any) -> Any:
    """A value of JSON as a field of this type holds it."""
    if get_origin(hint) is tuple:
        return tuple(value)
    return Path(value) if value is not None and Path in (hint, *get_args(hint)) else value
