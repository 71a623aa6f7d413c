"""Contour, angles and contact length of shapes that are known; how two frames differ."""

import numpy as np
import pytest

from tae.data.drops.measure import base_row, compare, crop_columns, measure, outline_columns


def disc(height: float = 40, radius: float = 50, x: float = 100.0) -> np.ndarray:
    """A disc whose middle lies `height - radius` above a line of two rows: (152, 240) uint8, soft by a pixel."""
    rows, columns = np.mgrid[:152, :240] + 0.5
    away = radius - np.hypot(columns - x, (150 - rows) - (height - radius))
    image = 255 * (1 - np.clip(away + 0.5, 0, 1))
    image[150:] = 0
    return image.astype(np.uint8)


@pytest.mark.parametrize("height", [30, 50, 75])
def test_a_disc_s_contact_angle_and_chord_are_those_of_geometry(height: float) -> None:
    found = measure(disc(height))
    angle = np.degrees(np.arccos((50 - height) / 50))
    chord = 2 * np.sqrt(50**2 - (height - 50) ** 2)
    assert found.angles == pytest.approx((angle, angle), abs=3)
    assert found.contact_length == pytest.approx(chord, abs=1.5)
    assert np.mean(found.contacts) == pytest.approx(100, abs=0.5) and found.centre[0] == pytest.approx(100, abs=0.1)
    radii = np.hypot(found.points[:, 0] - 100, found.points[:, 1] - (height - 50))
    assert np.abs(radii - 50).max() < 0.2


def test_highlights_and_satellites_are_no_part_of_the_contour() -> None:
    plain, dirty = disc(60), disc(60)
    dirty[120:124, 95:103] = 255
    dirty[20:24, 180:184] = dirty[90:93, 20:23] = 30
    difference = compare(plain, dirty)
    assert difference.distance == difference.contact_length == 0 and difference.angles == (0, 0)
    assert crop_columns(dirty) == crop_columns(plain) == (50 - 16, 150 + 16)


def test_a_difference_is_in_pixels_and_degrees() -> None:
    """A disc with a radius larger by 2 about the same middle is 2 pixels away everywhere."""
    difference = compare(disc(60, 50), disc(62, 52))
    assert difference.distance == pytest.approx(2, abs=0.15)
    assert difference.contact_length == pytest.approx(2 * (np.sqrt(52**2 - 100) - np.sqrt(50**2 - 100)), abs=0.5)
    moved = compare(disc(60), disc(60, x=103))
    assert moved.contact_length == pytest.approx(0, abs=0.2) and 1 < moved.distance < 3


def test_a_page_without_a_drop_is_refused_and_cropped_to_itself() -> None:
    page = np.full((152, 300), 255, np.uint8)
    assert base_row(page) == 152 and crop_columns(page) == (0, 300)
    page[-2:] = 0
    assert base_row(page) == 150 and crop_columns(page) == (0, 300)
    with pytest.raises(ValueError, match="must show a dark drop on its bottom line, got none"):
        measure(page)


def test_the_longer_of_two_drops_is_measured_and_both_are_cropped() -> None:
    both = np.minimum(disc(40, 50, x=70), disc(20, 20, x=190))
    assert measure(both).contact_length == pytest.approx(2 * np.sqrt(50**2 - 100), abs=1.5)
    assert crop_columns(both) == pytest.approx((20 - 16, 210 + 16), abs=1)


def test_columns_of_a_table_tell_the_outline_s_error_and_stay_empty_without_a_drop() -> None:
    image, larger = disc(60, 50) / 255, disc(62, 52) / 255
    assert list(outline_columns(image, image).values()) == [0, 0, 0, 0]
    found = outline_columns(image, larger)
    assert found["outline_distance_px"] == pytest.approx(2, abs=0.3) and found["contact_length_error_px"]
    assert set(outline_columns(image, np.ones_like(image)).values()) == {None}
    assert set(outline_columns(np.full((40, 30), 0.9), np.zeros((40, 30))).values()) == {None}
