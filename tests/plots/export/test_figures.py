"""Exports: the numbers come back exactly, the figures say what they show, and a stranger's name does no harm."""

import base64
import csv
import functools
import io
import re
import struct
import zipfile
from html import unescape
from pathlib import PurePosixPath, PureWindowsPath
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib._pylab_helpers import Gcf
from PIL import Image

from tae.analysis.facts import UNTRAINED
from tae.plots.export import figures, render, tables
from tae.plots.style import ERROR_COLOURS
from tae.store.names import plain_text

CAPTION = (
    "shirt.png · demo · UNTRAINED MODEL · Encoder, layer 2, head 3 · query patch 7 (row 1, column 2) · N 15 · "
    "head_dim 32 · 0.1 to 4.5 x uniform, colours to 4.5 (shared) · drawn patch by patch, not smoothed"
)
STRANGE_NAMES = [
    "<script>alert(1)</script>.png",
    '<a href="http://example.com/x">click</a>.png',
    "$\\frac{1}{0}$ and $unclosed.png",
    "]]> --> <!-- &amp; &#x41; %s {0}.png",
    "\u202egnp.exe <b>\x00\x1b[31m.png",
    "Übergröße 衣服 👗.png",
    "w" * 5000 + ".png",
    "many words " * 300,
    "",
]
HOSTILE_MEMBERS = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "/absolute.png",
    "C:\\Windows\\x.png",
    "C:x.png",
    "\\\\server\\share\\x.png",
    "con",
    "CON.png",
    "lpt1.txt",
    "a/../../b.png",
    "x" * 300 + ".png",
    "Größe 衣服.png",
    "👗",
    "new\nline.png",
    "nul\x00byte.png",
    "trailing. . .",
    "-rf",
    ".hidden",
    "what?.png",
    "a:stream.txt",
]


def random_map(num_tokens: int, seed: int = 0) -> np.ndarray:
    """(N, N) float32, rows sum to 1; read-only, as the app's caches hand it out."""
    weights = np.random.default_rng(seed).random((num_tokens, num_tokens)) ** 4
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def grey_image(height: int = 40, width: int = 70, seed: int = 1) -> np.ndarray:
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    image.flags.writeable = False
    return image


@functools.cache
def draw(name: str, fmt: render.Format, caption: str = CAPTION, warning: str = "") -> bytes:
    """Any of the figures, over 3 x 5 patches of 16 pixels."""
    image, recon = grey_image(), grey_image(seed=2)
    if name == "attention":
        return figures.attention_figure(random_map(15), (3, 5), caption, 3.0, fmt, warning)
    if name == "layers":
        maps = {"layer_0": random_map(15), "layer_1": random_map(15, 1), "average": random_map(15, 2)}
        return figures.layer_grid_figure(maps, (3, 5), caption, 3.0, fmt, warning)
    if name == "patch":
        return figures.patch_figure(image, random_map(15)[7], (3, 5), 16, 7, caption, 3.0, fmt, warning)
    if name == "comparison":
        return figures.comparison_figure(image, recon, caption, fmt, warning)
    return figures.error_figure(image, recon, caption, fmt, warning)


FIGURES = ["attention", "layers", "patch", "comparison", "error"]


