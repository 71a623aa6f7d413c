"""The player: true, reconstructed and predicted frames, and the guesses."""

import streamlit as st

from tae.sequence.forecast import BASELINES, COPY, LAST, LINEAR, LSTM, MEAN, SEEN, Forecast
from tae.ui.sequences import clips
from tae.ui.sequences.measure import SequenceScene
from tae.ui.widgets.player import player
from tae.web.player.payload import Row

HELP = {
    LSTM: "What the sequence model predicts, drawn by the decoder.",
    COPY: "The frame before, taken for the next: needs no model at all.",
    MEAN: "The mean of all frames before.",
    LAST: "The latent of the frame before, drawn by the decoder.",
    LINEAR: "The latents' last change, gone on with, drawn by the decoder.",
}


def rows_of(scene: SequenceScene, forecast: Forecast) -> list[Row]:
    rows = [
        Row("True frames", "What came, at the model's size.", scene.film.frames),
        Row(
            "Reconstruction",
            "The autoencoder of this very frame: what no prediction through a latent can be much better than.",
            scene.embedded.recons,
            errors=scene.embedded.mse,
        ),
    ]
    rows += [
        Row(
            name if name == LSTM else name[0].upper() + name[1:],
            HELP[name],
            forecast.images[name],
            forecast.first,
            forecast.mse[name],
            is_shown=name == (LSTM if scene.lstm else COPY),
        )
        for name in (LSTM, *BASELINES)
        if name in forecast.images
    ]
    return rows


def play(scene: SequenceScene, forecast: Forecast) -> None:
    state = st.session_state
    asked = int(state.frame) - 1 if state.frame.isascii() and state.frame.isdigit() else -1
    longest = max(scene.count, forecast.first + max(map(len, forecast.images.values())))
    if not 0 <= asked < longest:
        asked = min(SEEN if scene.frames_seen is None else scene.frames_seen, longest - 1)
    notes = [("error", scene.warning)] if scene.warning else []
    frame = player(
        rows_of(scene, forecast),
        key="sequences_player",
        frame=asked,
        seen=scene.frames_seen,
        notes=notes,
        error_name="mean squared error",
    )
    state.frame = str(frame + 1)
    if frame < scene.count and st.button(
        f"Open frame {frame + 1} on the page Explore",
        icon=":material/grid_on:",
        help="The frame is added to your images, and the page shows where its patches place weight.",
        key="sequences_attention",
    ):
        refused = clips.add_frame(scene.clip, scene.film, frame)
        if refused is None:
            st.switch_page("app.py")
        st.error(f"The frame is not added: {refused}")
