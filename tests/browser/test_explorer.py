"""The explorer as a person drives it, in a page from a file: nothing is fetched, nothing goes wrong on the console."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tae.plots.style import ERROR_COLOURS, OVERLAY
from tae.web.component import read_script
from tae.web.explorer.payload import Note, Payload, View, for_json, payload, side
from tae.web.explorer.standalone import page as page_of
from tests.browser import MARKS
from tests.plots import contrast

pytestmark = MARKS
GRID, PATCH, N = (3, 4), 16, 12
GREY = 128
FADED = 198
"""The same below a map: .55 of the way to white."""
IMAGE = np.full((40, 60), GREY / 255, np.float32)
"""2.5 x 3.75 patches: the last ones are cut."""
TOPS = {"shared": 6.0, "full": 6.0}
NAMES = ["encoder/average/mean", "encoder/0/mean", "encoder/0/0", "encoder/0/1", "encoder/1/mean", "decoder/0/mean"]
ROOT = ".tae-explorer"
MAIN = f"{ROOT} .tae-main .tae-canvas"
PINS = f"{ROOT} .tae-pins figure"


def peaks(shift: int, weight: float = 0.5) -> np.ndarray:
    """A map in which query q places `weight` on key q + shift, 0 on key q + shift + 1, the same on all others."""
    rest = (1 - weight) / (N - 2)
    weights = np.full((N, N), rest, np.float32)
    queries = np.arange(N)
    weights[queries, (queries + shift) % N] = weight
    weights[queries, (queries + shift + 1) % N] = 0
    return weights


MAPS = {name: peaks(shift) for shift, name in enumerate(NAMES, start=1)}
"""0.5 is 6 x uniform, the end of the colours; the others are at 0.6."""


def one(**changes: object) -> Payload:
    view = View(layer="average", query=5)
    return {**payload([side("", IMAGE, GRID, PATCH, MAPS)], view, TOPS), **changes}


def two(second_grid: tuple[int, int] = GRID) -> Payload:
    image = np.zeros((second_grid[0] * PATCH, second_grid[1] * PATCH), np.float32)
    count = second_grid[0] * second_grid[1]
    other = np.full((count, count), 1 / count, np.float32)
    sides = [
        side("first", IMAGE, GRID, PATCH, {"encoder/0/mean": peaks(1)}),
        side("second", image, second_grid, PATCH, {"decoder/1/0": other}),
    ]
    return payload(sides, View(query=5), TOPS)


@pytest.fixture
def open_explorer(open_file: Callable[..., Page], tmp_path: Path) -> Callable[..., Page]:
    """Opens a payload's page from a file."""

    def open_one(made: Payload, **options: object) -> Page:
        (tmp_path / "x.html").write_text(page_of(made, "Explorer"), encoding="utf-8")
        page = open_file(tmp_path / "x.html", **options)
        expect(page.locator(ROOT)).to_have_attribute("data-state", "ready")
        return page

    return open_one


def centre(canvas: Locator, cell: int, grid: tuple[int, int] = GRID, size: tuple[int, int] = (40, 60)) -> dict:
    """A place inside a patch, from the canvas's corner, in pixels of the page; cut patches are as wide as they look."""
    box = canvas.bounding_box()
    assert box
    row, column = divmod(cell, grid[1])
    y, x = ((at * PATCH + min((at + 1) * PATCH, end)) / 2 / end for at, end in zip((row, column), size, strict=True))
    return {"x": x * box["width"], "y": y * box["height"]}


def hover(canvas: Locator, cell: int) -> None:
    canvas.hover(position=centre(canvas, cell))  # type: ignore[arg-type]


def click(canvas: Locator, cell: int) -> None:
    canvas.click(position=centre(canvas, cell))  # type: ignore[arg-type]


def told(page: Page, **expected: str) -> None:
    for name, value in expected.items():
        expect(page.locator(ROOT)).to_have_attribute(f"data-{name}", value)


