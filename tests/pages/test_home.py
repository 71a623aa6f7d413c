"""The pages without a browser: what they show for a view, a link, a drop of files, a checkpoint."""

import base64
import copy
import csv
import hashlib
import io
import json
import os
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae import ui
from tae.analysis.yardsticks import Yardsticks, verdict
from tae.cli import read
from tae.data.demo import DemoSource, compose_square
from tae.data.gallery import gallery
from tae.data.white import Extent, White
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PRESETS
from tae.model.counts import count
from tae.model.metrics import measure
from tae.store.checkpoint import list_checkpoints, load_checkpoint
from tae.training.config import TrainConfig
from tae.ui.checkpoints.cards import to_paste
from tests import ROOT
from tests.pages import (
    DEMO,
    FIRST,
    HOSTILE,
    PAGES,
    TITLES,
    assert_harmless,
    blow_up,
    bring,
    build_untrained,
    charts,
    component,
    drop,
    flatten,
    go,
    image,
    metrics,
    open_page,
    run,
    said_plainly,
    status,
    texts,
    very_small,
)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_the_demo_checkpoint(page: str) -> None:
    app = open_page(page)
    assert [title.value for title in app.title] == [TITLES.get(page, page)]
    assert not app.error and not app.warning
    assert app.sidebar.selectbox[0].value == DEMO


def test_first_screen_shows_what_the_package_computes() -> None:
    app = open_page(section="quality")
    loaded = load_checkpoint(ROOT / "checkpoints" / DEMO)
    first = next(iter(gallery((201, 201), data=loaded.card.data).values()))
    pixels = (first.load() / 255).astype(np.float32)
    with torch.inference_mode():
        recon = loaded.model(torch.from_numpy(pixels)[None, None])[0].clamp(0, 1)[0, 0].numpy()
    quality = measure(pixels, recon)
    assert metrics(app) == {
        "PSNR": f"{quality.psnr:.1f} dB",
        "SSIM": f"{quality.ssim:.3f}",
        "MSE": f"{quality.mse:.4f}",
        "Foreground MSE": f"{quality.foreground_mse:.4f}",
    }
    page = texts(app)
    outcome = component(app, "explorer_outcome")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(outcome["recon"].partition(",")[2]))), np.float32) / 255
    np.testing.assert_allclose(shown, recon, atol=0.5 / 255 + 1e-5)
    assert outcome["title"] == f"{quality.psnr:.1f} dB" and outcome["changed"] == ""
    assert "composed" in page
    assert f"test PSNR **{loaded.card.metrics['psnr']:.1f} dB**" in page


def test_choosing_a_sample_writes_the_link_and_stays_on_the_next_page() -> None:
    app = open_page()
    app.selectbox("choose_image").select("garment-30")
    run(app)
    assert app.query_params["image"] == "garment-30"
    assert component(app, "shelf_images")["chosen"] == "garment-30"
    go(app, "Ablation")
    assert app.selectbox("choose_image").value == "garment-30"
    go(app, "Explore")
    assert app.selectbox("choose_image").value == "garment-30"


def deep_stack() -> bytes:
    """Two frames of 12 bits in 16, the second at a quarter of the light."""
    frame = np.round(np.linspace(0, 4095, 201 * 201)).reshape(201, 201)
    buffer = io.BytesIO()
    np.save(buffer, np.stack([frame, frame / 4]).astype(np.uint16))
    return buffer.getvalue()


def test_which_number_is_white_is_chosen_beside_the_fit_and_kept_in_the_link() -> None:
    app = drop(open_page(), ("12 bits.npy", deep_stack()))
    assert [box.label for box in app.sidebar.selectbox][-2:] == ["Fit to the model's size", "Which number is white"]
    assert app.selectbox("choose_image").options[:2] == ["Yours: 12 bits.npy, frame 0", "Yours: 12 bits.npy, frame 1"]
    assert "values up to 4095 divided by 4095, as of 12 bits" in said_plainly(app, "caption")
    assert "white" not in app.query_params
    app.selectbox("choose_white").set_value("type")
    run(app)
    assert app.query_params["white"] == "type" and "the type's range, 0 to 65535" in said_plainly(app, "caption")
    app.selectbox("choose_white").set_value("own")
    run(app)
    assert app.query_params["white"] == "0..4095"
    app.number_input("white_white").set_value(8190)
    run(app)
    assert app.query_params["white"] == "0..8190"
    assert "black at 0, white at 8190, as chosen" in said_plainly(app, "caption")


def test_a_link_whose_white_means_nothing_is_taken_as_the_file_says() -> None:
    for text in ("nonsense", "1..1", "0..1e999"):
        app = open_page(white=text)
        assert app.selectbox("choose_white").value == "file"


