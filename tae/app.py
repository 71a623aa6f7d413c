"""Open the pages in a browser; options are those of `streamlit run`.

    tae app
    tae app --server.port 8600 --server.headless true

Checkpoints and runs lie in the folder `checkpoints`: the repository's, or, where the package was installed, that of the
folder in which the command is started; where there is none, it is made, with the demo checkpoints.
"""

import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tae.cli import door
from tae.store.places import APP, IS_INSTALLED, ROOT


@door("stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    folder = ROOT / "checkpoints"
    if IS_INSTALLED and not folder.exists() and not os.environ.get("TAE_CHECKPOINTS"):
        shutil.copytree(APP / "checkpoints", folder)
        print(f"the demo checkpoints lie in {folder}", flush=True)
    from streamlit.web import cli as streamlit

    words = sys.argv[1:] if arguments is None else arguments
    streamlit.main(["run", str(APP / "app.py"), *words], prog_name="streamlit", standalone_mode=False)
    return 0


def routes() -> list[Any]:
    """What the server hands out before Streamlit's own: the page that a browser gets first, at every page's address."""
    from starlette.convertors import StringConvertor, register_url_convertor
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Route
    from streamlit import config, file_util

    from tae.web.first import first_pages

    class Address(StringConvertor):
        """A name without a dot: those of files have one."""

        regex = "[^/.]+"

    register_url_convertor("address", Address())
    pages = first_pages(Path(file_util.get_static_dir()))

    async def answer(request: Request) -> HTMLResponse:
        address = request.path_params.get("address", "")
        return HTMLResponse(pages.get(address, pages[""]), headers={"Cache-Control": "no-cache"})

    base = config.get_option("server.baseUrlPath").strip("/")
    start = f"/{base}" if base else ""
    return [Route(f"{start}/", answer), Route(f"{start}/{{address:address}}", answer)]


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
