"""Help along the way: terms that explain themselves, the tour for a first visit, and the demo for showing to colleagues.

Tour and demo walk through steps of `tae.ui.shell.tour`. A step sets fields of the view, as a link would, and leads to its page;
somebody who wanders off finds a line that leads back. The cookie `tae_tour` remembers that the tour was offered.
"""

import html
from collections.abc import Mapping

import streamlit as st

from tae.ui.session.models import Active, checkpoint_files
from tae.ui.session.view import DEFAULTS, link
from tae.ui.shell import glossary
from tae.ui.shell.tour import CHECKPOINT, STORY, TOUR, Step

Pages = Mapping[str, tuple[str, str]]  # {title: (file, icon)}

_KEPT = ("task", "run")  # fields of the page Train, which no step is about
_GUIDES = {"tour": TOUR, "demo": STORY}

_DEMO_STYLE = """
html {font-size: clamp(17px, 1.3vw, 26px)}
.stMain .stMainBlockContainer {max-width: 112rem; padding-top: 3.2rem}
[class*='st-key-expert_'], [data-testid='stElementContainer']:has(> [data-testid='stFileUploader']),
[data-testid='stElementContainer']:has(> [data-testid='stDownloadButton']),
.stMain [data-testid='stLayoutWrapper']:has(> .st-key-page_top),
.stMain [data-testid='stLayoutWrapper']:has(> .st-key-page_top)
  + [data-testid='stElementContainer']:has(> [data-testid='stMarkdown']) {display: none}
[data-testid='stLayoutWrapper']:has(> .st-key-guide_card)
  {position: sticky; top: 3.7rem; z-index: 90; background: light-dark(#ffffff, #12151c)}
.st-key-attention_panels [data-testid='stColumn'] [data-testid='stHorizontalBlock']:has(img) {max-width: 120vh}
.st-key-attention_panels [data-testid='stColumn'] [data-testid='stColumn']:has(img) {min-width: 10.5rem}
.st-key-guide_card {background: none}
.st-key-guide_text {min-height: 5.8rem; justify-content: center}
.st-key-guide_text h1 {font-size: 2.1rem; line-height: 1.25; padding: 0; text-wrap: balance}
@media (max-width: 900px) {.st-key-guide_text {min-height: 8rem} .st-key-guide_text h1 {font-size: 1.6rem}}
"""


def prose(text: str, caption: bool = False) -> None:
    """Draw a paragraph, or a caption, of Markdown in which [[term]] and [[what is shown|term]] explain themselves.

    Names from strangers have gone through `escape_markdown`.
    """
    (st.caption if caption else st.markdown)(glossary.marked(text), unsafe_allow_html=True)


def in_demo() -> bool:
    """Whether the app is being shown: large type, and no more controls than the story needs."""
    return st.session_state.get("guide") == "demo"


def begin(page: str) -> None:
    """Fill in what tour and demo remember; called before anything is drawn."""
    state = st.session_state
    state.guide_here = page
    for name, value in {"guide": "", "guide_step": 0, "guide_moves": 0, "guide_before": {}}.items():
        state.setdefault(name, value)
    state.setdefault("guide_offered", st.context.cookies.get("tae_tour") == "offered")


def style() -> None:
    """Draw the style of the demo, where the app is being shown."""
    if in_demo():
        st.html(f"<style>{_DEMO_STYLE}</style>")


def sidebar(pages: Pages) -> None:
    """The tour, the switch of the demo and the glossary; drawn in the sidebar."""
    state = st.session_state
    if CHECKPOINT in checkpoint_files():
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            if not in_demo():
                st.button(
                    "Take the tour",
                    key="guide_tour",
                    icon=":material/tour:",
                    type="tertiary",
                    on_click=_start,
                    args=("tour", pages),
                )
            state.guide_demo = in_demo()
            st.toggle(
                "Demo",
                key="guide_demo",
                on_change=_switch_demo,
                args=(pages,),
                help="For showing the app to colleagues: large type, few controls, and a story that the arrow keys walk "
                "through. Esc ends it.",
            )
    with st.popover("Glossary", icon=":material/menu_book:", type="tertiary"):
        _terms()
    if state.guide_offered and st.context.cookies.get("tae_tour") != "offered":
        st.html(
            "<script>document.cookie = 'tae_tour=offered; max-age=31536000; path=/; samesite=strict'</script>",
            unsafe_allow_javascript=True,
        )


@st.fragment
def _terms() -> None:
    words = st.text_input("Search the glossary", key="guide_words", placeholder="A word, such as rollout")
    found = glossary.search(words or "")
    entries = "".join(f"<dt>{html.escape(term.name)}</dt><dd>{html.escape(term.text)}</dd>" for term in found)
    entries = entries or "<dd>No such term here.</dd>"
    st.html(f'<dl class="glossary" tabindex="0" aria-label="Glossary">{entries}</dl>')


