"""One file of a stranger to an image, or one sentence that refuses it."""

import itertools
import random
import re
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tae.data.decode import FORMATS, DecodedImage, read_image
from tae.data.limits import MAX_FILE_BYTES, ImageError
from tests.data.files import FILES, chunk, colours, encode, exif, luma, npy, npy_header, png, png_header, ramp, tiff

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def outcome(data: bytes, name: str = "") -> DecodedImage | None:
    """The picture, whose promises are checked, or None where it is refused; any other exception is a failure."""
    try:
        picture = read_image(data, name)
    except ImageError as error:
        assert str(error) and not re.search("/tmp|object at|<class", str(error))
        return None
    assert picture.pixels.dtype == np.float32 and picture.pixels.ndim == 2 and picture.pixels.size
    assert np.isfinite(picture.pixels).all() and picture.pixels.min() >= 0 and picture.pixels.max() <= 1
    assert picture.original.dtype == np.uint8 and max(picture.original.shape[:2]) <= 1280
    assert picture.original.ndim == 2 or picture.original.shape[2:] == (3,)
    return picture


# ---- What is read


def test_every_format_is_read_with_its_size_and_pixels() -> None:
    for label in FILES:
        picture = read_image(FILES[label])
        assert picture.extent is not None and picture.extent.kind == "uint8"
        assert picture.pixels.shape == ((32, 24) if label == "jpeg progressive" else (24, 32))  # the latter by EXIF
        assert picture.format == label.split()[0].upper()
        expected = luma(colours()) if picture.original.ndim == 3 else ramp() / 255
        if label in ("png", "gif", "tiff lzw", "npy", "gif animated", "ppm", "jpeg2000"):
            np.testing.assert_array_equal(picture.pixels, ramp() / np.float32(255))
        elif label in ("png colour", "webp lossless", "bmp", "tiff", "tiff deflate"):
            np.testing.assert_allclose(picture.pixels, expected, atol=0.51 / 255)  # grey is rounded to 8 bits
            np.testing.assert_array_equal(picture.original, colours())


def test_every_suffix_belongs_to_a_format_that_is_read() -> None:
    for kind, one in FORMATS.items():
        for ending in one.endings:
            assert not any("name" in note for note in read_image(FILES[kind.lower()], f"photo{ending.upper()}").notes)


def test_plain_grey_image_has_nothing_to_note() -> None:
    assert read_image(FILES["png"], "a.png").notes == ()


def test_content_decides_and_a_wrong_ending_is_noted() -> None:
    picture = read_image(FILES["png"], "/home/me/x.JPG")
    assert picture.format == "PNG" and picture.notes == ("the name ends in .jpg, the content is PNG",)
    assert read_image(FILES["jpeg"], "photo.jfif").notes == read_image(FILES["jpeg"]).notes
    assert read_image(FILES["png"], "shot 24.11.2026").notes == ()
    assert read_image(FILES["png"], "x.<img src=x>").notes == ()


def test_colour_turns_to_grey_by_luma() -> None:
    for colour, grey in (("red", 76), ("lime", 150), ("blue", 29), ("white", 255), ("black", 0)):
        picture = read_image(encode(Image.new("RGB", (3, 2), colour), "PNG"))
        np.testing.assert_array_equal(picture.pixels, np.full((2, 3), grey / 255, np.float32))
    assert "converted to greyscale (Rec. 601)" in read_image(FILES["png colour"]).notes


def test_grey_stored_as_colour_is_not_called_converted() -> None:
    picture = read_image(encode(np.dstack([ramp()] * 3), "PNG"))
    np.testing.assert_array_equal(picture.original, ramp())
    assert picture.notes == ()


def test_large_original_is_shrunk_for_showing_but_its_pixels_are_not() -> None:
    picture = read_image(encode(np.tile(np.array([[0, 255], [255, 0]], np.uint8), (50, 1280)), "PNG"))
    assert picture.pixels.shape == (100, 2560) and picture.original.shape == (50, 1280)
    assert abs(int(picture.original.mean()) - 127) <= 1 and np.ptp(picture.original[5:-5, 5:-5]) < 40  # antialiased


# ---- Depth and range


def test_sixteen_bit_png_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 256 * 256).astype(np.uint16).reshape(256, 256)
    picture = read_image(encode(values, "PNG"))
    np.testing.assert_allclose(picture.pixels, values / 65535, atol=1e-7)
    assert round(float(picture.pixels.mean()) * 255) in (127, 128)
    assert picture.notes == ("16-bit values divided by 65535",)


