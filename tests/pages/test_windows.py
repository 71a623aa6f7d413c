"""Wide images on the page Reconstruct without a browser: when windows are offered, what they show, what is said of them."""

import base64
import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae import ui
from tae.analysis.windows import MAX_STRIP_PIXELS, Windows, decode_windows, embed_windows
from tae.data.decode import DecodedImage
from tae.data.drops.frame import draw_frame
from tae.data.encode import encode_png, to_uint8
from tae.data.fit import fit_image
from tae.data.gallery import gallery
from tae.model.metrics import Quality, measure, psnr_of
from tae.plots.export.tables import metrics_csv
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.ui.explore import windows
from tests import ROOT
from tests.pages import (
    DEMO,
    HOSTILE,
    blow_up,
    build_untrained,
    component,
    drop,
    go,
    metrics,
    open_page,
    png,
    run,
    said_plainly,
    texts,
)
from tests.strips import long_strip

ANY_WIDTH, WIDE = "drops_tiny_Xx152_p32.safetensors", "drops_tiny_1280x152_p32.safetensors"

LONGER = "drop-12"
"""A sample a little wider than a window of any width."""


@cache
def loaded(file: str) -> Loaded:
    return load_checkpoint(ROOT / "checkpoints" / file)


def open_strip(file: str, pixels: np.ndarray, name: str = "strip.png", **link: str) -> AppTest:
    return drop(open_page(checkpoint=file, **{"fit": "pad", **link}), (name, encode_png(pixels)))


def offered(app: AppTest) -> list[str]:
    return [option for group in app.segmented_control if group.key == "choose_strip" for option in group.options]


def test_a_camera_s_frame_comes_to_a_model_of_drops_as_its_own_images_did() -> None:
    pixels = draw_frame("test", 0).strip()[22:] / np.float32(255)
    app = open_strip("drops_tiny_201x201_p16.safetensors", pixels, fit="auto")
    assert "cut out about the drop" in said_plainly(app, "caption") and not strip_html(app)
    assert float(re.findall(r"PSNR ([\d.]+) dB", texts(app, "success", "info", "warning"))[0]) > 25
    app.selectbox("choose_fit").set_value("pad")
    assert strip_html(run(app)) and app.query_params["fit"] == "pad"
    assert strip_html(open_strip(DEMO, pixels, fit="auto"))  # it learnt from other images
    assert "padded above" in said_plainly(open_strip(WIDE, pixels), "caption")


def test_images_come_to_a_model_as_its_training_had_them(keep: Callable) -> None:
    keep(about={"training": {"steps": 1, "fit": "stretch"}})
    app = open_strip("small.safetensors", np.ones((20, 60)), fit="auto")
    assert "stretched from 60x20 to 32x32" in said_plainly(app, "caption")


def test_a_small_drop_on_a_white_page_is_judged_by_the_drop() -> None:
    pixels = draw_frame("test", 0).strip()[22:] / np.float32(255)
    app = open_strip(DEMO, pixels, strip="one")
    assert "but what is not white is drawn worse than on" in texts(app, "warning") and not app.success
    offered = [button.label for button in app.button if str(button.key).startswith("explore_use_")]
    assert offered and all("Drops" in label for label in offered)  # whoever draws a white page has a higher PSNR
    assert "of a blank page" in texts(open_strip(DEMO, np.ones((201, 201))), "info")


def strip_html(app: AppTest) -> str:
    """Empty where no strip is shown."""
    return next((one.proto.body for one in app.get("html") if "class='tae-strip'" in one.proto.body), "")  # type: ignore[attr-defined]


def images(app: AppTest) -> dict[str, np.ndarray]:
    """{title: (H, W)} of the strip's rows, as indices of a palette where they have one."""
    found: dict[str, list[np.ndarray]] = {}
    title = ""
    for data, alt in re.findall(r"base64,([^']+)' alt='([^']*)'", strip_html(app)):
        title = alt or title
        found.setdefault(title, []).append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
    return {title: np.concatenate(pieces, axis=1) for title, pieces in found.items()}


def by_window(file: str, strip: np.ndarray) -> np.ndarray:
    model = loaded(file).model
    return decode_windows(model, embed_windows(model, strip)).clamp(0, 1).numpy()