def pixel(canvas: Locator, cell: int) -> list[int]:
    """What is painted in the middle of a patch: red, green, blue."""
    return canvas.evaluate(
        """(canvas, at) => {
            const ratio = canvas.width / canvas.getBoundingClientRect().width;
            const one = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            one.drawImage(canvas, -Math.floor(at.x * ratio), -Math.floor(at.y * ratio));
            return [...one.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        centre(canvas, cell),
    )


def over_grey(colour: Sequence[float], opacity: float) -> list[float]:
    return [FADED + opacity * (channel - FADED) for channel in colour]


def test_patch_under_the_pointer_shows_its_row(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    canvas = page.locator(MAIN)
    for query in (0, 5, 10, 11):  # 11 is cut on both sides
        hover(canvas, query)
        strongest = (query + 1) % N
        told(page, query=str(query))
        row, column = divmod(query, 4)
        to_row, to_column = divmod(strongest, 4)
        expect(page.locator(f"{MAIN} >> xpath=../..").locator(".tae-readout")).to_have_text(
            f"query patch {query} (row {row}, column {column}) → "
            f"strongest key patch {strongest} (row {to_row}, column {to_column}): 6 x uniform"
        )
        _, colour, opacity = OVERLAY[-1]
        np.testing.assert_allclose(pixel(canvas, strongest), over_grey(colour, opacity), atol=2)
        assert pixel(canvas, (query + 2) % N) == [FADED] * 3  # no weight leaves the image as it is
    page.mouse.move(1300, 850)
    told(page, query="5")  # the selected one comes back


def test_weak_weights_have_the_colours_of_the_figures(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    canvas = page.locator(MAIN)
    hover(canvas, 0)
    told(page, query="0")
    (low, first, weak), (high, second, strong) = OVERLAY[1], OVERLAY[2]
    t = (0.6 / 6 - low) / (high - low)
    colour = tuple(a + t * (b - a) for a, b in zip(first, second, strict=True))
    np.testing.assert_allclose(pixel(canvas, 7), over_grey(colour, weak + t * (strong - weak)), atol=2)


def test_direction_turns_with_its_button_and_while_shift_is_held(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    canvas = page.locator(MAIN)
    hover(canvas, 5)
    told(page, direction="from")
    page.keyboard.down("Shift")
    told(page, direction="to")
    told(page, readout="strongest query patch 4 (row 1, column 0) → key patch 5 (row 1, column 1): 6 x uniform")
    _, colour, opacity = OVERLAY[-1]
    np.testing.assert_allclose(pixel(canvas, 4), over_grey(colour, opacity), atol=2)
    page.keyboard.up("Shift")
    told(page, direction="from")
    page.get_by_role("button", name="Attended by").click()
    told(page, direction="to")
    canvas.focus()
    page.keyboard.down("Shift")
    told(page, direction="from")
    page.keyboard.up("Shift")
    told(page, direction="to")


def test_keys_move_patch_layer_and_head_and_stay_inside(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    page.evaluate("window.reached = []; document.addEventListener('keydown', event => window.reached.push(event.key))")
    page.locator(MAIN).focus()
    for key, query in {"ArrowRight": "6", "ArrowDown": "10", "ArrowLeft": "9", "ArrowUp": "5"}.items():
        page.keyboard.press(key)
        told(page, query=query)
    for _ in range(5):
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowRight")
    told(page, query="3")  # they stop at the edge
    for key, name in [("]", "0/mean"), (".", "0/0"), (".", "0/1"), (",", "0/0"), ("]", "1/mean"), ("[", "0/mean")]:
        page.keyboard.press(key)
        told(page, map=f"encoder/{name}")
    page.keyboard.press("Enter")
    told(page, pins="3")
    page.keyboard.press("r")
    page.keyboard.press("c")
    page.keyboard.press("Escape")
    told(page, pins="")
    page.keyboard.press("Escape")  # nothing to let go: not ours
    assert page.evaluate("window.reached") == ["r", "c", "Escape"]


def test_toolbar_chooses_maps_that_there_are(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    page.get_by_role("combobox", name="Layer").select_option("0")
    head = page.get_by_role("combobox", name="Head")
    head.select_option("1")
    told(
        page,
        map="encoder/0/1",
        readout="query patch 5 (row 1, column 1) → strongest key patch 9 (row 2, column 1): 6 x uniform",
    )
    assert head.locator("option:not([hidden])").all_text_contents() == ["Mean of heads", "Head 0", "Head 1"]
    page.get_by_role("button", name="Decoder").click()
    told(page, map="decoder/0/mean")  # the decoder has no single heads here
    page.get_by_role("combobox", name="Colour range").select_option("own")
    told(page, top="6")
    expect(page.locator(".tae-status")).to_have_text(
        "Decoder, layer 0, mean of heads · N = 12 · 0 to 6 x uniform · query patch 5 (row 1, column 1) · not smoothed"
    )


def test_click_pins_and_pinned_panels_read_pairs(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    canvas, pins = page.locator(MAIN), page.locator(PINS)
    click(canvas, 5)
    click(canvas, 2)
    told(page, pins="5 2")
    hover(canvas, 6)
    expect(pins.nth(0).locator(".tae-readout")).to_have_text("→ 6: 6 x uniform")
    expect(pins.nth(1).locator(".tae-readout")).to_have_text("→ 6: 0.6 x uniform")
    told(page, query="6")  # the image itself shows the patch under the pointer
    panel = pins.nth(0).locator("canvas")
    hover(panel, 7)
    told(page, query="2", readout="query patch 5 (row 1, column 1) → key patch 7 (row 1, column 3): 0 x uniform")
    expect(pins.nth(1).locator(".tae-readout")).to_have_text("→ 7: 0.6 x uniform")
    page.keyboard.down("Shift")
    told(page, readout="query patch 7 (row 1, column 3) → key patch 5 (row 1, column 1): 0.6 x uniform")
    page.keyboard.up("Shift")
    page.get_by_role("button", name="Remove pin 1").click()
    told(page, pins="2")
    click(canvas, 2)
    told(page, pins="")
    click(canvas, 2)
    hover(pins.nth(0).locator("canvas"), 1)
    page.keyboard.press("Escape")
    told(page, pins="")
    expect(pins).to_have_count(0)


def test_six_patches_are_pinned_and_nothing_jumps(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    canvas, status = page.locator(MAIN), page.locator(".tae-status")
    before = canvas.bounding_box(), status.bounding_box()
    for cell in range(7):
        click(canvas, cell)
    told(page, pins="0 1 2 3 4 5")
    expect(page.locator(PINS)).to_have_count(6)
    expect(page.locator(".tae-hint")).to_contain_text("remove one to pin another")
    assert (canvas.bounding_box(), status.bounding_box()) == before


def test_finger_explores_and_a_tap_pins(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one(), width=390, height=800, has_touch=True)
    canvas = page.locator(MAIN)
    box = canvas.bounding_box()
    assert box
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, cell: int | None = None) -> None:
        at = centre(canvas, cell) if cell is not None else None
        points = [{"x": box["x"] + at["x"], "y": box["y"] + at["y"]}] if at else []
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0)
    touch("touchMove", 6)
    told(page, query="6")
    touch("touchMove", 10)
    touch("touchEnd")
    told(page, query="10", pins="")  # where the finger left
    touch("touchStart", 3)
    touch("touchEnd")
    told(page, query="3", pins="3")
    assert page.evaluate("window.scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_words_can_be_read_in_light_and_dark(open_explorer: Callable[..., Page]) -> None:
    made = one(notes=[{"text": "UNTRAINED MODEL: random weights", "severity": "error"}])
    page = open_explorer(made)
    for width, scheme in itertools.product((1400, 800), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)
        paper = (255, 255, 255) if scheme == "light" else (18, 21, 28)
        for selector in (
            ".tae-status",
            ".tae-readout",
            ".tae-unit",
            ".tae-hint",
            ".tae-label",
            ".tae-keys",
            ".tae-note",
        ):
            text = rgb_of(page.locator(f"{ROOT} {selector}").first.evaluate("e => getComputedStyle(e).color"), paper)
            assert contrast(text, paper) >= 4.5, selector
        note = page.locator(".tae-note")
        red, green, _ = rgb_of(note.evaluate("e => getComputedStyle(e).color"), paper)
        assert red > green + 60
        stage, heads = page.locator(MAIN).bounding_box(), page.locator(".tae-heads").bounding_box()
        assert stage and heads
        assert heads["x"] > stage["x"] + stage["width"]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def rgb_of(css: str, paper: tuple[int, int, int]) -> tuple[float, ...]:
    """A computed colour over paper: "rgb(r, g, b)" or "color(srgb r g b / alpha)"."""
    numbers = [
        float(part)
        for part in css.replace(",", " ").replace("/", " ").strip(")").split("(")[1].split()[-4:]
        if part[0].isdigit()
    ]
    colour = [255 * value for value in numbers[:3]] if css.startswith("color(") else numbers[:3]
    alpha = numbers[3] if len(numbers) == 4 else 1
    return tuple(alpha * value + (1 - alpha) * back for value, back in zip(colour, paper, strict=True))


def test_two_sides_move_under_one_pointer_and_their_difference_is_right(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(two())
    first, second, difference = page.locator(MAIN).all()
    readouts = page.locator(f"{ROOT} .tae-main .tae-readout")
    second.hover(position=centre(second, 5, size=(48, 64)))  # type: ignore[arg-type]
    told(page, query="5")
    expect(readouts.nth(0)).to_have_text(
        "query patch 5 (row 1, column 1); strongest: key patch 6 (row 1, column 2): 6 x uniform"
    )
    expect(readouts.nth(2)).to_have_text("largest difference: key patch 6 (row 1, column 2): +5 x uniform")
    hover(first, 9)
    told(page, query="9")
    expect(readouts.nth(0)).to_contain_text("query patch 9 (row 2, column 1)")
    colours = [[int(float(part)) for part in colour[4:-1].split(",")] for colour in ERROR_COLOURS]
    assert pixel(difference, 10) == colours[-1]  # +5, the end of the range
    place = (0.6 - 1 + 5) / 10 * (len(colours) - 1)
    low = int(place)
    mixed = [a + (place - low) * (b - a) for a, b in zip(colours[low], colours[low + 1], strict=True)]
    np.testing.assert_allclose(pixel(difference, 1), mixed, atol=2)  # 0.6 - 1
    click(first, 9)  # holds the query: now the pointer reads pairs
    hover(first, 11)
    expect(readouts.nth(0)).to_have_text("query patch 9 (row 2, column 1); key patch 11 (row 2, column 3): 0 x uniform")
    expect(readouts.nth(2)).to_have_text("key patch 11 (row 2, column 3): −1 x uniform")
    page.keyboard.press("Escape")
    told(page, pins="", query="11")


def test_sides_of_other_shapes_share_the_place_and_have_no_difference(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(two((6, 8)))
    expect(page.locator(MAIN)).to_have_count(2)
    expect(page.locator(".tae-apart")).to_have_text(
        "There is no difference A − B: A has 4x3 patches, B has 8x6. The pointer marks the same place in both."
    )
    hover(page.locator(MAIN).first, 11)  # the last one: in B the last but one, for A's is cut
    expect(page.locator(f"{ROOT} .tae-main .tae-readout").nth(1)).to_contain_text("query patch 47 (row 5, column 7)")
    hover(page.locator(MAIN).first, 0)
    expect(page.locator(f"{ROOT} .tae-main .tae-readout").nth(1)).to_contain_text("query patch 9 (row 1, column 1)")


def test_merged_patches_say_so(open_explorer: Callable[..., Page]) -> None:
    weights = np.full((1200, 1200), 1e-4, np.float32)
    weights[0, 1199] = 0.5
    made = payload(
        [side("", np.zeros((240, 320), np.float32), (30, 40), 8, {"encoder/0/mean": weights})], View(layer="0"), TOPS
    )
    page = open_explorer(made)
    expect(page.locator(".tae-main .tae-unit")).to_contain_text("each cell: strongest of 2x2 patches, of pairs")
    start, end = "(rows 0 to 1, columns 0 to 1)", "(rows 28 to 29, columns 38 to 39)"
    told(page, readout=f"query patches {start} → strongest key patches {end}: 600 x uniform")
    page.locator(MAIN).focus()
    page.keyboard.press("ArrowRight")
    told(page, query="2")


def test_maps_that_are_not_in_the_file_cannot_be_chosen(open_explorer: Callable[..., Page]) -> None:
    made = payload([side("", IMAGE, GRID, PATCH, {"encoder/0/mean": peaks(1)}, NAMES, "digest")], View(), TOPS)
    page = open_explorer(made)
    told(page, map="encoder/0/mean")
    expect(page.get_by_role("button", name="Decoder")).to_be_disabled()
    layers = page.get_by_role("combobox", name="Layer").locator("option[disabled]")
    assert layers.all_text_contents() == ["Average", "1"]
    assert layers.first.get_attribute("title") == "This map is not in this file"
    assert page.get_by_role("combobox", name="Head").locator("option[disabled]").count() == 2


def test_strangers_texts_are_shown_as_they_are(open_explorer: Callable[..., Page]) -> None:
    text = "</script><img src=x onerror=alert(1)> <b>bold</b> &amp;"
    made = payload([side(text, IMAGE, GRID, PATCH, MAPS)], View(), TOPS, [Note(text, "warning")], {"encoder": text})
    page = open_explorer(made)
    expect(page.locator("figcaption").first).to_have_text(text)
    expect(page.locator(".tae-note")).to_have_text(text)
    expect(page.locator(".tae-status")).to_contain_text(text)
    assert page.locator(f"{ROOT} img").count() == 0 and page.get_by_text("bold", exact=True).count() == 0


def test_painted_moves_are_measured_and_the_measures_do_not_pile_up(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    entries = "performance.getEntriesByName('tae-explorer-paint')"
    for cell in (0, 1, 2):
        hover(page.locator(MAIN), cell)
        told(page, query=str(cell))
    assert page.evaluate(f"{entries}.length") == 3
    assert page.evaluate(f"{entries}.every(entry => entry.duration > 0)")


# -- the head grid


def cell(page: Page, name: str) -> Locator:
    return page.locator(f".tae-heads-cell[data-name='{name}']")


def cell_pixel(page: Page, name: str, patch: int) -> list[int]:
    """What is painted in the middle of a patch of a map of the grid."""
    return page.locator(".tae-heads-canvas").evaluate(
        """(canvas, [x, y]) => {
            const ratio = canvas.width / canvas.getBoundingClientRect().width;
            const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, -Math.floor(x * ratio), -Math.floor(y * ratio));
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        place_in_cell(page, name, patch),
    )


