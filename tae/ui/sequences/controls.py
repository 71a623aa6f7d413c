"""Controls of the page Sequences: the sequence, every which of its frames, what is predicted."""

import streamlit as st

from tae.sequence.clip import MAX_FRAMES, ordinal
from tae.sequence.forecast import SEEN, STEPS
from tae.store.locker import hours_kept
from tae.store.names import escape_markdown
from tae.ui.sequences import clips
from tae.ui.sequences.clips import Clip
from tae.ui.session.keeping import how_long
from tae.ui.session.models import Active
from tae.ui.session.view import choose
from tae.ui.widgets.drop import drop, taken

FORECASTS = {"step": "One step ahead", "roll": "Several steps ahead"}
EVERY = ["1", "2", "3", "4", "5", "8", "10", "15", "30"]


def drop_zone(active: Active) -> None:
    state = st.session_state
    clips.restore_sequences(active)
    files, refused = drop(
        "Drag a sequence in",
        "sequences_files",
        f"images, stacks, video, a table; up to {clips.MAX_BYTES // 1024**2} MB",
        "A GIF, WebP, TIFF or .npy stack, a video, several images as frames in the order of their names, or one wide strip; "
        "with it, if there is one, the table beside the frames (CSV, Parquet). "
        f"The first {MAX_FRAMES} frames are shown, fewer where they are large. {how_long()}",
    )
    if files or refused:
        with st.spinner("Reading the frames…"):
            state.sequence_problems = refused + (clips.add_sequences(files, active) if files else [])
        taken("sequences_files", files)
    for problem in state.get("sequence_problems", []):
        st.error(escape_markdown(problem), icon=":material/broken_image:")
    own = clips.own_clips()
    if own and st.button(
        f"Remove my {len(own)} sequences" if len(own) > 1 else "Remove my sequence",
        icon=":material/delete:",
        type="tertiary",
    ):
        forget_dialog()


@st.dialog("Remove your sequences?")
def forget_dialog() -> None:
    st.write("They are deleted here; your own files stay where they are.")
    if st.button("Remove", type="primary"):
        clips.forget_sequences()
        st.session_state.sequence_problems = []
        st.rerun()


def choose_clip() -> tuple[Clip, int]:
    offer = clips.clips()
    if st.session_state.sequence.startswith("sequence-") and st.session_state.sequence not in offer:
        st.warning(
            f"The link names a sequence that is not here: uploads are kept for {hours_kept():g} hours, and only for whoever "
            "brought them. Showing another."
        )
    key = choose(
        "sequence",
        st.selectbox,
        "Sequence",
        list(offer),
        format_func=lambda key: offer[key].title if offer[key].found is None else f"Yours: {offer[key].title}",
        width=280,
        help="Drops: simulated recordings of the test split, with their table; every third has a viscosity from a band that no "
        "training shows.",
    )
    with st.container(key="expert_every", width=150):
        every = choose(
            "every",
            st.selectbox,
            "Take every … frame",
            EVERY,
            format_func=lambda every: "every frame" if every == "1" else f"every {ordinal(int(every))} frame",
            help="For videos, whose frames hardly differ from one to the next. A wide strip keeps all of its windows.",
        )
    return offer[key], int(every)


def choose_forecast(count: int) -> int | None:
    """How many frames come before a forecast of several steps; None: one step ahead."""
    way = choose(
        "forecast",
        st.segmented_control,
        "What is predicted",
        FORECASTS,
        help=f"One step ahead: each frame from the true ones before it. Several: {STEPS} frames in a row, each prediction "
        "taken for the truth by the next.",
    )
    if way == "step":
        return None
    options = [str(number) for number in range(1, count + 1)]
    with st.container(width=240):  # a short sequence does not forget it for the next
        return int(choose("seen", st.select_slider, "After frame", options, str(min(SEEN, count - 1))))
