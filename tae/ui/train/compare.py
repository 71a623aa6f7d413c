"""Runs over each other: their curves, their figures, and where their settings differ."""

import streamlit as st

from tae.store.names import plain_text
from tae.training.run import runs
from tae.ui.train.watch import exports, show_curves
from tae.ui.train.words import is_number, psnrs_of


def compare(found: list[runs.Run]) -> None:
    by_name = {run.name: run for run in found if run.config is not None}
    st.session_state.setdefault("train_compared", list(by_name)[:4])
    st.session_state.train_compared = [name for name in st.session_state.train_compared if name in by_name]
    chosen = st.multiselect(
        "Runs", list(by_name), format_func=plain_text, key="train_compared", persist_state="session", max_selections=12
    )
    axis = st.segmented_control(
        "Against", ["Step", "Minutes"], default="Step", required=True, key="train_axis", label_visibility="collapsed"
    )
    if not chosen:
        st.info("Choose the runs to lay over each other.", icon=":material/info:")
        return
    shown = {name: by_name[name] for name in chosen}
    show_curves(shown, axis or "Step")
    if axis == "Minutes":
        st.caption("Minutes of training steps, from the pace; pauses and looks at the held-out images are left out.")
    table = [summary(run) for run in shown.values()]
    exports(shown, table)
    st.dataframe(table, hide_index=True, key="train_table")
    rows = runs.config_differences([run.config for run in shown.values() if run.config])
    if rows:
        st.markdown("**Where their settings differ**")
        differences = [{"Setting": name, **dict(zip(shown, values, strict=True))} for name, values in rows.items()]
        st.dataframe(differences, hide_index=True, key="train_differences")
    elif len(shown) > 1:
        st.caption("Their settings are the same.")


def summary(run: runs.Run) -> dict[str, object]:
    records = runs.read_log(run.folder)
    last = records[-1] if records else {}
    psnrs = psnrs_of(records)
    times = runs.minutes(records, run.config.batch_size if run.config else 1)
    return {
        "Run": plain_text(run.name),
        "Status": run.status,
        "Step": run.step,
        "of": run.steps or None,
        "Loss": last["loss"] if is_number(last.get("loss")) else None,
        "Held-out PSNR (dB)": round(psnrs[-1], 2) if psnrs else None,
        "Best (dB)": round(max(psnrs), 2) if psnrs else None,
        "Images/s": round(last["images_per_s"], 1) if is_number(last.get("images_per_s")) else None,
        "Minutes": round(times[-1], 1) if times else None,
    }
