"""How good the reconstruction is, in one line with a next step, and where the image came from."""

import math
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from tae import ui
from tae.data.decode import ImageError
from tae.plots.quality import METRICS, plot_distribution, worse_than
from tae.store.names import escape_markdown
from tae.ui.explore.windows import UNUSUAL
from tae.ui.session.results import recon_of
from tae.ui.session.work import Progress, measured
from tae.ui.widgets.charts import chart

if TYPE_CHECKING:
    from tae.model.metrics import Quality


def origin(chosen: ui.Chosen) -> str:
    """Where an image is from, in Markdown."""
    height, width = chosen.image.pixels.shape
    notes = [f"{width}x{height} pixels", *chosen.image.notes]
    if chosen.sample is not None:
        notes.append(chosen.sample.note)
    return escape_markdown(f"{chosen.title}: " + "; ".join(notes))


def facts_line(chosen: ui.Chosen, result: ui.Result) -> None:
    """The file's notes, and what was done to it for the model."""
    fitted = escape_markdown("; ".join(result.fitted.notes))
    st.caption(
        " ".join(f"{one.rstrip('.')}." for one in (origin(chosen), f"Model input: {fitted}" * bool(fitted)) if one)
    )


def place_among_tests(active: ui.Active, result: ui.Result, metric: str) -> float | None:
    """The share of the test images, in percent, that do better by one of `METRICS`; None where that is not known."""
    percentiles, value = active.test_percentiles.get(metric), getattr(result.quality, metric)
    return worse_than(np.array(percentiles), value, METRICS[metric][2]) if percentiles and value == value else None


def verdict(active: ui.Active, result: ui.Result, is_ablated: bool = False) -> bool:
    """One sentence: how this compares with the images that the checkpoint was tested on; whether the image is unlike them.

    By PSNR, or by the foreground where that is further behind: on a page that is nearly white, PSNR praises a white page.
    It judges the undisturbed reconstruction, and says so where an ablated one is shown: test images lost no head.
    """
    if active.is_random:
        return False
    worse, of_foreground = (place_among_tests(active, result, metric) for metric in ("psnr", "foreground_mse"))
    if worse is None:
        st.info("This checkpoint's card has no test figures to compare with.", icon=":material/info:")
        return False
    psnr, median = result.quality.psnr, active.test_percentiles["psnr"][50]
    figure = f"{'Before ablation: ' * is_ablated}PSNR {psnr:.1f} dB"
    among = f"(median {median:.1f} dB)"
    if math.isnan(result.quality.foreground_mse):
        st.info(f"**{figure} of a blank page**: nothing on it is darker than .95.", icon=":material/info:")
        return False
    worst = max(worse, of_foreground or 0)
    if worst >= UNUSUAL:
        behind = worse if worse >= UNUSUAL else worst
        share = "all" if behind > 99.5 else f"{behind:.0f}%"
        said = f"worse than {share} of the test images** {among}"
        if worse < UNUSUAL:
            said = f"but what is not white is drawn worse than on {share} of the test images**"
        st.warning(
            f"**{figure}{', ' if worse < UNUSUAL or is_ablated else ': '}{said}; unlike what the model was trained on.",
            icon=":material/trending_down:",
        )
        return True
    said = f"**{figure}{', ' if is_ablated else ': '}{place_in_words(worse)} of the test images** {among}"
    if worst > worse:
        said += f"; what is not white: {place_in_words(worst)}"
    if worst > 75:
        st.info(f"{said}: harder than most.", icon=":material/trending_down:")
    elif worst > 50:
        st.info(f"{said}.", icon=":material/trending_flat:")
    else:
        st.success(f"{said}.", icon=":material/check:")
    return False


def place_in_words(worse: float) -> str:
    """A share of images that do better, in percent, such as "better than 88%"."""
    return f"better than {100 - worse:.0f}%" if worse < 50 else f"worse than {worse:.0f}%"


def next_steps(active: ui.Active, chosen: ui.Chosen) -> None:
    """What to do where a model fails on an image: the checkpoints that draw it better, or a training; drawn last."""
    found = better_checkpoints(active, chosen)
    with st.container(horizontal=True, vertical_alignment="center", key="explore_next"):
        for key, (title, quality) in list((found or {}).items())[:3]:
            st.button(
                f"{escape_markdown(title)}: {quality.psnr:.1f} dB",
                key=f"explore_use_{key}",
                icon=":material/swap_horiz:",
                on_click=use,
                args=(key,),
                help="Show the image with this checkpoint.",
            )
        if found == {}:
            st.caption("No other checkpoint here draws it better.")
        st.page_link(
            "pages/train.py",
            label="Train on your images",
            icon=":material/model_training:",
            query_params=ui.link("Train"),
        )


def use(key: str) -> None:
    st.session_state.checkpoint = key


def better_checkpoints(active: ui.Active, chosen: ui.Chosen) -> dict[str, tuple[str, "Quality"]] | None:
    """{checkpoint's key: (title, quality)} of those that draw an image better, the best first; each at its own size.

    By the foreground: beside it, a small image on a wide white page would look well drawn by whoever draws a white page.
    """
    others = {key: path for key, path in ui.checkpoint_files().items() if key != active.key}

    def compute(progress: Progress) -> dict[str, tuple[str, "Quality"]]:
        found = {}
        for number, key in enumerate(others):
            progress(number / len(others))
            quality = quality_with(key, chosen)
            if quality is not None:
                found[key] = quality
        return found

    def error(quality: "Quality") -> float:
        return quality.mse if math.isnan(quality.foreground_mse) else quality.foreground_mse

    try:
        own = error(ui.reconstruct(active, chosen).quality)
    except ImageError:  # too wide for one latent
        own = math.inf
    names = "|".join(f"{key} {path.stat().st_mtime_ns}" for key, path in others.items())
    key = f"{chosen.digest}|{st.session_state.fit}|{active.loaded.digest}|{names}"
    found = measured("better", key, "Trying the other checkpoints", lambda: 0.5 * len(others), compute)
    if found is None:
        return None
    return dict(sorted(((k, v) for k, v in found.items() if error(v[1]) < own), key=lambda pair: error(pair[1][1])))


def quality_with(key: str, chosen: ui.Chosen) -> tuple[str, "Quality"] | None:
    """A checkpoint's title and how it draws an image; None where it does not load, fit or draw. The caller holds the models."""
    from tae.model.metrics import measure
    from tae.store.checkpoint import CheckpointError

    try:
        other = ui.load_model(key)
        fitted = ui.fit(other, chosen)
        pixels = recon_of(other.loaded, fitted)[0, 0].numpy()
        return other.title, measure(fitted.pixels, pixels, with_ssim=False)
    except (CheckpointError, ImageError, OSError):
        return None


def measures(active: ui.Active, result: ui.Result) -> None:
    """The figures of the reconstruction, each among the test images."""
    for column, (metric, (label, pattern, higher_is_better, explanation)) in zip(
        st.columns(4), METRICS.items(), strict=True
    ):
        value = getattr(result.quality, metric)
        with column:
            st.metric(label, pattern.format(value) if np.isfinite(value) else "–", help=explanation)
            percentiles = active.test_percentiles.get(metric)
            if percentiles and np.isfinite(value):
                figure = plot_distribution(np.array(percentiles), value, label, higher_is_better)
                chart(figure, f"reconstruct_{metric}", f"{label} of this image among the test images")
