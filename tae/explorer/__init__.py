"""The attention explorer: follow attention with the pointer. One component in plain JavaScript, for the app and for files.

`payload` makes what it shows, `standalone` puts it into a page of its own; `script` and `style` are what the app mounts.
"""

from pathlib import Path

from tae.component import read_script, read_style

_FOLDER = Path(__file__).parent


def script() -> str:
    """The component as a JavaScript module; its default export mounts it."""
    return read_script(_FOLDER / "explorer.js")


def style() -> str:
    """Its style sheet; every rule is about the component and what is inside."""
    return read_style(_FOLDER / "explorer.css")
