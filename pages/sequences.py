"""The page Sequences: frames, what the model makes of each, and what a sequence model says comes next, beside the truth."""

from collections.abc import Mapping

import streamlit as st

from tae import ui
from tae.data.decode import ImageError
from tae.sequence.table import Column
from tae.store.names import escape_markdown
from tae.ui.sequences import clips, measure
from tae.ui.sequences.charts import errors, order_matters, tracks, trajectory
from tae.ui.sequences.controls import choose_clip, choose_forecast, drop_zone
from tae.ui.sequences.exports import take_along
from tae.ui.sequences.lstm import choose_lstm, is_target
from tae.ui.sequences.measure import SequenceScene
from tae.ui.sequences.play import play
from tae.ui.sequences.target import show_target
from tae.ui.sequences.verdict import caveats, verdict


def main() -> None:
    active = ui.setup_without_image("Sequences")
    ui.heading("Sequences")
    with st.container(key="expert_drop"):
        drop_zone(active)
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    with controls:
        clip, every = choose_clip()
    try:
        film = clips.film(active, clip, every)
    except ImageError as error:
        st.error(f"{escape_markdown(clip.title)}: {escape_markdown(str(error))}", icon=":material/broken_image:")
    else:
        lstm, frames_seen = choose_lstm(active), None
        if not is_target(lstm):
            with controls:
                frames_seen = choose_forecast(len(film.frames))
        try:
            embedded = measure.embed(active, film)
            if embedded is not None:
                scene = SequenceScene(active, lstm, clip, film, embedded, frames_seen)
                show(scene, clips.columns_of(clip, film, every))
        except ValueError as error:
            st.error(f"Nothing can be shown: {escape_markdown(str(error))}", icon=":material/error:")
    ui.write_link()


def show(scene: SequenceScene, columns: Mapping[str, Column]) -> None:
    """What the model says of the sequence: a target, or the next frames."""
    if is_target(scene.lstm):
        caveats(scene)
        show_target(scene, columns)
        return
    forecast = measure.forecast(scene.active, scene.lstm, scene.film, scene.embedded, scene.frames_seen)
    if forecast is None:
        return
    caveats(scene)
    play(scene, forecast)
    tracks(scene, columns)
    verdict(scene, forecast)
    with st.container(key="sequences_columns"):
        left, right = st.columns(2)
    with left:
        errors(scene, forecast)
    with right:
        trajectory(scene, forecast, columns)
    if scene.lstm is not None:
        order_matters(scene)
    take_along(scene, forecast)


main()
