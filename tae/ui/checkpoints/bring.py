"""Models brought by the user: a dropped checkpoint, an untrained preset."""

from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from tae import ui
from tae.model.config import preset_config
from tae.store.names import PICKLES, escape_markdown, plain_text
from tae.ui.checkpoints.cards import how_to_convert, model_card, use
from tae.ui.session.arrivals import in_words, most_mb
from tae.ui.session.keeping import how_long
from tae.ui.session.models import Brought
from tae.ui.session.view import link
from tae.ui.widgets.drop import drop, taken
from tae.web.first import PAGES


@dataclass(frozen=True)
class Told:
    """What became of the file that was dropped last; names and sentences are a stranger's."""

    brought: Brought | None = None
    pickle: str = ""
    problem: str = ""


def bring() -> None:
    from tae.store.checkpoint import CheckpointError

    state = st.session_state
    hint = f"one .safetensors file, up to {in_words(most_mb('.safetensors'))}"
    more = (
        f"Made by `tae`, or a pickle (`.pt`, `.pth`, `.ckpt`): that is not opened, for it could run code. {how_long()}"
    )
    files, refused = drop("Checkpoint", "models_upload", hint, more, many=False)
    if files or refused:
        state.models_brought = _take(files[0]) if files else Told(problem=refused[0])
        taken("models_upload", files)
    told: Told = state.get("models_brought", Told())
    if told.pickle:
        how_to_convert(told.pickle)
    elif told.problem:
        st.error(escape_markdown(told.problem), icon=":material/block:")
    elif told.brought is not None:
        try:
            key = ui.add_model(told.brought)
            active = ui.load_model(key)
        except CheckpointError as error:
            state.models_brought = Told(problem=str(error))
            st.error(escape_markdown(str(error)), icon=":material/block:")
            return
        name = f"{escape_markdown(plain_text(told.brought.name))} ({escape_markdown(active.title)})"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.success(f"{name} is in use.", icon=":material/check:")
            st.page_link(
                PAGES["Explore"][0], label="Explore it", icon=PAGES["Explore"][1], query_params=link("Explore")
            )
        model_card(active.loaded.card, active.config, active.loaded.size_bytes, key)


def _take(file: UploadedFile) -> Told:
    from tae.store.checkpoint import CheckpointError

    if file.name.lower().endswith(PICKLES):
        return Told(pickle=file.name)
    try:
        with st.spinner("Keeping the file…"):
            brought = ui.keep_model(file.getvalue(), file.name)
            use(ui.add_model(brought))
            return Told(brought=brought)
    except CheckpointError as error:
        return Told(problem=str(error))


def untrained() -> None:
    st.markdown(
        "A preset with random weights, to look at its architecture; marked :red[**untrained**] wherever it shows."
    )
    with st.form("models_untrained", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        preset = st.selectbox("Preset", ["tiny", "small", "medium"], width=140)
        shape = st.selectbox("Input", ["201x201", "1280x152", "Xx152 (any width)"], width=190)
        patch = st.selectbox(
            "Patch",
            ["16", "8", "none"],
            format_func=lambda side: "one token (as drawn)" if side == "none" else f"{side} pixels",
            width=190,
        )
        build = st.form_submit_button("Build and use", type="primary")
    st.caption("large and xlarge would take gigabytes; their figures stand under Presets.")
    if build:
        sizes = {"201x201": (201, 201), "1280x152": (152, 1280), "Xx152 (any width)": (152, None)}
        config = preset_config(preset, input_size=sizes[shape], patch_size=None if patch == "none" else int(patch))
        st.session_state.checkpoint = ui.add_untrained(config)
        st.rerun()
