"""The page Does it matter? without a browser: its sentences and figures are those of the package, its link restores it."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from tae.analysis.attention import received
from tae.analysis.causal import predictors, prefix, replacements, sweeps
from tae.analysis.causal.curves import deletion_insertion
from tae.analysis.causal.interventions import Edit, Knockout, from_text
from tae.analysis.causal.occlusion import Box, foreground_tokens, occlude, region_inputs
from tae.analysis.causal.patching import (
    activation_patching,
    attribution_patching,
    head_cells,
    patch_cells,
    path_patching,
)
from tae.analysis.causal.relevance import relevance
from tae.analysis.causal.study import read_study
from tae.analysis.maps import MapChoice, compute, compute_map
from tae.analysis.numbers import percent
from tae.data.demo import DemoSource
from tae.data.fit import Fitted
from tae.data.gallery import gallery
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.store.checkpoint import load_checkpoint
from tae.ui.causal import measure
from tae.ui.causal.history import fitting, parsed
from tae.ui.causal.knockout import delta_of
from tae.ui.session import work
from tae.ui.session.cache import STORE
from tae.ui.widgets.patches import read_edit, read_patches
from tests import ROOT
from tests.pages import DEMO, charts, flatten, metrics, numbers, open_page, run, tables, texts

PAGE = "Ablation"


def image(key: str) -> torch.Tensor:
    """(1, 1, 201, 201)."""
    return torch.from_numpy(gallery((201, 201))[key].load() / np.float32(255))[None, None]


def grid(values: Any) -> np.ndarray:
    """(N,) of a trace's grid, NaN where it has no number."""
    return np.array(numbers(values), float).ravel()


def _digest() -> str:
    return load_checkpoint(ROOT / "checkpoints" / DEMO).digest


@pytest.fixture(scope="module")
def model() -> TransformerAutoencoder:
    return load_checkpoint(ROOT / "checkpoints" / DEMO).model


def test_top_line_says_what_the_package_measures(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, image="garment-30", other="garment-84")
    shown = image("garment-30")
    plain = sweeps.psnr_each(shown, model(shown)[0].detach())
    for label, replace in (
        ("Uniform attention", replacements.uniform),
        ("Swapped attention", replacements.from_images(model, image("garment-84"))),
    ):
        lost = float(plain - sweeps.psnr_each(shown, replacements.reconstruct_with(model, shown, replace)))
        assert metrics(app)[label].startswith("−") and abs(float(metrics(app)[label][1:-3]) - lost) < 0.06
    assert any(label.startswith("Most important head: ") for label in metrics(app))


def test_both_parts_get_their_verdict_beside_the_test_set() -> None:
    app = open_page(PAGE)
    page = texts(app, "markdown", "caption")
    for part in ("Encoder", "Decoder"):
        assert re.search(rf"\*\*{part}\*\*: \S+ needed, image by image", page)
    assert "Test set" in page and "mean of 512 images" in page
    column = [row["all, test set"] for row in tables(app)[-1]]
    assert len(column) == 5 and all(re.fullmatch(r"−\d+\.\d\d \(−\d+\.\d\d to −.*\)", one) for one in column)


def test_part_layer_and_other_image_choose_what_is_replaced() -> None:
    app = open_page(PAGE, image="garment-30")
    assert sum(len(one.proto.imgs) for one in app.get("image")) == 6  # its own attention, and five that stand in for it
    assert any(one.value.startswith("Uniform weights: **") and " (−" in one.value for one in app.caption)
    before = [one.value for one in app.caption]
    app.segmented_control("choose_part").set_value("decoder")
    said = texts(run(app), "markdown", "subheader", "caption")
    assert "Change of PSNR without the attention of the decoder" in said
    app.segmented_control("choose_place").set_value("1")
    assert [one.value for one in run(app).caption] != before
    app.selectbox("choose_other").set_value("garment-42")
    run(app)
    assert {name: app.query_params[name] for name in ("part", "place", "other")} == {
        "part": "decoder",
        "place": "1",
        "other": "garment-42",
    }


