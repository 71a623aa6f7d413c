"""A button that copies the page's address, which holds the view."""

import streamlit as st
from streamlit.components.v2 import component

from tae.web.component import read_script, read_style

_mount = component("tae_copylink", css=read_style("copylink"), js=read_script("copylink"))


def copy_link() -> None:
    state = st.session_state
    own = [
        what for what in ("image", "checkpoint") if state[what].startswith("upload-")
    ]  # nobody else's session has it
    said = f"Copied, without your {' and '.join(own)}" if own else "Copied"
    _mount(key="copy_link", data={"said": said}, width="content", height=38)
