"""Pages of a TIFF file: each is a frame, whatever its kind and byte order; circles and lies are refused."""

import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tae.data.decode import ImageError, read_image
from tae.data.stacks import count_frames, frames_are_alike, read_frame
from tests.data.files import as_bytes, chained, colours, encode, last_link, pages, ramp, stack, tiff, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of broken TIFF tags

COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]


def test_each_page_is_a_frame(tmp_path: Path) -> None:
    for compression, big_tiff, colour in itertools.product(COMPRESSIONS, [False, True], [False, True]):
        images = [Image.fromarray(colours() + np.uint8(9 * n) if colour else frame) for n, frame in enumerate(stack())]
        path = write(
            tmp_path / f"{compression} {big_tiff} {colour}.tif",
            pages(images, compression=compression, big_tiff=big_tiff),
        )
        assert count_frames(path) == 5 and not frames_are_alike(path)
        for frame, image in enumerate(images):
            assert np.array_equal(read_frame(path, frame).pixels, read_image(encode(image, "PNG")).pixels)


def test_pages_of_other_kinds_keep_their_meaning(tmp_path: Path) -> None:
    images = [
        Image.fromarray(ramp()).convert("1"),
        Image.fromarray(colours()).quantize(16),
        Image.fromarray(ramp(9, 70)),
    ]
    path = write(tmp_path / "pages.tif", pages(images))
    for frame, image in enumerate(images):
        assert read_frame(path, frame).pixels.shape == image.size[::-1]
    assert np.array_equal(as_bytes(path, 0), np.asarray(images[0].convert("L")))
    assert np.array_equal(as_bytes(path, 1), np.asarray(images[1].convert("RGB").convert("L")))


def test_sixteen_bit_pages_of_either_byte_order_are_scaled(tmp_path: Path) -> None:
    for packed, order in itertools.product([False, True], "<>"):
        values = [(frame.astype(np.uint16) * 257).astype(f"{order}u2") for frame in stack()]
        path = write(tmp_path / f"{order} {packed}.tif", chained(*(tiff(frame, packed=packed) for frame in values)))
        assert count_frames(path) == 5
        for frame in range(5):
            assert np.array_equal(as_bytes(path, frame), stack()[frame])


def test_smaller_copies_and_masks_are_no_frames(tmp_path: Path) -> None:
    full, small, mask = (
        tiff(ramp(*size), tags={254: kind}) for size, kind in (((24, 32), 0), ((6, 8), 1), ((24, 32), 4))
    )
    path = write(tmp_path / "pyramid.tif", chained(full, small, full, mask))
    assert count_frames(path) == 2
    assert [read_frame(path, frame).pixels.shape for frame in range(2)] == [(24, 32)] * 2
    path = write(tmp_path / "first.tif", chained(small, full))
    assert count_frames(path) == 1 and read_frame(path).pixels.shape == (24, 32)


def test_pages_in_a_circle_are_refused(tmp_path: Path) -> None:
    data = bytearray(chained(*(tiff(frame) for frame in stack())))
    struct.pack_into("<I", data, last_link(data, "<"), 8)
    with pytest.raises(ImageError, match="no circle of them"):
        count_frames(write(tmp_path / "circle.tif", bytes(data)))


def test_page_of_a_million_pieces_or_of_impossible_size_is_refused(tmp_path: Path) -> None:
    good = tiff(ramp())
    data = bytearray(chained(good, good))
    second = struct.unpack_from("<I", data, len(good) - 24 * 32 - 200 - 4)[0]
    for place in range(second + 2, second + 2 + 12 * struct.unpack_from("<H", data, second)[0], 12):
        tag = struct.unpack_from("<H", data, place)[0]
        if tag in (273, 279):
            struct.pack_into("<I", data, place + 4, 2**31)
    path = write(tmp_path / "pieces.tif", bytes(data))
    assert read_frame(path, 0).pixels.shape == (24, 32)
    with pytest.raises(ImageError, match="page must be at most 20 MB"):
        read_frame(path, 1)


SHADES = ramp() / 255


