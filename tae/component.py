"""What the components in the browser share: each is one JavaScript file and one style sheet, without a build step.

Before both stands what all have alike: `component.js`, `component.css`.
"""

from pathlib import Path

_SHARED = Path(__file__)


def read_script(path: Path) -> str:
    """A component as a JavaScript module; its default export mounts it."""
    return _read(_SHARED.with_suffix(".js")) + _read(path)


def read_style(path: Path) -> str:
    """Its style sheet."""
    return _read(_SHARED.with_suffix(".css")) + _read(path)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
