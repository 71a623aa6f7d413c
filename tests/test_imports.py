"""The house's walls: who may import what, and what nobody may call."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    [
        ROOT / "app.py",
        *(path for name in ("pages", "tae", "benchmarks", "tests") for path in (ROOT / name).rglob("*.py")),
    ]
)
UI = ROOT / "tae" / "ui"
CORE = sorted(path for path in (ROOT / "tae").rglob("*.py") if UI not in path.parents)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
RUNNERS = {"eval", "exec", "compile", "__import__"}


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_core_never_imports_streamlit() -> None:
    modules = [module_of(path) for path in CORE]
    assert {"tae", "tae.model", "tae.plots", "tae.plots.maps"} <= set(modules)
    assert run(f"import sys, {', '.join(modules)}; print('streamlit' in sys.modules)") == "False"


def test_importing_the_package_does_not_wait_for_pytorch() -> None:
    assert run(
        "import sys, tae; print('torch' in sys.modules); tae.create_autoencoder; print('torch' in sys.modules)"
    ) == ("False\nTrue")


def test_config_needs_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import tae.config; print(*(set(sys.modules) - before))"
    foreign = {name.split(".")[0] for name in run(code).split()} - set(sys.stdlib_module_names)
    assert foreign <= {"tae"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_dependencies_point_downwards() -> None:
    for path in (ROOT / "tae").rglob("*.py"):
        names = imported(path)
        assert not {name for name in names if name.split(".")[0] in ("app", "pages", "benchmarks", "tests")}, path
        if path in CORE:
            assert not {name for name in names if name.startswith(("tae.ui", "streamlit"))}, path
        if module_of(path).split(".")[1:2] in (
            ["attention"],
            ["causal"],
            ["plots"],
            ["export"],
            ["metrics"],
            ["images"],
        ):
            assert not names & {"tae.checkpoint", "tae.train"}, path


def forbidden(source: str) -> Iterator[str]:
    """What a source text calls or imports that could run a stranger's data."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in UNPICKLERS:
                yield str(node.module)
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if (node.module, alias.name) == ("torch", "load")
            )
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in RUNNERS or called in ("torch.load", "torch.jit.load", "os.system", "pd.read_pickle"):
                yield called
            for keyword in node.keywords:
                if (
                    called.split(".")[-1] != "write_array"
                    and keyword.arg in ("allow_pickle", "shell")
                    and ast.unparse(keyword.value) != "False"
                ):
                    yield f"{called}({keyword.arg})"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_or_runs_data(path: Path) -> None:
    found = set(forbidden(path.read_text()))
    if path.parent.name == "tests":  # tests write pickles, to see them refused
        found -= {"pickle", "pickletools"}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "eval(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import joblib.numpy_pickle",
    ],
)
def test_what_is_forbidden_would_be_found(source: str) -> None:
    assert list(forbidden(source))


def test_app_s_settings_keep_it_on_this_machine() -> None:
    settings = (ROOT / ".streamlit" / "config.toml").read_text()
    for line in (
        'address = "127.0.0.1"',
        "enableXsrfProtection = true",
        "enableCORS = true",
        "maxUploadSize = 20",
        "gatherUsageStats = false",
        'showErrorDetails = "none"',
        'fileWatcherType = "none"',
    ):
        assert line in settings.splitlines()
