"""The page Train without a browser: what it refuses, previews, plans, starts, and says of runs."""

import io
import re
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
import tyro
from streamlit.testing.v1 import AppTest

from tae import load_checkpoint, ui
from tae.data.encode import encode_png
from tae.model.counts import count
from tae.training.config import TrainConfig, snapshot_steps
from tae.training.run import runs
from tae.training.run.state import TrainState, save_state
from tests import ROOT
from tests.pages import HOSTILE, assert_harmless, charts, go, metrics, run, said_plainly, texts
from tests.pages import open_page as open_any

pytestmark = pytest.mark.usefixtures("shelf")


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    st.cache_data.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty images of a user's own."""
    home = tmp_path / "my shoes"
    home.mkdir()
    for number in range(30):
        (home / f"img{number}.png").write_bytes(image(number))
    return home


def image(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (40, 30), dtype=np.uint8))


def open_page(**link: str) -> AppTest:
    return open_any("Train", **link)


def type_folder(app: AppTest, text: object) -> AppTest:
    app.text_input("train_folder").set_value(str(text))
    return run(app)


def demo(app: AppTest) -> AppTest:
    app.segmented_control("train_kind").set_value("demo")
    return run(app)


def start_button(app: AppTest):
    return app.button("train_start")


def why_not(app: AppTest) -> str:
    """What stands beside the button that cannot be pressed."""
    return next((one.value for one in app.caption if one.value.startswith("First ")), "")


def asked(app: AppTest) -> TrainConfig:
    """The run that the command on the page asks for."""
    words = shlex.split(app.code[-1].value)
    assert words[:3] == ["python", "-m", "tae.train"]
    return tyro.cli(TrainConfig, args=words[3:])


def write_run(shelf: Path, name: str, status: str, message: str = "", records: int = 5, **config: object) -> Path:
    home = shelf / "runs" / name
    home.mkdir(parents=True)
    runs.write_config(home, TrainConfig(**{"steps": 50, **config}))  # type: ignore[arg-type]
    for step in range(10, 10 * records + 1, 10):
        record = {"step": step, "loss": 1 / step, "lr": 0.02, "grad_norm": 0.5, "images_per_s": 32.0}
        record |= {"loader_images_per_s": 500.0, "seconds_left": 90.0, "held_out_psnr": 10 + step / 10}
        runs.append_log(home, record)
    runs.write_status(home, status, message, 10 * records, 50)
    return home


# ------------------------------------------------------------------------------------------------------- a new training


def test_page_works_before_there_is_any_checkpoint() -> None:
    app = open_page()
    assert [title.value for title in app.title] == ["Models"] and not app.error
    assert "the first training makes one" in texts(app)
    assert start_button(app).disabled and why_not(app) == "First choose images that can be read."
    assert not start_button(demo(app)).disabled and not why_not(app)


def test_typed_folder_shows_what_the_model_will_see(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"nothing")
    app = type_folder(open_page(), folder)
    assert not app.error and not start_button(app).disabled
    said = re.search(r"31 files, .* kB; (\d+) images to train on, (\d+) held out", texts(app))
    assert said and int(said[1]) + int(said[2]) == 30 and int(said[2]) >= 1
    assert len(app.get("image")) == 8
    assert "broken.png" in said_plainly(app)
    assert asked(app).data == str(folder)
    assert asked(app).out == ui.checkpoints_folder() / "my_shoes_tiny_201x201_p16.safetensors"


def test_images_that_would_be_mostly_padding_are_offered_a_size_that_fits(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode_png(np.full((130, 1280), 255 - number, np.uint8)))
    app = type_folder(open_page(), tmp_path)
    assert "They fill 10% of 201x201, the rest is padding." in texts(app)
    named = r"Begins with \w+_tiny_201x201_p16.safetensors, which draws these images with [\d.]+ dB before any training"
    assert any(re.match(named, one.value) for one in app.caption)
    assert app.button("train_fitting").label == "Use 1280x152, patch 32"
    app.button("train_fitting").click()
    config = asked(run(app))
    assert (config.input_size, config.patch_size) == ((152, 1280), 32)
    assert "train_fitting" not in [button.key for button in app.button]


