"""Open the pages in a browser; options are those of `streamlit run`, and --log-level debug, info, warning or error.

    tae app
    tae app --server.port 8600 --server.headless true --log-level warning

For colleagues: `.github/SERVING.md`.

Checkpoints and runs lie in the folder `checkpoints`: the repository's, or, where the package was installed, that of the
folder in which the command is started; where there is none, it is made, with the demo checkpoints.
"""

import logging
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tae.cli import door
from tae.store.places import APP, IS_INSTALLED, ROOT

LEVELS = ("debug", "info", "warning", "error")
MODES = {
    "local": "everything, for the user of this machine",
    "shared": "no folder can be typed, nothing trained, stopped or deleted",
    "lab": "as shared, but who is logged in may train",
}
"""What TAE_MODE may be."""


@door("stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    if "--log-level" in words:
        place = words.index("--log-level")
        os.environ["TAE_LOG_LEVEL"] = chosen("--log-level", "".join(words[place + 1 : place + 2]), LEVELS)
        del words[place : place + 2]
    if named := os.environ.get("TAE_MODE"):
        chosen("TAE_MODE", named, MODES)
    folder = ROOT / "checkpoints"
    if IS_INSTALLED and not folder.exists() and not os.environ.get("TAE_CHECKPOINTS"):
        shutil.copytree(APP / "checkpoints", folder)
        print(f"the demo checkpoints lie in {folder}", flush=True)
    from streamlit.web import cli as streamlit

    streamlit.main(["run", str(APP / "app.py"), *words], prog_name="streamlit", standalone_mode=False)
    return 0


def chosen(what: str, word: str, words: Collection[str]) -> str:
    """A word that must be one of some. Raises ValueError if it is not."""
    if word not in words:
        raise ValueError(f"{what} must be one of {', '.join(words)}, got {word or 'nothing'}")
    return word


class Guarded:
    """Middleware: headers that keep other sites from framing a page, and no metrics for others than this machine's user."""

    HEADERS = {
        b"x-frame-options": b"SAMEORIGIN",
        b"x-content-type-options": b"nosniff",
        b"referrer-policy": b"same-origin",
        b"content-security-policy": b"frame-ancestors 'self'; object-src 'none'; base-uri 'self'",
    }

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def send_guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told = {name.lower() for name, _ in message["headers"]}  # a name may come twice, as of cookies
                own = [(name, value) for name, value in self.HEADERS.items() if name not in told]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        if scope["type"] == "http" and is_for_others() and scope["path"].endswith("/_stcore/metrics"):
            await send_guarded({"type": "http.response.start", "status": 404, "headers": []})
            await send_guarded({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send_guarded)


def is_for_others() -> bool:
    """Whether the app serves others than the user of this machine."""
    return (os.environ.get("TAE_MODE") or "local") != "local"


def say_error(error: Exception) -> None:
    """A page met what it did not expect: a line that names the session, beside Streamlit's traceback."""
    logging.getLogger(__name__).error("%s on a page, see the traceback", type(error).__name__)


def routes() -> list[Any]:
    """What the server hands out before Streamlit's own: the page that a browser gets first, at every page's address."""
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Route
    from streamlit import config, file_util

    from tae.web.first import first_pages

    pages = first_pages(Path(file_util.get_static_dir()))

    async def answer(request: Request) -> HTMLResponse:
        return HTMLResponse(pages[request.url.path.rpartition("/")[2]], headers={"Cache-Control": "no-cache"})

    base = config.get_option("server.baseUrlPath").strip("/")
    start = f"/{base}" if base else ""
    return [Route(f"{start}/{address}", answer) for address in pages]


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """What the server does once it stands: import what the first page needs, and open a browser unless it shall not."""
    from streamlit import cli_util, config
    from streamlit.web.server import server_util

    threading.Thread(target=import_ahead, daemon=True).start()
    if not config.get_option("server.headless"):
        cli_util.open_browser(server_util.get_url(config.get_option("server.address") or "localhost"))
    yield


def import_ahead() -> None:
    """Import PyTorch and the page Explore, which takes seconds, while the first visitor's browser still starts."""
    for module in ("tae.store.checkpoint", "tae.ui.explore.page"):
        import_module(module)


if __name__ == "__main__":
    sys.exit(main())
