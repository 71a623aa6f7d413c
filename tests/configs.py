"""Small models of every shape that tests ask about."""

from dataclasses import replace

from tae.model.config import ModelConfig

SHAPES: dict[str, dict] = {
    "square": {},
    "odd size": {"input_size": (19, 37)},
    "one token": {"patch_size": None},
    "any width": {"input_size": (16, None), "max_width": 64},
    "explicit attention": {"use_flash_attention": False},
}
"""Fields that each changes."""
SQUARE = ModelConfig(input_size=(32, 32), patch_size=8, latent_dim=16, num_heads=2, encoder_layers=2, decoder_layers=2)
CONFIGS = {name: replace(SQUARE, **fields) for name, fields in SHAPES.items()}
ANY_WIDTH = CONFIGS["any width"]
