"""The page Latent space without a browser: its points, neighbours, ways and figures are the package's; links restore it."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae.analysis import latent
from tae.data.demo import DemoSource
from tae.data.drops import DropSource
from tae.data.drops.frame import draw_frame
from tae.data.encode import encode_png, to_uint8
from tae.data.fit import fit_image
from tae.data.gallery import gallery
from tae.model.autoencoder import TransformerAutoencoder
from tae.ui.latent import measure
from tae.ui.session import work
from tae.ui.session.cache import Store
from tests.pages import (
    COUNT,
    HOSTILE,
    assert_harmless,
    bring,
    charts,
    drop,
    go,
    metrics,
    numbers,
    open_page,
    run,
    texts,
)

PAGE = "Latent space"


def embedded(model: TransformerAutoencoder) -> np.ndarray:
    """(COUNT, D) of the test set."""
    source = DemoSource(model.config.input_size, model.config.max_width)
    return latent.embed_images(model, source.test(COUNT))


def seen(model: TransformerAutoencoder, key: str) -> np.ndarray:
    """(D,) of a sample as the model sees it."""
    pixels = gallery(model.config.input_size)[key].load()
    grey = pixels if pixels.ndim == 2 else np.round(pixels @ np.array([0.299, 0.587, 0.114]))
    fitted = fit_image((grey / 255).astype(np.float32), (32, 32)).pixels
    return latent.embed_images(model, [np.round(fitted * 255).astype(np.uint8)])[0]


def points(figure: dict) -> dict[int, list[float]]:
    """{number: place}."""
    placed: dict[int, list[float]] = {}
    for trace in figure["data"]:
        if "customdata" in trace:
            found = (numbers(trace[name]) for name in ("customdata", "x", "y"))
            placed |= {int(number): place for number, *place in zip(*found, strict=True)}
    return placed


def test_points_of_the_map_are_the_principal_components_of_the_test_set(keep: Callable) -> None:
    model = keep()
    app = open_page(PAGE, image="square-39")
    placed = points(charts(app)[0])
    expected = latent.map_pca(embedded(model))
    assert sorted(placed) == list(range(COUNT + 1))
    np.testing.assert_allclose([placed[number] for number in range(COUNT)], expected.coordinates, atol=1e-5)
    own = expected.place(seen(model, "square-39")[None])
    np.testing.assert_allclose(placed[COUNT], own[0], atol=0.05 * np.abs(expected.coordinates).max())


def test_nearest_test_images_are_named_with_their_distances(keep: Callable) -> None:
    model = keep()
    known = embedded(model)
    for metric in latent.METRICS:
        app = open_page(PAGE, image="square-39", metric=metric)
        told = [one.value.split(": ") for one in app.caption if re.fullmatch(r"[\w\\/ -]+: \d+\.\d\d", one.value)]
        pixels = fit_image((gallery((32, 32))["square-39"].load() / 255).astype(np.float32), (32, 32)).pixels
        with torch.no_grad():
            code = model.embed(torch.from_numpy(np.array(pixels))[None, None]).numpy()
        _, distances = latent.neighbours(code, known, 6, metric)
        assert all(kind for kind, _ in told)
        np.testing.assert_allclose([float(distance) for _, distance in told], distances[0], atol=0.0051)


def test_colours_tell_kind_ink_and_psnr_of_each_test_image(keep: Callable) -> None:
    model = keep()
    source = DemoSource((32, 32))
    by_kind = charts(open_page(PAGE))[0]
    names = {int(number): trace["name"] for trace in by_kind["data"] for number in numbers(trace.get("customdata", []))}
    assert [names[number] for number in range(30)] == [source.kind("test", number) for number in range(30)]
    image = source.compose("test", 7)
    with torch.no_grad():
        recon = model(torch.from_numpy((image / 255).astype(np.float32))[None, None])[0].clamp(0, 1)[0, 0].numpy()
    for colour, value in (
        ("ink", 1 - image.mean() / 255),
        ("psnr", -10 * np.log10(np.mean((image / 255 - recon) ** 2))),
    ):
        trace = charts(open_page(PAGE, colour=colour))[0]["data"][0]
        assert numbers(trace["marker"]["color"])[7] == pytest.approx(value, rel=1e-4)


def test_simulated_drops_are_coloured_by_the_columns_of_their_table(
    keep: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "TEST_IMAGES", 40)  # a thousand are drawn in ten seconds
    keep(about={"data": DropSource.data})
    trace = charts(open_page(PAGE, colour="viscosity (mPa s)"))[0]["data"][0]
    known = [draw_frame("test", number).recording.viscosity for number in range(40)]
    np.testing.assert_allclose(numbers(trace["marker"]["color"]), known, rtol=1e-6)
    assert trace["marker"]["colorbar"]["title"]["text"] == "viscosity (mPa s)"


def test_tsne_says_that_own_images_are_placed_by_a_guess_and_has_its_colours(keep: Callable) -> None:
    keep()
    app = open_page(PAGE, layout="tsne", colour="psnr")
    said = texts(app, "caption")
    assert "which is a guess" in said and "distances between groups" in said
    assert len(points(charts(app)[0])) == COUNT + 1
    assert charts(app)[0]["data"][0]["marker"]["colorbar"]["title"]["text"] == "PSNR (dB)"
    assert app.query_params["layout"] == "tsne" and app.query_params["colour"] == "psnr"


def test_link_opens_the_chosen_point_with_its_reconstruction(keep: Callable) -> None:
    keep()
    app = open_page(PAGE, points="12")
    kind = DemoSource((32, 32)).kind("test", 12)
    assert f"**Test image 12\\: {kind}**" in texts(app, "markdown").replace("\u200b", "")
    assert app.query_params["points"] == "12"
    figure = charts(app)[0]
    chosen = [trace["customdata"][place] for trace in figure["data"] for place in trace.get("selectedpoints") or []]
    assert chosen == [12]


def test_what_is_measured_stays_on_the_machine_but_not_of_a_checkpoint_that_a_visitor_brought(
    keep: Callable, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(work, "STORE", Store(10**8))
    keep(latent_dim=24)
    open_page(PAGE)
    keep(file="mine.safetensors", latent_dim=40)
    mine = shelf / "mine.safetensors"
    data = mine.read_bytes()
    mine.unlink()
    app = bring(open_page(), mine.name, data)
    kept = set((tmp_path / "cache" / "measured").iterdir())
    assert len(kept) == 2  # the test images' latents, and the mean of what each head adds
    app.session_state.checkpoint = next(iter(app.session_state.uploaded_models))
    assert len(charts(go(app, PAGE))) == 1
    go(app, "Explore")
    assert set((tmp_path / "cache" / "measured").iterdir()) == kept


def test_many_chosen_points_are_a_gallery_and_numbers_that_are_none_are_dropped(keep: Callable) -> None:
    keep()
    app = open_page(PAGE, points=f"3,5,3,{COUNT},{COUNT + 1},77777,12345678901,x")
    assert "**3 chosen**" in texts(app, "markdown")
    assert app.query_params["points"] == f"3,5,{COUNT}"


def test_own_images_are_placed_whatever_their_names(keep: Callable) -> None:
    keep()
    app = drop(open_page(), (f"{HOSTILE}.png", encode_png(np.full((40, 40), 90, np.uint8))))
    app = go(app, PAGE)
    assert sorted(points(charts(app)[0]))[-1] == COUNT
    assert_harmless(texts(app))
    label = charts(app)[0]["data"][-1]["hovertext"][0]
    assert "<" not in label


def test_own_images_take_their_colours_from_a_table_of_their_own(keep: Callable) -> None:
    keep()
    files = [(f"f{number}.png", encode_png(np.full((32, 32), 60 * number, np.uint8))) for number in range(3)]
    app = go(drop(open_page(), *files), PAGE)
    app.file_uploader[0].set_value(("of.csv", b"file,speed (cm/s)\nf2.png,7\nf0.png,3\n", "text/csv"))
    run(app).selectbox(key="choose_colour").set_value("speed (cm/s)")
    own = {
        title: value
        for trace in charts(run(app))[0]["data"]
        if "colorbar" in trace["marker"] and trace["marker"].get("symbol") == "diamond"
        for title, value in zip(trace["hovertext"], numbers(trace["marker"]["color"]), strict=True)
    }
    assert own == {"f0.png": 3, "f2.png": 7} and len(points(charts(app)[0])) == COUNT + 3
    app.file_uploader[0].set_value(("of.csv", b"file,v\nother.png,7\n", "text/csv"))
    assert "of.csv must have a column with the frames' file names" in texts(run(app), "caption").replace("\\", "")


def test_way_begins_and_ends_at_the_two_reconstructions_and_goes_along_as_an_animation(
    keep: Callable, take: Callable
) -> None:
    model = keep()
    app = open_page(PAGE, latent="between", image="garment-79", other="garment-84", path="spherical", at="0")
    assert app.select_slider[0].value == "0" and app.query_params["at"] == "0"
    first = images(app)
    app.select_slider[0].set_value("100")
    run(app)
    last = images(app)
    assert first[1] == first[0] == last[0] and last[1] == last[2] == first[2]
    assert first[0] != first[2]
    assert "Along the sphere, 100% of the way" in texts(app, "caption")
    animation = Image.open(io.BytesIO(take("Animation (GIF)")[1]))
    assert getattr(animation, "n_frames", 1) == 40 and animation.size == (32, 32)
    with torch.no_grad():
        recon = model.decode(torch.from_numpy(seen(model, "garment-79")[None]))[0, 0].clamp(0, 1).numpy()
    assert np.abs(np.asarray(animation.convert("L")).astype(int) - to_uint8(recon)).max() <= 1
    assert Image.open(io.BytesIO(take("Strip (PNG)")[1])).size[0] > 800
    turned = open_page(PAGE, image="garment-84", other="garment-79", latent="between", at="0")
    assert images(turned)[0] == last[2]


def images(app: AppTest) -> list[str]:
    """Addresses of the page's images, in order: images of the same pixels have the same one."""
    return [one.url for image in app.get("image") for one in image.proto.imgs]  # type: ignore[attr-defined]


