"""Over training time: the image by the snapshots of the checkpoint's run, or what its training drew."""

import math
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from tae.data.encode import encode_png
from tae.model.config import PARTS
from tae.plots.latent import plot_moments
from tae.store.checkpoint import CheckpointError
from tae.store.names import escape_markdown, safe_name
from tae.ui.layers import measure
from tae.ui.layers.measure import Moment
from tae.ui.layers.strips import strip
from tae.ui.session.scene import Scene
from tae.ui.session.view import choose
from tae.ui.widgets.charts import chart, drawn
from tae.ui.widgets.downloads import download_table, export
from tae.ui.widgets.report import download_report


def has_history(scene: Scene) -> bool:
    """Whether the checkpoint's run left anything of the way."""
    return bool(measure.moments(scene.active) or measure.training_strips(scene.active))


def over_training(scene: Scene) -> None:
    """The image through the snapshots of the checkpoint's run; else held-out reconstructions, where it left them."""
    moments, strips = measure.moments(scene.active), measure.training_strips(scene.active)
    if moments:
        through_snapshots(scene, moments)
    else:
        through_strips(strips)


def through_snapshots(scene: Scene, moments: list[Moment]) -> None:
    """The strips of both parts by the weights of a moment, and the image's PSNR over all of them."""
    st.caption("The image by the weights as they were on the way, without a lens: it belongs to the last weights.")
    by_key = {moment.key: moment for moment in moments}
    if st.session_state.moment not in by_key:
        st.session_state.moment = "end"
    key = choose(
        "moment", st.select_slider, "Training step", list(by_key), format_func=lambda key: moment_title(by_key[key])
    )
    moment = by_key[key]
    try:
        then = measure.at_moment(scene.active, moment)
    except CheckpointError as error:
        st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
    else:
        if then.is_random:
            st.error(
                "**Untrained.** These are the random weights that the training began with.", icon=":material/warning:"
            )
        strips = [measure.seen(then, scene.fitted, part, None, False) for part in PARTS]
        if all(np.isfinite(one.images).all() for one in strips):
            for one in strips:
                strip(then, one, None, "raw", "moment")
        else:
            st.warning("The weights of this step draw no finite numbers.", icon=":material/broken_image:")
    psnr = measure.over_training(scene, moments)
    if psnr is None:
        return
    steps, values = [one.step for one in moments], [psnr[one.key] for one in moments]
    st.markdown(f"**PSNR of this image over the training**: {course(steps, values)}")
    figure = drawn(plot_moments, steps, values, moment.step)
    chart(figure, "layers_moments", f"PSNR of this image over training steps: {course(steps, values)}")
    rows = [
        {
            **scene.chosen.named(scene.active),
            "step": step,
            "trained": step > 0,
            "psnr_db": value,
        }
        for step, value in zip(steps, values, strict=True)
    ]
    with export():
        download_report(scene)
        download_table("PSNR over the training (CSV)", rows, f"{safe_name(scene.chosen.title)}_training")


def moment_title(moment: Moment) -> str:
    told = " (the checkpoint)" if moment.path is None else " (cannot be read)" if moment.error else ""
    return f"{moment.step:,}{told}"


def course(steps: list[int], psnr: list[float]) -> str:
    """How an image came about in training, in words."""
    read = [(step, value) for step, value in zip(steps, psnr, strict=True) if math.isfinite(value)]
    lost = len(steps) - len(read)
    told = (
        f" {lost} of {len(steps)} are left out: they cannot be read, draw no finite numbers, or are exact."
        if lost
        else ""
    )
    if len(read) < 2:
        return f"too few snapshots tell.{told}"
    (first, low), (last, high) = read[0], read[-1]
    if high - low < 0.1:
        return f"from step {first:,} to step {last:,} it gained nothing ({low:.1f} to {high:.1f} dB).{told}"
    half = next(step for step, value in read if value >= (low + high) / 2)
    return (
        f"from {low:.1f} dB after step {first:,} to {high:.1f} dB after step {last:,}; by step {half:,} half of the gain or "
        f"more was there.{told}"
    )


def through_strips(strips: dict[str, Path]) -> None:
    """Held-out reconstructions, as the training drew them."""
    steps = list(strips)
    if st.session_state.moment not in steps:
        st.session_state.moment = steps[-1]
    step = steps[0]
    if len(steps) > 1:
        step = choose(
            "moment", st.select_slider, "After training step", steps, format_func=lambda step: f"{int(step):,}"
        )
    try:
        pixels = np.asarray(Image.open(strips[step]).convert("L"))
    except OSError:
        st.caption("This image can no longer be read.")
    else:
        st.image(encode_png(pixels), alt=f"Held-out images above their reconstructions after step {step}")
        st.caption(
            f"Not your image: held-out images above their reconstructions after step {int(step):,}. No weights of that step "
            "were kept."
        )
