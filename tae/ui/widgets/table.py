"""A table of figures that never scrolls sideways: on a telephone each of its rows is a block."""

import html
from collections.abc import Mapping, Sequence

import streamlit as st


def table(rows: Sequence[Mapping[str, str]], about: str) -> None:
    """Draw rows whose first column names them; `about` tells those who listen what the table holds."""
    title, *names = rows[0]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in (title, *names))
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[title])}</th>'
        + "".join(f'<td data-of="{html.escape(name)}">{html.escape(row[name])}</td>' for name in names)
        + "</tr>"
        for row in rows
    )
    st.html(
        f'<div class="figures" tabindex="0" role="region" aria-label="{html.escape(about)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
