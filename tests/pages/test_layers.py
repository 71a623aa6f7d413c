"""The page Layers without a browser: its images and numbers are the lens's own, and it says when they mislead."""

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae.analysis.cka import cka
from tae.analysis.features import cosine_similarity, read_features
from tae.analysis.kinds import heads_over, received_over
from tae.analysis.lens import lens_path, load_lens, look
from tae.data.built_in import source_for
from tae.data.demo import DemoSource
from tae.data.encode import encode_png
from tae.data.fit import fit_image
from tae.data.gallery import gallery
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.store.checkpoint import load_checkpoint, save_checkpoint
from tae.training.config import TrainConfig
from tae.training.run import runs
from tae.ui.layers import alike, heads, patches
from tae.ui.layers.measure import Seen
from tae.ui.layers.strips import words
from tests import ROOT
from tests.pages import (
    DEMO,
    HOSTILE,
    assert_harmless,
    blow_up,
    bring,
    card,
    charts,
    component,
    go,
    metrics,
    numbers,
    open_page,
    run,
    said_plainly,
    texts,
    very_small,
)

PAGE = "Layers"
TWO_LAYERS: dict = {"seed": 1, "spread": 0, "encoder_layers": 2}
RUN = "0123456789abcdef"
"""Id of the run of the checkpoint and its snapshots."""


@pytest.fixture
def path(keep: Callable[..., TransformerAutoencoder], shelf: Path) -> Path:
    """A very small model among the checkpoints."""
    keep(**TWO_LAYERS, about={"training": {"steps": 1, "run": RUN}})
    return shelf / "small.safetensors"


def decibels(chart: dict) -> list[float]:
    return [float(re.findall(r"(-?[\d.]+) dB", note["text"])[0]) for note in chart["layout"]["annotations"]]


@pytest.mark.parametrize("way", ["tuned", "raw"])
def test_strips_and_curves_are_what_the_lens_gives_also_as_files(way: str, take: Callable) -> None:
    app = open_page(PAGE, image="garment-30", lens=way)
    loaded = load_checkpoint(ROOT / "checkpoints" / DEMO)
    lens = load_lens(lens_path(ROOT / "checkpoints" / DEMO), loaded.model.config, loaded.digest)
    image = torch.from_numpy(gallery((201, 201))["garment-30"].load() / np.float32(255))[None, None]
    drawn = charts(app)
    with np.load(io.BytesIO(take("Images (NPZ)")[1])) as loaded_arrays:
        arrays = dict(loaded_arrays)
    assert "UNTRAINED" not in str(arrays["caption"]) and f"Encoder · {way}" in str(arrays["caption"])
    rows = list(csv.DictReader(io.StringIO(take("PSNR by depth (CSV)")[1].decode())))
    assert loaded.digest[:16].encode() in take("Report (HTML)")[1]
    assert len(rows) == 16 and Image.open(io.BytesIO(take("Strips (PNG)")[1])).size[0] > 1000
    unusual = 0
    for number, part in enumerate(PARTS):
        view = look(loaded.model, image, part, lens, tuned=way == "tuned")
        np.testing.assert_allclose(decibels(drawn[number]), view.psnr[:, 0], atol=0.051)
        np.testing.assert_allclose(arrays[f"{part}_{way}"], view.recons[:, 0, 0].clamp(0, 1), atol=1e-5)
        told = [float(row["psnr_db"]) for row in rows if (row["part"], row["lens"]) == (part, way)]
        np.testing.assert_allclose(told, view.psnr[:, 0], atol=1e-3)
        assert view.is_unusual is not None
        unusual += int(view.is_unusual.sum())
        curves = {trace["name"]: trace["y"] for trace in drawn[2 + number]["data"]}
        assert set(curves) == {"raw", "tuned", "raw, mean of test images", "tuned, mean of test images"}
    warnings = [one.value for one in app.warning]
    assert (len(warnings), unusual > 0) == ((1, True) if way == "raw" else (0, False))
    if warnings:
        assert f"Framed: {unusual} of 8 states" in warnings[0]
    assert app.segmented_control("choose_lens").value == way


def test_sentence_names_the_layer_that_adds_most() -> None:
    app = open_page(PAGE, lens="raw")
    found = decibels(charts(app)[0])
    said = next(one.value for one in app.markdown if one.value.startswith("**Encoder**:"))
    assert (
        f"layer {int(np.diff(found).argmax())} adds most" in said
        and f"{found[0]:.1f} dB before its first layer" in said
    )


def test_status_says_which_states_these_are() -> None:
    page = texts(open_page(PAGE), "caption", "markdown")
    for said in ("Decoder · tuned · latent 128", "out of distribution above", "fitted on 4000 training images"):
        assert said in page


