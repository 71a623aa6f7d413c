"""The player as a person drives it, on a page of its own."""

import re
from collections.abc import Callable, Iterator
from itertools import count
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import MARKS, ROOT, look_for_traceback, looks, settle, watch
from tests.browser.player_app import LSTM_FIRST, ROWS, grey
from tests.served import running_app

pytestmark = MARKS
PLAYER = ".tae-player"
FILM = f"{PLAYER} .tae-film"
NUMBERS = count()
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_app("tests/browser/player_app.py", PYTHONPATH=str(ROOT)) as address:
        yield address


@pytest.fixture(scope="module")
def own_page(address: str, browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page that stays open, and what has gone wrong on it."""
    context = browser.new_context()
    page, wrong = context.new_page(), []
    watch(page, address, wrong)
    page.goto(address)
    yield page, wrong
    context.close()


@pytest.fixture
def begin(own_page: tuple[Page, list[str]]) -> Iterator[Callable[..., Page]]:
    """A player of its own, on a page that stays."""
    page, wrong = own_page
    wrong.clear()

    def show(words: str = "", width: int = 1400) -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="light")
        words += f"&number={next(NUMBERS)}"
        field = page.get_by_label("Begin with")
        field.fill(words)
        field.press("Enter")
        expect(page.get_by_text(f"begun with {words}", exact=True)).to_be_visible()
        settle(page)
        return page

    yield show
    look_for_traceback(page, wrong)
    assert not wrong


def told(page: Page, **expected: str) -> None:
    for name, value in expected.items():
        expect(page.locator(PLAYER)).to_have_attribute(f"data-{name}", value)


def rested(page: Page, frame: int) -> None:
    """Python knows this frame, from 1."""
    expect(page.get_by_text(re.compile(rf"run \d+, at frame {frame - 1}$"))).to_be_visible()


def said(page: Page) -> Locator:
    return page.get_by_text(re.compile(r"^run \d+, at frame \d+$"))


def runs(page: Page) -> int:
    """How often the page has run."""
    return int(said(page).inner_text().split()[1].strip(","))


def run_by(page: Page, control: Locator) -> None:
    """Click once the page is at rest, and wait for a run of it."""
    settle(page)
    before = said(page).inner_text()
    control.click()
    expect(said(page)).not_to_have_text(before)
    settle(page)


def run_again(page: Page) -> None:
    run_by(page, page.get_by_role("button", name="Run again"))


def switch(page: Page, label: str) -> None:
    """Turn a toggle of the page, whose box lies under its label."""
    run_by(page, page.get_by_text(label, exact=True))


def screen(page: Page, row: int) -> Locator:
    return page.locator(f"{PLAYER} .tae-stage figure").filter(has_text=ROWS[row])


def toggle(page: Page, row: int) -> Locator:
    return page.get_by_role("group", name="Rows to show large").get_by_role("button", name=ROWS[row])


def cells(page: Page, row: int) -> Locator:
    return page.locator(f"{FILM} tbody tr").nth(row).locator("td")


def greys(canvas: Locator) -> list[int]:
    """What is painted near the left and the right edge, as greys; -1 where it is none."""
    return canvas.evaluate(
        """canvas => {
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            copy.drawImage(canvas, 0, 0);
            return [0.02, 0.98].map(share => {
                const x = Math.floor(share * canvas.width);
                const [r, g, b, a] = copy.getImageData(x, Math.floor(canvas.height / 2), 1, 1).data;
                return a === 255 && r === g && g === b ? r : -1;
            });
        }"""
    )


def assert_drawn(page: Page, row: int, frame: int, shift: int = 0) -> None:
    """The large image of a row is this frame, from 1."""
    told(page, frame=str(frame), state="ready")
    value = grey(row, frame - 1, shift)
    assert greys(screen(page, row).locator("canvas")) == [value, 255 - value]


def test_images_drawn_are_the_frames_given(begin: Callable[..., Page]) -> None:
    page = begin("frame=2")
    toggle(page, 3).click()
    for frame in (3, 8):
        page.locator(f"{FILM} thead button").nth(frame - 1).click()
        for row in (0, 1, 3) if frame <= LSTM_FIRST else range(4):
            assert_drawn(page, row, frame)
    small = cells(page, 2).nth(7).locator("img")
    expect(small).to_have_js_property("naturalWidth", 30)
    assert small.evaluate("image => [image.complete, image.alt]") == [True, "LSTM, frame 8"]


def test_it_never_starts_alone_and_plays_in_a_circle_until_it_is_paused(open_page: Callable[..., Page]) -> None:
    page = open_page(f"/?begin={quote('frame=7&pace=60')}", reduced_motion="reduce")
    page.wait_for_timeout(500)
    told(page, frame="8", playing="false")
    page.locator(PLAYER).evaluate(
        """player => {
            window.passed = [];
            new MutationObserver(() => window.passed.push(Number(player.dataset.frame)))
                .observe(player, { attributeFilter: ["data-frame"] });
        }"""
    )
    before = runs(page)
    page.get_by_role("button", name="Play").click()
    told(page, playing="true")
    page.wait_for_function("() => new Set(window.passed).size === 10", timeout=30_000)
    page.get_by_role("button", name="Pause").click()
    told(page, playing="false")
    passed = page.evaluate("() => window.passed.filter((frame, i, all) => frame !== all[i - 1])")
    steps = [(after - frame) % 10 for frame, after in zip(passed, passed[1:], strict=False)]
    assert all(1 <= step <= 3 for step in steps)  # a busy browser leaves frames out, and never goes back
    page.wait_for_timeout(300)
    frame = page.locator(PLAYER).get_attribute("data-frame")
    rested(page, int(frame or 0))
    page.wait_for_timeout(300)
    assert runs(page) <= before + 1  # nothing is told while it plays, nor where it stops at the frame that Python knows
    told(page, frame=frame or "")


def test_speed_is_a_choice_and_says_how_many_a_second(begin: Callable[..., Page]) -> None:
    page = begin("pace=400")
    speed = page.get_by_role("combobox", name="Speed")
    assert speed.locator("option").all_inner_texts()[2] == "1× · 2.5 a second"
    speed.select_option("4")
    page.get_by_role("button", name="Play").click()
    expect(page.locator(PLAYER)).not_to_have_attribute("data-frame", "1")
    run_again(page)
    expect(speed).to_have_value("4")


def test_keys_play_step_and_jump_and_stay_inside(begin: Callable[..., Page]) -> None:
    page = begin("frame=4&pace=2000")
    page.evaluate("window.reached = []; document.addEventListener('keydown', event => window.reached.push(event.key))")
    page.locator(f"{PLAYER} .tae-stage").focus()
    for key, frame in [
        ("ArrowRight", 6),
        ("ArrowLeft", 5),
        ("Home", 1),
        ("ArrowLeft", 1),
        ("End", 10),
        ("ArrowRight", 10),
    ]:
        page.keyboard.press(key)
        told(page, frame=str(frame))
    expect(page.locator(f"{PLAYER} .tae-words")).to_have_text("frame 10 of 10")
    page.keyboard.press("Space")
    told(page, playing="true")
    page.keyboard.press("Space")
    told(page, playing="false")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")  # who steps wants to look
    told(page, playing="false")
    for place in ("slider", "button"):
        page.get_by_role(place, name="Frame" if place == "slider" else "Play", exact=True).focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        told(page, frame="2")
        page.keyboard.press("Space")
        told(page, playing="true")
        page.keyboard.press("Space")
        told(page, playing="false")
    toggle(page, 3).focus()
    page.keyboard.press("Space")  # presses this button
    expect(toggle(page, 3)).to_have_attribute("aria-pressed", "true")
    told(page, playing="false")
    page.keyboard.press("r")
    assert [key for key in page.evaluate("window.reached") if key != " "] == ["r"]


def test_frame_rests_before_it_is_told_and_the_slider_scrubs_and_says_the_frame(begin: Callable[..., Page]) -> None:
    page = begin()
    page.locator(f"{PLAYER} .tae-stage").focus()
    before = runs(page)
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    rested(page, 7)
    assert runs(page) == before + 1
    expect(page.locator(f"{PLAYER} [role=status]")).to_have_text(
        "frame 7 of 10. True frames; Reconstruction: MSE 0.00700; LSTM: MSE 3.00×10⁻⁸"
    )
    slider = page.get_by_role("slider", name="Frame")
    slider.fill("8")
    slider.fill("7")
    assert_drawn(page, 1, 7)
    expect(slider).to_have_attribute("aria-valuetext", "frame 7 of 10")
    expect(screen(page, 1).locator(".tae-error-now")).to_have_text("MSE 0.00700")
    expect(screen(page, 2).locator(".tae-error-now")).to_have_text("MSE 3.00×10⁻⁸")
    expect(page.locator(f"{PLAYER} .tae-role")).to_have_text("to be predicted")
    slider.fill("4")
    expect(page.locator(f"{PLAYER} .tae-role")).to_have_text("seen by the model")
    rested(page, 4)


def test_strip_goes_to_the_column_that_is_clicked_or_entered(begin: Callable[..., Page]) -> None:
    page = begin()
    cells(page, 2).nth(5).locator("img").click()
    told(page, frame="6")
    cells(page, 2).nth(1).click()  # an empty one
    told(page, frame="2")
    current = page.locator(f"{FILM} .tae-current")
    expect(current).to_have_count(5)  # the number, and four rows
    expect(page.locator(f"{FILM} [aria-current=true]")).to_have_text("2")
    page.locator(f"{FILM} thead button").nth(8).focus()
    page.keyboard.press("Enter")
    told(page, frame="9")
    page.keyboard.press("ArrowLeft")
    told(page, frame="8")
    expect(page.locator(f"{FILM} thead button").nth(7)).to_be_focused()
    assert page.locator(f"{FILM} thead button[tabindex='0']").all_inner_texts() == ["8"]  # one stop for the Tab key


def test_frames_that_a_row_does_not_have_stay_visibly_empty(begin: Callable[..., Page]) -> None:
    page = begin("frame=1")
    for row, texts in {
        0: [""] * 8 + ["–"] * 2,
        1: [f"0.00{i}00" for i in range(1, 9)] + ["–"] * 2,
        2: ["–"] * 4 + [f"{i}.00×10⁻⁸" for i in range(1, 5)] + [""] * 2,
    }.items():
        assert [text.strip() for text in cells(page, row).all_inner_texts()] == texts
    expect(screen(page, 2).locator(".tae-missing")).to_have_text("– no frame 2")
    assert greys(screen(page, 2).locator("canvas")) == [-1, -1]
    box = screen(page, 2).bounding_box()
    page.get_by_role("slider", name="Frame").fill("10")
    expect(screen(page, 0).locator(".tae-missing")).to_be_visible()
    expect(screen(page, 2).locator(".tae-missing")).to_be_hidden()
    assert screen(page, 2).bounding_box() == box  # nothing jumps
    expect(cells(page, 0).nth(9)).to_have_attribute("title", "True frames, frame 10: there is none")
    names = page.locator(f"{FILM} tbody th")
    assert names.nth(2).inner_text().split("\n") == ["LSTM", "MSE"]
    expect(names.nth(2)).to_have_attribute("title", "Predicted.")


def test_strip_marks_where_predictions_begin_and_small_images_are_not_smoothed(
    begin: Callable[..., Page],
) -> None:
    page = begin()
    parts = page.locator(f"{FILM} .tae-parts th")
    assert parts.all_inner_texts() == ["seen by the model", "to be predicted"]
    lefts = page.locator(f"{FILM} .tae-predicted-first").evaluate_all(
        "cells => cells.map(cell => [cell.getBoundingClientRect().left, getComputedStyle(cell).borderLeftStyle])"
    )
    assert len(lefts) == 6 and len({tuple(left) for left in lefts}) == 1  # one line through words, numbers and rows
    assert lefts[0][1] == "dashed"
    first = page.locator(f"{FILM} thead button").nth(LSTM_FIRST).bounding_box()
    assert first and 0 < first["x"] - lefts[0][0] < 12
    canvas = screen(page, 0).locator("canvas")
    assert canvas.evaluate("canvas => [canvas.width % 30, canvas.width > 300]") == [0, True]
    edge = canvas.evaluate(
        """canvas => {
            const copy = new OffscreenCanvas(canvas.width, 1).getContext("2d");
            copy.drawImage(canvas, 0, 0);
            return [...new Set(copy.getImageData(0, 0, canvas.width, 1).data)].sort((a, b) => a - b);
        }"""
    )
    assert edge == [0, 255]  # frame 1 is black and white, and nothing between
    assert cells(page, 0).first.locator("img").evaluate("node => getComputedStyle(node).imageRendering") == "pixelated"


def test_rows_are_chosen_and_one_always_stays(begin: Callable[..., Page]) -> None:
    page = begin()
    shown = page.locator(f"{PLAYER} figcaption")
    assert shown.all_inner_texts() == [*ROWS[:3]]
    toggle(page, 3).click()
    assert shown.all_inner_texts() == [*ROWS]
    for row in (0, 1, 2, 3):
        toggle(page, row).click()
    assert shown.all_inner_texts() == [ROWS[3]]
    pressed = [toggle(page, row).get_attribute("aria-pressed") for row in range(4)]
    assert pressed == ["false", "false", "false", "true"]
    switch(page, "Other sequence")
    expect(page.locator(PLAYER)).to_have_attribute("data-state", "ready")
    assert shown.all_inner_texts() == [ROWS[3]]  # of another sequence the same rows


@pytest.mark.parametrize("follow", ["yes", "no"])
def test_another_run_of_the_page_keeps_frame_and_playing(begin: Callable[..., Page], follow: str) -> None:
    page = begin(f"frame=3&pace=100&follow={follow}")
    page.locator(f"{PLAYER} .tae-stage").focus()
    page.keyboard.press("ArrowRight")
    run_again(page)  # maybe before the frame has rested
    told(page, frame="5")
    rested(page, 5)
    run_again(page)
    told(page, frame="5")
    page.get_by_role("button", name="Play").click()
    run_again(page)
    told(page, playing="true")
    page.get_by_role("button", name="Pause").click()


def test_frame_that_the_page_means_arrives_and_another_sequence_opens_there(begin: Callable[..., Page]) -> None:
    page = begin("frame=2")
    page.locator(f"{PLAYER} .tae-stage").focus()
    page.keyboard.press("End")
    rested(page, 10)
    page.get_by_role("button", name="To frame 6", exact=True).click()
    assert_drawn(page, 1, 6)
    page.get_by_role("button", name="Play").click()
    switch(page, "Other sequence")
    told(page, playing="false")
    assert_drawn(page, 1, 6, shift=100)
    page.get_by_role("button", name="Frame after").click()
    rested(page, 7)


def test_player_that_comes_back_is_where_it_was_left(begin: Callable[..., Page]) -> None:
    page = begin("follow=no")
    toggle(page, 1).click()
    page.get_by_role("slider", name="Frame").fill("6")
    rested(page, 6)
    switch(page, "Show the player")
    expect(page.locator(PLAYER)).to_have_count(0)
    switch(page, "Show the player")
    assert_drawn(page, 0, 6)
    expect(toggle(page, 1)).to_have_attribute("aria-pressed", "false")
    rested(page, 6)


def assert_wide_images_stand_below_each_other_and_square_ones_side_by_side(page: Page, size: str) -> None:
    boxes = [screen(page, row).bounding_box() for row in range(3)]
    tops, lefts = ({box[axis] for box in boxes if box} for axis in ("y", "x"))
    is_wide = size == "152x1280"
    assert (len(tops), len(lefts)) == ((3, 1) if is_wide else (1, 3))
    sizes = {(box["width"], box["height"]) for box in boxes if box}
    assert len(sizes) == 1 and all(width > (900 if is_wide else 390) for width, _ in sizes)


@pytest.mark.parametrize("size", ["201x201", "152x1280", "20x30"])
def test_it_fits_its_window_in_both_themes(begin: Callable[..., Page], size: str) -> None:
    page = begin(f"count=24&size={size}")
    if size != "20x30":
        assert_wide_images_stand_below_each_other_and_square_ones_side_by_side(page, size)
    toggle(page, 3).click()
    told(page, state="ready")
    for width, scheme in looks(page):
        top, bottom = (page.locator(f"{PLAYER} {part}").bounding_box() for part in (".tae-choice", ".tae-controls"))
        assert top and bottom and bottom["y"] + bottom["height"] - top["y"] < 800
        boxes = [screen(page, row).bounding_box() for row in range(4)]
        assert all(box and box["x"] + box["width"] <= width for box in boxes)
        assert len({(box["width"], box["height"]) for box in boxes if box}) == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator(PLAYER).evaluate("node => getComputedStyle(node).colorScheme") == scheme
        film = page.locator(FILM)
        assert film.evaluate("film => [film.scrollWidth > film.clientWidth, film.scrollLeft]") == [True, 0]
        main = page.locator(".stMain")
        main.evaluate("node => node.scrollTo({top: 0})")
        page.locator(f"{PLAYER} .tae-stage").evaluate("node => node.focus({preventScroll: true})")
        page.keyboard.press("End")
        told(page, frame="24")
        cell, window = cells(page, 3).nth(23).bounding_box(), film.bounding_box()
        assert (
            cell
            and window
            and window["x"] < cell["x"]
            and cell["x"] + cell["width"] <= window["x"] + window["width"] + 1
        )
        assert main.evaluate("node => node.scrollTop") == 0  # the strip moves, and the page does not
        page.keyboard.press("Home")
        label, cell = page.locator(f"{FILM} tbody th").nth(3).bounding_box(), cells(page, 3).first.bounding_box()
        assert label and cell and label["x"] + label["width"] <= cell["x"] + 1


def test_it_works_by_touch(open_page: Callable[..., Page]) -> None:
    page = open_page("/?begin=pace%3D100", width=390, height=800, has_touch=True)
    page.get_by_role("button", name="Play").tap()
    expect(page.locator(PLAYER)).not_to_have_attribute("data-frame", "1")
    page.get_by_role("button", name="Pause").tap()
    cells(page, 1).nth(2).tap()
    told(page, frame="3", playing="false")
    page.get_by_role("button", name="Frame after").tap()
    told(page, frame="4")
    toggle(page, 1).tap()
    expect(screen(page, 1)).to_have_count(0)
    rested(page, 4)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_number_of_an_error_is_never_cut(begin: Callable[..., Page]) -> None:
    page = begin("frame=5&size=201x201&error=mean%20squared%20error%20of%20all%20pixels", width=390)
    box, error = screen(page, 1).bounding_box(), screen(page, 1).locator(".tae-error-now")
    expect(error).to_have_text("mean squared error of all pixels 0.00600")
    value = error.locator("span").last.bounding_box()
    assert box and value and value["width"] > 40 and value["x"] + value["width"] <= box["x"] + box["width"] + 1


def test_text_that_comes_in_stays_text(begin: Callable[..., Page]) -> None:
    page = begin(f"text={quote(HOSTILE)}")
    assert page.locator(f"{PLAYER} figcaption").first.inner_text() == HOSTILE
    assert page.locator(f"{PLAYER} .tae-note").all_inner_texts() == ["Untrained model", HOSTILE]
    expect(page.locator(f"{PLAYER} b")).to_have_count(0)
    page.get_by_text("What the rows are").click()
    expect(page.locator(f"{PLAYER} dd").first).to_have_text(HOSTILE)
    settle(page)
