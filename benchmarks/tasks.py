"""Tasks of a first-time user, walked by a script of `python -m benchmarks.screens`: how many clicks and scrolls each takes."""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tae.data.gallery import gallery
from tests import ROOT
from tests.browser import drop, settle

DEMO = ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors"


class Hand:
    """Clicks and looks on a page, and counts: a scroll is needed where what is looked for stands outside the window."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks, self.scrolls = page, 0, 0

    def look(self, at: Locator) -> Locator:
        at = at.first
        expect(at).to_be_visible(timeout=60_000)
        box, window = at.bounding_box(), self.page.viewport_size
        assert box and window
        if box["y"] < 0 or box["y"] + min(box["height"], 40) > window["height"]:
            self.scrolls += 1
            at.scroll_into_view_if_needed()
        return at

    def click(self, at: Locator) -> None:
        self.look(at).click()
        self.clicks += 1
        settle(self.page)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def menu(self, page: str) -> None:
        self.click(self.page.get_by_test_id("stSidebar").get_by_role("link", name=page, exact=True))

    def drop(self, name: str, content: bytes) -> None:
        drop(self.page, (name, content))
        self.clicks += 1


def judge(hand: Hand) -> None:
    """Drop a photograph: what the model makes of it, and what to do."""
    coffee = gallery((201, 201))["coffee"].load()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(coffee)).save(buffer, "PNG")
    hand.drop("photo.png", buffer.getvalue())
    hand.look(hand.page.get_by_test_id("stAlert").filter(has_text="of the test images"))
    hand.look(hand.page.get_by_test_id("stMain").get_by_role("link", name="Train on your images"))


def follow(hand: Hand) -> None:
    """What a patch attends to: the pointer alone."""
    hand.look(hand.page.locator(".tae-explorer [role=application]")).hover()
    hand.look(hand.page.locator(".tae-explorer .tae-readout"))


def layers(hand: Hand) -> None:
    """One patch in all layers and heads."""
    for name in ("encoder/0/0", "decoder/2/3"):
        hand.look(hand.page.locator(f".tae-heads-cell[data-name='{name}']"))


def heatmap(hand: Hand) -> None:
    hand.click(
        hand.page.get_by_role("button", name="Matrix", exact=True).or_(hand.page.get_by_text("Matrix", exact=True))
    )
    hand.look(hand.page.locator(".js-plotly-plot"))


def two_images(hand: Hand) -> None:
    hand.click(hand.page.get_by_role("button", name="Compare with"))
    hand.click(hand.page.get_by_role("menuitem").first)
    hand.page.get_by_role("heading", level=1, name="Compare").wait_for()
    settle(hand.page)
    hand.look(hand.page.locator(".tae-explorer .tae-canvas").nth(1))


def ablate(hand: Hand) -> None:
    hand.click(hand.page.locator(".tae-heads-cell[data-name='encoder/0/0']"))
    expect(hand.page.locator(".tae-explorer")).to_have_attribute("data-ablated", "encoder/0/0")
    hand.look(hand.page.get_by_text("replaced by its mean"))


def take_along(hand: Hand) -> None:
    """A vector figure, and the numbers."""
    hand.click(hand.button("Export"))
    for name in ("Matrix (SVG)", "All maps (NPZ)"):
        with hand.page.expect_download(timeout=90_000):
            hand.click(hand.page.get_by_role("button", name=name))


def send_link(hand: Hand) -> None:
    hand.click(hand.button("Copy link"))


def bring(hand: Hand) -> None:
    """A checkpoint of one's own, until it is in use."""
    hand.menu("Models")
    hand.click(hand.page.get_by_text("Load checkpoint", exact=True))
    hand.drop("mine.safetensors", DEMO.read_bytes())
    hand.look(hand.page.get_by_text("is in use"))


def train(hand: Hand) -> None:
    """From a folder, one of whose nine files cannot be read, to a training that could begin."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(8):
            Image.fromarray(np.full((201, 201), 20 * number, np.uint8)).save(Path(folder) / f"{number}.png")
        (Path(folder) / "broken.png").write_bytes(b"no image")
        hand.menu("Models")
        hand.click(hand.page.get_by_text("Train", exact=True))
        box = hand.look(hand.page.get_by_role("textbox", name="Folder, file or pattern"))
        box.fill(folder)
        box.press("Enter")
        hand.clicks += 1
        settle(hand.page)
        hand.click(hand.page.get_by_text("Go on without the 1 file"))
        start = hand.look(hand.button("Start training"))
        expect(start).to_be_enabled(timeout=60_000)
        hand.clicks += 1  # not clicked: a training would run beside what is measured


def term(hand: Hand) -> None:
    hand.click(hand.page.get_by_test_id("stSidebar").get_by_role("button", name="Glossary"))
    hand.look(hand.page.locator("dl.glossary dt"))


TASKS: dict[str, tuple[str, Callable[[Hand], None]]] = {
    "judge a photograph": ("1, no next step", judge),
    "see what a patch attends to": ("1 + scroll", follow),
    "compare the layers of one image": ("2, one patch in all heads: no way", layers),
    "average heatmap": ("2", heatmap),
    "compare two images": ("2 + scroll", two_images),
    "knock out a head": ("3 + scroll", ablate),
    "vector figure and numbers": ("3 + scroll, no text in the SVG", take_along),
    "send a link": ("by hand from the address", send_link),
    "load a checkpoint": ("4", bring),
    "train on a folder, a file of which is broken": ("3, stopped by the file", train),
    "find a term": ("0 to 1 + scroll", term),
}
"""{task: (clicks before, how it is walked)}; a drop and a typed line count as clicks."""


def walk(page: Page, address: str) -> Iterator[tuple[str, str, dict[str, int]]]:
    """(task, before, {"clicks", "scrolls"}) of each, from the first screen on."""
    for name, (before, task) in TASKS.items():
        page.goto(address)
        settle(page)
        hand = Hand(page)
        task(hand)
        yield name, before, {"clicks": hand.clicks, "scrolls": hand.scrolls}