def test_sliders_move_the_image_along_directions_and_reset(keep: Callable, take: Callable) -> None:
    keep()
    app = open_page(PAGE, latent="directions")
    change = np.array(numbers(charts(app)[0]["data"][0]["z"]))
    assert not change.any() and app.button("latent_reset").disabled
    slider = app.slider("latent_direction_1")
    slider.set_value(slider.max)
    run(app)
    assert app.query_params["scores"] == f"1:{slider.max:.1f}"
    assert "· moved" in app.slider("latent_direction_1").label
    assert "Outside the test set" in app.warning[0].value and "component 2" in app.warning[0].value
    assert np.abs(numbers(charts(app)[0]["data"][0]["z"])).max() > 0.001
    with np.load(io.BytesIO(take("Images and latents (NPZ)")[1])) as arrays:
        assert np.abs(arrays["picture"] - arrays["reconstruction"]).max() > 0.001
    app.button("latent_reset").click()
    run(app)
    assert "scores" not in app.query_params and not app.warning
    assert not np.array(numbers(charts(app)[0]["data"][0]["z"])).any()


def test_scores_of_a_link_are_kept_within_the_sliders(keep: Callable) -> None:
    keep()
    app = open_page(PAGE, latent="directions", scores="0:0.5,2:900,9:1.0,x:1,3:nan")
    assert app.slider("latent_direction_0").value == 0.5
    most = app.slider("latent_direction_2").max
    assert app.slider("latent_direction_2").value == most
    assert app.query_params["scores"] == f"0:0.5,2:{most:.1f}"


