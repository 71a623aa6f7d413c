"""The page Does it matter?: attention, heads and patches taken away, and what that does to the reconstruction."""

import math

import numpy as np
import streamlit as st

from tae import export, plots, ui
from tae.causal import REPLACED_BY, Necessity, headline, to_text, verdict
from tae.causal.interventions import Intervention, Knockout
from tae.gallery import gallery
from tae.images import Fitted, encode_png, escape_markdown, safe_name
from tae.maps import PARTS
from tae.ui import causal
from tae.ui.causal import BASELINES, Scene

SECTIONS = {
    "needed": "Is it needed?",
    "knock": "Knock out",
}
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
        top_line(scene)
        section(scene)
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
    samples = gallery(active.config.input_size, active.config.max_width)
    own = {one.key: one for one in ui.uploaded()}
    keys = [key for key in (*samples, *own) if key != chosen.key]
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_causal"):
        key = ui.choose(
            "other",
            st.selectbox,
            "The other picture",
            keys,
            format_func=lambda key: f"Yours: {own[key].title}" if key in own else samples[key].title,
            width=260,
            help="It lends its attention, its heads and its patches wherever those of another image are put in.",
        )
        is_twin = active.is_trained and switch(
            "twin", "Random weights instead", "The same page with an untrained model of the same shape, for comparison."
        )
    other = own[key] if key in own else ui.sample(key, samples[key])
    if is_twin:
        active = ui.twin(active)
        st.error("**Untrained twin.** Everything below is of a model with random weights.", icon=":material/warning:")
    return causal.scene(active, chosen, fitted, other)


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


def top_line(scene: Scene) -> None:
    """The page's answer in one sentence with numbers."""
    kind = ui.checked("baseline", list(BASELINES))
    found = causal.find_necessity(scene)
    sweep = causal.find_sweep(scene, kind)
    effect = causal.find_effect(scene, "white", False, None)
    if found is None or sweep is None:
        return
    if not math.isfinite(float(found.psnr[0])):
        st.info("The reconstruction of this picture is exact: no loss in dB can be told.", icon=":material/info:")
        return
    untrained = "" if scene.active.is_trained else ":red[UNTRAINED MODEL] · "
    percentiles = scene.active.test_percentiles.get("psnr")
    if percentiles and scene.active.is_trained and found.psnr[0] < percentiles[5]:
        st.info(
            f"The model fails on this picture already ({found.psnr[0]:.1f} dB, worse than 95 % of its test images): little is "
            "left to lose, and small losses say little here.",
            icon=":material/trending_down:",
        )
    st.markdown(f"##### {untrained}{headline(found, sweep, effect.scores if effect else None)}")
    st.caption(
        f"PSNR lost on this picture, {float(found.psnr[0]):.1f} dB undisturbed. A head is replaced by "
        f"{escape_markdown(words_of(scene, kind))}; the effect of a patch is measured by covering it with white."
    )


def words_of(scene: Scene, kind: str) -> str:
    """A baseline in words; holds a stranger's text."""
    title = causal.baseline_of(scene, kind).title
    return {"zero": "zero", "mean": f"its {title}"}.get(kind, f"what it adds for “{scene.other_title}”")


def section(scene: Scene) -> None:
    name = ui.choose(
        "causal",
        st.segmented_control,
        "Section",
        list(SECTIONS),
        format_func=lambda name: SECTIONS[name],
        label_visibility="collapsed",
    )
    if name == "needed":
        is_it_needed(scene)
    else:
        knock_out(scene)


def stem_of(scene: Scene) -> str:
    return f"{'' if scene.active.is_trained else 'UNTRAINED_'}{safe_name(scene.chosen.title)}"


def about(scene: Scene) -> str:
    """What an export is of; a stranger's text."""
    untrained = "" if scene.active.is_trained else "UNTRAINED MODEL: random weights · "
    return f"{untrained}{scene.chosen.title} · {scene.active.title}"


# ------------------------------------------------------------------------------------------------ is the attention needed?


def is_it_needed(scene: Scene) -> None:
    found = causal.find_necessity(scene)
    if found is None:
        return
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
    with right:
        outcome(scene, active, kind)
    ui.write_link()


def grid_of(scene: Scene, part: str, active: tuple[Intervention, ...]) -> None:
    """One row for each layer: its heads, its attention as a whole, its MLP."""
    st.markdown(f"**{part.capitalize()}**: heads of each layer, all of them, its MLP")
    for layer in range(scene.num_layers(part)):
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


main()