def test_sixteen_bit_tiff_is_scaled_in_either_byte_order() -> None:
    for packed in [False, True]:
        for order in "<>":
            values = np.array([[0, 300, 40000], [65535, 1, 256]], f"{order}u2")
            np.testing.assert_allclose(read_image(tiff(values, packed=packed)).pixels, values / 65535, atol=1e-7)


def test_white_is_zero_in_sixteen_bits_is_heeded() -> None:
    values = np.array([[0, 16384, 65535]], "<u2")
    np.testing.assert_allclose(read_image(tiff(values, tags={262: 0})).pixels, 1 - values / 65535, atol=1e-6)


def test_sixteen_bit_colours_keep_their_high_bits() -> None:
    values = np.array([[[0, 256, 65535], [300, 40000, 511]]], ">u2")
    picture = read_image(png(values.tobytes(), 2, 1, 16, 2))
    np.testing.assert_array_equal(picture.original, values >> 8)
    assert "16 bits a channel, read with 8" in picture.notes


def test_unsigned_32_bit_tiff_does_not_wrap() -> None:
    picture = read_image(tiff(np.array([[0, 2**31, 2**32 - 1]], "<u4")))
    np.testing.assert_allclose(picture.pixels, [[0, 0.5, 1]], atol=1e-6)


def test_floats_and_wide_integers_follow_the_stated_range_rule() -> None:
    for values, expected, note in [
        ([[0, 0.25, 1]], [[0, 0.25, 1]], r"in \[0, 1\] taken as they are"),
        ([[0, 51, 255]], [[0, 0.2, 1]], r"in \[0, 255\] divided by 255"),
        ([[0, 500, 1000]], [[0, 0.5, 1]], "from 0 to 1000 stretched"),
        ([[-1, 0, 3]], [[0, 0.25, 1]], "from -1 to 3 stretched"),
        ([[300, 300]], [[0.5, 0.5]], "one value everywhere"),
        ([[-2, -2]], [[0.5, 0.5]], "one value everywhere"),
        ([[0, 0]], [[0, 0]], "taken as they are"),
    ]:
        array = np.array(values)
        files = [tiff(array.astype("<f4"), sample_format=3), npy(array.astype("f8")), npy(array.astype(">f4"))]
        if array.dtype.kind == "i":
            files += [tiff(array.astype("<i4"), sample_format=2), npy(array.astype("i8")), npy(array.astype("i2"))]
        for data in files:
            picture = read_image(data)
            np.testing.assert_allclose(picture.pixels, expected, atol=1e-6)
            assert len(picture.notes) == 1 and re.search(note, picture.notes[0])


def test_nan_and_infinity_are_refused() -> None:
    for write in [lambda a: tiff(a.astype("<f4"), sample_format=3), npy]:
        for bad in [np.nan, np.inf, -np.inf]:
            with pytest.raises(ImageError, match="NaN, infinite"):
                read_image(write(np.array([[0.5, bad]])))


def test_range_too_wide_for_numbers_is_refused() -> None:
    with pytest.raises(ImageError, match="far too large"):
        read_image(npy(np.array([[-1.7e308, 1.7e308]])))


def test_tiff_that_pillow_misreads_is_read_as_it_is_meant() -> None:
    for data, expected in [
        (tiff(np.array([[0, -5]], ">i4"), sample_format=2, packed=True), [[1, 0]]),
        (tiff(np.array([[0, 0.5]], ">f4"), sample_format=3, packed=True), [[0, 0.5]]),
        (tiff(np.array([[0, -5]], "i1"), sample_format=2), [[1, 0]]),
        (tiff(np.array([[[0, 65535]], [[0, 65535]], [[0, 65535]]], "<u2")), [[0, 1]]),
    ]:
        np.testing.assert_allclose(read_image(data).pixels, expected, atol=1e-6)


# ---- Colours, transparency, rotation, frames


STORED = {
    "PNG": "1 L LA P RGB RGBA I;16",
    "TIFF": "1 L LA P PA RGB RGBA CMYK YCbCr LAB I;16 I;16B I F",
    "JPEG": "1 L RGB CMYK YCbCr",
    "WEBP": "RGB RGBA",
    "BMP": "1 L P RGB RGBA",
    "GIF": "1 L P RGB RGBA",
}


