"""Where files are dropped: any file is taken, and what a page cannot use it says itself."""

from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from tae.ui.session import arrivals

_ZONE = "[data-testid='stFileUploaderDropzoneInstructions']"


def drop(
    label: str, name: str, hint: str, more: str | None = None, many: bool = True
) -> tuple[list[UploadedFile], list[str]]:
    """What was just dropped, and a sentence for each file that was too large to arrive; both empty where nothing was.

    Once they are kept, `taken` empties the zone.

    Args:
        label: Above the zone.
        name: The zone's.
        hint: What is read, up to which size, in the zone: text without quotes or backslashes; "": the zone stays small.
        more: What a question mark beside the label tells.
        many: Whether several files may come at once.
    """
    with st.container(key=f"drop_{name}"):
        # Streamlit's own hint knows one limit, and no kinds but those that it refuses by itself.
        inside = f".st-key-drop_{name} {_ZONE}"
        shown = f"{inside}::after {{content: '{hint}'; white-space: normal; font-size: 0.875rem}}"
        hidden = f"{inside} * {{display: none}} {shown}" if hint else f"{inside} {{display: none}}"
        st.html(f"<style>{hidden}</style>")
        found = st.file_uploader(label, accept_multiple_files=many, key=_key(name), help=more)
    files = found if isinstance(found, list) else [] if found is None else [found]
    refused = {file.file_id: arrivals.refusal_of(file) for file in files}
    return [file for file in files if not refused[file.file_id]], [why for why in refused.values() if why]


def taken(name: str, files: Sequence[UploadedFile]) -> None:
    """Begin anew with an empty zone: what was dropped is kept by its page, and held here no longer."""
    arrivals.let_go(files)
    st.session_state[f"{name}_round"] = st.session_state.get(f"{name}_round", 0) + 1
    st.rerun()


def _key(name: str) -> str:
    return f"{name}_{st.session_state.get(f'{name}_round', 0)}"
