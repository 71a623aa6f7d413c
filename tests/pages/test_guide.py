"""The glossary, the tour and the demo without a browser: where a step leads, what it sets, and what it gives back."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from tae import ui
from tae.model.autoencoder import TransformerAutoencoder
from tae.ui.shell import sidebar
from tae.ui.shell.glossary import TERMS
from tae.ui.shell.tour import CHECKPOINT, STORY, TOUR, Step
from tests.pages import FIRST, PAGES, drop, go, image, open_page, texts

pytestmark = pytest.mark.usefixtures("pages_are_remembered")


def stay(app: AppTest) -> AppTest:
    """AppTest goes back to the page before `st.switch_page`, unless it is told where the app is."""
    return app.switch_page(PAGES[app.title[0].value])


def press(app: AppTest, key: str) -> AppTest:
    stay(app).button(key).click().run()
    assert not app.exception and not app.error
    return app


def switch_demo(app: AppTest, on: bool) -> AppTest:
    stay(app).toggle("guide_demo").set_value(on).run()
    assert not app.exception and not app.error
    return app


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def keys(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def view(app: AppTest) -> dict[str, str]:
    return {field: app.session_state[field] for field in ui.DEFAULTS}


def linked(app: AppTest) -> dict[str, str]:
    """What the address says; after a change of page AppTest gives plain texts in place of lists."""
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def assert_at(app: AppTest, step: Step) -> None:
    """The step's page is open, its fields are those of the view and of the link, and the page kept them."""
    assert [title.value for title in app.title] == [step.page]
    for field, value in {"checkpoint": CHECKPOINT, **step.view}.items():
        assert app.session_state[field] == value, (step.title, field)
        assert linked(app).get(field, ui.DEFAULTS[field]) == value, (step.title, field)
    words = step.text.split("[[")[0].format(latent_dim=128)
    assert words in texts(app)


def test_steps_set_only_fields_of_the_view_and_lead_to_pages_that_are_there() -> None:
    for step in (*TOUR, *STORY):
        assert set(step.view) <= set(ui.DEFAULTS) and step.page in sidebar.PAGES


def test_tour_leads_through_five_steps_and_gives_back_the_view_before() -> None:
    app = open_page()
    before = view(app)
    press(app, "guide_accept")
    for number, step in enumerate(TOUR, 1):
        assert f"Step {number} of 5" in texts(app) and f"**{step.title}**" in texts(app)
        assert_at(app, step)
        assert ("guide_end" in keys(app)) == (number < 5)
        press(app, "guide_next")
    assert "guide_next" not in keys(app) and "guide_accept" not in keys(app)
    assert view(app) == before


def test_tour_steps_back_and_ends_at_once_where_asked() -> None:
    app = press(open_page("Models"), "guide_tour")
    assert app.button("guide_back").disabled
    press(press(app, "guide_next"), "guide_back")
    assert_at(app, TOUR[0])
    press(app, "guide_end")
    assert "guide_end" not in keys(app) and "Step 1" not in texts(app)
    assert [title.value for title in app.title] == ["Models"]


def test_own_image_and_checkpoint_are_back_after_the_tour() -> None:
    app = drop(open_page("Explore", checkpoint=FIRST), ("mine.png", image(3)))
    before = view(app)
    assert before["image"].startswith("upload-") and before["checkpoint"] == FIRST
    press(press(app, "guide_tour"), "guide_next")
    assert view(app) != before
    assert view(press(app, "guide_end")) == before


def test_tour_is_offered_on_the_first_screen_as_such_and_gives_it_back() -> None:
    app = open_page("Explore", checkpoint=FIRST)
    before = view(app)
    assert_at(press(app, "guide_accept"), TOUR[0])
    assert view(press(app, "guide_end")) == before and before["checkpoint"] == FIRST
    assert "guide_accept" not in keys(app)


