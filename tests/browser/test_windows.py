"""A long strip dropped on the page Reconstruct, in a real browser: seen at its own size, scrolled by keys, taken along."""

import numpy as np
from playwright.sync_api import Page, expect

from tae.data.encode import encode_png
from tests.browser import MARKS, drop, looks, settle
from tests.strips import long_strip

pytestmark = MARKS
ANY_WIDTH = "drops_tiny_Xx152_p32.safetensors"
WIDTH = 10_000
RECON = "Reconstruction, window by window (65 latents)"


def with_strip(page: Page, width: int = WIDTH) -> np.ndarray:
    strip = long_strip(width, 3)
    drop(page, ("long strip.png", encode_png(strip)))
    expect(page.get_by_role("region", name="The strip")).to_be_visible(timeout=60_000)
    settle(page)
    return strip


def shown_sizes(page: Page) -> list[tuple[int, int, int]]:
    """(pixels in the file, pixels on the screen, height on the screen) of each image of the strip."""
    sizes = page.locator(".tae-strip img").evaluate_all(
        "all => all.map(one => [one.naturalWidth, one.clientWidth, one.clientHeight])"
    )
    return [(file, screen, height) for file, screen, height in sizes]


def test_a_strip_of_10000_pixels_is_seen_at_its_own_size_and_scrolled_by_keys(open_page) -> None:
    page = open_page(f"/?checkpoint={ANY_WIDTH}")
    with_strip(page)
    assert shown_sizes(page) == [(8192, 8192, 152), (WIDTH - 8192, WIDTH - 8192, 152)] * 3
    region = page.get_by_role("region", name="The strip")
    for width, _ in looks(page):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert region.evaluate("node => node.scrollWidth") == WIDTH
        last = region.get_by_text(f"65: {WIDTH - 304}–{WIDTH} px")
        expect(last).not_to_be_in_viewport()
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.tae-strip').scrollLeft == 80")
        page.keyboard.press("End")
        expect(last).to_be_in_viewport()
        title = region.get_by_text(RECON)
        expect(title).to_be_in_viewport(ratio=1)  # the titles stay where the eye is
        # The ruler's last window ends where the image ends.
        ends = [
            box["x"] + box["width"]
            for box in (last.bounding_box(), page.locator(".tae-strip .row").first.bounding_box())
            if box
        ]
        assert len(ends) == 2 and abs(ends[0] - ends[1]) <= 1
        page.keyboard.press("PageUp")
        expect(last).not_to_be_in_viewport(ratio=1)
        page.keyboard.press("Home")
        expect(region.get_by_text("1: 0–304 px")).to_be_in_viewport(ratio=1)