def through_one_latent(file: str, seen: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return loaded(file).model(torch.from_numpy(seen)[None, None])[0].clamp(0, 1)[0, 0].numpy()


def written(quality: Quality) -> dict[str, str]:
    return {
        "PSNR": f"{quality.psnr:.1f} dB",
        "SSIM": f"{quality.ssim:.3f}",
        "MSE": f"{quality.mse:.4f}",
        "Foreground MSE": f"{quality.foreground_mse:.4f}",
    }


def said_of_one_latent(app: AppTest) -> list[str]:
    return [caption.value[12:] for caption in app.caption if caption.value.startswith("One latent: ")]


def test_a_strip_wider_than_the_model_takes_is_shown_window_by_window_at_its_own_size() -> None:
    app = open_strip(ANY_WIDTH, long_strip(10_000))
    assert not app.error
    assert offered(app) == ["One latent", "Window by window (65 latents)"]
    strip = long_strip(10_000) / np.float32(255)
    recon = by_window(ANY_WIDTH, strip)
    shown = images(app)
    assert list(shown) == [
        "Model input",
        "Reconstruction, window by window (65 latents)",
        "Error, reconstruction − image",
    ]
    seen, drawn, error = shown.values()
    np.testing.assert_array_equal(seen, long_strip(10_000))
    assert np.abs(drawn / 255 - recon).max() <= 0.5 / 255 + 1e-5  # rounded to bytes
    assert error.shape == (152, 10_000)
    assert metrics(app) == written(measure(strip, recon))
    page = texts(app)
    assert "**65 windows** of 304x152 pixels, a new one every 152 pixels; each shares 152 pixels" in page
    assert "**65 latents of 128 numbers, 8,320 in all, in place of 128**" in page and "no surprise" in page
    assert "One latent cannot hold this strip" in page and not said_of_one_latent(app)
    assert "strip" not in app.query_params  # it is what everybody gets


def test_the_ruler_says_where_each_window_lies_and_how_well_it_is_drawn() -> None:
    html = strip_html(open_strip(ANY_WIDTH, long_strip(1000)))
    strip = long_strip(1000) / np.float32(255)
    recon = by_window(ANY_WIDTH, strip)
    marks = re.findall(r"left: (\d+)px; width: (\d+)px; top: \d+px'>(\d+): (\d+)–(\d+) px, ([\d.]+) dB<", html)
    starts = [0, 152, 304, 456, 608, 696]
    assert [[int(number) for number in mark[:5]] for mark in marks] == [
        [start, 304, number, start, start + 304] for number, start in enumerate(starts, start=1)
    ]
    for start, mark in zip(starts, marks, strict=True):
        own = psnr_of(float(((strip - recon)[:, start : start + 304].astype(np.float64) ** 2).mean()))
        assert mark[5] == f"{own:.1f}"


def test_a_strip_that_one_latent_can_hold_starts_so_and_stands_beside_it_on_the_same_pixels() -> None:
    app = open_page(checkpoint=ANY_WIDTH, image=LONGER, section="quality")
    assert offered(app) == ["One latent", "Window by window (2 latents)"] and not strip_html(app)
    alone = metrics(app)
    strip = gallery((152, None), 960)[LONGER].load() / np.float32(255)
    assert strip.shape == (152, 313)
    assert alone == written(measure(strip, through_one_latent(ANY_WIDTH, strip)))
    app.segmented_control("choose_strip").set_value("windows")
    run(app)
    assert app.query_params["strip"] == "windows"
    assert metrics(app) == written(measure(strip, by_window(ANY_WIDTH, strip)))
    assert said_of_one_latent(app) == list(alone.values())
    assert "Both on the same pixels." in texts(app, "caption")
    assert not app.get("plotly_chart")  # no place among the test images, which are of one latent each
    shown = images(app)["Reconstruction from one latent (128 numbers)"]
    assert np.abs(shown / 255 - through_one_latent(ANY_WIDTH, strip)).max() <= 0.5 / 255 + 1e-5


def test_a_link_restores_the_choice_and_other_pages_keep_it() -> None:
    app = open_page(checkpoint=ANY_WIDTH, image=LONGER, strip="windows")
    assert app.segmented_control("choose_strip").value == "windows" and strip_html(app)
    go(app, "Models")
    go(app, "Explore")
    assert strip_html(app) and app.query_params["strip"] == "windows"
    app.segmented_control("choose_strip").set_value("")
    run(app)
    assert not strip_html(app) and "strip" not in app.query_params


@pytest.mark.parametrize("value", ["nonsense", "one"])
def test_what_a_link_says_that_is_no_choice_or_no_other_one_falls_away(value: str) -> None:
    app = open_page(checkpoint=ANY_WIDTH, image=LONGER, strip=value)
    assert not app.error and not strip_html(app) and "strip" not in app.query_params
    assert value == "one" or "strip" not in open_page("Models", strip=value).query_params  # where nothing asks for it


def test_one_latent_can_still_be_asked_for_where_it_is_refused() -> None:
    app = open_strip(ANY_WIDTH, long_strip(1000))
    app.segmented_control("choose_strip").set_value("one")
    run(app)
    assert app.query_params["strip"] == "one"
    assert said_plainly(app, "error").splitlines() == [
        "strip.png: an image of 1000x152 becomes 1000 wide at the model's height of 152, and the model takes at most 960; "
        "crop it, or cut it into windows"
    ]
    app.segmented_control("choose_strip").set_value("")
    run(app)
    assert not app.error and strip_html(app)


def test_cropping_is_a_decision_for_one_latent() -> None:
    app = open_strip(ANY_WIDTH, long_strip(1000), fit="crop")
    assert not app.error and not strip_html(app) and "cropped in the middle" in texts(app, "caption")
    assert offered(app) == ["One latent", "Window by window (6 latents)"]


def test_a_square_model_reads_a_strip_at_its_own_height() -> None:
    app = open_strip(DEMO, long_strip(1280))
    strip = fit_image(long_strip(1280) / np.float32(255), (201, 1693), "stretch").pixels
    recon = by_window(DEMO, strip)
    assert offered(app)[1] == "Window by window (16 latents)"
    assert metrics(app) == written(measure(strip, recon))
    assert "scaled from 1280x152 to 1693x201" in said_plainly(app, "caption")
    # One latent: shrunk into the square with padding above, which is cut off again.
    square = fit_image(long_strip(1280) / np.float32(255), (201, 201), "pad").pixels
    part = through_one_latent(DEMO, square)[177:]
    assert part.shape == (24, 201) and np.ptp(square[:177]) == 0
    enlarged = np.asarray(Image.fromarray(part).resize((1693, 201), Image.Resampling.LANCZOS)).clip(0, 1)
    assert said_of_one_latent(app) == list(written(measure(strip, enlarged)).values())
    assert "shrunk to 201x24 and enlarged again" in texts(app, "caption")


def test_a_image_little_wider_than_the_model_starts_with_one_latent() -> None:
    app = open_page(image="cat")
    assert offered(app) == ["One latent", "Window by window (2 latents)"] and not strip_html(app)
    few, many = (open_strip(DEMO, np.full((100, width), 200, np.uint8)) for width in (400, 410))
    assert len(offered(few)) == len(offered(many)) == 2
    assert not strip_html(few) and strip_html(many)  # one latent would shrink it to less than a quarter
    assert not offered(open_page()) and not offered(open_page(image="camera"))
    assert not offered(open_page(checkpoint=WIDE))  # its strips are as wide as its windows


def test_help_says_in_numbers_what_is_chosen() -> None:
    told = open_strip(WIDE, long_strip(10_000)).segmented_control("choose_strip").help
    assert "**One latent**: 128 numbers. The whole image has to fit into 1280x152 pixels." in told
    assert (
        "15 windows of 1280x152 pixels, each sharing half with the next" in told and "15 x 128 = 1,920 numbers" in told
    )
    told = open_strip(ANY_WIDTH, long_strip(1000)).segmented_control("choose_strip").help
    assert "at most 960 pixels in one latent; this image has 1,000 at its height" in told


def test_failure_on_a_strip_unlike_training_is_called_failure() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (152, 1000))
    app = drop(open_page(checkpoint=ANY_WIDTH), ("noise.png", png(noise)))
    [warning] = [one.value for one in app.warning]
    assert "**The model fails on this strip**" in warning
    assert "explains 0% of how its greys vary" in warning
    assert "6 of 6 windows, each taken by itself, are drawn worse than 95% of the test images" in warning
    assert "things cut off at their edges" in warning
    assert not app.success and not app.info


