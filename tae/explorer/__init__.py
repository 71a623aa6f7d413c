"""The attention explorer: follow attention with the pointer. One component in plain JavaScript, for the app and for files.

`payload` makes what it shows, `standalone` puts it into a page of its own; `script` and `style` are what the app mounts.
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def script() -> str:
    """The component as a JavaScript module; its default export mounts it."""
    return (_FOLDER / "explorer.js").read_text(encoding="utf-8")


def style() -> str:
    """Its style sheet; every rule is about `.tae-explorer` and what is inside."""
    return (_FOLDER / "explorer.css").read_text(encoding="utf-8")
