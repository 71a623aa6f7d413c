"""The drop zone of the first page."""

import streamlit as st

from tae import ui
from tae.data.decode import EXPECTED
from tae.store.names import escape_markdown
from tae.ui.session.images import OFFERED


def drop_zone() -> None:
    state = st.session_state
    files = st.file_uploader(
        f"Your images: {EXPECTED}, up to 20 MB each. They stay on this machine.",
        type=OFFERED,
        accept_multiple_files=True,
        key=f"reconstruct_files_{state.upload_round}",
    )
    if files:
        state.upload_problems = ui.add_images(files)
        state.upload_round += 1  # a fresh widget: what has been read is listed as "Yours", not a second time here
        st.rerun()
    for problem in state.get("upload_problems", []):
        st.error(escape_markdown(problem), icon=":material/broken_image:")
    if ui.uploaded() and st.button(f"Forget my {len(ui.uploaded())} images", icon=":material/delete:", type="tertiary"):
        forget_dialog()


@st.dialog("Forget your images?")
def forget_dialog() -> None:
    st.write("They are removed from this session; your files stay where they are.")
    if st.button("Forget them", type="primary"):
        ui.remove_images()
        st.session_state.upload_problems = []
        st.rerun()