def test_windows_are_not_praised_by_figures_of_whole_images() -> None:
    app = open_strip(ANY_WIDTH, long_strip(1000))
    assert not app.success
    assert "have nothing to be compared with" in texts(app, "caption")


def test_one_grey_has_no_share_of_variance_to_tell() -> None:
    app = open_strip(ANY_WIDTH, np.full((152, 1000), 128, np.uint8))
    assert "R2" not in texts(app)
    assert "nan" not in texts(app).lower().split() and not app.exception


def test_an_untrained_model_is_red_and_gets_no_verdict() -> None:
    app = drop(go(build_untrained(open_page(), "1280x152"), "Explore"), ("strip.png", encode_png(long_strip(6000))))
    assert strip_html(app) and "**Untrained.**" in app.error[0].value
    assert not app.warning and not app.info and not app.success


def test_a_ribbon_that_would_grow_without_end_is_refused_in_words() -> None:
    app = open_strip(ANY_WIDTH, np.full((10, 20_000), 255, np.uint8))
    assert said_plainly(app, "error").splitlines() == [
        f"strip.png: a strip must be from 304 to {MAX_STRIP_PIXELS // 152} pixels wide at the model's height of 152; "
        "an image of 20000x10 becomes 304000 wide"
    ]
    assert "cat" in json.dumps(component(app, "shelf_images"))  # the page goes on