def place_in_cell(page: Page, name: str, patch: int) -> list[float]:
    box, canvas = cell(page, name).bounding_box(), page.locator(".tae-heads-canvas").bounding_box()
    assert box and canvas
    row, column = divmod(patch, GRID[1])
    y, x = (
        (at * PATCH + min((at + 1) * PATCH, end)) / 2 / end for at, end in zip((row, column), (40, 60), strict=True)
    )
    return [box["x"] - canvas["x"] + x * box["width"], box["y"] - canvas["y"] + y * box["height"]]


def test_every_head_shows_the_patch_under_the_pointer_in_one_range(open_explorer: Callable[..., Page]) -> None:
    page = open_explorer(one())
    expect(page.locator(".tae-heads-cell")).to_have_count(len(NAMES))
    _, colour, opacity = OVERLAY[-1]
    for query in (0, 10):
        hover(page.locator(MAIN), query)
        told(page, query=str(query))
        for shift, name in enumerate(NAMES, start=1):
            np.testing.assert_allclose(cell_pixel(page, name, (query + shift) % N), over_grey(colour, opacity), atol=3)
            assert cell_pixel(page, name, (query + shift + 1) % N) == [FADED] * 3
    page.keyboard.down("Shift")  # who places weight on it
    told(page, direction="to")
    np.testing.assert_allclose(cell_pixel(page, NAMES[2], (10 - 3) % N), over_grey(colour, opacity), atol=3)
    page.keyboard.up("Shift")


