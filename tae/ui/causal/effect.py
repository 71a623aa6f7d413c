"""Attention against effect: what covering each patch does, beside maps and guesses that would tell it."""

import numpy as np
import streamlit as st

from tae.analysis.attention import is_practically_uniform, received
from tae.analysis.causal.faithfulness import SETS
from tae.analysis.causal.occlusion import Box
from tae.analysis.causal.predictors import GRADIENT, MAPS, TRIVIAL, interval_of, which_wins
from tae.analysis.causal.study import CoverFigures
from tae.analysis.facts import OTHER_WEIGHTS, PRACTICALLY_UNIFORM
from tae.analysis.maps import MapChoice
from tae.analysis.numbers import percent
from tae.plots.causal import PatchMap, plot_deletion_insertion, plot_patch_maps, plot_scores
from tae.store.names import escape_markdown, safe_name
from tae.ui.attention.controls import settings
from tae.ui.attention.measure import one_map, recomputation_errors
from tae.ui.causal import measure
from tae.ui.causal.controls import choose_cover, no_study, switch
from tae.ui.causal.measure import COVERS, MEASURED, OWN, Effect, PairScene
from tae.ui.causal.region import box_of, box_title
from tae.ui.session import verdicts
from tae.ui.shell.glossary import find
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import chart, image_chart
from tae.ui.widgets.downloads import download_arrays, download_table, export
from tae.ui.widgets.mapchoice import choose_map
from tae.ui.widgets.report import download_report
from tae.ui.widgets.table import table
from tae.web.report.findings import differs


def against_effect(scene: PairScene) -> None:
    prose("Each patch is [[covered]] in turn: which map tells what that changes?")
    name = choose_cover()
    with st.container(horizontal=True):
        with_blank = switch(
            "blank", "Cover blank patches, too", "They change little: any map that avoids them looks good."
        )
        box = box_of(scene)
        in_box = box is not None and switch(
            "boxed", "Only the box counts", "The change is measured inside the box that was drawn under “Patches”."
        )
    region = box if in_box else None
    own = choose_own_map(scene)
    effect = measure.find_effect(scene, name, with_blank, region)
    if effect is None:
        return
    if not len(effect.tokens):
        st.info("This image is blank: no patch holds anything darker than .95, so there is nothing to cover.")
        return
    said = which_wins(effect.scores, COVERS[name].lower())
    if said.startswith("A simple baseline wins"):
        st.markdown(f":material/priority_high: **A simple baseline wins**{said.removeprefix('A simple baseline wins')}")
    else:
        st.markdown(said)
    if own not in MAPS.values():
        effect = measure.with_map(effect, received(one_map(scene, own).weights).numpy().astype(np.float32))
    maps = effect_maps(scene, effect, own)
    figure = plot_patch_maps(scene.fitted.pixels, maps, scene.grid, scene.config.tile_size[0], region)
    alt = "Measured effect of each patch beside received attention, rollout, value-weighted attention and gradient x input"
    image_chart(figure, "causal_effect", alt, tools=True)
    where = "the box" if region else "the whole reconstruction"
    told = (
        f"{len(effect.tokens)} of {scene.num_tokens} patches covered with: {COVERS[name].lower()}; change counted over {where}"
        + (
            ""
            if np.isnan(effect.share_inside)
            else f"; {percent(effect.share_inside)} of it lies inside the covered patches"
        )
        + f". {status(scene, own)}"
    )
    st.caption(
        told,
        help="Attention is the weight that a patch receives, mean over queries, in the encoder where nothing else is said. Each "
        "map has its own colours, from 0 to its largest value, and is drawn patch by patch, not smoothed.",
    )
    scores_of(scene, effect, name)
    put_to_the_test(scene, name, effect, region, own)
    columns = scene.grid[1]
    arrays = {
        "measured_effect": effect.over(scene.num_tokens),
        **{safe_name(key): one for key, one in effect.predicted.items()},
    }
    rows = [
        {
            **scene.chosen.named(scene.active),
            "covered_with": COVERS[name],
            **({"one_more_map_is": own.title(scene.config)} if OWN in effect.predicted else {}),
            "counted_over": box_title(region) if region else where,
            "patch": token,
            "row": token // columns,
            "column": token % columns,
            **{key: float(one[token]) for key, one in arrays.items()},
        }
        for token in range(scene.num_tokens)
    ]
    with export():
        download_report(scene)
        download_table("Effect and maps (CSV)", rows, f"{scene.stem}_effect")
        download_arrays("Effect and maps (NPZ)", arrays, f"{scene.stem}_effect", f"{scene.about} · {told}")


def choose_own_map(scene: PairScene) -> MapChoice:
    """Any map of the model, to stand beside the others: the one that is on display on the page Explore."""
    with st.expander("One more map, of any layer and head", icon=":material/add:"):
        choice = choose_map(scene.config)
        settings(choice)
        discard = float(st.session_state.discard)
        choice = MapChoice.named(choice.name, st.session_state.weighting, discard)
        st.caption(
            "It is one of those that stand there already."
            if choice in MAPS.values()
            else "It joins the maps, the scores and the curves below, but not the verdict: of many maps, one is always ahead by "
            "chance."
        )
    return choice


