"""The start of every page: settings, the sidebar with model and image, notices."""

import gc
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from tae.analysis.facts import in_a_row
from tae.data.decode import ImageError
from tae.data.fit import FIT_MODES
from tae.data.gallery import OTHERS
from tae.store.locker import hours_kept
from tae.store.names import escape_markdown, plain_text
from tae.ui.session import access, arrivals, logs
from tae.ui.session.images import Chosen, offered, restore_images
from tae.ui.session.keeping import hand_out_cookie
from tae.ui.session.models import (
    Active,
    checkpoint_files,
    load_model,
    model_summary,
    model_title,
    restore_models,
)
from tae.ui.session.results import reconstruct
from tae.ui.session.scene import Scene
from tae.ui.session.view import choose, init_state, link, write_link
from tae.ui.session.white import choose_white, white_now
from tae.ui.shell import guide
from tae.ui.widgets.copylink import copy_link
from tae.web.first import PAGES, TABS, group_of

T = TypeVar("T")
SIDEBAR = 264  # pixels


def setup(page: str) -> tuple[Active, Chosen]:
    """Page settings, state, sidebar, before anything else on a page; ends it with a sentence if nothing loads.

    The page is its title, a key of `PAGES`.
    """
    return _setup(page, _choose_image)


def setup_without_image(page: str) -> Active:
    """The same for a page that chooses what it shows by itself; how that comes to the model's size is still chosen here."""
    return _setup(page, _choose_for_frames)[0]


def _setup(page: str, choose_more: Callable[[Active], T]) -> tuple[Active, T]:
    _begin(page)
    with st.sidebar:
        with st.container(key="expert_choices"):
            active = _choose_model()
            if active is None:
                st.stop()
                raise AssertionError("st.stop ends the script")
            chosen = choose_more(active)
        guide.sidebar(PAGES)
        hand_out_cookie()
        _foot(active)
    guide.card(active, PAGES)
    _warn_of_origin(active)
    return active, chosen


def setup_without_model(page: str) -> None:
    """The same for a page that works before there is any checkpoint."""
    _begin(page)
    active = None
    with st.sidebar:
        if checkpoint_files() or st.session_state.uploaded_models or st.session_state.untrained:
            active = _choose_model()
        else:
            st.caption("No checkpoint yet: the first training makes one.")
        guide.sidebar(PAGES)
        hand_out_cookie()
        _foot(active)
    guide.card(active, PAGES)
    if active is not None:
        _warn_of_origin(active)


def _foot(active: Active | None) -> None:
    access.login()
    if not guide.in_demo():
        logs.offer_diagnostics(active)


def _begin(page: str) -> None:
    _settle()
    arrivals.watch()
    init_state(page)
    logs.begin_run()
    restore_models()
    guide.begin(page)
    st.set_page_config(
        page_title=f"{page} · tae",
        page_icon=_icon(),
        layout="wide",
        initial_sidebar_state="collapsed" if guide.in_demo() else SIDEBAR,
    )
    guide.style()
    with st.sidebar:
        st.session_state.menu_links = {title: link(title) for title in PAGES}
        st.markdown("## tae\nSee, and test, what a transformer autoencoder does with an image.")
        for title, (path, icon) in PAGES.items():
            name = group_of(title)
            if title == TABS.get(name, (title,))[0]:
                with st.container(key=f"menu_{'here' if name == group_of(page) else title}"):
                    st.page_link(path, label=name, icon=icon, query_params=link(title), width="stretch")


def heading(page: str) -> DeltaGenerator:
    """The top of a page: its title, its tabs, the link to copy; returns a place beside them, before that of the exports."""
    tabs = TABS.get(group_of(page), ())
    with st.container(horizontal=True, vertical_alignment="center", key="page_top"):
        st.title(group_of(page), anchor=False, width="content")
        if tabs:
            st.session_state.page_tab = page
            st.segmented_control(
                "Page", tabs, key="page_tab", required=True, on_change=_switch, label_visibility="collapsed"
            )
        st.space("stretch")
        copy_link()
        place = st.empty()
        st.session_state.export_place = st.empty()
    for said in st.session_state.pop("not_restored", ()):
        st.warning(said, icon=":material/link_off:")
    return place


def _cannot_restore(what: str, instead: str) -> None:
    """Have the page say that a link names what is not here."""
    said = (
        f"**The {what} of this link is not here**: uploads are kept for {hours_kept():g} hours, and only for whoever brought "
        f"them. This is {instead}."
    )
    st.session_state.setdefault("not_restored", []).append(said)


