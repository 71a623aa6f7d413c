"""The app on a free port of this machine, for the browser tests, the benchmarks and the README's images."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests import ROOT


@contextmanager
def running_app(script: str = "app.py", **environment: str) -> Iterator[str]:
    """The app, or another script, on a free port of this machine, with these environment variables besides; its address."""
    with running_server(script, **environment) as (address, _):
        yield address


@contextmanager
def running_server(script: str = "app.py", **environment: str) -> Iterator[tuple[str, int]]:
    """The same; its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless=true", f"--server.port={port}"]
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError(f"the app ended with code {server.returncode}; command: {' '.join(command)}")
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait()
