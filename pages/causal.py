"""The page Does it matter?: attention, heads and patches taken away, and what that does to the reconstruction."""

import math
import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from tae import export, plots, ui
from tae.causal import (
    ATTENTION,
    GRADIENT,
    REPLACED_BY,
    Box,
    Necessity,
    Sweep,
    headline,
    spearman,
    to_text,
    verdict,
    which_wins,
)
from tae.causal.interventions import WEIGHTS, Edit, Intervention, Knockout, check
from tae.config import PARTS
from tae.images import Fitted, encode_png, escape_markdown, safe_name
from tae.ui import attention, causal
from tae.ui.causal import BASELINES, COVERS, Effect, Scene

SECTIONS = {
    "needed": "Is it needed?",
    "knock": "Knock out",
    "ranking": "Heads ranked",
    "effect": "Attention against effect",
    "region": "Ask a region",
}
EDITS = {
    "temperature": "Temperature",
    "mask": "Mask patches",
    "rows": "Rows of the other picture",
    "tokens": "Tokens of the other picture",
    "weights": "Other weights",
}
PLAIN_EFFECT = ("white", False, None)
"""What covers, whether blank patches are covered, and the region that counts, in the top line as in `python -m tae.causal`."""
MAX_BARS = 48
"""Heads that the ranking draws; its table holds all."""
TARGETS = {"attention": "all", "mlp": "MLP"}
ICONS = {
    "needed": ":material/check_circle:",
    "wallpaper": ":material/wallpaper:",
    "decorative": ":material/wallpaper:",
    "undecided": ":material/help:",
    "none": ":material/info:",
}


def main() -> None:
    active, chosen = ui.setup("Does it matter?")
    st.title("Does it matter?")
    ui.prose(
        "Maps say where [[weight|attention weight]] was placed, not what it was good for. Here parts of the model are taken "
        "away, without training it again, and the [[reconstruction]] shows what is lost."
    )
    fitted = ui.fit_or_stop(active, chosen)
    if active.config.grid_for(fitted.pixels.shape[1]) == (1, 1):
        one_token_notice()
    else:
        scene = scene_of(active, chosen, fitted)
        section(scene, top_line(scene))
    ui.write_link()


def one_token_notice() -> None:
    st.info(
        "**This model has one token, the whole image.** Its attention is always exactly 1, whatever the picture: nothing "
        "can be put in its place. Choose a checkpoint with patches.",
        icon=":material/info:",
    )
    st.page_link("app.py", label="Go to Reconstruct", icon=":material/compare:", query_params=ui.link())


def scene_of(active: ui.Active, chosen: ui.Chosen, fitted: Fitted) -> Scene:
    """What the page is about: the sidebar's model and picture, or the model's twin, and the picture that lends."""
    offer = ui.offered(active.config)
    keys = [key for key in (*offer.samples, *offer.own) if key != chosen.key]
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_causal"):
        key = ui.choose(
            "other",
            st.selectbox,
            "The other picture",
            keys,
            format_func=offer.title,
            width=260,
            help="It lends its attention, its heads and its patches wherever those of another image are put in.",
        )
        is_twin = active.is_trained and switch(
            "twin", "Random weights instead", "The same page with an untrained model of the same shape, for comparison."
        )
    if is_twin:
        active = ui.twin(active)
        st.error("**Untrained twin.** Everything below is of a model with random weights.", icon=":material/warning:")
    return causal.scene(active, chosen, fitted, offer[key])


def switch(field: str, label: str, explanation: str) -> bool:
    """A toggle that is bound to a field of the view, "on" or empty."""
    state = st.session_state
    key = f"choose_{field}"
    state[key] = ui.checked(field, ["", "on"]) == "on"

    def keep() -> None:
        state[field] = "on" if state[key] else ""

    return st.toggle(label, key=key, on_change=keep, help=explanation)


def choose_baseline() -> str:
    return ui.choose(
        "baseline",
        st.segmented_control,
        "What stands in for what is knocked out",
        list(BASELINES),
        format_func=lambda kind: BASELINES[kind],
        help="Zero takes a head's contribution away. The mean over test images keeps what does not depend on the picture. "
        "The other picture's keeps its kind, and mixes up its content.",
    )


@dataclass(frozen=True)
class Top:
    """What the top line is made of; None: it was not asked for, or stopped.

    Attributes:
        necessity: Attention replaced.
        sweep: Heads, layers and MLPs knocked out, with the link's baseline.
        effect: Patches that are not blank covered with white.
    """

    necessity: Necessity | None
    sweep: Sweep | None
    effect: Effect | None