def test_a_file_is_opened_as_the_model_s_training_read_such_files(keep: Callable[..., TransformerAutoencoder]) -> None:
    decided = White().decide([Extent("uint16", 0, 16_000)])
    keep(file="deep.safetensors", about={"training": {"steps": 9, "white": decided.to_dict()}})
    app = drop(open_page(checkpoint="deep.safetensors"), ("dim.npy", deep_stack()))
    assert "black at 0, white at 65535, as this model's training read such files" in said_plainly(app, "caption")
    assert app.selectbox("choose_white").options[0] == "As in this model's training"


def test_1_what_is_not_read_is_called_by_name_with_what_to_do() -> None:
    app = drop(open_page(), ("photo.heic", b"\0\0\0\x18ftypheic" + bytes(40)), ("scan.dcm", bytes(128) + b"DICM"))
    said = said_plainly(app, "error")
    assert "photo.heic: not a supported image" in said and "got HEIC; export it as JPEG or PNG" in said
    assert "got DICOM; export it as 16-bit PNG or TIFF" in said


def test_link_restores_the_view() -> None:
    link = {"image": "garment-42", "part": "decoder", "layer": "2", "head": "3", "query": "77", "direction": "to"}
    link |= {"range": "own", "pins": "3,168", "section": "heatmap", "region": "13-25x0-12"}
    app = open_page("Explore", **link)
    assert caption(app).startswith("Decoder, layer 2, head 3 · query patch 77 (row 5, column 12) · N 169 · head_dim 32")
    assert "(this map only)" in caption(app)
    assert app.selectbox("choose_image").value == "garment-42"
    assert {name: app.query_params[name] for name in link} == link
    (pins,) = app.dataframe
    assert list(pins.value["Pinned patch"]) == ["3 (row 0, column 3)", "168 (row 12, column 12)"]
    weights = load_checkpoint(ROOT / "checkpoints" / DEMO).model.get_attention_heads(
        sample("garment-42"), 2, part="decoder"
    )
    expected = [float(weights[0, 3, pin, 77]) * 169 for pin in (3, 168)]
    np.testing.assert_allclose(pins.value["places on patch 77"], expected, rtol=1e-5)
    heatmap = charts(app)[0]
    assert heatmap["data"][0]["y"][0] == "13 (row 1, column 0)"


def test_link_restores_what_is_compared() -> None:
    link = {"layer": "0", "head": "max", "b_checkpoint": "twin", "b_image": "garment-30"}
    link |= {"b_part": "decoder", "b_layer": "rollout", "b_head": "min", "query": "5"}
    app = open_page("Compare", **link)
    assert {name: app.query_params[name] for name in link} == link
    assert app.selectbox("choose_b_image").value == "garment-30"
    assert "Correlation" in texts(app, "markdown")


STRANGE = ("../../../etc/passwd", "<script>alert(1)</script>", "-1", "٣", "x" * 5000 + "\x00")


@pytest.mark.parametrize("page", PAGES)
def test_73_links_that_mean_nothing_open_the_default_view(page: str, keep: Callable[..., object]) -> None:
    keep()
    app = open_page(page)
    for value in STRANGE:  # as somebody who edits the address of one page again and again
        app.query_params.update(dict.fromkeys(ui.DEFAULTS, value))
        run(app)
        assert [title.value for title in app.title] == [TITLES.get(page, page)]
        assert app.sidebar.selectbox[0].value == "small.safetensors"
        assert not app.error
        assert "passwd" not in texts(app) and "<script>" not in texts(app)
        if page == "Explore":
            own = {"part", "layer", "head", "direction", "range", "pins", "weighting", "discard", "section", "region"}
            assert not own & set(app.query_params)


def test_a_link_to_no_checkpoint_opens_the_first_of_the_shipped_ones() -> None:
    assert open_page("Models", checkpoint=STRANGE[0]).sidebar.selectbox[0].value == FIRST


def caption(app: AppTest) -> str:
    return next(caption.value for caption in app.caption if "recomputation error" in caption.value)


def sample(key: str) -> torch.Tensor:
    """(1, 1, 201, 201)."""
    return torch.from_numpy(gallery((201, 201))[key].load() / np.float32(255))[None, None]


def test_what_is_owed_below_a_map_is_there() -> None:
    app = open_page("Explore", layer="1")
    assert status(app).startswith("head_dim 32 · ")
    error = re.search(r"recomputation error at most (\S+)", status(app))
    assert error and 0 < float(error[1]) < 1e-3
    assert any("N 169 > head_dim 32" in one for one in texts(app, "markdown").splitlines())


@pytest.mark.parametrize("layer", ["average", "rollout"])
def test_a_head_belongs_to_one_layer(layer: str) -> None:
    app = open_page("Explore", layer=layer, head="2")
    assert (app.session_state.layer, app.session_state.head) == ("average", "mean")


