"""Buttons that hand a file over, which is made once somebody asks for it."""

import mimetypes
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from tae.plots.export.tables import zip_files


def download(label: str, data: str | Callable[[], bytes], file_name: str, **settings: Any) -> None:
    """A download button for a file, or for what makes it; the page is not drawn anew for it.

    The ending of `file_name` says of what kind it is; settings are handed on to `st.download_button`.
    """
    mime = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    settings = {"icon": ":material/download:", **settings}
    st.download_button(label, data, file_name, mime, on_click="ignore", **settings)


def download_files(name: str, files: Mapping[str, tuple[str, Callable[[], bytes]]]) -> None:
    """Buttons for {how its name ends: (label, what makes it)}, without a label none, and one for all of them in a ZIP."""
    for end, (label, make) in files.items():
        if label:
            download(label, make, f"{name}_{end}")
    everything = {f"{name}_{end}": make for end, (_, make) in files.items()}
    download(
        "Everything (ZIP)",
        lambda: zip_files({file_name: make() for file_name, make in everything.items()}),
        f"{name}_everything.zip",
    )