def test_knocked_out_heads_lose_what_the_package_loses_and_the_link_restores_them(
    model: TransformerAutoencoder,
) -> None:
    text = "decoder/0/mlp,encoder/0/2"
    app = open_page(PAGE, image="garment-30", causal="knock", changes=text, baseline="zero")
    _, quality, damage = sweeps.damage_of(model, image("garment-30"), from_text(text))
    psnr, ssim, mse = app.metric[3:]
    assert psnr.value == f"{quality.psnr:.1f} dB" and psnr.delta == f"{-damage.psnr_lost:+.2f} dB"
    assert ssim.value == f"{quality.ssim:.3f}" and mse.value == f"{quality.mse:.4f}"
    assert app.query_params["changes"] == text and app.query_params["baseline"] == "zero"
    assert "replaced by zero" in texts(app, "caption")
    alone = sweeps.head_sweep(model, image("garment-30")).damage[Knockout("encoder", 0, 2)].psnr_lost
    lost = f"{alone:.0f}" if alone > 9.95 else f"{alone:.1f}"
    assert f"2: −{lost}" in app.pills("causal_off_encoder_0").options
    assert app.pills("causal_off_encoder_0").value == ["2"] and app.pills("causal_off_decoder_0").value == ["mlp"]


def light(app: AppTest, row: str, *titles: str) -> None:
    """Click a row of the grid until these are lit, each by its title without what it costs."""
    pills = app.pills(f"causal_off_{row}")
    pills.set_value([option for option in pills.options if option.split(":")[0] in titles])


def test_rows_of_the_grid_toggle_and_can_be_undone() -> None:
    app = open_page(PAGE, causal="knock")
    before = app.metric[3].value
    assert not app.metric[3].delta and app.button("causal_undo").disabled
    light(app, "encoder_1", "0", "all")
    run(app)
    assert app.session_state.changes == "encoder/1/0,encoder/1/attention"
    light(app, "encoder_1", "all")
    run(app)
    light(app, "decoder_2", "MLP")
    run(app)
    assert app.session_state.changes == "decoder/2/mlp,encoder/1/attention" and app.metric[3].value != before
    app.button("causal_undo").click()
    run(app)
    assert app.session_state.changes == "encoder/1/attention"
    app.button("causal_reset").click()
    run(app)
    assert app.session_state.changes == "" and app.metric[3].value == before
    app.button("causal_undo").click()
    run(app)
    assert app.session_state.changes == "encoder/1/attention"


def test_what_another_model_had_knocked_out_comes_back_by_undo_once_it_is_chosen_again(
    store: Callable[..., Path],
) -> None:
    small = store("small.safetensors")  # one layer in each part
    shutil.copy(ROOT / "checkpoints" / DEMO, small.with_name("demo.safetensors"))
    app = open_page(PAGE, causal="knock", changes="encoder/2/1", checkpoint="demo.safetensors")
    app.selectbox("choose_checkpoint").set_value("small.safetensors")
    run(app)
    assert "1 change is left out: it does not fit this model" in texts(app, "info")
    assert app.session_state.changes == "" and app.button("causal_undo").disabled
    app.selectbox("choose_checkpoint").set_value("demo.safetensors")
    run(app)
    app.button("causal_undo").click()
    run(app)
    assert app.session_state.changes == "encoder/2/1"


def test_changes_that_the_model_does_not_have_are_left_out() -> None:
    app = open_page(PAGE, causal="knock", changes="encoder/9/1,<b>,encoder/0/3,encoder/0/mask=5000")
    assert app.session_state.changes == "encoder/0/3"
    assert "3 changes" in texts(app, "info")
    assert not app.error


def test_a_link_keeps_the_last_edit_of_a_kind() -> None:
    config = preset_config("tiny")
    some, refused = parsed("encoder/0/temperature=2,encoder/0/temperature=0.5,encoder/0/1,encoder/0/1")
    found = fitting(some, config, config.num_tokens)
    assert found == (Edit("encoder", 0, "temperature", 0.5), Knockout("encoder", 0, 1)) and refused == 0


