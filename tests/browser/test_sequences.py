"""The page Sequences as a person uses it, in a real browser: a GIF dragged in, played, scrubbed, rolled out, taken along."""

import io

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tae.data.drops.motion import draw_recording
from tae.data.encode import encode_gif
from tae.model.config import ModelConfig
from tae.sequence.drops import drop_frames
from tae.sequence.forecast import LSTM
from tests.browser import MARKS, drop, saved, settle

pytestmark = MARKS
PLAYER = ".tae-player"
DROPS = "checkpoint=drops_tiny_201x201_p16.safetensors"


def recording() -> np.ndarray:
    """The first that the page offers: (16, 201, 201) in [0, 1]."""
    return drop_frames(draw_recording("test", 0), ModelConfig())


def gif() -> bytes:
    """A recording as a stranger's GIF."""
    return encode_gif([*recording()])


def test_a_dropped_gif_shows_what_comes_next_beside_the_truth(open_page) -> None:
    page = open_page(f"/sequences?{DROPS}")
    drop(page, ("walk.gif", gif()))
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("LSTM, one step ahead, frames 7 to 16: ")
    expect(main).to_contain_text("The sequence model learnt from")
    page.get_by_role("radio", name="Several steps ahead").click()
    page.wait_for_url("**forecast=roll*")
    settle(page)
    expect(main).to_contain_text("LSTM, several steps ahead, frames 7 to 16: ")
    for name in ("True frames", "Reconstruction", LSTM, "Last frame copied"):
        expect(page.locator(PLAYER).get_by_text(name, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Export").click()
    name, data = saved(page, "Animation (GIF)")
    assert name == "walk.gif_after_6.gif"
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (603, 201) and getattr(image, "n_frames", 1) == 16
    page.get_by_role("button", name="Remove my sequence").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("button", name="Remove my sequence")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Sequence", exact=True)).to_have_value("Drop 1")
    expect(main).not_to_contain_text("another session")


def test_the_frame_looked_at_is_in_the_link_and_opens_on_the_page_explore(open_page) -> None:
    page = open_page(f"/sequences?{DROPS}&frame=4")
    expect(page.locator(PLAYER)).to_have_attribute("data-frame", "4")
    page.locator(".tae-stage").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(PLAYER)).to_have_attribute("data-frame", "6")
    page.wait_for_url("**frame=6*")
    page.get_by_role("button", name="Open frame 6 on the page Explore").click()
    expect(page.locator("h1").first).to_have_text("Explore", timeout=60_000)
    settle(page)
    expect(page.get_by_role("combobox", name="Image")).to_have_value("Yours: Drop 1, frame 6")


def test_frames_stay_where_they_were_put_however_long_one_looks_at_each(visit) -> None:
    page = visit(f"/sequences?{DROPS}")
    page.locator(".tae-film tbody tr").first.locator("td img").nth(3).click()
    for key, frame in (("", 4), ("ArrowRight", 5), ("Home", 1), ("End", 16)):
        if key:  # the keys go on from the film strip
            page.keyboard.press(key)
        page.wait_for_url(f"**frame={frame}*")
        settle(page)
        page.wait_for_timeout(700)
        expect(page.locator(PLAYER)).to_have_attribute("data-frame", str(frame))
        expect(page.get_by_role("button", name=f"Open frame {frame} on")).to_be_visible()
