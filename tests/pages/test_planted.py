"""Models of which the truth is known by construction, told apart by command line and pages, as a stranger would learn of them."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from torch import Tensor

import tae.causal as door
from tae.analysis.causal.occlusion import COVERS, cover_of, to_tiles
from tae.analysis.causal.predictors import spearman
from tae.analysis.causal.study import Study, read_study
from tae.data.demo import DemoSource
from tae.data.gallery import gallery
from tae.model.autoencoder import TransformerAutoencoder
from tae.store.checkpoint import load_checkpoint, save_checkpoint
from tae.store.names import escape_markdown
from tests.analysis.reference import draw
from tests.pages import card, charts, drop, go, metrics, numbers, open_page, run, tables, texts
from tests.planted import FEEDER, NEEDED, READ, ink_meter, one_patch, one_picture

FILE = "planted.safetensors"
pytestmark = pytest.mark.slow


@pytest.fixture
def study_of(shelf: Path, tmp_path: Path) -> Callable[[TransformerAutoencoder, Tensor], Study]:
    """What the command finds out of images (B, 1, H, W); model and study lie on the shelf, images in a folder beside it."""

    def made(model: TransformerAutoencoder, images: Tensor) -> Study:
        path = save_checkpoint(shelf / FILE, model.float(), card(name="Planted", data=DemoSource.data))
        (tmp_path / "images").mkdir()
        for number, image in enumerate(images[:, 0].numpy()):
            Image.fromarray((image * 255).round().astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        words = ["--checkpoint", path, "--images", tmp_path / "images", "--baseline", "zero"]
        assert door.main([str(word) for word in words]) == 0
        return read_study(path.with_suffix(".causal.json"), load_checkpoint(path).digest)

    return made


def with_image(tmp_path: Path, page: str, **link: str) -> AppTest:
    """A page with the first of the study's images."""
    app = open_page("Explore", checkpoint=FILE)
    drop(app, ("0.png", (tmp_path / "images" / "0.png").read_bytes()))
    for name, value in link.items():
        app.session_state[name] = value
    return go(app, page)


def effect_by_cover(app: AppTest, cover: str) -> np.ndarray:
    """(N,) that the page draws, nan where a patch was not covered."""
    app.segmented_control("choose_cover").set_value(cover)
    return np.array(numbers(charts(run(app))[0]["data"][0]["z"]), float).ravel()


@pytest.mark.parametrize(("same_values", "kind"), [(False, "input-independent"), (True, "not needed")])
def test_attention_that_nothing_depends_on_is_named_and_its_head_found(
    same_values: bool, kind: str, small_model: Callable, study_of: Callable, tmp_path: Path
) -> None:
    model = small_model()
    picture = one_picture(model, same_values)
    study = study_of(model, (picture + 0.01 * torch.cat([draw(seed=seed) for seed in range(6)])).clamp(0, 1))
    assert study.verdict("decoder").kind == kind and kind in study.verdict("decoder").sentence
    lost = {name: study.median_damage(name) for name in study.damage if name.startswith("decoder")}
    assert lost.pop(NEEDED.name) > 3 and lost.pop("decoder/0/attention") > 3
    assert max(map(abs, lost.values())) < 1e-3

    assert f"is {escape_markdown(kind)}" in texts(with_image(tmp_path, "Explore", part="decoder"), "warning")
    app = with_image(tmp_path, "Ablation", baseline="zero", causal="ranking")
    assert float(metrics(app)["Most important head: decoder 0.2"].strip("−dB ")) > 3
    bars = {}
    for trace in charts(app)[0]["data"]:
        if trace["type"] == "bar":
            bars |= dict(zip(trace["y"], numbers(trace["x"]), strict=True))
    assert bars.pop("decoder 0, head 2") < -3 and max(map(abs, bars.values())) < 1e-3
    app.session_state.causal = "needed"
    run(app)
    assert re.search(rf"\*\*Decoder\*\*: [^\n]*{kind}", texts(app, "markdown"))
    helps = "\n".join(one.proto.help for one in (*app.markdown, *app.caption)).replace("\\", "")
    assert helps.count(f"the attention of the decoder is {kind}") == 2  # of this image, and over the test set
    app.session_state.causal = "pair"
    assert "there is no way between them" in texts(run(app), "info")


