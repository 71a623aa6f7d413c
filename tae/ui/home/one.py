"""One image beside its reconstruction."""

import numpy as np
import streamlit as st

from tae import ui
from tae.analysis import facts
from tae.data.encode import encode_png
from tae.plots.export import figures, render, tables
from tae.plots.quality import METRICS, plot_distribution, plot_signed_error, worse_than
from tae.store.names import escape_markdown
from tae.ui.home import windows
from tae.ui.widgets.charts import chart, image_chart
from tae.ui.widgets.downloads import download_files


def one_image(active: ui.Active, chosen: ui.Chosen) -> None:
    if windows.by_window(active, chosen):
        windows.show(active, chosen, origin(chosen))
        return
    ui.scene_or_stop(active, chosen)
    result = ui.reconstruct(active, chosen)
    given, seen, recon, error = ui.panels(result.fitted.pixels, 4)
    with given:
        image_cell("You gave" if chosen.sample is None else "Sample", chosen.image.original)
        st.caption(origin(chosen))
    with seen:
        image_cell("The model saw", result.fitted.pixels)
        st.caption(escape_markdown("; ".join(result.fitted.notes)) or "Exactly this image, pixel by pixel.")
    with recon:
        image_cell("Reconstruction", result.recon)
        st.caption(f"Drawn from {active.config.latent_dim} numbers by {escape_markdown(active.title)}.")
    with error:
        st.markdown("**Error**, reconstruction − image")
        figure = plot_signed_error(result.recon - result.fitted.pixels)
        image_chart(figure, "reconstruct_error", "Signed error of every pixel, on a colour scale centred on zero")
    verdict(active, result)
    measures(active, result)
    downloads(active, chosen, result)


def image_cell(title: str, pixels: np.ndarray) -> None:
    st.markdown(f"**{title}**")
    factor = max(1, round(400 / max(pixels.shape[:2])))  # nearest, so that the browser's smoothing adds nothing
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    st.image(encode_png(enlarged), width="stretch", alt=title)


def origin(chosen: ui.Chosen) -> str:
    height, width = chosen.image.pixels.shape
    notes = [f"{width}x{height} pixels", *chosen.image.notes]
    if chosen.sample is not None:
        notes.append(chosen.sample.note)
    return escape_markdown(f"{chosen.title}: " + "; ".join(notes))


def verdict(active: ui.Active, result: ui.Result) -> None:
    """One sentence: how this compares with the images that the checkpoint was tested on."""
    if active.is_random:
        return
    percentiles = active.test_percentiles.get("psnr")
    if not percentiles:
        st.info("This checkpoint's card has no test figures to compare with.", icon=":material/info:")
        return
    psnr = result.quality.psnr
    worse = worse_than(np.array(percentiles), psnr, True)
    share = "all" if worse > 99.5 else f"{worse:.0f} %"
    median = f"(median {percentiles[50]:.1f} dB)"
    if worse >= 95:
        st.warning(
            f"**PSNR {psnr:.1f} dB: worse than {share} of the test images** {median}. This image is unlike what "
            "the model was trained on, and the model fails on it.",
            icon=":material/trending_down:",
        )
    elif worse > 75:
        st.info(
            f"**PSNR {psnr:.1f} dB: worse than {worse:.0f} % of the test images** {median}: harder than most, still "
            "within their range.",
            icon=":material/trending_down:",
        )
    else:
        st.success(
            f"**PSNR {psnr:.1f} dB: better than {100 - worse:.0f} % of the test images** {median}: the kind of image "
            "that the model was trained on.",
            icon=":material/check:",
        )


def measures(active: ui.Active, result: ui.Result) -> None:
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


def downloads(active: ui.Active, chosen: ui.Chosen, result: ui.Result) -> None:
    name = facts.file_stem(chosen.title, active.warning)
    image, recon = result.fitted.pixels, result.recon
    caption = facts.marked(f"{chosen.title} · {active.title} · PSNR {result.quality.psnr:.2f} dB", active.warning)

    def comparison(fmt: render.Format) -> bytes:
        return figures.comparison_figure(image, recon, caption, fmt, warning=active.warning)

    arrays = {"image": image, "reconstruction": recon, "error": recon - image}
    files = {
        "image.png": ("", lambda: encode_png(image)),
        "reconstruction.png": ("Reconstruction (PNG)", lambda: encode_png(recon)),
        "error.png": (
            "Error (PNG)",
            lambda: figures.error_figure(image, recon, caption, "png", warning=active.warning),
        ),
        "comparison.png": ("Side by side (PNG)", lambda: comparison("png")),
        "comparison.svg": ("Side by side (SVG)", lambda: comparison("svg")),
        "arrays.npz": ("", lambda: tables.maps_npz(arrays, caption=caption)),
        "metrics.csv": (
            "",
            lambda: tables.metrics_csv([{"image": chosen.title, "checkpoint": active.title, **result.figures}]),
        ),
    }
    with st.container(horizontal=True, key="expert_downloads"):
        download_files(name, files)
