"""Two images in one place, with a line between them that one moves."""

import numpy as np
from streamlit.components.v2 import component

from tae.data.encode import png_url
from tae.web.component import read_script, read_style

_mount = component("tae_slide", css=read_style("slide"), js=read_script("slide"))


def slide(before: tuple[str, str, np.ndarray], after: tuple[str, str, np.ndarray], key: str) -> None:
    """Title, text in the place of the image, and pixels (H, W) in [0, 1] of each, of one size."""
    sides = [{"title": title, "alt": alt, "image": png_url(pixels)} for title, alt, pixels in (before, after)]
    _mount(key=key, data={"before": sides[0], "after": sides[1]})
