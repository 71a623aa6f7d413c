"""The components that run in the browser: each is a folder with one JavaScript file and one style sheet, no build step.

Before both stands what all have alike: `component.js`, `component.css`.
"""

from pathlib import Path

_SHARED = Path(__file__)


def read_script(name: str) -> str:
    """A component (explorer, player, patches, hover) as a JavaScript module; its default export mounts it."""
    return _read(name, ".js")


def read_style(name: str) -> str:
    """Its style sheet; every rule is about the component and what is inside."""
    return _read(name, ".css")


def _read(name: str, ending: str) -> str:
    own = _SHARED.with_name(name) / f"{name}{ending}"
    return _SHARED.with_suffix(ending).read_text(encoding="utf-8") + own.read_text(encoding="utf-8")
