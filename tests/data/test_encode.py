"""Images to PNG, pixel for pixel."""

import io

import numpy as np
from PIL import Image

from tae.data.encode import encode_png, to_uint8
from tests.data.files import colours, ramp


def test_uint8_is_rounded_and_clipped() -> None:
    assert to_uint8(np.array([-1, 0, 0.5 / 255, 0.6 / 255, 0.5, 1, 2])).tolist() == [0, 0, 0, 1, 128, 255, 255]
    assert to_uint8(ramp()) is not None and np.array_equal(to_uint8(ramp() / 255), ramp())


def test_png_brings_the_same_pixels_back() -> None:
    for array in [ramp(), colours(), ramp()[::2, ::-3], np.zeros((1, 1), np.uint8)]:
        for given_array in (array, array / 255):
            with Image.open(io.BytesIO(encode_png(given_array))) as image:
                np.testing.assert_array_equal(np.asarray(image), array)