def test_large_folder_is_sampled_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tae.training.images.preview.MAX_READ_FILES", 10)
    app = type_folder(open_page(), folder)
    assert "whichever draws the images better" in texts(app)
    assert "30 files" in texts(app) and "about one in ten is held out" in texts(app)
    assert len(app.get("image")) == 8 and not start_button(app).disabled


def test_folder_that_cannot_be_trained_on_is_refused_in_words(tmp_path: Path) -> None:
    for name in ("empty", "one", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / "one" / "a.png").write_bytes(image(0))
    (tmp_path / "bad" / "a.png").write_bytes(b"nothing")
    app = open_page()
    for text, said in (
        (tmp_path / "nowhere", "neither a folder nor a file"),
        (tmp_path / "empty", "there is none in it"),
        (tmp_path / "note.txt", "must hold images|at least two readable images"),
        (tmp_path / "one", "at least two readable images"),
        (tmp_path / "bad", "at least two readable images"),
        (tmp_path / "*.jpg", "no image fits the pattern"),
        ("/", "the whole disk"),
        ("a\0b", "must be a path"),
        ("x" * 5000, "must be a path"),
        ("x" * 300, "neither a folder nor a file|name too long"),
    ):
        type_folder(app, text)
        assert len(app.error) == 1 and start_button(app).disabled
        assert re.search(said, said_plainly(app, "error"), re.IGNORECASE)


def test_19_unreadable_files_are_named_and_left_out_and_one_may_go_on(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(image(number) if number % 2 else b"nothing")
    (tmp_path / "scan.dcm").write_bytes(b"")
    app = type_folder(open_page(), tmp_path)
    assert not app.error and start_button(app).disabled
    assert why_not(app) == "First agree to go on without the 5 files that cannot be read."
    assert "8.png: not a supported image" in said_plainly(app) and "DICOM" in texts(app)
    assert "Cannot be read: 5 files" in [one.label for one in app.expander]
    box = next(box for box in app.checkbox if box.label == "Go on without the 5 files that cannot be read")
    box.check()
    run(app)
    assert not start_button(app).disabled and asked(app).max_unreadable == 1
    app.number_input("train_max_unreadable").set_value(0.6)
    run(app)
    assert not start_button(app).disabled and asked(app).max_unreadable == 0.6
    assert not [box for box in app.checkbox if box.label.startswith("Go on without")]


def test_images_that_are_almost_all_one_grey_are_told_and_white_can_be_chosen(tmp_path: Path) -> None:
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.where(np.eye(32) > 0, number + 1, 0).astype(np.float32) / 255)
    app = type_folder(open_page(), tmp_path)
    assert "almost all one grey" in said_plainly(app, "warning")
    app.selectbox("train_white").set_value("stretch")
    run(app)
    assert asked(app).white == "stretch" and "almost all one grey" not in said_plainly(app, "warning")


def test_folders_can_be_typed_only_where_strangers_cannot_reach_the_app(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "get_option", lambda name: "0.0.0.0" if name == "server.address" else None)
    app = open_page()
    assert not app.text_input("train_name").disabled
    assert "train_folder" not in [box.key for box in app.text_input]
    assert "drop the images instead" in app.info[0].value


