"""Actions on a run: stop, resume, open, delete it, take its log along."""

import streamlit as st

from tae.plots.export import tables
from tae.store.names import escape_markdown, safe_name
from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.session.access import may_train
from tae.ui.train.words import in_bytes, reason
from tae.ui.widgets.downloads import download


def stop_buttons(run: runs.Run) -> None:
    if not may_train():
        return
    if not runs.stop_asked(run.folder):
        st.button(
            "Stop training",
            key="train_stop",
            icon=":material/stop:",
            help="After the current step: it saves, and can be resumed later.",
            on_click=runs.ask_to_stop,
            args=(run.folder,),
        )
        return
    st.badge("stopping after this step", icon=":material/hourglass_bottom:", color="gray")
    st.button(
        "End it now",
        key="train_end",
        type="tertiary",
        help="Where it takes too long to get to the next step.",
        on_click=runs.end_now,
        args=(run,),
    )


def run_actions(run: runs.Run) -> None:
    """Actions on a run that nothing works on."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.checkpoint.is_file() and st.button(
            "Open in the app",
            key="train_open",
            type="primary",
            icon=":material/compare:",
            help="Shows what its checkpoint makes of images.",
        ):
            st.session_state.checkpoint = run.checkpoint.name
            st.switch_page("app.py")
        if may_train() and run.status != "finished" and run.config is not None:
            label = "Resume" if run.has_state else "Try again"
            if st.button(label, key="train_resume", icon=":material/play_arrow:"):
                go_on(run)
        if may_train() and run.has_state and run.config is not None:
            with st.popover("Train longer", icon=":material/more_time:"):
                prolong(run, run.config)
        if runs.read_log(run.folder):
            download(
                "Log (CSV)",
                lambda: tables.metrics_csv(runs.log_rows(run.folder)),
                f"{safe_name(run.name)}.csv",
                key="train_log",
            )
        if may_train() and st.button("Delete…", key="train_delete", icon=":material/delete:", type="tertiary"):
            delete_dialog(run)


def prolong(run: runs.Run, config: TrainConfig) -> None:
    """A larger budget, and the button to go on with it."""
    st.markdown("What was learnt is kept. The learning rate rises again and falls over what is added.")
    kind, before = config.budget
    before = max(before, run.step) if kind == "steps" else before
    number = float if kind == "minutes" else int
    count = st.number_input(
        f"{kind.capitalize()} in all ({before:,g} so far)",
        min_value=number(before + 1),
        max_value=number(10**7),
        value=number(2 * before),
        key="train_longer",
    )
    if st.button("Go on", key="train_go_on", type="primary", icon=":material/play_arrow:"):
        go_on(run, **{kind: count})


def go_on(run: runs.Run, **budget: float) -> None:
    try:
        runs.resume(run, **budget)
    except (runs.RunError, OSError) as error:
        st.error(escape_markdown(reason(error)))
    else:
        st.rerun()


@st.dialog("Delete this run?")
def delete_dialog(run: runs.Run) -> None:
    st.markdown(
        f"**{escape_markdown(run.name)}**: its log, curves, snapshots, images of reconstructions and what it needs to "
        f"resume go, {in_bytes(runs.size_bytes(run.folder))} in all."
    )
    if (run.folder / "images").is_dir():
        st.markdown("So do the images that were dropped for it.")
    with_checkpoint = run.checkpoint.is_file() and st.checkbox(
        "Delete its checkpoint, too", key="train_delete_checkpoint"
    )
    with st.container(horizontal=True):
        if st.button("Delete", key="train_delete_now", type="primary"):
            try:
                runs.delete(run, with_checkpoint)
            except (runs.RunError, OSError) as error:
                st.error(escape_markdown(reason(error)))
            else:
                st.session_state.run = ""
                st.rerun()
        if st.button("Keep it", key="train_keep"):
            st.rerun()
