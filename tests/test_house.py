"""The house: what its maps say, what an import costs, and what nobody may call. Who may import what: pyproject.toml."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

ROOMS = ("model", "store", "data", "analysis", "training", "plots", "sequence", "web", "ui")
INNER = ("data/drops", "training/images", "training/planning", "training/run", "plots/export")
INNER += ("ui/session", "ui/widgets", "ui/shell", "ui/explore", "ui/checkpoints")


def contents(folder: Path) -> set[str]:
    """Names of the modules and folders that it holds."""
    inside = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    return inside - {"__init__", "__pycache__"}


@pytest.mark.parametrize("room", [*ROOMS, *INNER])
def test_a_room_s_docstring_is_its_map(room: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "tae" / room / "__init__.py").read_text()))
    assert text
    listed = [line.removeprefix("- ").split(":")[0] for line in text.splitlines() if line.startswith("- ")]
    assert sorted(listed) == sorted(contents(ROOT / "tae" / room))


def test_there_are_nine_rooms() -> None:
    assert {path.parent.name for path in (ROOT / "tae").glob("*/__init__.py")} == set(ROOMS)


IMPORTS = """
import sys
before = set(sys.modules)
import tae.model.config
print(*(set(sys.modules) - before))
import tae.data.archive, tae.plots.heads
print("torch" in sys.modules)
tae.create_autoencoder
print("torch" in sys.modules)
import tae.plots.export.figures, tae.data.gallery
print("streamlit" in sys.modules)
tae.show
import tae.web.notebook
from tae import show
print(callable(tae.show), callable(show))
"""
FIRST_PAGE = """
import sys
from pathlib import Path
import tae.ui.explore.page
from tae.sequence.checkpoint import list_sequences
from tae.store.checkpoint import list_checkpoints
list_checkpoints(Path("checkpoints"))
list_sequences(Path("checkpoints/sequences"))
print(*({"matplotlib", "scipy.stats", "scipy.spatial", "sklearn", "sympy", "torch._dynamo", "pandas"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_nothing_waits_for_what_it_does_not_need() -> None:
    """Config: the standard library; unpacking and figures: no PyTorch, no Streamlit; `show` stays a function."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config, *said = done.stdout.splitlines()
    assert {name.split(".")[0] for name in config.split()} - set(sys.stdlib_module_names) <= {"tae"}
    assert said == ["False", "True", "False", "True True"]


@pytest.mark.slow
def test_the_first_page_waits_for_no_library_that_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_PAGE], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr


def test_22_42_what_the_linter_forbids_it_finds(tmp_path: Path) -> None:
    """Whatever could run a stranger's data; the rules stand in pyproject.toml."""
    sources = {
        "S301": "import pickle\npickle.loads(data)",
        "`pickle` is banned": "from pickle import loads",
        "torch.load": "import torch\ntorch.load(path)",
        "S307": "eval(text)",
        "S102": "exec(text)",
        "S602": "import subprocess\nsubprocess.run(text, shell=True)",
        "TID251": "import joblib.numpy_pickle",
        "`yaml` is banned": "import yaml",
    }
    for number, source in enumerate(sources.values()):
        (tmp_path / f"{number}.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--config",
        str(ROOT / "pyproject.toml"),
        "--output-format=concise",
    ]
    done = subprocess.run([*command, "."], capture_output=True, text=True, cwd=tmp_path)
    for number, rule in enumerate(sources):
        said = [line for line in done.stdout.splitlines() if line.startswith(f"{number}.py:")]
        assert any(rule in line for line in said), (rule, done.stdout)


@pytest.mark.slow
def test_no_array_is_unpickled() -> None:
    sources = [
        ROOT / "app.py",
        *(path for name in ("pages", "tae", "benchmarks") for path in (ROOT / name).rglob("*.py")),
    ]
    calls = [node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        allowed = [key.value for key in call.keywords if key.arg == "allow_pickle"]
        assert all(isinstance(value, ast.Constant) and value.value is False for value in allowed), ast.unparse(call)


def test_percent_signs_have_one_spelling() -> None:
    """ "50%": no space after the number, nor after what stands for one in a text."""
    sources = [ROOT / "app.py", ROOT / "README.md", *(ROOT / "checkpoints").glob("*.json")]
    sources += [path for name in ("pages", "tae", "benchmarks") for path in (ROOT / name).rglob("*.*")]
    for path in sources:
        if path.suffix in (".py", ".js", ".md", ".json"):
            found = re.search(r"[0-9}]\s%(?![{ds]| 1\))", path.read_text())  # "%d", "%{x}" and "x % 1)" are code
            assert not found, (path, found)


def test_74_app_s_settings_keep_it_on_this_machine() -> None:
    settings = (ROOT / ".streamlit" / "config.toml").read_text()
    for line in (
        'address = "127.0.0.1"',
        "enableXsrfProtection = true",
        "enableCORS = true",
        "maxUploadSize = 5120",
        "gatherUsageStats = false",
        'showErrorDetails = "none"',
        'fileWatcherType = "none"',
    ):
        assert line in settings.splitlines()
