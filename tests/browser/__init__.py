"""A running app and a real Chromium, for the browser tests and for the README's images.

    python -m tests.browser

takes those images: `tests/screenshots/*.png`; for one of them it trains for some minutes.
"""

import base64
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlencode, urlparse

import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Download,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.session.view import DEFAULTS
from tests import ROOT
from tests.pages import DEMO
from tests.served import running_app

expect.set_options(timeout=20_000)  # a machine under load is slow, not wrong
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first draws the same pages with three fifths of the processor time: it has no window, and nothing around the page."""
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium or Chrome is installed"),
]
"""For every file of browser tests."""
OFFERED = ("tae_tour", "offered")
"""The cookie of a visitor to whom the tour has been offered."""
LOOKS = ((1400, "light"), (800, "dark"))
"""Widths of the window in pixels, and themes, in which every page must fit."""
GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 28)"}
HALFWAY = "/models?unread=yes"
"""A page on the way from a page to itself."""
PROBES = ("_stcore/health", "_stcore/host-config")
"""Streamlit itself asks for these below each page's own address first, and gets a 404."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window. All pages of an address are one process's, which has read the app's scripts once."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*arguments, "--process-per-site"])
        try:
            browser.new_context()  # the one that `sessions` shares
            yield browser
        finally:
            browser.close()


def watch(page: Page, address: str, wrong: list[str]) -> None:
    """Note whatever goes wrong on a page."""

    def note_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location.get("url", "").endswith(PROBES):
            wrong.append(f"console: {message.text} {message.location}")

    def note_request(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(f"foreign request: {request.url}")

    def note_dialog(dialog: Dialog) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", note_console)
    page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
    page.on("request", note_request)
    page.on("dialog", note_dialog)


def look_for_traceback(page: Page, wrong: list[str]) -> None:
    if "Traceback" in page.content() or page.get_by_test_id("stException").count():
        wrong.append(f"traceback on {page.url}")


@contextmanager
def sessions(
    browser: Browser, address: str, window_height: int = 900, checkpoint: str = ""
) -> Iterator[Callable[..., Page]]:
    """Opens paths of the app, each in a session of its own; at the end, whatever went wrong on any of the pages fails.

    checkpoint: Shown where a path names none; "": the app's choice.

    Pages share a context, so that a browser reads the app's scripts once; afterwards it is as if nobody had been there. What
    only a context can be told (touch, reduced motion) gets one of its own.
    """
    shared, contexts = browser.contexts[0], []
    wrong: list[str] = []
    if not shared.pages:  # it stays: with the last page of an address its process would end
        shared.new_page().goto(f"{address}/_stcore/health")

    def open_page(
        path: str = "/",
        width: int = 1400,
        height: int = window_height,
        scheme: Literal["light", "dark"] = "light",
        wait: bool = True,
        **settings: Any,
    ) -> Page:
        if settings:
            contexts.append(browser.new_context(**settings))
        page = (contexts[-1] if settings else shared).new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(
            color_scheme=scheme, reduced_motion="reduce"
        )  # a fifth of the processor time goes into fades
        watch(page, address, wrong)
        place, _, query = path.partition("?")
        asked = {"checkpoint": checkpoint, **dict(parse_qsl(query))} if checkpoint else dict(parse_qsl(query))
        page.goto(f"{address}{place}?{urlencode(asked)}")
        if wait:
            settle(page)
        return page

    yield open_page
    for page in [*shared.pages[1:], *(page for context in contexts for page in context.pages)]:
        look_for_traceback(page, wrong)
        page.evaluate("localStorage.clear(), sessionStorage.clear()")
        page.close()
    shared.clear_cookies()
    for context in contexts:
        context.close()
    assert not wrong


AT_REST = """() => document.querySelector('[data-testid="stApp"]')?.getAttribute('data-test-script-state') === 'notRunning'
    && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')
    && [...document.images].every(image => image.complete)"""


def settle(page: Page) -> None:
    """Wait until the page's script has run to its end and what it drew has been painted."""
    page.locator("h1").first.wait_for(timeout=90_000)
    for pause_ms in (150, 50):  # a run that was asked for just now has begun by the second look
        page.wait_for_function(AT_REST, timeout=90_000)
        page.wait_for_timeout(pause_ms)
    for plot in page.locator('[data-testid="stPlotlyChart"]:visible').all():  # others are on their way out
        plot.locator(".main-svg").first.wait_for(timeout=30_000)
    # Plotly paints heatmaps one frame after their frame is there.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def visit(page: Page, path: str) -> None:
    """Another view in the page's session, as by the browser's back button: the app's scripts are not loaded anew.

    Fields of the view that the path leaves out are at their defaults, and widgets at their first values: those of a page die
    when it is left. What else the session remembers stays.
    """
    place, _, query = path.partition("?")
    first = [HALFWAY] if urlparse(page.url).path == place else []
    for address in (
        *first,
        f"{place}?{urlencode({**DEFAULTS, 'checkpoint': DEMO, **dict(parse_qsl(query)), 'unread': 'yes'})}",
    ):
        page.evaluate(
            "address => { history.pushState({}, '', address); dispatchEvent(new PopStateEvent('popstate')); }", address
        )
        page.wait_for_function("!location.search.includes('unread')", timeout=90_000)
        settle(page)


def looks(page: Page) -> Iterator[tuple[int, str]]:
    """The page in each of `LOOKS`, one after the other: what was drawn stays, the window changes around it."""
    for width, scheme in LOOKS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": (page.viewport_size or {"height": 900})["height"]})
        page.wait_for_timeout(300)
        settle(page)
        yield width, scheme


def assert_fits(page: Page, width: int, scheme: str) -> int:
    """Nothing leaves the window, the ground is the theme's, every chart is whole; returns how many charts there are."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.get_by_test_id("stApp").evaluate("node => getComputedStyle(node).backgroundColor")
    assert ground == GROUNDS[scheme]
    charts = page.get_by_test_id("stMain").get_by_test_id("stPlotlyChart").all()
    for chart in charts:
        box = chart.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] > 50
    return len(charts)


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Drag files in: what a browser sends when they are let go over the drop zone."""
    listed = [{"name": name, "data": base64.b64encode(content).decode()} for name, content in files]
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const {name, data} of files) {
                const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name));
            }
            return transfer;
        }""",
        listed,
    )
    zone = page.locator('[data-testid="stFileUploaderDropzone"]')
    expect(zone).to_have_count(1)  # the one that took the last files is on its way out
    arrived: list[str] = []

    def note_upload(response: Response) -> None:
        if response.request.method == "PUT" and "/upload_file/" in response.url:
            arrived.append(response.url)

    page.on("response", note_upload)
    page.evaluate(
        """() => {
            const app = document.querySelector('[data-testid="stApp"]');
            window.hasRun = false;
            new MutationObserver(() => { window.hasRun = true; })
                .observe(app, {attributeFilter: ['data-test-script-state']});
        }"""
    )
    for event in ("dragenter", "dragover", "drop"):
        zone.dispatch_event(event, {"dataTransfer": transfer})
    for _ in range(100):
        if len(arrived) == len(files):
            break
        page.wait_for_timeout(100)
    page.remove_listener("response", note_upload)
    page.wait_for_function("window.hasRun", timeout=30_000)
    settle(page)
    page.wait_for_timeout(500)  # the run that takes the files asks for another, with an empty drop zone
    settle(page)


def saved(page: Page, label: str) -> tuple[str, bytes]:
    """Click a download, the first one of that label; its suggested name and its bytes."""
    with page.expect_download(timeout=90_000) as waiting:
        page.get_by_role("button", name=label).first.click()
    download: Download = waiting.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def link(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


SIZES = ((1400, 900), (1920, 1080), (800, 900), (390, 844))
"""Windows in which the pages' images are taken, in both themes."""