def test_rollout_says_how_much_weight_it_hides() -> None:
    app = open_page("Explore", layer="rollout", discard="0.9", section="heatmap")
    hidden = re.search(r"([\d.]+)% of all weight hidden", caption(app))
    assert hidden and 0 < float(hidden[1]) < 90
    assert "hidden" not in caption(open_page("Explore", layer="rollout", section="heatmap"))
    assert "hidden" not in caption(open_page("Explore", layer="0", discard="0.9", section="heatmap"))


def test_weighting_by_values_is_another_map_and_says_so() -> None:
    app = open_page("Explore", layer="0", weighting="values", section="heatmap")
    assert "weighted by value norms" in caption(app)
    plain = open_page("Explore", layer="0", section="heatmap")
    assert charts(app)[0] != charts(plain)[0]


def test_overview_offers_every_head_in_every_order() -> None:
    app = open_page("Explore", section="overview")

    def ordered() -> list[list[int]]:
        (found,) = [trace["customdata"] for trace in charts(app)[0]["data"] if len(trace.get("customdata") or []) == 12]
        return found

    assert ordered() == [[layer, head] for layer in range(3) for head in range(4)]
    before = charts(app)[0]["data"]
    app.selectbox("attention_order").select("distance")
    run(app)
    assert charts(app)[0]["data"] != before and "Mean attention distance" in json.dumps(charts(app)[0])
    app.selectbox("attention_order").select("effect")
    run(app)
    study = json.loads((ROOT / "checkpoints" / DEMO).with_suffix(".causal.json").read_text())
    lost = {
        name: value["psnr_lost"][2] for name, value in study["damage"].items() if re.fullmatch(r"encoder/\d/\d", name)
    }
    assert [f"encoder/{layer}/{head}" for layer, head in ordered()] == sorted(lost, key=lambda name: -lost[name])


def test_no_effect_is_offered_that_nobody_measured(store: Callable[..., Path]) -> None:
    store("without.safetensors")
    app = open_page("Explore", section="overview")
    assert "effect" not in " ".join(app.selectbox("attention_order").options).lower()


def test_numbers_say_what_holds_of_local_and_global() -> None:
    app = open_page("Explore", section="numbers")
    said = next(one for one in texts(app, "markdown").splitlines() if "Mean attention distance in the encoder" in one)
    assert "median of 64 images" in said and "layer 2" in said and "For this checkpoint" in said
    assert len(charts(app)) == 6


def test_numbers_of_the_image_stay_where_measuring_test_images_was_stopped(store: Callable[..., Path]) -> None:
    path = store("other.safetensors", lambda model: model.encoder.norm.weight.mul_(1.01))
    app = open_page("Compare", checkpoint=path.name, section="numbers")
    app.session_state.work_stopped = {f"heads|{load_checkpoint(path).digest}|encoder"}
    app = go(app, "Explore")
    assert "Stopped. Nothing of it was kept." in texts(app, "caption") and "Bands" not in texts(app, "caption")
    assert len(charts(app)) == 6
    app.button("work_start_heads").click()
    run(app)
    assert "of 64 test images" in texts(app, "caption") and "median of 64 images" in texts(app, "markdown")


@pytest.mark.parametrize("page", ["Explore", "Ablation", "Compare", "Layers", "Latent space"])
def test_a_model_that_draws_no_numbers_is_told_in_a_sentence(store: Callable[..., Path], page: str) -> None:
    path = store("no_numbers.safetensors", blow_up)
    app = open_page(page, checkpoint=path.name)
    assert "the model draws no finite numbers" in texts(app, "error") and "exact" not in texts(app, "markdown", "info")


def test_a_head_that_is_clicked_is_ablated_and_undo_brings_it_back() -> None:
    app = open_page()
    assert component(app, "explorer_outcome")["ablated"] == [] and not component(app, "explorer_outcome")["can_undo"]
    losses = component(app, "explorer_losses")["losses"]
    assert set(losses) >= {
        f"{part}/{layer}/{head}" for part in ("encoder", "decoder") for layer in "012" for head in "0123"
    }
    plain = float(component(app, "explorer_outcome")["title"].removesuffix(" dB"))
    worst = max((name for name in losses if name[-1].isdecimal()), key=losses.__getitem__)
    act(app, "toggle", worst)
    found = component(app, "explorer_outcome")
    assert found["ablated"] == [worst] and app.query_params["changes"] == worst and found["can_undo"]
    told = re.fullmatch(r"([\d.]+) dB \(−([\d.]+)\)", found["title"])
    assert told and float(told[2]) == pytest.approx(losses[worst], abs=0.051)  # alone it costs what the bar says
    assert float(told[1]) == pytest.approx(plain - losses[worst], abs=0.11)
    assert found["changed"] != found["recon"] and "mean over 8 test images" in found["words"]
    assert f"**Before ablation: PSNR {plain:.1f} dB, " in texts(app, "success", "info", "warning")  # not what is shown
    act(app, "toggle", "encoder/1/attention")
    assert set(component(app, "explorer_outcome")["ablated"]) == {worst, "encoder/1/attention"}
    act(app, "undo")
    assert component(app, "explorer_outcome")["ablated"] == [worst]
    act(app, "toggle", worst)
    assert component(app, "explorer_outcome")["changed"] == ""
    act(app, "undo")
    act(app, "reset")
    assert "Before ablation" not in texts(app, "success", "info", "warning")
    assert component(app, "explorer_outcome")["ablated"] == [] and "changes" not in app.query_params
    act(app, "toggle", "encoder/7/<b>")  # not from our buttons
    assert component(app, "explorer_outcome")["ablated"] == []


