"""A number or a class from the sequence: the answer and its truth, over time, and what it hangs on."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import streamlit as st

from tae.analysis.facts import UNTRAINED
from tae.plots.export import render, tables
from tae.plots.export.strips import effects_figure, strips_figure
from tae.plots.sequence import plot_frame_effects, plot_head_effects, plot_patch_effects
from tae.plots.training import plot_curves
from tae.sequence.table import Column
from tae.sequence.target import BASELINES, LSTM, in_words, standing
from tae.store.names import escape_markdown
from tae.ui.sequences import measure
from tae.ui.sequences.charts import tracks, trajectory
from tae.ui.sequences.measure import SequenceScene, Told
from tae.ui.widgets.charts import chart
from tae.ui.widgets.downloads import download, download_arrays, download_figure, download_table, export
from tae.ui.widgets.player import player
from tae.web.player.payload import Row

TRUTH = "truth"
MAX_PATCH_FRAMES = 3  # whose patches are covered alone


def show_target(scene: SequenceScene, columns: Mapping[str, Column]) -> None:
    """The page's part for a sequence model with a target."""
    assert scene.lstm is not None and scene.lstm.model.config.target is not None
    lacking = measure.lacking_inputs(scene, columns)
    if lacking:
        st.warning(
            f"This model reads {escape_markdown(', '.join(lacking))} beside the latents: drop the table with the frames, "
            "with a value in every row.",
            icon=":material/table:",
        )
        return
    told = measure.tell(scene, columns)
    frames(scene)
    tracks(scene, columns)
    answer(scene, told)
    with st.container(key="sequences_columns"):
        left, right = st.columns(2)
    with left:
        over_time(scene, told)
    with right:
        trajectory(scene, None, columns)
    found, patches = hangs_on(scene, told) if scene.count > 1 else ({}, None)
    take_along(scene, told, found, patches)


def answer(scene: SequenceScene, told: Told) -> None:
    """The answer for the whole sequence beside its truth and the baselines, and what the model is worth elsewhere."""
    words = {name: told.in_words(name) for name in told.settled}
    header = escape_markdown(told.target.header)
    others = "; ".join(f"{name}: {escape_markdown(words[name])}" for name in BASELINES if name in words)
    last = "after the last frame" if told.target.is_per_frame else f"from {scene.count} frames"
    said = f"**{header}, {last}: {escape_markdown(words[LSTM])}**"
    if told.truth_in_words is None:
        st.info(f"{said}. No table tells the truth. Baselines: {others}.", icon=":material/straighten:")
    else:
        costs = told.costs
        best = min(costs[name] for name in BASELINES if name in costs)
        text = f"{said}; the table says {escape_markdown(told.truth_in_words)}. Baselines: {others}."
        if costs[LSTM] < best or (costs[LSTM] == best == 0):
            st.success(text, icon=":material/check:")
        else:
            st.warning(f"{text} On this sequence a baseline is as close, or closer.", icon=":material/trending_down:")
    assert scene.lstm is not None
    groups = scene.lstm.card.metrics.get("groups", [])[:4]
    if not groups:
        return
    titles = ["Elsewhere", *(f"{group['group']}, {group['sequences']} sequences" for group in groups)]
    rows = [titles, ["---"] * len(titles)]
    for name in dict.fromkeys(name for group in groups for name in group["methods"]):
        scores = [group["methods"].get(name) for group in groups]
        rows.append([name, *("" if one is None else in_words(one, told.unit) for one in scores)])
    rows.append([f"{LSTM} is", *map(standing, groups)])
    st.markdown("\n".join(" | ".join(cells if cells[0] == "---" else map(escape_markdown, cells)) for cells in rows))


def frames(scene: SequenceScene) -> None:
    """The player: true frames and their reconstruction."""
    state = st.session_state
    asked = int(state.frame) - 1 if state.frame.isascii() and state.frame.isdigit() else 0
    rows = [
        Row("True frames", "What came, at the model's size.", scene.film.frames),
        Row(
            "Reconstruction",
            "What the decoder draws from each frame's latent, which is all that the LSTM reads.",
            scene.embedded.recons,
            errors=scene.embedded.mse,
            is_shown=False,
        ),
    ]
    notes = [("error" if scene.warning == UNTRAINED else "warning", scene.warning)] if scene.warning else []
    frame = player(rows, key="sequences_player", frame=asked, notes=notes, error_name="mean squared error")
    state.frame = str(frame + 1)


def over_time(scene: SequenceScene, told: Told) -> None:
    st.header("After each frame")
    numbers = np.arange(1, scene.count + 1)
    curves = {name: (numbers, values) for name, values in told.curves.items()}
    if told.truth_curve is not None and np.isfinite(told.truth_curve).any():
        curves[TRUTH] = (numbers, told.truth_curve)
    figure = plot_curves(curves, "Frame", told.axis, order=(LSTM, TRUTH, *BASELINES))
    chart(figure, "sequences_target", "The prediction after each frame, beside its truth and the baselines")
    window = told.target.window
    st.caption(
        f"What is said after each frame, from it and those before, {window} at most."
        + ("" if told.target.is_per_frame else " The answer for the whole is the mean over all whole windows.")
    )


