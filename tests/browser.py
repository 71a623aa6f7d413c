"""A running app and a real Chromium, for the browser tests and for the README's pictures.

    python -m tests.browser

takes those pictures: `tests/screenshots/*.png`; for one of them it trains for some minutes.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tae import runs
from tae.trainconfig import TrainConfig

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFERED = ("tae_tour", "offered")
"""The cookie of a visitor to whom the tour has been offered."""
PROBES = ("_stcore/health", "_stcore/host-config")
"""Streamlit itself asks for these below each page's own address first, and gets a 404."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running_app(**environment: str) -> Iterator[str]:
    """The app on a free port of this machine, with these environment variables besides; yields its address."""
    port = free_port()
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
    for plot in page.locator('[data-testid="stPlotlyChart"]:visible').all():  # others are on their way out
        plot.locator(".main-svg").first.wait_for(timeout=30_000)
    page.wait_for_timeout(400)  # Plotly paints heatmaps one frame after their frame is there


def main() -> None:
    folder = Path(__file__).parent / "screenshots"
    folder.mkdir(exist_ok=True)
    views = {
        "reconstruct": "/",
        "attention": "/attention?layer=1&query=84&pins=84,61",
        "compare": "/compare",
        "models": "/models",
    }
    with tempfile.TemporaryDirectory() as home:
        shelf = Path(home) / "checkpoints"
        shelf.mkdir()
        for path in (ROOT / "checkpoints").glob("demo_*.safetensors"):
            shutil.copy(path, shelf)
        with running_app(TAE_CHECKPOINTS=str(shelf)) as address, running_browser() as browser:
            for name, path in views.items():
                take(browser, address + path, folder / f"{name}.png")
            out = shelf / "garments_tiny_201x201_p16.safetensors"
            run = runs.start(TrainConfig(steps=200, eval_every=10, log_every=5, threads=1, out=out))
            while (now := runs.read_run(run.folder)).step < 110:
                if not now.is_active:
                    raise RuntimeError(f"the training for the picture is {now.status}: {now.message}")
                time.sleep(1)
            take(browser, f"{address}/train?task=runs", folder / "train.png", height=1150)
            runs.end_now(run)
            while runs.read_run(run.folder).is_active:
                time.sleep(0.2)


def take(browser: Browser, address: str, path: Path, height: int = 900) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": height})
    page.context.add_cookies([{"name": OFFERED[0], "value": OFFERED[1], "url": address}])
    page.goto(address)
    settle(page)
    page.screenshot(path=path)
    page.close()


if __name__ == "__main__":
    main()