def test_a_link_to_an_image_of_ones_own_says_that_it_cannot_travel_on_both_sides() -> None:
    app = open_page()
    assert component(app, "copy_link")["said"] == "Copied"
    app = drop(app, ("mine.png", image(3)))
    assert component(app, "copy_link")["said"] == "Copied, without your image"
    visitor = open_page(image=app.query_params["image"], checkpoint="upload-1")
    told = [one.value for one in visitor.main.warning]
    assert "**The image of this link is not here**" in "\n".join(told) and "This is a sample." in "\n".join(told)
    assert "**The checkpoint of this link is not here**" in "\n".join(told) and not visitor.sidebar.warning


def test_changes_of_a_link_that_do_not_fit_are_left_out_and_said() -> None:
    app = open_page(changes="encoder/9/0,encoder/0/1")
    assert "1 change is left out" in texts(app, "info")
    assert component(app, "explorer_outcome")["ablated"] == ["encoder/0/1"]


def test_where_a_model_fails_the_checkpoints_that_draw_better_are_offered_and_a_broken_one_is_passed_over(
    store: Callable[..., Path],
) -> None:
    def worsened(model: TransformerAutoencoder) -> None:
        model.decoder.norm.weight.mul_(0.3)  # type: ignore[union-attr, operator]

    plain = store("a plain one.safetensors", name="Plain")
    store("blown up.safetensors", blow_up, name="Blown up")
    percentiles = load_checkpoint(ROOT / "checkpoints" / DEMO).card.metrics["percentiles"]
    bad = store("worse.safetensors", worsened, name="Worse", metrics={"percentiles": percentiles})
    app = open_page(checkpoint=bad.name)
    offered = [button.label for button in app.button if str(button.key).startswith("explore_use_")]
    assert [label.split(":")[0] for label in offered] == ["Plain"]
    app.button(f"explore_use_{plain.name}").click()
    assert run(app).session_state.checkpoint == plain.name


def act(app: AppTest, do: str, name: str = "") -> None:
    """What the browser tells when somebody clicks in the head grid."""
    app.session_state["explorer_act"] = {"do": do, "name": name}
    run(app)


def test_questions_of_the_page_compare_set_both_sides() -> None:
    app = open_page("Compare")
    app.button("compare_Untrained_model").click()
    run(app)
    assert app.session_state.b_checkpoint == "twin" and app.session_state.layer == "average"
    assert "Correlation" in texts(app, "markdown")
    app.button("compare_First_last_layer").click()
    run(app)
    assert (app.session_state.layer, app.session_state.b_layer) == ("0", "2")


@pytest.mark.usefixtures("pages_are_remembered")
def test_the_map_on_display_is_compared_with_one_s_own_other_image_first() -> None:
    app = drop(open_page("Explore", layer="1", head="2"), *((f"{name}.png", image(at)) for at, name in enumerate("ab")))
    menu = app.menu_button("compare_with")
    assert menu.options[0] == r"Yours\: b\.png" and menu.options[-1].startswith(r"Checkpoint\: ")
    menu.click(("b_image", list(app.session_state.uploads)[1]))
    run(app)
    assert app.title[0].value == "Compare"
    view = {field: app.query_params[field] for field in ("layer", "head", "b_layer", "b_head", "b_image")}
    assert view.pop("b_image").startswith("upload-") and view == {
        **{"layer": "1", "head": "2"},
        **{"b_layer": "1", "b_head": "2"},
    }
    sides = [side["title"] for side in component(app, "explorer_pair")["sides"]]
    assert sides == ["a.png", "b.png"]


def test_a_map_agrees_with_itself() -> None:
    app = open_page("Compare", layer="1", b_layer="1", b_head="mean")
    assert "Correlation 1.00" in texts(app, "markdown") and "distance 0.00" in texts(app, "markdown")
    assert not charts(app)
    app.segmented_control("choose_similarity").set_value("charts")
    assert len(charts(run(app))) == 2 and app.query_params["similarity"] == "charts"


