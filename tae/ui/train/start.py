"""The name of a new run, its command line, and the button that starts it."""

from dataclasses import replace

import streamlit as st

from tae.model.config import patch_in_names, size_in_words
from tae.store.names import escape_markdown, plain_text, safe_name
from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.session.models import checkpoints_folder
from tae.ui.train.begin import from_root, say_what_fits
from tae.ui.train.data import Data, choose_data
from tae.ui.train.form import choose_settings
from tae.ui.train.plan import show_plan
from tae.ui.train.preview import files, go_without, show_preview
from tae.ui.train.watch import go_to_run
from tae.ui.train.words import BADGES, show_command


def choose_name_and_start(config: TrainConfig, data: Data | None, missing: str, active: list[runs.Run]) -> None:
    """The run's name, its command, and the button.

    Args:
        config: The run.
        data: Its images; None where there is nothing to train on yet.
        missing: What is to be done before it can start, a sentence; "": nothing.
        active: Runs that a process works on.
    """
    state = st.session_state
    patch = patch_in_names(config.patch_size)
    stem = data.stem if data else "images"
    automatic = safe_name(f"{safe_name(stem)[:30]}_{config.preset}_{size_in_words(config.input_size)}_{patch}")
    automatic = runs.free_name(checkpoints_folder(), automatic)
    typed = st.text_input(
        "Name",
        key="train_name",
        persist_state="session",
        placeholder=automatic,
        max_chars=60,
        help="Of the run and of its checkpoint. Nothing that is there already is ever replaced.",
    ).strip()
    name = safe_name(typed) if typed else automatic
    if typed and runs.free_name(checkpoints_folder(), name) != name:
        st.error(
            f"There is a run or a checkpoint named {escape_markdown(name)} already; "
            f"{escape_markdown(runs.free_name(checkpoints_folder(), name))} is free."
        )
        data, missing = None, missing or "First choose another name."
    elif typed and name != typed:
        st.caption(f"Its files will be called {escape_markdown(name)}.")
    out = from_root(checkpoints_folder() / f"{name}.safetensors")
    if data is not None:
        images = str(from_root(runs.folder_of(checkpoints_folder() / out.name) / "images"))
        title = plain_text(typed) if typed else None
        if data.dropped and not title:
            title = f"dropped images {config.preset} {size_in_words(config.input_size)}"
        config = replace(config, out=out, name=title, data=images if data.dropped else data.data)
    if active:
        st.caption("Another training is running: both will be slower, and their memory adds up.")
    with st.container(horizontal=True, vertical_alignment="center"):
        is_asked = st.button(
            "Start training", key="train_start", type="primary", icon=":material/play_arrow:", disabled=bool(missing)
        )
        if missing:
            st.caption(missing, width="stretch")
    if is_asked:
        assert data is not None
        try:
            run = runs.start(config, data.dropped.folder if data.dropped else None)
        except runs.RunError as error:
            st.error(escape_markdown(str(error)))
        except OSError as error:
            st.error(f"The training cannot be started: {escape_markdown(error.strerror or 'the disk failed')}.")
        else:
            if data.dropped:
                state.train_dropped = None
            go_to_run(run.name)
            st.rerun()
    if data is not None:
        first = ", once Start has copied the images there" if data.dropped else ""
        st.caption(f"The same from the command line, in the project's folder{first}:")
        show_command(config)


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
        try:
            config = TrainConfig(**settings, data=data.data if data else "demo")
            _ = config.model_config  # refuses what cannot be built
        except ValueError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return
    with right:
        shown = show_preview(data, config) if data is not None else None
    with left:
        fits = say_what_fits(config, shown.examples if shown else ())
        ready = go_without(data, config, shown) if data and shown else None
        missing = "" if fits else "First choose another checkpoint to begin with, or settings that fit it."
        if data is None or shown is None:
            missing = "First choose images that can be read."
        elif ready is None:
            missing = f"First agree to go on without the {files(len(shown.skipped))} that cannot be read."
        choose_name_and_start(ready or config, data if ready else None, missing, active)
    with right:
        show_plan(config)