def test_settings_on_the_page_are_those_of_the_command(folder: Path) -> None:
    app = type_folder(open_page(), folder)
    app.selectbox("train_preset").set_value("small")
    app.selectbox("train_patch_size").set_value(8)
    for name, value in {"height": 32, "width": 48, "steps": 120, "batch_size": 12, "accumulate": 3}.items():
        app.number_input(f"train_{name}").set_value(value)
    for name, value in {"latent_dim": 64, "encoder_layers": 2, "zoom": 0.2, "ema_decay": 0.99, "threads": 1}.items():
        app.number_input(f"train_{name}").set_value(value)
    app.checkbox("train_use_gradient_checkpointing").set_value(True)
    app.checkbox("train_use_flash_attention").set_value(False)
    app.selectbox("train_precision").set_value("fp32")
    app.text_input("train_name").set_value("My fine shoes!")
    assert asked(run(app)) == TrainConfig(
        preset="small",
        data=str(folder),
        patch_size=8,
        input_size=(32, 48),
        steps=120,
        batch_size=12,
        accumulate=3,
        latent_dim=64,
        encoder_layers=2,
        zoom=0.2,
        ema_decay=0.99,
        threads=1,
        use_gradient_checkpointing=True,
        use_flash_attention=False,
        precision="fp32",
        eval_every=8,
        log_every=8,
        out=ui.checkpoints_folder() / "My_fine_shoes.safetensors",
        name="My fine shoes!",
    )


def test_defaults_on_the_page_are_those_of_the_command_line() -> None:
    assert asked(demo(open_page())) == TrainConfig(out=ui.checkpoints_folder() / "demo_tiny_201x201_p16.safetensors")


def test_a_run_names_the_files_that_it_left_out(shelf: Path) -> None:
    home = write_run(shelf, "shoes", "finished")
    (home / "output.txt").write_text("read 3 of 3 files\nskipped a*b.png: not an image\nskipped 2 more files\nstep 1\n")
    app = open_page(task="runs")
    assert app.expander[0].label == "Left out, since they cannot be read"
    assert app.expander[0].markdown[0].value == "a\\*b\\.png\\: not an image  \n2 more files"


def test_simulated_drops_can_be_trained_on() -> None:
    app = open_page()
    app.segmented_control("train_kind").set_value("drops")
    config = asked(run(app))
    assert config.data == "drops" and not start_button(app).disabled
    captions = " ".join(one.value for one in app.caption)
    assert "Simulated anew for every step" in captions


def test_a_run_begins_with_a_checkpoint_that_fits(keep: Callable[..., object], shelf: Path) -> None:
    keep(file="small.safetensors")
    (shelf / "broken.safetensors").write_bytes(b"nothing")
    app = demo(open_page())
    box = app.selectbox("train_init_from")
    names = ["the shipped model that fits", "random weights", "small (small.safetensors)"]
    assert (box.value, box.options, asked(app).warm_start) == ("", names, True)
    box.set_value("anew")
    assert (asked(run(app)).init_from, asked(app).warm_start) == (None, False)
    app.selectbox("train_init_from").set_value("small.safetensors")
    run(app)
    config = asked(app)
    assert config.init_from == ui.checkpoints_folder() / "small.safetensors"
    assert start_button(app).disabled and "must have blocks of the same width" in said_plainly(app, "error")
    assert "another checkpoint to begin with" in why_not(app)
    shape = load_checkpoint(shelf / "small.safetensors").model.config
    for name in ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio"):
        app.number_input(f"train_{name}").set_value(getattr(shape, name))
    run(app)
    assert "blocks" not in said_plainly(app, "error")
    assert not start_button(app).disabled
    assert any(re.search(r"\d+ of \d+ tensors are taken over; resampled", one.value) for one in app.caption)
    (shelf / "small.safetensors").unlink()
    assert run(app).selectbox("train_init_from").value == "" and asked(app).init_from is None


def test_minutes_and_any_width_can_be_asked_for() -> None:
    app = demo(open_page())
    app.selectbox("train_budget").set_value("Minutes")
    app.checkbox("train_any_width").set_value(True)
    run(app)
    app.number_input("train_minutes").set_value(25)
    app.number_input("train_max_width").set_value(400)
    app.number_input("train_height").set_value(64)
    config = asked(run(app))
    assert (config.minutes, config.input_size, config.max_width) == (25.0, (64, None), 400)