def test_ranking_draws_every_head_with_its_damage_beside_the_test_median(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="ranking", image="garment-30", baseline="zero")
    sweep = sweeps.head_sweep(model, image("garment-30"))
    study = read_study(ROOT / "checkpoints" / DEMO.replace(".safetensors", ".causal.json"), _digest())
    bars = {}
    medians = {}
    for trace in charts(app)[0]["data"]:
        (bars if trace["type"] == "bar" else medians).update(zip(trace["y"], numbers(trace["x"]), strict=True))
    assert len(bars) == 24
    for one in sweep.ranking():
        name = f"{one.part} {one.layer}, head {one.target}"
        assert bars[name] == pytest.approx(-sweep.damage[one].psnr_lost, rel=1e-4, abs=1e-5)
        assert medians[name] == pytest.approx(-study.median_damage(one.name))
    page = texts(app, "markdown", "caption")
    assert "one at a time, which hides redundancy" in page and "Over these 24 heads" in page
    curve = sweeps.removal_curve(model, image("garment-30"), sweep.ranking())
    assert f"**{curve.spared()} of 24 heads** can go" in page
    (table,) = tables(app)
    assert len(table) == 36 and {row["change of PSNR (dB)"][0] for row in table} <= {"−", "+"}


def test_effect_stands_beside_what_predicts_it_and_the_trivial_predictor_wins_aloud(
    model: TransformerAutoencoder,
) -> None:
    app = open_page(PAGE, causal="effect", image="garment-30", cover="mean")
    shown = image("garment-30")
    tokens = foreground_tokens(shown, model.config)
    effect = occlude(model, shown, "mean", tokens).total
    trivial = predictors.trivial_predictors(shown, model.config, "mean")
    scores = predictors.score({**predictors.predictors(model, shown), **trivial}, effect, tokens)
    said = predictors.which_wins(scores, "the image's mean grey")
    page = texts(app, "markdown", "caption")
    assert said.removeprefix("A simple baseline wins") in page
    assert "A simple baseline wins" in said and "**A simple baseline wins**" in page
    assert f"{len(tokens)} of 169 patches covered with: the image's mean grey" in page
    drawn = grid(charts(app)[0]["data"][0]["z"])
    np.testing.assert_allclose(drawn[tokens.numpy()], effect.numpy(), rtol=1e-3, atol=1e-9)
    assert np.isnan(drawn).sum() == 169 - len(tokens)


def test_the_effect_can_be_counted_inside_the_box_alone(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="effect", image="garment-30", box="40-90x60-120", boxed="on")
    shown = image("garment-30")
    tokens = foreground_tokens(shown, model.config)
    effect = occlude(model, shown, tokens=tokens, region=Box(40, 60, 90, 120)).total
    drawn = grid(charts(app)[0]["data"][0]["z"])
    np.testing.assert_allclose(drawn[tokens.numpy()], effect.numpy(), rtol=1e-3, atol=1e-9)
    assert "change counted over the box" in texts(app, "caption")


def test_blank_patches_are_covered_only_when_asked() -> None:
    app = open_page(PAGE, causal="effect", blank="on")
    assert "169 of 169 patches covered" in texts(app, "caption") and app.query_params["blank"] == "on"
    assert "nothing to cover" in texts(open_page(PAGE, causal="effect", image="blank"), "info")


def test_deletion_and_insertion_come_on_demand() -> None:
    app = open_page(PAGE, causal="effect")
    before = len(charts(app))
    app.toggle("causal_curves").set_value(True)
    run(app)
    assert len(charts(app)) == before + 1
    rows = {row["map"]: row for row in tables(app)[-1]}
    assert "random order" in rows and len(rows) == 11
    infidelity, areas = "infidelity (small is good)", "area covered (small is good)"
    assert float(rows["measured effect"][infidelity]) < float(rows["nearness to the centre"][infidelity])
    steady = {name for name, row in rows.items() if row["sensitivity (small is steady)"] not in ("–", "0.000")}
    assert steady == {*predictors.ATTENTION, predictors.GRADIENT}
    covered = {name: float(row[areas]) for name, row in rows.items()}
    assert max(covered["measured effect"], covered["darkness of the patch"]) < covered["random order"]