def test_a_map_of_the_grid_shows_large_under_the_pointer_and_a_click_or_the_keyboard_chooses_it(
    open_explorer: Callable[..., Page],
) -> None:
    page = open_explorer(one())
    cell(page, "encoder/0/1").hover()
    told(page, map="encoder/0/1")
    page.mouse.move(5, 5)
    told(page, map="encoder/average/mean")
    cell(page, "encoder/0/1").click()
    page.mouse.move(5, 5)
    told(page, map="encoder/0/1")  # without a server nothing can be ablated: a click chooses
    grid = page.get_by_role("grid")
    grid.focus()
    page.keyboard.press("Home")
    expect(page.locator(".tae-at")).to_have_attribute("aria-label", "Encoder, layer 0, head 0, strongest 6 x uniform")
    for key, name in [("ArrowRight", "encoder/0/1"), ("ArrowRight", "encoder/0/mean"), ("ArrowDown", "encoder/1/mean")]:
        page.keyboard.press(key)
        told(page, map=name)
    page.keyboard.press(" ")
    page.evaluate("document.activeElement.blur()")
    told(page, map="encoder/1/mean")


# -- with a server: mounted as Streamlit mounts it, from a blob, with a record of what is told


@pytest.fixture
def mounted(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_content("<div id=place></div>")
    page.evaluate(
        """async code => {
            const blob = new Blob([code], { type: "text/javascript" });
            const module = await import(URL.createObjectURL(blob));
            window.told = [];
            window.mount = data => {
                const setStateValue = (name, value) => window.told.push([name, value]);
                window.leave = module.default({ data, setStateValue, parentElement: document.getElementById("place") });
            };
        }""",
        read_script("explorer"),
    )
    yield page
    page.close()


def mount(page: Page, send: list[str], view: View, digest: str = "d", memory: str = "") -> None:
    one_side = side("", IMAGE, GRID, PATCH, {name: MAPS[name] for name in send}, NAMES, digest)
    made = payload([one_side], view, TOPS, on_demand=True, memory=memory)
    page.evaluate("data => window.mount(data)", json.loads(json.dumps(for_json(made))))
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


FEEDS = """data => { globalThis.taeFeeds.latest.set(`${data.memory} ${data.feed}`, data);
    for (const listener of globalThis.taeFeeds.listeners) listener(data); }"""


def test_an_outcome_makes_heads_clickable_and_shows_what_is_ablated(mounted: Page) -> None:
    mount(mounted, NAMES, View(), memory="m")
    plain = one()["sides"][0]["image"]
    words = {"title": "9.0 dB", "words": "From 128 numbers", "ablated_words": "", "can_undo": False}
    fed = {"feed": "outcome", "memory": "m", "digest": "d", "recon": plain, "changed": "", "ablated": [], **words}
    mounted.evaluate(FEEDS, fed)
    expect(mounted.locator(".tae-outcome-figure")).to_contain_text("9.0 dB")
    expect(mounted.get_by_role("button", name="Undo")).to_be_disabled()
    told_since(mounted)
    for number, digest in enumerate(["another image", "d"]):  # what belongs to another image is passed over
        mounted.evaluate(FEEDS, {**fed, "digest": digest, "title": f"{number} dB", "ablated": ["encoder/0/1"]})
    expect(mounted.locator(".tae-outcome-figure")).to_contain_text("1 dB")
    told(mounted, ablated="encoder/0/1")


def told_since(page: Page) -> list:
    return page.evaluate("window.told.splice(0)")


def test_missing_maps_are_asked_for_once_with_their_neighbours(mounted: Page) -> None:
    view = View()
    mount(mounted, ["encoder/average/mean"], view)
    assert told_since(mounted) == []
    mounted.get_by_role("combobox", name="Layer").select_option("0")
    told(mounted, state="loading", map="encoder/0/mean")
    expect(mounted.locator(".tae-loading").first).to_be_visible()
    mounted.get_by_role("combobox", name="Colour range").select_option("own")
    mounted.wait_for_function("window.told.some(([name]) => name === 'wanted')")
    names = ["encoder/0/mean", "encoder/0/0", "encoder/0/1"]
    asked = [value for name, value in told_since(mounted) if name == "wanted"]
    assert asked == [{"digest": "d", "revision": 0, "names": names}]
    mount(mounted, names, view)
    told(mounted, state="ready", map="encoder/0/mean")
    expect(mounted.locator(".tae-loading").first).to_be_hidden()
    mounted.get_by_role("combobox", name="Head").select_option("1")
    told(mounted, state="ready", map="encoder/0/1")
    mount(mounted, [], view, digest="another image")  # whose maps were never sent
    told(mounted, state="loading")


def test_moves_of_the_pointer_are_not_told_and_keys_only_when_they_rest(mounted: Page) -> None:
    mount(mounted, NAMES, View())
    canvas = mounted.locator(MAIN)
    hover(canvas, 7)
    told(mounted, query="7")
    assert told_since(mounted) == []
    click(canvas, 7)
    assert [value["query"] for _, value in told_since(mounted)] == [7]
    for _ in range(3):
        mounted.keyboard.press("ArrowLeft")
    mounted.wait_for_function("window.told.length > 0")
    [(name, value)] = told_since(mounted)
    assert (name, value["query"], value["pins"]) == ("view", 4, [7])


def test_own_view_wins_until_the_server_sets_another(mounted: Page) -> None:
    mount(mounted, NAMES, View(query=5))
    mounted.locator(MAIN).focus()
    mounted.keyboard.press("]")
    told(mounted, map="encoder/0/mean")
    mount(mounted, NAMES, View(query=5))  # a rerun for another reason
    told(mounted, map="encoder/0/mean", query="5")
    mount(mounted, NAMES, View("decoder", "0", "mean", query=2, pins=(3,), revision=1))
    told(mounted, map="decoder/0/mean", query="2", pins="3")


def test_view_comes_back_after_the_page_was_left_and_the_server_hears_of_it(mounted: Page) -> None:
    mount(mounted, NAMES, View(), memory="attention")
    click(mounted.locator(MAIN), 9)
    mounted.evaluate("window.leave()")
    expect(mounted.locator(ROOT)).to_have_count(0)
    told_since(mounted)
    mount(mounted, [], View(), memory="attention")  # the maps are still in the browser, too
    told(mounted, query="9", pins="9", state="ready")
    assert [(name, value["pins"]) for name, value in told_since(mounted)] == [("view", [9])]
    mounted.evaluate("window.leave()")
    mount(mounted, [], View(query=1, revision=1), memory="attention")
    told(mounted, query="1", pins="")


def test_a_view_of_what_there_is_not_becomes_one_of_what_there_is(mounted: Page) -> None:
    mount(mounted, NAMES, View("decoder", "7", "3", query=500, pins=(1, 900)))
    told(mounted, map="decoder/0/mean", query="0", pins="1")
