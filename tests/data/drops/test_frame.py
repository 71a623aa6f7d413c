"""Strip, crop and square are views of one scene; a table's row says what the pixels show."""

import numpy as np
import pytest

from tae.data.drops.frame import COLUMNS, draw_frame, frames_of, stretched
from tae.data.drops.measure import crop_columns, measure
from tae.data.drops.motion import CM_PER_PIXEL, FRAMES_PER_SECOND, Recording, draw_recording

PLAIN = [
    index
    for index in range(60)
    if not (draw_recording("val", index).companion or draw_recording("val", index).character.curls)
]


def front_of(recording: Recording, image: np.ndarray) -> tuple[float, float, float]:
    """Advancing and receding angle, and x of the front contact."""
    found = measure(image)
    front = 0 if recording.moves_left else 1
    return found.angles[front], found.angles[1 - front], found.contacts[front]


def test_strip_crop_and_square_are_views_of_one_scene() -> None:
    for index in range(12):
        frame = draw_frame("train", index)
        strip, crop, square = frame.strip(), frame.crop(), frame.square()
        first, last = frame.window
        assert strip.shape == (152, 1280) and crop.shape == (152, last - first) and square.shape == (201, 201)
        np.testing.assert_array_equal(crop, strip[:, first:last])
        np.testing.assert_array_equal(square, stretched(crop, 201, 201))


def test_a_crop_leaves_8_to_28_white_columns_beside_the_drop() -> None:
    for index in PLAIN[:20]:
        frame = draw_frame("val", index)
        seen = crop_columns(frame.strip(), margin=0)
        before, behind = seen[0] - frame.window[0], frame.window[1] - seen[1]
        tail = behind if frame.recording.moves_left else before
        head = before if frame.recording.moves_left else behind
        assert 7 <= head <= 30 and tail >= 7  # of a tail, the film at its end is not seen


def test_a_frame_is_a_function_of_seed_split_and_index() -> None:
    np.testing.assert_array_equal(draw_frame("val", 3, 1).crop(), draw_frame("val", 3, 1).crop())
    images = [
        draw_frame(split, index, seed).square() for split, index, seed in (("val", 3, 1), ("val", 3, 0), ("test", 3, 1))
    ]
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


@pytest.mark.slow
def test_pixels_show_the_angles_and_the_contact_length_of_the_table() -> None:
    """Within 6 degrees and 3 pixels each; 1.5 degrees and a pixel in the mean."""
    errors = []
    for index in PLAIN:
        frame = draw_frame("val", index)
        row, found = frame.row(), measure(frame.strip())
        advancing, receding, _ = front_of(frame.recording, frame.strip())
        length = found.contact_length - row["contact_line_length (cm)"] / CM_PER_PIXEL
        errors.append([advancing - row["adv (degree)"], receding - row["rec (degree)"], length])
        assert found.centre[0] * CM_PER_PIXEL == pytest.approx(row["x_center (cm)"], abs=3 * CM_PER_PIXEL)
        assert found.centre[1] * CM_PER_PIXEL == pytest.approx(row["y_center (cm)"], abs=CM_PER_PIXEL)
    errors = np.abs(errors)
    assert (errors.max(axis=0) < [6, 6, 3]).all(), errors.max(axis=0)
    assert (errors.mean(axis=0) < [1.5, 1.5, 1]).all(), errors.mean(axis=0)


def test_pixels_show_the_velocity_of_the_table() -> None:
    """Within 2%, from where the front is in two frames 10 milliseconds apart: some 130 pixels."""
    for index in PLAIN[:12]:
        recording = draw_recording("val", index)
        first, last = (frames_of(recording)[number] for number in (40, 80))
        places = [front_of(recording, frame.strip())[2] for frame in (first, last)]
        velocity = abs(places[1] - places[0]) * CM_PER_PIXEL / (last.time - first.time)
        told = [frame.row()["velocity (cm/s)"] for frame in (first, last)]
        assert velocity == pytest.approx(np.mean(told), rel=0.02)


def test_a_row_has_the_table_s_columns_in_ranges_a_laboratory_would_have() -> None:
    rows = [draw_frame("val", index).row() for index in PLAIN]
    assert all(tuple(row) == COLUMNS[1:] for row in rows)
    values = {name: np.array([row[name] for row in rows]) for name in COLUMNS[1:]}
    assert ((values["adv (degree)"] > 75) & (values["adv (degree)"] < 165)).all()
    assert (values["rec (degree)"] < values["adv (degree)"]).all()
    assert ((values["x_center (cm)"] > 0) & (values["x_center (cm)"] < 1280 * CM_PER_PIXEL)).all()
    assert 0.4 < np.median(values["contact_line_length (cm)"]) < 1.3


def test_frames_of_a_recording_follow_each_other_smoothly() -> None:
    recording = draw_recording("test", 17)
    frames = frames_of(recording, every=8)
    assert len(frames) == int(recording.duration * FRAMES_PER_SECOND / 8) + 1 > 20
    outlines = [frame.outlines[0] for frame in frames]
    steps = [np.abs(after - before).max() for before, after in zip(outlines, outlines[1:], strict=False)]
    assert max(steps) < 40 and np.abs(np.diff(steps)).max() < 2