def main() -> None:
    folder = ROOT / "tests" / "screenshots"
    folder.mkdir(exist_ok=True)
    views = {
        "explore": "/?changes=encoder/0/0",
        "causal": "/causal",
        "compare": "/compare",
        "layers": "/layers",
        "latent": "/latent",
        "sequences": "/sequences?sequence=drop-1&frame=9",
        "models": "/models",
        "train": "/train?task=runs",
    }
    taken: dict[str, list[Image.Image]] = {}
    with tempfile.TemporaryDirectory() as home:
        shelf = Path(home) / "checkpoints"
        shutil.copytree(ROOT / "checkpoints", shelf, ignore=shutil.ignore_patterns("runs"))
        with running_app(TAE_CHECKPOINTS=str(shelf)) as address, running_browser() as browser:
            out = shelf / "garments_tiny_201x201_p16.safetensors"
            run = runs.start(TrainConfig(steps=200, eval_every=10, log_every=5, threads=1, out=out))
            while (now := runs.read_run(run.folder)).step < 110:
                if not now.is_active:
                    raise RuntimeError(f"the training for the image is {now.status}: {now.message}")
                time.sleep(1)
            runs.end_now(run)
            while runs.read_run(run.folder).is_active:
                time.sleep(0.2)
            for path in views.values():
                for name, image in take(browser, address + path):
                    taken.setdefault(name, []).append(image)
    taken["1400_light"][0].quantize(256).save(folder / "explore.png", optimize=True)
    for name, images in taken.items():
        contact_sheet(images).quantize(128).save(folder / f"pages_{name}.png", optimize=True)


def contact_sheet(images: Sequence[Image.Image], row_width: int = 2400) -> Image.Image:
    """All pages in one window, as many in a row as there is room for."""
    width, height = images[0].size
    across = 4 if width > height else 8
    shown = (row_width // across, row_width // across * height // width)
    sheet = Image.new(
        "RGB", (across * (shown[0] + 10) + 10, -(-len(images) // across) * (shown[1] + 10) + 10), "#7d8aa5"
    )
    for number, image in enumerate(images):
        row, column = divmod(number, across)
        sheet.paste(image.resize(shown), (10 + column * (shown[0] + 10), 10 + row * (shown[1] + 10)))
    return sheet


def take(browser: Browser, address: str) -> Iterator[tuple[str, Image.Image]]:
    """A page in every window and theme: ("width_theme", its first screen)."""
    page = browser.new_page(viewport={"width": SIZES[0][0], "height": SIZES[0][1]})
    page.context.add_cookies([{"name": OFFERED[0], "value": OFFERED[1], "url": address}])
    page.goto(address)
    settle(page)
    for width, height in SIZES:
        for scheme in GROUNDS:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(400)
            settle(page)
            yield f"{width}_{scheme}", Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
