"""Configs: the presets, what follows from a config, and that a stranger's values cannot pass the limits."""

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from tae.model.config import (
    MAX_TOKENS,
    PRESETS,
    ModelConfig,
    config_from_dict,
    config_to_dict,
    preset_config,
    size_in_words,
)

HUGE = 10**5000
"""More digits than Python is willing to print."""


@pytest.mark.parametrize(
    ("name", "latent_dim", "num_heads", "layers"),
    [
        ("tiny", 128, 4, 3),
        ("small", 256, 8, 4),
        ("medium", 512, 8, 6),
        ("large", 1024, 16, 8),
        ("xlarge", 2048, 16, 12),
    ],
)
def test_presets_are_those_of_the_diagram(name: str, latent_dim: int, num_heads: int, layers: int) -> None:
    config = PRESETS[name]
    assert (config.latent_dim, config.num_heads) == (latent_dim, num_heads)
    assert (config.encoder_layers, config.decoder_layers) == (layers, layers)
    assert (config.preset, config.mlp_ratio, config.patch_size, config.input_size) == (name, 4, 16, (201, 201))


def test_presets_are_listed_from_small_to_large() -> None:
    assert list(PRESETS) == ["tiny", "small", "medium", "large", "xlarge"]


BAD_COUNTS = [
    pytest.param("128", id="text"),
    pytest.param(True, id="bool"),
    pytest.param(4.0, id="float"),
    pytest.param(float("nan"), id="nan"),
    pytest.param(float("inf"), id="inf"),
    pytest.param([4], id="list"),
    pytest.param(0, id="zero"),
    pytest.param(-4, id="negative"),
    pytest.param(10**9, id="billion"),
    pytest.param(HUGE, id="huge"),
    pytest.param(-HUGE, id="huge-negative"),
]


@pytest.mark.parametrize("value", [*BAD_COUNTS, pytest.param(None, id="none")])
@pytest.mark.parametrize("field", ["latent_dim", "num_heads", "encoder_layers", "decoder_layers", "max_width"])
def test_config_refuses_what_is_no_count(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be a whole number from"):
        ModelConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", BAD_COUNTS)
def test_config_refuses_a_patch_size_that_is_no_count(value: object) -> None:
    with pytest.raises(ValueError, match="patch_size must be a whole number from 2 to 512"):
        ModelConfig(patch_size=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [*BAD_COUNTS, pytest.param(None, id="none")])
def test_config_refuses_a_height_that_is_no_count(value: object) -> None:
    with pytest.raises(ValueError, match="input_size height must be a whole number from 1 to 8192"):
        ModelConfig(input_size=(value, 201))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", BAD_COUNTS)
def test_config_refuses_a_width_that_is_no_count(value: object) -> None:
    with pytest.raises(ValueError, match="input_size width must be a whole number from 1 to 16384"):
        ModelConfig(input_size=(201, value))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [201, None, "201", (201,), (201, 201, 1), {"height": 201}, "ab"])
def test_config_refuses_a_size_that_is_no_pair(value: object) -> None:
    with pytest.raises(ValueError, match="input_size"):
        ModelConfig(input_size=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["mlp_ratio", "dropout"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=name)
        for name, value in {
            "text": "0.5",
            "bool": True,
            "none": None,
            "nan": float("nan"),
            "inf": float("inf"),
            "negative": -0.1,
            "large": 16.1,
            "huge": HUGE,
            "complex": 0.5j,
        }.items()
    ],
)
def test_config_refuses_what_is_no_number_in_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be a number from"):
        ModelConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["use_flash_attention", "use_gradient_checkpointing"])
@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_config_refuses_a_switch_that_is_no_bool(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be true or false"):
        ModelConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["Tiny", "", "huge", 3, ["tiny"], {"tiny": 1}, "x" * 10_000])
def test_config_refuses_an_unknown_preset_label(value: object) -> None:
    with pytest.raises(ValueError, match="preset must be one of tiny, small, medium, large, xlarge or None") as error:
        ModelConfig(preset=value)  # type: ignore[arg-type]
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("patch_size", 2, 512),
        ("latent_dim", 4, 8192),
        ("encoder_layers", 1, 128),
        ("decoder_layers", 1, 128),
        ("mlp_ratio", 0.25, 16),
        ("dropout", 0, 0.95),
        ("max_width", 1, 16_384),
    ],
)
def test_config_takes_its_limits_and_nothing_beyond(field: str, lowest: float, highest: float) -> None:
    step = 1 if isinstance(highest, int) and field != "mlp_ratio" else 0.01
    base = {"input_size": (64, 64), "num_heads": 1}
    for value in (lowest, highest):
        assert getattr(ModelConfig(**{**base, field: value}), field) == value
    for value in (lowest - step, highest + step):
        with pytest.raises(ValueError, match=f"{field} must be"):
            ModelConfig(**{**base, field: value})


@pytest.mark.parametrize(("latent_dim", "num_heads"), [(128, 3), (4, 8), (100, 16)])
def test_config_refuses_heads_that_do_not_divide_the_latent(latent_dim: int, num_heads: int) -> None:
    message = f"latent_dim must be a multiple of num_heads, got latent_dim={latent_dim}, num_heads={num_heads}"
    with pytest.raises(ValueError, match=message):
        ModelConfig(latent_dim=latent_dim, num_heads=num_heads)


