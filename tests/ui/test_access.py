"""Modes: what each lets a visitor do, what the log says of a session, and what diagnostics tell."""

import io
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

import tae
from tae.app import Guarded, main, say_error
from tae.data.decode import ImageError, read_image
from tae.store.checkpoint import CheckpointError, read_checkpoint
from tae.store.refusals import LOGGER
from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.session import access, logs
from tests import ROOT, awaited
from tests.forked import Forked
from tests.pages import open_page, run, texts
from tests.training.small import small_config


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What is logged by `tae`."""
    logger, text = logging.getLogger("tae"), io.StringIO()
    handler, before = logging.StreamHandler(text), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(before)


class User(dict):
    """As Streamlit's `st.user` where a login is set up."""


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch):
    def choose(name: str, **user: bool) -> None:
        monkeypatch.setenv("TAE_MODE", name)
        monkeypatch.setattr(st, "user", User(user))

    return choose


@pytest.mark.parametrize(
    ("name", "user", "trains", "types"),
    [
        ("", {}, True, True),
        ("local", {}, True, True),
        ("shared", {}, False, False),
        ("shared", {"is_logged_in": True}, False, False),
        ("lab", {}, False, False),
        ("lab", {"is_logged_in": False}, False, False),
        ("lab", {"is_logged_in": True}, True, False),
        ("Local", {}, False, False),  # a word that is none is the strictest
    ],
)
def test_74_what_a_visitor_may_do_follows_from_mode_and_login_alone(mode, name, user, trains, types) -> None:
    mode(name, **user)
    assert (access.may_train(), access.may_type_folders()) == (trains, types)


def test_on_a_shared_server_nothing_can_be_trained_stopped_or_deleted(
    mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAE_CHECKPOINTS", str(tmp_path))
    folder = runs.folder_of(tmp_path / "x.safetensors")
    folder.mkdir(parents=True)
    runs.write_config(folder, small_config(tmp_path / "x.safetensors"))
    runs.write_status(folder, "stopped")
    mode("local")
    app = open_page("Train", task="runs")
    assert {"Try again", "Delete…"} <= {button.label for button in app.button}
    mode("shared")
    app = open_page("Train", task="runs")
    assert not {"Try again", "Resume", "Delete…", "Stop training"} & {button.label for button in app.button}
    app = open_page("Train", task="new")
    assert "Nothing can be trained on this server" in texts(app, "info")
    assert not [button for button in app.button if button.label == "Start training"]


@pytest.mark.slow
def test_in_a_lab_who_logs_in_may_train(mode) -> None:
    mode("lab", is_logged_in=False)
    app = open_page("Train", task="new")
    assert "Log in to train here" in texts(app, "info")
    assert "Log in to train" in {button.label for button in app.button}
    mode("lab", is_logged_in=True)
    app = run(app)
    assert {"Log out", "Start training"} <= {button.label for button in app.button}


@pytest.mark.slow
def test_diagnostics_tell_versions_model_and_timings_and_nothing_of_the_machine_s_paths(mode) -> None:
    app = open_page("Explore")
    app.button("diagnostics").click()
    (text,) = [block.value for block in run(app).code]
    assert text.startswith(f"tae {tae.__version__}, Python 3.") and "mode local" in text
    assert re.search(r"model sha256 [0-9a-f]{64}, ModelConfig\(", text) and str(ROOT) not in text
    assert re.search(r"page Explore: \d+\.\d{3} s", text)


def test_75_each_refusal_is_a_line_with_digest_format_and_size_and_without_content(said: io.StringIO) -> None:
    data = b"\x89PNG\r\n\x1a\n" + b"secret" * 10
    with pytest.raises(ImageError):
        read_image(data, "name.png")
    with pytest.raises(CheckpointError):
        read_checkpoint(data, "x.safetensors")
    first, second = said.getvalue().splitlines()
    assert re.fullmatch(r"refused: sha256 [0-9a-f]{64}, PNG, 68 bytes: the image .+", first)
    assert re.fullmatch(r"refused: sha256 [0-9a-f]{64}, checkpoint, 68 bytes: x.safetensors: .+", second)
    assert "secret" not in said.getvalue()
    LOGGER.setLevel(logging.WARNING)  # where nobody reads it, it costs no digest
    with pytest.raises(ImageError):
        read_image(data)
    LOGGER.setLevel(logging.NOTSET)
    assert len(said.getvalue().splitlines()) == 2


@pytest.mark.slow
def test_a_run_s_beginning_and_end_are_logged(
    said: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tae.training.run.runs.subprocess.Popen", Forked)
    config: TrainConfig = small_config(tmp_path / "x.safetensors", steps=1)
    runs.start(config)
    while len(said.getvalue().splitlines()) < 2:
        time.sleep(0.02)
    first, second = said.getvalue().splitlines()
    assert re.fullmatch(r"run x began: process \d+", first) and second == "run x ended with code 0"


def test_75_an_unexpected_error_is_logged_with_its_session(said: io.StringIO) -> None:
    logs.set_up()
    (handler,) = [one for one in logging.getLogger("tae").handlers if one.filters]
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(served := io.StringIO())
    say_error(ZeroDivisionError("of a stranger's file"))
    handler.setStream(before)
    assert said.getvalue() == "ZeroDivisionError on a page, see the traceback\n"
    assert "ERROR tae.app session=- ZeroDivisionError" in served.getvalue()


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (["--log-level", "loud"], {}, "--log-level must be one of debug, info, warning, error, got loud"),
        (["--log-level"], {}, "--log-level must be one of debug, info, warning, error, got nothing"),
        ([], {"TAE_MODE": "open"}, "TAE_MODE must be one of local, shared, lab, got open"),
    ],
)
def test_the_command_refuses_levels_and_modes_that_are_none(
    words: list[str], variables: dict, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 1
    assert expected in capsys.readouterr().err


def test_the_image_s_dockerfile_copies_what_the_app_needs_and_ends_as_a_user_of_its_own() -> None:
    lines = (ROOT / ".github" / "Dockerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY")}
    assert copied == {"requirements.txt", "app.py", "pages", "tae", ".streamlit", "checkpoints"}
    assert all((ROOT / name).exists() for name in copied)
    assert "USER 10001" in lines and any(line.startswith("HEALTHCHECK") for line in lines)
    assert any("TAE_MODE=shared" in line for line in lines)


def test_74_no_other_site_can_frame_a_page_and_metrics_are_for_this_machine_s_user(mode) -> None:
    async def page(scope, receive, send) -> None:
        headers = [(b"X-Frame-Options", b"DENY"), (b"set-cookie", b"user=1"), (b"set-cookie", b"tokens=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def asked(path: str) -> tuple[int, list[tuple[bytes, bytes]]]:
        sent: list[dict] = []

        async def send(message: dict) -> None:
            sent.append(message)

        awaited(Guarded(page)({"type": "http", "path": path}, None, send))
        return sent[0]["status"], sent[0]["headers"]

    mode("local")
    status, told = asked("/_stcore/metrics")
    assert status == 200 and [value for name, value in told if name == b"set-cookie"] == [b"user=1", b"tokens=2"]
    assert [value for name, value in told if name.lower() == b"x-frame-options"] == [b"DENY"]
    headers = dict(told)
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"frame-ancestors 'self'" in headers[b"content-security-policy"]
    mode("shared")
    assert asked("/base/_stcore/metrics")[0] == 404 and asked("/")[0] == 200