def test_any_map_of_the_model_is_put_to_the_test_beside_the_others(store: Callable[..., Path]) -> None:
    model = load_checkpoint(store("small.safetensors")).model
    own = {"part": "decoder", "layer": "0", "head": "2", "weighting": "values"}
    app = open_page(PAGE, causal="effect", image="garment-30", box="40-90x60-120", boxed="on", **own)
    choice = MapChoice(**own)  # type: ignore[arg-type]
    name, shown = "one more map", image("garment-30")
    values = received(compute_map(model, shown, choice))
    box, tokens = Box(40, 60, 90, 120), foreground_tokens(shown, model.config)
    effect = occlude(model, shown, tokens=tokens, region=box).total
    scores = {row["predictor"]: row["Spearman (95%)"] for row in tables(app)[0]}
    expected = predictors.score({name: values}, effect, tokens)
    assert scores[name] == str(expected.spearman[name])
    usual = {**predictors.predictors(model, shown), **predictors.trivial_predictors(shown, model.config)}
    verdict = predictors.which_wins(predictors.score(usual, effect, tokens), "white")  # without the chosen map
    assert verdict.removeprefix("A simple baseline wins") in texts(app, "markdown")
    app.toggle("causal_curves").set_value(True)
    run(app)
    (area,) = (float(row["area covered (small is good)"]) for row in tables(app)[-1] if row["map"] == name)
    curves = deletion_insertion(model, shown, {name: values}, region=box)
    # Ties, which come in another order among more maps, are none here.
    assert area == pytest.approx(curves[name].deletion_area, abs=1e-3)
    assert "counted over the box" in texts(app, "caption")
    app.segmented_control("choose_part").set_value("encoder")
    run(app)
    assert "One more map: Encoder, layer 0, head 2, weighted by value norms" in texts(app, "caption")


def test_one_more_map_says_what_it_hides_and_whether_it_is_uniform(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="effect", image="garment-30", layer="rollout", discard="0.9")
    computed = compute(model, image("garment-30"), MapChoice(layer="rollout", discard=0.9))
    told = texts(app, "caption")
    assert f"{percent(computed.hidden_mass, 1)} of all its weight hidden" in told
    assert "N 169 · head_dim 32: other weights could give the same output" in told
    assert "recomputation error at most" in told and "practically uniform" not in told


def test_maps_that_are_practically_uniform_are_called_so(store: Callable[..., Path]) -> None:
    store("flat.safetensors", flatten)
    told = texts(open_page(PAGE, causal="effect"), "caption")
    assert "practically uniform, no weight reaches 1.5 x uniform: received attention, average" in told


def test_the_spread_between_heads_is_in_multiples_of_the_uniform_weight(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="effect", image="garment-30", layer="1", head="spread")
    values = received(compute_map(model, image("garment-30"), MapChoice(layer="1", head="spread"))) * 169
    np.testing.assert_allclose(grid(charts(app)[0]["data"][-1]["z"]), values, rtol=1e-3, atol=1e-6)


def test_17_a_white_image_has_no_scores(shelf: Path) -> None:
    shutil.copy(ROOT / "checkpoints" / DEMO, shelf / "demo.safetensors")
    app = open_page(PAGE, causal="effect", image="blank", blank="on")
    assert {row["top tenth shared (95%)"] for row in tables(app)[0]} == {"not defined"}
    assert "nan" not in texts(app, "markdown", "caption")


def test_edits_reconstruct_as_the_package_does(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="knock", image="garment-30", other="garment-84")
    app.slider("causal_edit_temperature").set_value(3.0)
    run(app)
    assert app.session_state.changes == "encoder/0/temperature=3"
    app.selectbox("causal_edit_place").select("decoder/1")
    app.selectbox("causal_edit_kind").select("tokens")
    run(app)
    app.text_input("causal_edit_tokens").set_value("84, 97")
    run(app)
    assert app.session_state.changes == "decoder/1/tokens=84_97,encoder/0/temperature=3"
    donor = prefix.make_prefix(model, image("garment-84"))
    _, quality, _ = sweeps.damage_of(model, image("garment-30"), from_text(app.session_state.changes), donor=donor)
    assert app.metric[3].value == f"{quality.psnr:.1f} dB"
    assert "another image's tokens 84, 97" in texts(app, "caption")
    app.button("causal_remove_encoder_0_temperature").click()
    run(app)
    assert app.session_state.changes == "decoder/1/tokens=84_97"


def test_an_edit_that_does_not_fit_is_refused_in_words_and_changes_nothing() -> None:
    app = open_page(PAGE, causal="knock")
    app.selectbox("causal_edit_kind").select("mask")
    run(app)
    for words, problem in (
        ("5000", "tokens must be from 0 to 168"),
        ("<b>", "Patches are numbers, such as 84, 97, 100-112; got '<b>'"),
        ("9-3", "got '9-3'"),
    ):
        app.text_input("causal_edit_mask").set_value(words)
        run(app)
        assert problem in app.error[0].value.replace("\\", "")
        assert app.session_state.changes == ""
        assert app.text_input("causal_edit_mask").value == words  # to be mended


