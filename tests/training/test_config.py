"""A training run's settings: refused values, the command line and JSON as exact inverses."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from tae.cli import read
from tae.model.config import PRESETS
from tae.sequence.training import SequenceTrainConfig
from tae.training.command import field_texts
from tae.training.config import (
    TrainConfig,
    run_id,
    snapshot_steps,
)
from tae.training.planning.report import PlanConfig
from tae.web.report.job import ExplainConfig


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
def test_44_values_that_make_no_sense_are_refused_by_name(field: str, value: float) -> None:
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


@pytest.mark.slow
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
            "lr": st.sampled_from([None, 0.3]),
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
    if "lr" in values:
        values.pop("muon_lr", None)
    config = TrainConfig(**values)
    assert tyro.cli(TrainConfig, args=config.command_line()) == config
    assert read(TrainConfig, config.command_line(), None) == config
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("values", [None, [], {"stepz": 1}, {"steps": "many"}, {"steps": None}, {"muon_lr": []}])
def test_a_config_from_a_damaged_file_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"training config|steps must be|muon_lr must be"):
        TrainConfig.from_dict(values)


def test_differences_name_what_the_weights_depend_on() -> None:
    before = TrainConfig()
    assert replace(before, workers=5, resume=True, name="x").differences(before) == []
    assert replace(before, seed=1, flip=0).differences(before) == ["flip: was 0.5, now 0", "seed: was 0, now 1"]
    assert set(TrainConfig.FREE_TO_CHANGE) <= {field.name for field in fields(TrainConfig)}


def test_one_learning_rate_stands_for_both() -> None:
    config = TrainConfig(lr=0.3)
    assert (config.muon_lr, config.adamw_lr) == (0.3, pytest.approx(0.03))
    assert config.differences(TrainConfig(muon_lr=0.3, adamw_lr=config.adamw_lr)) == []
    assert replace(config, seed=1).muon_lr == 0.3
    with pytest.raises(ValueError, match="lr stands in place of muon_lr and adamw_lr, got lr with adamw_lr"):
        TrainConfig(lr=0.3, adamw_lr=0.1)
    with pytest.raises(ValueError, match="got lr with muon_lr"):  # the default is a word of its own on a command line
        read(TrainConfig, ["--lr", "0.3", "--muon-lr=0.02"], None)


def test_epochs_are_counted_in_steps() -> None:
    config = TrainConfig(epochs=3, data="photographs", batch_size=4)
    assert config.steps_on(8) == 6 and config.steps_on(9) == 9
    assert config.budget == ("epochs", 3) and TrainConfig(minutes=2).budget == ("minutes", 2)
    assert replace(config, epochs=2).shortened(config) == ["epochs: was 3, now 2, and a run can only be prolonged"]
    assert replace(config, epochs=4).shortened(config) == [] and replace(config, epochs=4).differences(config) == []
    assert read(TrainConfig, config.command_line(), None) == config
    with pytest.raises(ValueError, match="of demo, which are composed without end; give --steps or --minutes"):
        TrainConfig(epochs=3)
    for words, other in ((["--steps", "3000"], "steps"), (["--minutes", "5"], "minutes")):
        with pytest.raises(ValueError, match=f"got epochs with {other}"):
            read(TrainConfig, ["--epochs", "3", "--data", "x", *words], None)


@pytest.mark.parametrize("kind", [TrainConfig, PlanConfig, SequenceTrainConfig, ExplainConfig])
def test_help_tells_every_flag_under_its_heading(
    kind: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        read(kind, ["--help"], None)
    *_, told = capsys.readouterr().out.partition("usage")
    texts = field_texts(kind)
    for heading in kind.GROUPS.values():  # side by side where there is room
        assert re.search(rf"\b{heading} options\W", told)
    for name, text in ((one.name, texts[one.name]) for one in fields(kind)):
        assert text[:60] in told and (f"--{name.replace('_', '-')}" in told or name in ("preset", "data", "images"))


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
