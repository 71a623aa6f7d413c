"""Augmentation: each share does what it says, and no share does nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tae.data.augment import augment

share = st.floats(0, 0.9)


def picture(height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width), np.uint8)


def blob(height: int = 60, width: int = 60) -> np.ndarray:
    """A dark square of 20 on white, in the middle."""
    image = np.full((height, width), 255, np.uint8)
    image[height // 2 - 10 : height // 2 + 10, width // 2 - 10 : width // 2 + 10] = 0
    return image


def many(image: np.ndarray, count: int = 200, **shares: Any) -> list[np.ndarray]:
    return [augment(image, np.random.default_rng(seed), **shares) for seed in range(count)]


@given(st.integers(0, 2**32))
def test_no_share_changes_no_bit(seed: int) -> None:
    assert np.array_equal(augment(picture(), np.random.default_rng(seed)), picture())


@given(st.integers(0, 2**32), st.floats(0, 1), share, share, share, st.integers(1, 30), st.integers(1, 30))
def test_size_stays_whatever_the_shares(
    seed: int, flip: float, shift: float, zoom: float, contrast: float, height: int, width: int
) -> None:
    image = picture(height, width)
    before = image.copy()
    changed = augment(image, np.random.default_rng(seed), flip, shift, zoom, contrast)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.array_equal(image, before)  # a cache may hold it
    again = augment(image, np.random.default_rng(seed), flip, shift, zoom, contrast)
    assert np.array_equal(changed, again)


def test_shares_do_not_change_how_far_the_generator_goes() -> None:
    still, moved = np.random.default_rng(0), np.random.default_rng(0)
    augment(picture(), still)
    augment(picture(), moved, 1, 0.5, 0.5, 0.5)
    assert still.random() == moved.random()


def test_flip_mirrors_its_share_left_to_right() -> None:
    mirrored = [np.array_equal(one, picture()[:, ::-1]) for one in many(picture(), flip=0.3)]
    same = [np.array_equal(one, picture()) for one in many(picture(), flip=0.3)]
    assert sum(mirrored) + sum(same) == 200 and 40 < sum(mirrored) < 80
    assert np.array_equal(augment(picture(), np.random.default_rng(0), flip=1), picture()[:, ::-1])


def test_shift_moves_the_pixels_up_to_its_share_and_uncovers_the_border_s_grey() -> None:
    image = blob()
    image[image == 255] = 180
    moves = []
    for one in many(image, shift=0.1):
        rows, columns = np.nonzero(one == 0)
        assert len(rows) == 400 and (one[one != 0] == 180).all()
        moves.append((rows.min() - 20, columns.min() - 20))
    assert np.abs(moves).max() == 6 and {sign for move in moves for sign in np.sign(move)} == {-1, 0, 1}


def test_uncovered_ground_takes_the_grey_asked_for() -> None:
    ones = [augment(blob(), np.random.default_rng(seed), shift=0.2, background=7) for seed in range(20)]
    assert all(set(np.unique(one)) <= {0, 7, 255} for one in ones) and any((one == 7).any() for one in ones)


def test_zoom_scales_about_the_middle_up_to_its_share() -> None:
    sides = []
    for one in many(blob(), zoom=0.3):
        rows, columns = np.nonzero(one < 128)
        sides.append(rows.max() - rows.min() + 1)
        assert abs(rows.mean() - 29.5) <= 1 and abs(columns.mean() - 29.5) <= 1
    assert 14 <= min(sides) <= 16 and 24 <= max(sides) <= 26


def test_contrast_changes_greys_alone_and_keeps_their_order() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    ones = many(ramp, contrast=0.2)
    assert all((np.diff(one[0].astype(int)) >= 0).all() for one in ones)
    middles = np.array([int(one[0, 128]) for one in ones])
    assert 128 - 40 < middles.min() < 110 and 146 < middles.max() < 128 + 40
    slopes = np.array([int(one[0, 138]) - int(one[0, 118]) for one in ones])
    assert slopes.min() < 17 and slopes.max() > 23


@pytest.mark.parametrize("name", ["flip", "shift", "zoom", "contrast"])
def test_draws_of_two_images_differ(name: str) -> None:
    assert len({one.tobytes() for one in many(picture(), 30, **{name: 0.5})}) > 1
