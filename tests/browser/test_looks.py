"""Every page fits its window, wide and narrow, in both themes, and so does each of its sections; all can be read aloud."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser import MARKS, assert_fits, looks, settle

pytestmark = MARKS
VIEWS = {
    "/": (0, True),
    "/?section=heatmap": (2, False),
    "/?section=overview": (1, False),
    "/?section=quality": (4, False),
    "/models": (1, True),
    "/layers?lens=raw": (4, False),
    "/layers?depths=patches": (0, True),
    "/latent": (0, True),  # on a slow machine the test set is embedded upon a click
    "/latent?latent=between": (0, False),
    "/latent?latent=directions": (0, False),
    "/sequences?forecast=roll": (2, True),
    "/causal": (0, True),
    "/causal?causal=knock": (1, False),
    "/causal?causal=ranking": (3, False),
    "/causal?causal=effect": (2, False),
    "/causal?causal=region": (1, False),
    "/causal?causal=pair": (4, False),
    "/compare?similarity=charts": (1, True),
    "/train": (1, True),
}
"""{path: (charts that it shows at least, whether axe-core looks at it)}"""
STREAMLIT = {"presentation-role-conflict"}
"""What axe-core finds of Streamlit's file uploader, which we cannot mend."""


@pytest.fixture
def window_height() -> int:
    return 1200


@pytest.mark.parametrize("path", VIEWS)
def test_a_view_fits_its_window_in_both_themes_and_axe_finds_nothing_of_ours(visit, path: str) -> None:
    page, (charts, is_audited) = visit(path), VIEWS[path]
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('button')).transitionDuration)") < 1e-3
    for width, scheme in looks(page):
        assert assert_fits(page, width, scheme) >= charts
        if is_audited:
            heard = (
                Axe().run(page, context={"exclude": [["pre"]]}).response["violations"]
            )  # Streamlit colours code itself
            found = [(one["id"], node) for one in heard for node in one["nodes"] if one["id"] not in STREAMLIT]
            told = [(scheme, name, node["html"][:120], node["any"][0]["message"][:160]) for name, node in found]
            assert not told
    if path.startswith("/causal"):
        expect(page.get_by_test_id("stMain")).to_contain_text("Uniform attention")


@pytest.mark.parametrize("path", ["/causal", "/causal?causal=effect", "/train"])
def test_on_a_telephone_nothing_has_to_be_scrolled_sideways(visit, path: str) -> None:
    page = visit(path)
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    assert not page.evaluate("""() => [...document.querySelectorAll('.stMain *')].filter(one => one.clientWidth > 30
        && one.scrollWidth > one.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX))
        .map(one => one.className)""")
    if path.startswith("/causal"):
        row = page.locator(".figures tbody tr").first
        assert all(
            box["x"] > 0 and box["x"] + box["width"] <= 390
            for box in (one.bounding_box() for one in row.locator("td").all())
        )


def test_words_below_small_figures_and_badges_are_whole(visit) -> None:
    page = visit("/?changes=encoder/0/0")
    words = page.locator(
        ".tae-main .tae-readout, .tae-outcome, .tae-outcome-figure figcaption span, .stMain .stMarkdownBadge"
    )
    for width in (1250, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        settle(page)
        sizes = words.evaluate_all(
            "all => all.map(one => [one.scrollHeight - one.clientHeight, one.scrollWidth - one.offsetWidth])"
        )
        assert len(sizes) >= 3 and all(high <= 1 and wide <= 1 for high, wide in sizes)


@pytest.mark.parametrize("path", ["/", "/layers", "/models", "/sequences"])
def test_on_a_telephone_the_first_buttons_are_whole_and_stand_together(visit, path: str) -> None:
    page = visit(path)
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    bar, *tops = (
        page.evaluate("""() => [document.querySelector('[data-testid=stHeader]').getBoundingClientRect().bottom,
        ...[...document.querySelectorAll('.st-key-page_top > *')].map(one => one.getBoundingClientRect())
            .filter(one => one.height).map(one => one.top)]""")
    )
    assert min(tops) >= bar
    copy, export = (page.locator(f".st-key-{key}").bounding_box()["y"] for key in ("copy_link", "export"))
    assert abs(copy - export) < 4


def test_labels_of_a_row_are_in_line(visit) -> None:
    for path, row in (
        ("/compare", ".st-key-compare_b"),
        ("/sequences", ".stHorizontalBlock:has(> .st-key-choose_forecast)"),
    ):
        page = visit(path)
        labels = page.locator(f"{row} [data-testid=stWidgetLabel]").all()
        assert len(labels) > 2 and len({round(one.bounding_box()["y"]) for one in labels}) == 1
