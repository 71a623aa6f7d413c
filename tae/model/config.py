"""The shape of a model: `ModelConfig`, the presets, and the limits that keep a stranger's config harmless."""

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Annotated, get_args, get_type_hints

PRESET_NAMES = ("tiny", "small", "medium", "large", "xlarge")
PARTS = ("encoder", "decoder")
MAX_TOKENS = 16_384
POSITION_RANK = 16
"""Rank of the decoder's per-position start; see `tae.model.layers.LowRankStart`."""


@dataclass(frozen=True)
class Whole:
    """A rule for a field of a config, beside its type: `steps: Annotated[int, Whole(1, 1000)] = 100`."""

    low: int
    high: int

    def check(self, name: str, value: object) -> None:
        """Raise ValueError, which names the field, unless the value is such a number."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(f"{name} must be a whole number from {self.low} to {self.high}, got {_shown(value)}")


@dataclass(frozen=True)
class Number:
    """A rule for a field of a config, like `Whole`; NaN is in no range."""

    low: float
    high: float

    def check(self, name: str, value: object) -> None:
        """Raise ValueError, which names the field, unless the value is such a number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise ValueError(f"{name} must be a number from {self.low:g} to {self.high:g}, got {_shown(value)}")


Threads = Annotated[int | None, Whole(1, 1024)]
"""CPU threads; None: PyTorch's choice."""


@lru_cache(maxsize=64)
def _rules(kind: type) -> list[tuple[str, bool, Whole | Number]]:
    """(field, whether it may be None, rule) of a config's class."""
    return [
        (name, type(None) in get_args(get_args(hint)[0]), rule)
        for name, hint in get_type_hints(kind, include_extras=True).items()
        for rule in getattr(hint, "__metadata__", ())
        if isinstance(rule, (Whole, Number))
    ]


def check_fields(config: object) -> None:
    """Hold a config's fields against the rules beside their types.

    Raises ValueError if a value has the wrong type or leaves its range.
    """
    for name, is_optional, rule in _rules(type(config)):
        value = getattr(config, name)
        if value is not None or not is_optional:
            rule.check(name, value)


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"  # repr of a huge int raises
    return repr(value)[:80]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of one transformer autoencoder; checked when it is made.

    Raises ValueError if a value has the wrong type, leaves its range, or does not fit the others.
    """

    input_size: tuple[int, int | None] = (201, 201)
    """(height, width) in pixels; width None: any width up to `max_width`."""
    patch_size: Annotated[int | None, Whole(2, 512)] = 16
    """Side of a patch in pixels; None: the whole image is one token, as the diagram draws it."""
    latent_dim: Annotated[int, Whole(4, 8192)] = 128
    """Numbers in the latent, and width of every token."""
    num_heads: Annotated[int, Whole(1, 256)] = 4
    encoder_layers: Annotated[int, Whole(1, 128)] = 3
    decoder_layers: Annotated[int, Whole(1, 128)] = 3
    mlp_ratio: Annotated[float, Number(0.25, 16)] = 4
    """Hidden width of a block's MLP, as a multiple of `latent_dim`."""
    dropout: Annotated[float, Number(0, 0.95)] = 0.0
    norm_eps: Annotated[float, Number(1e-12, 0.01)] = 1e-5
    """What every LayerNorm adds to the variance; the original of the diagram has 1e-6."""
    max_width: Annotated[int, Whole(1, 16_384)] = 1280
    """Widest image in pixels when the width is None: sizes the position tables."""
    use_flash_attention: bool = True
    """Fused `F.scaled_dot_product_attention`; False: explicit softmax."""
    use_gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    preset: str | None = None
    """A label only: which preset this came from."""

    def __post_init__(self) -> None:
        size = self.input_size
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise ValueError(f"input_size must be (height, width), got {_shown(size)}")
        object.__setattr__(self, "input_size", tuple(size))  # JSON has no tuples
        height, width = size
        Whole(1, 8192).check("input_size height", height)
        if width is not None:
            Whole(1, 16_384).check("input_size width", width)
        check_fields(self)
        for name in ("use_flash_attention", "use_gradient_checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {_shown(getattr(self, name))}")
        if self.preset is not None and self.preset not in PRESET_NAMES:
            raise ValueError(f"preset must be one of {', '.join(PRESET_NAMES)} or None, got {_shown(self.preset)}")
        if self.latent_dim % self.num_heads:
            raise ValueError(
                "latent_dim must be a multiple of num_heads, got "
                f"latent_dim={self.latent_dim}, num_heads={self.num_heads}"
            )
        if self.latent_dim % 4:
            raise ValueError(f"latent_dim must be a multiple of 4 (two-dimensional sinusoids), got {self.latent_dim}")
        rows, columns = self.grid
        if rows * columns > MAX_TOKENS:
            raise ValueError(
                f"input_size and patch_size must give at most {MAX_TOKENS} tokens, got {rows * columns}; "
                "use larger patches"
            )

    @property
    def tile_size(self) -> tuple[int, int]:
        """(height, width) of the pixels that become one token: a patch, or the whole image."""
        if self.patch_size is not None:
            return self.patch_size, self.patch_size
        height, width = self.input_size
        return height, width or self.max_width

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of tokens; for any width, those of the widest image."""
        return self.grid_for(self.input_size[1] or self.max_width)

    @property
    def num_tokens(self) -> int:
        """N; for any width, that of the widest image."""
        rows, columns = self.grid
        return rows * columns

    @property
    def overlap(self) -> int:
        """Pixels by which a decoded tile reaches into its neighbours, so that no seam shows between patches."""
        return 0 if self.patch_size is None else self.patch_size // 4

    @property
    def position_rank(self) -> int:
        """Rank of the decoder's per-position start; 0 for one token, where the linear expansion says it all."""
        return 0 if self.patch_size is None else POSITION_RANK

    @property
    def head_dim(self) -> int:
        """Numbers of a query or a key in one head."""
        return self.latent_dim // self.num_heads

    def num_layers(self, part: str) -> int:
        """L of a part, one of `PARTS`."""
        return self.encoder_layers if part == "encoder" else self.decoder_layers

    @property
    def is_one_token(self) -> bool:
        """Whether the whole image is one token, so that every attention weight is 1."""
        return self.num_tokens == 1

    def grid_for(self, width: int) -> tuple[int, int]:
        """(rows, columns) of tokens for an image of `width` pixels."""
        tile_height, tile_width = self.tile_size
        return math.ceil(self.input_size[0] / tile_height), math.ceil(width / tile_width)


PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(preset="tiny"),
    "small": ModelConfig(preset="small", latent_dim=256, num_heads=8, encoder_layers=4, decoder_layers=4),
    "medium": ModelConfig(preset="medium", latent_dim=512, num_heads=8, encoder_layers=6, decoder_layers=6),
    "large": ModelConfig(preset="large", latent_dim=1024, num_heads=16, encoder_layers=8, decoder_layers=8),
    "xlarge": ModelConfig(preset="xlarge", latent_dim=2048, num_heads=16, encoder_layers=12, decoder_layers=12),
}


def config_from_dict(values: object) -> ModelConfig:
    """The config that `asdict` and JSON made plain; the inverse of `config_to_dict`.

    Raises ValueError if it is no dict, names an unknown field, or `ModelConfig` refuses a value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"a model config must be a dict of fields, got {type(values).__name__}")
    known = [field.name for field in fields(ModelConfig)]
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(f"unknown model config fields: {', '.join(unknown)[:200]}; known: {', '.join(known)}")
    return ModelConfig(**values)


def config_to_dict(config: ModelConfig) -> dict:
    """Plain values that JSON can carry."""
    return asdict(config)


def preset_config(preset: str, **overrides: object) -> ModelConfig:
    """A preset with some fields replaced.

    Raises ValueError if the preset or a field is unknown, or a value is refused.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose from: {', '.join(PRESETS)}")
    return config_from_dict({**asdict(PRESETS[preset]), **overrides})


def size_in_words(input_size: tuple[int, int | None]) -> str:
    """Width x height, as the diagram writes it: (152, 1280) is "1280x152", (152, None) is "Xx152"."""
    height, width = input_size
    return f"{'X' if width is None else width}x{height}"


def patch_in_words(patch_size: int | None) -> str:
    """How texts name the patch: "patch 16", or "one token" where the image is the patch."""
    return "one token" if patch_size is None else f"patch {patch_size}"


def patch_in_names(patch_size: int | None) -> str:
    """How names of files name it: "p16" or "one-token"."""
    return "one-token" if patch_size is None else f"p{patch_size}"
