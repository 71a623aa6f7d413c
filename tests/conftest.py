"""Shared by all tests: one thread, a fixed seed, and small models none of whose weights has a special value."""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.served import running_app

os.environ["OMP_NUM_THREADS"] = "1"  # read by PyTorch, which the process that shares out the tests never imports
if "PYTEST_XDIST_WORKER" not in os.environ:  # one for all workers, and not the user's own
    _cache = tempfile.TemporaryDirectory(prefix="tae-cache-")
    os.environ["TAE_CACHE"] = _cache.name
settings.register_profile("tae", deadline=None, max_examples=50)  # how long a test takes is no claim of it
settings.load_profile("tae")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from torch import nn

    from tae import TransformerAutoencoder

OWN_PAGES = ("test_explorer.py", "test_player.py", "test_report.py", "test_train.py")
"""Browser tests of other pages than the app's, or of an app of their own."""
SMALL = {
    "input_size": (24, 32),
    "patch_size": 8,
    "latent_dim": 16,
    "num_heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
}


class Sharing(LoadScopeScheduling):
    """A file's tests share what they make, so they go to one worker, and so do all that open the app that `address` names.

    In one browser: its first pages take three times as long as those that follow.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "the app" if file.startswith("tests/browser/") and not file.endswith(OWN_PAGES) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: at the end, all would wait for one of them. Whatever opens a page is slow."""
    for item in items:
        if item.path.parent.name == "pages":
            item.add_marker(pytest.mark.slow)

    def place(item: pytest.Item) -> int:
        return next((number for number, mark in enumerate(("browser", "slow")) if item.get_closest_marker(mark)), 2)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """No garbage collection looks through what imports left."""
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """One browser for all files: Playwright runs once in a process."""
    from tests.browser import running_browser

    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """One app for all files."""
    with running_app() as address:
        yield address


@pytest.fixture
def window_height() -> int:
    """Of the browser's window, in pixels, where a test says nothing else."""
    return 900


@pytest.fixture
def open_page(address: str, browser: "Browser", window_height: int) -> "Iterator[Callable[..., Page]]":
    """Opens a path of the app in a session of its own; at the end, whatever went wrong on any of the pages fails."""
    from tests.browser import sessions
    from tests.pages import DEMO

    with sessions(browser, address, window_height, DEMO) as open_one:
        yield open_one


@pytest.fixture(scope="session")
def warm_page(address: str, browser: "Browser") -> "Iterator[tuple[Page, list[str]]]":
    """A page of the app that stays open, and what has gone wrong on it."""
    from tests.browser import settle, watch

    context = browser.new_context(reduced_motion="reduce")
    page, wrong = context.new_page(), []
    watch(page, address, wrong)
    page.goto(address)
    settle(page)
    yield page, wrong
    context.close()


@pytest.fixture
def visit(warm_page: "tuple[Page, list[str]]", window_height: int) -> "Iterator[Callable[..., Page]]":
    """Shows a path of the app in a session that goes on, in a third of the time of `open_page`.

    For tests that leave nothing in the session but a view: no image or model of their own, nothing opened on demand.
    """
    from tests import browser

    page, wrong = warm_page
    wrong.clear()

    def show(path: str, width: int = 1400, height: int = window_height, scheme: str = "light") -> "Page":
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        browser.visit(page, path)
        return page

    yield show
    page.mouse.move(0, 0)
    browser.look_for_traceback(page, wrong)
    assert not wrong


@pytest.fixture
def scramble() -> "Callable[[nn.Module], nn.Module]":
    """Moves every parameter: after initialisation many are 0 or 1, and what they do would not show."""

    import torch

    @torch.no_grad()
    def move(module: "nn.Module") -> "nn.Module":
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        return module

    return move


@pytest.fixture
def small_model(scramble: "Callable[[nn.Module], nn.Module]") -> "Callable[..., TransformerAutoencoder]":
    """Builds a scrambled model in float64, in eval mode; fields replace those of `SMALL`."""
    from tae import create_autoencoder

    def build(**fields: object) -> "TransformerAutoencoder":
        model = create_autoencoder(**{"preset": None, **SMALL, **fields})  # type: ignore[arg-type]
        scramble(model.double().eval())
        return model

    return build