def test_story_sets_each_view_and_gives_back_the_one_before() -> None:
    app = open_page("Explore", image="garment-30", layer="1", query="84", part="decoder", head="2")
    before = view(app)
    switch_demo(app, True)
    for number, step in enumerate(STORY, 1):
        assert f"{number} of {len(STORY)}" in texts(app)
        assert_at(app, step)
        if number < len(STORY):
            press(app, "guide_next")
    assert "guide_next" not in keys(app)
    switch_demo(app, False)
    assert [title.value for title in app.title] == ["Explore"]
    assert view(app) == before
    assert {"image": "garment-30", "layer": "1", "part": "decoder"}.items() <= linked(app).items()


def test_demo_begun_during_a_tour_gives_back_the_view_before_both() -> None:
    app = open_page(image="garment-30")
    there = view(app)
    press(press(press(app, "guide_accept"), "guide_next"), "guide_next")
    switch_demo(app, True)
    press(press(app, "guide_next"), "guide_end")
    assert view(app) == there and [title.value for title in app.title] == ["Explore"]


def test_demo_hides_what_the_story_does_not_need_and_then_shows_it_again() -> None:
    app = open_page()
    assert "st-key-expert_" not in html(app)
    assert "st-key-expert_" in html(switch_demo(app, True))
    assert {"guide_tour", "guide_accept"}.isdisjoint(keys(app))
    assert "st-key-expert_" not in html(press(app, "guide_end"))


def test_who_wanders_off_is_told_the_way_back() -> None:
    app = press(open_page(), "guide_accept")
    press(app, "guide_next")
    for page in ("Models", "Train"):
        go(app, page)
        assert "goes on on the page **Explore**" in texts(app)
    press(app, "guide_return")
    assert_at(app, TOUR[1])
    other = next(option for option in app.selectbox("choose_checkpoint").options if "any width" in option)
    app.selectbox("choose_checkpoint").select(other).run()
    assert not app.exception and "goes on on the page" in texts(app) and TOUR[1].title not in texts(app)
    assert_at(press(app, "guide_return"), TOUR[1])


def test_offer_of_the_tour_goes_away_for_good() -> None:
    app = open_page()
    assert "guide_accept" in keys(app) and "tae_tour" not in html(app)
    press(app, "guide_decline")
    assert "tae_tour=offered" in html(app)
    for page in ("Explore", "Models", "Explore"):
        assert "guide_accept" not in keys(go(app, page))
    assert "guide_tour" in keys(app)


def test_tour_leaves_out_a_page_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidebar, "PAGES", {title: page for title, page in sidebar.PAGES.items() if title != "Compare"})
    app = press(open_page(), "guide_accept")
    for _ in range(3):
        press(app, "guide_next")
    assert "Step 4 of 4" in texts(app)
    assert_at(app, TOUR[4])


def test_without_the_demo_checkpoint_there_is_a_glossary_but_no_tour(
    keep: Callable[..., TransformerAutoencoder],
) -> None:
    keep()
    app = open_page()
    assert {"guide_tour", "guide_accept"}.isdisjoint(keys(app)) and not [
        toggle for toggle in app.toggle if toggle.key == "guide_demo"
    ]
    assert "<dt>rollout</dt>" in html(app)


def test_glossary_lists_all_terms_and_finds_some() -> None:
    app = open_page("Models")
    assert all(f"<dt>{term.name}</dt>" in html(app) for term in TERMS)
    app.text_input("guide_words").set_value("Kobayashi").run()
    assert html(app).count("<dt>") == 1 and "<dt>value-weighted attention</dt>" in html(app)
    app.text_input("guide_words").set_value("<b>zebra").run()
    assert not app.exception and "No such term" in html(app) and "<dt>" not in html(app)


def test_prose_draws_terms_and_keeps_foreign_html_as_text() -> None:
    def script() -> None:
        from tae import ui

        ui.prose("Each [[query]] of <b>x</b>")
        ui.prose("counted in [[x uniform]]", caption=True)

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert 'class="term"' in app.markdown[0].value and "\\<b>x\\</b>" in app.markdown[0].value
    assert 'class="term"' in app.caption[0].value
