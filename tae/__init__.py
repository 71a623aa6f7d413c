"""Transformer autoencoder for grayscale images, and the tools to see and test its attention."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tae.data.prepare import prepare
    from tae.model.autoencoder import TransformerAutoencoder, create_autoencoder
    from tae.model.config import PRESETS, ModelConfig
    from tae.plots.export.aliases import PRESET_CONFIGS, visualize_attention_map
    from tae.store.checkpoint import Card, CheckpointError, list_checkpoints, load_checkpoint, save_checkpoint
    from tae.web.notebook import show  # not tae.show: the module would stand where the function belongs

__version__ = "1.0.0"

__all__ = [
    "PRESETS",
    "PRESET_CONFIGS",
    "Card",
    "CheckpointError",
    "ModelConfig",
    "TransformerAutoencoder",
    "create_autoencoder",
    "list_checkpoints",
    "load_checkpoint",
    "prepare",
    "save_checkpoint",
    "show",
    "visualize_attention_map",
]

_HOMES = {
    "PRESETS": "model.config",
    "ModelConfig": "model.config",
    "TransformerAutoencoder": "model.autoencoder",
    "create_autoencoder": "model.autoencoder",
    "PRESET_CONFIGS": "plots.export.aliases",
    "prepare": "data.prepare",
    "show": "web.notebook",
    "visualize_attention_map": "plots.export.aliases",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: PyTorch takes seconds, and not every user needs it."""
    if name not in __all__:
        raise AttributeError(f"module 'tae' has no attribute {name!r}")
    return getattr(import_module(f"tae.{_HOMES.get(name, 'store.checkpoint')}"), name)


def __dir__() -> list[str]:
    return __all__
