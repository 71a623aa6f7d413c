"""Charts of pictures and charts beside each other, in a real browser: they suit its window."""

import os

import pytest
from playwright.sync_api import Page

from tests.browser import CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium or Chrome is installed"),
]
WIDE = "checkpoint=demo_tiny_1280x152_p32.safetensors"
ANY_WIDTH = "checkpoint=demo_tiny_Xx152_p32.safetensors"
WIDTHS = (1400, 800)


def drawn(page: Page, key: str) -> dict:
    """Of a chart: the share of its drawing area that its axes take, and how much higher it is than its place on the page."""
    return page.evaluate(
        """key => {
            const place = document.querySelector(`.st-key-${key}`), plot = place.querySelector('.js-plotly-plot');
            const {xaxis, yaxis, height} = plot._fullLayout, share = axis => axis.domain[1] - axis.domain[0];
            return {x: share(xaxis), y: share(yaxis), over: height - place.getBoundingClientRect().height};
        }""",
        key,
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("model", ["", WIDE, ANY_WIDTH], ids=["square", "wide", "any width"])
def test_a_strip_fills_its_chart_and_the_chart_its_place(open_page, model: str, width: int) -> None:
    page = open_page(f"/layers?lens=raw&{model}", width=width)
    for part in ("encoder", "decoder"):
        found = drawn(page, f"layers_strip_{part}")
        assert min(found["x"], found["y"]) > 0.97 and abs(found["over"]) < 2


def test_a_strip_follows_a_window_that_changes(open_page) -> None:
    page = open_page("/layers", width=1400)
    before = page.locator(".st-key-layers_strip_encoder").bounding_box()
    page.set_viewport_size({"width": 800, "height": 900})
    page.wait_for_function("document.querySelector('.st-key-layers_strip_encoder .main-svg').clientWidth < 600")
    page.wait_for_timeout(500)
    after = page.locator(".st-key-layers_strip_encoder").bounding_box()
    assert before and after and after["height"] < 0.7 * before["height"]
    found = drawn(page, "layers_strip_encoder")
    assert min(found["x"], found["y"]) > 0.97 and abs(found["over"]) < 2


@pytest.mark.parametrize("width", WIDTHS)
def test_curves_stand_beside_each_other_only_where_both_have_room(open_page, width: int) -> None:
    page = open_page("/layers", width=width)
    first, second = (
        page.locator(f".st-key-layers_psnr_{part}").bounding_box() or {} for part in ("encoder", "decoder")
    )
    assert first["width"] >= 350 and second["width"] >= 350
    assert (first["y"] == second["y"]) == (width == 1400)
