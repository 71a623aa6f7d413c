"""Which number is white: one rule, whatever holds the numbers, and one decision for all that come together."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tae
from tae.data.archive import unpack_images
from tae.data.decode import read_image
from tae.data.limits import ImageError
from tae.data.stacks import decide, read_frame, scan_folder
from tae.data.video import file_frames
from tae.data.white import AS_FILE, Extent, White
from tests.data.files import chunk, encode, npy, png, tiff, write

ROWS, COLUMNS = np.mgrid[:24, :32]
SHADES = (ROWS * 32 + COLUMNS) / (24 * 32 - 1)  # 0 to 1
FORMAT = {"u": 1, "i": 2, "f": 3}


def greys(top: float, dtype: str, low: float = 0) -> np.ndarray:
    values = low + SHADES * (top - low)
    return (values if dtype[-2] == "f" else np.round(values)).astype(dtype)


def every_file(values: np.ndarray) -> list[bytes]:
    """An array as every file that can hold its type."""
    files = [npy(values), npy(values.astype(values.dtype.newbyteorder(">")))]
    for packed in (False, True):
        for order in ("<", ">"):
            swapped = values.astype(values.dtype.newbyteorder(order))
            files.append(tiff(swapped, sample_format=FORMAT[values.dtype.kind], packed=packed))
    return files + ([encode(values, "PNG")] if values.dtype == np.uint16 else [])


@pytest.mark.parametrize(
    ("top", "dtype", "white", "note"),
    [
        pytest.param(65535, "u2", 65535, "16-bit values divided by 65535", id="all 16 bits"),
        pytest.param(8192, "u2", 65535, "16-bit values divided by 65535", id="an eighth of 16 bits"),
        pytest.param(8191, "u2", 16383, "as of 14 bits", id="14 bits"),
        pytest.param(4095, "u2", 4095, "as of 12 bits", id="12 bits"),
        pytest.param(1100, "u2", 4095, "as of 12 bits", id="dark 12 bits"),
        pytest.param(1000, "u2", 1023, "as of 10 bits", id="10 bits"),
        pytest.param(250, "u2", 255, "as of 8 bits", id="8 bits in 16"),
        pytest.param(36, "u2", 36, "from 0 to 36 stretched", id="depth in metres"),
        pytest.param(4000, "u4", 4095, "as of 12 bits", id="12 bits in 32"),
        pytest.param(2**32 - 1, "u4", 2**32 - 1, "divided by", id="all 32 bits"),
        pytest.param(20, "i4", 20, "from 0 to 20 stretched", id="labels"),
        pytest.param(255, "i4", 255, "in \\[0, 255\\] divided", id="8 bits in signed 32"),
        pytest.param(127, "i1", 127, "from 0 to 127 stretched", id="signed 8 bits"),
        pytest.param(1.0000002, "f4", 1, "outside \\[0, 1\\] clipped", id="a hair above 1"),
        pytest.param(1.02, "f4", 1, "up to 0.02 outside", id="resampled"),
        pytest.param(1.3, "f4", 1.3, "from 0 to 1.3 stretched", id="far above 1"),
        pytest.param(2.0, "f4", 2, "from 0 to 2 stretched", id="float to 2"),
        pytest.param(0.02, "f8", 1, "taken as they are", id="dark float"),
        pytest.param(254.7, "f8", 255, "in \\[0, 255\\] divided", id="8 bits, resampled"),
        pytest.param(100.3, "f4", 100.3, "stretched", id="per cent"),
        pytest.param(65535, "f4", 65535, "stretched", id="16 bits as floats"),
        pytest.param(1, "f2", 1, "taken as they are", id="half precision"),
    ],
)
def test_10_11_range_is_the_type_s_only_where_the_numbers_use_it(
    top: float, dtype: str, white: float, note: str
) -> None:
    values = greys(top, dtype)
    expected = np.clip(values.astype(np.float64) / white, 0, 1)
    for data in every_file(values):
        image = read_image(data)
        np.testing.assert_allclose(image.pixels, expected, atol=2e-6)
        (said,) = image.notes
        assert image.white == said
        assert re.search(note, said)


def test_11_floats_that_leave_0_by_a_hair_are_clipped_and_differences_are_stretched() -> None:
    assert read_image(npy(greys(1, "f4", -0.03))).pixels.min() == 0
    difference = read_image(npy(greys(0.04, "f4", -0.04)))  # all of it is margin: clipped it would be black
    np.testing.assert_allclose(difference.pixels, SHADES, atol=1e-6)
    assert "stretched" in difference.white


def test_eight_bits_are_never_stretched() -> None:
    for top in (3, 36, 200):
        values = greys(top, "u1")
        for data in (npy(values), encode(values, "PNG"), tiff(values), b"P5 32 24 255\n" + values.tobytes()):
            image = read_image(data)
            np.testing.assert_array_equal(image.pixels, values / np.float32(255))
            assert image.notes == () and image.white == ""


def test_pgm_says_itself_which_number_is_white() -> None:
    for top, size in ((15, 1), (100, 1), (255, 1), (1000, 2), (4095, 2), (65535, 2)):
        values = np.round(SHADES * top).astype(">u2" if size == 2 else "u1")
        raw = read_image(b"P5\n# by hand\n32 24\n%d\n" % top + values.tobytes())
        text = read_image(b"P2 32 24 %d\n" % top + " ".join(map(str, values.ravel())).encode())
        np.testing.assert_allclose(raw.pixels, values / top, atol=1e-6)
        np.testing.assert_array_equal(text.pixels, raw.pixels)
    colours = np.stack([values] * 3, axis=2).astype(">u2")
    np.testing.assert_allclose(read_image(b"P6 32 24 65535\n" + colours.tobytes()).pixels, SHADES, atol=0.51 / 255)
    with pytest.raises(ImageError, match="damaged, cut short"):
        read_image(b"P5 32 24 65535\n" + values.tobytes()[:-1])


def test_colours_of_16_bits_of_which_12_are_used_are_not_black() -> None:
    values = greys(4095, "u2")
    colours = np.stack([values] * 3, axis=2)
    deep = png(colours.astype(">u2").tobytes(), 32, 24, 16, 2)
    for data in (deep, npy(colours)):
        image = read_image(data)
        np.testing.assert_allclose(image.pixels, SHADES, atol=0.51 / 255 + 1e-3)
        assert "values up to 4095 divided by 4095, as of 12 bits" in image.notes
    keyed = png(colours.astype(">u2").tobytes(), 32, 24, 16, 2, chunk(b"tRNS", bytes(6)))
    assert read_image(keyed).pixels[0, 0] == 1  # what is transparent lies on white


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("type", SHADES / 16.0), ("stretch", SHADES), ("0..8190", SHADES / 2), ("4095..0", 1 - SHADES)],
)
def test_a_choice_holds_whatever_the_numbers_are(choice: str, expected: np.ndarray) -> None:
    image = read_image(npy(greys(4095, "u2")), white=White(choice))
    np.testing.assert_allclose(image.pixels, expected, atol=2e-4)
    grey = read_image(encode(greys(100, "u1"), "PNG"), white=White(choice))
    tops = {"type": 100 / 255, "stretch": 1, "0..8190": 100 / 8190, "4095..0": 1}
    assert grey.pixels.max() == pytest.approx(tops[choice], abs=0.51 / 255)


def test_what_is_no_choice_is_refused() -> None:
    for text in ("", "auto", "0..", "1..1", "nan..3", "0..1e999", "0..x", "own"):
        with pytest.raises(ValueError, match="white must be file, type, stretch, or the numbers"):
            White(text)


def test_all_files_of_a_folder_decide_together_whatever_door_they_come_through(tmp_path: Path) -> None:
    """Alone each file would have a white of its own: 1023, 4095 and 255, and the floats 1, 2.5 and 250."""
    tops = {"u2": (900, 4000, 200), "f4": (0.9, 2.5, 250.5)}
    for dtype, (dark, bright, dim) in tops.items():
        folder = tmp_path / dtype
        folder.mkdir()
        whole = [greys(top, dtype) for top in (dark, bright, dim)]
        for number, values in enumerate(whole):
            write(folder / f"{number}.npy", npy(values))
        white = decide(scan_folder(folder).files)
        top = 4095 if dtype == "u2" else 255
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in scan_folder(folder).files:
                archive.write(path, path.name)
        unpack_images(packed.getvalue(), tmp_path / f"{dtype} unpacked")
        from_zip = scan_folder(tmp_path / f"{dtype} unpacked").files
        stack = write(tmp_path / f"{dtype}.npy", npy(np.stack(whole)[..., None]))
        for number, values in enumerate(whole):
            expected = np.clip(values / np.float32(top), 0, 1)
            np.testing.assert_allclose(read_frame(folder / f"{number}.npy", 0, white).pixels, expected, atol=1e-6)
            np.testing.assert_allclose(read_frame(from_zip[number], 0, decide(from_zip)).pixels, expected, atol=1e-6)
            np.testing.assert_allclose(read_frame(stack, number).pixels, expected, atol=1e-6)
        for frame, values in zip(file_frames(stack), whole, strict=True):
            np.testing.assert_allclose(frame, np.clip(values / np.float32(top), 0, 1), atol=1e-6)
        assert "for all together" in read_frame(stack, 0).white


def test_pages_of_a_tiff_decide_together(tmp_path: Path) -> None:
    pages = [Image.fromarray(greys(top, "u2")) for top in (900, 4000)]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert [round(float(read_frame(path, frame).pixels.max()) * 4095) for frame in (0, 1)] == [900, 4000]


def test_what_a_training_decided_comes_back_from_its_card_and_strangers_cards_decide_nothing() -> None:
    decided = White().decide([Extent("uint16", 3, 4000), Extent("float", -1, 1), Extent("uint8", 0, 9)])
    again = White.of_training({"white": decided.to_dict()})
    for extent in (Extent("uint16", 0, 60_000), Extent("float", 0, 9)):
        assert again.ends(extent)[:2] == decided.ends(extent)[:2]
        assert "as this model's training read such files" in again.ends(extent).why
    assert again.ends(Extent("uint8", 0, 9)).why == ""
    for told in (None, 3, {"ends": 3}, {"ends": {"uint16": [0]}}, {"ends": {"<b>": [0, 1, ""]}}):
        assert White.of_training({"white": told}) == AS_FILE
    for black, white in ((0, float("nan")), (0, "1"), (False, 1), (0, 10**400)):
        assert White.of_training({"white": {"ends": {"float": [black, white, ""]}}}) == AS_FILE


def test_prepare_takes_the_same_choice() -> None:
    model = tae.create_autoencoder(input_size=(24, 32), latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1)
    values = greys(4000, "u2")
    for source in (values, npy(values), Image.fromarray(values)):
        assert float(tae.prepare(source, model).image.max()) == pytest.approx(4000 / 4095)
        assert float(tae.prepare(source, model, white="stretch").image.max()) == 1
        assert float(tae.prepare(source, model, white="0..8000").image.max()) == pytest.approx(0.5)
