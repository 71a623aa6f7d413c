"""Where the project's own files lie: in its repository, or, where it was installed, in the folder that `tae` is started in."""

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).parents[1]
IS_INSTALLED = not (_PACKAGE.parent / "app.py").is_file()
ROOT = Path.cwd() if IS_INSTALLED else _PACKAGE.parent  # what relative paths of runs and checkpoints start from
APP = _PACKAGE / "_app" if IS_INSTALLED else ROOT  # the folder of app.py, its pages and the demo checkpoints
SHIPPED = ("drops_tiny_201x201_p16", "drops_tiny_1280x152_p32", "drops_tiny_Xx152_p32", "demo_tiny_201x201_p16")
"""The checkpoints that come with the project, the one that the app opens with first."""


def cache_folder() -> Path:
    """Where this machine's own measurements lie, the user's cache unless TAE_CACHE names another; made if need be.

    Raises OSError if it cannot be made.
    """
    folder = Path(os.environ.get("TAE_CACHE") or platformdirs.user_cache_path("tae", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
