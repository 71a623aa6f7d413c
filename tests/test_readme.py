"""The README keeps its word: its commands are CI's, its code runs, its figures are those of the result files."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import presets, readme
from tae.analysis.causal.predictors import CHANGE
from tae.model.config import PRESETS
from tae.model.counts import count
from tests import ROOT
from tests.test_house import ROOMS

TEXT = (ROOT / "README.md").read_text()
MEASURED = (ROOT / "benchmarks" / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


def test_ci_runs_exactly_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    found = re.search(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    assert found
    command = subprocess.run(["bash", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    after_marker = re.search(r"<!-- test command -->\n```bash\n(.*?)```", TEXT, re.DOTALL)
    assert after_marker and command == after_marker[1]
    assert "pytest" in command and command.startswith("python3 -m venv .venv")
    assert "command" in script.splitlines()[-1]


def test_two_commands_do_the_set_up() -> None:
    with_venv = [command for command in SHELL if "venv .venv" in command]
    assert [command.split("&&")[-1].split()[0] for command in with_venv] == [".venv/bin/streamlit", ".venv/bin/python"]
    assert all(len(command.strip().replace("\\\n", "").splitlines()) == 1 for command in with_venv)


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_code_of_the_readme_runs(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr


def test_there_is_code_to_run() -> None:
    assert PYTHON


def test_tables_are_the_committed_results() -> None:
    assert readme.filled(TEXT) == TEXT and readme.filled(MEASURED) == MEASURED
    assert re.findall(r"^<!-- /(\w+) -->$", TEXT, re.MULTILINE) == list(readme.EXCERPTS)
    shown = {*re.findall(r"^<!-- /(\w+) -->$", MEASURED, re.MULTILINE), "presets"}  # the README's own
    assert shown == {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.md")}


def test_readme_can_be_read_in_one_go() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 155 and max(map(len, lines)) <= 120


@pytest.mark.slow
def test_table_of_presets_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("medium",)  # of which the text tells, too; the others are counted alike
    monkeypatch.setattr(presets, "PRESETS", {name: PRESETS[name] for name in few})
    table = (ROOT / "benchmarks" / "results" / "presets.md").read_text()
    kept = [line for line in table.splitlines() if line.split()[1:2] not in [[name] for name in {*PRESETS} - {*few}]]
    assert kept[:-2] == presets.table() and len(kept) == len(table.splitlines()) - 4
    assert f"| {count(PRESETS['medium']).parameters / 1e6:.1f} M |" in kept[2]


def test_every_room_is_named_and_every_path_exists() -> None:
    section = TEXT.split("## The nine rooms")[1].split("\n## ")[0]
    named = {path for row in section.splitlines() if row.startswith("| `") for path in re.findall(r"`([^`]+)`", row)}
    assert all((ROOT / path).exists() for path in named)
    assert named == {"app.py", "pages/", *(f"tae/{room}/" for room in ROOMS)}


def test_pictures_and_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    named = re.findall(r"`([\w./-]+\.(?:md|py))`", TEXT)
    for target in [*targets, *named]:
        assert (ROOT / target).is_file() or target.startswith("__"), target


def test_every_measured_figure_has_its_command() -> None:
    for file in (ROOT / "benchmarks" / "results").glob("*.md"):
        commands = re.findall(r"python -m (benchmarks\.\w+)", file.read_text())
        assert commands
        for module in commands:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_top_level_holds_only_what_belongs_there() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    top = {path.split("/")[0] for path in tracked if path}
    named = {"app.py", "pages", "tae", "checkpoints", "tests", "benchmarks", "requirements.txt", "README.md", "LICENSE"}
    assert named <= top
    assert top - named <= {"pyproject.toml", ".gitignore", ".ci", ".github", ".streamlit"}


def test_direct_dependencies_are_pinned() -> None:
    for file in ("requirements.txt", "tests/requirements.txt"):
        for line in (ROOT / file).read_text().splitlines():
            assert not line or line.startswith(("#", "-r ")) or re.fullmatch(r"[\w\[\]-]+==[\w.]+", line), line


def test_what_is_said_of_covers_is_what_the_study_found() -> None:
    covers = json.loads((ROOT / "checkpoints" / "drops_tiny_201x201_p16.causal.json").read_text())["covers"]
    found = {
        cover: {name: one["value"] for name, one in figures["spearman"].items()} for cover, figures in covers.items()
    }
    changes = [figures[CHANGE] for figures in found.values()]
    for value in (found["white"]["rollout"], found["blur"]["rollout"], min(changes), max(changes)):
        assert f"{value:.2f}".replace("0.", ".") in TEXT.split("Weight is not importance")[1].split("\n\n")[0]
