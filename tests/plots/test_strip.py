"""Long strips on the page: every pixel is there, in pieces that browsers draw; rulers whose windows do not cover each other."""

import base64
import io
import re

import numpy as np
from hypothesis import given
from PIL import Image

from tae.analysis.windows import window_starts
from tae.plots.strip import PIECE, StripRow, error_png, lanes, shown_scale, strip_html
from tests.analysis.test_windows import SIZES


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def pictures(html: str) -> list[Image.Image]:
    return [opened(base64.b64decode(data)) for data in re.findall(r"data:image/png;base64,([^']+)'", html)]


def test_a_strip_is_shown_pixel_by_pixel_in_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (152, 2 * PIECE + 100), np.uint8)
    html = strip_html([StripRow("Image", pixels / 255)], "A strip", [0], pixels.shape[1], ["all"])
    pieces = pictures(html)
    assert [piece.width for piece in pieces] == [PIECE, PIECE, 100]
    np.testing.assert_array_equal(np.concatenate([np.asarray(piece) for piece in pieces], axis=1), pixels)
    assert f"width: {pixels.shape[1]}px" in html and html.count("alt='Image'") == 1


def test_low_strips_are_enlarged_by_whole_numbers_and_high_ones_shrunk() -> None:
    assert [shown_scale(height) for height in (24, 60, 120, 152, 201, 256, 512)] == [5, 2, 1, 1, 1, 1, 0.5]
    html = strip_html([StripRow("Image", np.ones((24, 100)))], "A strip", [0, 50], 50, ["a", "b"])
    assert "width: 500px; height: 120px" in html and "width: 500px'>" in html


def test_errors_are_drawn_on_colours_that_people_tell_apart_with_white_at_zero() -> None:
    drawn = np.asarray(opened(error_png(np.array([[-0.5, -0.25, 0, 0.25, 0.5, 3]]), 0.5)).convert("RGB")).astype(int)[0]
    dark, light = drawn[0], drawn[4]
    assert drawn[2].min() > 240
    assert dark[0] > dark[2] + 80 and light[2] > light[0] + 20  # orange and purple
    np.testing.assert_array_equal(drawn[5], light)


@given(SIZES)
def test_no_window_covers_another_on_the_ruler(sizes: tuple[int, int, int]) -> None:
    window, overlap, width = sizes
    starts = window_starts(width, window, overlap)
    chosen = lanes(starts, window)
    assert len(chosen) == len(starts) and set(chosen) == set(range(max(chosen) + 1))
    for lane in set(chosen):
        on_it = [start for start, other in zip(starts, chosen, strict=True) if other == lane]
        assert all(right - left >= window for left, right in zip(on_it, on_it[1:], strict=False))


def test_windows_that_share_half_take_two_lines_and_one_for_the_last() -> None:
    assert lanes([0, 50, 100, 150, 170], 100) == [0, 1, 0, 1, 2]


def test_the_ruler_stands_below_its_row_and_lies_where_the_windows_lie() -> None:
    rows = [StripRow("First", np.ones((152, 300)), ruled=True), StripRow("Second", np.zeros((152, 300)), limit=0.5)]
    html = strip_html(rows, "A strip", [0, 100, 150], 150, ["one", "two", "three"])
    assert html.index("First") < html.index("class='ruler'") < html.index("Second")
    places = re.findall(r"left: (\d+)px; width: (\d+)px; top: (\d+)px'>(\w+)<", html)
    assert [(int(left), int(width), name) for left, width, _, name in places] == [
        (0, 150, "one"),
        (100, 150, "two"),
        (150, 150, "three"),
    ]
    assert "−0.50, too dark" in html and "too light, +0.50" in html


def test_titles_and_marks_are_shown_as_they_stand() -> None:
    for text in ["<img src=x onerror=alert(1)>", "' onload='alert(1)", "&lt;"]:
        html = strip_html([StripRow(text, np.ones((152, 300)), ruled=True)], text, [0], 300, [text])
        assert text not in html


def test_there_is_a_way_by_keyboard() -> None:
    html = strip_html([StripRow("Image", np.ones((152, 300)))], "The strip", [0], 300, [""])
    assert "tabindex='0' role='region' aria-label='The strip'" in html
