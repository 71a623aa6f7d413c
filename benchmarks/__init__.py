"""Runnable comparisons; each module's first lines show its command, `benchmarks/results/` what it printed."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def keep(name: str, result: Any, text: str, folder: Path = RESULTS) -> None:
    """Write a result as `name.json` and its tables as `name.md`, and print these."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
