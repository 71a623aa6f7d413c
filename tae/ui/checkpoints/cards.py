"""Checkpoints and their cards."""

import json
import re
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from tae import ui
from tae.analysis.facts import WARNINGS
from tae.analysis.yardsticks import Yardstick, yardsticks_in, yardsticks_of
from tae.data.built_in import is_built_in, source_for
from tae.model.config import ModelConfig, patch_in_words, size_in_words
from tae.plots.export.curves import curves_figure
from tae.plots.quality import plot_by_group
from tae.plots.training import plot_training_curve
from tae.store.card import Card
from tae.store.locker import hours_kept
from tae.store.names import PICKLES, escape_markdown, plain_text
from tae.store.places import ROOT
from tae.ui.session.deletion import offer_deletion
from tae.ui.session.models import listed_checkpoints
from tae.ui.session.work import Progress, measured
from tae.ui.widgets.charts import chart, drawn
from tae.ui.widgets.downloads import download, download_figure, download_table, export
from tae.ui.widgets.worth import say_worth

if TYPE_CHECKING:
    from tae.store.checkpoint import Listed

FIGURES = {
    "psnr": ("Test PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
    "foreground_mse": ("Foreground MSE", "{:.4f}"),
    "r2": ("R²", "{:.3f}"),
}
GROUPS = {"by_width": "Width (pixels)"}
CURVE = "Held-out PSNR over training"
MAX_COUNT = 2000
"""Test images on which yardsticks are measured on the page, at most."""


def checkpoints(active: ui.Active) -> None:
    found = listed_checkpoints()
    whole = [one for one in found if one.card is not None and one.config is not None]
    if whole:
        shown, rows = choose_row(whole, active)
        exports(shown, rows)
        assert shown.card is not None and shown.config is not None
        key = shown.path.name
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center", key="models_name"):
                st.markdown(f"## {escape_markdown(shown.name)}")
                if key == active.key:
                    st.badge("in use", icon=":material/check:", color="green")
                else:
                    st.button("Use this one", key=f"use_{key}", on_click=use, args=(key,))
            model_card(shown.card, shown.config, shown.size_bytes, key)
    for listed in found:
        if listed not in whole:
            with st.container(border=True):
                st.markdown(f"## {escape_markdown(listed.path.name)}")
                st.error(escape_markdown(listed.error or ""))
                offer_deletion(listed.path)
    folder = ui.checkpoints_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.lower().endswith(PICKLES):
            with st.container(border=True):
                file, out = (
                    one.relative_to(ROOT) if one.is_relative_to(ROOT) else one
                    for one in (path, path.with_suffix(".safetensors"))
                )
                how_to_convert(str(file), f" --out {shlex.quote(plain_text(str(out), 500))}")
    for key in [*st.session_state.uploaded_models, *st.session_state.untrained]:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"models_name_{key}"):
            brought = key in st.session_state.uploaded_models
            kept = f"kept for {hours_kept():g} hours" if brought else "this session only"
            st.markdown(f"**{escape_markdown(ui.model_title(key))}** ({kept})")
            if key == active.key:
                st.badge("in use", icon=":material/check:", color="green")
            else:
                st.button("Use this one", key=f"use_{key}", on_click=use, args=(key,))
            if brought:
                st.button(
                    "Remove",
                    key=f"remove_{key}",
                    on_click=ui.remove_model,
                    args=(key,),
                    icon=":material/delete:",
                    type="tertiary",
                )


def choose_row(found: "list[Listed]", active: ui.Active) -> "tuple[Listed, list[dict]]":
    """A table of checkpoints; the one whose row was clicked, at first that which is in use, and the table's rows."""
    rows = []
    for one in found:
        assert one.card is not None and one.config is not None
        metrics, curve = one.card.metrics, one.card.training.get("curve") or []
        psnr, ssim = metrics.get("psnr"), metrics.get("ssim")
        rows.append(
            {
                "Checkpoint": plain_text(one.name),
                "Test PSNR (dB)": psnr if isinstance(psnr, (int, float)) else None,
                "SSIM": ssim if isinstance(ssim, float) else None,
                "Size": size_in_words(one.config.input_size),
                "Preset": one.config.preset or "own shape",
                CURVE: [point["held_out_psnr"] for point in curve if isinstance(point.get("held_out_psnr"), float)],
                "MB": one.size_bytes / 1e6,
            }
        )
    at = next((number for number, one in enumerate(found) if one.path.name == active.key), 0)
    event = st.dataframe(
        rows,
        hide_index=True,
        key="models_table",
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [at]}},
        column_config={
            "Test PSNR (dB)": st.column_config.NumberColumn(format="%.1f"),
            "SSIM": st.column_config.NumberColumn(format="%.3f"),
            CURVE: st.column_config.LineChartColumn(),
            "MB": st.column_config.NumberColumn(format="%.1f"),
        },
        alt="Checkpoints, with their figures; the card of the chosen row stands below",
    )
    chosen = event.selection.rows
    return found[chosen[0] if chosen and chosen[0] < len(found) else at], rows


def how_to_convert(name: str, more: str = "") -> None:
    """What to do with a pickle; name: of the file, from a stranger; more: of the command."""
    st.info(
        f"{escape_markdown(plain_text(name))} is a pickle, as PyTorch writes checkpoints. It can run code when it is opened, so "
        "the app does not. Typed into a terminal, this makes a checkpoint of it that appears here, where it holds weights of "
        "AutoEncoder_TransformerV2_0 or of `tae`:",
        icon=":material/swap_horiz:",
    )
    st.code(f"python -m tae.convert {shlex.quote(plain_text(name, 500))}{more}", language="bash")


def use(key: str) -> None:
    st.session_state.checkpoint = key