def test_every_setting_explains_itself() -> None:
    app = demo(open_page())
    widgets = {str(w.key).removeprefix("train_"): w for w in [*app.number_input, *app.checkbox, *app.selectbox]}
    named = {field.name for field in fields(TrainConfig)} & set(widgets)
    assert len(named) > 30
    without = {name for name in named if not widgets[name].help}
    assert without <= {"steps", "batch_size", "minutes"}  # their labels say it


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 10, "accumulate": 3}, "multiple of accumulate"),
        ({"latent_dim": 30, "num_heads": 4}, "multiple of num_heads"),
        ({"height": 4096, "width": 8192}, "at most"),
        ({"muon_lr": 0.0}, "muon_lr must be a number from 1e-30"),
        ({"zoom": 5.0}, "zoom must be a number"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(values: dict, said: str) -> None:
    app = demo(open_page())
    for name, value in values.items():
        app.number_input(f"train_{name}").set_value(value)
    run(app)
    assert said in app.error[0].value.replace("\\", "")
    assert "train_start" not in [button.key for button in app.button]


def test_taken_name_is_refused_and_a_free_one_is_offered(shelf: Path) -> None:
    write_run(shelf, "shoes", "stopped")
    (shelf / "boots.safetensors").touch()
    for name in ("shoes", "boots"):
        app = demo(open_page(task="new"))
        app.text_input("train_name").set_value(name)
        run(app)
        assert any(f"{name}-2 is free" in error.value.replace("\\", "") for error in app.error)
        assert start_button(app).disabled and why_not(app) == "First choose another name."


def test_typed_name_never_leads_out_of_the_folder() -> None:
    app = demo(open_page())
    for name in ("../../etc/passwd", "a/b", HOSTILE, "..", "con", "ü" * 60):
        app.text_input("train_name").set_value(name)
        out = asked(run(app)).out
        assert out is not None and out.parent == ui.checkpoints_folder() and re.fullmatch(r"[A-Za-z0-9._-]+", out.name)


def test_plan_is_that_of_the_planner_and_warns_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    app = demo(open_page())
    shown = metrics(app)
    config = TrainConfig().model_config
    assert shown["Parameters"] == f"{count(config).parameters / 1e6:.1f} M" and shown["Tokens"] == "169"
    assert shown["Time"] == "–" and not app.warning
    monkeypatch.setattr("tae.training.distributed.memory_bytes", lambda device: 600_000_000)
    run(app)
    said = re.search(r"will not fit.*at most (\d+) images fit.*Gradient checkpointing", app.warning[0].value)
    assert said and 0 < int(said[1]) < 16
    assert not start_button(app).disabled  # who knows better may try
    app.number_input("train_batch_size").set_value(int(said[1]))
    assert not run(app).warning
    peak = re.fullmatch(r"([\d.]+) (MB|GB)", next(one.value for one in app.metric if one.label == "Memory"))
    assert peak
    total = float(peak[1]) * {"MB": 1e6, "GB": 1e9}[peak[2]]
    monkeypatch.setattr("tae.training.distributed.memory_bytes", lambda device: round(total / 0.95))
    said = run(app).warning[0].value
    assert "may not fit" in said and "10% should stay free" in said and "will not fit" not in said
    app.selectbox("train_preset").set_value("xlarge")
    assert "not even one image fits" in run(app).warning[0].value


def test_room_on_the_disk_grows_with_the_snapshots() -> None:
    app = demo(open_page())
    app.number_input("train_latent_dim").set_value(64)
    run(app)

    def told() -> tuple[float, int]:
        found = re.search(r"disk up to ([\d.]+) MB with (\d+) snapshots", texts(app))
        assert found
        return float(found[1]), int(found[2])

    (with_eight, eight), weights_mb = told(), 4e-6 * count(asked(app).model_config).parameters
    app.number_input("train_snapshots").set_value(0)
    run(app)
    (with_none, none), config = told(), asked(app)
    assert (eight, none, config.snapshots) == (8, 0, 0)
    assert with_eight - with_none == pytest.approx(8 * weights_mb, rel=0.01)
    app.number_input("train_snapshots").set_value(8)
    app.number_input("train_steps").set_value(3)
    run(app)
    assert told()[1] == len(snapshot_steps(3, 8)) < 8
    assert with_none > 4 * weights_mb  # the checkpoint and states


def test_time_is_estimated_on_request() -> None:
    app = demo(open_page())
    app.number_input("train_height").set_value(32)
    app.number_input("train_width").set_value(32)
    run(app)
    app.button("train_estimate").click()
    run(app)
    shown = metrics(app)
    assert re.fullmatch(r"[\d.]+ (s|min|h|days)", shown["Time"])
    assert "images/s" in texts(app) and "train_estimate" not in [button.key for button in app.button]


# --------------------------------------------------------------------------------------------------------------- dropped


def drop(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.segmented_control("train_kind").set_value("dropped")
    run(app)
    app.file_uploader[0].set_value([(name, data, "application/octet-stream") for name, data in files])
    return run(app)


def packed(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_dropped_images_and_zips_wait_for_their_run(shelf: Path) -> None:
    archive = packed(*((f"in/{number}.png", image(number)) for number in range(10)))
    app = drop(open_page(), ("a.png", image(11)), ("many.zip", archive), (f"{HOSTILE}.png", b"nothing"))
    assert "**11** images dropped" in texts(app)
    assert "onerror" in texts(app)
    assert_harmless(texts(app))
    assert "blocks" not in said_plainly(app, "error")
    assert not start_button(app).disabled
    config = asked(app)
    assert config.data == str(shelf / "runs" / config.out_path.stem / "images")
    assert config.name == "dropped images tiny 201x201"
    (waiting,) = (shelf / "runs").iterdir()
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)  # the page, loaded anew
    for name, value in {"locker": app.session_state["locker"], "train_kind": "dropped"}.items():
        again.session_state[name] = value
    assert "**11** images dropped" in texts(go(again, "Train"))
    app.button("train_forget").click()
    run(app)
    assert not waiting.exists() and start_button(app).disabled


def test_dropped_files_that_are_refused_leave_nothing_behind(shelf: Path) -> None:
    app = open_page()
    for name, content in (
        ("bomb.zip", packed(("a.png", bytes(200 * 1024**2)))),
        ("out.zip", packed(("../../a.png", image(0)))),
        ("cut.zip", packed(("a.png", image(0)))[:50]),
        ("text.zip", b"no archive"),
        ("text.png", b"no image"),
    ):
        drop(app, (name, content))
        assert name in said_plainly(app) and "**0** images dropped" in texts(app)
        assert start_button(app).disabled
        assert [path for path in (shelf / "runs").rglob("*") if path.is_file()] == []
        assert str(shelf) not in texts(app)


# ------------------------------------------------------------------------------------------------------------------ runs


def test_without_runs_the_page_says_what_to_do() -> None:
    for task in ("runs", "compare"):
        assert "There are no runs yet" in open_page(task=task).info[0].value


@pytest.mark.parametrize(
    ("status", "said", "buttons"),
    [
        ("finished", "", set()),
        ("stopped", "", {"train_resume"}),
        ("failed", "It failed", {"train_resume"}),
        ("running", "ended from outside", {"train_resume"}),  # and nobody works on it
    ],
)
def test_run_shows_how_it_ended_and_what_can_be_done(shelf: Path, status: str, said: str, buttons: set[str]) -> None:
    write_run(shelf, "shoes", status, "the images are gone" if status == "failed" else "")
    app = open_page(task="runs")
    assert said in texts(app) and ("the images are gone" in texts(app)) == (status == "failed")
    shown = metrics(app)
    assert shown["Loss"] == "0.02000" and shown["Held-out PSNR"] == "15.00 dB" and shown["Images a second"] == "32.0"
    assert len(charts(app)) == 2
    keys = {button.key for button in app.button}
    assert keys & {"train_resume", "train_open", "train_stop"} == buttons
    assert "train_delete" in keys
    if status == "running":
        assert app.selectbox("choose_run").options == ["shoes · died"]


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (14.5, "15.00 dB, ahead of every yardstick: 0.50 dB ahead of a thumbnail of as many pixels"),
        (16.0, "15.00 dB, 1.00 dB behind a thumbnail of as many pixels"),
    ],
)
def test_a_run_s_figure_stands_beside_what_simple_codes_reach(shelf: Path, best: float, said: str) -> None:
    home = write_run(shelf, "shoes", "finished")
    record = {"step": 50, "held_out_psnr": 15.0, "mean_image": 11.0, "thumbnail": best, "pca": "a stranger's"}
    runs.append_log(home, record)
    app = open_page(task="runs")
    assert [one.value for one in (app.success if best < 15 else app.warning)] == [said]
    shapes = charts(app)[0]["layout"]["shapes"]
    assert [shape["y0"] for shape in shapes] == [11.0, best]


