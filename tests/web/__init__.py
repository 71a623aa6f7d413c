"""How tests of what runs in a browser without a server read it."""

import json
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Elements(HTMLParser):
    """Every element of a page: (tag, attributes), the text inside each by its number, and whether all were closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[int, str] = {}
        self.words: list[str] = []
        self.open: list[tuple[str, int]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append((tag, len(self.found) - 1))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1][0] == tag, f"</{tag}> where {self.open[-1:]} is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {tag for tag, _ in self.open}:
            self.words.append(data)
        for _, number in self.open:
            self.texts[number] = self.texts.get(number, "") + data

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str], str]]:
        """(attributes, text) of the elements of this tag with these attributes."""
        return [
            (found, self.texts.get(number, ""))
            for number, (name, found) in enumerate(self.found)
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]

    @property
    def text(self) -> str:
        """All that is to be read, on one line."""
        return " ".join(" ".join(self.words).split())


def payloads(page: Elements) -> list[dict]:
    """What the page's explorers are given."""
    return [json.loads(text) for _, text in page.all("script", type="application/json")]
