"""A button that copies the page's address, which holds the view."""

from streamlit.components.v2 import component

from tae.web.component import read_script, read_style

_mount = component("tae_copylink", css=read_style("copylink"), js=read_script("copylink"))


def copy_link() -> None:
    _mount(key="copy_link", width="content", height=38)