def has_choice(app: AppTest) -> bool:
    """Whether raw or tuned can be chosen."""
    return "choose_lens" in [one.key for one in app.segmented_control]


def test_checkpoint_without_a_lens_shows_raw_images_and_a_click_fits_one(path: Path) -> None:
    app = open_page(PAGE)
    assert "No lens has been fitted" in texts(app, "info") and not has_choice(app)
    assert [len(chart["data"]) for chart in charts(app)[2:]] == [1, 1]
    app.button("work_start_lens").click()
    run(app)
    loaded = load_checkpoint(path)
    lens = load_lens(lens_path(path), loaded.model.config, loaded.digest)
    assert lens.about["train_images"] == 4000
    assert "No lens" not in texts(app, "info")
    run(app)
    assert app.segmented_control("choose_lens").value == "tuned" and "No lens" not in texts(app, "info")


def test_uploaded_checkpoint_gets_its_lens_without_a_file(
    path: Path, keep: Callable[..., TransformerAutoencoder]
) -> None:
    keep(file="other.safetensors", latent_dim=32)
    other = path.with_name("other.safetensors")
    data = other.read_bytes()
    other.unlink()
    app = go(bring(open_page(), other.name, data), PAGE)
    app.session_state.checkpoint = next(iter(app.session_state.uploaded_models))
    run(app)
    app.button("work_start_lens").click()
    run(app)
    assert not app.error and app.segmented_control("choose_lens").value == "tuned"
    assert not list(path.parent.glob("*.lens.*"))


def test_lens_is_fitted_on_the_images_of_the_run_or_the_page_says_that_it_is_not(
    keep: Callable[..., TransformerAutoencoder], path: Path, tmp_path: Path
) -> None:
    keep(about={"data": "Photographs of trees", "training": {"steps": 1, "run": RUN}})
    said = texts(open_page(PAGE), "info")
    assert "Fitting takes images that come with the package" in said and "--data <your images>" in said
    folder = runs.folder_of(path)
    folder.mkdir(parents=True)
    runs.write_config(folder, TrainConfig(data=str(tmp_path / "gone"), out=path))
    app = open_page(PAGE)
    assert "the images of its training" in texts(app, "info")
    app.button("work_start_lens").click()
    run(app)
    assert "No lens could be fitted" in app.error[0].value and not lens_path(path).exists()


def test_damaged_lens_is_a_sentence_and_images_are_raw(path: Path) -> None:
    lens_path(path).write_bytes(b"no lens")
    app = open_page(PAGE)
    assert lens_path(path).name.replace(".", "\\.") in app.warning[0].value
    assert not has_choice(app) and len(charts(app)) == 4
    assert "work_start_lens" not in [button.key for button in app.button]


def test_one_token_model_has_layers_too(keep: Callable[..., TransformerAutoencoder]) -> None:
    keep(**TWO_LAYERS, patch_size=None)
    app = open_page(PAGE)
    assert [len(decibels(chart)) for chart in charts(app)[:2]] == [3, 2]
    assert "no layer adds anything" in texts(app, "markdown")  # it never learnt


def test_untrained_model_is_called_so_and_offers_no_lens() -> None:
    app = open_page(PAGE)
    app.session_state.untrained = {"untrained-x": very_small().config}
    app.session_state.checkpoint = "untrained-x"
    run(app)
    assert "UNTRAINED MODEL" in texts(app, "caption") and not app.info
    assert "Untrained" in texts(app, "error")


def test_held_out_images_of_the_training_are_shown_as_such(path: Path) -> None:
    assert not open_page(PAGE).select_slider
    folder = runs.folder_of(path) / "strips"
    folder.mkdir(parents=True)
    for step in (20, 100, 300):
        (folder / f"{step:08}.png").write_bytes(encode_png(np.full((16, 16), step % 256, np.uint8)))
    app = open_page(PAGE, depths="training")
    assert app.select_slider[0].options == ["20", "100", "300"] and app.select_slider[0].value == "300"
    said = texts(app, "caption")
    assert "Not your image" in said and "after step 300" in said
    app = open_page(PAGE, depths="training", moment="100")
    assert "after step 100" in texts(app, "caption") and app.query_params["moment"] == "100"


def snapshot(
    path: Path,
    step: int,
    of_run: str = RUN,
    change: Callable[[TransformerAutoencoder], None] | None = None,
    **fields: object,
) -> Path:
    """A snapshot of the checkpoint's run: another very small model, in place of what a training would keep."""
    folder = runs.folder_of(path) / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    model = very_small(**{**TWO_LAYERS, "seed": step, **fields})
    if change:
        with torch.no_grad():
            change(model)
    notes = f"A snapshot on the way, after {step} steps of run {of_run}."
    about = card(training={"steps": step}, notes=notes)
    return save_checkpoint(folder / f"{step:08}.safetensors", model, about)