def card(active: Active | None, pages: Pages) -> None:
    """The step at hand, or the offer of a tour on the first visit, whatever it shows; drawn at the top of the page.

    Whether it is offered shows with the first page: an offer that came later would push down what somebody works on.
    """
    state = st.session_state
    state.setdefault("guide_offers", CHECKPOINT in checkpoint_files())
    if not state.guide:
        if state.guide_offers and not state.guide_offered:
            _offer(pages)
        return
    steps = _steps(state.guide, pages)
    number = min(state.guide_step, len(steps) - 1)
    step = steps[number]
    demo = in_demo()
    is_here = active is not None and active.key == CHECKPOINT and step.page == state.guide_here
    if is_here and step.hides:
        hidden = ", ".join(f".st-key-{key}, [data-testid='stColumn']:has(.st-key-{key})" for key in step.hides)
        st.html(f"<style>{hidden} {{display: none}}</style>")
    with st.container(key="guide_card", border=not demo, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="guide_bar"):
            if not demo:
                st.markdown(f"**{step.title}**" if is_here else "**The tour waits**", width="stretch")
            _controls(number, len(steps), pages, is_here)
        with st.container(key="guide_text", gap="xsmall"):
            if active is None or not is_here:
                word = "story" if demo else "tour"
                st.markdown(f"The {word} goes on on the page **{step.page}**, with the demo checkpoint.")
            elif demo:
                sentence = step.text.format(latent_dim=active.config.latent_dim)
                st.markdown(f"# {glossary.marked(sentence)}", unsafe_allow_html=True, anchors=False)
            else:
                prose(step.text.format(latent_dim=active.config.latent_dim))
                prose(f":material/arrow_forward: {step.invitation}")
        # Each step begins at the top of its page, and a demo with the arrow keys at work: a switch with the focus would
        # keep them to itself. The number makes it a new script, which is run.
        blur = "document.activeElement?.blur();" if demo else ""
        st.html(
            f"<script>/* {state.guide_moves} */ {blur} document.querySelector('.stMain').scrollTo({{top: 0}})</script>",
            unsafe_allow_javascript=True,
        )


def _controls(number: int, total: int, pages: Pages, is_here: bool) -> None:
    demo = in_demo()
    last = number == total - 1
    st.caption(f"{number + 1} of {total}" if demo else f"Step {number + 1} of {total}", width="content")
    st.button(
        "Back",
        key="guide_back",
        disabled=number == 0,
        shortcut="Left" if demo else None,
        type="tertiary" if demo else "secondary",
        on_click=_go,
        args=(number - 1, pages),
    )
    if not is_here:
        st.button("Return to it", key="guide_return", type="primary", on_click=_go, args=(number, pages))
    if not (last and demo):
        st.button(
            "Finish" if last else "Next",
            key="guide_next",
            shortcut="Right" if demo else None,
            type="tertiary" if demo else "primary",
            on_click=_end if last else _go,
            args=(pages,) if last else (number + 1, pages),
        )
    if demo or not last:
        st.button(
            "End the demo" if demo else "End the tour",
            key="guide_end",
            shortcut="Esc" if demo else None,
            type="tertiary",
            on_click=_end,
            args=(pages,),
        )


def _offer(pages: Pages) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="guide_offer"):
        st.markdown("**New here?** Five short steps, on garments.", width="stretch")
        st.button("Take the tour", key="guide_accept", type="primary", on_click=_start, args=("tour", pages))
        st.button("Not now", key="guide_decline", type="tertiary", on_click=_decline)


def _steps(guide: str, pages: Pages) -> list[Step]:
    """Those whose page is there."""
    return [step for step in _GUIDES[guide] if step.page in pages]


def _start(guide: str, pages: Pages) -> None:
    state = st.session_state
    if not state.guide:  # else it is the view before the tour that the demo gives back
        state.guide_before = {"page": state.guide_here, "many": state.get("reconstruct_view")}
        state.guide_before |= {field: state[field] for field in DEFAULTS}
    state.guide = guide
    state.guide_offered = True
    _go(0, pages)


def _go(number: int, pages: Pages) -> None:
    state = st.session_state
    steps = _steps(state.guide, pages)
    state.guide_step = max(0, min(number, len(steps) - 1))
    step = steps[state.guide_step]
    _show(step.page, {**DEFAULTS, "checkpoint": CHECKPOINT, **step.view}, pages)


def _end(pages: Pages) -> None:
    """The view, and with it the visitor's own image and checkpoint, is as it was before."""
    state = st.session_state
    state.guide = ""
    _show(state.guide_before["page"], state.guide_before, pages)


def _show(page: str, view: Mapping[str, str], pages: Pages) -> None:
    """Set the view and lead to its page.

    Runs in a widget's callback: the page that is left is then not begun once more, which would drop its images from
    the server while the browser still shows them.
    """
    state = st.session_state
    for field in DEFAULTS:
        if field not in _KEPT:
            state[field] = view[field]
    if "reconstruct_view" in state:
        state.reconstruct_view = view.get("many") or "one"
    state.guide_moves += 1
    if page != state.guide_here:
        st.switch_page(pages[page][0], query_params=link(page))


def _decline() -> None:
    st.session_state.guide_offered = True


def _switch_demo(pages: Pages) -> None:
    if in_demo():
        _end(pages)
    else:
        _start("demo", pages)
