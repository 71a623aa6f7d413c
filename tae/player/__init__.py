"""The player of sequences: frames of several rows side by side, and all of them as a film strip. Plain JavaScript.

`payload` makes what it shows; `script` and `style` are what the app mounts (`tae.ui.player`).
"""

from pathlib import Path

_FOLDER = Path(__file__).parent


def script() -> str:
    """The component as a JavaScript module; its default export mounts it."""
    return (_FOLDER / "player.js").read_text(encoding="utf-8")


def style() -> str:
    """Its style sheet; every rule is about `.tae-player` and what is inside."""
    return (_FOLDER / "player.css").read_text(encoding="utf-8")