def top_line(scene: Scene) -> Top:
    """The page's answer in one sentence with numbers."""
    kind = ui.checked("baseline", list(BASELINES))
    top = Top(causal.find_necessity(scene), causal.find_sweep(scene, kind), causal.find_effect(scene, *PLAIN_EFFECT))
    if top.necessity is None or top.sweep is None:
        return top
    psnr = float(top.necessity.psnr[0])
    if not math.isfinite(psnr):
        st.info("The reconstruction of this picture is exact: no loss in dB can be told.", icon=":material/info:")
        return top
    untrained = "" if scene.active.is_trained else ":red[UNTRAINED MODEL] · "
    percentiles = scene.active.test_percentiles.get("psnr")
    if percentiles and scene.active.is_trained and psnr < percentiles[5]:
        st.info(
            f"The model fails on this picture already ({psnr:.1f} dB, worse than 95 % of its test images): little is left to "
            "lose, and small losses say little here.",
            icon=":material/trending_down:",
        )
    scores = top.effect.scores if top.effect else None
    st.markdown(f"##### {untrained}{headline(top.necessity, top.sweep, scores)}")
    st.caption(
        f"PSNR lost on this picture, {psnr:.1f} dB undisturbed. A head is replaced by "
        f"{escape_markdown(words_of(scene, kind))}; the effect of a patch is measured by covering it with white."
    )
    return top


def words_of(scene: Scene, kind: str) -> str:
    """A baseline in words; holds a stranger's text."""
    title = causal.baseline_of(scene, kind).title
    return {"zero": "zero", "mean": f"its {title}"}.get(kind, f"what it adds for “{scene.other_title}”")


def section(scene: Scene, top: Top) -> None:
    name = ui.choose(
        "causal",
        st.segmented_control,
        "Section",
        list(SECTIONS),
        format_func=lambda name: SECTIONS[name],
        label_visibility="collapsed",
    )
    if name == "needed":
        if top.necessity is not None:
            is_it_needed(scene, top.necessity)
    elif name == "knock":
        knock_out(scene)
    elif name == "ranking":
        choose_baseline()
        if top.sweep is not None:
            ranking(scene, top.sweep)
    elif name == "effect":
        against_effect(scene, top.effect)
    else:
        ask_a_region(scene)


def stem_of(scene: Scene) -> str:
    return f"{'' if scene.active.is_trained else 'UNTRAINED_'}{safe_name(scene.chosen.title)}"


def about(scene: Scene) -> str:
    """What an export is of; a stranger's text."""
    untrained = "" if scene.active.is_trained else "UNTRAINED MODEL: random weights · "
    return f"{untrained}{scene.chosen.title} · {scene.active.title}"


# ------------------------------------------------------------------------------------------------ is the attention needed?


