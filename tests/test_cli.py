"""The command `tae`, and what is installed."""

import tomllib
from importlib import import_module

import pytest
from packaging.requirements import Requirement

import tae.app
from tae import cli
from tests import ROOT

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


def test_what_is_pinned_is_within_what_the_package_needs() -> None:
    needed = {one.name: one.specifier for one in map(Requirement, PROJECT["project"]["dependencies"])}
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert needed.keys() == pins.keys()
    assert all(pins[name] in needed[name] for name in pins)
