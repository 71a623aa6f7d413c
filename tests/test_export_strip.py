"""Strips of pictures as figures: every picture in its place, under its own words."""

import io
import re

import numpy as np
from PIL import Image

from tae.export_strip import strips_figure


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
    svg = strips_figure([row], "of $y$", "svg", untrained=True).decode()
    assert "mathit" not in svg and re.search("UNTRAINED MODEL", svg)
    assert {"a $x^2$ &lt;b&gt;", "of $y$"} <= set(re.findall(r"<!-- (.*?) -->", svg))
