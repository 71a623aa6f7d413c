"""A running app and a real Chromium, for the browser tests and for the README's pictures.

    python -m tests.browser

takes those pictures: `tests/screenshots/*.png`.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBES = ("_stcore/health", "_stcore/host-config")
"""Streamlit itself asks for these below each page's own address first, and gets a 404."""


@contextmanager
def running_app(**environment: str) -> Iterator[str]:
    """The app on a free port of this machine, with these environment variables besides; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
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
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def settle(page: Page) -> None:
    """Wait until the page's script has run to its end and what it drew has been painted."""
    page.locator("h1").first.wait_for(timeout=90_000)
    page.wait_for_function(
        """() => document.querySelector('[data-testid="stApp"]')?.getAttribute('data-test-script-state') === 'notRunning'
            && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')
            && [...document.images].every(image => image.complete)""",
        timeout=90_000,
    )
    for plot in page.locator('[data-testid="stPlotlyChart"]').all():
        plot.locator(".main-svg").first.wait_for(timeout=30_000)
    page.wait_for_timeout(400)  # Plotly paints heatmaps one frame after their frame is there


def main() -> None:
    folder = Path(__file__).parent / "screenshots"
    folder.mkdir(exist_ok=True)
    views = {"reconstruct": "/", "attention": "/attention?layer=layer_1&query=84", "models": "/models"}
    with running_app() as address, running_browser() as browser:
        for name, path in views.items():
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(address + path)
            settle(page)
            page.screenshot(path=folder / f"{name}.png")
            page.close()


if __name__ == "__main__":
    main()
