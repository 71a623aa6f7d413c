"""Recordings are functions of (seed, split, index), keep their volume, and move as they say."""

import numpy as np
import pytest

from tae.data.drops.motion import CM_PER_PIXEL, HELD_OUT_VISCOSITY, VISCOSITY, draw_recording
from tae.data.drops.render import STRIP
from tae.data.drops.shape import volume_of


def test_a_recording_is_a_function_of_seed_split_and_index() -> None:
    assert draw_recording("val", 4, seed=2) == draw_recording("val", 4, seed=2)
    others = [draw_recording("val", 4), draw_recording("val", 5, 2), draw_recording("test", 4, 2)]
    assert all(other != draw_recording("val", 4, seed=2) for other in others)
    with pytest.raises(ValueError, match="unknown split 'tset'; choose from: train, val, test"):
        draw_recording("tset", 0)


def test_every_third_test_recording_has_a_viscosity_that_no_other_split_has() -> None:
    low, high = HELD_OUT_VISCOSITY
    drawn = {
        split: np.array([draw_recording(split, i).viscosity for i in range(300)]) for split in ("train", "val", "test")
    }
    held_out = {split: (low <= values) & (values <= high) for split, values in drawn.items()}
    assert not held_out["train"].any() and not held_out["val"].any()
    assert np.flatnonzero(held_out["test"]).tolist() == list(range(2, 300, 3))
    for values in drawn.values():  # on both sides of the band, up to the ends
        assert VISCOSITY[0] <= values.min() < 1.2 and 34 < values.max() <= VISCOSITY[1]


def test_both_directions_occur() -> None:
    assert 0.55 < np.mean([draw_recording("train", index).moves_left for index in range(300)]) < 0.75


def test_volume_is_kept_as_the_shape_follows_the_velocity() -> None:
    for index in range(20):
        recording = draw_recording("train", index)
        outlines = [recording.outlines(share * recording.duration)[0] for share in (0, 0.3, 1)]
        for outline in outlines:
            rising = outline if recording.moves_left else outline * [-1, 1]
            assert volume_of(rising) * CM_PER_PIXEL**3 * 1000 == pytest.approx(recording.volume)
    assert np.abs(outlines[0] - outlines[2]).max() > 1


def test_a_drop_crosses_the_strip_from_wholly_in_sight_to_the_other_end() -> None:
    for index in range(40):
        recording = draw_recording("train", index)
        first, last = recording.outlines(0.0)[0][:, 0], recording.outlines(recording.duration)[0][:, 0]
        front = last[0] if recording.moves_left else STRIP[1] - last[0]
        assert first.min() >= 0 and first.max() <= STRIP[1]
        assert front == pytest.approx(8, abs=0.5)
        assert first[-1] > last[-1] if recording.moves_left else first[-1] < last[-1]


def test_travel_is_the_sum_of_the_velocity_which_is_a_drop_s() -> None:
    for index in range(40):
        recording = draw_recording("train", index)
        times = np.linspace(0, recording.duration, 400)
        velocities = [recording.velocity(time) for time in times]
        assert min(velocities) > 25 and max(velocities) < 66
        assert recording.travel(times[-1]) == pytest.approx(np.trapezoid(velocities, times), rel=1e-4)


def test_a_higher_capillary_number_opens_the_front_closes_the_rear_and_lengthens_the_tail() -> None:
    for index in range(20):
        recording = draw_recording("train", index)
        opened, closed = recording.angles(0.02)
        advancing, receding = recording.static
        assert opened > advancing and closed < receding and 0.4 * receding < closed
        assert recording.tail(0.01) <= recording.tail(0.05) or recording.terminal < recording.release