def is_it_needed(scene: Scene, found: Necessity) -> None:
    for part in PARTS:
        one = verdict(found, part)
        st.markdown(f"{ICONS[one.kind]} {one.sentence}")
    with st.container(horizontal=True):
        part = ui.choose("part", st.segmented_control, "Part", list(PARTS), format_func=str.capitalize)
        place = ui.choose("place", st.segmented_control, "Layers", found.places(part), format_func=place_title)
    pictures_without(scene, part, place)
    st.markdown(f"**PSNR lost when the attention of the {part} is replaced**, in dB")
    rows = table(found, part)
    study = causal.study_of(scene.active)
    if study is not None:
        of_tests = [study.necessity.get(f"{part}/all/{name}", {}).get("value") for name in REPLACED_BY]
        rows = [{**row, "all, test set": value} for row, value in zip(rows, of_tests, strict=True)]
    numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in rows[0] if name != "replaced by"}
    st.dataframe(rows, hide_index=True, column_config=numbers)
    st.caption(
        f"Another image: {escape_markdown(scene.other_title)}, head by head, from its own undisturbed pass. Mean map: over it "
        f"and {causal.OTHERS - 1} demo test images. Random weights: each row a draw from all possible rows. Below 0: the "
        "reconstruction became better."
    )
    if study is None:
        no_study(scene)
    else:
        sentences = " ".join(study.verdicts[one]["sentence"] for one in PARTS)
        st.caption(f"Over the test set ({escape_markdown(study.data)}): {escape_markdown(sentences)}")
    whole = [
        {"part": one, "replaced by": row["replaced by"], "layers": name, "psnr_lost_db": value}
        for one in PARTS
        for row in table(found, one)
        for name, value in row.items()
        if name != "replaced by"
    ]
    st.download_button(
        "Losses (CSV)",
        lambda: export.metrics_csv(
            [{"image": scene.chosen.title, "checkpoint": scene.active.title, **row} for row in whole]
        ),
        f"{stem_of(scene)}_necessity.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def table(found: Necessity, part: str) -> list[dict[str, str | float]]:
    return [
        {
            "replaced by": str(row["replaced_by"]),
            **{place_title(place).lower(): value for place, value in row.items() if place != "replaced_by"},
        }
        for row in found.table(part)
    ]


def place_title(place: str) -> str:
    return "All" if place == "all" else f"Layer {place}"


def no_study(scene: Scene) -> None:
    if scene.active.is_trained:
        st.caption(
            "These are of one picture. `python -m tae.causal --checkpoint <file>` measures the same over a test set; the "
            "page shows its figures where they lie beside the checkpoint."
        )


def pictures_without(scene: Scene, part: str, place: str) -> None:
    results = causal.replaced(scene, part, place)
    own = ui.reconstruct(scene.active, scene.chosen)
    cells = [("Its own attention", own), *((REPLACED_BY[name], result) for name, result in results.items())]
    with st.container(horizontal=True):
        for words, result in cells:
            title = words.partition(" (")[0]
            with st.container(width="stretch" if is_wide(scene) else 140, gap="xsmall"):
                st.image(encode_png(result.recon), width="stretch", alt=f"Reconstruction with: {title}")
                lost = "" if result is own else f" ({result.quality.psnr - own.quality.psnr:+.1f})"
                st.caption(f"{title[0].upper()}{title[1:]}: **{result.quality.psnr:.1f} dB**{lost}")


def is_wide(scene: Scene) -> bool:
    height, width = scene.fitted.pixels.shape
    return width > 2 * height


# --------------------------------------------------------------------------------------------------------- knocking out


@st.fragment
def knock_out(scene: Scene) -> None:
    active, refused = causal.interventions_of(st.session_state.changes, scene.config, scene.num_tokens)
    st.session_state.changes = to_text(active)
    if refused:
        st.info(f"The link names {refused} changes that this model does not have; they are left out.")
    kind = choose_baseline()
    left, right = (st.container(), st.container()) if is_wide(scene) else st.columns([2, 3])
    with left:
        places = st.columns(2) if is_wide(scene) else [st.container(), st.container()]
        for part, place in zip(PARTS, places, strict=True):
            with place:
                grid_of(scene, part, active)
        history(active)
        edits(scene, active)
    with right:
        outcome(scene, active, kind)
    ui.write_link()


def grid_of(scene: Scene, part: str, active: tuple[Intervention, ...]) -> None:
    """One row for each layer: its heads, its attention as a whole, its MLP."""
    st.markdown(f"**{part.capitalize()}**: heads of each layer, all of them, its MLP")
    for layer in range(scene.config.num_layers(part)):
        targets = [*map(str, range(scene.config.num_heads)), "attention", "mlp"]
        key = f"causal_off_{part}_{layer}"
        here = [
            str(one.target) for one in active if isinstance(one, Knockout) and (one.part, one.layer) == (part, layer)
        ]
        st.session_state[key] = here
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f"layer {layer}", width=52)
            st.pills(
                f"{part.capitalize()}, layer {layer}: knocked out",
                targets,
                selection_mode="multi",
                format_func=lambda target: TARGETS.get(target) or str(target),
                key=key,
                on_change=toggle,
                args=(part, layer, key),
                label_visibility="collapsed",
            )


def toggle(part: str, layer: int, key: str) -> None:
    """A row of the grid was clicked: its knock-outs are now those that are lit."""
    others = [name for name in st.session_state.changes.split(",") if name]
    others = [name for name in others if "=" in name or not name.startswith(f"{part}/{layer}/")]
    set_changes(",".join([*others, *(f"{part}/{layer}/{target}" for target in st.session_state[key])]))


def set_changes(text: str) -> None:
    state = st.session_state
    if set(text.split(",")) != set(state.changes.split(",")):
        state.setdefault("causal_history", []).append(state.changes)
        state.changes = text


def undo() -> None:
    st.session_state.changes = st.session_state.causal_history.pop()


def history(active: tuple[Intervention, ...]) -> None:
    with st.container(horizontal=True):
        steps = st.session_state.setdefault("causal_history", [])
        st.button("Undo", icon=":material/undo:", disabled=not steps, on_click=undo, key="causal_undo")
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            disabled=not active,
            on_click=set_changes,
            args=("",),
            key="causal_reset",
        )


