"""The pages of measured figures show what the commands make of the committed figures."""

import json
from importlib import import_module

import pytest

from benchmarks import RESULTS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_every_table_is_that_of_its_figures(name: str) -> None:
    lines = import_module(f"benchmarks.{name}").table(json.loads((RESULTS / f"{name}.json").read_text()))
    assert (RESULTS / f"{name}.md").read_text().startswith("\n".join([*lines, "", "Command: `python -m benchmarks."]))
    for row in (line for line in lines if line.startswith("|")):
        assert row.endswith(" |") and "nan" not in row