def test_spectrum_counts_the_dimensions_in_use(keep: Callable) -> None:
    model = keep()
    app = open_page(PAGE, latent="spectrum")
    variances = latent.fit_pca(embedded(model)).variances
    assert metrics(app) == {
        "Participation ratio": f"{latent.participation_ratio(variances):.1f}",
        "Effective rank": f"{latent.effective_rank(variances):.1f}",
        "Directions for 95%": f"{latent.dimensions_for(variances, 0.95)}",
    }
    assert "The latent has **16** numbers" in texts(app, "markdown")


@pytest.mark.parametrize("section", ["map", "between", "directions", "spectrum"])
@pytest.mark.parametrize(
    "fields", [{"patch_size": None}, {"input_size": (24, None), "max_width": 96}, {"input_size": (24, 96)}], ids=str
)
def test_every_section_opens_for_one_token_and_for_wide_images(keep: Callable, section: str, fields: dict) -> None:
    keep(**fields)
    app = open_page(PAGE, latent=section, points="1,2")
    assert not app.error and app.segmented_control("choose_latent").value == section


def test_model_without_a_space_is_told_in_a_sentence(keep: Callable) -> None:
    def flatten(model: TransformerAutoencoder) -> None:
        for parameter in model.encoder.norm.parameters():
            parameter.zero_()

    keep(flatten)
    app = open_page(PAGE)
    assert "got the same for every image. Choose another" in app.error[0].value


def test_model_trained_on_other_images_is_told_that_the_map_is_of_the_demo(keep: Callable) -> None:
    keep(about={"data": f"Trees {HOSTILE}"})
    app = open_page(PAGE)
    assert "learnt from others" in app.info[0].value
    assert not any("trained on other" in one.value for one in open_page("Explore").info)