def status(scene: PairScene, own: MapChoice) -> str:
    """Caveats of the attention maps, in one line."""
    num_tokens, head_dim = scene.num_tokens, scene.config.head_dim
    chosen = [*MAPS.items(), *([] if own in MAPS.values() else [(OWN, own)])]
    found = {name: one_map(scene, choice) for name, choice in chosen}
    parts = dict.fromkeys(choice.part for _, choice in chosen)
    error = max(max(recomputation_errors(scene, part)) for part in parts)
    facts = [] if own in MAPS.values() else [f"One more map: {own.title(scene.config)}"]
    if own.discard:
        facts.append(f"{percent(found[OWN].hidden_mass, 1)} of all its weight hidden")
    facts.append(f"N {num_tokens} · head_dim {head_dim}")
    if num_tokens > head_dim:
        facts[-1] += f": {OTHER_WEIGHTS}"
    facts.append(differs(error))
    flat = [
        name
        for name, choice in chosen
        if choice.head != "spread" and is_practically_uniform(np.array(found[name].weights))
    ]
    if flat:
        facts.append(f"{PRACTICALLY_UNIFORM}: {', '.join(flat)}")
    return " · ".join(facts) + "."


def effect_maps(scene: PairScene, effect: Effect, own: MapChoice) -> list[PatchMap]:
    """The measured effect, and what attention and gradients say of every patch."""
    maps = [PatchMap(MEASURED, effect.over(scene.num_tokens), "squared change")]
    for name, values in effect.predicted.items():
        if name in TRIVIAL:
            continue
        if name == GRADIENT:
            maps.append(PatchMap(name, values, "ink"))
        else:
            is_spread = name == OWN and own.head == "spread"
            unit = "x uniform, spread between heads" if is_spread else "x uniform"
            maps.append(PatchMap(name, values * scene.num_tokens, unit))
    return maps


def kind_of(name: str) -> str:
    if name in (*TRIVIAL, "random order"):
        return "trivial"
    return {GRADIENT: "gradient", MEASURED: "measured"}.get(name, "attention")


def scores_of(scene: PairScene, effect: Effect, cover: str) -> None:
    study = verdicts.study_of(scene.active)
    tests = study.covers.get(cover) if study else None
    scores = effect.scores
    names = sorted(scores.spearman, key=lambda name: -np.nan_to_num(scores.spearman[name].value, nan=-2))
    kinds = {name: kind_of(name) for name in names}
    figure = plot_scores({name: scores.spearman[name] for name in names}, kinds, tests["spearman"] if tests else None)
    alt = "Rank correlation of each predictor with the measured effect, with 95% intervals"
    chart(figure, "causal_scores", alt, tools=True)
    rows = [
        {
            "predictor": name,
            "Spearman (95%)": str(scores.spearman[name]),
            "top tenth shared (95%)": str(scores.overlap[name]),
            **({} if tests is None else test_figures(tests, name)),
        }
        for name in names
    ]
    table(rows, "How well each predictor tells the measured effect")
    st.caption(
        "Intervals: over this image's patches, rather too narrow.",
        help="Patches of one image are no independent draws. Spearman: rank correlation. Top tenth shared: of the tenth of the "
        "patches with the largest effect, those that the map puts there, too; by chance a tenth. Test set: means.",
    )
    if study is None:
        no_study(scene)
    else:
        st.caption(
            f"Test set: {escape_markdown(study.data)}, the whole reconstruction, "
            + (f"the same cover on {tests['count']} images" if tests else "not measured with this cover")
            + f". {escape_markdown(study.agreement)}"
        )


def test_figures(tests: CoverFigures, predictor: str) -> dict[str, str]:
    """How well a predictor does over the test set, in words."""
    groups = {"Spearman": tests["spearman"], "top tenth": tests["overlap"], "infidelity": tests["infidelity"]}
    return {
        f"{title}, test set": str(interval_of(those[predictor])) if predictor in those else "not measured"
        for title, those in groups.items()
    }


def three(value: float | None) -> str:
    """With three digits behind the point; a dash where nothing was measured."""
    return "–" if value is None else f"{value:.3f}"


def put_to_the_test(scene: PairScene, name: str, effect: Effect, region: Box | None, own: MapChoice) -> None:
    if not st.toggle(
        "Deletion, insertion, infidelity, sensitivity",
        key="causal_curves",
        persist_state="session",
        help="Patches are covered, or shown, in the order that a map gives them (Petsiuk 2018): a map that tells what matters "
        "falls fast when its strongest patches are covered, and rises fast when they are shown. "
        + " ".join(f"{name.capitalize()}: {find(name).text}" for name in ("infidelity", "sensitivity")),
    ):
        return
    try:
        tested = measure.find_tested(scene, name, effect, region, own)
    except ValueError:
        st.info("This cover changes nothing in the image; choose another one.")
        return
    if tested is None:
        return
    figure = plot_deletion_insertion(tested.curves, {one: kind_of(one) for one in tested.curves})
    alt = "Likeness of the reconstruction as patches are covered and as they are shown, in the order of each map"
    chart(figure, "causal_deletion_insertion", alt, tools=True)
    rows = [
        {
            "map": one,
            "area covered (small is good)": three(curve.deletion_area),
            "area shown (large is good)": three(curve.insertion_area),
            "infidelity (small is good)": three(tested.infidelity.get(one)),
            "sensitivity (small is steady)": three(tested.sensitivity.get(one)),
        }
        for one, curve in sorted(tested.curves.items(), key=lambda pair: pair[1].deletion_area)
    ]
    table(rows, "Deletion, insertion, infidelity and sensitivity of each map")
    where = f"Likeness is counted over the box ({box_title(region)}). " if region else ""
    st.caption(
        f"{where}“{MEASURED.capitalize()}” takes patches in the order of what covering each alone does: a mark to compare with, "
        "no limit, for patches act together. All patches take part that the cover changes. Infidelity is over "
        f"{SETS} random tenths of the patches."
    )
