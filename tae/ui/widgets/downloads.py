"""Buttons that hand a file over, which is made once somebody asks for it."""

import mimetypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from tae.plots.export import tables


def download(label: str, data: str | Callable[[], bytes], file_name: str, **settings: Any) -> None:
    """A download button for a file, or for what makes it; the page is not drawn anew for it.

    The ending of `file_name` says of what kind it is; settings are handed on to `st.download_button`.
    """
    mime = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    settings = {"icon": ":material/download:", **settings}
    st.download_button(label, data, file_name, mime, on_click="ignore", **settings)


def download_table(label: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """A download button for rows as CSV; `name` is without its ending."""
    download(label, lambda: tables.metrics_csv(rows), f"{name}.csv")


def download_arrays(label: str, arrays: Mapping[str, np.ndarray], name: str, caption: str, **texts: str) -> None:
    """A download button for arrays, their caption and other texts as NPZ; `name` is without its ending."""
    download(label, lambda: tables.maps_npz(arrays, caption=caption, **texts), f"{name}.npz")


def download_files(name: str, files: Mapping[str, tuple[str, Callable[[], bytes]]]) -> None:
    """Buttons for {how its name ends: (label, what makes it)}, without a label none, and one for all of them in a ZIP."""
    for end, (label, make) in files.items():
        if label:
            download(label, make, f"{name}_{end}")
    everything = {f"{name}_{end}": make for end, (_, make) in files.items()}
    download(
        "Everything (ZIP)",
        lambda: tables.zip_files({file_name: make() for file_name, make in everything.items()}),
        f"{name}_everything.zip",
    )