def test_a_true_sink_and_the_head_that_feeds_it_are_found_and_their_effect_under_each_cover(
    small_model: Callable, study_of: Callable, tmp_path: Path
) -> None:
    model = small_model()
    one_patch(model)
    study = study_of(model, torch.cat([draw(seed=seed) for seed in range(6)]))
    counts = {FEEDER.name, "encoder/0/attention"}
    heads = {name for name in study.damage if name.startswith("encoder") and study.damage[name]["mse_gained"][2]}
    assert {name for name in heads if abs(study.median_damage(name, "mse_gained")) > 1e-6} == counts
    assert study.covers.keys() == COVERS.keys()
    assert all(one["overlap"]["received attention, average"]["value"] == 1 for one in study.covers.values())
    over_pairs = {name: one["value"] for name, one in study.pairs["share"].items()}
    assert {name for name, share in over_pairs.items() if name.startswith("encoder") and abs(share) > 1e-3} == counts

    app = with_image(tmp_path, "Explore", layer="0", head="2")
    (badge,) = (one for one in app.markdown if "1 sink patch takes 100% of all weight" in one.value)
    assert re.search(r"row 1 column 2 \(value vector [\d.]+ x, token [\d.]+ x as long as the median", badge.help)
    app = with_image(tmp_path, "Ablation", baseline="zero", causal="effect")
    for cover in COVERS:
        effect = effect_by_cover(app, cover)
        assert effect.argmax() == READ and effect.sum() - effect[READ] < 1e-4 * effect[READ]
        scores = {row["predictor"]: row["top tenth shared (95%)"] for row in tables(app)[0]}
        assert scores["received attention, average"].startswith("1.00")
    app.session_state.causal, app.session_state.into = "pair", "b"
    run(app)
    shares = np.array(numbers(charts(app)[0]["data"][0]["z"])).reshape(4, 6)  # two layers each; four heads, all, MLP
    assert set(zip(*np.nonzero(np.abs(shares[:2]) > 1e-3), strict=True)) == {(0, 2), (0, 4)}
    np.testing.assert_allclose(numbers(charts(app)[3]["data"][0]["z"]), [*over_pairs.values()])
    assert "Over test images (images of images; mean over 3 pairs, both ways, 95% intervals)" in texts(app, "caption")
    app = open_page("Layers", checkpoint=FILE, depths="heads", card=FEEDER.name)
    assert {"fixed", "sink"} <= {one.value.split("[")[1].strip("]") for one in app.markdown if "badge[" in one.value}
    assert metrics(app)["On sinks"] == "100%"
    (attribution,) = (one for one in app.metric if one.label == "Attribution")
    assert f"mean over 3 pairs, both ways, 95% intervals: {100 * over_pairs[FEEDER.name]:.0f}%" in attribution.help


def test_a_model_that_measures_ink_has_the_effect_that_each_cover_s_own_change_of_ink_tells(
    small_model: Callable, study_of: Callable, tmp_path: Path
) -> None:
    model = small_model()
    ink_meter(model)
    images = (torch.cat([draw(seed=seed) for seed in range(6)]) * 255).round() / 255

    def ink(image: Tensor) -> Tensor:
        return to_tiles(1 - image, model.config).mean(dim=1)

    def known(image: Tensor, cover: str, another: Tensor, mean: Tensor) -> Tensor:
        """(N,) the effect of each patch, but for a factor."""
        name = {"white": 1.0, "another": another, "mean image": mean}.get(cover, cover)
        return (ink(cover_of(image, name, model.config)) - ink(image)) ** 2

    study = study_of(model, images)
    assert {study.verdict(part).kind for part in ("encoder", "decoder")} == {"not needed"}
    app = with_image(tmp_path, "Ablation", causal="effect")
    another = torch.from_numpy(gallery((24, 32))[app.session_state.other].load() / np.float32(255))[None, None]
    of_tests = DemoSource((24, 32)).test_at(32, 8).mean(dim=0, keepdim=True)
    for cover in COVERS:
        told = []
        for number, image in enumerate(images.split(1)):
            others = images.roll(-1 - number, 0)[:5]
            told.append(spearman(ink(image), known(image, cover, others[:1], others.mean(dim=0, keepdim=True))))
        assert study.covers[cover]["spearman"]["darkness of the patch"]["value"] == pytest.approx(
            np.mean(told), abs=0.005
        )
        expected, effect = known(images[:1], cover, another, of_tests), effect_by_cover(app, cover)
        np.testing.assert_allclose(effect / effect.sum(), expected / expected.sum(), rtol=0.02, atol=1e-4)
        scores = {row["predictor"]: row["Spearman (95%)"] for row in tables(app)[0]}
        assert scores["darkness of the patch"].startswith(f"{spearman(ink(images[:1]), expected):z.2f} (")