class Patches(NamedTuple):
    """Effects of covering patches, as they are drawn here and for paper."""

    images: np.ndarray
    effects: np.ndarray
    grid: tuple[int, int]
    tile_size: tuple[int, int]
    names: list[str]
    unit: str


def hangs_on(scene: SequenceScene, told: Told) -> tuple[dict[str, np.ndarray], Patches | None]:
    """Frames, patches, heads; returns the effects that are known, by name, and the patches'."""
    unit = told.effect_unit
    found: dict[str, np.ndarray] = {}
    st.header("Which frames matter?")
    effects = measure.target_frames(scene, told)
    if effects is not None:
        figure = plot_frame_effects(effects.dropped, effects.covered, effects.shuffled, f"Change ({unit})")
        chart(figure, "sequences_frame_effects", "Change of the prediction without each frame, and in random orders")
        strongest = int(np.abs(effects.covered).argmax())
        st.caption(
            f"Frame {strongest + 1} matters most: {effects.covered[strongest]:+.2g} {unit} with an empty page instead; random "
            f"orders {np.abs(effects.shuffled).mean():.2g} on average.",
            help=f"How the answer ({told.shown(effects.plain)}) changes without a frame; above zero: higher without.",
        )
        found |= {"dropped": effects.dropped, "covered": effects.covered, "shuffled": effects.shuffled}
    st.header("Which patches matter?")
    numbers = measure.spread_over(scene.count, MAX_PATCH_FRAMES)
    covered = measure.target_patches(scene, told, numbers)
    patches = None
    if covered is not None:
        config, images = scene.active.config, scene.film.frames[[-1, *numbers]]
        names = ["all frames at once", *(f"frame {number + 1}" for number in numbers)]
        grid = config.grid_for(images.shape[2])
        patches = Patches(images, covered, grid, config.tile_size, names, f"change ({unit})")
        figure = plot_patch_effects(*patches)
        chart(figure, "sequences_patch_effects", "Change of the prediction when a patch is covered, on the frames")
        st.caption(
            "Vermilion: the answer is higher without the patch; blue: lower.",
            help="Each patch covered with white, in all frames at once (drawn on the last) and in one frame alone. Patches that "
            "are white already change nothing.",
        )
        found |= {"patches_in_all_frames": covered[0], "patches": covered[1:], "patch_frames": np.array(numbers) + 1}
    st.header("Which heads matter?")
    heads = measure.target_heads(scene, told)
    if heads is not None:
        figure = plot_head_effects(heads.each, heads.whole, f"change ({unit})")
        chart(figure, "sequences_head_effects", "Change of the prediction when a head of the encoder is ablated")
        layer, head = np.unravel_index(np.abs(heads.whole).argmax(), heads.whole.shape)
        st.caption(
            f"Encoder {layer}.{head} matters most: {heads.whole[layer, head]:+.2g} {unit}.",
            help="Each head set to zero, in one frame alone (left) and in all (right). Another may stand in for it.",
        )
        found |= {"heads": heads.each, "heads_in_all_frames": heads.whole}
    return found, patches


def take_along(scene: SequenceScene, told: Told, effects: Mapping[str, np.ndarray], patches: Patches | None) -> None:
    assert scene.lstm is not None
    provenance = {
        "sequence": scene.clip.title,
        "checkpoint": scene.active.title,
        "sequence_model": scene.lstm.card.name,
        "warning": scene.warning,
        "target": told.target.header,
    }

    def value(values: np.ndarray | None, number: int) -> float | None:
        return None if values is None or not np.isfinite(values[number]) else float(values[number])

    rows = [
        provenance
        | {"frame": number + 1, TRUTH: value(told.truth_curve, number)}
        | {name: float(values[number]) for name, values in told.curves.items()}
        | {name: float(effects[name][number]) for name in ("dropped", "covered") if name in effects}
        for number in range(scene.count)
    ]
    arrays = {"latents": scene.embedded.latents, **effects}
    arrays |= {name.replace(" ", "_").replace("'", ""): values for name, values in told.each.items()}

    def film_strip(fmt: render.Format) -> bytes:
        numbers = measure.spread_over(scene.count, 8)
        said = told.curves[LSTM]
        row = [
            (scene.film.frames[number], f"frame {number + 1}: {told.shown(float(said[number]))}") for number in numbers
        ]
        return strips_figure([row], scene.about, fmt, scene.warning)

    with export():
        download_figure("Film strip", film_strip, f"{scene.stem}_predictions")
        if patches is not None:
            found_patches, stem = patches, f"{scene.stem}_patches"

            def on_frames(fmt: render.Format) -> bytes:
                return effects_figure(*found_patches, f"{scene.about} · covered with white", fmt, scene.warning)

            download_figure("Patches", on_frames, stem)
        download_table("Predictions (CSV)", rows, f"{scene.stem}_predictions")
        if "heads_in_all_frames" in effects:
            whole = effects["heads_in_all_frames"]
            heads = [
                provenance | {"layer": layer, "head": head, "change": float(whole[layer, head])}
                for layer, head in np.ndindex(whole.shape)
            ]
            download("Heads (CSV)", lambda: tables.metrics_csv(heads), f"{scene.stem}_heads.csv")
        download_arrays("All arrays (NPZ)", arrays, f"{scene.stem}_target", scene.about, target=told.target.header)