def test_every_mode_that_a_format_can_store_is_read() -> None:
    for kind, mode in [(kind, mode) for kind, modes in STORED.items() for mode in modes.split()]:
        picture = outcome(encode(Image.new(mode, (5, 4)), kind))
        assert picture is not None and picture.format == kind
        black = picture.pixels.max() < (0.3 if mode == "LAB" else 0.02)  # LAB is a dark colour here, CMYK is white
        assert picture.pixels.shape == (4, 5) and (black or mode in ("CMYK", "LA", "PA", "RGBA", "YCbCr"))


def test_colour_spaces_come_out_as_the_colours_they_mean() -> None:
    grey = read_image(encode(Image.new("CMYK", (3, 2), (0, 0, 0, 255)), "JPEG"))
    assert grey.pixels.max() < 0.01 and "CMYK turned to RGB" in grey.notes
    white = read_image(encode(Image.new("LAB", (3, 2), (255, 128, 128)), "TIFF"))
    assert white.pixels.min() > 0.98 and "LAB turned to RGB" in white.notes
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    picture = read_image(encode(palette, "PNG"))
    np.testing.assert_array_equal(picture.pixels, [[0, 1]])
    assert "palette colours looked up" in picture.notes


def test_transparency_lies_on_white() -> None:
    for kind in ["PNG", "WEBP", "TIFF"]:
        rgba = np.zeros((2, 3, 4), np.uint8)
        rgba[:, 1, 3] = 128
        rgba[:, 2, 3] = 255
        picture = read_image(encode(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
        np.testing.assert_allclose(picture.pixels[0], [1, 1 - 128 / 255, 0], atol=1.01 / 255)
        assert "transparency laid on white" in picture.notes


def test_opaque_alpha_changes_nothing_and_is_not_noted() -> None:
    picture = read_image(encode(np.dstack([ramp()] * 3 + [np.full_like(ramp(), 255)]), "PNG"))
    np.testing.assert_array_equal(picture.original, ramp())
    assert picture.notes == ()


def test_transparent_grey_of_any_depth_lies_on_white() -> None:
    for bits, packed in [(1, 0b01000000), (2, 0b00011011), (4, 0x01), (8, 1)]:
        width = 1 if bits == 8 else 2
        picture = read_image(png(bytes([packed]), width, 1, bits, 0, chunk(b"tRNS", struct.pack(">H", 1))))
        assert picture.pixels[0].tolist() == ([1] if bits == 8 else [0, 1])


def test_transparent_sixteen_bit_values_lie_on_white() -> None:
    values = np.array([[700, 701]], ">u2")
    picture = read_image(png(values.tobytes(), 2, 1, 16, 0, chunk(b"tRNS", struct.pack(">H", 700))))
    np.testing.assert_allclose(picture.pixels, [[1, 701 / 1023]], atol=1e-7)
    rgb = png(np.array([[[0, 0, 0], [0, 65535, 0]]], ">u2").tobytes(), 2, 1, 16, 2, chunk(b"tRNS", bytes(6)))
    np.testing.assert_array_equal(read_image(rgb).original, [[[255, 255, 255], [0, 255, 0]]])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF deep"])
def test_13_exif_rotation_equals_turned_pixels(kind: str) -> None:
    turn: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, *range(2, a.ndim)),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, *range(2, a.ndim)),
        8: lambda a: np.rot90(a, 1),
    }
    for orientation in range(1, 9):
        if kind == "TIFF deep":
            values = ramp().astype(">u2") * 257
            plain, turned = read_image(tiff(values)), read_image(tiff(values, tags={274: orientation}))
        else:
            plain = read_image(encode(colours(), kind))
            turned = read_image(encode(colours(), kind, exif=exif(orientation)))
        np.testing.assert_array_equal(turned.pixels, turn[orientation](plain.pixels))
        np.testing.assert_array_equal(turned.original, turn[orientation](plain.original))
        assert ("turned upright as its EXIF data say" in turned.notes) == (orientation > 1)


