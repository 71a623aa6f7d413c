"""The picture of the point under the pointer: what goes to the browser, and which point was clicked."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae.component import read_script
from tae.images import encode_png, to_uint8
from tae.plots.latent import contact_sheet
from tae.ui.latent.measure import COLUMNS, TestSet
from tae.ui.models import Active

_STYLE = """
.tae-hover {position: fixed; z-index: 1000; pointer-events: none; background-color: #fff; border: 1px solid #7d8aa5;
  border-radius: 3px; box-shadow: 0 2px 8px rgba(0, 0, 0, 0.35)}
.tae-hover[hidden] {display: none}
"""
_hover = component("tae_latent_hover", css=_STYLE, js=read_script(Path(__file__).with_name("latent_hover.js")))


def hover(
    active: Active,
    tests: TestSet,
    own: Sequence[np.ndarray],
    beside: str,
    on_click: Callable[[int | None], None],
) -> None:
    """Show the picture of the point under the pointer, and tell of clicks.

    Args:
        active: The model.
        tests: Points 0 to n - 1.
        own: (H, W) in [0, 1], points n, n + 1 ...
        beside: Key of the container that holds the plot.
        on_click: Gets the number of a point that was clicked, None after a double click.
    """
    key = "latent_hover"

    def tell() -> None:
        number = st.session_state[key].get("clicked")
        if isinstance(number, (int, float)) and number == number // 1:
            on_click(int(number) if 0 <= number < len(tests) + len(own) else None)

    height, width = tests.cell
    about = {"columns": COLUMNS, "width": width, "height": height}
    sheets = [{"url": _sheet_url(active.loaded.digest, tests.sheet), "first": 0, "count": len(tests), **about}]
    if own:
        sheet = contact_sheet([to_uint8(one) for one in own], width, COLUMNS, height)
        sheets.append({"url": _url(sheet), "first": len(tests), "count": len(own), **about})
    _hover(key=key, data={"beside": f"st-key-{beside}", "sheets": sheets}, height=1, on_clicked_change=tell)


@st.cache_data(max_entries=8, show_spinner=False)
def _sheet_url(model_digest: str, _sheet: np.ndarray) -> str:
    return _url(_sheet)


def _url(pixels: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(pixels)).decode()}"
