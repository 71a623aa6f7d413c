"""Models brought by the user: a dropped checkpoint, an untrained preset."""

import streamlit as st

from tae import ui
from tae.model.config import preset_config
from tae.store.names import PICKLES, escape_markdown
from tae.ui.checkpoints.cards import how_to_convert, model_card, use


def bring() -> None:
    from tae.store.checkpoint import CheckpointError

    st.markdown(
        "Drop a checkpoint made by `tae`: a `.safetensors` file. It is checked before anything is loaded and kept for this "
        "session. Pickles (`.pt`, `.pth`, `.ckpt`) can run code when they are opened: the app opens none, and says how to "
        "convert one."
    )
    file = st.file_uploader(
        "Checkpoint (.safetensors)",
        type=["safetensors", *(suffix[1:] for suffix in PICKLES)],
        key="models_upload",
        max_upload_size=2000,
    )
    if file is None:
        return
    if file.name.lower().endswith(PICKLES):
        how_to_convert(file.name)
        return
    try:
        key = ui.add_model(file.getvalue(), file.name)
    except CheckpointError as error:
        st.error(escape_markdown(str(error)), icon=":material/block:")
        return
    active = ui.load_model(key)
    st.success(f"{escape_markdown(active.title)} is valid.", icon=":material/check:")
    model_card(active.loaded.card, active.config, active.loaded.size_bytes, key)
    st.button("Use this one", type="primary", key="models_use_upload", on_click=use, args=(key,))


def untrained() -> None:
    st.markdown(
        "Build a preset with random weights, to look at its architecture: the shapes of its maps, its patches, its speed. "
        "It is marked :red[**untrained**] wherever it shows."
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
