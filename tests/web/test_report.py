"""The report: what it says is what the model does, whoever wrote the names, and nothing in it reaches out."""

import base64
import hashlib
import io
import platform
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tae import TransformerAutoencoder, create_autoencoder, load_checkpoint, save_checkpoint
from tae.analysis.causal.verdicts import Verdict
from tae.analysis.heads import statistics_over
from tae.analysis.maps import PARTS, MapChoice, all_choices, colour_tops, compute_map
from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.data.fit import Fitted, fit_image
from tae.model.metrics import measure
from tae.plots.export import render
from tae.store.card import Card
from tae.store.checkpoint import Loaded
from tae.web.explorer import standalone
from tae.web.explorer.payload import Note
from tae.web.report import MAX_IMAGES, ReportImage, ReportMap, report
from tae.web.report.caveats import about_image, about_map
from tae.web.report.findings import explorable, query_of
from tests import ROOT
from tests.conftest import SMALL
from tests.web import Elements, payloads

pytestmark = pytest.mark.slow

DEMO = ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors"
MADE = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'> <!-- ]]> &amp; \u202e $x$"


def parsed(page: bytes) -> Elements:
    found = Elements(page.decode())
    assert not found.open
    return found


def png_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


PERCENTILES = {
    "psnr": [float(rank) for rank in range(101)],
    "ssim": [rank / 100 for rank in range(101)],
    "mse": [rank / 100 for rank in range(101)],
}
TRAINED = {
    "training": {"steps": 12, "command": "python -m tae.train tiny"},
    "metrics": {"count": 77, "psnr": 20.5, "percentiles": PERCENTILES},
    "data": "photographs of clouds",
    "licence": "CC BY",
}


@pytest.fixture
def checkpoint(
    tmp_path: Path, small_model: Callable[..., TransformerAutoencoder], figures_are_dots: None
) -> Callable[..., Loaded]:
    """Saves and loads a small model; `card` replaces fields of a trained model's card. Figures: those of `plain`."""

    def build(card: dict | None = None, **fields: object) -> Loaded:
        path = tmp_path / "small.safetensors"
        save_checkpoint(path, small_model(**fields).float(), Card(**{"name": "Clouds", **TRAINED, **(card or {})}))
        return load_checkpoint(path)

    return build


def grey(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width), np.float32)


def picture(title: str = "cloud.png", **fields: object) -> ReportImage:
    return ReportImage(**{"title": title, "fitted": Fitted(grey(), ()), **fields})  # type: ignore[arg-type]


