"""Tests of tae: claims about what it does, each of which could fail."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent

# No test pulls the plug: to wait until a disk has what was written shows nothing, and beside a browser takes minutes.
os.fsync = lambda handle: None
