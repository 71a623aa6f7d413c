"""Preview of a training: some of a new run's images, and how many there are."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from tae.data.encode import png_url
from tae.model.config import patch_in_words, size_in_words
from tae.store.names import escape_markdown, plain_text
from tae.training.config import TrainConfig
from tae.training.images.index import FLAT
from tae.ui.train.data import Data
from tae.ui.train.words import in_bytes, show_left_out

if TYPE_CHECKING:
    from tae.training.images.preview import Found, Preview


def show_preview(data: Data, config: TrainConfig) -> "Preview | None":
    """Eight training images as the model will see them; None where there is nothing to train on yet."""
    st.markdown("**What the model will see**")
    is_whole = data.found is None or data.found.is_small
    seen = (config.data, config.input_size, config.max_width, config.seed, config.white, config.fit)
    seen += (config.flip, config.shift, config.zoom, config.contrast)
    try:
        shown = read_preview(seen, data.found, is_whole, replace(config, max_unreadable=1))
    except (OSError, ValueError) as error:
        message = str(error).replace(data.data, "the dropped images" if data.dropped else data.data)
        st.error(escape_markdown(message), icon=":material/broken_image:")
        return None
    widest = max(image.shape[1] for image in shown.images)
    scale = min(100 / config.input_size[0], 450 / widest)  # of all alike, so that their sizes can be compared
    with st.container(horizontal=True, gap="small", key="train_preview"):
        for image, name in zip(shown.images, shown.names, strict=True):
            source = in_page(image, max(1, 220 // max(image.shape)))
            st.image(source, width=max(16, round(scale * image.shape[1])), alt=plain_text(name))
    suggest_size(config, shown)
    st.caption(in_words(data, config, shown))
    for remark in shown.remarks:
        if FLAT in remark:
            st.warning(escape_markdown(f"{remark}."), icon=":material/contrast:")
        else:
            st.caption(escape_markdown(f"{remark[0].upper()}{remark[1:]}."))
    if shown.skipped:
        with st.expander(f"Cannot be read: {files(len(shown.skipped))}", icon=":material/warning:"):
            show_left_out([f"{name}: {reason}" for name, reason in shown.skipped])
    return shown


def suggest_size(config: TrainConfig, shown: "Preview") -> None:
    """A button for a size of the images' proportions, where most of the frame that is asked for is padding."""
    from tae.training.planning.advice import Shape, fitting_shape, room_used

    height, width = config.input_size
    if width is None or not shown.sizes:
        return
    better = fitting_shape(shown.sizes, Shape((height, width), config.patch_size))
    if better is None:
        return
    size = size_in_words(better.input_size)

    def take() -> None:
        state = st.session_state
        (state.train_height, state.train_width), state.train_patch_size = better
        state.train_any_width = False

    with st.container(horizontal=True, vertical_alignment="center"):
        used = room_used(shown.sizes, (height, width))
        st.markdown(
            f"They fill {100 * used:.0f}% of {size_in_words(config.input_size)}, the rest is padding.", width="content"
        )
        st.button(
            f"Use {size}, {patch_in_words(better.patch_size)}",
            key="train_fitting",
            icon=":material/fit_screen:",
            on_click=take,
        )


def go_without(data: Data, config: TrainConfig, shown: "Preview") -> TrainConfig | None:
    """The config to train with; None until somebody agrees to go on without what cannot be read.

    It never stands in the way for good: it is left out, and asked about where it is more than the field allows.
    """
    if data.found is None:
        return config
    if not data.found.is_small:  # what a large folder holds shows when the run reads it
        return replace(config, max_unreadable=1)
    num_bad = len(shown.skipped)
    share = num_bad / max(1, data.found.num_files)
    if share <= config.max_unreadable:
        return config
    is_agreed = st.checkbox(
        f"Go on without the {files(num_bad)} that cannot be read",
        key=f"train_go_on_{hash((config.data, num_bad))}",
        help=f"{100 * share:.0f}% of all; above {100 * config.max_unreadable:g}% you are asked (Advanced: unreadable files).",
    )
    return replace(config, max_unreadable=1) if is_agreed else None


def files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


@st.cache_data(max_entries=16, show_spinner="Reading…")
def read_preview(seen: tuple, found: "Found | None", is_whole: bool, _config: TrainConfig) -> "Preview":
    from tae.training.images import preview

    return preview.read_all(_config) if is_whole else preview.read_some(_config)


def in_words(data: Data, config: TrainConfig, shown: "Preview") -> str:
    """How many images there are, and what is done to them."""
    words = []
    if data.found is not None:
        words.append(f"{files(data.found.num_files)}, {in_bytes(data.found.num_bytes)}")
        if shown.num_images is None:
            words.append(
                f"{len(shown.images)} of them shown; about one in ten is held out; all are read when the run starts, and "
                "those that cannot be are named and left out"
            )
        else:
            words.append(f"{shown.num_images:,} images to train on, {shown.num_held_out:,} held out")
    else:
        words.append("composed without end, none seen twice; others are held out")
    words.append(f"fitted to {size_in_words(config.input_size)} in grey")
    if data.found is not None and any((config.flip, config.shift, config.zoom, config.contrast)):
        words.append("changed a little at every look (Advanced: augmentation)")
    return "; ".join(words) + "."


def in_page(pixels: np.ndarray, factor: int) -> str:
    """An image as an address that holds it: one that the browser has to fetch may be gone before it does.

    Each pixel becomes a square of `factor` pixels a side, so that the browser's smoothing adds nothing.
    """
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    return png_url(enlarged)
