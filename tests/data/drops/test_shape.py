"""Outlines begin and end on the plate at the angles asked for, and hold a volume of 1."""

import numpy as np
import pytest

from tae.data.drops.shape import Character, draw_character, outline, volume_of

PLAIN = Character(
    head=(0, 0, 0), shoulder=35, fall=0.5, foot=0.3, sag=4, rear=0, softness=0.1, ripples=(0.0,), curls=()
)


def test_a_circle_s_half_is_an_arc_of_90_degrees_at_both_sides() -> None:
    """Slices that are half discs make half a ball of half a disc: its volume is 2/3 pi r**3."""
    angle = np.linspace(0, np.pi, 2000)
    half = np.stack([1 - np.cos(angle), np.sin(angle)], axis=1)
    assert volume_of(half) == pytest.approx(2 / 3 * np.pi, rel=1e-4)


@pytest.mark.parametrize("tail", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(("advancing", "receding"), [(90, 70), (120, 45), (145, 95)])
def test_an_outline_leaves_and_meets_the_plate_at_its_angles(advancing: float, receding: float, tail: float) -> None:
    points = outline(PLAIN, advancing, receding, tail)
    (right, up), (along, down) = points[1], points[-1] - points[-2]
    assert np.degrees(np.arctan2(up, right)) == pytest.approx(advancing, abs=4)
    assert -np.degrees(np.arctan2(down, along)) == pytest.approx(receding, abs=12)  # a tail's foot is small
    assert volume_of(points) == pytest.approx(1)


def test_a_front_above_90_degrees_leans_over_its_contact() -> None:
    assert outline(PLAIN, 130, 60, 1.0)[:, 0].min() < -0.02
    assert outline(PLAIN, 80, 60, 1.0)[:, 0].min() == 0


def test_a_tail_lengthens_an_outline_by_about_as_many_heights_of_its_head() -> None:
    for tail in (2.0, 4.0):
        points = outline(PLAIN, 115, 60, tail)
        height = points[:, 1].max()
        assert tail + 1 < points[-1, 0] / height < tail + 4
        assert points[200:, 1].max() < 0.6 * height  # the tail is low


def test_whatever_is_drawn_stands_on_the_plate_and_is_of_a_drop_s_size() -> None:
    random = np.random.default_rng(5)
    for _ in range(500):
        advancing = random.uniform(80, 165)
        points = outline(draw_character(random), advancing, random.uniform(20, 110), random.uniform(0, 8))
        assert np.isfinite(points).all() and points[:, 1].min() == 0 and not points[[0, -1], 1].any()
        assert volume_of(points) == pytest.approx(1) and 0.3 < points[:, 1].max() < 2 and np.ptp(points) < 20
