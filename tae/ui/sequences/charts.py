"""Errors frame by frame, the way through latent space, and which frames the prediction hangs on."""

from collections.abc import Mapping

import numpy as np
import streamlit as st

from tae.analysis.numbers import percent
from tae.plots.sequence import plot_influence, plot_tracks, plot_trajectory
from tae.plots.training import plot_curves
from tae.sequence.forecast import LINEAR, LSTM, METHODS, Forecast
from tae.sequence.table import Column
from tae.ui.sequences import measure
from tae.ui.sequences.measure import SequenceScene
from tae.ui.session.view import choose
from tae.ui.widgets.charts import chart


def tracks(scene: SequenceScene, columns: Mapping[str, Column]) -> None:
    """Columns of the table as lines over the frames, and which of them colours the way through latent space."""
    numbers = {header: column.numbers for header, column in columns.items() if column.is_number}
    if not numbers:
        return
    state, key = st.session_state, "sequences_tracks"

    def keep() -> None:
        state.tracks = "|".join(state[key]) or "|"

    kept = [header for header in state.tracks.split("|") if header in numbers]
    # Another sequence has another table: what was chosen of the one before is no choice here.
    state[key] = kept or ([] if state.tracks == "|" else list(numbers)[:3])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect("Columns of the table", list(numbers), key=key, width=640, on_change=keep)
        titles = {"": "none", **{header: header for header in numbers}}
        choose("tint", st.selectbox, "Colours of the way", titles, width=240)
    if chosen:
        figure = plot_tracks({header: numbers[header] for header in chosen})
        chart(figure, "sequences_tracks_chart", "Columns of the table beside the frames, frame by frame")


def errors(scene: SequenceScene, forecast: Forecast) -> None:
    st.header(
        "Error by frame",
        help="0 is the true frame to the pixel. "
        + (
            "Early on, few frames have been seen, and nobody can know how fast the image moves."
            if scene.frames_seen is None
            else "Errors add up: each prediction is made from the ones before."
        ),
    )
    curves = {name: (np.arange(len(mse)) + forecast.first + 1.0, mse) for name, mse in forecast.mse.items() if len(mse)}
    if not curves:
        st.caption("There is no true frame to compare with.")
        return
    figure = plot_curves(curves, "Frame", "Mean squared error", order=METHODS)
    chart(figure, "sequences_errors", "Mean squared error of each method, frame by frame")


def trajectory(scene: SequenceScene, forecast: Forecast | None, columns: Mapping[str, Column]) -> None:
    st.header("Latent trajectory")
    pca = measure.plane(scene.embedded)
    if pca is None:
        st.caption("All frames have the same latent, or lie on one line: there is no plane to draw.")
        return
    shares = pca.variances[:2] / pca.variances.sum()
    name = LSTM if scene.lstm else LINEAR
    tint = st.session_state.tint
    tint = tint if tint in columns and columns[tint].is_number else ""
    figure = plot_trajectory(
        pca.project(scene.embedded.latents, 2),
        None if forecast is None else pca.project(forecast.latents[name], 2),
        0 if forecast is None else forecast.first,
        (f"Component 1 ({percent(shares[0])} of the variance)", f"Component 2 ({percent(shares[1])})"),
        scene.frames_seen is None,
        name,
        columns[tint].numbers if tint else None,
        tint,
    )
    alt = "Latents of the frames on the plane in which they vary most" + (", with those predicted" if forecast else "")
    chart(figure, "sequences_trajectory", alt, tools=True)
    st.caption(
        f"{percent(shares.sum())} of the variance{'; crosses: predicted' if forecast else ''}.",
        help=f"Each point is a frame's latent, by number, in two of {scene.active.config.latent_dim} dimensions, those in which "
        "this sequence varies most. Points that lie together here can be apart in the others.",
    )


def order_matters(scene: SequenceScene) -> None:
    st.header(
        "Which frames matter for the prediction?",
        help="How far the image of the next frame moves without each frame, and with neighbours exchanged. A frame that can be "
        "dropped may still have been used: its neighbours tell nearly the same.",
    )
    assert scene.lstm is not None
    frames_seen = scene.frames_seen or scene.count
    if frames_seen < 2:
        st.caption("One frame has no order: let the forecast begin later.")
        return
    found = measure.influences(scene.active, scene.lstm, scene.film, scene.embedded, frames_seen)
    if found is None:
        return
    figure = plot_influence(found.dropped, found.swapped, found.shuffled)
    chart(figure, "sequences_influence", "Change of the predicted frame when a frame is dropped, or two are exchanged")
    most = int(found.dropped.argmax()) + 1
    early = float(found.dropped[: max(1, frames_seen - 4)].max())
    st.caption(
        f"Frame {frames_seen + 1}: frame {most} matters most ({found.dropped.max():.2g}), those more than four before the end at "
        f"most {early:.1g}."
        if frames_seen > 4
        else f"Frame {frames_seen + 1}: frame {most} matters most ({found.dropped.max():.2g})."
    )
