"""The player of sequences: frames of several rows side by side, and all of them as a film strip. Plain JavaScript.

`payload` makes what it shows; `script` and `style` are what the app mounts (`tae.ui.player`).
"""

from pathlib import Path

from tae.component import read_script, read_style

_FOLDER = Path(__file__).parent


def script() -> str:
    """The component as a JavaScript module; its default export mounts it."""
    return read_script(_FOLDER / "player.js")


def style() -> str:
    """Its style sheet; every rule is about the component and what is inside."""
    return read_style(_FOLDER / "player.css")