def test_broken_exif_does_not_spoil_a_picture() -> None:
    for broken in [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"]:
        np.testing.assert_array_equal(read_image(encode(ramp(), "PNG", exif=broken)).pixels, ramp() / np.float32(255))


def animation(kind: str, frames: int = 300) -> bytes:
    others = [Image.fromarray(np.full((24, 32), number % 255, np.uint8)) for number in range(1, frames)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode(ramp(), kind, save_all=True, append_images=others, **options)


def gif_of(frames: int) -> bytes:
    one = encode(ramp(), "GIF")
    start = one.index(b",")
    return one[:start] + one[start:-1] + (b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0" * (frames - 1)) + b";"


def apng_of(frames: int) -> bytes:
    one = encode(ramp(), "PNG")
    start, body, end = one[:33], one[33:-12], one[-12:]
    control = struct.pack(">IIIIHHBB", 32, 24, 0, 0, 1, 10, 0, 0)
    data = [start, chunk(b"acTL", struct.pack(">II", frames, 0)), chunk(b"fcTL", bytes(4) + control), body]
    pixels = zlib.compress(bytes(33 * 24))
    for number in range(1, 2 * frames - 2, 2):
        data.append(chunk(b"fcTL", struct.pack(">I", number) + control))
        data.append(chunk(b"fdAT", struct.pack(">I", number + 1) + pixels))
    return b"".join([*data, end])


def wide_second_gif() -> bytes:
    return gif_of(1)[:-1] + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(animation("GIF"), id="gif"),
        pytest.param(animation("PNG", 20), id="apng"),
        pytest.param(animation("WEBP", 20), id="webp"),
        pytest.param(animation("TIFF", 20), id="tiff"),
        pytest.param(gif_of(100_000), id="gif of 100,000"),
        pytest.param(apng_of(100_000), id="apng of 100,000"),
        pytest.param(wide_second_gif(), id="a huge second frame"),
    ],
)
def test_of_many_frames_the_first_is_read_and_said(data: bytes) -> None:
    picture = read_image(data)
    np.testing.assert_array_equal(picture.pixels, ramp() / np.float32(255))
    assert "the first of several frames or pages" in picture.notes


def test_camera_file_of_several_pictures_is_a_jpeg() -> None:
    data = encode(colours(), "MPO", save_all=True, append_images=[Image.fromarray(255 - colours())])
    picture = read_image(data, "dsc.jpg")
    assert picture.format == "JPEG" and "the first of several frames or pages" in picture.notes
    np.testing.assert_array_equal(picture.pixels, read_image(FILES["jpeg"]).pixels)


def test_6_constant_and_tiny_pictures_are_read() -> None:
    for size in [(1, 1), (1, 9), (9, 1), (16, 16)]:
        for value in [0, 1, 127, 255]:
            picture = outcome(encode(np.full(size, value, np.uint8), "PNG"))
            assert (
                picture is not None
                and picture.pixels.shape == size
                and set(picture.pixels.ravel()) == {np.float32(value) / np.float32(255)}
            )


# ---- Arrays


def test_arrays_of_any_number_type_are_read() -> None:
    for dtype in ["u1", "<u2", ">u2", "?", "f2", "<f4", ">f8", "i8", "u4"]:
        for shape in [(2, 3), (1, 2, 3), (2, 3, 1)]:
            top = {"u1": 255, "<u2": 65535, ">u2": 65535}.get(dtype, 1)
            grey = np.array([[0, 1, 0], [1, 1, 0]])
            picture = read_image(npy((grey * top).astype(dtype).reshape(shape)))
            np.testing.assert_array_equal(picture.pixels, grey)
            assert picture.format == "NPY"


def test_arrays_of_every_npy_version_and_order_are_read() -> None:
    for version in [(1, 0), (2, 0), (3, 0)]:
        for array in (ramp(), np.asfortranarray(ramp())):
            np.testing.assert_array_equal(read_image(npy(array, version)).pixels, ramp() / np.float32(255))


def test_colour_arrays_equal_the_same_colours_in_a_png() -> None:
    for dtype, top in [("u1", 255), ("u2", 65535), ("f4", 1), ("f4", 255)]:
        picture = read_image(npy((colours() * (top / 255)).astype(dtype)))
        np.testing.assert_array_equal(picture.pixels, read_image(FILES["png colour"]).pixels)
        np.testing.assert_array_equal(picture.original, colours())


def test_opacity_of_arrays_lies_on_white_and_is_checked() -> None:
    rgba = np.zeros((2, 1, 4), np.float32)
    rgba[1, 0, 3] = 1
    np.testing.assert_array_equal(read_image(npy(rgba)).pixels, [[1], [0]])
    rgba[0, 0, 3] = -1
    with pytest.raises(ImageError, match="opacity"):
        read_image(npy(rgba))


def test_hostile_arrays_are_refused_without_allocating() -> None:
    for data, said in [
        (npy(np.array([[{"a": 1}]], object)), "real numbers, got object"),
        (npy(np.zeros((2, 2), complex)), "real numbers, got complex128"),
        (npy(np.zeros((2, 2), "U3")), "real numbers"),
        (npy(np.zeros((2, 2), [("a", "f4")])), "real numbers"),
        (npy(np.zeros(4)), r"must be \(H, W\).*got \(4,\)"),
        (npy(np.zeros((2, 5, 2, 2))), "must be"),
        (npy(np.zeros((3, 5, 6))), r"np\.moveaxis\(array, 0, -1\)"),
        (npy(np.zeros((9, 3, 5, 6))), r"np\.moveaxis\(array, 1, -1\)"),
        (npy(np.zeros((2, 2, 2, 2))), "must be"),
        (npy(np.array(3.0)), "must be"),
        (npy(np.zeros((0, 5))), "at least one pixel"),
        (npy_header("'|u1'", "(100000, 100000)"), "got 100000x100000"),
        (npy_header("'<f8'", "(5000, 5000)"), "cut short"),
        (npy_header("'<f8'", "(-1, 5)") + bytes(80), "at least one pixel"),
        (npy_header("'<f8'", "(" * 3000), "damaged"),
        (npy(ramp())[:-1], "cut short"),
    ]:
        tracemalloc.start()
        try:
            with pytest.raises(ImageError, match=said):
                read_image(data)
            assert tracemalloc.get_traced_memory()[1] < 2 * 1024**2
        finally:
            tracemalloc.stop()


def test_pickle_in_an_array_never_runs(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(ImageError, match="real numbers"):
        read_image(npy(np.array([[Payload()]], object)))
    assert not (tmp_path / "ran").exists()


# ---- What is refused


def test_2_what_is_no_picture_is_refused_whatever_its_name() -> None:
    for data, said in [
        (b"", "empty"),
        (b"GIF89a", "damaged, cut short"),
        (b"hello, world", "got something else"),
        (bytes(range(256)), "got something else"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "got SVG, HTML or XML"),
        (b"\xef\xbb\xbf\n<!doctype html><html>", "got SVG, HTML or XML"),
        (b"%PDF-1.7\n", "got PDF"),
        (b"PK\x03\x04" + bytes(40), "got ZIP"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "got HEIC"),
        (b"8BPS\0\x01" + bytes(40), "got PSD"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a supported image"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "not a supported image"),
        (b"SIMPLE  =                    T" + b" " * 2850, "not a supported image"),
        (encode(ramp(), "ICO"), "got ICO"),
        (bytes(128) + b"DICM" + bytes(40), "got DICOM; export"),
        (encode(ramp(), "TGA") + bytes(8) + b"TRUEVISION-XFILE.\0", "got TGA; export"),
        (b"BM is how this text begins", "not a supported image"),
    ]:
        for name in ("", "/srv/secret/a.png", "a.jpg"):
            with pytest.raises(ImageError, match=said) as caught:
                read_image(data, name)
            assert "secret" not in str(caught.value)


def tiff_header(width: int, height: int) -> bytes:
    return tiff(np.zeros((1, 1), "u1"), tags={256: width, 257: height})


def test_3_huge_sizes_are_refused_from_the_header() -> None:
    for width, height in [
        (50_000, 50_000),
        (178_000_000, 1),
        (1, 178_000_000),
        (2**31 - 1, 1),
        (20_001, 2),
        (5001, 5000),
    ]:
        read_image(FILES["tiff"])  # what is imported on first use does not count
        for data in (png_header(width, height), tiff_header(width, height)):
            tracemalloc.start()
            try:
                with pytest.raises(ImageError, match="at most 25 million pixels and 20000 a side"):
                    read_image(data)
                assert tracemalloc.get_traced_memory()[1] < 2 * 1024**2
            finally:
                tracemalloc.stop()


def test_4_small_file_of_a_huge_picture_is_refused_unread() -> None:
    packer = zlib.compressobj()
    body = b"".join(packer.compress(bytes(13_001)) for _ in range(13_000)) + packer.flush()
    data = png_header(13_000, 13_000) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert len(data) < 200_000
    with pytest.raises(ImageError, match="got 13000x13000"):
        read_image(data)


def test_5_huge_sizes_are_refused_in_every_format() -> None:
    for kind in ["GIF", "BMP", "JPEG", "WEBP"]:
        data = bytearray(FILES[kind.lower()])
        if kind == "GIF":
            data[6:10] = b"\xff" * 4
        elif kind == "BMP":
            data[18:26] = struct.pack("<ii", 30_000, 30_000)
        elif kind == "JPEG":
            start = data.index(b"\xff\xc0")
            data[start + 5 : start + 9] = b"\xff" * 4
        else:
            data[12:] = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2 + data[12:]
            data[4:8] = struct.pack("<I", len(data) - 8)
        with pytest.raises(ImageError):
            read_image(bytes(data))


def test_file_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(ImageError, match=r"at most 20 MB, got 20\.0 MB"):
        read_image(FILES["png"] + bytes(20 * 1024**2))


def test_file_cut_short_anywhere_is_refused() -> None:
    for label in FILES:
        data = FILES[label]
        whole = read_image(data)
        for length in {*range(0, len(data), max(1, len(data) // 60)), *range(max(0, len(data) - 40), len(data))}:
            picture = outcome(data[:length])
            if picture is not None:  # only a closing mark, bytes that fill up or a later frame may be missing
                may_lack = {"jpeg": 2, "gif": 4, "tiff": 4}.get(label.split()[0], 0)
                assert label == "gif animated" or len(data) - length <= may_lack
                np.testing.assert_array_equal(picture.pixels, whole.pixels)


def test_8_jpeg_without_its_end_mark_is_read_and_with_a_byte_less_is_not() -> None:
    restarts = encode(colours(), "JPEG", restart_marker_blocks=1)
    files = [FILES["jpeg"], FILES["jpeg progressive"], restarts, encode(ramp(), "JPEG", quality=95)]
    for data in files:
        whole = read_image(data)
        for cut in (data[:-2], data[:-1]):
            image = read_image(cut)
            np.testing.assert_array_equal(image.pixels, whole.pixels)
            assert image.notes[0] == "its end mark is missing, every pixel is there"
        for length in range(len(data) // 2, len(data) - 2, 7):
            with pytest.raises(ImageError, match="damaged, cut short"):
                read_image(data[:length])
    scans = [found.start() for found in re.finditer(b"\xff\xda", FILES["jpeg progressive"])]
    assert len(scans) > 3
    for start in scans:  # between two scans nothing is cut in the middle, but what makes it sharp is missing
        with pytest.raises(ImageError, match="damaged, cut short"):
            read_image(FILES["jpeg progressive"][:start])


def test_jpeg_of_a_kind_that_is_not_read_is_called_by_that_name() -> None:
    data = bytearray(FILES["jpeg"])
    start = data.index(b"\xff\xc0")
    for place, value, said in ((start + 1, 0xC3, "lossless or hierarchical"), (start + 4, 12, "JPEG of 12 bits")):
        changed = bytearray(data)
        changed[place] = value
        with pytest.raises(ImageError, match=said):
            read_image(bytes(changed))


@pytest.mark.slow
def test_flipped_bit_gives_a_picture_or_an_image_error() -> None:
    for label in FILES:
        chance = random.Random(label)
        for _ in range(200):
            data = bytearray(FILES[label])
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            outcome(bytes(data))


def test_flipped_bit_never_changes_a_png_unnoticed() -> None:
    for label in ["png", "png colour", "png palette"]:
        whole = read_image(FILES[label]).pixels
        for place, bit in itertools.product(range(len(FILES[label])), (0, 5)):
            data = bytearray(FILES[label])
            data[place] ^= 1 << bit
            picture = outcome(bytes(data))
            assert picture is None or np.array_equal(picture.pixels, whole)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    start=st.sampled_from([b"", *{data[:16] for data in FILES.values()}, *{data[:60] for data in FILES.values()}]),
    rest=st.binary(max_size=200),
    name=st.text(max_size=20),
)
def test_any_bytes_give_a_picture_or_an_image_error(start: bytes, rest: bytes, name: str) -> None:
    outcome(start + rest, name)


@settings(max_examples=100)
@given(
    label=st.sampled_from(sorted(FILES)), place=st.floats(0, 1), remove=st.integers(0, 9), insert=st.binary(max_size=9)
)
def test_edited_files_give_a_picture_or_an_image_error(label: str, place: float, remove: int, insert: bytes) -> None:
    data = FILES[label]
    start = int(place * len(data))
    outcome(data[:start] + insert + data[start + remove :])


# ---- What hides beside the pixels


def in_png(extra: bytes, after: bytes = b"") -> bytes:
    data = FILES["png"]
    return data[:33] + extra + data[33:-12] + after + data[-12:]


BOMB = zlib.compress(bytes(50_000_000))
MEGABYTE = zlib.compress(bytes(1_000_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(in_png(chunk(b"zTXt", b"k\0\0" + BOMB) * 20), id="20 texts of 50 MB"),
        pytest.param(in_png(chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB) * 20), id="20 unicode texts of 50 MB"),
        pytest.param(in_png(chunk(b"tEXt", b"a\0b") * 200_000), id="200,000 texts"),
        pytest.param(in_png(b"", chunk(b"tEXt", b"a\0b") * 200_000), id="200,000 texts behind the pixels"),
        pytest.param(in_png(chunk(b"iCCP", b"k\0\0" + MEGABYTE) * 10_000), id="10,000 profiles of 1 MB"),
        pytest.param(in_png(chunk(b"eXIf", b"MM\0*\0\0\0\x08" + bytes(10_000_000))), id="10 MB of EXIF"),
        pytest.param(FILES["png"] + random.Random(0).randbytes(10_000_000), id="10 MB behind the end"),
        pytest.param(FILES["png"] + b"PK\x03\x04<html><script>alert(1)</script>", id="zip and page behind the end"),
    ],
)
def test_71_what_hides_beside_the_pixels_of_a_png_is_passed_over(data: bytes) -> None:
    tracemalloc.start()
    try:
        picture = read_image(data)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024**2
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(picture.pixels, ramp() / np.float32(255))


def strips(count: int) -> bytes:
    tags = [(256, 4, 1, 4000), (257, 4, 1, 4000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, 122)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 16)]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4) + b"\x08\0\0\0" * count


def run_lengths(count: int) -> bytes:
    palette, body = b"".join(bytes([grey] * 3 + [0]) for grey in range(256)), b"\1\7" * count
    sizes = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + sizes + palette + body


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(in_png(chunk(b"aaAa", b"") * 1_500_000), id="png chunks"),
        pytest.param(in_png(b"", chunk(b"tEXt", b"a") * 1_500_000), id="png chunks behind the pixels"),
        pytest.param(FILES["jpeg"][:2] + b"\xff\xe1\0\2" * 4_000_000 + FILES["jpeg"][2:], id="jpeg segments"),
        pytest.param(FILES["gif"][:-2] + b"\1\0" * 9_000_000 + b"\0;", id="gif blocks"),
        pytest.param(FILES["gif"].replace(b",", b"!\xfe" + b"\1a" * 9_000_000 + b"\0,", 1), id="gif comment"),
        pytest.param(strips(4_000_000), id="tiff strips"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + b"\0\x80\1\0\1\0\0\0ABCD" * 65535, id="tiff tags"),
        pytest.param(run_lengths(5_000_000), id="bmp run lengths"),
    ],
)
def test_15_files_of_a_million_pieces_are_refused_before_they_are_all_read(data: bytes) -> None:
    assert len(data) < MAX_FILE_BYTES
    with pytest.raises(ImageError, match="far too many pieces"):
        read_image(data)


def test_jpeg_of_endless_scans_is_refused_unread() -> None:
    data = encode(Image.new("L", (5000, 5000), 128), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert outcome(data) is not None
    with pytest.raises(ImageError, match="too many scans"):
        read_image(data[:-2] + scan * 10_000 + data[-2:])


def test_reading_does_not_depend_on_the_program_s_warning_filters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="25 million"):
            read_image(FILES["gif"][:6] + b"\x00\x30\x00\x30" + FILES["gif"][10:])


def test_image_error_is_a_value_error_of_one_sentence() -> None:
    assert issubclass(ImageError, ValueError)
    for data in (b"", b"x", FILES["jpeg"][:50], png_header(50_000, 50_000)):
        with pytest.raises(ImageError) as caught:
            read_image(data)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200 and ";" in str(caught.value)
