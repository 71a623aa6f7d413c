"""A long strip dropped on the page Reconstruct, in a real browser: seen at its own size, scrolled by keys, taken along."""

import io
import zipfile

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tae.analysis.windows import Windows, decode_windows, embed_windows
from tae.data.encode import encode_png, to_uint8
from tae.store.checkpoint import load_checkpoint
from tests.browser import MARKS, ROOT, drop, link, looks, saved, settle
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


def test_one_latent_or_windows_is_one_click_and_the_link_keeps_it(visit) -> None:
    page = visit(f"/?checkpoint={ANY_WIDTH}&image=drop-12")
    expect(page.get_by_test_id("stMetric")).to_have_count(4)
    first = page.get_by_test_id("stMetric").first.inner_text()
    page.get_by_role("radio", name="Window by window (2 latents)").click()
    expect(page.get_by_role("region", name="The strip")).to_be_visible()
    settle(page)
    assert link(page)["strip"] == "windows"
    told = first.split()[-2]
    expect(page.get_by_text(f"One latent: {told} dB")).to_be_visible()
    page.reload()
    expect(page.get_by_role("region", name="The strip")).to_be_visible(timeout=60_000)
    settle(page)
    page.get_by_role("radio", name="One latent").click()
    expect(page.get_by_role("region", name="The strip")).to_have_count(0)
    expect(page.get_by_alt_text("Reconstruction", exact=True)).to_be_visible()
    settle(page)
    assert "strip" not in link(page)


def test_what_is_saved_holds_the_latents_that_draw_the_strip_again(open_page) -> None:
    page = open_page(f"/?checkpoint={ANY_WIDTH}")
    strip = with_strip(page, width=3000)
    name, content = saved(page, "Everything (ZIP)")
    assert name == "long_strip.png_windows_everything.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {member.rpartition("windows_")[2]: archive.read(member) for member in archive.namelist()}
    assert set(files) == {
        "image.png",
        "reconstruction.png",
        "error.png",
        "comparison.png",
        "comparison.svg",
        "arrays.npz",
        "metrics.csv",
    }
    model = load_checkpoint(ROOT / "checkpoints" / ANY_WIDTH).model
    expected = embed_windows(model, strip / np.float32(255))
    with np.load(io.BytesIO(files["arrays.npz"])) as arrays:
        assert arrays["latents"].shape == (19, 128) and arrays["starts"].tolist() == expected.starts
        np.testing.assert_allclose(arrays["latents"], expected.latents, atol=1e-4)  # threads add up in another order
        again = Windows(expected.latents.new_tensor(arrays["latents"]), arrays["starts"].tolist(), 304, 3000)
        drawn = decode_windows(model, again).clamp(0, 1).numpy()
        np.testing.assert_allclose(drawn, arrays["reconstruction"], atol=1e-4)
        saved_image = np.asarray(Image.open(io.BytesIO(files["reconstruction.png"])))
        np.testing.assert_array_equal(saved_image, to_uint8(arrays["reconstruction"]))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files["image.png"]))), strip)
    assert Image.open(io.BytesIO(files["comparison.png"])).height > 1500  # folded, not a hair line
