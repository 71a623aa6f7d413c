"""What a training run is: refused values, the command line and JSON as exact inverses."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from tae.model.config import PRESETS
from tae.training.config import (
    TrainConfig,
    run_id,
    snapshot_steps,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("batch_size", -1),
        ("accumulate", 3),
        ("eval_every", 0),
        ("save_every_s", -1),
        ("warmup_steps", -1),
        ("seed", -1),
        ("workers", 0),
        ("snapshots", -1),
        ("threads", 0),
        ("minutes", 0),
        ("muon_lr", 0),
        ("adamw_lr", float("nan")),
        ("clip_norm", float("inf")),
        ("weight_decay", -0.1),
        ("ema_decay", 1),
        ("flip", 1.5),
        ("zoom", float("nan")),
        ("max_unreadable", 2),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}"):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_what_excludes_each_other_is_refused() -> None:
    with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
        TrainConfig(resume=True, overwrite=True)


def test_a_patch_larger_than_the_image_is_refused() -> None:
    TrainConfig(input_size=(24, 32), patch_size=32)
    with pytest.raises(
        ValueError, match="at most the image's longer side, 32, got 33; None makes the whole image one token"
    ):
        TrainConfig(input_size=(24, 32), patch_size=33)


def test_a_checkpoint_without_an_ending_gets_one() -> None:
    assert [TrainConfig(out=Path(name)).out_path.name for name in ("shoes", "shoes.v2", "shoes.safetensors")] == [
        "shoes.safetensors",
        "shoes.v2.safetensors",
        "shoes.safetensors",
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_its_model_until_a_field_says_otherwise(preset: str) -> None:
    assert TrainConfig(preset=preset).model_config == PRESETS[preset]  # type: ignore[arg-type]
    own = TrainConfig(preset=preset, latent_dim=64, num_heads=2, patch_size=None, use_gradient_checkpointing=True)  # type: ignore[arg-type]
    expected = replace(PRESETS[preset], latent_dim=64, num_heads=2, patch_size=None, use_gradient_checkpointing=True)
    assert own.model_config == expected


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "preset": st.sampled_from(list(PRESETS)),
            "data": st.sampled_from(["demo", "my photos", "a/**/*.png", "--odd", "-x"]),
            "input_size": st.sampled_from([(201, 201), (152, None), (16, 17)]),
            "patch_size": st.sampled_from([None, 8]),
            "latent_dim": st.sampled_from([None, 64]),
            "minutes": st.sampled_from([None, 1.5]),
            "muon_lr": st.sampled_from([1e-5, 0.02]),
            "precision": st.sampled_from(["fp16", "bf16"]),
            "use_flash_attention": st.booleans(),
            "use_compile": st.booleans(),
            "overwrite": st.booleans(),
            "out": st.sampled_from([None, Path("a b/c.safetensors"), Path("-c.safetensors")]),
            "name": st.sampled_from([None, "Räder & <b>", "--name"]),
        },
    )
)
def test_command_line_and_json_give_back_the_same_config(values: dict) -> None:
    config = TrainConfig(**values)
    assert tyro.cli(TrainConfig, args=config.command_line()) == config
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("values", [None, [], {"stepz": 1}, {"steps": "many"}, {"steps": None}, {"muon_lr": []}])
def test_a_config_from_a_damaged_file_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"training config|steps must be|muon_lr must be"):
        TrainConfig.from_dict(values)


def test_differences_name_what_the_weights_depend_on() -> None:
    before = TrainConfig()
    assert replace(before, workers=5, resume=True, name="x").differences(before) == []
    assert replace(before, seed=1, flip=0).differences(before) == ["seed: was 0, now 1", "flip: was 0.5, now 0"]
    assert set(TrainConfig.FREE_TO_CHANGE) <= {field.name for field in fields(TrainConfig)}


def test_snapshots_begin_before_the_first_step_and_are_denser_at_the_start() -> None:
    assert snapshot_steps(6400, 8) == [0, 100, 400, 900, 1600, 2500, 3600, 4900]  # the next one: 6400, the checkpoint
    assert snapshot_steps(6, 8) == [0, 1, 2, 3, 4]
    assert snapshot_steps(100, 1) == [0] and snapshot_steps(100, 0) == []


def test_checkpoints_are_named_by_what_they_hold() -> None:
    assert str(TrainConfig().out_path) == "checkpoints/demo_tiny_201x201_p16.safetensors"
    wide = TrainConfig(preset="small", data="/somewhere/My shoes/", input_size=(152, None), patch_size=None)
    assert str(wide.out_path) == "checkpoints/My shoes_small_Xx152_one-token.safetensors"
    assert str(TrainConfig(data="shoes/**/*.png").out_path) == "checkpoints/shoes_tiny_201x201_p16.safetensors"


def test_a_run_is_named_by_what_its_weights_follow_from() -> None:
    config = TrainConfig(out=Path("a.safetensors"))
    name = run_id(config, "data")
    same = TrainConfig(out=Path("b.safetensors"), resume=True, snapshots=3, log_every=7)
    assert run_id(same, "data") == name and re.fullmatch("[0-9a-f]{16}", name)
    assert len({name, run_id(config, "other data"), run_id(TrainConfig(seed=1), "data")}) == 3
