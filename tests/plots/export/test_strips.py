"""Strips of pictures as figures: every picture in its place, under its own words."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from tae.analysis.facts import UNTRAINED
from tae.plots.export.strips import folded_figure, strips_figure


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_pictures_stand_side_by_side_and_wide_ones_below_each_other():
    square = [(np.full((20, 20), 0.5), "one"), (np.zeros((20, 20)), "two"), (np.zeros((20, 20)), "three")]
    wide = [(np.full((10, 60), 0.5), "one"), (np.zeros((10, 60)), "two")]
    width, height = size(strips_figure([square, square[:2]], "caption", "png"))
    assert 1 < width / height < 2
    one, two = (size(strips_figure([wide[:number]], "caption", "png")) for number in (1, 2))
    assert one[0] == two[0] and two[1] > 1.6 * one[1]


def test_titles_and_captions_are_drawn_as_they_stand():
    row = [(np.zeros((8, 8)), "a $x^2$ <b>")]
    svg = strips_figure([row], "of $y$", "svg", warning=UNTRAINED).decode()
    assert "mathit" not in svg and re.search("UNTRAINED MODEL", svg)
    assert {"a $x^2$ &lt;b&gt;", "of $y$"} <= set(re.findall(r"<text[^>]*>(.*?)</text>", svg))


@pytest.mark.slow
def test_a_long_strip_is_folded_into_lines_that_can_be_read():
    strip = np.full((152, 10_000), 0.5)
    shown = size(folded_figure(strip, strip, "caption", "png", error_only=True))
    lines = -(-10_000 // 1216)
    assert shown[1] > lines * shown[0] * 152 / 1216 * 0.8  # each line is about as high as it should be
    longest = size(folded_figure(np.zeros((10, 40_000)), np.zeros((10, 40_000)), "caption", "png", error_only=True))
    assert longest[1] < 20_000


def test_a_folded_strip_says_what_each_line_shows():
    strip = np.linspace(0, 1, 1500)[None].repeat(100, axis=0)
    svg = folded_figure(strip, 1 - strip, "of $y$", "svg", warning=UNTRAINED).decode()
    said = set(re.findall(r"<text[^>]*>(.*?)</text>", svg))
    for title in ("Image", "Reconstruction", "Error: reconstruction - image"):
        assert {f"{title}, 0 to 800 px", f"{title}, 800 to 1500 px"} <= said
    assert {"of $y$", "too dark < 0 < too light".replace("<", "&lt;")} <= said and "UNTRAINED MODEL" in svg
    only = folded_figure(strip, 1 - strip, "caption", "svg", error_only=True).decode()
    assert "Image, 0 to" not in only and "Error: reconstruction - image, 0 to 800 px" in only