@pytest.mark.parametrize(
    ("value", "pattern", "text"),
    [
        (-0.126, "{:+.2f} dB", "-0.13 dB"),
        (0.0, "{:+.2f} dB", None),
        (math.nan, "{:+.3f}", None),
        (math.inf, "{:+.3f}", None),
        (0.0004, "{:+.3f}", "+4e-04"),
        (-0.003, "{:+.2f} dB", "-3e-03 dB"),
    ],
)
def test_a_change_that_rounds_to_nothing_is_told_by_its_size(value: float, pattern: str, text: str | None) -> None:
    assert delta_of(value, pattern) == text


def patches_of(app: AppTest) -> dict:
    """What the image of patches is told."""
    component = next(one.proto for one in app.get("bidi_component") if one.proto.component_name == "tae_patches")
    return json.loads(component.json)


def test_patches_of_an_edit_are_the_same_in_link_image_and_field_and_every_choice_holds_at_once(
    model: TransformerAutoencoder,
) -> None:
    app = open_page(PAGE, image="garment-30", causal="knock", changes="decoder/2/mask=3_5-8", pins="84,61,900")
    assert app.selectbox("causal_edit_place").value == "decoder/2" and app.selectbox("causal_edit_kind").value == "mask"
    told = patches_of(app)
    assert (told["chosen"], told["grid"], told["tile"], told["size"]) == (
        [3, 5, 6, 7, 8],
        [13, 13],
        [16, 16],
        [201, 201],
    )
    assert app.text_input("causal_edit_mask").value == "3, 5-8"
    app.text_input("causal_edit_mask").set_value(" 7, 20–22,8 ")
    run(app)
    assert app.session_state.changes == "decoder/2/mask=7_8_20-22" and patches_of(app)["chosen"] == [7, 8, 20, 21, 22]
    _, quality, _ = sweeps.damage_of(model, image("garment-30"), from_text(app.session_state.changes))
    assert app.metric[3].value == f"{quality.psnr:.1f} dB"
    app.button("causal_edit_pinned").click()
    run(app)
    assert app.session_state.changes == "decoder/2/mask=61_84"
    app.button("causal_edit_clear").click()
    run(app)
    assert (
        app.session_state.changes == "" and patches_of(app)["chosen"] == [] and app.button("causal_edit_clear").disabled
    )
    app.button("causal_undo").click()
    run(app)
    assert app.text_input("causal_edit_mask").value == "61, 84"
    app.text_input("causal_edit_mask").set_value("")
    run(app)
    assert app.session_state.changes == ""


def test_rows_of_all_queries_are_all_patches() -> None:
    app = open_page(PAGE, causal="knock", changes="encoder/1/rows=all")
    assert patches_of(app)["chosen"] == list(range(169)) and app.text_input("causal_edit_rows").value == "all"
    assert app.button("causal_edit_all").disabled
    app.text_input("causal_edit_rows").set_value("1-168")
    run(app)
    assert app.session_state.changes == "encoder/1/rows=1-168"
    app.button("causal_edit_all").click()
    run(app)
    assert app.session_state.changes == "encoder/1/rows=all"


@pytest.mark.parametrize(
    ("told", "patches"),
    [
        ({"patches": [9, 3, 3]}, (3, 9)),
        ({"patches": []}, ()),
        ({"patches": [10]}, None),
        ({"patches": [-1]}, None),
        ({"patches": [True]}, None),
        ({"patches": ["3"]}, None),
        ({"patches": [3.5]}, None),
        ({"patches": [1] * 11}, None),
        ({"patches": 3}, None),
        ({}, None),
        (None, None),
    ],
)
def test_only_numbers_of_patches_are_taken_from_a_browser(told: Any, patches: tuple[int, ...] | None) -> None:
    assert read_patches(told, 10) == patches


@pytest.mark.parametrize(("told", "edit"), [({"edit": 3}, 3), ({"edit": -1}, 0), ({"edit": "3"}, 0), (None, 0)])
def test_a_browser_s_count_of_its_choices_is_a_number(told: Any, edit: int) -> None:
    assert read_edit(told) == edit