@pytest.fixture
def trained(keep: Callable[..., TransformerAutoencoder], path: Path) -> Path:
    """A checkpoint after 300 steps whose run kept snapshots after 0, 20 and 100."""
    keep(**TWO_LAYERS, about={"training": {"steps": 300, "run": RUN}})
    for step in (0, 20, 100):
        snapshot(path, step)
    return path


def psnr_by(path: Path, image: str = "garment-30") -> dict[str, np.ndarray]:
    """{part: PSNR by depth} of an image by a checkpoint file."""
    model = load_checkpoint(path).model
    shown = torch.from_numpy(fit_image(gallery((32, 32))[image].load() / np.float32(255), (32, 32)).pixels)[None, None]
    return {part: look(model, shown, part).psnr[:, 0].numpy() for part in PARTS}


def test_slider_through_training_draws_by_the_weights_of_that_step(trained: Path) -> None:
    app = open_page(PAGE, depths="training", image="garment-30")
    slider = app.select_slider("choose_moment")
    assert slider.options == ["0", "20", "100", "300 (the checkpoint)"] and slider.value == "end"
    slider.set_value("20")
    run(app)
    assert app.query_params["moment"] == "20"
    files = [*runs.snapshots(runs.folder_of(trained)), trained]
    encoder, decoder, course = charts(app)
    for chart, part in ((encoder, "encoder"), (decoder, "decoder")):
        np.testing.assert_allclose(decibels(chart), psnr_by(files[1])[part], atol=0.051)
    last = [float(psnr_by(file)["decoder"][-1]) for file in files]
    curve, ring = course["data"]
    assert curve["x"] == [0, 20, 100, 300] and ring["x"] == [20]
    np.testing.assert_allclose(numbers(curve["y"]), last, atol=1e-4)
    said = texts(app, "markdown")
    assert "without a lens" in texts(app, "caption") and f"{last[0]:.1f}" in said and f"{last[-1]:.1f}" in said
    assert not app.warning and "Not your image" not in texts(app, "caption")


def test_snapshots_that_came_with_a_checkpoint_lie_beside_it(trained: Path) -> None:
    (runs.folder_of(trained) / "snapshots").rename(trained.with_suffix(".snapshots"))
    app = open_page(PAGE, depths="training", image="garment-30", moment="20")
    assert app.select_slider("choose_moment").options == ["0", "20", "100", "300 (the checkpoint)"]
    assert app.query_params["moment"] == "20" and not app.warning


def test_weights_from_before_the_first_step_are_called_untrained(trained: Path) -> None:
    app = open_page(PAGE, depths="training", moment="0")
    assert "random weights that the training began with" in texts(app, "error")
    assert "UNTRAINED" in texts(app, "caption")
    assert "random weights" not in texts(open_page(PAGE, depths="training", moment="20"), "error")
    assert open_page(PAGE, depths="training", moment="21").session_state.moment == "end"


def test_snapshots_of_another_training_are_not_taken_for_the_checkpoint_s(trained: Path) -> None:
    snapshot(trained, 20, of_run="fedcba9876543210")
    app = open_page(PAGE, depths="training", image="garment-30")
    app.select_slider("choose_moment").set_value("20")
    run(app)
    assert "it is a snapshot of another training" in said_plainly(app)


def test_refused_snapshots_say_why_and_break_nothing(trained: Path) -> None:
    (runs.folder_of(trained) / "snapshots" / "00000005.safetensors").write_bytes(b"no checkpoint")
    damaged = snapshot(trained, 20)
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    snapshot(trained, 100, latent_dim=32)
    (runs.folder_of(trained) / "snapshots" / "00000150.safetensors").symlink_to(ROOT / "checkpoints" / DEMO)
    for moment, reason in (
        ("5", "00000005"),
        ("20", "does not have the SHA-256"),
        ("100", "it is a snapshot of another model"),
    ):
        app = open_page(PAGE, depths="training", image="garment-30", moment=moment)
        assert reason in said_plainly(app, "warning") and app.session_state.moment == moment
        said = texts(app, "markdown")
        assert "3 of 5 are left out" in said
    assert (
        app.select_slider("choose_moment").options[1] == "5 (cannot be read)"
    )  # the link out of the folder is no file


def test_a_snapshot_of_a_training_that_ran_away_draws_nothing_and_says_so(trained: Path) -> None:
    snapshot(trained, 20, change=blow_up)
    app = open_page(PAGE, depths="training", moment="20")
    assert "draw no finite numbers" in texts(app, "warning") and "nan" not in texts(app)


