"""The pages Layers and Latent space as a person uses them, in a real browser: pointer, lasso, sliders, downloads."""

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import MARKS, ROOT, link, saved, settle

pytestmark = MARKS
DEMO = ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors"
PLOT = ".st-key-latent_map .js-plotly-plot"
HOVER = ".tae-hover"  # in a shadow root, which Playwright looks into


@pytest.fixture
def window_height() -> int:
    return 1200


def drawn(page: Page) -> dict[int, tuple[float, float]]:
    """{number: place in the window} of the map's points; on a slow machine, the page asks before it computes them."""
    begin = page.locator("[class*='st-key-work_start'] button")
    if begin.count():
        begin.first.click()
        page.locator(PLOT).wait_for(timeout=240_000)
        settle(page)
    places = page.evaluate(
        """selector => {
            const plot = document.querySelector(selector), corner = plot.getBoundingClientRect();
            const {_size: size, xaxis, yaxis} = plot._fullLayout;
            return plot._fullData.filter(trace => trace.customdata).flatMap(trace => Array.from(trace.customdata, (n, i) =>
                [n, corner.left + xaxis._offset + xaxis.c2p(trace.x[i]), corner.top + yaxis._offset + yaxis.c2p(trace.y[i])]
            ));
        }""",
        PLOT,
    )
    return {int(number): (x, y) for number, x, y in places}


def alone(places: dict[int, tuple[float, float]]) -> int:
    """The number of the test image whose point is farthest from the nearest other one."""
    numbers = [number for number in places if number < 1000]
    spots = np.array([places[number] for number in numbers])
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 1e9 * np.eye(len(spots))
    return numbers[int(apart.min(axis=1).argmax())]


def point_at(page: Page, spot: tuple[float, float]) -> None:
    page.mouse.move(spot[0] - 4, spot[1] - 4)
    page.mouse.move(*spot)


def test_pointer_shows_the_image_of_a_point_and_hides_it(visit) -> None:
    page = visit("/latent?image=noise")
    places = drawn(page)
    number = alone(places)
    expect(page.locator(HOVER)).to_be_hidden()
    point_at(page, places[number])
    expect(page.locator(HOVER)).to_be_visible()
    assert page.locator(HOVER).get_attribute("data-number") == str(number)
    box = page.locator(HOVER).bounding_box()
    assert box and box["width"] >= 64
    shot = Image.open(io.BytesIO(page.locator(HOVER).screenshot())).convert("L")
    assert np.asarray(shot).min() < 120  # a garment, not an empty cell
    page.mouse.move(20, 20)
    expect(page.locator(HOVER)).to_be_hidden()
    point_at(page, places[1000])  # the image of one's own
    expect(page.locator(HOVER)).to_be_visible()
    assert page.locator(HOVER).get_attribute("data-number") == "1000"


def test_click_opens_a_point_and_a_lasso_a_gallery_and_a_table(visit) -> None:
    page = visit("/latent")
    places = drawn(page)
    number = alone(places)
    point_at(page, places[number])
    expect(page.locator(HOVER)).to_be_visible()
    page.mouse.click(*places[number])
    expect(page.get_by_text(re.compile(f"Test image {number}: "))).to_be_visible()
    settle(page)
    assert link(page)["points"] == str(number)
    places = drawn(page)
    spots = np.array(list(places.values()))
    left, top = np.percentile(spots, 40, axis=0) + 0.5
    right, bottom = np.percentile(spots, 60, axis=0) + 0.5
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    expect(page.get_by_text(re.compile(r"\d+ chosen"))).to_be_visible()
    settle(page)
    # A point on the line may count or not: nobody can tell.
    inside, surely = (
        {one for one, (x, y) in places.items() if left - slack < x < right + slack and top - slack < y < bottom + slack}
        for slack in (2, -2)
    )
    page.get_by_role("button", name="Export").click()
    rows = list(csv.DictReader(io.StringIO(saved(page, "Table (CSV)")[1].decode())))
    chosen = {int(row["number"]) for row in rows}
    assert surely <= chosen <= inside and len(chosen) > 10
    assert link(page)["points"] == ",".join(map(str, sorted(chosen)))
    with np.load(io.BytesIO(saved(page, "Latents (NPZ)")[1])) as arrays:
        assert arrays["latents"].shape == (len(rows), 128)
    page.reload()
    settle(page)
    expect(page.get_by_text(f"{len(rows)} chosen")).to_be_visible()
    number = alone(places := drawn(page))
    point_at(page, places[number])
    page.mouse.click(*places[number])
    expect(page.get_by_text(re.compile(f"Test image {number}: "))).to_be_visible()
    settle(page)
    area = page.locator(f"{PLOT} .nsewdrag").first.bounding_box()
    assert area
    page.mouse.dblclick(area["x"] + 2, area["y"] + 2)
    expect(page.get_by_text("Hover for an image")).to_be_visible()
    settle(page)
    assert "points" not in link(page)
