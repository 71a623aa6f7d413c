"""The components that run in the browser: each is a folder with a script and a style sheet of its name, no build step.

Before both stands what all have alike: `component.js`, `component.css`.
"""

from pathlib import Path

_SHARED = Path(__file__)


def read_script(name: str) -> str:
    """A component as a JavaScript module; its default export mounts it."""
    return _read(name, ".js")


def read_style(name: str) -> str:
    """Its style sheet; every rule is about the component and what is inside."""
    return _read(name, ".css")


def _read(name: str, ending: str) -> str:
    folder = _SHARED.with_name(name)
    parts = sorted(
        folder.glob(f"*{ending}"), key=lambda part: part.stem == name
    )  # what the component mounts comes last
    return "".join(part.read_text(encoding="utf-8") for part in (_SHARED.with_suffix(ending), *parts))