def test_a_region_is_asked_by_gradient_by_occlusion_and_by_relevance(model: TransformerAutoencoder) -> None:
    app = open_page(PAGE, causal="region", image="garment-30", box="40-90x60-120")
    box = Box(40, 60, 90, 120)
    relevant = relevance(model, image("garment-30"), box)
    by_gradient, covered = (region_inputs(model, image("garment-30"), box, how) for how in ("gradient", "occlusion"))
    ways = by_gradient, covered, relevant.encoder, relevant.decoder
    for trace, expected in zip(charts(app)[1]["data"], ways, strict=True):
        np.testing.assert_allclose(grid(trace["z"]), expected, rtol=1e-3, atol=1e-8)
    page = texts(app, "markdown", "caption")
    assert "The 20 patches under the box" in page  # rows 2 to 5 and columns 3 to 7 of patches
    assert "rows 40 to 89, columns 60 to 119" in page
    tokens = foreground_tokens(image("garment-30"), model.config)
    agree = [predictors.spearman(one[tokens], covered[tokens]) for one in (by_gradient, relevant.encoder)]
    assert f"{len(tokens)} patches that are not blank, occlusion agrees with gradient at {agree[0]:.2f}" in page
    assert f"and with relevance at {agree[1]:.2f} (rank correlation)" in page
    app.slider("causal_rows").set_value((10, 30))
    run(app)
    assert app.query_params["box"] == "10-30x60-120"


@pytest.mark.parametrize("box", ["", "40-90x60-999", "9-3x1-5", "٣-9x1-5"])
def test_without_a_sound_box_the_darkest_place_is_asked(box: str) -> None:
    app = open_page(PAGE, causal="region", box=box)
    assert app.session_state.box == "" and "The 9 patches under the box" in texts(app, "markdown")


def test_a_box_of_white_paper_says_that_nothing_changes_it() -> None:
    assert "Nothing in the image changes this box" in texts(open_page(PAGE, causal="region", image="blank"), "info")


def test_two_images_are_patched_as_the_package_does_and_a_link_restores_the_cell(keep, take) -> None:
    model = keep(encoder_layers=2, decoder_layers=2)
    names = list(gallery((32, 32)))[:2]
    a, b = (torch.from_numpy(gallery((32, 32))[name].load() / np.float32(255))[None, None] for name in names)
    at = {"checkpoint": "small.safetensors", "image": names[0], "other": names[1], "causal": "pair"}
    app = open_page(PAGE, **at, cell="encoder/0/3")
    for into, base, source in (("b", b, a), ("a", a, b)):
        app.segmented_control("choose_into").set_value(into)
        run(app)
        cells = head_cells(model.config)
        found, estimate = (
            activation_patching(model, base, source, cells),
            attribution_patching(model, base, source, cells),
        )
        measured, by_gradient, *_ = [grid(chart["data"][0]["z"]) for chart in charts(app)[:2]]
        np.testing.assert_allclose(measured, found.share, atol=1e-4)
        np.testing.assert_allclose(by_gradient, estimate, atol=1e-4)
        error, page = found.error_of(estimate), texts(app, "markdown", "caption")
        assert f"**{error.correlation:.2f}**" in page and f"{percent(error.deviation, 1)}" in page
        share, closed = (float(one[3]) for one in (found.share, found.closed))
        assert (
            f"head 3: {percent(share, 1)} of the way from {'B to A' if into == 'b' else 'A to B'}, {percent(closed, 1)} of"
            in page
        )
        assert "tokens; this cell is" not in page  # of an encoder's patch alone
        paths = path_patching(model, base, source, Knockout("encoder", 0, 3))
        np.testing.assert_allclose(numbers(charts(app)[-1]["data"][0]["x"]), [*paths.values(), share], atol=1e-4)
    assert app.query_params["cell"] == "encoder/0/3" and app.query_params["into"] == "a"
    name, report = take("Report (HTML)")
    assert name.endswith("_two_images.html") and report.decode().count("(attribution patching)") == 2  # both ways
    app.segmented_control("choose_states").set_value("patches")
    run(app)
    assert "tokens; this cell is 1 of them" in texts(app, "caption")
    app.segmented_control("choose_part").set_value("decoder")
    run(app)
    cells = patch_cells(model.config, 32)
    found = activation_patching(model, a, b, cells)
    drawn = [grid(trace["z"]) for trace in charts(app)[0]["data"] if trace["type"] == "heatmap"]
    np.testing.assert_allclose(np.ravel(drawn), 100 * found.share[32:], atol=1e-2)
    strongest = 32 + int(np.abs(found.share[32:]).argmax())
    assert app.selectbox("choose_cell").value == cells[strongest].name  # a head is no patch
    arrays = np.load(io.BytesIO(take("Cells and images (NPZ)")[1]))
    np.testing.assert_allclose(arrays["share"], found.share, atol=1e-4)
    assert arrays["cells"].tolist() == [cell.name for cell in cells]
    lines = list(csv.DictReader(io.StringIO(take("Cells (CSV)")[1].decode())))
    assert lines[5]["cell"] == cells[5].name and float(lines[5]["share"]) == pytest.approx(found.share[5], abs=1e-4)


