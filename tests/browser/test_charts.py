"""Charts of images and charts beside each other, in a real browser: they suit its window."""

from collections.abc import Mapping

import pytest
from playwright.sync_api import Page

from tests.browser import MARKS

pytestmark = MARKS
WIDE = "checkpoint=drops_tiny_1280x152_p32.safetensors"
ANY_WIDTH = "checkpoint=drops_tiny_Xx152_p32.safetensors"


def drawn(page: Page, key: str) -> dict:
    """The share of a chart's drawing area that its axes take, and how much higher it is than its place on the page.

    Plotly follows its place within some time.
    """
    page.wait_for_function(
        """key => {
            const place = document.querySelector(`.st-key-${key}`), plot = place.querySelector('.js-plotly-plot');
            return Math.abs(plot._fullLayout.height - place.getBoundingClientRect().height) < 2;
        }""",
        arg=key,
    )
    return page.evaluate(
        """key => {
            const place = document.querySelector(`.st-key-${key}`), plot = place.querySelector('.js-plotly-plot');
            const {xaxis, yaxis, height} = plot._fullLayout, share = axis => axis.domain[1] - axis.domain[0];
            return {x: share(xaxis), y: share(yaxis), over: height - place.getBoundingClientRect().height};
        }""",
        key,
    )


@pytest.mark.parametrize("model", ["", WIDE, ANY_WIDTH], ids=["square", "wide", "any width"])
def test_strips_and_curves_suit_the_window_also_when_it_changes(visit, model: str) -> None:
    page = visit(f"/layers?lens=raw&{model}")
    heights = []
    for width in (1400, 800):
        page.set_viewport_size({"width": width, "height": 900})
        wide = "document.querySelector('.st-key-layers_strip_encoder .main-svg').clientWidth > 600"
        page.wait_for_function(f"({wide}) === {str(width == 1400).lower()}")
        page.wait_for_timeout(500)
        for part in ("encoder", "decoder"):
            found = drawn(page, f"layers_strip_{part}")
            assert min(found["x"], found["y"]) > 0.97 and abs(found["over"]) < 2
        heights.append(box_of(page, "layers_strip_encoder")["height"])
        first, second = (box_of(page, f"layers_psnr_{part}") for part in ("encoder", "decoder"))
        assert first["width"] >= 350 and second["width"] >= 350
        assert (first["y"] == second["y"]) == (width == 1400)
    assert heights[1] < 0.8 * heights[0]


def test_charts_of_the_ranking_stand_beside_each_other_only_where_both_have_room(visit) -> None:
    page = visit("/causal?causal=ranking")
    for width in (1400, 800):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        bars, points = (box_of(page, f"causal_{one}") for one in ("damage", "sharpness"))
        assert bars["width"] >= 350 and points["width"] >= 350
        assert (bars["x"] < points["x"]) == (width == 1400)


def test_maps_of_patches_leave_no_bands(visit) -> None:
    page = visit("/causal?causal=effect")
    for width in (1400, 800):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        assert abs(drawn(page, "causal_effect")["over"]) < 2
        panels = page.locator(".st-key-causal_effect .js-plotly-plot").evaluate(
            "plot => Object.entries(plot._fullLayout).filter(([key]) => /^[xy]axis/.test(key))"
            ".map(([, axis]) => [axis.domain[1] - axis.domain[0], axis._length])"
        )
        sides = [length for _, length in panels]
        assert max(sides) < 1.05 * min(sides)  # a square image fills a square


def test_maps_fill_the_screen_where_that_is_asked_and_come_back(visit) -> None:
    page = visit("/causal?causal=effect")
    chart = page.locator(".st-key-causal_effect")
    before = box_of(page, "causal_effect")["height"]
    chart.locator(".stPlotlyChart").hover()
    chart.get_by_role("button", name="Fullscreen").click()
    page.wait_for_timeout(800)
    drawn_height = chart.locator(".main-svg").first.bounding_box() or {}
    place = chart.locator(".stPlotlyChart").bounding_box() or {}
    assert 800 < place["height"] <= 900 and abs(place["height"] - drawn_height["height"]) < 30
    chart.get_by_role("button", name="Close fullscreen").click()
    page.wait_for_timeout(800)
    assert abs(box_of(page, "causal_effect")["height"] - before) < 2 and abs(drawn(page, "causal_effect")["over"]) < 2


def box_of(page: Page, key: str) -> Mapping[str, float]:
    return page.locator(f".st-key-{key}").bounding_box() or {}  # type: ignore[return-value]