def test_a_stranger_s_name_is_shown_as_it_stands() -> None:
    app = open_strip(ANY_WIDTH, long_strip(1000), HOSTILE + ".png")
    shown = "\n".join([texts(app), strip_html(app)])
    assert "<img src=x" not in shown and "[a](javascript" not in shown


def test_strips_among_many_images_are_told_where_they_can_be_seen() -> None:
    app = drop(
        open_page(checkpoint=ANY_WIDTH, fit="pad"),
        ("long.png", encode_png(long_strip(1000))),
        ("short.png", encode_png(long_strip(300))),
    )
    app.segmented_control("reconstruct_view").set_value("all")
    run(app)
    assert "Under **One image** it is shown window by window." in app.error[0].value


def test_the_table_has_a_line_for_the_strip_for_one_latent_and_for_each_window() -> None:
    active = ui.Active(ANY_WIDTH, "A model", loaded(ANY_WIDTH))
    pixels = long_strip(900) / np.float32(255)
    chosen = ui.Chosen("upload-1", "=name.png", "1", DecodedImage(pixels, (), "PNG", long_strip(900)))
    told: list[float] = []
    strip = windows.compute(active, pixels, windows.Fitted(pixels, ()), told.append)
    assert told == sorted(told) and told[0] > 0 and told[-1] <= 1
    rows = list(csv.DictReader(io.StringIO(metrics_csv(windows.table(active, chosen, strip)).decode())))
    assert [row["method"] for row in rows] == [
        "window by window",
        "one latent",
        *(f"window {number}" for number in range(1, 6)),
    ]
    recon = by_window(ANY_WIDTH, pixels)
    assert float(rows[0]["psnr"]) == pytest.approx(measure(pixels, recon).psnr)
    assert float(rows[1]["psnr"]) == pytest.approx(measure(pixels, through_one_latent(ANY_WIDTH, pixels)).psnr)
    assert [int(row["start"]) for row in rows[2:]] == [0, 152, 304, 456, 596]
    assert int(rows[-1]["end"]) == 900 and rows[0]["image"].startswith("'=")
    assert strip.one is not None and float(rows[1]["r2"]) == pytest.approx(strip.one.r2)


def test_a_ribbon_is_shown_by_a_model_that_pads_it() -> None:
    app = open_strip(DEMO, np.full((10, 20_000), 90, np.uint8), section="quality")
    assert not app.error and "PSNR" in metrics(app)


def test_a_model_that_draws_no_numbers_is_said_to_and_never_called_exact(store: Callable[..., Path]) -> None:
    store("huge.safetensors", blow_up)
    app = open_strip("huge.safetensors", long_strip(1000), strip="windows")
    assert "the model draws no finite numbers" in texts(app, "error") and "exact" not in strip_html(app)


def test_what_is_saved_holds_the_latents_that_draw_the_strip_again(take: Callable) -> None:
    strip = long_strip(3000, 3)
    open_strip(ANY_WIDTH, strip, "long strip.png")
    name, content = take("Everything (ZIP)")
    assert name == "everything.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {member.rpartition("windows_")[2]: archive.read(member) for member in archive.namelist()}
    drawings = ("image.png", "reconstruction.png", "error.png", "comparison.png", "comparison.svg")
    assert set(files) == {*drawings, "arrays.npz", "metrics.csv"}
    model = loaded(ANY_WIDTH).model
    expected = embed_windows(model, strip / np.float32(255))
    with np.load(io.BytesIO(files["arrays.npz"])) as arrays:
        assert arrays["latents"].shape == (19, 128) and arrays["starts"].tolist() == expected.starts
        np.testing.assert_allclose(arrays["latents"], expected.latents, atol=1e-4)
        again = Windows(expected.latents.new_tensor(arrays["latents"]), arrays["starts"].tolist(), 304, 3000)
        drawn = decode_windows(model, again).clamp(0, 1).numpy()
        np.testing.assert_allclose(drawn, arrays["reconstruction"], atol=1e-4)
        saved_image = np.asarray(Image.open(io.BytesIO(files["reconstruction.png"])))
        np.testing.assert_array_equal(saved_image, to_uint8(arrays["reconstruction"]))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files["image.png"]))), strip)
    assert Image.open(io.BytesIO(files["comparison.png"])).height > 1500  # folded, not a hair line
