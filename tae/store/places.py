"""Where the project's own files lie: in its repository, or, where it was installed, in the folder that `tae` is started in."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
IS_INSTALLED = not (_PACKAGE.parent / "app.py").is_file()
ROOT = Path.cwd() if IS_INSTALLED else _PACKAGE.parent
"""What relative paths of runs and checkpoints start from."""
APP = _PACKAGE / "_app" if IS_INSTALLED else ROOT
"""The folder of app.py, its pages and the demo checkpoints."""
