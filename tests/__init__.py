"""Tests of tae: claims about what it does, each of which could fail."""

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# No test pulls the plug: to wait until a disk has what was written shows nothing, and beside a browser takes minutes.
os.fsync = lambda handle: None


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it comes to, in a thread of its own: in that of the tests runs Playwright's loop, once a test had a browser."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
