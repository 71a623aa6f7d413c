"""The images that come with the package, by the name that `--data` gives them, and those that a card speaks of."""

from tae.data.composed import BuiltIn
from tae.data.demo import DemoSource
from tae.data.drops import DropSource
from tae.model.config import ModelConfig

BUILT_IN: dict[str, type[BuiltIn]] = {"demo": DemoSource, "drops": DropSource}


def is_built_in(data: str) -> bool:
    """Whether a card that says this of its images speaks of those that come with the package."""
    return any(data == kind.data for kind in BUILT_IN.values())


def source_for(config: ModelConfig, data: str) -> BuiltIn:
    """Images for a model, of those that its card's `data` speaks of; for one that learnt from others, garments in squares
    and drops in frames of other shapes.
    """
    others = DemoSource if config.input_size[0] == config.input_size[1] else DropSource
    kind = next((kind for kind in BUILT_IN.values() if kind.data == data), others)
    return kind(config.input_size, config.max_width)
