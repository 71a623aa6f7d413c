"""Buttons that hand a file over, which is made once somebody asks for it."""

import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from tae.plots.export import render, tables

Made = dict[str, str | Callable[[], bytes]]  # {file name: what it holds, or what makes it}
_OFFERED: ContextVar[Made | None] = ContextVar("offered", default=None)


@contextmanager
def export() -> Iterator[None]:
    """The page's menu of files, in the place that `heading` left for it at the top, with a ZIP of all; once a page.

    Where the page shows an image, `report.download_report` belongs into it.
    """
    found: Made = {}
    token = _OFFERED.set(found)
    try:
        with st.session_state.export_place.popover("Export", icon=":material/download:", key="export"):
            yield
            if len(found) > 1:
                _everything("everything", dict(found))  # without itself
    finally:
        _OFFERED.reset(token)


def no_export() -> None:
    """Nothing is to be taken along yet; for a fragment, which may fill only what it left empty in a run of the whole page."""
    st.session_state.export_place.empty()


def _everything(name: str, files: Made) -> None:
    """A button for all these files in a ZIP."""

    def archive() -> bytes:
        made = {one: data() if callable(data) else data.encode() for one, data in files.items()}
        return tables.zip_files(made)

    download("Everything (ZIP)", archive, f"{name}.zip")


def download(label: str, data: str | Callable[[], bytes], file_name: str, **settings: Any) -> None:
    """A download button for a file, or for what makes it; the page is not drawn anew for it.

    The ending of `file_name` says of what kind it is; settings are handed on to `st.download_button`.
    """
    offered = _OFFERED.get()
    if offered is not None:
        offered[file_name] = data
    mime = mimetypes.guess_type(file_name)[0] or "application/octet-stream"
    settings = {"icon": ":material/download:", **settings}
    st.download_button(label, data, file_name, mime, on_click="ignore", **settings)


def download_figure(label: str, make: Callable[[render.Format], bytes], name: str) -> None:
    """Download buttons for a figure in each format that figures are written in; `name` is without its ending."""
    for fmt in render.FORMATS:
        download(f"{label} ({fmt.upper()})", partial(make, fmt), f"{name}.{fmt}")


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
    everything: Made = {f"{name}_{end}": make for end, (_, make) in files.items()}
    offered = _OFFERED.get()
    if offered is None:
        _everything(f"{name}_everything", everything)
    else:
        offered |= everything
