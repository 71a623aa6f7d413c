"""Pages of a TIFF file: each is a frame, whatever its kind and byte order; circles and lies are refused."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
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
