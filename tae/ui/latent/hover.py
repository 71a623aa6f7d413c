"""The image of the point under the pointer: what goes to the browser, and which point was clicked."""

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae.data.encode import png_url, to_uint8
from tae.plots.latent import contact_sheet
from tae.ui.latent.measure import COLUMNS, TestSet
from tae.ui.session.cache import kept
from tae.ui.session.models import Active
from tae.web.component import read_script, read_style

_hover = component("tae_latent_hover", css=read_style("hover"), js=read_script("hover"))


def hover(
    active: Active, tests: TestSet, own: Sequence[np.ndarray], beside: str, on_click: Callable[[int | None], None]
) -> None:
    """Show the image of the point under the pointer, beside the plot in the container with this key, and tell of clicks.

    Points 0 to n - 1 are the tests, the next ones `own`, (H, W) in [0, 1]. `on_click` gets the number of a point that was
    clicked, None after a double click.
    """
    key = "latent_hover"

    def tell() -> None:
        number = st.session_state[key].get("clicked")
        if isinstance(number, (int, float)) and number == number // 1:
            on_click(int(number) if 0 <= number < len(tests) + len(own) else None)

    height, width = tests.cell
    about = {"columns": COLUMNS, "width": width, "height": height}
    sheets = [{"url": _sheet_url(active, tests.sheet), "first": 0, "count": len(tests), **about}]
    if own:
        sheet = contact_sheet([to_uint8(one) for one in own], width, COLUMNS, height)
        sheets.append({"url": _url(sheet), "first": len(tests), "count": len(own), **about})
    _hover(key=key, data={"beside": f"st-key-{beside}", "sheets": sheets}, height=1, on_clicked_change=tell)


@kept()
def _sheet_url(active: Active, _sheet: np.ndarray) -> str:
    return _url(_sheet)


def _url(pixels: np.ndarray) -> str:
    return png_url(pixels)
