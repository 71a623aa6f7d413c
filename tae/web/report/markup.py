"""Pieces of a report as HTML: nothing of a stranger's that is not escaped."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from tae.plots.export import tables
from tae.store.names import plain_text
from tae.web.explorer import standalone
from tae.web.explorer.payload import Note


def notes_page(notes: Sequence[Note], title: str) -> str:
    """A page that holds nothing but sentences, for what has no maps."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return standalone.html_page(text(title), policy, style(), notes_html(notes))


def notes_html(notes: Sequence[Note]) -> str:
    """Notes as paragraphs, each of the class of its severity."""
    return "".join(f'<p class="note {note.severity}">{text(note.text, 2000)}</p>\n' for note in notes)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column names the rows."""
    first = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    lines = ""
    for name, *cells in rows:
        found = "".join(f"<td>{text(cell, 300)}</td>" for cell in cells)
        lines += f'<tr><th scope="row">{text(name)}</th>{found}</tr>'
    return f'<div class="scroll"><table><thead><tr>{first}</tr></thead><tbody>{lines}</tbody></table></div>\n'


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    lines = "".join(f'<tr><th scope="row">{text(name)}</th><td>{text(value, 4000)}</td></tr>' for name, value in rows)
    return f'<table class="pairs"><tbody>{lines}</tbody></table>\n'


def figure(data: bytes, alt: str, caption: str, width: int = 880, kind: str = "png") -> str:
    """A figure, at most so many pixels wide."""
    source = uri(tables.smaller_png(data) if kind == "png" else data, kind)
    image = f'<img src="{source}" alt="{text(alt, 300)}">'
    said = f"<figcaption>{text(caption, 300)}</figcaption>"
    return f'<figure class="paper" style="max-width: {width}px">{image}{said}</figure>\n'


def style() -> str:
    """The style sheet of reports."""
    return f"<style>{Path(__file__).with_name('report.css').read_text(encoding='utf-8')}</style>\n"


def uri(data: bytes, kind: str = "png") -> str:
    """An image as the source of an `img`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def text(text: str, limit: int = 120) -> str:
    """A stranger's text as HTML that shows it as it stands."""
    return html.escape(plain_text(text, limit))
