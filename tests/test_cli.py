"""The command `tae`, and what is installed."""

import tomllib
from importlib import import_module

import pytest
from packaging.requirements import Requirement
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message

import tae.app
from tae import cli
from tests import ROOT, awaited

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_help_names_every_door(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert cli.main(words) == 0
        text = capsys.readouterr().out
        assert all(f"\n  {name} " in text for name in cli.DOORS)
    files = {path.stem.replace("_", "-") for path in (ROOT / "tae").glob("*.py")} - {"--init--", "cli"}
    assert files == set(cli.DOORS)


def test_an_unknown_command_is_told_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert "unknown command 'fly'; choose from: app, train, " in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in cli.DOORS if name != "app"])
def test_a_door_says_what_it_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"usage: tae {name} " in text
    module = import_module(f"tae.{name.replace('-', '_')}")
    assert module.__doc__ and module.__doc__.splitlines()[0][:60] in text


def test_a_door_plans_and_refuses_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [])
    assert cli.main(["plan", "tiny", "--no-calibrate"]) == 0 and "parameters" in capsys.readouterr().out
    assert cli.main(["plan", "tiny", "--no-calibrate", "--width", "3"]) == 1
    assert capsys.readouterr().err == "error: width must be 201, got 3\n"


def test_ctrl_c_ends_a_door_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.door("stopped here")
    def main(_: object) -> int:
        raise KeyboardInterrupt

    assert main([]) == 130 and capsys.readouterr().err == "\nstopped here\n"


def test_of_several_processes_the_first_alone_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @cli.door("", is_told_once=True)
    def main(_: object) -> int:
        raise ValueError("it is so")

    for rank, said in (("0", "error: it is so\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert main([]) == 1 and capsys.readouterr().err == said


def test_the_app_opens_its_own_script(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda words, **_: asked.append(words))
    assert tae.app.main(["--server.port", "8600"]) == 0
    assert asked == [["run", str(ROOT / "app.py"), "--server.port", "8600"]]


def test_the_server_s_first_page_is_that_of_the_address() -> None:
    app = Starlette(routes=[*tae.app.routes(), Route("/{file}", lambda request: PlainTextResponse("a file"))])

    async def got(path: str) -> str:
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            told.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
        await app(scope, receive, send)
        return told[1]["body"].decode()

    for path, title in {"/": "Explore", "/causal": "Ablation"}.items():
        assert f"<title>{title} · tae</title>" in awaited(got(path))
    assert {awaited(got(path)) for path in ("/favicon.png", "/oauth2callback")} == {"a file"}  # Streamlit's own


@pytest.mark.parametrize("is_headless", [True, False])
def test_the_server_opens_a_browser_unless_it_shall_not(is_headless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("streamlit.cli_util.open_browser", opened.append)
    monkeypatch.setattr("tae.app.import_ahead", lambda: None)
    monkeypatch.setattr("streamlit.config.get_option", lambda name: {"server.headless": is_headless}.get(name, ""))
    monkeypatch.setattr("streamlit.web.server.server_util.get_url", lambda host: f"http://{host}:8600")

    async def start() -> None:
        async with tae.app.lifespan(None):
            pass

    awaited(start())
    assert opened == ([] if is_headless else ["http://localhost:8600"])


def test_what_is_pinned_is_within_what_the_package_needs() -> None:
    needed = {one.name: one.specifier for one in map(Requirement, PROJECT["project"]["dependencies"])}
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert needed.keys() == pins.keys()
    assert all(pins[name] in needed[name] for name in pins)
