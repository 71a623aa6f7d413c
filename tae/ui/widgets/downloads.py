"""Buttons that hand a file over, which is made once somebody asks for it."""

import mimetypes
from collections.abc import Callable
from typing import Any

import streamlit as st


def download(label: str, data: str | Callable[[], bytes], file_name: str, **settings: Any) -> None:
    """A download button for a file, or for what makes it; the page is not drawn anew for it.

    The ending of `file_name` says of what kind it is; settings are handed on to `st.download_button`.
    """
    mime = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    settings = {"icon": ":material/download:", **settings}
    st.download_button(label, data, file_name, mime, on_click="ignore", **settings)
