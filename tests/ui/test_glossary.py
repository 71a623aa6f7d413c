"""The glossary: every word once and in few sentences, and texts that explain themselves without letting HTML in."""

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tae.store.names import escape_markdown
from tae.ui.shell import glossary

ISSUE = ("query", "key", "head", "layer", "latent", "rollout", "x uniform")
LATER = ("lens", "state", "principal component", "t-SNE", "participation ratio")


class Tags(HTMLParser):
    """All tags that a text would open, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.feed(re.sub(r"\\<", "&lt;", text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))


def test_terms_stand_once_each_in_the_order_of_the_alphabet() -> None:
    names = [term.name.casefold() for term in glossary.TERMS]
    assert names == sorted(names)
    forms = [form.casefold() for term in glossary.TERMS for form in (term.name, *term.also)]
    assert len(forms) == len(set(forms))
    assert all(glossary.find(name).name == name for name in (*ISSUE, *LATER))


@pytest.mark.parametrize("term", glossary.TERMS, ids=lambda term: term.name)
def test_explanations_are_one_to_two_sentences_that_do_not_overclaim(term: glossary.Term) -> None:
    assert 1 <= len(re.findall(r"[.](?=\s|$)", term.text)) <= 2 and term.text.endswith(".")
    assert len(term.text) <= 200
    assert not re.search(r"\b(looks?|looked|thinks?|sees why|because it|important)\b", term.text)


def test_marked_term_is_reached_by_keyboard_and_described_by_its_text() -> None:
    marked = glossary.marked("One row for each [[query]].")
    (outer, attributes), (inner, tip) = Tags(marked).opened
    assert (outer, inner) == ("span", "span")
    assert attributes["tabindex"] == "0"
    assert attributes["aria-describedby"] == tip["id"] and tip["role"] == "tooltip"
    assert marked.startswith("One row for each <span") and marked.endswith("</span></span>.")
    assert glossary.find("query").text.split(":")[0] in marked


def test_shown_word_and_term_can_differ_and_other_forms_are_known() -> None:
    assert ">those asked<" in glossary.marked("[[those asked|key]]")
    assert glossary.find("Patches") is glossary.find("patch")
    for text in ("[[gradient]]", "[[shown|gradient]]"):
        with pytest.raises(ValueError, match="unknown term 'gradient'; choose from: ablation, "):
            glossary.marked(text)


def test_terms_of_one_page_have_ids_of_their_own() -> None:
    text = "[[query]] and [[query]]"
    ids = re.findall(r' id="([^"]+)"', glossary.marked(text) + glossary.marked(text + "!"))
    assert len(set(ids)) == 4


@given(st.text(st.sampled_from("<>\\`[]|&;/! aimgkey\n"), max_size=40))
def test_html_of_a_text_stays_text(text: str) -> None:
    """No `<` is left that Markdown would take for a tag: each has an odd number of backslashes before it."""
    try:
        marked = glossary.marked(text)
    except ValueError:
        return
    without_terms = re.sub(r'<span class="term".*?</span></span>', "", marked, flags=re.DOTALL)
    assert all(len(match[1]) % 2 for match in re.finditer(r"(\\*)<", without_terms))


@given(st.text(max_size=40))
def test_escaped_names_of_strangers_are_left_as_they_are(name: str) -> None:
    assert glossary.marked(escape_markdown(name)) == escape_markdown(name)
    assert glossary.marked(escape_markdown(f"[[query]] <b>{html.escape(name)}")).count("span") == 0


def test_search_finds_names_before_mentions() -> None:
    assert glossary.search("") == list(glossary.TERMS)
    found = glossary.search("Query")
    assert found[0].name == "query" and len(found) > 1
    assert [glossary.search(typed)[0].name for typed in ("n", "N =", "map")] == ["N", "N", "attention map"]
    assert [term.name for term in glossary.search("structural copy")] == ["SSIM"]
    assert not glossary.search("zebra")