def edits(scene: Scene, active: tuple[Intervention, ...]) -> None:
    """Changes of a layer's attention that take nothing away as a whole."""
    places = [f"{part}/{layer}" for part in PARTS for layer in range(scene.config.num_layers(part))]
    with st.expander("Edit a layer's attention", icon=":material/tune:", expanded=has_edits(active)):
        place = st.selectbox("Layer", places, format_func=layer_title, key="causal_edit_place", persist_state="session")
        kind = st.selectbox(
            "Change", list(EDITS), format_func=lambda kind: EDITS[kind], key="causal_edit_kind", persist_state="session"
        )
        key = f"causal_edit_{kind}"
        found = next((one for one in active if isinstance(one, Edit) and one.name.startswith(f"{place}/{kind}=")), None)
        apply = partial(apply_edit, scene, place, kind, key)
        if kind == "temperature":
            st.session_state[key] = min(5.0, max(0.1, found.temperature)) if found else 1.0
            st.slider(
                "Below 1 sharpens the weights, above 1 flattens them", 0.1, 5.0, step=0.1, key=key, on_change=apply
            )
        elif kind == "weights":
            st.session_state[key] = str(found.value) if found else "own"
            st.selectbox("Weights", ["own", *WEIGHTS], key=key, on_change=apply)
        else:
            st.session_state.setdefault(key, st.session_state.pins or st.session_state.query)
            st.text_input(
                {
                    "mask": "Patches that no query reads",
                    "rows": "Queries that place their weights as in the other picture; empty: all",
                    "tokens": "Patches that enter the layer as the other picture's",
                }[kind],
                key=key,
                placeholder="numbers, such as 84, 97",
                on_change=apply,
                help=f"Patches are counted row by row from 0 to {scene.num_tokens - 1}; maps say a patch's number under the "
                "pointer. Those pinned on the page Attention stand here to begin with.",
            )
            st.button("Apply", key="causal_edit_apply", on_click=apply)
        if problem := st.session_state.pop("causal_edit_problem", ""):
            st.error(escape_markdown(problem))
        for one in active:
            if isinstance(one, Edit):
                st.button(
                    one.title,
                    key=f"causal_remove_{one.part}_{one.layer}_{one.kind}",
                    icon=":material/close:",
                    type="tertiary",
                    on_click=remove_edit,
                    args=(one.part, one.layer, one.kind),
                    help="Take this edit back",
                )


def has_edits(active: tuple[Intervention, ...]) -> bool:
    return any(isinstance(one, Edit) for one in active)


def layer_title(place: str) -> str:
    """encoder/0 -> Encoder, layer 0"""
    part, layer = place.split("/")
    return f"{part.capitalize()}, layer {layer}"


def apply_edit(scene: Scene, place: str, kind: str, key: str) -> None:
    """Put an edit in the place of the layer's earlier one of that kind."""
    value = st.session_state[key]
    part, layer = place.split("/")
    if (kind, value) in (("temperature", 1.0), ("weights", "own")):
        remove_edit(part, int(layer), kind)
        return
    if kind in ("mask", "rows", "tokens"):
        value = tuple(int(number) for number in re.findall(r"[0-9]{1,6}", value, re.ASCII))
    try:
        one = Edit(part, int(layer), kind, value)
        check([one], scene.config, scene.num_tokens)
    except ValueError as error:
        st.session_state.causal_edit_problem = str(error)
        return
    set_changes(",".join([*without_edit(part, int(layer), kind), one.name]))


def remove_edit(part: str, layer: int, kind: str) -> None:
    set_changes(",".join(without_edit(part, layer, kind)))


def without_edit(part: str, layer: int, kind: str) -> list[str]:
    """Names of all changes but one."""
    names = st.session_state.changes.split(",")
    return [name for name in names if name and not name.startswith(f"{part}/{layer}/{kind}=")]


