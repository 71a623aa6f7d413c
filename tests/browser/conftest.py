"""Pages from files, for tests of what needs no server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request


@pytest.fixture
def open_file(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file; at the end, whatever was asked for beyond it, or went wrong, fails."""
    contexts: list[BrowserContext] = []
    wrong = []

    def open_one(path: Path, width: int = 1400, height: int = 900, scheme: str = "light", **options: object) -> Page:
        def note_request(request: Request) -> None:
            if not request.url.startswith(("data:", "about:srcdoc")) and request.url != path.as_uri():
                wrong.append(f"request: {request.url}")

        window = {"width": width, "height": height}
        context = browser.new_context(viewport=window, color_scheme=scheme, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", note_request)
        page.goto(path.as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not wrong
