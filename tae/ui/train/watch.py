"""One run, live: how far it is, its figures, curves and images; drawn from its folder alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from tae.analysis.yardsticks import Yardstick, yardsticks_in
from tae.model.config import patch_in_words, size_in_words
from tae.plots.export import render, tables
from tae.plots.export.curves import curves_figure
from tae.plots.training import plot_curves
from tae.store.names import escape_markdown, plain_text, safe_name
from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.session.view import choose
from tae.ui.train.actions import run_actions, stop_buttons
from tae.ui.train.preview import in_page
from tae.ui.train.words import BADGES, clock, figure, is_number, psnrs_of, show_command, show_left_out
from tae.ui.widgets.downloads import download, download_figure, download_table, export
from tae.ui.widgets.worth import say_worth

REFRESH_S = 3
PANELS = {"Held-out PSNR (dB)": "held_out_psnr", "Loss": "loss"}


def go_to_run(name: str) -> None:
    st.session_state.task, st.session_state.run = "runs", name


def one_run(found: list[runs.Run]) -> None:
    by_name = {run.name: run for run in found}
    name = choose(
        "run",
        st.selectbox,
        "Run",
        list(by_name),
        format_func=lambda name: f"{plain_text(name)} · {by_name[name].status}",
    )
    run = by_name[name]
    if not run.is_active:
        run_actions(run)
    exports({run.name: run})
    # Drawn anew by itself while a process works on it, and then only this part.
    with st.container(key="train_live"):
        st.fragment(watch, run_every=REFRESH_S if run.is_active else None, key="train_watch")(run)


def exports(shown: dict[str, runs.Run], rows: Sequence[dict] = ()) -> None:
    """Curves and records of runs, as they are when somebody asks for them; rows: a table of the runs."""
    stem = safe_name(next(iter(shown))) if len(shown) == 1 else "runs"

    def figure(fmt: render.Format) -> bytes:
        panels = {title: curves_of(shown, "Step", field) for title, field in PANELS.items()}
        return curves_figure(panels, "Step", ", ".join(map(plain_text, shown)), fmt, log=["Loss"])

    def records() -> bytes:
        made = [{"run": plain_text(name)} | one for name, run in shown.items() for one in runs.read_log(run.folder)]
        return tables.metrics_csv(made)

    def arrays() -> bytes:
        found = {
            f"{safe_name(name)}_{field}": np.array(curve)
            for field in PANELS.values()
            for name, curve in curves_of(shown, "Step", field).items()
        }
        return tables.maps_npz(found, caption="rows: step, value")

    with export():
        download_figure("Curves", figure, f"{stem}_curves")
        download("Curves (NPZ)", arrays, f"{stem}_curves.npz")
        download("Records (CSV)", records, f"{stem}_records.csv")
        if rows:
            download_table("Runs (CSV)", rows, f"{stem}_table")


def watch(run: runs.Run) -> None:
    """How a run goes, from its folder alone."""
    before = run.status
    run = runs.read_run(run.folder)
    if run.status != before:
        st.rerun()  # the whole page: its actions change, and the sidebar may have a new checkpoint
    colour, icon = BADGES.get(run.status, ("gray", None))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(run.status, icon=icon, color=colour)  # type: ignore[arg-type]
        if run.config is not None:
            st.caption(escape_markdown(in_words(run.config, run.folder)))
        if run.is_active:
            stop_buttons(run)
    say_status(run)
    records = runs.read_log(run.folder)
    if run.is_active or run.steps:
        st.progress(min(1.0, run.step / run.steps) if run.steps else 0.0, progress_in_words(run))
    if records:
        show_figures(records)
        show_curves({"this run": run}, "Step")
    show_strips(run)
    left_out = runs.skipped(run.folder)
    if left_out:
        with st.expander("Left out, since they cannot be read", icon=":material/warning:"):
            show_left_out(left_out)
    if run.config is not None:
        with st.expander("What was asked for", icon=":material/tune:"):
            show_command(run.config)


def progress_in_words(run: runs.Run) -> str:
    """How many steps are done; while it runs, how fast, and how long the rest takes at that."""
    about = "about " if run.is_active and run.config is not None and run.config.minutes else ""
    words = f"step {run.step:,}" + (f" of {about}{run.steps:,}" if run.steps else "")
    if run.status != "running":
        return words
    if not run.pace:
        return f"{words} · measuring the pace"
    rate = f"{run.pace:.1f} s a step" if run.pace >= 1 else f"{1 / run.pace:,.1f} steps a second"
    left = f" · about {clock(run.pace * (run.steps - run.step))} left" if run.steps else ""
    return f"{words} · {rate}{left}"


def say_status(run: runs.Run) -> None:
    message = escape_markdown(plain_text(run.message, 600)) if run.message else ""
    if run.status == "failed":
        st.error(f"**It failed.** {message}", icon=":material/error:")
    elif run.status == "died":
        st.warning(
            "**Its process was ended from outside**, by a restart, for lack of memory, or by somebody. "
            + (
                "Resume goes on from its last whole state." if run.has_state else "There is no state yet to go on from."
            ),
            icon=":material/power_off:",
        )
    elif run.status == "starting":
        st.info(f"Starting: PyTorch is loaded, then the images are read. {message}", icon=":material/hourglass_top:")


def in_words(config: TrainConfig, folder: Path) -> str:
    """The run's settings in a line; folder: the run's own, where dropped images lie."""
    built_in = {"demo": "demo garments", "drops": "simulated drops"}
    source = built_in.get(config.data) or plain_text(Path(config.data).name)
    if (runs.ROOT / config.data).absolute() == (folder / "images").absolute():
        source = "dropped images"
    shape = f"{config.preset} · {size_in_words(config.input_size)} · {patch_in_words(config.patch_size)}"
    return f"{shape} · {config.batch_size} images a step · {source}"


def show_figures(records: list[dict]) -> None:
    last = records[-1]
    psnrs = psnrs_of(records)
    cells = st.columns(4)
    cells[0].metric("Loss", figure(last.get("loss"), "{:.5f}"), help="Mean squared error of the last batch.")
    cells[1].metric(
        "Held-out PSNR",
        figure(psnrs[-1] if psnrs else None, "{:.2f} dB"),
        help="Of images that are never trained on"
        + (f"; the best so far is {figure(max(psnrs), '{:.2f} dB')}." if psnrs else "."),
    )
    cells[2].metric("Images a second", figure(last.get("images_per_s"), "{:.1f}"))
    cells[3].metric("Learning rate", figure(last.get("lr"), "{:.2g}"), help="Of Muon.")
    reading, pace = last.get("loader_images_per_s"), last.get("images_per_s")
    words = (
        f"Gradient norm {figure(last.get('grad_norm'), '{:.3g}')}; reading alone could do {figure(reading, '{:,.0f}')} "
    )
    words += "images a second"
    if last["step"] >= 50 and is_number(reading) and is_number(pace) and 0 < reading < 1.2 * pace:
        words += ", so reading holds the training back: raise **Reading threads** (Advanced)"
    st.caption(f"{words}.")
    say_worth(psnrs[-1] if psnrs else None, yardsticks_of(records))


def yardsticks_of(records: list[dict]) -> list[Yardstick]:
    """What simple codes reach on the held-out images, from the newest record that looked at them."""
    looked = [record for record in records if is_number(record.get("held_out_psnr"))]
    return yardsticks_in(looked[-1]) if looked else []


def show_curves(shown: dict[str, runs.Run], axis: str) -> None:
    """Loss and held-out PSNR of runs, over each other."""
    (only,) = shown.values() if len(shown) == 1 else (None,)
    sticks = yardsticks_of(runs.read_log(only.folder)) if only else []
    with st.container(key="train_wide_curves"):
        left, right = st.columns(2)
    for place, (title, field) in zip((left, right), PANELS.items(), strict=True):
        curves, unit = curves_of(shown, axis, field), " dB" if title != "Loss" else ""
        # The weakest and the best: what lies between would be written over each other.
        ends = [*sticks[:1], *sorted(sticks, key=lambda one: one.psnr)[-1:]] if title != "Loss" else []
        place.plotly_chart(
            plot_curves(curves, axis, title, unit, log=title == "Loss", levels={one.name: one.psnr for one in ends}),
            key=f"train_curve_{title.split()[0]}",
            config={"displayModeBar": False},
            alt=f"{title} over {'steps' if axis == 'Step' else 'minutes'}",
        )


def curves_of(shown: dict[str, runs.Run], axis: str, field: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{run: (x (n,), y (n,))} of a field of the records, over steps or minutes."""
    curves = {}
    for name, run in shown.items():
        records = runs.read_log(run.folder)
        batch_size = run.config.batch_size if run.config else 1
        x = runs.minutes(records, batch_size) if axis == "Minutes" else [record["step"] for record in records]
        points = [(at, one[field]) for at, one in zip(x, records, strict=True) if is_number(one.get(field))]
        across, up = np.array(points, float).reshape(-1, 2).T
        curves[name] = across, up
    return curves


def show_strips(run: runs.Run) -> None:
    """Held-out images above their reconstructions: the latest, and a slider through the earlier ones."""
    strips = {int(path.stem): path for path in runs.strips(run.folder)}
    if not strips:
        return
    state, chosen, newest = st.session_state, f"train_strip_{run.name}", max(strips)
    # It follows the training until somebody moves it, and again once it is moved to the end.
    step = state[chosen] if state.get(chosen) in strips else newest
    st.markdown("**Above what is held out, below what the model makes of it**")
    if len(strips) > 1:
        # A slider anew for each new strip: what the browser still says of the old one is no choice.
        key = f"{chosen}_{newest}"

        def keep() -> None:
            state[chosen] = None if state[key] == newest else state[key]

        step = st.select_slider(
            "After step", list(strips), step, key=key, format_func=lambda step: f"{step:,}", on_change=keep
        )
    try:
        pixels = np.asarray(Image.open(strips[step]))
    except OSError:
        st.caption("This image is being replaced.")
        return
    height, width = pixels.shape
    source = in_page(pixels, max(1, min(1150 // width, 460 // height)))
    st.image(source, alt=f"Held-out images above their reconstructions after step {step}")
    st.caption(f"After step {step:,}.")
