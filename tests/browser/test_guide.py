"""Glossary, tour and demo as a person uses them, in a real browser: pointer, Tab, finger, arrow keys, reload."""

from playwright.sync_api import Locator, Page, expect

from tae.ui.shell.glossary import find
from tae.ui.shell.tour import STORY, TOUR
from tests.browser import MARKS, looks, settle

pytestmark = MARKS
LETTERS = {"light": "rgb(28, 34, 48)", "dark": "rgb(232, 235, 242)"}


def start_tour(page: Page) -> None:
    page.get_by_test_id("stMain").get_by_role("button", name="Take the tour").click()
    arrive(page, 1, len(TOUR))


def arrive(page: Page, number: int, total: int) -> None:
    """Wait until a step is there, and what belongs to it drawn."""
    page.get_by_text(f"{number} of {total}").wait_for()
    settle(page)


def box_of(element: Locator) -> dict[str, float]:
    """Asked of the page: Playwright's own measure now and then finds no box for what CSS anchors place."""
    return element.evaluate("node => node.getBoundingClientRect().toJSON()")


def test_term_explains_itself_under_pointer_focus_and_finger_and_is_reached_by_the_tab_key(open_page) -> None:
    page = open_page("/", has_touch=True)
    start_tour(page)
    terms = page.locator(".st-key-guide_card .term")
    expect(terms).to_have_count(4)
    for width, scheme in looks(page):
        for show in ("hover", "focus", "tap"):
            for term in terms.all():
                tip = term.get_by_role("tooltip", include_hidden=True)
                expect(tip).to_be_hidden()
                getattr(term, show)()
                expect(tip).to_be_visible()
                place, shown = box_of(term), box_of(tip)
                assert shown["left"] >= 0 and shown["right"] <= width and shown["bottom"] <= 900
                assert shown["width"] > 150 and place["top"] <= shown["top"] < place["bottom"] + 12
                page.mouse.move(width - 5, 600)
                page.evaluate("document.activeElement.blur()")
                expect(tip).to_be_hidden()
        assert terms.first.locator("span").text_content() == find("encoder").text
        terms.first.focus()
        assert terms.first.locator("span").evaluate("node => getComputedStyle(node).color") == LETTERS[scheme]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.activeElement.blur()")
    page.get_by_role("button", name="End the tour").focus()
    page.keyboard.press("Tab")
    first = terms.first
    expect(first).to_be_focused()
    tip = first.get_by_role("tooltip")
    assert first.get_attribute("aria-describedby") == tip.get_attribute("id")
    page.evaluate("document.activeElement.blur()")
    first.hover()  # the explanation stays under the pointer
    place = box_of(tip)
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=8)
    expect(tip).to_be_visible()


def test_tour_walks_the_pages_without_moving_its_buttons(open_page) -> None:
    page = open_page()
    start_tour(page)
    places = []
    for number, step in enumerate(TOUR, 1):
        arrive(page, number, len(TOUR))
        assert page.get_by_role("heading", name=step.page, exact=True).is_visible()
        assert page.locator(".stMain").evaluate("node => node.scrollTop") == 0
        if number == 1:  # what it points at is where it says
            card = box_of(page.locator(".st-key-guide_card"))
            assert box_of(page.locator(".st-key-shelf"))["y"] > card["bottom"]
            error = page.locator(".tae-outcome-figure").get_by_text("Error", exact=True)
            assert box_of(error)["y"] < box_of(page.locator(".tae-outcome-figure .tae-canvas"))["y"]
        places.append(
            (box_of(page.locator(".st-key-guide_next"))["y"], box_of(page.locator(".st-key-guide_card"))["height"])
        )
        page.locator(".stMain").evaluate("node => node.scrollTo({top: 300})")
        if number < len(TOUR):
            page.get_by_role("button", name="Next").click()
    assert len(set(places)) == 1
    page.get_by_role("button", name="Finish").click()
    page.locator(".st-key-guide_card").wait_for(state="detached")
    settle(page)
    assert "changes=" not in page.url


def test_offer_is_made_once_and_the_tour_can_be_taken_again(open_page) -> None:
    page = open_page("/compare")
    page.get_by_role("button", name="Not now").click()
    page.locator(".st-key-guide_offer").wait_for(state="detached")
    page.wait_for_function("document.cookie.includes('tae_tour=offered')")
    page.reload()
    settle(page)
    assert page.locator(".st-key-guide_offer").count() == 0
    page.get_by_test_id("stSidebar").get_by_role("button", name="Take the tour").click()
    arrive(page, 1, len(TOUR))


def assert_loss_is_seen_at_once(page: Page) -> None:
    title = page.locator(".tae-outcome-figure .tae-lost")
    expect(title).to_be_visible()
    assert box_of(page.locator(".tae-outcome-figure .tae-canvas"))["bottom"] < 900
    assert float(title.inner_text().split("(−")[1].strip(")")) > 6


def test_demo_is_walked_with_the_arrow_keys_and_escape_gives_everything_back(open_page) -> None:
    page = open_page("/?image=garment-30")
    address = page.url
    letters = float(page.locator("html").evaluate("node => parseFloat(getComputedStyle(node).fontSize)"))
    page.get_by_text("Demo", exact=True).click()
    for number, step in enumerate(STORY, 1):
        arrive(page, number, len(STORY))
        sentence = page.locator("h1:visible")
        assert sentence.inner_text() == step.text.format(latent_dim=128)
        assert float(sentence.evaluate("node => parseFloat(getComputedStyle(node).fontSize)")) > 2 * letters
        assert (
            page.locator('[data-testid="stFileUploader"]:visible, [data-testid="stDownloadButton"]:visible').count()
            == 0
        )
        assert page.locator('[class*="st-key-expert_"]:visible').count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1400
        assert page.locator(".tae-toolbar:visible").count() == 0
        if "changes" in step.view:
            assert_loss_is_seen_at_once(page)
        if number < len(STORY):
            page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    arrive(page, len(STORY) - 1, len(STORY))
    page.keyboard.press("Escape")
    page.locator(".st-key-guide_card").wait_for(state="detached")
    settle(page)
    assert page.url == address
    assert page.get_by_test_id("stFileUploader").is_visible()
    assert page.get_by_test_id("stSidebar").get_by_text("Fit to the model's size").is_visible()
    assert float(page.locator("html").evaluate("node => parseFloat(getComputedStyle(node).fontSize)")) == letters