def test_between_equal_reconstructions_there_is_no_way(keep) -> None:
    def blind(model: TransformerAutoencoder) -> None:
        model.decoder.expand.weight.zero_()

    keep(blind)
    app = open_page(PAGE, checkpoint="small.safetensors", causal="pair")
    assert "there is no way between them" in texts(app, "info")


def test_long_work_waits_for_a_click_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LONG_S", 0.0)
    app = open_page(PAGE, image="garment-77")
    assert "Uniform attention" not in texts(app)
    app.button("work_start_necessity").click()
    run(app)
    assert any(
        one.key in ("work_start_baseline", "work_start_sweep") for one in app.button
    )  # what heads cost waits, too
    assert "**Encoder**" in texts(app, "markdown")
    mark = next(one for one in app.session_state.work_wanted if one.startswith("necessity|"))
    STORE.drop(("necessity", mark.removeprefix("necessity|")))
    app.session_state.work_stopped = {mark}
    run(app)
    assert "Stopped" in texts(app, "caption") and "**Encoder**" not in texts(app, "markdown")
    app.button("work_start_necessity").click()
    run(app)
    assert "**Encoder**" in texts(app, "markdown")


def test_random_weights_are_one_switch_away_say_so_and_lose_nothing() -> None:
    app = open_page(PAGE)
    next(toggle for toggle in app.toggle if toggle.label == "Untrained model").set_value(True)
    run(app)
    assert app.query_params["twin"] == "on"
    assert "Untrained twin" in texts(app, "error")
    assert "UNTRAINED MODEL" in next(one.value for one in app.caption if "Change of PSNR on this image" in one.value)
    assert "not needed, uniform attention does as well" in texts(app, "markdown")


