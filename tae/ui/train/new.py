"""New training: from images and settings to a run, beside what the model will see and what it will take."""

import streamlit as st

from tae import runs
from tae.images import escape_markdown, plain_text
from tae.trainconfig import TrainConfig
from tae.ui.train.data import choose_data
from tae.ui.train.form import choose_settings
from tae.ui.train.plan import show_plan
from tae.ui.train.preview import show_preview
from tae.ui.train.start import choose_name_and_start
from tae.ui.train.watch import go_to_run
from tae.ui.train.words import BADGES


def new_training(active: list[runs.Run]) -> None:
    for run in active:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(
                f"{escape_markdown(plain_text(run.name))} is {run.status}", icon=BADGES[run.status][1], color="blue"
            )
            st.button("Watch it", key=f"train_watch_{run.name}", on_click=go_to_run, args=(run.name,), type="tertiary")
    with st.container(key="train_wide_form"):
        left, right = st.columns([5, 6], gap="large")
    with left:
        data = choose_data()
        settings = choose_settings()
    with right:
        try:
            config = TrainConfig(**settings, data=data.data if data else "demo")
            _ = config.model_config  # refuses what cannot be built
        except ValueError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return
        is_readable = data is not None and show_preview(data, config)
    with left:
        choose_name_and_start(config, data if is_readable else None, active)
    with right:
        show_plan(config)