def _switch() -> None:
    page = st.session_state.page_tab
    st.switch_page(PAGES[page][0], query_params=link(page))


@cache
def _settle() -> None:
    """Keep what the imports left, half a million objects, out of the garbage collection after each run of a page: 0.2 s."""
    gc.collect()
    gc.freeze()


def _warn_of_origin(active: Active) -> None:
    if active.is_random:
        st.error(
            "**Untrained.** This model has random weights: what it shows is its architecture, not anything learnt.",
            icon=":material/warning:",
        )
    elif active.warning:
        st.warning(
            "**Origin unknown.** The file of this model records no training: nothing here says from which images it learnt, or "
            "how well.",
            icon=":material/help:",
        )


def _icon() -> Image.Image:
    """A small attention map as the browser tab's icon; Streamlit's own icons would be fetched from the internet."""
    cells = np.array([[9, 2, 1, 0], [3, 8, 3, 1], [1, 2, 9, 3], [6, 1, 2, 8]]) / 9
    ramp = (1 - cells)[..., None] * np.array([235, 222, 150]) + cells[..., None] * np.array([10, 40, 110])
    return Image.fromarray(ramp.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)


def _choose_model() -> Active | None:
    """The model that somebody chooses, or the first one that loads; None where none does, which the sidebar says."""
    from tae.store.checkpoint import CheckpointError

    state = st.session_state
    files = checkpoint_files()
    gone = [state.checkpoint] if state.checkpoint in state.models_in_use and state.checkpoint not in files else []
    keys = [*gone, *files, *state.uploaded_models, *state.untrained]
    if not keys:
        st.error(
            "There is no checkpoint in `checkpoints/`. Make one on the page Train, or with `python -m tae.train tiny`."
        )
        return None
    if state.checkpoint and state.checkpoint not in keys:
        _cannot_restore("checkpoint", "the first one")
        state.checkpoint = keys[0]
    key = choose(
        "checkpoint",
        st.selectbox,
        "Checkpoint",
        {key: model_title(key) for key in keys},
        help="Everything on the pages is done by this model.",
    )
    for candidate in [key, *(other for other in keys if other != key)]:
        try:
            active = load_model(candidate)
        except CheckpointError as error:
            st.error(escape_markdown(str(error)))
        except (OSError, KeyError):  # it went away since it was listed
            st.error(f"{escape_markdown(plain_text(candidate))}: the file can no longer be read")
        else:
            if active.stale:
                st.warning(escape_markdown(active.stale), icon=":material/broken_image:")
            if candidate != key:
                st.info(f"Showing {escape_markdown(active.title)} instead.")
            st.caption(model_summary(active))
            return active
    return None


def _choose_image(active: Active) -> Chosen:
    state = st.session_state
    white_now(active)
    restore_images()
    offer = offered(active)
    if state.image and state.image not in offer.own and state.image not in offer.samples:
        if state.image.startswith("upload-"):
            _cannot_restore("image", "a sample")
        state.image = ""
    if not state.image:
        state.image = next(iter(offer.samples))

    def titled(key: str) -> str:
        is_unlike = key in offer.samples and offer.samples[key].kind == OTHERS
        return f"{offer.title(key)} (unlike training)" if is_unlike else offer.title(key)

    chosen = offer[choose("image", st.selectbox, "Image", [*offer.own, *offer.samples], format_func=titled)]
    _choose_fit("images")
    choose_white(active, chosen.image.extent)
    return chosen


def _choose_for_frames(active: Active) -> None:
    _choose_fit("frames")
    white_now(active)
    choose_white(active)


def _choose_fit(what: str) -> None:
    choose(
        "fit",
        st.selectbox,
        "Fit to the model's size",
        {"auto": "Automatic", **FIT_MODES},
        help=f"Only matters for {what} whose size differs from the model's. Automatic: cut out about the drop where the model "
        "learnt from drops and there is one, else padded.",
    )


def panels(pixels: np.ndarray, count: int) -> list[Any]:
    """Places for figures of an image (H, W): beside each other, two in a row or below each other, as its shape asks."""
    across = in_a_row(pixels.shape, count, 3 if count % 2 else 2)
    return [place for _ in range(0, count, across) for place in st.columns(across)][:count]


def scene_or_stop(active: Active, chosen: Chosen) -> Scene:
    """The page's scene; ends the page with one sentence if the image does not fit, or the model draws nothing from it."""
    try:
        return Scene(active, chosen, reconstruct(active, chosen).fitted)
    except ImageError as error:
        st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}")
        write_link()
        st.stop()
        raise AssertionError("st.stop ends the script") from error
