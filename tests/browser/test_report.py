"""The report and the notebook's frame in a real browser: opened from a file, nothing fetched, and the explorer answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Frame, Locator, Page, expect

import tae
from tae import load_checkpoint
from tae.analysis.maps import MapChoice
from tae.data.demo import compose_square
from tae.data.fit import Fitted
from tae.store.checkpoint import Loaded
from tae.web.notebook import Shown
from tae.web.report import ReportImage, ReportMap, report
from tests import ROOT
from tests.browser import MARKS
from tests.strips import long_strip

pytestmark = MARKS
CHECKPOINTS = ROOT / "checkpoints"
HOSTILE = "</script><img src=x onerror=alert(1)> <b>boots</b>.png"


@pytest.fixture(scope="module")
def square() -> Loaded:
    return load_checkpoint(CHECKPOINTS / "demo_tiny_201x201_p16.safetensors")


@pytest.fixture(scope="module")
def on_boots(square: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two images, which opens with layer 1."""
    images = [
        ReportImage(title=title, fitted=Fitted((compose_square("test", index) / 255).astype(np.float32), ()))
        for title, index in ((HOSTILE, 39), ("bag.png", 2))
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(report(square, images, ReportMap(choice=MapChoice(layer="1"), query=84)))
    return path


def ready(page: Page | Frame, number: int = 0) -> Locator:
    """The explorer of this number, once it has painted."""
    found = page.locator(".tae-explorer").nth(number)
    expect(found).to_have_attribute("data-state", "ready")
    return found


def hover(explorer: Locator, row: int, column: int, patch: int = 16, size: tuple[int, int] = (201, 201)) -> None:
    """Move the pointer to the middle of a patch."""
    canvas = explorer.locator(".tae-main .tae-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    y, x = (row + 0.5) * patch / size[0] * box["height"], (column + 0.5) * patch / size[1] * box["width"]
    canvas.hover(position={"x": x, "y": y})


def test_the_explorers_of_a_report_answer_the_pointer(open_file, on_boots: Path, square: Loaded) -> None:
    page = open_file(on_boots)
    first, second = ready(page), ready(page, 1)
    expect(first).to_have_attribute("data-map", "encoder/1/mean")
    expect(first).to_have_attribute("data-query", "84")
    hover(first, 5, 8)
    expect(first).to_have_attribute("data-query", str(5 * 13 + 8))
    expect(second).to_have_attribute("data-query", "84")
    pixels = (compose_square("test", 39) / 255).astype(np.float32)
    maps = square.model.get_attention_maps(torch.from_numpy(pixels)[None, None])
    weights = maps["layer_1"][0, 5 * 13 + 8].numpy()
    strongest = int(weights.argmax())
    readout = first.get_attribute("data-readout") or ""
    assert f"strongest key patch {strongest} (row {strongest // 13}, column {strongest % 13})" in readout
    assert f"{weights[strongest] * 169:.3g} x uniform" in readout
    hover(second, 0, 0)
    expect(second).to_have_attribute("data-query", "0")
    page.keyboard.down("Shift")
    second.get_by_role("button", name="Decoder").click()
    page.keyboard.up("Shift")
    expect(second).to_have_attribute("data-map", "decoder/1/mean")
    expect(first).to_have_attribute("data-map", "encoder/1/mean")


def test_a_report_fits_its_window_and_the_reader_s_colours(open_file, on_boots: Path) -> None:
    page = open_file(on_boots)
    ready(page)
    for width, scheme in ((1400, "light"), (800, "dark"), (400, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 28)"}[scheme]
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    expect(page.get_by_role("heading", level=2, name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name="bag.png").click()
    expect(page.get_by_role("heading", level=2, name="bag.png")).to_be_in_viewport()


def test_a_report_without_scripts_still_shows_its_figures(open_file, on_boots: Path) -> None:
    page = open_file(on_boots, java_script_enabled=False)
    expect(page.locator(".tae-explorer")).to_have_count(0)
    for name in ("The image with the weights of patch 84", "Attention map, rows query", "of the decoder"):
        expect(page.get_by_role("img", name=name).first).to_be_visible()


def test_a_report_prints(open_file, on_boots: Path) -> None:
    page = open_file(on_boots, scheme="dark")
    explorer = ready(page)
    page.emulate_media(media="print")
    expect(explorer.locator(".tae-toolbar")).to_be_hidden()
    expect(page.get_by_role("img", name="Attention map, rows query").first).to_be_visible()
    assert page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")


def notebook(tmp_path: Path, shown: Shown, charset: str = "utf-8") -> Path:
    """What a notebook does: the HTML of a cell inside its own page, whose style and scripts are its own."""
    path = tmp_path / "notebook.html"
    style = "<style>canvas, button, p { display: none !important }</style>"
    path.write_text(f'<!doctype html><meta charset="{charset}">{style}<div>{shown._repr_html_()}</div>')
    return path


@pytest.mark.parametrize("charset", ["utf-8", "windows-1252"])
def test_the_frame_of_a_notebook_answers_the_pointer(open_file, tmp_path: Path, square: Loaded, charset: str) -> None:
    shown = tae.show(square, compose_square("test", 39), layer=2, head=1, query=0)
    page = open_file(notebook(tmp_path, shown, charset), width=900)
    frame = page.frames[1]
    explorer = ready(frame)
    expect(explorer).to_have_attribute("data-map", "encoder/2/1")
    hover(explorer, 6, 6)
    expect(explorer).to_have_attribute("data-query", "84")
    # Alone in its frame: it can read nothing of the notebook.
    assert frame.evaluate("window.origin") == "null"
    height = frame.evaluate("document.documentElement.scrollHeight")
    assert height <= shown.height, "the frame needs no scroll bar"


def test_a_wide_image_fits_the_frame(open_file, tmp_path: Path) -> None:
    loaded = load_checkpoint(CHECKPOINTS / "drops_tiny_1280x152_p32.safetensors")
    shown = tae.show(loaded, long_strip(1280, 2))
    page = open_file(notebook(tmp_path, shown), width=900)
    frame = page.frames[1]
    hover(ready(frame), 2, 30, 32, (152, 1280))
    expect(ready(frame)).to_have_attribute("data-query", "110")
    assert frame.evaluate("document.documentElement.scrollWidth") <= 900