def outcome(scene: Scene, active: tuple[Intervention, ...], kind: str) -> None:
    found = causal.changed(scene, active, kind)
    change = found.recon - found.plain.recon
    before, after, difference = ui.panels(scene.fitted.pixels, 3)
    with before:
        st.markdown("**Undisturbed**")
        st.image(encode_png(found.plain.recon), width="stretch", alt="Undisturbed reconstruction")
    with after:
        st.markdown("**With the changes**")
        st.image(encode_png(found.recon), width="stretch", alt="Reconstruction with the changes")
    with difference:
        st.markdown("**What changed**")
        st.plotly_chart(
            plots.plot_change(change),
            key="causal_change",
            config={"displayModeBar": False},
            alt="Signed difference of the two reconstructions on colours centred on zero",
        )
    lost = found.damage
    psnr, ssim, mse = st.columns(3)
    psnr.metric("PSNR", f"{found.quality.psnr:.1f} dB", delta_of(-lost.psnr_lost, "{:+.2f} dB"))
    ssim.metric("SSIM", f"{found.quality.ssim:.3f}", delta_of(-lost.ssim_lost, "{:+.3f}"))
    mse.metric("MSE", f"{found.quality.mse:.4f}", delta_of(lost.mse_gained, "{:+.4f}"), delta_color="inverse")
    names = "; ".join(one.title for one in active) or "nothing yet"
    st.caption(f"Changed: {names}. What is knocked out is replaced by {escape_markdown(words_of(scene, kind))}.")
    caption = (
        f"{about(scene)} · changed: {names} · replaced by {words_of(scene, kind)} · PSNR {found.quality.psnr:.2f} dB"
    )
    arrays = {
        "image": scene.fitted.pixels,
        "reconstruction": found.plain.recon,
        "changed": found.recon,
        "difference": change,
    }
    with st.container(horizontal=True):
        st.download_button(
            "Changed (PNG)",
            lambda: encode_png(found.recon),
            f"{stem_of(scene)}_changed.png",
            "image/png",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Side by side (PNG)",
            lambda: export.comparison_figure(
                scene.fitted.pixels, found.recon, caption, "png", untrained=not scene.active.is_trained
            ),
            f"{stem_of(scene)}_changed_comparison.png",
            "image/png",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "All arrays (NPZ)",
            lambda: export.maps_npz(arrays, caption=caption, interventions=to_text(active)),
            f"{stem_of(scene)}_changed.npz",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
        )


def delta_of(value: float, pattern: str) -> str | None:
    """None where nothing changed or nothing can be told."""
    return pattern.format(value) if math.isfinite(value) and np.abs(value) > 1e-12 else None


# ------------------------------------------------------------------------------------------------------- heads, ranked


def ranking(scene: Scene, sweep: Sweep) -> None:
    kind = st.session_state.baseline
    study = causal.study_of(scene.active)
    heads = sweep.ranking()[::-1]
    entropy = {part: attention.head_statistics(scene.active, scene.fitted, part)["entropy"] for part in PARTS}
    sharpness = [1 - float(entropy[one.part][one.layer, int(one.target)]) for one in heads]
    lost = [sweep.damage[one].psnr_lost for one in heads]
    names = [f"{one.part} {one.layer}, head {one.target}" for one in heads]
    parts = [one.part for one in heads]
    agrees = spearman(np.array(sharpness), np.array(lost))
    said = (
        f"Over these {len(heads)} heads, how sharp a head's attention looks and what it costs to lose it agree at "
        f"{agrees:.2f} (rank correlation)."
        if math.isfinite(agrees)
        else "How sharp a head's attention looks and what it costs cannot be compared: all heads are alike."
    )
    st.markdown(
        f"{said} Heads are knocked out **one at a time, which hides redundancy**: two heads that stand in for each other look "
        "dispensable, each alone. The curve below takes them away together."
    )
    tests = None
    if study is not None:
        quantiles = [study.damage.get(one.name, {}).get("psnr_lost") for one in heads]
        tests = [[math.nan] * 3 if not one else [as_number(one[place]) for place in (0, 2, 4)] for one in quantiles]
    left, right = st.columns(2)
    with left:
        st.markdown("**What each head costs**")
        shown = slice(0, MAX_BARS)
        st.plotly_chart(
            plots.plot_damage(names[shown], parts[shown], lost[shown], tests and tests[shown]),
            key="causal_damage",
            config={"displaylogo": False},
            alt="PSNR lost without each head, the most important first, beside the test images",
        )
        if len(heads) > MAX_BARS:
            st.caption(f"The {MAX_BARS} most important of {len(heads)} heads; the table holds all.")
        if study is not None:
            st.caption(
                f"Test images: {study.num_images} ({escape_markdown(study.data)}), heads replaced by "
                f"{escape_markdown(study.baseline)}."
            )
        else:
            no_study(scene)
    with right:
        st.markdown("**How sharp it looks against what it costs**")
        st.plotly_chart(
            plots.plot_sharpness(names, parts, sharpness, lost),
            key="causal_sharpness",
            config={"displaylogo": False},
            alt="Each head's sharpness of attention against the PSNR that is lost without it",
        )
        removal(scene, kind, sweep)
    ranking_table(scene, sweep, kind, sharpness)