def as_batch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels)[None, None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, bytes]:
    """A small model and a report on two pictures, the second without a name; one could not be read."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_autoencoder(**{"preset": None, **SMALL})  # type: ignore[arg-type]
    path = save_checkpoint(
        tmp_path_factory.mktemp("plain") / "small.safetensors", model, Card(name="Clouds", **TRAINED)
    )
    loaded = load_checkpoint(path)
    return loaded, report(loaded, [picture(), picture("")], left_out=[("x.png", "damaged")])


# ------------------------------------------------------------------------------------------------------------- contents


def test_the_report_names_all_that_is_needed_to_make_it_again_and_opens_with_the_chosen_map(checkpoint) -> None:
    loaded = checkpoint()
    view = ReportMap(choice=MapChoice(part="decoder", layer="1", head="2"), query=5, direction="to", range="full")
    fitted = fit_image(grey(60, 40), loaded.model.config.input_size, "pad", background=1.0)
    given = picture(origin=("PNG", "colour turned to grey"), fitted=fitted)
    page = parsed(report(loaded, [given], view, checkpoint_file="small.safetensors", made=MADE))
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    for words in (
        *("cloud.png", "Clouds", "small.safetensors", loaded.digest, "32x24", "PNG", "colour turned to grey"),
        *("scaled from 40x60 to 16x24, padded with white to 32x24", "whole image, padded", f"{parameters:,}"),
        *("head_dim 4", "8 pixels a side", "photographs of clouds", "CC BY", "python -m tae.train tiny"),
        *(
            "20.50 dB, mean of 77 images",
            "Decoder, layer 1, head 2",
            "decoder/1/2",
            "patch 5",
            "Attended by",
        ),
        *("to the largest weight", torch.__version__, platform.python_version(), "2030-01-02 03:04 UTC"),
        *("where weight was placed", "recomputation error at most", "not smoothed"),
    ):
        assert words in page.text, words
    assert not re.search(r"\blook(s|ed|ing)? at\b", page.text), "weight was placed; nobody looks"
    shown = base64.b64encode(encode_png(fitted.pixels)).decode()
    assert page.all("img", class_="pixels")[0][0]["src"].endswith(shown)
    (made,) = payloads(page)
    names = [one.name for part in PARTS for one in all_choices(loaded.model.config, part)]
    assert made["sides"][0]["names"] == names
    assert sorted(entry["name"] for entry in made["maps"]) == sorted(names)
    expected = {"part": "decoder", "layer": "1", "head": "2", "query": 5, "direction": "to", "range": "full"}
    assert {name: made["view"][name] for name in expected} == expected
    assert made["tops"] == pytest.approx(colour_tops(loaded.model, as_batch(fitted.pixels)))
    for entry in made["maps"]:
        cells = np.frombuffer(base64.b64decode(entry["data"]), "<u2").reshape(12, 12)
        exact = compute_map(loaded.model, as_batch(fitted.pixels), MapChoice.from_name(entry["name"])).numpy()
        np.testing.assert_allclose((cells / 65535) ** 2 * entry["largest"], exact, atol=1e-4 * exact.max())
    assert made["status"]["decoder"] == "head_dim 4"
    assert all(f"{part}/{layer}" in made["status"] for part in PARTS for layer in ("average", "rollout", "0", "1"))


def test_images_are_the_model_s_pixel_by_pixel_and_measures_stand_beside_their_place_among_the_test_images(
    plain,
) -> None:
    loaded, raw = plain
    pixels = grey()
    with torch.no_grad():
        recon = loaded.model(as_batch(pixels))[0].clamp(0, 1)[0, 0].numpy()
    page = parsed(raw)
    image, drawn, error = (png_of(found["src"]) for found, _ in page.all("img", class_="pixels")[:3])
    np.testing.assert_array_equal(image, np.round(pixels * 255))
    np.testing.assert_array_equal(drawn, np.round(recon * 255))
    limit = np.abs(recon - pixels).max()
    expected = render.colours("error")(((recon - pixels) / limit + 1) / 2)[..., :3]
    np.testing.assert_allclose(error / 255, expected, atol=0.5 / 255)
    assert f"{limit:.2f} too dark" in page.text
    quality = measure(pixels, recon)
    # The test images' PSNRs are 0, 1, ..., 100 dB: so many percent of them are below.
    assert f"PSNR {quality.psnr:.2f} dB better than {quality.psnr:.0f}% (median 50.00 dB)" in page.text
    assert f"MSE {quality.mse:.4f} better than {100 - 100 * quality.mse:.0f}% (median 0.5000)" in page.text
    assert f"Foreground MSE {quality.foreground_mse:.4f} no test figures in the card" in page.text
    assert "Among the 77 test images" in page.text


def test_weighting_and_discard_hold_for_the_maps_of_the_explorer(checkpoint) -> None:
    loaded = checkpoint()
    choice = MapChoice(layer="rollout", head="max", weighting="values", discard=0.5)
    page = parsed(report(loaded, [picture()], ReportMap(choice=choice)))
    (made,) = payloads(page)
    for entry in made["maps"]:
        discard = 0.5 if "/rollout/" in entry["name"] else 0.0
        exact = compute_map(loaded.model, as_batch(grey()), MapChoice.from_name(entry["name"], "values", discard))
        assert entry["largest"] == pytest.approx(float(exact.max()))
    assert [note["text"][:14] for note in made["notes"]] == ["All maps here:", "Rollouts here:"]
    assert "of all weight" in page.text and "Kobayashi 2020" in page.text


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_said(checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = checkpoint()
    raw = report(loaded, [picture(), picture("")])
    monkeypatch.setattr("tae.web.report.page.IMAGE_BYTES", 1)
    page = parsed(report(loaded, [picture()], ReportMap(choice=MapChoice(layer="0", head="3"))))
    (made,) = payloads(page)
    assert [entry["name"] for entry in made["maps"]] == ["encoder/0/3"]
    assert len(made["sides"][0]["names"]) == 44
    assert "1 of 44 maps are in this file" in page.text
    assert "In this file: encoder layer 0: head 3." in page.text
    whole = payloads(parsed(raw))
    assert [len(made["maps"]) for made in whole] == [44, 44]
    section = raw.index(b'id="image-2"') - raw.index(b'id="image-1"')
    maps = sum(len(entry["data"]) for entry in whole[0]["maps"])
    monkeypatch.setattr("tae.web.report.page.IMAGE_BYTES", section - maps // 4)
    page = parsed(report(loaded, [picture()]))
    (made,) = payloads(page)
    missing = set(made["sides"][0]["names"]) - {entry["name"] for entry in made["maps"]}
    assert 0 < len(missing) < 22
    assert f"{44 - len(missing)} of 44 maps are in this file" in page.text and "Left out: " in page.text
    assert "decoder layer 1: max, min, spread." in page.text, "the least wanted go first"


def test_the_explorer_keeps_to_its_budget_and_fills_it(checkpoint) -> None:
    model = checkpoint().model
    view = ReportMap(choice=MapChoice(part="decoder"))
    for budget in (9_000, 12_000, 16_000):
        made, missing = explorable(model, picture(), view, 0, {"shared": 2.0, "full": 3.0}, [], {}, budget)
        size = len(standalone.fragment(made, "x"))
        assert size <= budget
        assert not missing or size > budget - 4_000
        names = [entry["name"] for entry in made["maps"]]
        assert names[0] == "decoder/average/mean" and len(names) + len(missing) == 44
        means = [name for name in names if name.endswith("/mean")]
        assert names[: len(means)] == means, "means go first"


def test_the_first_query_is_the_strongest_of_the_foreground() -> None:
    weights = np.array([[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.2, 0.6, 0.2]])
    view = ReportMap()
    assert query_of(view, weights, np.array([1, 2])) == 2
    assert query_of(view, weights, np.array([], int)) == 0
    assert query_of(ReportMap(query=1), weights, np.array([2])) == 1
    assert query_of(ReportMap(query=3), weights, np.array([2])) == 2, "a patch that this picture does not have"


@pytest.mark.slow
def test_each_image_has_its_section_and_the_contents_lead_there(checkpoint) -> None:
    loaded = checkpoint(input_size=(24, None), max_width=64)
    given = [picture(f"{width}.png", fitted=Fitted(grey(width=width), ())) for width in (64, 9)]
    seen: list[tuple[int, int]] = []
    page = parsed(report(loaded, given, progress=lambda *counts: seen.append(counts)))
    assert seen == [(1, 2), (2, 2)]
    assert [(found["href"], text) for found, text in page.all("a")] == [("#image-1", "64.png"), ("#image-2", "9.png")]
    assert [found["id"] for found, _ in page.all("section", class_="image")] == ["image-1", "image-2"]
    assert [made["sides"][0]["grid"] for made in payloads(page)] == [[3, 8], [3, 2]]
    identities = [found["id"] for _, found in page.found if "id" in found]
    assert len(identities) == len(set(identities))


# ------------------------------------------------------------------------------------------------------- what to mind of it


def notes_of(page: Elements) -> list[tuple[str, str]]:
    return [
        (found["class"].removeprefix("note "), text)
        for found, text in page.all("p")
        if "note" in found.get("class", "")
    ]


def test_an_untrained_model_is_red_first_and_little_told_comes_before_any_map(checkpoint, plain) -> None:
    assert not [one for one in notes_of(parsed(plain[1])) if one[0] == "error"]
    loaded = checkpoint({"training": {"steps": 0}, "metrics": {}})
    verdicts = [
        Verdict("encoder", "all", "input-independent", "A layout <b>that serves any image</b>."),
        Verdict("decoder", "all", "needed", "Needed, image by image."),
    ]
    pixels = [(255 * grey(seed=seed)).astype(np.uint8) for seed in range(2)]
    spreads = {"encoder": statistics_over(loaded.model, pixels)}
    page = parsed(report(loaded, [picture()], verdicts=verdicts, spreads=spreads))
    assert notes_of(page)[0] == ("error", "UNTRAINED MODEL: random weights. Nothing shown here was learnt.")
    assert page.text.index("UNTRAINED MODEL") < page.text.index("Image, reconstruction, error")
    assert payloads(page)[0]["notes"][0]["severity"] == "error"
    assert "UNTRAINED MODEL: random weights · Reconstruction" in page.text and "NO: random weights" in page.text
    assert "A layout <b>that serves any image</b>." in page.text and "Needed, image" not in page.text
    assert page.text.index("A layout") < page.text.index("where weight was placed")
    assert "Encoder: each measure over the layers, behind it 2 test images" in page.text
    assert "Decoder: each measure over the layers L" not in page.text and page.text.count("test images Decoder") == 1


def test_one_token_gets_a_notice_and_no_heatmap(checkpoint) -> None:
    loaded = checkpoint(patch_size=None)
    raw = report(loaded, [picture()])
    page = parsed(raw)
    assert any("one token, the whole image" in text for _, text in notes_of(page))
    assert not page.all("script") and "script-src" not in raw.decode()
    assert [found["class"] for found, _ in page.all("img")] == ["pixels"] * 3
    assert "PSNR" in page.text and "Explore" not in page.text


def texts(notes: list[Note]) -> str:
    return " ".join(f"[{note.severity}] {note.text}" for note in notes)


UNIFORM = np.full((6, 6), 1 / 6, np.float32)
SINK = np.full((6, 6), 0.02, np.float32)
SINK[:, 4] = 0.9


EYE = np.eye(6, dtype=np.float32)
CAVEATS = [
    (UNIFORM, {}, {}, "[warning] Encoder, average of 2 layers, mean of 4 heads: practically uniform"),
    (SINK, {}, {}, "1 attention sink takes 90% of all weight, row 1 column 1. It receives more than 5 x uniform"),
    (EYE, {}, {"range": "own"}, "[warning] Colours end at the largest weight of this map"),
    (EYE, {}, {}, "[info] N 6 > head_dim 4: attention weights are not determined"),
    (EYE, {"layer": "0", "head": "spread"}, {}, "is no weight"),
    (EYE, {"head": "max"}, {}, "no head's own weights"),
    (EYE, {"weighting": "values"}, {}, "Kobayashi 2020"),
    (EYE, {"layer": "rollout"}, {}, "Abnar & Zuidema 2020"),
    (EYE, {"layer": "rollout", "discard": 0.4}, {}, "what was dropped is 25% of all weight"),
]


def test_each_caveat_is_said_where_it_applies_and_only_there(small_model) -> None:
    config = small_model().config
    plain = texts(about_map(EYE, ReportMap(), config, (2, 3), 0.0))
    for weights, choice, view, expected in CAVEATS:
        said = texts(about_map(weights, ReportMap(choice=MapChoice(**choice), **view), config, (2, 3), 0.25))
        assert expected in said
        assert plain.count("[") == 1 and (expected in plain) == ("head_dim" in expected)
    spread = ReportMap(choice=MapChoice(layer="0", head="spread"))
    for weights in (UNIFORM, SINK):  # of heads that differ, neither is said
        said = texts(about_map(weights, spread, config, (2, 3), 0.0))
        assert "practically uniform" not in said and "sink" not in said


def test_a_picture_that_was_resized_or_fails_is_said_to_be() -> None:
    assert about_image((), 50.0) == [] and about_image((), None) == []
    (resized,) = about_image(("scaled from 300x300 to 201x201",), 94.9)
    assert "did not see the image as it came: scaled from 300x300 to 201x201" in resized.text
    assert "worse than 96%" in about_image((), 96.0)[0].text
    assert "worse than all" in about_image((), 100.0)[0].text


# -------------------------------------------------------------------------------------------------------------- safety


def test_the_policy_allows_this_script_and_nothing_else(plain) -> None:
    page = parsed(plain[1])
    ((_, script),) = page.all("script", type="module")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    ((policy, _),) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == (
        f"default-src 'none'; script-src 'sha256-{digest}'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [tag for tag, _ in page.found]
    assert head.index("meta") < head.index("style") < head.index("script")
    addresses = [value for _, found in page.found for name, value in found.items() if name in ("src", "href", "srcset")]
    assert addresses and all(address.startswith(("#", "data:image/")) for address in addresses)
    for _, style in page.all("style"):
        assert "url(" not in style and "@import" not in style


def test_strangers_texts_stay_texts(checkpoint) -> None:
    card = {"name": HOSTILE, "data": HOSTILE, "licence": HOSTILE, "notes": HOSTILE}
    card |= {"training": {"command": HOSTILE, "hardware": HOSTILE, "steps": 3}}
    given = picture(HOSTILE, origin=(HOSTILE,), fitted=Fitted(grey(), (HOSTILE,)))
    raw = report(checkpoint(card), [given], checkpoint_file=HOSTILE, left_out=[(HOSTILE, HOSTILE)])
    page = parsed(raw)
    assert [found.get("type") for found, _ in page.all("script")] == ["application/json", "module"]
    assert not [name for _, found in page.found for name in found if name.startswith("on")]
    assert all(found["src"].startswith("data:image/") for found, _ in page.all("img"))
    assert page.text.count("alert(2)") >= 9 and "\u202e" not in raw.decode()
    assert payloads(page)[0]["sides"][0]["title"] == HOSTILE
    assert "<script>alert" not in raw.decode()


def test_a_screen_reader_finds_its_way(plain) -> None:
    page = parsed(plain[1])
    assert page.all("html")[0][0]["lang"] == "en"
    assert page.all("title")[0][1] == "Where attention was placed: 2 images"
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), "no level is skipped"
    assert all(len(found["alt"]) > 10 for found, _ in page.all("img"))
    assert page.all("th") and all(found["scope"] in ("row", "col") for found, _ in page.all("th"))
    assert len(page.all("main")) == len(page.all("nav")) == 1
    assert "x.png: damaged" in page.text and [text for _, text in page.all("a")] == ["cloud.png", "unnamed"]


# ---------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.slow
def test_a_report_on_the_demo_checkpoint_is_under_five_megabytes() -> None:
    loaded = load_checkpoint(DEMO)
    given = picture("boots.png", fitted=Fitted((compose_square("test", 39) / 255).astype(np.float32), ()))
    raw = report(loaded, [given], ReportMap(choice=MapChoice(layer="1")), checkpoint_file=DEMO.name)
    assert 4_000_000 < len(raw) < 5_000_000
    page = parsed(raw)
    (made,) = payloads(page)
    names = {entry["name"] for entry in made["maps"]}
    assert len(names) >= 45
    needed = [
        f"{part}/{layer}/{head}"
        for part in PARTS
        for layer, heads in (("average", 1), ("rollout", 1), ("0", 5), ("1", 5), ("2", 5))
        for head in ("mean", "0", "1", "2", "3")[:heads]
    ]
    assert set(needed) <= names
    assert hashlib.sha256(DEMO.read_bytes()).hexdigest() in page.text
    assert "Fashion-MNIST" in page.text and "MIT, Zalando SE 2017" in page.text


def test_what_does_not_fit_is_refused_in_one_sentence(checkpoint) -> None:
    loaded = checkpoint()
    for given, view, message in (
        ([], None, f"images must be from 1 to {MAX_IMAGES} in one report, got 0"),
        ([picture()] * (MAX_IMAGES + 1), None, f"got {MAX_IMAGES + 1}"),
        ([picture()], ReportMap(choice=MapChoice(layer="2")), "layer must be from 0 to 1 in the encoder, got 2"),
        ([picture(fitted=Fitted(grey(24, 40), ()))], None, "images must be 32 pixels wide, got 40"),
    ):
        with pytest.raises(ValueError, match=message):
            report(loaded, given, view)
    with pytest.raises(ValueError, match="direction must be one of from, to, got 'up'"):
        ReportMap(direction="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="range must be one of shared, full, own"):
        ReportMap(range="log")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="query must be a patch number from 0"):
        ReportMap(query=-1)
    large = checkpoint(input_size=(254, 254), patch_size=2, latent_dim=4, num_heads=1)
    with pytest.raises(ValueError, match=r"a map must take at most 1 GB, got 1 GB for 16129 patches"):
        report(large, [picture(fitted=Fitted(grey(254, 254), ()))])