@pytest.mark.parametrize(
    ("fields", "so_far", "count"),
    [({}, "50", 500), ({"minutes": 2.0}, "2", 5.0), ({"epochs": 3, "steps": 3000, "data": "shoes"}, "3", 8)],
)
def test_a_run_is_prolonged_by_a_larger_budget(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, fields: dict, so_far: str, count: float
) -> None:
    home = write_run(shelf, "shoes", "finished", **fields)
    assert "train_longer" not in {one.key for one in open_page(task="runs").number_input}  # nothing to go on from
    save_state(home, TrainState(3, {"model.weight": torch.zeros(1)}, {}))
    spawned: list[TrainConfig] = []
    monkeypatch.setattr(runs, "_spawn", lambda folder, config: spawned.append(config))
    app = open_page(task="runs")
    longer = app.number_input("train_longer")
    kind = next((kind for kind in ("minutes", "epochs") if kind in fields), "steps")
    assert longer.label == f"{kind.capitalize()} in all ({so_far} so far)" and longer.min == float(so_far) + 1
    longer.set_value(count)
    app.button("train_go_on").click()
    run(app)
    assert [(getattr(config, kind), config.resume) for config in spawned] == [(count, True)]


def test_run_at_work_can_be_stopped_and_not_deleted(shelf: Path) -> None:
    home = write_run(shelf, "shoes", "running")
    with runs.hold(home):
        app = open_page()
        assert app.session_state.task == "runs"  # coming back finds it
        keys = {button.key for button in app.button}
        assert "train_stop" in keys and not keys & {"train_delete", "train_resume"}
        app.button("train_stop").click()
        run(app)
        assert runs.stop_asked(home)
        assert "train_stop" not in {button.key for button in app.button}