def test_grids_that_differ_are_shown_without_a_difference() -> None:
    app = open_page("Compare", b_checkpoint="drops_tiny_1280x152_p32.safetensors")
    assert "cannot be set against each other" in texts(app, "info") and "Correlation" not in texts(app, "markdown")


def test_uniform_attention_is_called_so(store: Callable[..., Path]) -> None:
    store("flat.safetensors", flatten)
    app = open_page("Explore")
    assert "practically uniform" in texts(app)
    store("trained.safetensors")
    app = open_page("Explore", checkpoint="trained.safetensors")
    assert app.session_state.checkpoint == "trained.safetensors" and "practically uniform" not in texts(app)


@pytest.mark.parametrize("page", ["Explore", "Compare"])
def test_attention_that_changes_nothing_is_called_so_above_every_view(page: str, store: Callable[..., Path]) -> None:
    def without_values(model: TransformerAutoencoder) -> None:
        for block in (*model.encoder.blocks, *model.decoder.blocks):
            block.attn.proj.weight.zero_()  # type: ignore[union-attr, operator]

    store("decoration.safetensors", without_values)
    app = open_page(page)
    assert app.warning and "costs" in app.warning[0].value


def test_dropped_files_are_read_and_the_broken_ones_are_named() -> None:
    app = drop(
        open_page(),
        ("broken.png", image(3)[:200]),
        ("good one.png", image(3)),
        ("pickle.npy", pickle.dumps({"a": 1})),
        ("empty.jpg", b""),
        ("misnamed.jpg", image(4)),
    )
    assert len(app.error) == 3
    assert {error.value.split("\\")[0] for error in app.error} == {"broken", "pickle", "empty"}
    assert len(app.session_state.uploads) == 2
    assert "good one" in app.selectbox("choose_image").options[0]
    (own, *_) = component(app, "shelf_images")["groups"]
    psnr = [float(item["figure"].removesuffix(" dB")) for item in own["items"]]
    assert own["title"] == "Yours, worst first" and psnr == sorted(psnr) and len(psnr) == 2
    later = drop(app, ("broken too.gif", b"GIF89a"))
    assert len(later.error) == 1 and len(later.session_state.uploads) == 2


