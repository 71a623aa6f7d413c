"""Two images in a report and a notebook: the package's numbers, each with its definition, control and source."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tae
from tae.analysis.causal import job
from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.pairs import in_percent
from tae.analysis.causal.patching import activation_patching, attribution_patching, head_cells, path_patching
from tae.analysis.causal.predictors import interval_of
from tae.analysis.causal.study import read_study
from tae.analysis.facts import TWO_IMAGES
from tae.analysis.numbers import percent
from tae.data.fit import Fitted
from tae.store.card import Card
from tae.store.checkpoint import Loaded, load_checkpoint, save_checkpoint
from tae.web.report import ReportImage
from tae.web.report.job import ExplainConfig, explain
from tae.web.report.pair import find_pair, pair_page
from tests.web import Elements

HOSTILE = "</title><script>alert(1)</script>"


@pytest.fixture
def loaded(small_model: Callable, tmp_path: Path) -> Loaded:
    path = save_checkpoint(
        tmp_path / "small.safetensors", small_model().float(), Card(name=HOSTILE, training={"steps": 1})
    )
    return load_checkpoint(path)


def picture(seed: int, title: str = "one.png") -> ReportImage:
    pixels = np.random.default_rng(seed).random((24, 32), np.float32)
    return ReportImage(title=title, fitted=Fitted(pixels, ()))


def said(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def test_each_number_is_the_package_s_and_stands_beside_its_definition_and_control(loaded: Loaded) -> None:
    a, b = picture(1), picture(2, HOSTILE)
    page = pair_page(loaded, find_pair(loaded, a, b), checkpoint_file="small.safetensors")
    assert not Elements(page).open and "<script" not in page
    text = " ".join(said(page).split())
    one, other = (torch.from_numpy(image.fitted.pixels)[None, None] for image in (a, b))
    cells = head_cells(loaded.model.config)
    for base, source in ((other, one), (one, other)):
        found = activation_patching(loaded.model, base, source, cells)
        error = found.error_of(attribution_patching(loaded.model, base, source, cells))
        assert f"correlate with what was measured at {error.correlation:.2f}, their ranks" in text
        strongest = int(np.abs(found.share).argmax())
        assert f"{cells[strongest].title} {percent(found.share[strongest], 1)}" in text
        assert " ".join(f"{percent(share)}" for share in found.share[:6]) in text
        sender = cells[strongest]
        assert isinstance(sender, Knockout)
        for place, share in path_patching(loaded.model, base, source, sender).items():
            assert f"{place} {percent(share, 1)}" in text
    assert all(definition in text for definition in TWO_IMAGES.values())
    assert "A third image's" in text and "Heimersheim & Nanda 2024" in text


def test_equal_images_have_no_way_and_only_what_is_known_is_told(loaded: Loaded) -> None:
    assert "there is no way between them" in pair_page(loaded, find_pair(loaded, picture(1), picture(1)))
    both = find_pair(loaded, picture(1), picture(2))
    known = find_pair(loaded, picture(1), picture(2), {"a": both.ways["a"].patched}, np.zeros(12))
    assert [*known.ways] == ["a"] and known.ways["a"].paths == both.ways["a"].paths


@pytest.mark.slow
def test_the_command_and_a_notebook_tell_of_a_second_image(loaded: Loaded, tmp_path: Path) -> None:
    for seed in range(6):
        pixels = (picture(seed).fitted.pixels * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{seed}.png")
    checkpoint = tmp_path / "small.safetensors"
    study = {"checkpoint": checkpoint, "images": str(tmp_path / "*.png"), "baseline": "zero"}
    job.run(job.StudyConfig(**study))  # type: ignore[arg-type]
    out = tmp_path / "x.html"
    asked = {"images": (str(tmp_path / "0.png"),), "checkpoint": checkpoint, "out": out, "overwrite": True}
    explain(ExplainConfig(**asked, other=tmp_path / "1.png"))  # type: ignore[arg-type]
    text = " ".join(said(out.read_text()).split())
    figures = read_study(checkpoint.with_suffix(".causal.json"), loaded.digest).pairs
    assert figures is not None and "Mean over 3 pairs, both ways, 95% intervals" in text and "1.png" in text
    assert in_percent(max(map(interval_of, figures["share"].values()), key=lambda one: one.value)) in text
    with pytest.raises(ValueError, match="other must be an image that can be read, got"):
        explain(ExplainConfig(**asked, other=tmp_path / "none.png"))  # type: ignore[arg-type]
    shown = tae.show(loaded, tmp_path / "0.png", other=tmp_path / "1.png")
    assert "What the numbers are" in shown.page and "1.png" in shown.page
    with pytest.raises(ValueError, match="model must be what load_checkpoint returned"):
        tae.show(loaded.model, tmp_path / "0.png", other=tmp_path / "1.png")