def stored(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2", "u4", "i1", "i2", "i4"])
def test_10_11_numbers_of_every_type_are_read_in_either_order_packed_or_not_in_strips_and_tiles(dtype: str) -> None:
    top = 1 if dtype[0] == "f" else np.iinfo(dtype).max
    values = (SHADES * top).astype(dtype)
    for order, compression, is_big, tile in itertools.product("<>", (None, "zlib"), (False, True), (None, (16, 16))):
        data = stored(values, byteorder=order, compression=compression, bigtiff=is_big, tile=tile)
        np.testing.assert_allclose(read_image(data).pixels, SHADES, atol=0.01 if dtype == "i1" else 1e-3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"])
def test_differences_are_summed_whatever_the_compression(compression: str) -> None:
    values = ramp().astype("<u2") * 257
    for predictor in (1, 2):
        if predictor == 2 and compression == "packbits":
            continue
        data = encode(Image.fromarray(values), "TIFF", compression=compression, tiffinfo={317: predictor})
        np.testing.assert_allclose(read_image(data).pixels, SHADES, atol=1e-6)


def test_floating_differences_are_read(tmp_path: Path) -> None:
    """The high bytes of a row first, each less the one before, as GDAL writes elevations."""
    for size in (2, 4, 8):
        values = SHADES.astype(f">f{size}")
        planes = values.view("u1").reshape(24, 32, size).transpose(0, 2, 1).reshape(24, 32 * size)
        packed = np.diff(planes, axis=1, prepend=np.uint8(0)).astype("u1")
        data = bytearray(tiff(values, sample_format=3, tags={317: 3}, packed=True))
        place = 8 + 2 + 12 * struct.unpack_from(">H", data, 8)[0] + 4 + 200
        data[place:] = zlib.compress(packed.tobytes())
        position = next(at for at in range(10, place, 12) if struct.unpack_from(">H", data, at)[0] == 279)
        struct.pack_into(">I", data, position + 8, len(data) - place)
        np.testing.assert_allclose(read_image(bytes(data)).pixels, SHADES, atol=1e-3)


@pytest.mark.parametrize("bits", [3, 5, 6, 10, 12, 14])
def test_odd_depths_are_unpacked(bits: int) -> None:
    values = np.round(SHADES * (2**bits - 1)).astype(int)
    digits = (values[..., None] >> np.arange(bits)[::-1] & 1).astype("u1").reshape(24, -1)
    rows = np.packbits(digits, axis=1)
    for order in "<>":
        data = tiff(rows.astype(f"{order}u1"), tags={256: 32, 258: bits})
        np.testing.assert_allclose(read_image(data).pixels, values / (2**bits - 1), atol=1e-6)


def test_12_channels_are_what_the_file_says() -> None:
    grey, half = ramp(), np.full_like(ramp(), 128)
    on_white = SHADES * (128 / 255) + 127 / 255
    straight = stored(np.dstack([grey, half]), photometric="minisblack", extrasamples=["unassalpha"])
    dark = stored(np.dstack([grey // 2, half]), photometric="minisblack", extrasamples=["assocalpha"])
    colours = stored(np.dstack([grey // 2] * 3 + [half]), photometric="rgb", extrasamples=["assocalpha"])
    deep = stored(
        np.dstack([grey.astype("u2") * 128] * 3 + [half.astype("u2") * 257]),
        photometric="rgb",
        extrasamples=["assocalpha"],
    )
    for data in (straight, dark, colours, deep):
        image = read_image(data)
        np.testing.assert_allclose(image.pixels, on_white, atol=2.1 / 255)
        assert "transparency laid on white" in image.notes
    for planar, axis in (("contig", 2), ("separate", 0)):
        for count in (2, 5):
            data = stored(np.stack([grey, *[half] * (count - 1)], axis), photometric="minisblack", planarconfig=planar)
            image = read_image(data)
            np.testing.assert_array_equal(image.pixels, grey / np.float32(255))
            assert image.notes == (f"the first of {count} channels",)
        for dtype in ("f4", "f8"):
            data = stored(np.stack([SHADES.astype(dtype)] * 3, axis), photometric="rgb", planarconfig=planar)
            np.testing.assert_allclose(read_image(data).pixels, SHADES, atol=0.51 / 255)
    ink = np.dstack([np.zeros((24, 32), "u2")] * 3 + [(65535 - ramp().astype("u2") * 257)])
    np.testing.assert_allclose(
        read_image(stored(ink, photometric="separated", planarconfig="contig")).pixels, SHADES, atol=2 / 255
    )


def test_14_frames_under_one_list_of_tags_are_all_found(tmp_path: Path) -> None:
    frames = stack()
    whole = stored(frames, truncate=True, photometric="minisblack")
    said = "ImageJ=1.53t\nimages=5\nslices=5\n"
    imagej = bytearray(stored(frames[0].astype("<u2") * 257, description=said, metadata=None))
    imagej += (frames[1:].astype("<u2") * 257).tobytes()
    for data in (whole, bytes(imagej), stored(frames, imagej=True), stored(frames)):
        path = write(tmp_path / "stack.tif", data)
        assert count_frames(path) == 5
        assert all(np.array_equal(as_bytes(path, frame), frames[frame]) for frame in range(5))
        assert "the first of several frames or pages" in read_image(data).notes
    cut = write(tmp_path / "cut.tif", bytes(imagej[:-24]))
    assert count_frames(cut) == 4  # of what its tags promise, what is there


def test_whole_file_of_a_kind_that_is_not_read_is_called_by_that_name() -> None:
    grey = ramp()
    for data, said in [
        (stored((SHADES + 1j).astype("c8")), "complex numbers of 64 bits"),
        (tiff(grey, tags={259: 50002}), r"the compression JPEGXL \(50002\)"),
        (tiff(grey, tags={259: 34887}), "the compression LERC"),
        (tiff(grey.astype("<u2"), tags={259: 7}), r"the compression JPEG \(7\) of such numbers"),
        (tiff(grey, tags={258: 24}), "unsigned numbers of 24 bits"),
        (tiff(grey, tags={50706: 1}), "camera RAW"),
        (tiff(grey, tags={262: 32803}), "camera RAW"),
        (tiff(grey, tags={254: 1}), "camera RAW"),
    ]:
        with pytest.raises(ImageError, match=said) as caught:
            read_image(data)
        assert "damaged" not in str(caught.value) and "save it as" in str(caught.value) or "export" in str(caught.value)