def test_first_steps_show_with_their_pace_before_there_is_a_record(shelf: Path) -> None:
    home = write_run(shelf, "shoes", "running", records=0)
    with runs.hold(home):
        assert progress(open_page(task="runs")) == "step 0 of 50 · measuring the pace"
        runs.write_status(home, "running", "", 3, 50, 7.25)
        assert progress(open_page(task="runs")) == "step 3 of 50 · 7.2 s a step · about 5.7 min left"
        runs.write_status(home, "running", "", 3, 50, 0.05)
        assert progress(open_page(task="runs")) == "step 3 of 50 · 20.0 steps a second · about 2 s left"


def progress(app: AppTest) -> str:
    return app.get("progress")[0].proto.text  # type: ignore[attr-defined]


def test_link_opens_the_run_and_carries_no_path(shelf: Path, folder: Path) -> None:
    for name in ("one", "two"):
        write_run(shelf, name, "finished", data=str(folder))
    app = open_page(task="runs", run="one")
    assert app.selectbox("choose_run").value == "one" and app.query_params["run"] == "one"
    assert str(folder) not in str(app.query_params)
    app = open_page(task="runs", run="../../etc/passwd")
    assert app.selectbox("choose_run").value in ("one", "two") and not app.error


def test_finished_run_opens_in_the_app(shelf: Path) -> None:
    write_run(shelf, "shoes", "finished")
    (shelf / "shoes.safetensors").write_bytes((ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors").read_bytes())
    app = open_page(task="runs")
    app.button("train_open").click()
    run(app)
    assert app.session_state.checkpoint == "shoes.safetensors"
    assert [title.value for title in app.title] == ["Explore"]


def test_an_active_run_of_a_stranger_s_name_shows_as_it_stands(shelf: Path) -> None:
    name = HOSTILE.replace("/", "")
    with runs.hold(write_run(shelf, name, "running")):
        (badge,) = [one for one in open_page(task="new").markdown if "onerror" in one.value]
    assert_harmless(badge.value)


def test_a_folder_of_one_s_own_is_named_whatever_it_is_called(shelf: Path) -> None:
    home = write_run(shelf, "own", "finished", data="/home/me/images")
    assert "images a step · images" in texts(open_page(task="runs", run="own"))
    runs.write_config(home, TrainConfig(data=str(home / "images")))
    assert "dropped images" in texts(open_page(task="runs", run="own"))


def test_strangers_texts_in_a_run_show_as_they_stand(shelf: Path) -> None:
    write_run(shelf, HOSTILE.replace("/", ""), "failed", HOSTILE, data=HOSTILE)
    write_run(shelf, "other", "finished")
    for task in ("runs", "compare"):
        app = open_page(task=task, run=HOSTILE.replace("/", ""))
        assert_harmless(texts(app))
        assert task == "compare" or "onerror" in texts(app)


def test_41_broken_run_is_told_and_hides_nothing(shelf: Path) -> None:
    write_run(shelf, "whole", "finished")
    (write_run(shelf, "broken", "finished") / "config.json").write_text("{")
    app = open_page(task="runs", run="broken")
    assert "config.json cannot be read" in app.error[0].value.replace("\\", "") and str(shelf) not in texts(app)
    assert open_page(task="runs", run="whole").metric


def test_torn_and_odd_records_show_as_dashes(shelf: Path) -> None:
    home = write_run(shelf, "shoes", "stopped", records=1)
    with open(home / "log.jsonl", "a") as file:
        file.write('{"step": 20, "loss": "much", "held_out_psnr": null, "lr": true, "images_per_s": []}\n{"step": 3')
    app = open_page(task="runs")
    shown = metrics(app)
    assert shown["Loss"] == "–" and shown["Held-out PSNR"] == "11.00 dB"
    assert len(charts(open_page(task="compare"))) == 2


def test_comparison_lays_runs_over_each_other_and_names_their_differences(shelf: Path) -> None:
    write_run(shelf, "a", "finished", seed=1, steps=50)
    write_run(shelf, "b", "stopped", records=3, seed=2, steps=50)
    app = open_page(task="compare")
    assert sorted(app.multiselect("train_compared").value) == ["a", "b"]
    table = app.dataframe[0].value.set_index("Run")
    assert table.loc["a", "Held-out PSNR (dB)"] == 15.0 and table.loc["b", "Step"] == 30
    assert table.loc["a", "Minutes"] == round(50 * 16 / 32 / 60, 1)
    differing = app.dataframe[1].value.set_index("Setting")
    assert list(differing.index) == ["seed"] and dict(differing.loc["seed"]) == {"a": "1", "b": "2"}
    app.segmented_control("train_axis").set_value("Minutes")
    assert "pauses" in texts(run(app))
    app.multiselect("train_compared").set_value(["a"])
    assert len(run(app).dataframe) == 1


def test_log_comes_as_a_table(shelf: Path) -> None:
    home = write_run(shelf, "shoes", "stopped", records=2)
    runs.append_log(home, {"step": 25, "loss": 0.5})
    rows = runs.log_rows(home)
    assert [row["step"] for row in rows] == [10, 20, 25] and rows[2]["held_out_psnr"] is None
    assert all(row.keys() == rows[0].keys() for row in rows)
