"""A wide image window by window on the page Explore: the choice, the work, what is shown of it, what can be saved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tae.analysis import facts
from tae.data.decode import ImageError
from tae.data.encode import encode_png
from tae.data.fit import Fitted, fit_image, padded_box
from tae.model.config import ModelConfig, size_in_words
from tae.plots.export import render, tables
from tae.plots.export.strips import folded_figure
from tae.plots.quality import METRICS, worse_than
from tae.plots.strip import StripRow, strip_html
from tae.store.names import escape_markdown
from tae.ui.session.cache import kept
from tae.ui.session.images import Chosen
from tae.ui.session.models import Active
from tae.ui.session.results import NO_NUMBERS, fit_mode, pass_seconds
from tae.ui.session.view import choose
from tae.ui.session.work import Progress, measured
from tae.ui.widgets.downloads import download_files, export

if TYPE_CHECKING:
    from tae.analysis.windows import Windows
    from tae.model.metrics import Quality

ONE, WINDOWS = "one", "windows"
SHRUNK = 4
"""A strip that is wider than this many of a fixed-size model's frames is shown window by window, unless asked otherwise: in
one latent it would be less than a quarter as high as the model reads."""
FAILED_R2 = 0.5
UNUSUAL = 95  # in percent of the test images: what is worse than these is unlike them


@dataclass(frozen=True)
class OneLatent:
    """The same strip by way of a single latent."""

    recon: np.ndarray  # (H, W) in [0, 1], of the strip's size
    quality: "Quality"  # on the strip's pixels
    r2: float  # share of the strip's variance that it explains
    how: str  # what the model needed done to the strip; empty if nothing


@dataclass(frozen=True)
class Strip:
    """A strip window by window."""

    fitted: Fitted  # the strip at the model's height, (H, W)
    windows: "Windows"  # its latents, and where they lie
    recon: np.ndarray  # (H, W) float32 in [0, 1], blended
    quality: "Quality"  # of the whole strip
    r2: float  # share of the strip's variance that the reconstruction explains; nan where it is one grey
    psnr: np.ndarray  # (n,) of the reconstruction in each window's columns, in dB
    alone: np.ndarray  # (n,) of each window's own image, before it is blended
    one: OneLatent | None  # the same by way of one latent; None where that is not possible


def is_possible(active: Active, chosen: Chosen) -> bool:
    """Whether an image is wide enough for windows, and not too long for them."""
    from tae.analysis.windows import MAX_STRIP_PIXELS, strip_width, window_width

    rows, columns = chosen.image.pixels.shape
    wide = strip_width(rows, columns, active.config)
    return wide > window_width(active.config) and wide * active.config.input_size[0] <= MAX_STRIP_PIXELS


def by_window(active: Active, chosen: Chosen) -> bool:
    """Draws the choice where an image is wider than a window; whether it is to be shown window by window."""
    from tae.analysis.windows import strip_width, window_starts, window_width

    config = active.config
    height, width = config.input_size
    window = window_width(config)
    rows, columns = chosen.image.pixels.shape
    wide = strip_width(rows, columns, config)
    if wide <= window:
        return False
    # A model of any width refuses a wider image in one latent; one of a fixed size can always show it.
    is_natural = wide > config.max_width if width is None else wide > SHRUNK * width and is_possible(active, chosen)
    is_natural = is_natural and fit_mode(active, chosen.image.pixels, chosen.digest) == "pad"
    natural = WINDOWS if is_natural else ONE
    count = len(window_starts(wide, window))
    numbers = config.latent_dim
    names = {ONE: "One latent", WINDOWS: f"Window by window ({count:,} latents)"}
    fits_one = (
        f"The model takes at most {config.max_width:,} pixels in one latent; this image has {wide:,} at its height."
        if width is None and wide > config.max_width
        else "The whole image is one image for the model."
        if width is None
        else f"The whole image has to fit into {size_in_words(config.input_size)} pixels."
    )
    # The natural way is the empty field, so that it is chosen anew for each image and stays out of the link.
    options = [way if way != natural else "" for way in names]
    if st.session_state.strip not in options:
        st.session_state.strip = ""
    with st.container(key="expert_windows"):
        way = choose(
            "strip",
            st.segmented_control,
            "How this wide image is embedded",
            options,
            format_func=lambda way: names[way or natural],
            required=True,
            help=f"**One latent**: {numbers} numbers. {fits_one}\n\n**Window by window**: {count:,} windows of {window}x{height} "
            f"pixels, each sharing half with the next, one latent each: {count:,} x {numbers} = {count * numbers:,} numbers. "
            "The image is only scaled to the model's height. More numbers hold more of an image: that it is drawn better "
            "is no surprise.",
        )
    return (way or natural) == WINDOWS


def show(active: Active, chosen: Chosen, origin: str) -> DeltaGenerator | None:
    """An image wider than a window, window by window, beside what one latent makes of it; its origin is Markdown.

    Returns the place for what to do next where the model fails on some of it.
    """
    try:
        strip = strip_of(active, chosen)
    except ImageError as error:
        st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}")
        return None
    if strip is None:
        return None
    with st.container(horizontal=True, vertical_alignment="center", key="explore_verdict"):
        fails = verdict(active, strip)
        steps = st.container(width="content") if fails else None
    with export():
        downloads(active, chosen, strip)
    st.html(_html(_key(active, chosen), active.config.latent_dim, strip), unsafe_allow_javascript=True)
    st.caption(
        f"{origin}; {escape_markdown('; '.join(strip.fitted.notes)) or 'shown to the model pixel by pixel'}. Where it "
        "is wider than the page, scroll it sideways, or click it and use the arrow keys, Page up and down, Home and End. "
        f"{'Attention is shown of **One latent**.' if strip.one else ''}"
    )
    st.markdown(sentence(active.config, strip))
    measures(strip)
    return steps


def strip_of(active: Active, chosen: Chosen) -> Strip | None:
    """The image through the model window by window, measured; with progress, kept for all sessions.

    None while it waits for a click, and when it was stopped. Raises ImageError if the strip becomes too large.
    """
    from tae.analysis.windows import window_starts, window_width

    config = active.config
    window = window_width(config)
    fitted = _fitted(chosen, config)
    count = len(window_starts(fitted.pixels.shape[1], window, window // 2))

    return measured(
        "windows",
        _key(active, chosen),
        f"Embedding and drawing {count:,} windows",
        lambda: count * pass_seconds(replace(config, max_width=window)) + fitted.pixels.size / 1e6,
        lambda step: compute(active, chosen.image.pixels, fitted, step),
    )


@kept()
def _fitted(chosen: Chosen, config: ModelConfig) -> Fitted:
    from tae.analysis.windows import fit_strip

    return fit_strip(chosen.image.pixels, config)


def compute(active: Active, pixels: np.ndarray, fitted: Fitted, step: Progress) -> Strip:
    """Everything about one strip; `pixels`: of the image before it was fitted."""
    from tae.analysis.windows import decode_windows, embed_windows, window_starts, window_width
    from tae.model.metrics import measure, psnr_of, r2

    model, strip = active.loaded.model, fitted.pixels
    window = window_width(active.config)
    count = len(window_starts(strip.shape[1], window))
    alone = np.zeros(count)

    def columns(start: int) -> np.ndarray:
        return strip[:, start : start + window].astype(np.float64)

    def drawn(number: int, image: "object") -> None:
        own = np.clip(np.asarray(image), 0, 1)
        alone[number] = psnr_of(float(((own - columns(windows.starts[number])) ** 2).mean()))
        if number % 16 == 0:
            step(0.4 + 0.4 * number / count)

    windows = embed_windows(model, strip, embedded=lambda done: step(0.4 * done / count))
    recon = decode_windows(model, windows, drawn=drawn).clamp(0, 1).numpy()
    psnr = [
        psnr_of(float(((recon[:, start : start + window] - columns(start)) ** 2).mean())) for start in windows.starts
    ]
    if not np.isfinite(recon).all():
        raise ImageError(NO_NUMBERS)
    step(0.8)
    quality, explained = measure(strip, recon), r2(strip, recon)
    step(0.9)
    one = one_latent(active, pixels, strip)
    return Strip(fitted, windows, recon, quality, explained, np.array(psnr), alone, one)


def one_latent(active: Active, pixels: np.ndarray, strip: np.ndarray) -> OneLatent | None:
    """A strip (H, W) by way of one latent: as it is, or shrunk to the frame of a model of fixed size and enlarged again."""
    import torch

    from tae.model.metrics import measure, r2

    config = active.config
    height, width = config.input_size
    if width is None and strip.shape[1] > config.max_width:
        return None
    seen = strip if width is None else fit_image(pixels, (height, width), "pad").pixels
    with torch.inference_mode():
        recon = active.loaded.model(torch.from_numpy(np.array(seen))[None, None])[0].clamp(0, 1)[0, 0].numpy()
    how = ""
    if width is not None:
        rows, columns = padded_box(pixels, (height, width))
        recon = recon[rows, columns]
        how = f"shrunk to {recon.shape[1]}x{recon.shape[0]} and enlarged again"
        recon = fit_image(recon, (strip.shape[0], strip.shape[1]), "stretch").pixels
    return OneLatent(recon, measure(strip, recon), r2(strip, recon), how)


def sentence(config: ModelConfig, strip: Strip) -> str:
    """The windows in words and numbers."""
    windows, numbers = strip.windows, config.latent_dim
    count, steps = len(windows.starts), np.diff(windows.starts)
    shared = windows.window - int(steps[0])
    last = windows.window - int(steps[-1])
    overlap = f"each shares {shared} pixels with the next" if count > 2 else f"they share {shared} pixels"
    if last != shared:
        overlap += f" (the last two {last})"
    return (
        f"**{count:,} windows** of {windows.window}x{config.input_size[0]} pixels, a new one every {steps[0]} pixels; "
        f"{overlap}, where the image goes over gradually from one to the other. **{count:,} latents of {numbers} numbers, "
        f"{count * numbers:,} in all, in place of {numbers}**: more numbers for the same image, so a better image is no "
        "surprise."
    )


def verdict(active: Active, strip: Strip) -> bool:
    """Whether the model fails on a part of this strip; test images, of one latent each, are compared with single windows only."""
    if active.is_random:
        return False
    share, count = unusual(active, strip), len(strip.alone)
    explained = ""
    if not math.isnan(strip.r2):
        explained = f"the reconstruction explains {100 * max(0.0, strip.r2):.0f}% of how its greys vary (R2)"
    worst = (
        ""
        if share is None
        else f"{share:,} of {count:,} windows, each taken by itself, are drawn worse than {UNUSUAL}% of the test images"
    )
    if strip.r2 < FAILED_R2 or (share is not None and share > count / 2):
        told = "; ".join(filter(None, (explained, worst)))
        st.warning(
            f"**The model fails on this strip**: {told}. It is unlike what the model was trained on, or training never showed "
            "what windows show: things cut off at their edges.",
            icon=":material/trending_down:",
        )
        return True
    if worst:
        draw, icon = (st.warning, ":material/trending_down:") if share else (st.info, ":material/info:")
        draw(f"**{worst[0].upper()}{worst[1:]}.**", icon=icon)
    return bool(share)


def unusual(active: Active, strip: Strip) -> int | None:
    """How many windows, each by itself one image through one latent, are worse than nearly all test images."""
    percentiles = active.test_percentiles.get("psnr")
    if not percentiles:
        return None
    return sum(worse_than(np.array(percentiles), float(psnr), True) >= UNUSUAL for psnr in strip.alone)


def _key(active: Active, chosen: Chosen) -> str:
    return f"{active.loaded.digest}|{chosen.digest}"


@kept()
def _html(key: str, latent_dim: int, _strip: Strip) -> str:
    error = _strip.recon - _strip.fitted.pixels
    limit = max(float(np.abs(error).max()), 0.05)
    rows = [
        StripRow("Model input", _strip.fitted.pixels),
        StripRow(f"Reconstruction, window by window ({len(_strip.psnr):,} latents)", _strip.recon, ruled=True),
        StripRow("Error, reconstruction − image", error, limit),
    ]
    if _strip.one:
        how = f", {_strip.one.how}" if _strip.one.how else ""
        rows.append(StripRow(f"Reconstruction from one latent ({latent_dim} numbers){how}", _strip.one.recon))
    window = _strip.windows.window
    marks = [
        f"{number}: {start}–{start + window} px, {decibels(psnr)}"
        for number, (start, psnr) in enumerate(zip(_strip.windows.starts, _strip.psnr, strict=True), start=1)
    ]
    return strip_html(rows, "The strip, its reconstruction and its error", _strip.windows.starts, window, marks)


def decibels(psnr: float) -> str:
    return "exact" if psnr == math.inf else f"{psnr:.1f} dB"


def measures(strip: Strip) -> None:
    one = strip.one
    for column, (metric, (label, pattern, _, explanation)) in zip(st.columns(4), METRICS.items(), strict=True):
        with column:
            st.metric(label, written(pattern, getattr(strip.quality, metric)), help=explanation)
            if one:
                st.caption(f"One latent: {written(pattern, getattr(one.quality, metric))}")
    told = (
        "Of the whole strip, which have nothing to be compared with: test images are of one latent for a whole image. PSNR of "
        "each window on the ruler is of the blended image in its columns."
    )
    if one is None:
        told += " One latent cannot hold this strip: it is wider than the model takes at once, so there is nothing beside these."
    elif one.how:
        told += f" Both on the strip's pixels; for one latent the strip was {one.how}."
    else:
        told += " Both on the same pixels."
    st.caption(told)


def written(pattern: str, value: float) -> str:
    return pattern.format(value) if math.isfinite(value) else "–"


def downloads(active: Active, chosen: Chosen, strip: Strip) -> None:
    name = f"{facts.file_stem(chosen.title, active.warning)}_windows"
    image, recon, windows = strip.fitted.pixels, strip.recon, strip.windows
    caption = facts.marked(
        f"{chosen.title} · {active.title} · {len(windows.starts)} windows of {windows.window} px, one latent each · "
        f"PSNR {strip.quality.psnr:.2f} dB",
        active.warning,
    )

    def figure(fmt: render.Format, error_only: bool = False) -> bytes:
        return folded_figure(image, recon, caption, fmt, active.warning, error_only)

    def arrays() -> bytes:
        found = {
            "image": image,
            "reconstruction": recon,
            "error": recon - image,
            "latents": windows.latents.numpy(),
            "starts": np.array(windows.starts),
            "window": np.array(windows.window),
            "psnr": strip.psnr,
            "psnr_alone": strip.alone,
        }
        return tables.maps_npz(found, caption=caption)

    files = {
        "image.png": ("", lambda: encode_png(image)),
        "reconstruction.png": ("Reconstruction (PNG)", lambda: encode_png(recon)),
        "error.png": ("Error (PNG)", lambda: figure("png", error_only=True)),
        "comparison.png": ("Below each other (PNG)", lambda: figure("png")),
        "comparison.svg": ("Below each other (SVG)", lambda: figure("svg")),
        "arrays.npz": ("Arrays and latents (NPZ)", arrays),
        "metrics.csv": ("", lambda: tables.metrics_csv(table(active, chosen, strip))),
    }
    with st.container(horizontal=True):
        download_files(name, files)


def table(active: Active, chosen: Chosen, strip: Strip) -> list[dict[str, object]]:
    """Figures of the whole strip, of one latent for it where there is one, and of each window: a line each.

    psnr: of the blended image, in a window's columns; psnr_alone: of the image that the window's own latent makes.
    """
    windows = strip.windows

    def row(method: str, latents: int, start: int, end: int, figures: Mapping[str, float | None]) -> dict[str, object]:
        return {**chosen.named(active), "method": method, "latents": latents, "start": start, "end": end, **figures}

    whole = [("window by window", len(windows.starts), strip.quality, strip.r2)]
    if strip.one:
        whole.append(("one latent", 1, strip.one.quality, strip.one.r2))
    return [
        *(
            row(method, count, 0, windows.width, {**quality.as_dict(), "r2": explained, "psnr_alone": None})
            for method, count, quality, explained in whole
        ),
        *(
            row(f"window {number}", 1, start, start + windows.window, {"psnr": float(psnr), "psnr_alone": float(alone)})
            for number, (start, psnr, alone) in enumerate(
                zip(windows.starts, strip.psnr, strip.alone, strict=True), start=1
            )
        ),
    ]
