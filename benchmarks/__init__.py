"""Runnable comparisons; each module's first lines show its command, `benchmarks/results/` what it printed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def grid(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table as lines of Markdown."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (header, ["---"] * len(header), *rows)]


def text_of(lines: Sequence[str], command: str) -> str:
    """What stands in a result's `.md`."""
    return "\n".join([*lines, "", f"Command: `{command}`", ""])


def keep(name: str, result: Any, lines: Sequence[str], folder: Path = RESULTS, command: str = "") -> None:
    """Write a result as `name.json` and its tables, lines of Markdown, as `name.md`, and print these."""
    text = text_of(lines, command or f"python -m benchmarks.{name}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
