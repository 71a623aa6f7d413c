"""Configs: the presets, what follows from a config, and that a stranger's values cannot pass the limits."""

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace
from itertools import product

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


def test_presets_are_those_of_the_diagram_from_small_to_large() -> None:
    shapes = {"tiny": (128, 4, 3), "small": (256, 8, 4), "medium": (512, 8, 6), "large": (1024, 16, 8)}
    shapes["xlarge"] = (2048, 16, 12)
    assert list(PRESETS) == list(shapes)
    for name, (latent_dim, num_heads, layers) in shapes.items():
        config = PRESETS[name]
        assert (config.latent_dim, config.num_heads) == (latent_dim, num_heads)
        assert (config.encoder_layers, config.decoder_layers) == (layers, layers)
        assert (config.preset, config.mlp_ratio, config.patch_size, config.input_size) == (name, 4, 16, (201, 201))


BAD_COUNTS: list = ["128", True, 4.0, float("nan"), float("inf"), [4], 0, -4, 10**9, HUGE, -HUGE]
BAD_NUMBERS: list = ["0.5", True, None, float("nan"), float("inf"), -0.1, 16.1, HUGE, 0.5j]


def refusal(**fields: object) -> str:
    with pytest.raises(ValueError) as caught:
        ModelConfig(**fields)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300
    return str(caught.value)


def test_config_refuses_what_is_no_count() -> None:
    for field in ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "max_width"):
        for value in [*BAD_COUNTS, None]:
            assert f"{field} must be a whole number from" in refusal(**{field: value})
    for value in BAD_COUNTS:  # None has a meaning there
        assert "patch_size must be a whole number from 2 to 512" in refusal(patch_size=value)
        assert "input_size width must be a whole number from 1 to 16384" in refusal(input_size=(201, value))
    for value in [*BAD_COUNTS, None]:
        assert "input_size height must be a whole number from 1 to 8192" in refusal(input_size=(value, 201))
    for value in (201, None, "201", (201,), (201, 201, 1), {"height": 201}, "ab"):
        assert "input_size" in refusal(input_size=value)


def test_config_refuses_what_is_no_number_switch_or_preset() -> None:
    for field in ("mlp_ratio", "dropout"):
        for value in BAD_NUMBERS:
            assert f"{field} must be a number from" in refusal(**{field: value})
    for field in ("use_flash_attention", "use_gradient_checkpointing"):
        for value in (0, 1, "true", None, []):
            assert f"{field} must be true or false" in refusal(**{field: value})
    for value in ("Tiny", "", "huge", 3, ["tiny"], {"tiny": 1}, "x" * 10_000):
        assert "preset must be one of tiny, small, medium, large, xlarge or None" in refusal(preset=value)


def test_config_takes_its_limits_and_nothing_beyond() -> None:
    base = {"input_size": (64, 64), "num_heads": 1}
    for field, lowest, highest, step in (
        ("patch_size", 2, 512, 1),
        ("latent_dim", 4, 8192, 1),
        ("encoder_layers", 1, 128, 1),
        ("decoder_layers", 1, 128, 1),
        ("mlp_ratio", 0.25, 16, 0.01),
        ("dropout", 0, 0.95, 0.01),
        ("max_width", 1, 16_384, 1),
    ):
        for value in (lowest, highest):
            assert getattr(ModelConfig(**{**base, field: value}), field) == value
        for value in (lowest - step, highest + step):
            assert f"{field} must be" in refusal(**{**base, field: value})


def test_config_refuses_a_latent_that_heads_or_sinusoids_do_not_divide() -> None:
    for latent_dim, num_heads in ((128, 3), (4, 8), (100, 16)):
        said = f"latent_dim must be a multiple of num_heads, got latent_dim={latent_dim}, num_heads={num_heads}"
        assert said in refusal(latent_dim=latent_dim, num_heads=num_heads)
    assert "multiple of 4 (two-dimensional sinusoids), got 6" in refusal(latent_dim=6, num_heads=2)


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


def test_config_survives_json() -> None:
    sizes: list[tuple[int, int | None]] = [(201, 201), (152, 1280), (152, None)]
    for name, input_size, patch_size in product(PRESETS, sizes, (16, None)):
        config = replace(PRESETS[name], input_size=input_size, patch_size=patch_size, mlp_ratio=2.5, dropout=0.1)
        assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
        assert set(config_to_dict(config)) == {field.name for field in fields(ModelConfig)}


def test_config_from_what_is_no_dict_is_refused() -> None:
    for values in (None, 3, "tiny", [["latent_dim", 128]]):
        with pytest.raises(ValueError, match="a model config must be a dict of fields, got"):
            config_from_dict(values)


def test_36_config_from_unknown_fields_names_them_and_the_known() -> None:
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


def test_grid_by_hand() -> None:
    by_hand: list[tuple[tuple[int, int | None], int | None, tuple[int, int]]] = [
        ((201, 201), 16, (13, 13)),
        ((152, 1280), 16, (10, 80)),
        ((152, 1280), 8, (19, 160)),
        ((152, None), 16, (10, 80)),
        ((16, 17), 16, (1, 2)),
        ((201, 201), None, (1, 1)),
        ((152, None), None, (1, 1)),
    ]
    for input_size, patch_size, grid in by_hand:
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


def test_size_in_words_is_width_by_height() -> None:
    assert [size_in_words(size) for size in ((152, 1280), (201, 201), (152, None))] == ["1280x152", "201x201", "Xx152"]
