"""Where a new run's images come from: a folder of this machine, a drop, or the demo data."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from tae.data.decode import EXPECTED
from tae.data.limits import MAX_FILE_BYTES
from tae.data.stacks import SUFFIXES
from tae.store.names import escape_markdown
from tae.training.images import uploads
from tae.training.images.uploads import Dropped
from tae.ui.session import keeping
from tae.ui.session.access import may_type_folders
from tae.ui.session.arrivals import in_words, most_mb
from tae.ui.session.models import checkpoints_folder
from tae.ui.train.words import show_left_out
from tae.ui.widgets.drop import drop, taken

if TYPE_CHECKING:
    from tae.training.images.preview import Found

COMPOSED = {
    "demo": "Fashion-MNIST, composed anew for every step.",
    "drops": "Simulated anew for every step.",
}
KINDS = {"folder": "Folder", "dropped": "Images or ZIP", "drops": "Simulated drops", "demo": "Demo garments"}


@dataclass(frozen=True)
class Data:
    """Where a new run's images come from."""

    data: str  # as `TrainConfig.data`; for dropped images the folder in which they wait
    stem: str  # what default names begin with
    found: "Found | None" = None  # the files; None for the demo data
    dropped: Dropped | None = None  # where they were dropped


def choose_data() -> Data | None:
    """None, and a sentence on the page, where there is nothing to train on yet."""
    state = st.session_state
    state.setdefault("train_kind", "folder")
    kind = st.segmented_control(
        "Images",
        list(KINDS),
        format_func=lambda kind: KINDS[kind],
        required=True,
        key="train_kind",
        wrap=True,
        persist_state="session",
    )
    if kind in COMPOSED:
        st.caption(COMPOSED[kind])
        return Data(kind, kind)
    return choose_folder() if kind == "folder" else choose_dropped()


def choose_folder() -> Data | None:
    if not may_type_folders():
        st.info("This app can be reached from other machines, so that no folder can be typed: drop the images instead.")
        return None
    text = st.text_input(
        "Folder, file or pattern",
        key="train_folder",
        persist_state="session",
        placeholder="/home/me/photographs",
        help="Files stay where they are. A folder is searched with its subfolders. One file: a .npy stack (T, H, W) or a TIFF "
        f"of many pages. A pattern: photographs/**/*.png. Read: {', '.join(suffix.lstrip('.') for suffix in SUFFIXES)}.",
    ).strip()
    if not text:
        return None
    if "\0" in text or len(text) > 4000:
        st.error("The folder must be a path of this machine, and this is none.")
        return None
    path = Path(text).expanduser().absolute()
    if path == Path(path.anchor):
        st.error("The folder must be one of images, and this is the whole disk; type one of its subfolders.")
        return None
    try:
        found = look(str(path))
    except (OSError, ValueError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        st.error(escape_markdown(message), icon=":material/folder_off:")
        return None
    name = path.stem if path.is_file() else Path(text.split("*")[0]).expanduser().absolute().name
    return Data(str(path), name or "images", found)


def choose_dropped() -> Data | None:
    state = st.session_state
    files, refused = drop(
        "Images, or a ZIP of them",
        "train_files",
        f"{EXPECTED}, up to {MAX_FILE_BYTES // 1024**2} MB each; a ZIP up to {in_words(most_mb('.zip'))}",
        "They are copied into the run's folder. A ZIP may hold folders; hidden files in it are passed over.",
    )
    if "train_dropped" not in state:
        state.train_dropped = _from_before()
    kept: Dropped | None = state.train_dropped
    if files or refused:
        bar = st.progress(0.0, "Reading…")

        def progress(number: int, total: int) -> None:
            bar.progress(number / total, f"Reading… {number} of {total}")

        try:
            kept = kept or uploads.begin(checkpoints_folder())
            state.train_dropped = kept
            uploads.add(kept, [(file.name, file.getvalue()) for file in files], progress)
            kept.problems = refused + kept.problems
            keeping.forget("training")
            keeping.keep("training", [("drop", uploads.to_text(kept).encode())])
        except OSError as error:
            st.error(f"The images cannot be kept: {escape_markdown(error.strerror or 'the disk failed')}.")
            return None
        taken("train_files", files)
    return show_dropped(kept) if kept is not None else None


def _from_before() -> Dropped | None:
    """What the visitor dropped before this page was loaded, and no run has taken."""
    for batch in keeping.brought_before("training"):
        with suppress(OSError, ValueError, TypeError):
            return uploads.from_text(checkpoints_folder(), batch.files[0].getvalue().decode())
    return None


def show_dropped(kept: Dropped) -> Data | None:
    """The dropped images that wait for their run, those left out, and the way back."""
    if kept.problems:
        with st.expander(f"Left out: {len(kept.problems)}", icon=":material/broken_image:", expanded=True):
            show_left_out(kept.problems)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{kept.num_images}** image{'s' * (kept.num_images != 1)} dropped")
        st.button("Remove", key="train_forget", on_click=forget, type="tertiary", icon=":material/delete:")
    if not kept.num_images:
        return None
    try:
        found = look(str(kept.folder))
    except OSError:
        st.error("The dropped images are gone; drop them again.")
        return None
    return Data(str(kept.folder), "images", found, kept)


def forget() -> None:
    uploads.forget(st.session_state.train_dropped)
    st.session_state.train_dropped = None


@st.cache_data(max_entries=8, ttl=60, show_spinner="Looking for images…")
def look(data: str) -> "Found":
    from tae.training.images import preview

    return preview.look(data)
