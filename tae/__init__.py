"""Transformer autoencoder for grayscale images, and the tools to see and test its attention."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tae.checkpoint import Card, CheckpointError, list_checkpoints, load_checkpoint, save_checkpoint
    from tae.config import PRESETS, ModelConfig
    from tae.model import TransformerAutoencoder, create_autoencoder
    from tae.notebook import show  # not tae.show: the module would stand where the function belongs

__all__ = [
    "PRESETS",
    "Card",
    "CheckpointError",
    "ModelConfig",
    "TransformerAutoencoder",
    "create_autoencoder",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
    "show",
]

_HOMES = {
    "PRESETS": "config",
    "ModelConfig": "config",
    "TransformerAutoencoder": "model",
    "create_autoencoder": "model",
    "show": "notebook",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: PyTorch takes seconds, and not every user needs it."""
    if name not in __all__:
        raise AttributeError(f"module 'tae' has no attribute {name!r}")
    return getattr(import_module(f"tae.{_HOMES.get(name, 'checkpoint')}"), name)


def __dir__() -> list[str]:
    return __all__
