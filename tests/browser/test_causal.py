"""The page Does it matter? as a person uses it, in a real browser: toggles, a drawn box, stop, downloads, the link."""

import io
import re
from contextlib import suppress
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser import MARKS, link, saved, settle

pytestmark = MARKS


@pytest.fixture
def window_height() -> int:
    return 1200


def figure(page: Page) -> Locator:
    """The PSNR of what is changed; above it stand the page's three figures."""
    return page.locator(".st-key-causal_outcome").get_by_test_id("stMetricValue").first


def psnr(page: Page) -> str:
    return figure(page).inner_text()


def press(page: Page, label: str, field: str) -> None:
    """Choose one of several, and wait until the link holds it: field=value."""
    page.get_by_role("radio", name=label, exact=True).click()
    page.wait_for_url(f"**{field}*")
    settle(page)


def test_a_head_is_toggled_undone_and_restored_by_the_link(visit, open_page) -> None:
    page = visit("/causal?causal=knock")
    before = psnr(page)
    page.get_by_role("button", name=re.compile(r"^2(:|$)")).first.click()
    page.wait_for_url("**changes=encoder%2F0%2F2*")
    expect(figure(page)).not_to_have_text(before)
    settle(page)
    page.get_by_role("slider", name="Undisturbed, left of the line").press("ArrowRight")
    after = page.get_by_alt_text("Reconstruction with the changes")
    expect(after).to_have_css("clip-path", "inset(0px 0px 0px 51%)")
    out = psnr(page)
    other = open_page("/causal?" + urlparse(page.url).query)
    assert psnr(other) == out and link(other) == link(page)
    page.get_by_role("button", name="Undo").click()
    expect(figure(page)).to_have_text(before)
    page.get_by_role("radio", name="Zero").click()
    page.wait_for_url("**baseline=zero*")
    expect(page.get_by_test_id("stMain")).to_contain_text("replaced by zero")


def test_a_box_drawn_on_the_reconstruction_is_asked(visit) -> None:
    page = visit("/causal?causal=region")
    area = page.get_by_test_id("stPlotlyChart").first.locator(".nsewdrag").first.bounding_box()
    assert area
    side = min(area["width"], area["height"])
    page.mouse.move(area["x"] + 0.2 * side, area["y"] + 0.3 * side)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.5 * side, area["y"] + 0.6 * side, steps=6)
    page.mouse.up()
    page.wait_for_url("**box=*")
    settle(page)
    rows, columns = link(page)["box"].split("x")
    top, bottom = map(int, rows.split("-"))
    left, right = map(int, columns.split("-"))
    assert abs(top - 60) < 6 and abs(bottom - 121) < 6 and abs(left - 40) < 6 and abs(right - 101) < 6
    expect(page.get_by_test_id("stMain")).to_contain_text(f"rows {top} to {bottom - 1}")
    press(page, "The background's grey", "cover=background")
    page.get_by_role("button", name="Export").click()
    arrays = np.load(io.BytesIO(saved(page, "Box and maps (NPZ)")[1]))
    assert arrays["box"].tolist() == [top, left, bottom, right] and arrays["occlusion"].shape == (169,)
    assert "the background's grey" in str(arrays["caption"])


def test_a_cell_that_is_clicked_is_put_in(visit) -> None:
    page = visit("/causal?causal=pair&image=garment-30&other=garment-84")
    table = page.locator(".st-key-causal_cells .nsewdrag").first
    table.scroll_into_view_if_needed()
    settle(page)
    area = table.bounding_box()
    assert area
    page.mouse.click(area["x"] + 2.5 / 6 * area["width"], area["y"] + 3.5 / 6 * area["height"])
    page.wait_for_url("**cell=decoder%2F0%2F2*")
    settle(page)
    expect(page.get_by_test_id("stMain")).to_contain_text("Decoder, layer 0, head 2: ")


