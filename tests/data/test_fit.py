"""Images to a model's size, with a note of everything that was done."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tae.data.decode import ImageError
from tae.data.drops.frame import draw_frame, stretched
from tae.data.drops.measure import crop_columns
from tae.data.fit import FIT_MODES, background_of, fit_image, padded_box
from tests.data.files import ramp


def test_exact_size_is_untouched_bit_for_bit() -> None:
    pixels = np.random.default_rng(0).random((20, 30), np.float32)
    for mode in FIT_MODES:
        for size in ((20, 30), (20, None)):
            fitted = fit_image(pixels, size, mode)
            assert fitted.notes == () and fitted.pixels.tobytes() == pixels.tobytes()


def test_fit_says_what_it_did() -> None:
    square, wide, photo = (201, 201), (152, None), (480, 640)
    padded = "scaled from 640x480 to 201x151, padded with {} to 201x201"
    cropped = "cropped in the middle from 640x480 to 480x480, scaled from 480x480 to 201x201"
    for old, size, mode, background, note in [
        (photo, square, "pad", 1.0, padded.format("white")),
        (photo, square, "pad", 0.0, padded.format("black")),
        (photo, square, "pad", 0.5, padded.format("grey 0.50")),
        (photo, square, "pad", None, padded.format("grey 0.25, like its border,")),
        ((100, 201), square, "pad", 1.0, "padded with white to 201x201"),
        ((402, 402), square, "pad", None, "scaled from 402x402 to 201x201"),
        (photo, square, "crop", None, cropped),
        ((201, 300), square, "crop", None, "cropped in the middle from 300x201 to 201x201"),
        (photo, square, "stretch", None, "stretched from 640x480 to 201x201"),
        ((402, 402), square, "stretch", None, "scaled from 402x402 to 201x201"),
        ((304, 800), wide, "pad", None, "scaled from 800x304 to 400x152"),
        ((152, 1300), wide, "stretch", None, "stretched from 1300x152 to 1280x152"),
        ((152, 1300), wide, "crop", None, "cropped in the middle from 1300x152 to 1280x152"),
    ]:
        options = {} if background is None else {"background": background}
        fitted = fit_image(np.full(old, 0.25, np.float32), size, mode, **options)
        assert fitted.notes == (note,)
        assert note.endswith(f"{fitted.pixels.shape[1]}x{fitted.pixels.shape[0]}")


def test_padding_centres_the_picture_on_its_background() -> None:
    pixels = np.linspace(0.1, 0.3, 20, dtype=np.float32).reshape(4, 5)
    fitted = fit_image(pixels, (5, 9), background=1.0).pixels  # scaled by 5 / 4 to 6x5
    assert (fitted[:, :1] == 1).all() and (fitted[:, 7:] == 1).all() and (fitted[:, 1:7] < 0.5).all()
    assert (fit_image(np.zeros((4, 2), np.float32), (4, 4)).pixels == 0).all()  # a dark picture gets no bright frame


def test_what_touches_one_edge_alone_stays_there() -> None:
    pixels = np.ones((10, 80), np.float32)
    pixels[-2:] = 0  # a plate
    fitted = fit_image(pixels, (20, 80))
    assert fitted.notes == ("padded above with white, like its border, to 80x20",)
    assert (fitted.pixels[-2:] == 0).all() and (fitted.pixels[:-2] == 1).all()
    turned = fit_image(pixels.T[:, ::-1], (80, 20))  # at the left edge
    assert turned.notes == ("padded right with white, like its border, to 20x80",)
    np.testing.assert_array_equal(turned.pixels, fitted.pixels.T[:, ::-1])
    assert (fit_image(1 - pixels, (20, 80)).pixels[-2:] == 1).all()  # light on dark


def test_a_drop_is_cut_out_as_the_simulator_cuts_it() -> None:
    frame = draw_frame("test", 0)
    strip = (frame.strip() / np.float32(255))[22:]  # a camera's frame, lower than the simulator's
    first, last = crop_columns(frame.strip())
    told = f"padded above to 1280x152, cut out about the drop, {last - first} pixels wide"
    crop = frame.strip()[:, first:last] / np.float32(255)
    fitted = fit_image(strip, (152, None), "drop")
    assert fitted.notes == (told,) and np.abs(fitted.pixels - crop).max() < 0.05  # the page is not quite white
    square = fit_image(strip, (201, 201), "drop")
    assert square.notes == (f"{told}, stretched to 201x201",)
    assert np.abs(square.pixels - stretched(frame.strip()[:, first:last], 201, 201) / 255).mean() < 0.01
    assert np.abs(fit_image(strip, (152, 1280), "drop").pixels - frame.strip() / np.float32(255)).max() < 0.05
    assert fit_image(frame.strip() / np.float32(255), (152, 1280), "drop").notes == ()
    empty = fit_image(np.ones((152, 1280)), (201, 201), "drop")
    assert empty.notes == ("no drop found, stretched to 201x201",) and (empty.pixels == 1).all()


def test_background_is_the_median_of_the_border() -> None:
    pixels = np.ones((5, 5), np.float32)
    pixels[0] = pixels[:, 0] = pixels[:, -1] = 0.25
    pixels[2, 2] = 0
    assert background_of(pixels) == 0.25
    assert background_of(np.full((1, 1), 0.75, np.float32)) == 0.75


def test_crop_keeps_the_middle_and_stretch_keeps_all() -> None:
    pixels = np.tile(np.array([0, 0, 0.5, 0.5, 1, 1], np.float32), (2, 1))
    np.testing.assert_array_equal(fit_image(pixels, (2, 2), "crop").pixels, np.full((2, 2), 0.5))
    stretched = fit_image(pixels, (2, 3), "stretch").pixels
    assert stretched[0, 0] < 0.1 and abs(stretched[0, 1] - 0.5) < 0.01 and stretched[0, 2] > 0.9


def test_a_padded_picture_lies_in_the_box_that_is_told() -> None:
    for old in [(10, 1000), (1000, 10), (30, 45), (201, 1280), (7, 7)]:
        padded = fit_image(np.zeros(old, np.float32), (201, 320), "pad", background=1.0).pixels
        rows, columns = padded_box(np.zeros(old), (201, 320))
        assert (padded[rows, columns] == 0).all()
        assert (padded == 0).sum() == padded[rows, columns].size > 0


def test_shrinking_is_antialiased() -> None:
    checks = np.indices((402, 402)).sum(axis=0) % 2
    shrunk = fit_image(checks.astype(np.float32), (201, 201), "stretch").pixels
    np.testing.assert_allclose(shrunk[2:-2, 2:-2], 0.5, atol=0.02)


def test_too_wide_picture_is_refused_with_its_remedy_unless_it_may_be_cut() -> None:
    pixels = np.ones((10, 1000), np.float32)
    with pytest.raises(ImageError, match="1000x10 becomes 15200 wide.*152.*1280; crop it, or cut it into windows"):
        fit_image(pixels, (152, None))
    for mode in ("crop", "stretch"):
        assert fit_image(pixels, (152, None), mode).pixels.shape == (152, 1280)
    assert fit_image(pixels, (152, None), max_width=15_200).pixels.shape == (152, 15_200)


def test_unknown_mode_and_background_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown mode 'fill'; choose from: pad, crop, stretch"):
        fit_image(ramp() / 255, (8, 8), "fill")
    with pytest.raises(ValueError, match="background must be"):
        fit_image(ramp() / 255, (8, 8), background=255)


@pytest.mark.slow
def test_7_extreme_shapes_are_fitted() -> None:
    for mode in FIT_MODES:
        for old in [(1, 1), (1, 20_000), (20_000, 1), (3, 19_999)]:
            pixels = np.full(old, 0.5, np.float32)
            fitted = fit_image(pixels, (201, 201), mode).pixels
            assert fitted.shape == (201, 201)
            np.testing.assert_allclose(fitted, 0.5, atol=1e-6)


@settings(max_examples=80)
@given(
    old=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    height=st.integers(1, 400),
    width=st.none() | st.integers(1, 400),
    mode=st.sampled_from(sorted(FIT_MODES)),
    background=st.none() | st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_fitted_picture_has_the_exact_size_and_range(
    old: tuple[int, int], height: int, width: int | None, mode: str, background: float | None, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 2, old).astype(np.float32)  # the sharpest edges ring most
    try:
        fitted = fit_image(pixels, (height, width), mode, background=background)
    except ImageError:
        assert width is None and mode == "pad" and round(old[1] * height / old[0]) > 1280
        return
    if width is None:
        width = fitted.pixels.shape[1] if mode == "drop" else min(1280, max(1, round(old[1] * height / old[0])))
    assert fitted.pixels.shape == (height, width) and fitted.pixels.dtype == np.float32
    assert np.isfinite(fitted.pixels).all() and fitted.pixels.min() >= 0 and fitted.pixels.max() <= 1
    assert bool(fitted.notes) == (old != (height, width))