def seen(*psnr: float) -> Seen:
    images = np.zeros((len(psnr), 2, 2))
    return Seen("encoder", [f"layer {number}" for number in range(len(psnr))], images, list(psnr), None, [])


def test_a_layer_that_takes_away_is_not_said_to_add_nothing() -> None:
    assert words(seen(20, 21, 23, 22.5)).endswith("layer 1 adds most (+2.0 dB).")
    assert words(seen(20, 19, 16, 15.5)).endswith("no layer adds anything, and layer 1 takes most away (−3.0 dB).")
    assert words(seen(20, 20.01, 20)).endswith("no layer adds anything.")


def test_words_of_strangers_stay_words(keep: Callable[..., TransformerAutoencoder]) -> None:
    keep(about={"data": HOSTILE})
    app = open_page(PAGE)
    assert_harmless(texts(app))


def test_patch_features_are_those_of_the_model(take: Callable[[str], tuple[str, bytes]]) -> None:
    app = open_page("Layers", depths="patches", image="garment-42", query="5")
    assert app.query_params["depths"] == "patches" and app.query_params["query"] == "5"
    given = component(app, "layers_features")
    assert given["token"] == 5 and [part["count"] for part in given["parts"]] == [4, 4]
    model = load_checkpoint(ROOT / "checkpoints" / DEMO).model
    batch = torch.from_numpy(np.array(fit_image(gallery((201, 201))["garment-42"].load() / 255, (201, 201)).pixels))
    last = read_features(model, batch[None, None].float(), "decoder")[-1]
    expected = cosine_similarity(last)
    found = np.frombuffer(base64.b64decode(given["depths"][-1]["similar"]), np.uint8).reshape(169, 169) / 127.5 - 1
    np.testing.assert_allclose(found, expected, atol=1 / 127)
    with np.load(io.BytesIO(take("Patch features (NPZ)")[1])) as arrays:
        np.testing.assert_allclose(arrays["decoder_features"][-1], last, atol=1e-4)
    assert take("Patch features (SVG)")[1].startswith(b"<?xml") and "fitted on this image" in texts(app, "caption")


def test_patch_features_need_patches_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "MAX_BYTES", 1000)
    app = open_page("Layers", depths="patches", query="x")
    assert "too many to point at" in texts(app, "info") and not app.get("bidi_component")[1:]


def test_states_are_compared_as_the_package_does(path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable) -> None:
    monkeypatch.setattr(alike, "IMAGES", 8)
    app = open_page(PAGE, depths="alike", tokens="mean")
    loaded = load_checkpoint(path)
    found = cka(loaded.model, source_for(loaded.model.config, DemoSource.data).test_at(32, 8))["mean"]
    (figure,) = charts(app)
    np.testing.assert_allclose(numbers(figure["data"][0]["z"]), found.value.astype(np.float32).ravel(), atol=1e-5)
    assert "of 8 test images" in texts(app, "caption") and app.segmented_control("choose_tokens").value == "mean"
    rows = list(csv.DictReader(io.StringIO(take("CKA (CSV)")[1].decode())))
    assert len(rows) == len(found.names) ** 2 and float(rows[1]["cka"]) == pytest.approx(found.value[0, 1], abs=1e-5)
    assert Image.open(io.BytesIO(take("CKA (PNG)")[1])).size[0] > 400


def test_heads_are_compared_and_a_card_tells_of_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable
) -> None:
    monkeypatch.setattr(heads, "IMAGES", 6)
    app = open_page(PAGE, depths="heads", card="decoder/0/2", asked="one", query="5")
    loaded = load_checkpoint(path)
    images = source_for(loaded.model.config, DemoSource.data).test_at(32, 6)
    table = heads_over(loaded.model, images)
    number = [head.name for head in table.heads].index("decoder/0/2")
    of_all, of_one = charts(app)
    apart = np.array(numbers(of_all["data"][2]["z"])).reshape(table.distance.shape)
    np.testing.assert_allclose(np.sort(apart, axis=None), np.sort(table.distance, axis=None), atol=1e-5)
    shown = metrics(app)
    assert shown["Entropy"] == f"{table.numbers['entropy'][number]:.2f}" and shown["PSNR without it"] == "not measured"
    maps = received_over(loaded.model, images, table.heads[number], 5)
    np.testing.assert_allclose(numbers(of_one["data"][1]["z"]), maps[1], rtol=1e-4)
    assert "query patch 5" in texts(app, "caption")
    rows = list(csv.DictReader(io.StringIO(take("Heads (CSV)")[1].decode())))
    assert [row["kind"] for row in rows] == [", ".join(table.kinds_of(one)) for one in range(len(table.heads))]
    assert Image.open(io.BytesIO(take("Heads (PNG)")[1])).size[0] > 400