def picker(page: Page) -> tuple[float, float, float]:
    """Left and top of the image whose patches are chosen, and the side of one of its 13 x 13 patches, on the screen."""
    canvas = page.locator(".tae-patches canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = canvas.bounding_box()
    assert box
    return box["x"], box["y"], box["width"] / 201 * 16


def test_patches_are_masked_by_clicks_boxes_and_keys_and_the_link_restores_them(open_page) -> None:
    page = open_page("/causal?causal=knock&changes=encoder/0/mask=6", height=900)
    left, top, side = picker(page)
    field = page.get_by_role("textbox", name="Their numbers")
    shown = page.get_by_test_id("stMetric")
    before = shown.all_inner_texts()
    for row, column in ((6, 6), (6, 7), (0, 6)):  # quickly: no answer puts an earlier choice back
        page.mouse.click(left + (column + 0.5) * side, top + (row + 0.5) * side)
    expect(page.locator(".tae-patches")).to_contain_text("2 of 169 patches chosen")
    expect(field).to_have_value("84, 85")
    settle(page)
    assert link(page)["changes"] == "encoder/0/mask=84_85" and shown.all_inner_texts() != before
    expect(figure(page)).to_be_in_viewport()  # what it does stays in sight

    def drag(*places: tuple[float, float]) -> None:
        (row, column), (last_row, last_column) = places
        page.mouse.move(left + column * side, top + row * side)
        page.mouse.down()
        page.mouse.move(left + last_column * side, top + last_row * side, steps=5)
        page.mouse.up()

    left, top, side = picker(page)
    drag((7.5, 5.5), (9.5, 8.5))
    expect(field).to_have_value("84, 85, 96-99, 109-112, 122-125")
    page.keyboard.down("Shift")
    drag((8.5, 5.5), (9.5, 8.5))
    page.keyboard.up("Shift")
    expect(field).to_have_value("84, 85, 96-99")
    page.keyboard.press("Tab")  # the keys are those of the image again, beside the patch that was clicked last
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    expect(field).to_have_value("84, 85, 95-99")
    field.fill("3, 5-7")
    field.press("Enter")
    expect(page.locator(".tae-patches")).to_contain_text("4 of 169 patches chosen")
    settle(page)
    other = open_page("/causal?" + urlparse(page.url).query)
    assert link(other)["changes"] == "encoder/0/mask=3_5-7" and psnr(other) == psnr(page)
    expect(other.locator(".tae-patches")).to_contain_text("4 of 169 patches chosen")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".tae-patches")).to_contain_text("0 of 169 patches chosen")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tae-patches")).to_contain_text("4 of 169 patches chosen")


def test_chosen_patches_are_told_apart_without_colour(open_page) -> None:
    def greys(changes: str) -> np.ndarray:
        page = open_page(f"/causal?causal=knock&image=blank&changes={changes}", height=900)
        picker(page)
        shot = page.locator(".tae-patches canvas").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("L"), np.int16)

    one, other = greys("encoder/0/mask=84"), greys("encoder/0/mask=100")
    side = one.shape[1] / 201 * 16
    inside = np.s_[round(6.2 * side) : round(6.8 * side), round(6.2 * side) : round(6.8 * side)]
    assert np.ptp(one[inside]) > 60 and np.ptp(other[inside]) < 10  # hatched, and plain paper


def test_66_long_work_is_stopped_by_its_button_and_goes_on_with_another(open_page) -> None:
    page = open_page("/causal?causal=effect&image=garment-141")
    main = page.get_by_test_id("stMain")
    page.get_by_text("Deletion, insertion, infidelity, sensitivity").click()
    begin, stop = main.get_by_role("button", name="Putting maps to the test"), main.get_by_role("button", name="Stop")
    begin.or_(stop).wait_for()
    if begin.count():  # a slow machine asks first
        begin.click()
    stop.click()
    stopped = main.get_by_text("Stopped. Nothing of it was kept.")
    for _ in range(3):  # under load the page may be drawn anew between a click's press and its release
        with suppress(AssertionError):
            expect(stopped).to_be_visible(timeout=40_000)
            break
        stop.click()
    expect(stopped).to_be_visible()
    settle(page)
    begin.click()
    expect(main).to_contain_text("Shown, the strongest first", timeout=240_000)


def test_wide_reconstructions_are_seen_below_each_other(visit) -> None:
    page = visit("/causal?checkpoint=drops_tiny_1280x152_p32.safetensors")
    for button in page.get_by_test_id("stMain").get_by_role("button", name="(about").all():
        button.click()  # a slow machine asks first
    images = page.get_by_role("img", name="Reconstruction with:")
    expect(images).to_have_count(6, timeout=120_000)
    boxes = [one.bounding_box() or {} for one in images.all()]
    assert min(box["width"] for box in boxes) > 800
    assert len({box["y"] for box in boxes}) == 6