def model_card(card: Card, config: ModelConfig, size_bytes: int, key: str) -> None:
    """A card as the page shows it: shape, origin, figures, learning curve."""
    patch = patch_in_words(config.patch_size) + f", {config.num_tokens} tokens" * (config.patch_size is not None)
    if WARNINGS[card.origin]:
        st.warning(WARNINGS[card.origin], icon=":material/help:")
    st.markdown(
        f"{config.preset or 'own shape'} · {size_in_words(config.input_size)} · {patch} · latent {config.latent_dim} · "
        f"{config.encoder_layers} + {config.decoder_layers} layers · {config.num_heads} heads · {size_bytes / 1e6:.1f} MB"
    )
    metrics = card.metrics
    for column, (name, (label, pattern)) in zip(st.columns(4), FIGURES.items(), strict=True):
        value = metrics.get(name)
        told = "Share of the variance about one grey, the mean of all, that is explained." if name == "r2" else None
        column.metric(label, pattern.format(value) if isinstance(value, float) else "–", help=told)
    say_worth(metrics.get("psnr"), yardsticks_in(metrics.get("yardsticks")) or yardsticks_here(card, config, key))
    facts, curve = st.columns([3, 2])
    with facts:
        training = card.training
        lines = [
            (
                "Measured on",
                f"{metrics.get('count', '?')} images, {metrics.get('split', '?')} split" if metrics else None,
            ),
            ("Data", card.data),
            ("Licence", card.licence),
            ("Seed", training.get("seed")),
            ("Training", training_words(training)),
            ("Notes", card.notes),
        ]
        st.markdown(
            "  \n".join(
                f"**{name}**: {escape_markdown(str(value))}" for name, value in lines if value not in (None, "")
            )
        )
        if card.command:
            command, stopped = to_paste(card.command, training.get("steps"))
            if stopped:
                at = " and ".join(f"{int(step):,}" for step in stopped)
                st.caption(
                    f"Trained in {len(stopped) + 1} legs, stopped by hand after {at} steps: no command repeats that. This one "
                    "takes as many steps in one go, and comes to other weights."
                )
            st.code(command, language="bash", wrap_lines=True)
    with curve:
        points = training.get("curve")
        if points:
            chart(
                drawn(plot_training_curve, points),
                f"curve_{key}",
                "Loss and held-out PSNR over the steps of the training",
            )
    grouped = {name: metrics[name] for name in GROUPS if metrics.get(name)}
    if grouped:
        for column, (name, groups) in zip(st.columns(2), grouped.items(), strict=False):
            column.plotly_chart(
                drawn(plot_by_group, groups, GROUPS[name]),
                key=f"{name}_{key}",
                config={"displayModeBar": False},
                alt=f"Test PSNR against: {GROUPS[name].lower()}",
            )
        if any(one["unseen"] for groups in grouped.values() for one in groups):
            st.caption("Open points: test images of a kind that training never showed.")


def exports(shown: "Listed", rows: list[dict]) -> None:
    """The table of checkpoints, and the chosen one's card and curve."""
    card, name = shown.card, shown.path.stem
    assert card is not None
    points = [one for one in card.training.get("curve") or [] if isinstance(one.get("held_out_psnr"), float)]
    psnr = np.array([(one["step"], one["held_out_psnr"]) for one in points]).reshape(-1, 2).T
    with export():
        download_table("Checkpoints (CSV)", [{**row, CURVE: None} for row in rows], "checkpoints")
        download("Card (JSON)", json.dumps(asdict(card), indent=1), f"{name}_card.json")
        if points:
            panel = {"Held-out PSNR (dB)": {shown.name: (psnr[0], psnr[1])}}
            download_figure("Training", lambda fmt: curves_figure(panel, "Step", card.name, fmt), f"{name}_training")
            download_table("Training (CSV)", points, f"{name}_training")


def to_paste(command: str, steps: object) -> tuple[str, list[str]]:
    """A card's command as one line for a shell, and the steps after which it was stopped by hand.

    A stop by hand is part of no command, as older cards tell in words; then it is that of the first leg, with all steps.
    """
    first, *more = re.split(r" \(to step (\d+)\), then ", command)
    return (re.sub(r"--steps \d+", f"--steps {steps}", first) if more else command), more[::2]


def yardsticks_here(card: Card, config: ModelConfig, key: str) -> list[Yardstick]:
    """Those that an older card lacks, where its images come with the package; [] while nobody has asked for them."""
    count = card.metrics.get("count")
    if (
        not isinstance(card.metrics.get("psnr"), float)
        or not is_built_in(card.data)
        or not 0 < (count or 0) <= MAX_COUNT
    ):
        return []
    source = source_for(config, card.data)
    source.seed = card.training.get("seed", 0)  # on the very images that its figure is of

    def compute(progress: Progress) -> list[Yardstick]:
        return yardsticks_of(source, config.latent_dim, int(count or 0))

    about = f"{card.data}|{config.input_size}|{config.max_width}|{config.latent_dim}|{count}|{source.seed}"
    return measured(f"yardsticks_{key}", about, "Measure what simple codes reach", lambda: 15, compute, ask=True) or []


def training_words(training: dict) -> str | None:
    if not training:
        return None
    steps = training.get("steps", "?")
    parts = [
        f"{f'{steps:,}' if isinstance(steps, int) else steps} steps of {training.get('batch_size', '?')} images",
        f"{training['cpu_seconds'] / 60:.0f} minutes of CPU time" if "cpu_seconds" in training else "",
        str(training.get("hardware", "")),
        str(training.get("precision", "")),
        "" if training.get("finished", True) else "stopped early",
    ]
    return ", ".join(part for part in parts if part)
