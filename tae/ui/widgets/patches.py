"""An image on which patches are chosen, by click, box or keys: what goes to the browser, and what comes back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae.data.encode import png_url
from tae.web.component import read_script, read_style

_mount = component("tae_patches", css=read_style("patches"), js=read_script("patches"))


def choose_patches(
    pixels: np.ndarray,
    grid: tuple[int, int],
    tile_size: tuple[int, int],
    chosen: Sequence[int],
    *,
    key: str,
    label: str,
    on_choose: Callable[[tuple[int, ...]], None],
) -> None:
    """Draw an image (H, W) in [0, 1] with its patches, the chosen ones hatched; pointer and keys choose others.

    Patches are numbered row by row from 0; those of `tile_size`, in pixels, may reach beyond the image in the last row and
    column. The label is for those who do not see the image. `on_choose` gets all that are chosen after a change, rising; it is
    called before the next run.
    """
    count = grid[0] * grid[1]

    def tell() -> None:
        patches = read_patches(st.session_state[key].get("chosen"), count)
        if patches is not None:
            on_choose(patches)

    told = st.session_state.get(key)
    data = {
        "image": png_url(pixels),
        "size": list(pixels.shape),
        "tile": list(tile_size),
        "grid": list(grid),
        "chosen": list(chosen),
        "edit": read_edit(told.get("chosen") if told else None),
        "label": label,
    }
    _mount(key=key, data=data, on_chosen_change=tell, height="content")


def read_patches(told: Any, count: int) -> tuple[int, ...] | None:
    """The patches that a browser says are chosen, rising, each once; None for anything else than numbers below `count`."""
    patches = told.get("patches") if isinstance(told, Mapping) else None
    if not isinstance(patches, list) or len(patches) > count:
        return None
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < count for one in patches):
        return None
    return tuple(sorted(set(patches)))


def read_edit(told: Any) -> int:
    """The number of the browser's last choice; 0 before the first one, and for anything that is no number."""
    edit = told.get("edit") if isinstance(told, Mapping) else None
    return edit if isinstance(edit, int) and not isinstance(edit, bool) and 0 <= edit < 10**9 else 0
