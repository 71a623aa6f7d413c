"""The gallery of samples."""

import numpy as np
import streamlit as st

from tae import ui
from tae.data.encode import encode_png
from tae.data.gallery import gallery


def samples(active: ui.Active) -> None:
    """Thumbnails to choose from, one section for each kind of image."""
    st.subheader("Samples")
    chosen_key = st.session_state.image
    available = list(gallery(active.config.input_size, active.config.max_width, active.data).values())
    for kind in dict.fromkeys(one.kind for one in available):
        st.markdown(f"**{kind}**")
        with st.container(horizontal=True, vertical_alignment="bottom", key=f"samples_{kind.split()[0].lower()}"):
            for one in (one for one in available if one.kind == kind):
                small = thumbnail(ui.sample(one.key, one).image.original)
                width = max(112, min(336, small.shape[1]))
                with st.container(width=width):
                    st.image(encode_png(small), width=min(width, small.shape[1]), alt=one.title)
                    st.button(
                        one.title,
                        key=f"sample_{one.key}",
                        on_click=pick,
                        args=(one.key,),
                        width="stretch",
                        type="primary" if one.key == chosen_key else "secondary",
                        help=one.note,
                    )


def pick(key: str) -> None:
    st.session_state.image = key


def thumbnail(pixels: np.ndarray, side: int = 112) -> np.ndarray:
    """An image for a button: at most `side` pixels high and three times as wide."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side * 3, side))
    return np.asarray(image)