def removal(scene: Scene, kind: str, sweep: Sweep) -> None:
    st.markdown("**Heads removed one after another**")
    curve = causal.find_removal(scene, kind, sweep)
    if curve is None:
        return
    st.plotly_chart(
        plots.plot_removal(curve.psnr, curve.random_psnr, [one.title for one in curve.order]),
        key="causal_removal",
        config={"displaylogo": False},
        alt="PSNR as heads are removed, the least important first, against random orders",
    )
    spared = curve.spared()
    st.caption(
        f"**{spared} of {len(curve.order)} heads** can go, the least important first, before more than 1 dB is lost; in random "
        f"order so many cost {curve.random_mean[0] - curve.random_mean[spared]:.1f} dB. Removed heads are replaced by "
        f"{escape_markdown(words_of(scene, kind))}."
    )


def ranking_table(scene: Scene, sweep: Sweep, kind: str, sharpness: list[float]) -> None:
    study = causal.study_of(scene.active)
    sharp = dict(zip(sweep.ranking()[::-1], sharpness, strict=True))
    order = sorted(sweep.damage, key=lambda one: -sweep.damage[one].mse_gained)
    rows = [
        {
            "knocked out": one.title,
            "PSNR lost (dB)": sweep.damage[one].psnr_lost,
            "SSIM lost": sweep.damage[one].ssim_lost,
            "MSE gained": sweep.damage[one].mse_gained,
            "sharpness of attention": sharp.get(one),
            **({} if study is None else {"PSNR lost, test median (dB)": study.median_damage(one.name)}),
        }
        for one in order
    ]
    with st.expander("As a table, with layers and MLPs", icon=":material/table:"):
        st.dataframe(rows, hide_index=True)
        st.download_button(
            "Ranking (CSV)",
            lambda: export.metrics_csv(
                [
                    {
                        "image": scene.chosen.title,
                        "checkpoint": scene.active.title,
                        "replaced_by": words_of(scene, kind),
                        **row,
                    }
                    for row in rows
                ]
            ),
            f"{stem_of(scene)}_heads_ranked.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def as_number(value: float | None) -> float:
    return math.nan if value is None else value


# --------------------------------------------------------------------------------------------- attention against effect


def choose_cover() -> str:
    return ui.choose(
        "cover",
        st.segmented_control,
        "What covers a patch",
        list(COVERS),
        format_func=lambda name: COVERS[name],
        help="Whatever covers a patch is something that the model did not see in training: compare several.",
    )


def against_effect(scene: Scene, plain: Effect | None) -> None:
    st.markdown(
        "Each patch is covered in turn, and the reconstruction says what that does. If a map tells what matters, its strong "
        "patches are those whose covering changes much. Simple guesses that need no network are measured alongside."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = choose_cover()
        with_blank = switch(
            "blank", "Cover blank patches, too", "They change little: any map that avoids them looks good."
        )
        box = box_of(scene)
        in_box = box is not None and switch(
            "boxed", "Only the box counts", "The change is measured inside the box that was drawn under “Ask a region”."
        )
    region = box if in_box else None
    asked = (name, with_blank, region)
    effect = plain if asked == PLAIN_EFFECT else causal.find_effect(scene, *asked, widget="effect_here")
    if effect is None:
        return
    if not len(effect.tokens):
        st.info("This picture is blank: no patch holds anything darker than .95, so there is nothing to cover.")
        return
    said = which_wins(effect.scores)
    if said.startswith("The trivial predictor wins"):
        st.markdown(
            f":material/priority_high: **The trivial predictor wins**{said.removeprefix('The trivial predictor wins')}"
        )
    else:
        st.markdown(said)
    maps = effect_maps(scene, effect)
    st.plotly_chart(
        plots.plot_patch_maps(scene.fitted.pixels, maps, scene.grid, scene.config.tile_size[0], region),
        key="causal_effect",
        config={"displaylogo": False},
        alt="Measured effect of each patch beside received attention, rollout, value-weighted attention and gradient x input",
    )
    where = "the box" if region else "the whole reconstruction"
    told = (
        f"{len(effect.tokens)} of {scene.num_tokens} patches covered with: {COVERS[name].lower()}; change counted over {where}. "
        "Attention is the encoder's, mean over queries. Each map has its own colours, from 0 to its largest value."
    )
    st.caption(told)
    scores_of(scene, effect)
    deletion_insertion(scene, name, effect)
    columns = scene.grid[1]
    whole = np.full(scene.num_tokens, math.nan)
    whole[effect.tokens] = effect.effect
    arrays = {"measured_effect": whole, **{safe_name(key): one for key, one in effect.predicted.items()}}
    rows = [
        {
            "patch": token,
            "row": token // columns,
            "column": token % columns,
            **{key: float(one[token]) for key, one in arrays.items()},
        }
        for token in range(scene.num_tokens)
    ]
    with st.container(horizontal=True):
        st.download_button(
            "Effect and maps (CSV)",
            lambda: export.metrics_csv(rows),
            f"{stem_of(scene)}_effect.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Effect and maps (NPZ)",
            lambda: export.maps_npz(arrays, caption=f"{about(scene)} · {told}"),
            f"{stem_of(scene)}_effect.npz",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
        )


def effect_maps(scene: Scene, effect: Effect) -> list[plots.PatchMap]:
    """The measured effect, and what attention and gradients say of every patch."""
    whole = np.full(scene.num_tokens, math.nan)
    whole[effect.tokens] = effect.effect
    maps = [plots.PatchMap("measured effect", whole, "squared change")]
    for name in (*ATTENTION, GRADIENT):
        values = effect.predicted[name]
        if name == GRADIENT:
            maps.append(plots.PatchMap(name, values, "ink"))
        else:
            maps.append(plots.PatchMap(name, values / values.mean(), "x uniform"))
    return maps


def kind_of(name: str) -> str:
    return "attention" if name in ATTENTION else "gradient" if name == GRADIENT else "trivial"


def scores_of(scene: Scene, effect: Effect) -> None:
    study = causal.study_of(scene.active)
    scores = effect.scores
    names = sorted(scores.spearman, key=lambda name: -np.nan_to_num(scores.spearman[name].value, nan=-2))
    kinds = {name: kind_of(name) for name in names}
    left, right = st.columns(2)
    with left:
        st.plotly_chart(
            plots.plot_scores({name: scores.spearman[name] for name in names}, kinds, study and study.spearman),
            key="causal_scores",
            config={"displaylogo": False},
            alt="Rank correlation of each predictor with the measured effect, with 95 % intervals",
        )
    with right:
        rows = [
            {
                "predictor": name,
                "Spearman (95 %)": str(scores.spearman[name]),
                "top tenth shared (95 %)": str(scores.overlap[name]),
                **({} if study is None else {"test set": study.spearman.get(name, {}).get("value")}),
            }
            for name in names
        ]
        st.dataframe(rows, hide_index=True, column_config={"test set": st.column_config.NumberColumn(format="%.2f")})
        st.caption(
            "Spearman: rank correlation. Top tenth shared: of the tenth of the patches with the largest effect, those that the "
            "map puts there, too; by chance a tenth. Test set: Spearman, mean. Intervals are over the patches of this "
            "picture, which are no independent draws: they are rather too narrow."
        )
    if study is None:
        no_study(scene)
    else:
        st.caption(
            f"Over the test set ({study.num_images} images, {escape_markdown(study.data)}; covered with white, the whole "
            f"reconstruction): {escape_markdown(study.agreement)}"
        )


def deletion_insertion(scene: Scene, name: str, effect: Effect) -> None:
    if not st.toggle(
        "Deletion and insertion curves",
        key="causal_curves",
        persist_state="session",
        help="Patches are covered, or shown, in the order that a map gives them (Petsiuk 2018). A map that tells what matters "
        "falls fast when its strongest patches are covered, and rises fast when they are shown.",
    ):
        return
    try:
        curves = causal.find_curves(scene, name, effect)
    except ValueError:
        st.info("This cover changes nothing in the picture; choose another one.")
        return
    if curves is None:
        return
    st.plotly_chart(
        plots.plot_deletion_insertion(curves, {one: kind_of(one) for one in curves}),
        key="causal_deletion_insertion",
        config={"displaylogo": False},
        alt="Likeness of the reconstruction as patches are covered and as they are shown, in the order of each map",
    )
    rows = [
        {
            "map": one,
            "area covered (small is good)": curve.deletion_area,
            "area shown (large is good)": curve.insertion_area,
        }
        for one, curve in sorted(curves.items(), key=lambda pair: pair[1].deletion_area)
    ]
    numbers = {key: st.column_config.NumberColumn(format="%.3f") for key in rows[0] if key != "map"}
    st.dataframe(rows, hide_index=True, column_config=numbers)


# --------------------------------------------------------------------------------------------------------- ask a region


def ask_a_region(scene: Scene) -> None:
    st.markdown(
        "**Draw a box on the reconstruction**: which patches of the picture produce it? By gradient: what a small change of "
        "each patch would do. By occlusion: what covering the patch does."
    )
    name = choose_cover()
    image, recon = scene.fitted.pixels, ui.reconstruct(scene.active, scene.chosen).recon
    box = box_of(scene) or first_box(scene)
    left, right = (st.container(), st.container()) if is_wide(scene) else st.columns([1, 2])
    with left:
        event = st.plotly_chart(
            plots.plot_box(recon, box),
            key=f"causal_box_{st.session_state.get('causal_boxes', 0)}",
            on_select="rerun",
            selection_mode="box",
            config={"displayModeBar": False},
            alt="The reconstruction, with the box that is asked about",
        )
        drawn = plots.selected_box(event.get("selection", {}), image.shape)
        if drawn is not None:
            st.session_state.causal_boxes = st.session_state.get("causal_boxes", 0) + 1
            set_box(*drawn)
            st.rerun()
        box_sliders(scene, box)
    with right:
        found = causal.find_region(scene, box, name)
        if found is None:
            return
        maps = [
            plots.PatchMap("by gradient", found["gradient"], "ink"),
            plots.PatchMap("by occlusion", found["occlusion"], "squared change"),
        ]
        st.plotly_chart(
            plots.plot_patch_maps(image, maps, scene.grid, scene.config.tile_size[0], box),
            key="causal_region",
            config={"displaylogo": False},
            alt="How much each patch of the picture adds to the box, by gradient and by occlusion",
        )
    inside = under_box(scene, box)
    shares = {how: float(one[inside].sum() / one.sum()) if one.sum() > 0 else math.nan for how, one in found.items()}
    if all(math.isfinite(share) for share in shares.values()):
        agrees = spearman(found["gradient"], found["occlusion"])
        same = f" Over all patches the two agree at {agrees:.2f} (rank correlation)." if math.isfinite(agrees) else ""
        st.markdown(
            f"The {inside.sum()} patches under the box hold **{shares['gradient']:.0%}** of all that patches add by gradient, "
            f"**{shares['occlusion']:.0%}** by occlusion; the rest comes from elsewhere in the picture.{same}"
        )
    else:
        st.info("Nothing in the picture changes this box: choose another box, or another cover.")
    st.caption(
        f"Box: rows {box.top} to {box.bottom - 1}, columns {box.left} to {box.right - 1}. Covered with: "
        f"{COVERS[name].lower()}. Gradient x input, absolute; effects of single patches do not add up exactly. Each map has its "
        "own colours, from 0 to its largest value."
    )
    st.download_button(
        "Box and maps (NPZ)",
        lambda: export.maps_npz({**found, "box": np.array(box), "reconstruction": recon}, caption=about(scene)),
        f"{stem_of(scene)}_region.npz",
        "application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
    )


def first_box(scene: Scene) -> Box:
    """Where nobody has drawn one: the 3 x 3 patches around the darkest."""
    height, width = scene.fitted.pixels.shape
    tile_height, tile_width = scene.config.tile_size
    rows, columns = scene.grid
    padded = np.ones((rows * tile_height, columns * tile_width))
    padded[:height, :width] = scene.fitted.pixels
    greys = padded.reshape(rows, tile_height, columns, tile_width).mean(axis=(1, 3))
    row, column = divmod(int(greys.argmin()), columns)
    top, left = max(0, row - 1) * tile_height, max(0, column - 1) * tile_width
    return Box(top, left, min(height, (row + 2) * tile_height), min(width, (column + 2) * tile_width))


def box_sliders(scene: Scene, box: Box) -> None:
    """The same box without a pointer."""
    height, width = scene.fitted.pixels.shape
    state = st.session_state
    state.causal_rows, state.causal_columns = (box.top, box.bottom), (box.left, box.right)

    def keep() -> None:
        (top, bottom), (left, right) = state.causal_rows, state.causal_columns
        set_box(min(top, height - 1), min(left, width - 1), max(bottom, top + 1), max(right, left + 1))

    st.slider("Rows", 0, height, key="causal_rows", on_change=keep)
    st.slider("Columns", 0, width, key="causal_columns", on_change=keep)


def set_box(top: int, left: int, bottom: int, right: int) -> None:
    st.session_state.box = f"{top}-{bottom}x{left}-{right}"


def under_box(scene: Scene, box: Box) -> np.ndarray:
    """(N,) bool: the patches that a box touches."""
    tile_height, tile_width = scene.config.tile_size
    rows, columns = (np.arange(count) for count in scene.grid)
    is_row = (rows * tile_height < box.bottom) & ((rows + 1) * tile_height > box.top)
    is_column = (columns * tile_width < box.right) & ((columns + 1) * tile_width > box.left)
    return (is_row[:, None] & is_column).ravel()


def box_of(scene: Scene) -> Box | None:
    """The link's box, where it lies inside the picture."""
    height, width = scene.fitted.pixels.shape
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})x([0-9]{1,5})-([0-9]{1,5})", st.session_state.box, re.ASCII)
    if found:
        top, bottom, left, right = map(int, found.groups())
        if top < bottom <= height and left < right <= width:
            return Box(top, left, bottom, right)
    st.session_state.box = ""
    return None


main()
