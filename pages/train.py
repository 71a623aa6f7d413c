"""The page Train: from a folder, a drop or the demo data to a checkpoint; watching, stopping, resuming, comparing runs."""

import streamlit as st

from tae import ui
from tae.training.run import runs
from tae.ui.session import access
from tae.ui.train.compare import compare
from tae.ui.train.start import new_training
from tae.ui.train.watch import one_run

TASKS = {"new": "New training", "runs": "Runs", "compare": "Compare"}


def main() -> None:
    ui.setup_without_model("Train")
    ui.heading("Train")
    found = runs.list_runs(ui.checkpoints_folder())
    active = [run for run in found if run.is_active]
    task = choose_task(len(found), bool(active))
    if task == "new":
        new_training(active) if access.may_train() else access.say_why_not()
    elif not found:
        st.info("There are no runs yet. Start one under **New training**.", icon=":material/info:")
    elif task == "runs":
        one_run(found)
    else:
        compare(found)
    ui.write_link()


def choose_task(num_runs: int, is_active: bool) -> str:
    """Whoever comes back while a training runs finds it."""
    state = st.session_state
    if state.task not in TASKS:
        state.task = "runs" if is_active or (num_runs and not access.may_train()) else "new"
    titles = TASKS | {"runs": f"Runs ({num_runs})"}
    return ui.choose("task", st.segmented_control, "Task", titles, required=True, label_visibility="collapsed")


main()