def test_config_refuses_a_latent_that_sinusoids_do_not_divide() -> None:
    with pytest.raises(ValueError, match="multiple of 4 .two-dimensional sinusoids., got 6"):
        ModelConfig(latent_dim=6, num_heads=2)


def test_config_limits_the_tokens() -> None:
    assert ModelConfig(input_size=(2048, 2048)).num_tokens == MAX_TOKENS
    with pytest.raises(ValueError, match="at most 16384 tokens, got 16512; use larger patches"):
        ModelConfig(input_size=(2048, 2049))
    with pytest.raises(ValueError, match="at most 16384 tokens"):  # the widest image counts
        ModelConfig(input_size=(152, None), patch_size=2)


def test_config_is_frozen_and_a_key() -> None:
    config = ModelConfig()
    with pytest.raises(FrozenInstanceError):
        config.latent_dim = 64  # type: ignore[misc]
    listed = ModelConfig(input_size=[201, 201])  # type: ignore[arg-type]
    assert listed == config and hash(listed) == hash(config)
    assert listed.input_size == (201, 201)


def test_config_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        ModelConfig((201, 201))  # type: ignore[misc]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("input_size", [(201, 201), (152, 1280), (152, None)])
@pytest.mark.parametrize("patch_size", [16, None])
def test_config_survives_json(name: str, input_size: tuple[int, int | None], patch_size: int | None) -> None:
    config = replace(PRESETS[name], input_size=input_size, patch_size=patch_size, mlp_ratio=2.5, dropout=0.1)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert set(config_to_dict(config)) == {field.name for field in fields(ModelConfig)}


@pytest.mark.parametrize("values", [None, 3, "tiny", [["latent_dim", 128]]])
def test_config_from_what_is_no_dict_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="a model config must be a dict of fields, got"):
        config_from_dict(values)


def test_config_from_unknown_fields_names_them_and_the_known() -> None:
    with pytest.raises(ValueError, match="unknown model config fields: depth, width; known: input_size, patch_size"):
        config_from_dict({"width": 3, "depth": 4, "latent_dim": 128})
    with pytest.raises(ValueError, match="unknown model config fields") as error:
        config_from_dict({"x" * 100_000: 1})
    assert len(str(error.value)) < 1000


def test_config_from_dict_fills_in_what_is_not_said() -> None:
    assert config_from_dict({}) == ModelConfig()


def test_preset_with_fields_replaced_leaves_the_preset_alone() -> None:
    before = asdict(PRESETS["small"])
    config = preset_config("small", encoder_layers=7, input_size=(152, None))
    assert asdict(config) == {**before, "encoder_layers": 7, "input_size": (152, None)}
    assert asdict(PRESETS["small"]) == before


def test_unknown_preset_names_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown preset 'base'; choose from: tiny, small, medium, large, xlarge"):
        preset_config("base")
    with pytest.raises(ValueError, match="unknown model config fields: heads"):
        preset_config("tiny", heads=3)


@pytest.mark.parametrize(
    ("input_size", "patch_size", "grid"),
    [
        ((201, 201), 16, (13, 13)),
        ((152, 1280), 16, (10, 80)),
        ((152, 1280), 8, (19, 160)),
        ((152, None), 16, (10, 80)),
        ((16, 17), 16, (1, 2)),
        ((201, 201), None, (1, 1)),
        ((152, None), None, (1, 1)),
    ],
)
def test_grid_by_hand(input_size: tuple[int, int | None], patch_size: int | None, grid: tuple[int, int]) -> None:
    config = ModelConfig(input_size=input_size, patch_size=patch_size)
    assert config.grid == grid
    assert config.num_tokens == grid[0] * grid[1]
    assert config.is_one_token == (grid == (1, 1))


def test_grid_of_any_width_follows_the_image() -> None:
    config = ModelConfig(input_size=(152, None), max_width=640)
    assert config.grid == (10, 40)
    assert [config.grid_for(width) for width in (1, 16, 17, 640)] == [(10, 1), (10, 1), (10, 2), (10, 40)]


def test_one_token_covers_the_whole_image_and_takes_no_overlap() -> None:
    config = ModelConfig(input_size=(152, None), patch_size=None, max_width=1000)
    assert (config.tile_size, config.overlap, config.position_rank) == ((152, 1000), 0, 0)
    assert ModelConfig(input_size=(201, 99), patch_size=None).tile_size == (201, 99)


def test_patches_overlap_by_a_quarter() -> None:
    assert [ModelConfig(patch_size=size, input_size=(64, 64)).overlap for size in (2, 3, 4, 8, 16, 17)] == [
        0,
        0,
        1,
        2,
        4,
        4,
    ]


@pytest.mark.parametrize(
    ("size", "words"), [((152, 1280), "1280x152"), ((201, 201), "201x201"), ((152, None), "Xx152")]
)
def test_size_in_words_is_width_by_height(size: tuple[int, int | None], words: str) -> None:
    assert size_in_words(size) == words
