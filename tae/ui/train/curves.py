"""Curves of one run, or of some over each other."""

import numpy as np
import streamlit as st

from tae import plots, runs
from tae.ui.train.words import is_number


def show_curves(shown: dict[str, runs.Run], axis: str) -> None:
    """Loss and held-out PSNR of runs, over each other."""
    loss, psnr = {}, {}
    for name, run in shown.items():
        records = runs.read_log(run.folder)
        batch_size = run.config.batch_size if run.config else 1
        x = runs.minutes(records, batch_size) if axis == "Minutes" else [record["step"] for record in records]
        for curves, field in ((loss, "loss"), (psnr, "held_out_psnr")):
            points = [
                (at, record[field]) for at, record in zip(x, records, strict=True) if is_number(record.get(field))
            ]
            curves[name] = tuple(np.array(points, float).reshape(-1, 2).T)
    with st.container(key="train_wide_curves"):
        left, right = st.columns(2)
    for place, curves, title, unit in ((left, psnr, "Held-out PSNR (dB)", " dB"), (right, loss, "Loss", "")):
        place.plotly_chart(
            plots.plot_curves(curves, axis, title, unit, log=title == "Loss"),
            key=f"train_curve_{title.split()[0]}",
            config={"displayModeBar": False},
            alt=f"{title} over {'steps' if axis == 'Step' else 'minutes'}",
        )
