"""Where images are dropped and chosen: the drop zone, and a row of thumbnails."""

from collections.abc import Mapping

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae import ui
from tae.data.decode import EXPECTED, ImageError
from tae.data.encode import png_url
from tae.data.gallery import Sample
from tae.data.limits import MAX_FILE_BYTES
from tae.store.names import escape_markdown
from tae.ui.session.cache import kept
from tae.ui.session.keeping import how_long
from tae.ui.widgets.drop import drop, taken
from tae.web.component import read_script, read_style

_mount = component("tae_shelf", css=read_style("shelf"), js=read_script("shelf"))
HEIGHT = 92
MEASURED = 24  # images of one's own that are reconstructed for their thumbnails' figures


def drop_zone() -> None:
    """Where files are dropped; what has been read stands on the shelf."""
    state = st.session_state
    with st.container(key="shelf_drop"):
        more = f"{EXPECTED}, up to {MAX_FILE_BYTES // 1024**2} MB each. {how_long()}"
        files, refused = drop("Drag images in", "reconstruct_files", "", more)
    if files or refused:
        state.upload_problems = refused + ui.add_images(files)
        taken("reconstruct_files", files)  # what has been read stands on the shelf, not a second time here


def removal() -> None:
    count = len(ui.uploaded())
    word = "my image" if count == 1 else f"my {count} images"
    if count and st.button(f"Remove {word}", icon=":material/delete:", type="tertiary", key="shelf_remove"):
        remove_dialog()


def problems() -> None:
    """What could not be read of the last drop."""
    for problem in st.session_state.get("upload_problems", []):
        st.error(escape_markdown(problem), icon=":material/broken_image:")


def shelf(active: ui.Active, chosen: ui.Chosen) -> None:
    """The thumbnails: one's own images first, those drawn worst first, then the samples."""
    offer = ui.offered(active)
    own = []
    for one in ui.uploaded():
        psnr = psnr_of(active, one) if len(offer.own) <= MEASURED else None
        figure = "" if psnr is None else f"{psnr:.1f} dB"
        own.append((np.inf if psnr is None else psnr, item(one.key, one.title, "", figure, thumbnail_url(one))))
    groups = {"Yours, worst first": [one for _, one in sorted(own, key=lambda pair: pair[0])]} if own else {}
    for key, sample in offer.samples.items():
        groups.setdefault(sample.kind, []).append(
            item(key, sample.title, sample.note, "", sample_url(key, sample.note, sample))
        )
    data = {
        "groups": [{"title": title, "items": items} for title, items in groups.items()],
        "chosen": chosen.key,
    }
    _mount(key="shelf_images", data=data, on_chosen_change=take, height=HEIGHT)


def psnr_of(active: ui.Active, chosen: ui.Chosen) -> float | None:
    try:
        return ui.reconstruct(active, chosen).quality.psnr
    except ImageError:  # it does not fit; the page says so once it is chosen
        return None


def item(key: str, title: str, note: str, figure: str, image: str) -> dict[str, str]:
    return {"key": key, "title": title, "note": note, "figure": figure, "image": image}


def take() -> None:
    """A thumbnail was clicked."""
    state = st.session_state.get("shelf_images")
    key = state.get("chosen") if isinstance(state, Mapping) else None
    if isinstance(key, str):
        pick(key)


def pick(key: str) -> None:
    st.session_state.image = key


@st.dialog("Remove your images?")
def remove_dialog() -> None:
    st.write("They are deleted here; your own files stay where they are.")
    if st.button("Remove", type="primary"):
        ui.remove_images()
        st.session_state.upload_problems = []
        st.rerun()


@kept()
def sample_url(key: str, note: str, _sample: Sample) -> str:
    """A sample's thumbnail; its key and note name it."""
    return url_of(_sample.load())


def thumbnail_url(chosen: ui.Chosen) -> str:
    return own_url(chosen.digest, chosen.image.original)


@kept()
def own_url(digest: str, _pixels: np.ndarray) -> str:
    return url_of(_pixels)


def url_of(pixels: np.ndarray) -> str:
    return png_url(thumbnail(pixels))


def thumbnail(pixels: np.ndarray, side: int = 104) -> np.ndarray:
    """An image for a button: at most `side` pixels high and three times as wide."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side * 3, side))
    return np.asarray(image)