def test_one_token_gets_a_notice(store: Callable[..., Path]) -> None:
    from tae.store.card import Card
    from tae.store.checkpoint import save_checkpoint

    folder = store("other.safetensors").parent
    one = TransformerAutoencoder(preset_config("tiny", patch_size=None, encoder_layers=1, decoder_layers=1)).eval()
    card = Card(name="One token", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    save_checkpoint(folder / "one.safetensors", one, card)
    app = open_page(PAGE, checkpoint="one.safetensors")
    assert "one token" in texts(app, "info") and not app.error and len(app.metric) == 0


def test_attention_that_does_not_matter_is_called_so_and_attention_that_does_is_not(store: Callable[..., Path]) -> None:
    path = store("flat.safetensors", flatten)
    shutil.copy(ROOT / "checkpoints" / DEMO, path.with_name("demo.safetensors"))  # without its study
    for page in ("Explore", "Compare"):
        assert "is not needed" in texts(open_page(page, checkpoint=path.name), "warning")
        assert not open_page(page, checkpoint="demo.safetensors").warning
    assert work.known(f"verdict_{_digest()[:8]}", _digest()).lost  # it was measured


def test_a_large_model_without_a_study_asks_before_it_measures_whether_its_attention_matters(
    store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flatten(model: TransformerAutoencoder) -> None:
        model.encoder.blocks[0].attn.qkv.weight[:257] = 0  # another one than that of other tests

    path = store("large.safetensors", flatten)
    monkeypatch.setattr(work, "LONG_S", 0.0)
    app = open_page("Explore", checkpoint=path.name)
    assert not app.warning
    (ask,) = (one for one in app.button if "needed? Measuring 8 test images" in one.label)
    ask.click()
    run(app)
    assert "is not needed" in texts(app, "warning")


@pytest.mark.parametrize("key", ["blank", "noise", "chessboard"])
def test_images_unlike_the_training_break_nothing(key: str) -> None:
    app = open_page(PAGE, image=key)
    assert not app.error and not app.exception
    if key != "blank":
        assert "fails on this image" in texts(app, "info")


def test_other_images_are_others_also_where_the_image_is_a_test_image() -> None:
    config = preset_config("tiny")
    tests = DemoSource(config.input_size).test_at(201, 9)
    other = Fitted(tests[0, 0].numpy(), ())
    active = SimpleNamespace(config=config, data=DemoSource.data)
    scene = SimpleNamespace(active=active, batch=tests[2:3], other=other)
    found = measure.other_images(scene)  # type: ignore[arg-type]
    assert torch.equal(found, tests[[0, 1, 3, 4, 5, 6, 7, 8]])


# ----------------------------------------------------------------------------------------------------------- taken along


def rows_of(taken: tuple[str, bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(taken[1].decode())))


def arrays_of(taken: tuple[str, bytes]) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(taken[1])) as arrays:
        return dict(arrays)


def test_figures_are_taken_along(keep: Callable[..., object], take: Callable) -> None:
    keep(encoder_layers=2)
    app = open_page(PAGE)
    rows = rows_of(take("Losses (CSV)"))
    assert len(rows) == 5 * (3 + 2) and {row["part"] for row in rows} == {"encoder", "decoder"}  # each layer, and all
    name, report = take("Report (HTML)")
    assert name.endswith("_report.html") and b"small.safetensors" in report
    app.segmented_control("choose_causal").set_value("knock")
    app.session_state.changes = "encoder/0/1"
    run(app)
    arrays = arrays_of(take("All arrays (NPZ)"))
    np.testing.assert_array_equal(arrays["difference"], arrays["changed"] - arrays["reconstruction"])
    assert arrays["difference"].any()
    assert all(take(label)[1].startswith(b"\x89PNG") for label in ("Side by side (PNG)", "Changed (PNG)"))


def test_baseline_of_the_ranking_is_chosen_and_goes_along(take: Callable) -> None:
    app = open_page(PAGE, causal="ranking", image="garment-30")
    assert "replaced by its mean over" in texts(app, "markdown", "caption")
    for baseline, said in (("resample", "replaced by what it adds for"), ("zero", "replaced by zero")):
        app.segmented_control("choose_baseline").set_value(baseline)
        assert said in texts(run(app), "markdown", "caption") and app.query_params["baseline"] == baseline
    rows = rows_of(take("Ranking (CSV)"))
    assert len(rows) == 36 and {row["replaced_by"] for row in rows} == {"zero"}
    # The study's baseline is its own.
    assert {row["test images replaced by"] for row in rows} == {"mean over 512 images"}
    lost = [float(row["MSE gained"]) for row in rows]
    assert lost == sorted(lost, reverse=True)


def test_cover_blank_patches_and_box_choose_what_is_measured(take: Callable) -> None:
    app = open_page(PAGE, causal="effect", image="garment-30", box="40-90x60-120")
    app.segmented_control("choose_cover").set_value("mean")
    for label in ("Cover blank patches, too", "Only the box counts"):
        next(toggle for toggle in app.toggle if toggle.label == label).set_value(True)
    told = texts(run(app), "caption")
    assert "169 of 169 patches covered with: the image's mean grey" in told and "change counted over the box" in told
    assert (app.query_params["blank"], app.query_params["boxed"]) == ("on", "on")
    app.selectbox("choose_layer").set_value("2")
    app.segmented_control("choose_weighting").set_value("values")
    assert "It joins the maps, the scores and the curves below" in texts(run(app), "caption", "markdown")
    rows, arrays = rows_of(take("Effect and maps (CSV)")), arrays_of(take("Effect and maps (NPZ)"))
    assert len(rows) == 169 and "one_more_map" in rows[0]
    assert {row["one_more_map_is"] for row in rows} == {"Encoder, layer 2, mean of 4 heads, weighted by value norms"}
    effect = [float(row["measured_effect"]) for row in rows]
    assert np.isfinite(effect).all()
    assert {row["covered_with"] for row in rows} == {"The image's mean grey"}
    assert {row["counted_over"] for row in rows} == {"rows 40 to 89, columns 60 to 119"}
    np.testing.assert_allclose(arrays["measured_effect"], effect, rtol=1e-4)
    assert "the image's mean grey" in str(arrays["caption"])
