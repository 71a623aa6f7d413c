"""Pixels are those of the outline, whatever part of the strip is asked for."""

from dataclasses import replace

import numpy as np
import pytest

from tae.data.drops.render import STRIP, Look, draw_look, render

CLEAN = Look(
    page=255, ink=10, rims=(), blur=0.5, base=1, base_grey=0, lights=(), sheens=(), specks=(), noise=0, lines=0, seed=0
)
BOX = np.array([[500.0, 0], [500, 60], [640, 60], [640, 0]])


def test_ink_covers_the_area_of_the_outline() -> None:
    image = render([BOX], CLEAN)
    assert image.shape == STRIP and image.dtype == np.uint8
    assert ((255 - image[:-1].astype(float)) / 245).sum() == pytest.approx(140 * 60, rel=0.01)
    assert (image[-1] == 0).all() and (image[:80] == 255).all()
    assert (image[95:151, 505:635] == 10).all()  # black down to the line


def test_an_edge_is_two_or_three_pixels_soft() -> None:
    row = render([BOX], replace(CLEAN, blur=0.7))[120, 490:510]
    assert 2 <= ((row > 20) & (row < 245)).sum() <= 4
    assert (np.diff(row.astype(int)) <= 0).all()


def test_a_part_of_the_strip_is_cut_from_it_to_the_pixel() -> None:
    for seed in range(12):
        look = draw_look(np.random.default_rng(seed))
        strip = render([BOX, BOX - [240, 0]], look, number=3)
        for left, right in ((0, 300), (450, 700), (620, 1280)):
            np.testing.assert_array_equal(
                render([BOX, BOX - [240, 0]], look, left, right, number=3), strip[:, left:right]
            )


def test_greys_are_those_of_real_frames() -> None:
    """Ink .93 to 1 black deep inside, a page of 250 to 255, and a highlight that is light."""
    for seed in range(20):
        look = replace(draw_look(np.random.default_rng(seed)), specks=())
        image = render([BOX], look)
        assert np.median(image[120:140, 520:620]) < 255 * 0.1
        assert abs(image[:60].mean() - look.page) < 1 and look.page >= 250
        assert image[95:150, 510:630].max() > 90


def test_frames_of_one_recording_have_noise_of_their_own() -> None:
    look = replace(CLEAN, page=250, noise=1.5)
    first, second = (render([BOX], look, number=number).astype(float) for number in (0, 1))
    assert abs(np.corrcoef(first[:60].ravel(), second[:60].ravel())[0, 1]) < 0.05