def test_what_was_done_to_a_image_is_said() -> None:
    rgba = np.zeros((100, 300, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG")
    page = texts(drop(open_page(), ("wide.png", buffer.getvalue())), "caption")
    assert "300x100 pixels" in page
    assert "padded with white" in page and "transparency laid on white" in page


def test_many_images_come_as_a_grid_in_the_chosen_order_and_their_table_says_what_is_white(take) -> None:
    np.save(noise := io.BytesIO(), np.random.default_rng(0).integers(0, 4096, (201, 201), np.uint16))
    app = drop(open_page(), ("a.png", image(5)), ("noise.npy", noise.getvalue()), ("b.png", image(6)))
    app.segmented_control("reconstruct_view").set_value("all")
    run(app)
    order: dict[str, list[tuple[str, float]]] = {}
    for name in ("Worst first", "Best first", "By name"):
        next(box for box in app.selectbox if box.label == "Order").set_value(name)
        run(app)
        cells = [one.value for one in app.markdown if re.search(r"\*\*[\d.]+ dB\*\*$", one.value)]
        order[name] = [(cell.split("\\")[0], float(cell.split("**")[1].removesuffix(" dB"))) for cell in cells]
    worst = [psnr for _, psnr in order["Worst first"]]
    assert worst == sorted(worst) and order["Worst first"][0][0] == "noise"
    assert order["Best first"] == order["Worst first"][::-1]
    assert [name for name, _ in order["By name"]] == ["a", "b", "noise"]
    rows = {row["image"]: row["white"] for row in csv.DictReader(io.StringIO(take("Metrics (CSV)")[1].decode()))}
    assert rows["a.png"] == "" and "4095" in rows["noise.npy"]
    next(button for button in app.button if str(button.key).startswith("open_")).click()
    run(app)
    assert component(app, "explorer_outcome") and app.segmented_control("reconstruct_view").value == "one"


def test_unlike_anything_trained_on_is_called_a_failure() -> None:
    app = open_page(image="noise")
    assert re.search(r"worse than (all|9\d %) of the test images", app.warning[0].value)
    assert "unlike what the model was trained on" in app.warning[0].value


def test_verdict_agrees_with_the_percentiles_of_the_card() -> None:
    percentiles = load_checkpoint(ROOT / "checkpoints" / DEMO).card.metrics["percentiles"]["psnr"]
    for key in ("garment-30", "garment-84", "square-8"):
        app = open_page(image=key, section="quality")
        psnr = float(metrics(app)["PSNR"].removesuffix(" dB"))
        better = np.interp(psnr, percentiles, range(101))
        verdict = texts(app, "success", "info", "warning")
        said = re.search(r"(better|worse) than (\d+)%", verdict)
        assert said
        share = float(said[2]) if said[1] == "better" else 100 - float(said[2])
        assert abs(share - better) < 2.5  # the page shows one decimal of PSNR


def test_untrained_model_is_red_on_every_page_until_another_is_chosen() -> None:
    app = build_untrained(open_page())
    (built,) = app.session_state.untrained
    app.session_state.untrained = {built: very_small().config}  # every page draws it sooner
    for page in PAGES:
        go(app, page)
        assert "Untrained" in app.error[0].value
        assert ":red[**untrained**]" in texts(app, "caption")
    go(app, "Explore")
    assert "UNTRAINED MODEL" in component(app, "explorer")["notes"][0]["text"]
    app.selectbox("choose_checkpoint").set_value(DEMO)
    run(app)
    assert not app.error


def test_one_token_gets_a_notice_and_no_heatmap() -> None:
    app = go(build_untrained(open_page(), patch="none"), "Explore")
    assert "one token, the whole image" in app.info[0].value
    assert len(charts(app)) == 1 and len(app.metric) == 4  # the error


@pytest.mark.parametrize(
    ("size", "shown", "num_tokens"), [("1280x152", "1280x152", 800), ("Xx152 (any width)", "235x152", 150)]
)
def test_wide_models_show_drops(size: str, shown: str, num_tokens: int) -> None:
    app = go(build_untrained(open_page(), size=size), "Explore")
    assert f"{shown} pixels" in texts(app, "caption")
    rows, columns = component(app, "explorer")["sides"][0]["grid"]
    assert rows * columns == num_tokens and not charts(app)


def test_presets_table_holds_real_counts_beside_the_diagram_s_and_refuses_too_many_tokens_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The smallest and the largest: those between would be counted, planned and timed alike.
    monkeypatch.setattr("tae.ui.checkpoints.presets.PRESETS", {name: PRESETS[name] for name in ("tiny", "xlarge")})
    app = open_page("Models")
    app.segmented_control("models_view").set_value("Presets")
    run(app)
    table = app.dataframe[0].value.set_index("Preset")
    model = TransformerAutoencoder(PRESETS["tiny"])
    assert table.loc["tiny", "Parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert table.loc["xlarge", "Parameters"] == count(PRESETS["xlarge"]).parameters
    assert list(table["Diagram"]) == ["~0.5 M", "~128 M"]
    assert set(table["Time (s)"]) == {None}
    next(button for button in app.button if button.label.startswith("Measure the time")).click()
    assert min(run(app).dataframe[0].value["Time (s)"]) > 0
    app.number_input("models_width").set_value(4096)
    app.number_input("models_height").set_value(1024)
    app.selectbox("models_patch").set_value("8")
    run(app)
    assert "at most 16384 tokens" in app.error[0].value and not app.dataframe


def test_an_older_card_s_yardsticks_are_measured_when_asked_for(
    keep: Callable[..., TransformerAutoencoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tae.analysis.yardsticks.EXAMPLES", 20)
    keep(about={"data": DemoSource.data, "metrics": {"psnr": 9.0, "count": 4}})
    app = open_page("Models")
    assert "yardstick" not in texts(app, "warning", "success")
    app.button("work_start_yardsticks_small.safetensors").click()
    source = DemoSource((32, 32))
    found = Yardsticks(source.examples(20), 16).measure(source.test(4))
    assert verdict(9.0, found)[1] in texts(run(app), "warning", "success")


def test_a_brought_checkpoint_is_in_use_at_once() -> None:
    app = bring(open_page(), "mine.safetensors", (ROOT / "checkpoints" / DEMO).read_bytes())
    assert app.success[0].value == "mine\\.safetensors (Garments, square) is in use."
    assert "Explore it" in [one.proto.label for one in app.get("page_link")]
    assert str(app.selectbox("choose_checkpoint").value).startswith("upload-")
    assert component(go(app, "Explore"), "explorer_outcome")


class Malicious:
    def __reduce__(self) -> tuple:
        return (Path.touch, (MARKER,))


MARKER = Path(__file__).parent / "a-pickle-ran"


def test_brought_pickles_and_broken_files_are_refused_with_a_reason() -> None:
    buffer = io.BytesIO()
    torch.save({"a": Malicious()}, buffer)
    demo = (ROOT / "checkpoints" / DEMO).read_bytes()
    app = bring(open_page(), "evil-0.safetensors", pickle.dumps(Malicious()))
    for number, data in enumerate((pickle.dumps(Malicious()), buffer.getvalue(), demo[:5000], b"a checkpoint")):
        app.file_uploader[0].set_value((f"evil-{number}.safetensors", data, "application/octet-stream"))
        run(app)
        assert f"evil-{number}" in said_plainly(app, "error")
        assert not app.session_state.uploaded_models and not MARKER.exists()
        assert app.selectbox("choose_checkpoint").value == DEMO


def test_a_pickle_is_not_opened_and_the_command_that_converts_it_is_said(shelf: Path, keep) -> None:
    keep(about={"name": "A model"})
    (shelf / "old.ckpt").write_bytes(pickle.dumps(Malicious()))
    app = bring(open_page(), "best model.pth", pickle.dumps(Malicious()))
    assert "best model\\.pth is a pickle" in app.info[0].value and not MARKER.exists()
    assert app.code[0].value == "python -m tae.convert 'best model.pth'"
    app.segmented_control("models_view").set_value("Checkpoints")
    told = f"python -m tae.convert {shelf}/old.ckpt --out {shelf}/old.safetensors"
    assert told in [one.value for one in run(app).code]


def test_a_model_of_unknown_origin_says_so_and_is_not_called_random(shelf: Path, keep) -> None:
    keep(about={"name": "A model", "training": {"converted": {"from": "best.pth"}}})
    app = open_page("Explore")
    assert "Origin unknown" in texts(app, "warning") and not app.error
    assert "random weights" not in texts(app, "caption")


def test_without_any_checkpoint_the_app_says_what_to_do(shelf: Path) -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert "python -m tae.train" in app.error[0].value


def test_broken_checkpoint_is_listed_with_its_reason_and_never_hides_the_others(
    shelf: Path, keep: Callable[..., TransformerAutoencoder]
) -> None:
    keep(about={"name": "A model"})
    (shelf / "a broken.safetensors").write_bytes(b"nothing of the kind")
    for page in PAGES:
        app = open_page(page, checkpoint="a broken.safetensors")
        assert "a broken" in said_plainly(app, "error")
        assert "A model" in texts(app)
    assert str(shelf) not in texts(app)


def test_39_a_checkpoint_that_breaks_or_goes_while_it_is_shown_stays_as_it_was_loaded(
    shelf: Path, keep: Callable[..., TransformerAutoencoder]
) -> None:
    keep(about={"name": "Shown"}, seed=39)
    keep(file="other.safetensors", about={"name": "Other"})
    app = open_page("Models", checkpoint="small.safetensors")
    path = shelf / "small.safetensors"
    whole = path.read_bytes()
    for harm, said in (
        (lambda: os.truncate(path, 100), "small.safetensors: the file is cut short within its header"),
        (path.unlink, "small.safetensors: the file can no longer be read"),
    ):
        harm()
        run(app)
        assert f"{said}. The model stays as it was loaded before." in said_plainly(app, "warning")
        assert app.session_state["checkpoint"] == "small.safetensors" and "latent 16" in texts(app, "caption")
    newcomer = open_page("Models", checkpoint="small.safetensors")
    assert newcomer.session_state["checkpoint"] == "other.safetensors"
    path.write_bytes(whole)
    assert not run(app).warning


def test_what_is_broken_can_be_deleted_where_it_is_shown_by_who_may(
    shelf: Path, keep: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(about={"name": "A model"})
    for name in ("a broken.safetensors", "small.causal.json", "small.lens.safetensors"):
        (shelf / name).write_bytes(b"nothing of the kind")
    for page, name in (
        ("Models", "a broken.safetensors"),
        ("Explore", "small.causal.json"),
        ("Layers", "small.lens.safetensors"),
    ):
        app = open_page(page, checkpoint="small.safetensors")
        app.button(f"delete_{name}").click()
        run(app)
        assert not (shelf / name).exists() and f"delete_{name}" not in [button.key for button in app.button]
    (shelf / "small.lens.safetensors").symlink_to("small.lens.safetensors")  # to itself
    monkeypatch.setenv("TAE_MODE", "shared")
    app = open_page("Layers", checkpoint="small.safetensors")
    assert "cannot be read" in texts(app, "warning") and "delete_small.lens.safetensors" not in [
        one.key for one in app.button
    ]


def test_only_broken_checkpoints_are_named_one_by_one(shelf: Path) -> None:
    for name in ("one", "two"):
        (shelf / f"{name}.safetensors").write_bytes(b"nothing of the kind")
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    assert sorted(error.value.split("\\")[0] for error in app.error) == ["one", "two"]


def test_names_from_strangers_show_as_they_stand(keep: Callable[..., TransformerAutoencoder]) -> None:
    keep(about={"name": HOSTILE, "data": HOSTILE, "licence": HOSTILE, "notes": HOSTILE})
    for page in PAGES:
        app = open_page(page)
        if page == "Explore":
            drop(app, (f"{HOSTILE}.png", image(3)), (f"{HOSTILE}2.png", b"broken"))
        assert_harmless(texts(app))
        assert page not in ("Explore", "Models") or "onerror" in texts(app)  # it is there, only harmless


def test_card_of_a_checkpoint_is_shown(store: Callable[..., Path]) -> None:
    store(
        "carded.safetensors",
        name="My shoes",
        data="My own photographs",
        licence="CC0",
        training={
            **{"steps": 1700, "batch_size": 4, "seed": 5, "command": "python -m tae.train tiny --steps 17"},
            "curve": [{"step": 10, "loss": 0.5, "held_out_psnr": 14.5}],
        },
        metrics={"psnr": 21.25, "ssim": 0.5, "split": "test", "count": 9},
    )
    app = open_page("Models")
    page = said_plainly(app)
    for part in ("My shoes", "My own photographs", "CC0", "1,700 steps of 4 images", "9 images, test split"):
        assert part in page
    assert [code.value for code in app.code] == ["python -m tae.train tiny --steps 17"]
    (row,) = app.dataframe[0].value.to_dict("records")
    assert (row["Checkpoint"], row["Test PSNR (dB)"], list(row["Held-out PSNR over training"])) == (
        "My shoes",
        21.25,
        [14.5],
    )
    assert metrics(app)["Test PSNR"] == "21.25 dB" and metrics(app)["R²"] == "–"


def test_a_card_s_command_is_one_line_for_a_shell() -> None:
    told = (
        "tae train --steps 9 (to step 6), then tae train --init-from a.safetensors (to step 8), then tae train --resume"
    )
    assert to_paste(told, 11) == ("tae train --steps 11", ["6", "8"])
    assert to_paste("tae train && tae train --resume", 9) == ("tae train && tae train --resume", [])
    for listed in list_checkpoints(ROOT / "checkpoints"):
        assert listed.card is not None
        command, _ = to_paste(listed.card.command, listed.card.training["steps"])
        for leg in command.split(" && "):
            program, *words = shlex.split(leg)[1:]
            assert program == "-m" and words[0] == "tae.train"
            read(TrainConfig, words[1:], "")  # every flag is one that the program takes


@pytest.mark.parametrize("unseen", [True, False])
def test_figures_by_group_of_a_card_are_drawn(unseen: bool, store: Callable[..., Path]) -> None:
    other = [{"group": "500-599", "psnr": 15.5, "count": 8, "unseen": unseen}]
    store("crops.safetensors", training={"steps": 1}, metrics={"by_width": other})
    app = open_page("Models")
    drawn = {chart["layout"]["xaxis"]["title"]["text"] for chart in charts(app)}
    assert drawn == {"Width (pixels)"}
    assert ("Open points" in texts(app)) == unseen


def test_68_sessions_do_not_see_each_other_s_images_whatever_they_are_called(keep: Callable) -> None:
    keep()
    first, second = open_page(), open_page()
    drop(first, ("mine.png", image(3)))
    before = copy.deepcopy(dict(second.session_state.uploads))
    run(second)
    assert second.session_state.uploads == before == {}
    assert len(first.session_state.uploads) == 1
    drop(second, ("mine.png", image(4)))
    run(first)
    for app, index in ((first, 3), (second, 4)):
        ((chosen, _),) = app.session_state.uploads.values()
        np.testing.assert_array_equal(chosen.image.original, compose_square("test", index))


def test_40_a_checkpoint_is_known_by_its_content_not_by_its_name_or_time(
    shelf: Path, keep: Callable[..., TransformerAutoencoder]
) -> None:
    def shown(app: AppTest, name: str) -> str:
        return app.session_state["models_in_use"][name]

    keep(seed=40)
    app = open_page("Models", checkpoint="small.safetensors")
    path = shelf / "small.safetensors"
    before, status = shown(app, path.name), path.stat()
    (shelf / "twin.safetensors").write_bytes(path.read_bytes())
    app.session_state["checkpoint"] = "twin.safetensors"
    assert shown(run(app), "twin.safetensors") == before
    keep(seed=41)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    app.session_state["checkpoint"] = "small.safetensors"
    assert shown(run(app), path.name) == hashlib.sha256(path.read_bytes()).hexdigest() != before


def test_77_maps_that_would_fill_the_memory_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = "tae.ui.attention.measure.MAX_MAP_BYTES"
    monkeypatch.setattr(limit, 4 * 169**2 * 4)  # three layers and their average just fit
    app = open_page("Explore", layer="0")
    assert not app.error and component(app, "explorer")
    monkeypatch.setattr(limit, 4 * 169**2 * 4 - 1)
    app = open_page("Explore")
    assert "169 patches, would take 0.00046 GB" in app.error[0].value
    assert "explorer" not in " ".join(one.proto.id for one in app.get("bidi_component"))  # type: ignore[attr-defined]


def test_an_old_address_of_attention_opens_its_view_on_explore() -> None:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params.update({"checkpoint": DEMO, "layer": "1", "head": "2"})
    app.switch_page("pages/attention.py")
    assert [title.value for title in run(app).title] == ["Explore"]
    assert (app.session_state.layer, app.session_state.head) == ("1", "2")