def svg_words(svg: bytes) -> list[str]:
    """What is written in the picture, as text that can be searched and edited."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg.decode(), re.DOTALL)
    return [" ".join(unescape(text).split()) for text in found]


def pixels(png: bytes) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def near(picture: np.ndarray, colour: tuple[float, ...], tolerance: int = 3) -> np.ndarray:
    """(H, W) where a picture has a colour, given in [0, 1]."""
    wanted = np.round(np.array(colour[:3]) * 255)
    return np.abs(picture.astype(int) - wanted).max(axis=2) <= tolerance


def panel(mask: np.ndarray) -> tuple[slice, slice]:
    """The box around the lines that the mask fills for the most part: a drawn matrix, not its narrow colour bar."""
    rows = np.flatnonzero(mask.sum(axis=1) > 0.5 * mask.sum(axis=1).max())
    columns = np.flatnonzero(mask.sum(axis=0) > 0.5 * mask.sum(axis=0).max())
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


# -------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.slow
def test_a_png_is_a_png_of_its_size():
    # Inches as the functions set them, at 130 dots each.
    sizes = {"attention": (936, 936), "layers": (1352, 507), "patch": (1300, 676), "comparison": (1560, 598)}
    for name, size in {**sizes, "error": (832, 780)}.items():
        data = draw(name, "png")
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.format == "PNG" and image.size == size


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
def test_the_layer_figure_grows_with_its_rows_of_maps(count):
    maps = {f"layer_{layer}": random_map(6, layer) for layer in range(count - 1)} | {"average": random_map(6, 99)}
    columns, rows = min(4, count), -(-count // 4)
    data = figures.layer_grid_figure(maps, (2, 3), CAPTION, 3.0, "png")
    width, height = struct.unpack(">II", data[16:24])
    assert abs(width - 130 * (3.2 * columns + 0.8)) <= 1
    assert abs(height - 130 * (3.3 * rows + 0.6)) <= 1
    words = svg_words(figures.layer_grid_figure(maps, (2, 3), CAPTION, 3.0, "svg"))
    assert [word for word in words if word == "Average" or word.startswith("Layer ")] == [
        *(f"Layer {layer}" for layer in range(count - 1)),
        "Average",
    ]


@pytest.mark.slow
def test_a_figure_prints_its_caption():
    for name in FIGURES:
        assert CAPTION in " ".join(svg_words(draw(name, "svg")))  # each line of it is a text of its own
    # The lower edge changes with the caption, nothing else does.
    one, other = pixels(draw("error", "png")), pixels(draw("error", "png", CAPTION.replace("head 3", "head 1")))
    changed = np.argwhere((one != other).any(axis=2))
    assert len(changed) and changed[:, 0].min() > 0.85 * len(one)


@pytest.mark.slow
def test_only_an_untrained_models_figures_say_so_and_in_red():
    for name in FIGURES:
        untrained, trained = draw(name, "svg", "caption", warning=UNTRAINED), draw(name, "svg", "caption")
        assert UNTRAINED in svg_words(untrained) and b"#c0182b" in untrained
        assert UNTRAINED not in svg_words(trained) and b"#c0182b" not in trained
    red = (0xC0 / 255, 0x18 / 255, 0x2B / 255)
    assert near(pixels(draw("error", "png", "caption", warning=UNTRAINED))[:60], red).sum() > 200


def test_a_figure_names_its_axes_and_units():
    for name, words in [
        ("attention", ["Query patch", "Key patch", "row 0", "row 2", "x uniform"]),
        ("layers", ["Layer 0", "Layer 1", "Average", "x uniform"]),
        ("patch", ["x uniform"]),
        ("comparison", ["Image", "Reconstruction", "Error: reconstruction - image", "too dark < 0 < too light"]),
        ("error", ["Error: reconstruction - image", "too dark < 0 < too light"]),
    ]:
        assert set(words) <= set(svg_words(draw(name, "svg")))


@pytest.mark.filterwarnings("ignore:Glyph")  # the font has no Chinese and no dresses
@pytest.mark.parametrize(
    ("name", "stranger"),
    [("error", stranger) for stranger in STRANGE_NAMES] + [(name, " ".join(STRANGE_NAMES[:4])) for name in FIGURES],
)
def test_an_svg_is_plain_xml_whatever_the_picture_is_called(name, stranger):
    # Pages pass names through plain_text before they put them anywhere.
    svg = draw(name, "svg", f"{plain_text(stranger, limit=300)} · demo")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for element in root.iter():
        tag = element.tag.rpartition("}")[2].lower()
        assert tag not in {"script", "foreignobject", "a", "iframe", "animate", "set", "handler"}
        for attribute, value in element.attrib.items():
            plain = attribute.rpartition("}")[2].lower()
            assert not plain.startswith("on")
            if plain in {"href", "src"}:
                assert value.startswith(("#", "data:image/png;base64,")), value[:80]
            assert all(place.startswith("#") for place in re.findall(r"url\(\s*['\"]?([^)]*)", value))
        assert "@import" not in (element.text or "") and "url(" not in (element.text or "")


@pytest.mark.slow
def test_a_strange_name_is_written_as_it_stands():
    for stranger in STRANGE_NAMES[:4]:
        drawn = " ".join(svg_words(draw("error", "svg", stranger)))
        assert drawn.replace("- -", "--").find(stranger.removesuffix(".png").split()[0]) >= 0
        svg = draw("error", "svg", stranger)
        assert not svg.count(b"<script") and not svg.count(b"<a ")
        assert draw("error", "png", stranger).startswith(b"\x89PNG")


def test_a_formula_in_a_name_is_not_typeset():
    # Typeset, the three would look alike; as text, each dollar and brace is a letter of its own.
    drawn = {draw("error", "png", caption) for caption in ("$x$", "$ x $", "x")}
    assert len(drawn) == 3


@pytest.mark.slow
def test_a_single_weight_is_drawn_in_the_row_of_its_query_and_the_column_of_its_key():
    for grid in [(4, 4), (2, 5)]:
        num_tokens, query, key = grid[0] * grid[1], 1, 6
        attention_map = np.zeros((num_tokens, num_tokens), np.float32)
        attention_map[query, key] = 2 / num_tokens
        for data in (
            figures.attention_figure(attention_map, grid, "one weight", 4.0, "png"),
            figures.layer_grid_figure({"average": attention_map}, grid, "one weight", 4.0, "png"),
        ):
            picture = pixels(data)
            light, middle = (
                near(picture, render.colours("attention")(0.0)),
                near(picture, render.colours("attention")(0.5)),
            )
            box = panel(light)
            rows, columns = np.nonzero(middle[box])
            height, width = light[box].shape
            assert abs(height - width) <= 2, "cells are squares"
            assert int(np.median(rows) / height * num_tokens) == query
            assert int(np.median(columns) / width * num_tokens) == key
            assert abs(len(rows) / (height * width) - 1 / num_tokens**2) < 0.3 / num_tokens**2, "one cell, not smoothed"


def test_dark_is_high_in_exported_maps():
    brightness = np.array([sum(render.colours("attention")(value)[:3]) for value in np.linspace(0, 1, 33)])
    assert np.all(np.diff(brightness) < 0)


def over_white(value: float) -> tuple[float, ...]:
    """A colour of the overlay, from 0 to 1, on white."""
    *colour, opacity = render.colours("overlay")(value)
    return tuple(opacity * channel + 1 - opacity for channel in colour)


def test_where_there_is_no_weight_the_image_stays_as_it_is():
    assert over_white(0.0) == (1, 1, 1) and over_white(1.0) == pytest.approx((0.15, 0.13, 0.275), abs=0.01)


@pytest.mark.slow
def test_a_patchs_weight_is_drawn_on_its_place_in_the_picture():
    for grid, key in [((3, 3), 5), ((2, 9), 12)]:
        num_tokens, patch = grid[0] * grid[1], 16
        image = np.ones((grid[0] * patch, grid[1] * patch), np.float32)
        weights = np.full(num_tokens, 0.4 / num_tokens, np.float32)
        weights[key] = 2 / num_tokens
        data = figures.patch_figure(image, weights, grid, patch, 0, "one weight", 4.0, "png")
        picture = pixels(data)
        light, middle = near(picture, over_white(0.1)), near(picture, over_white(0.5))
        box = panel(light)
        rows, columns = np.nonzero(middle[box])
        height, width = light[box].shape
        assert int(np.median(rows) / height * grid[0]) == key // grid[1]
        assert int(np.median(columns) / width * grid[1]) == key % grid[1]
        assert abs(len(rows) / (height * width) - 1 / num_tokens) < 0.3 / num_tokens


@pytest.mark.slow
def test_a_picture_that_does_not_fill_its_last_patches_is_drawn_whole_and_alone():
    for height, width, grid in [(201, 201, (13, 13)), (152, 500, (10, 32))]:
        weights = np.full(grid[0] * grid[1], 0.2 / (grid[0] * grid[1]), np.float32)
        data = figures.patch_figure(
            np.ones((height, width), np.float32), weights, grid, 16, len(weights) - 1, "caption", 2.0, "png"
        )
        light = near(pixels(data), over_white(0.1))
        box = light[panel(light)]
        assert abs(box.shape[1] / box.shape[0] - width / height) < 0.03 * width / height


@pytest.mark.slow
def test_the_error_is_too_dark_on_one_side_of_zero_and_too_light_on_the_other():
    for name in ["comparison", "error"]:
        for height, width in [(60, 60), (40, 120)]:
            image = np.full((height, width), 0.5, np.float32)
            recon = image.copy()
            recon[:, : width // 3] -= 0.25
            recon[:, -(width // 3) :] += 0.125  # half of the largest error: the scale is symmetric
            make = figures.comparison_figure if name == "comparison" else figures.error_figure
            picture = pixels(make(image, recon, "caption", "png"))
            dark, zero, light = (near(picture, render.colours("error")(place)) for place in (0.0, 0.5, 0.75))
            assert min(dark.sum(), zero.sum(), light.sum()) > 3000
            centres = [np.median(np.nonzero(mask)[1]) for mask in (dark, zero, light)]
            assert centres == sorted(centres)


def test_page_and_export_draw_errors_in_the_same_colours():
    ends = [tuple(round(255 * channel) for channel in render.colours("error")(end)[:3]) for end in (0.0, 1.0)]
    assert [f"rgb{end}".replace(" ", "") for end in ends] == [ERROR_COLOURS[0], ERROR_COLOURS[-1]]


def test_drawing_leaves_matplotlibs_settings_and_figures_alone():
    for name in ["attention", "error"]:
        before, figures = dict(matplotlib.rcParams), len(Gcf.figs)
        draw.__wrapped__(name, "svg")
        assert dict(matplotlib.rcParams) == before
        assert len(Gcf.figs) == figures, "pyplot, which many sessions would share, holds no figure"


def test_figures_do_not_change_the_arrays():
    arrays = [random_map(15).copy(), grey_image().copy(), grey_image(seed=2).copy()]
    before = [array.copy() for array in arrays]
    attention_map, image, recon = arrays
    figures.attention_figure(attention_map, (3, 5), "", 3.0, "png")
    figures.layer_grid_figure({"average": attention_map}, (3, 5), "", 3.0, "png")
    figures.patch_figure(image, attention_map[0], (3, 5), 16, 0, "", 3.0, "png")
    figures.comparison_figure(image, recon, "", "png")
    figures.error_figure(image, recon, "", "png")
    tables.maps_npz({"layer_0": attention_map}, caption="")
    tables.maps_csv(attention_map, (3, 5))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_same_arrays_give_the_same_png():
    for name in ["attention", "patch"]:
        assert draw(name, "png") == draw.__wrapped__(name, "png")


def test_images_inside_an_svg_are_whole_pngs():
    found = re.findall(rb"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", draw("comparison", "svg"))
    assert len(found) >= 3  # image, reconstruction, error; the colour bar beside them
    for data in found:
        Image.open(io.BytesIO(base64.b64decode(data))).load()


# -------------------------------------------------------------------------------------------------------------- numbers


def test_npz_gives_back_every_bit_without_pickles():
    for dtype in [np.float32, np.float64, np.float16, np.uint8]:
        arrays = {
            "layer_0": (100 * random_map(15)).astype(dtype),
            "average": (100 * random_map(15, 1)).astype(dtype),
            "row": (100 * random_map(15)[0]).astype(dtype),
        }
        data = tables.maps_npz(arrays, caption=CAPTION + " <b>衣服</b> $x$")
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            assert set(loaded.files) == {*arrays, "caption"}
            for name, array in arrays.items():
                assert loaded[name].dtype == array.dtype
                np.testing.assert_array_equal(loaded[name], array)
            assert str(loaded["caption"]) == CAPTION + " <b>衣服</b> $x$"


def test_a_csv_of_a_map_by_hand():
    attention_map = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert tables.maps_csv(attention_map, (1, 2)).decode().splitlines() == [
        "query,query_row,query_column,key,key_row,key_column,weight,x_uniform",
        "0,0,0,0,0,0,0.25,0.5",
        "0,0,0,1,0,1,0.75,1.5",
        "1,0,1,0,0,0,1.0,2.0",
        "1,0,1,1,0,1,0.0,0.0",
    ]


def test_a_csv_gives_back_the_map_to_the_bit():
    for grid in [(3, 5), (6, 2), (1, 7)]:
        num_tokens = grid[0] * grid[1]
        attention_map = random_map(num_tokens)
        lines = read_csv(tables.maps_csv(attention_map, grid))
        assert len(lines) == num_tokens**2
        read = np.full((num_tokens, num_tokens), np.nan, np.float32)
        for line in lines:
            query, key = int(line["query"]), int(line["key"])
            assert (int(line["query_row"]), int(line["query_column"])) == divmod(query, grid[1])
            assert (int(line["key_row"]), int(line["key_column"])) == divmod(key, grid[1])
            read[query, key] = np.float32(line["weight"])
            assert np.float32(line["x_uniform"]) == attention_map[query, key] * num_tokens
        np.testing.assert_array_equal(read, attention_map)


@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_any_weight_comes_back_from_a_csv_to_the_bit(weights):
    attention_map = np.array(weights, np.float32).reshape(2, 2)
    lines = read_csv(tables.maps_csv(attention_map, (1, 2)))
    np.testing.assert_array_equal(np.array([np.float32(line["weight"]) for line in lines]), attention_map.ravel())


def test_a_csv_takes_400_tokens_and_no_more():
    lines = tables.maps_csv(np.full((400, 400), 1 / 400, np.float32), (20, 20)).count(b"\r\n")
    assert lines == 1 + 400 * 400
    with pytest.raises(ValueError, match="at most 400 tokens, got 401; take the NPZ"):
        tables.maps_csv(np.zeros((401, 401), np.float32), (1, 401))


def test_70_a_name_that_a_spreadsheet_would_run_is_kept_as_text():
    for first in ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"]:
        name = f'{first}HYPERLINK("http://example.com","x").png'
        (line,) = read_csv(tables.metrics_csv([{"image": name, "checkpoint": name, "psnr": 20.5}]))
        assert line["image"] == line["checkpoint"] == f"'{name}"


def test_a_harmless_name_stays_as_it_is():
    for name in ["shirt.png", "a=b.png", "a, b; c.png", 'say "x"\nand more', "1-2.png", "衣服 👗.png", ""]:
        (line,) = read_csv(tables.metrics_csv([{"image": name, "psnr": 20.5}]))
        assert line == {"image": name, "psnr": "20.5"}


def test_numbers_stay_numbers_and_come_back_exactly():
    row = {"image": "a", "psnr": -1.25, "mse": 0.1 + 0.2, "foreground_mse": float("nan"), "ssim": -1e-7}
    (line,) = read_csv(tables.metrics_csv([row]))
    assert list(line) == list(row), "columns in the order given"
    assert (line["psnr"], line["foreground_mse"]) == ("-1.25", "nan")
    assert float(line["mse"]) == 0.1 + 0.2 and float(line["ssim"]) == -1e-7


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), max_size=6))
def test_any_names_give_as_many_lines_and_no_formula(names):
    lines = read_csv(tables.metrics_csv([{"image": name, "psnr": 1.0} for name in names]))
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert line["psnr"] == "1.0"
        assert line["image"].removeprefix("'") == name.removeprefix("'")
        assert not line["image"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_no_pictures_give_an_empty_table():
    assert read_csv(tables.metrics_csv([])) == []


# ------------------------------------------------------------------------------------------------------------------ zip


def members(files: dict[str, bytes]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(tables.zip_files(files))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        return {name: archive.read(name) for name in names}


def assert_plain(names: list[str]) -> None:
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name), name
        assert len(name) <= 70 and not name.endswith(".")
        assert PurePosixPath(name).name == PureWindowsPath(name).name == name
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)", name.split(".")[0], re.IGNORECASE)
    assert len({name.lower() for name in names}) == len(names), "some file systems do not tell case apart"


def test_a_zip_holds_what_was_put_in():
    files = {"image.png": b"\x89PNG", "arrays.npz": bytes(range(256)) * 10, "metrics.csv": b""}
    assert members(files) == files


def test_hostile_names_become_plain_ones_and_nothing_is_lost(tmp_path):
    files = {name: str(number).encode() for number, name in enumerate(HOSTILE_MEMBERS)}
    found = members(files)
    assert_plain(list(found))
    assert list(found.values()) == list(files.values())
    home = tmp_path / "home"
    home.mkdir()
    with zipfile.ZipFile(io.BytesIO(tables.zip_files(files))) as archive:
        archive.extractall(home)
    assert sorted(path.name for path in home.iterdir()) == sorted(found)
    assert list(tmp_path.iterdir()) == [home]


def test_names_that_become_equal_are_numbered_and_keep_their_ending():
    files = {"a b.png": b"1", "a_b.png": b"2", "A_B.PNG": b"3", "a_b-2.png": b"4", "x/a_b.png": b"5", "README": b"6"}
    files["readme"] = b"7"
    found = members(files)
    assert_plain(list(found))
    assert list(found.values()) == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert [name.lower().endswith(".png") for name in found] == [True] * 5 + [False] * 2


def test_the_files_of_a_picture_with_a_long_name_can_be_told_apart():
    for length in [30, 45, 56, 60, 61, 200]:
        endings = ["_image.png", "_reconstruction.png", "_comparison.svg", "_arrays.npz", "_metrics.csv"]
        found = list(members({"n" * length + ending: b"" for ending in endings}))
        assert_plain(found)
        assert all(
            name.startswith("nnn") and name.endswith(ending) for name, ending in zip(found, endings, strict=True)
        )


@settings(max_examples=50)
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.binary(max_size=5), max_size=8)
)
def test_any_names_become_plain_ones(files):
    found = members(files)
    assert_plain(list(found))
    assert list(found.values()) == list(files.values())


def test_the_same_files_give_the_same_bytes():
    files = {"image.png": b"\x89PNG", "metrics.csv": b"a,b"}
    data = tables.zip_files(files)
    assert data == tables.zip_files(dict(files))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2000, 1, 1, 0, 0, 0)}, "no clock"
        assert all(info.external_attr >> 16 & 0o111 == 0 for info in archive.infolist()), "nothing executable"
