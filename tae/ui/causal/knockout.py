"""Knock out: heads, a layer's attention or its MLP ablated, edits, and the reconstruction that follows."""

import math
import re

import numpy as np
import streamlit as st

from tae.analysis.causal.interventions import Intervention, Knockout, from_name, to_text
from tae.analysis.causal.sweeps import Sweep
from tae.data.encode import encode_png
from tae.model.config import PARTS
from tae.plots.causal import plot_change
from tae.plots.export import figures
from tae.plots.style import CURVE_COLOURS
from tae.store.names import escape_markdown
from tae.ui.causal import measure
from tae.ui.causal.controls import choose_baseline, words_of
from tae.ui.causal.edit import edits
from tae.ui.causal.history import current, held, history, say_refused, set_changes
from tae.ui.causal.measure import PairScene
from tae.ui.session.view import write_link
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.charts import image_chart
from tae.ui.widgets.downloads import download, download_arrays, download_figure, export, no_export
from tae.ui.widgets.report import download_report
from tae.ui.widgets.slide import slide

TARGETS = {"attention": "all", "mlp": "MLP"}
DARK_DB = 10.0  # PSNR lost at which a pill is darkest


@st.fragment
def knock_out(scene: PairScene, sweep: Sweep | None) -> None:
    active, refused = current(scene)
    say_refused(refused)
    kind = choose_baseline()
    with st.container(key="causal_columns"):
        left, right = (st.container(), st.container()) if scene.is_wide else st.columns(2)
    with left:
        with st.container(key="causal_grids"):
            places = st.columns(2) if scene.is_wide else [st.container(), st.container()]
        for part, place in zip(PARTS, places, strict=True):
            with place:
                grid_of(scene, part, active, sweep)
        if sweep is not None:
            st.caption("Beside each: the change of PSNR in dB when it alone is ablated.")
        history(scene, active)
        if not scene.is_wide:
            edits(scene, active)
    with right, st.container(key="causal_outcome"):
        outcome(scene, active, kind)
    if scene.is_wide:  # below what changed, which belongs near to the grid
        edits(scene, active)
    write_link()


def grid_of(scene: PairScene, part: str, active: tuple[Intervention, ...], sweep: Sweep | None) -> None:
    """One row for each layer: its heads, its attention as a whole, its MLP, in the colour of what each costs alone."""
    st.markdown(f"**{part.capitalize()}**: heads of each layer, all of them, its MLP")
    for layer in range(scene.config.num_layers(part)):
        targets = [*map(str, range(scene.config.num_heads)), "attention", "mlp"]
        key = f"causal_off_{part}_{layer}"
        here = [
            str(one.target) for one in active if isinstance(one, Knockout) and (one.part, one.layer) == (part, layer)
        ]
        st.session_state[key] = here
        lost = {} if sweep is None else {one: _lost(sweep, part, layer, one) for one in targets}
        if lost:
            st.html(f"<style>{shades(key, [*lost.values()])}</style>")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f"layer {layer}", width=52)
            st.pills(
                f"{part.capitalize()}, layer {layer}: ablated",
                targets,
                selection_mode="multi",
                format_func=lambda target: titled(target, lost.get(target)),  # noqa: B023
                key=key,
                on_change=toggle,
                args=(part, layer, key),
                label_visibility="collapsed",
            )


def _lost(sweep: Sweep, part: str, layer: int, target: str) -> float:
    return sweep.damage[from_name(f"{part}/{layer}/{target}")].psnr_lost  # type: ignore[index]


def titled(target: str, lost: float | None) -> str:
    """A head's number, all of a layer's, or its MLP, and what it costs to lose it."""
    title = TARGETS.get(target) or target
    if lost is None or not math.isfinite(lost):
        return title
    return f"{title}: {-lost:+z.{int(abs(lost) < 9.95)}f}".replace("-", "−").replace("+0.0", "0.0")


def shades(key: str, lost: list[float]) -> str:
    """Style that fills a row's pills by what each costs: none at nothing lost, fully from `DARK_DB` on; text stays readable."""
    return "".join(
        f".st-key-{key} button:nth-of-type({place}) {{background: color-mix(in srgb, {CURVE_COLOURS[1]} "
        f"{30 * min(1, max(0, one) / DARK_DB):.0f}%, transparent)}}"
        for place, one in enumerate(lost, start=1)
        if math.isfinite(one)
    )


def toggle(part: str, layer: int, key: str) -> None:
    """A row of the grid was clicked: its knock-outs are now those that are lit."""
    others = [one for one in held() if not (isinstance(one, Knockout) and (one.part, one.layer) == (part, layer))]
    set_changes([*others, *(from_name(f"{part}/{layer}/{target}") for target in st.session_state[key])])


def outcome(scene: PairScene, active: tuple[Intervention, ...], kind: str) -> None:
    found = measure.changed(scene, active, kind)
    if found is None:  # the baseline was not asked for yet, or stopped
        no_export()
        return
    change = found.recon - found.plain.recon
    both, difference = panels(scene.fitted.pixels, 2)
    with both:
        slide(
            ("Undisturbed", "Undisturbed reconstruction", found.plain.recon),
            ("With the changes", "Reconstruction with the changes", found.recon),
            "causal_slide",
        )
    with difference:
        st.markdown("**What changed**")
        figure = plot_change(change)
        image_chart(figure, "causal_change", "Signed difference of the two reconstructions on colours centred on zero")
    lost = found.damage
    psnr, ssim, mse = st.columns(3)
    psnr.metric("PSNR", f"{found.quality.psnr:.1f} dB", delta_of(-lost.psnr_lost, "{:+.2f} dB"))
    ssim.metric("SSIM", f"{found.quality.ssim:.3f}", delta_of(-lost.ssim_lost, "{:+.3f}"))
    mse.metric("MSE", f"{found.quality.mse:.4f}", delta_of(lost.mse_gained, "{:+.4f}"), delta_color="inverse")
    names = "; ".join(one.title for one in active) or "nothing yet"
    what = f"Changed: {names}. What is ablated" if active else "Click a head to ablate it. What is ablated"
    st.caption(f"{what} is replaced by {escape_markdown(words_of(scene, kind))}.")
    caption = (
        f"{scene.about} · changed: {names} · replaced by {words_of(scene, kind)} · PSNR {found.quality.psnr:.2f} dB"
    )
    arrays = {
        "image": scene.fitted.pixels,
        "reconstruction": found.plain.recon,
        "changed": found.recon,
        "difference": change,
    }
    with export():
        download_report(scene)
        download("Changed (PNG)", lambda: encode_png(found.recon), f"{scene.stem}_changed.png")
        stem = f"{scene.stem}_changed"
        pair, warning = (scene.fitted.pixels, found.recon), scene.active.warning
        download_figure(
            "Side by side", lambda fmt: figures.comparison_figure(*pair, caption, fmt, warning), f"{stem}_comparison"
        )
        download_arrays("All arrays (NPZ)", arrays, stem, caption, interventions=to_text(active))


def delta_of(value: float, pattern: str) -> str | None:
    """None where nothing changed or nothing can be told."""
    if not math.isfinite(value) or np.abs(value) <= 1e-12:
        return None
    text = pattern.format(value)
    # A change that rounds to nothing is told by its size: an arrow beside +0.000 would puzzle.
    return text if re.search("[1-9]", text) else pattern.replace(pattern[2 : pattern.index("}")], "+.0e").format(value)
