"""A way to delete a file that is shown as broken."""

from pathlib import Path

import streamlit as st

from tae.store.names import escape_markdown, plain_text
from tae.ui.session.access import may_train


def offer_deletion(path: Path) -> None:
    """A button beside what is said of a file, for who may; it asks once more. A link goes, what it leads to stays."""
    if not may_train():
        return
    name = escape_markdown(plain_text(path.name))
    with st.popover("Delete…", icon=":material/delete:", type="tertiary"):
        st.markdown(f"Delete **{name}** from the disk, for good?")
        st.button("Delete it", key=f"delete_{path.name}", type="primary", on_click=_delete, args=(path,))


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        name = escape_markdown(plain_text(path.name))
        st.toast(f"{name} cannot be deleted: {error.strerror or 'the disk failed'}", icon=":material/error:")
