"""The player's data: every frame to the bit, numbers that JSON can hold, and a frame that only a person or the page moves."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tae.data.encode import to_uint8
from tae.web.component import read_script, read_style
from tae.web.player.payload import Payload, Row, Sent, encode, length, payload, read_frame, settle

SIZE = (6, 9)


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SIZE), np.float32)


def some_rows(seed: int = 0) -> list[Row]:
    return [
        Row("True frames", "As they are.", to_uint8(frames(8, seed))),
        Row("LSTM", "Predicted.", frames(6, seed + 1), first=4, errors=np.array([0.5, np.nan, np.inf, 0.25])),
        Row("Nothing", "A row without a frame.", frames(0), is_shown=False),
    ]


def decoded(made: Payload) -> list[list[np.ndarray]]:
    """The pictures of each row, read as the browser reads them."""
    data, at, found = made["images"].tobytes(), 0, []
    for row in made["rows"]:
        found.append([])
        for size in row["sizes"]:
            picture = Image.open(io.BytesIO(data[at : at + size]))
            assert picture.mode == "L"
            found[-1].append(np.asarray(picture))
            at += size
    assert at == len(data)
    return found


def test_payload_has_every_frame_to_the_bit() -> None:
    rows = some_rows()
    made = payload(rows)
    assert made["images"].dtype == np.uint8 and made["size"] == [*SIZE]
    for row, found in zip(rows, decoded(made), strict=True):
        assert len(found) == len(row.images)
        for image, picture in zip(row.images, found, strict=True):
            np.testing.assert_array_equal(picture, to_uint8(image))


def test_sequence_ends_with_the_last_frame_of_any_row() -> None:
    assert length(some_rows()) == payload(some_rows())["count"] == 10
    assert length([some_rows()[2]]) == length([]) == 0


def test_all_but_the_pictures_is_json_and_errors_that_are_not_known_are_null() -> None:
    made = payload(some_rows(), frame=9, seen=4, notes=[("error", "Untrained model")], error_name="MSE")
    del made["images"]
    back = json.loads(json.dumps(made, allow_nan=False))
    assert [row["errors"] for row in back["rows"]] == [[], [0.5, None, None, 0.25], []]
    assert [row["is_shown"] for row in back["rows"]] == [True, True, False]
    assert [row["first"] for row in back["rows"]] == [0, 4, 0]
    assert (back["frame"], back["seen"], back["frame_ms"]) == (9, 4, 200)
    assert back["notes"] == [{"text": "Untrained model", "severity": "error"}]


def test_digest_names_the_sequence_and_nothing_else() -> None:
    one = payload(some_rows())["digest"]
    same = payload(some_rows(), frame=3, frame_ms=50, notes=[("note", "x")], revision=4, memory="m")["digest"]
    assert one == same
    changed = [Row("LSTM", "Predicted.", frames(6, 1), first=3), *some_rows()[::2]]
    others = [payload(some_rows(seed=1)), payload(some_rows(), seen=4), payload(changed), payload(some_rows()[:2])]
    assert len({one, *(other["digest"] for other in others)}) == 5


def test_pictures_are_made_by_the_encoder_that_is_given() -> None:
    asked: list[np.ndarray] = []

    def once(images: np.ndarray) -> tuple[bytes, ...]:
        asked.append(images)
        return encode(images)

    rows = some_rows()
    assert payload(rows, encode=once)["digest"] == payload(rows)["digest"]
    assert [id(images) for images in asked] == [id(row.images) for row in rows]


def test_bytes_are_fewer_than_pixels_where_there_is_something_to_save() -> None:
    ramp = np.tile(np.linspace(0, 1, 201, dtype=np.float32), (3, 201, 1))
    assert payload([Row("a", "b", ramp)])["images"].nbytes < 0.05 * ramp.size


def test_pixels_just_outside_are_taken_for_rounding() -> None:
    row = Row("a", "b", np.array([[[-1e-6, 1 + 1e-6]]]))
    np.testing.assert_array_equal(decoded(payload([row]))[0][0], [[0, 255]])


def changed(**fields: Any) -> list[Row]:
    given: dict[str, Any] = {"name": "LSTM", "help": "h", "images": frames(3), **fields}
    return [Row("True frames", "h", frames(4)), Row(**given)]


def test_what_does_not_fit_is_refused() -> None:
    for rows, arguments, message in [
        ([], {}, "rows must be at least one"),
        ([Row("a", "h", frames(0))], {}, "rows must have at least one frame, got none"),
        (changed(name="True frames"), {}, "all be different, got True frames, True frames"),
        (changed(images=frames(3)[0]), {}, r"images of 'LSTM' must be \(n, H, W\), got shape \(6, 9\)"),
        (changed(images=np.zeros((2, 0, 9))), {}, r"must be \(n, H, W\), got shape \(2, 0, 9\)"),
        (changed(images=np.zeros((3, 5, 9))), {}, "one size, got 9x5 in 'LSTM' and 9x6 in 'True frames'"),
        (changed(images=np.zeros((3, *SIZE), int)), {}, "must be float or uint8, got int64"),
        (changed(images=frames(3) * 255), {}, r"must be in \[0, 1\], got .* to 2"),
        (changed(images=frames(3) - 0.5), {}, r"must be in \[0, 1\], got -0.4"),
        (changed(images=np.full((1, *SIZE), np.nan)), {}, r"must be in \[0, 1\], got nan to nan"),
        (changed(first=-1), {}, "first of 'LSTM' must be at least 0, got -1"),
        (changed(errors=np.zeros(4)), {}, r"at most 3 images, got shape \(4,\)"),
        (changed(errors=np.zeros((3, 1))), {}, r"at most 3 images, got shape \(3, 1\)"),
        (changed(), {"frame": 4}, "frame must be 0 to 3, got 4"),
        (changed(), {"frame": -1}, "frame must be 0 to 3, got -1"),
        (changed(), {"seen": 5}, "seen must be 0 to 4, .*, got 5"),
        (changed(), {"frame_ms": 0}, "frame_ms must be at least 1, got 0"),
        (changed(), {"notes": [("info", "x")]}, "unknown kind of note 'info'; choose from: note, warning, error"),
    ]:
        with pytest.raises(ValueError, match=message):
            payload(rows, **arguments)


# -- which frame is shown


def told(sent: Sent, frame: object) -> dict[str, object]:
    return {"digest": sent.digest, "revision": sent.revision, "frame": frame}


def test_frame_of_the_browser_stays_while_the_page_follows_it_or_gives_the_same() -> None:
    first = settle(None, None, "a", 2, 10)
    assert (first.frame, first.revision, first.known) == (2, 0, 2)
    for given in (2, 7):  # what the page gave before, or what it got back
        after = settle(first, told(first, 7), "a", given, 10)
        assert (after.frame, after.revision, after.known) == (2, 0, 7)
    assert settle(after, told(first, 8), "a", 7, 10).known == 8
    assert settle(after, None, "a", 7, 10) == after  # the component was mounted anew, and has told nothing yet


def test_frame_of_the_browser_stays_while_the_page_gives_what_it_got_back_a_run_ago() -> None:
    sent = settle(None, None, "a", 2, 10)
    back = 2
    for frame in (3, 4, 0, 9, 8):  # each has rested, and is told in a run of its own
        sent = settle(sent, told(sent, frame), "a", back, 10)
        assert (sent.frame, sent.revision, sent.known) == (2, 0, frame)
        back = frame


def test_frame_that_the_page_means_by_itself_is_sent() -> None:
    first = settle(None, None, "a", 2, 10)
    after = settle(first, told(first, 7), "a", 5, 10)
    assert (after.frame, after.revision, after.known) == (5, 1, 5)
    late = settle(after, told(first, 8), "a", 5, 10)  # told before the new frame arrived
    assert (late.frame, late.revision, late.known) == (5, 1, 5)


def test_another_sequence_takes_the_frame_that_is_given() -> None:
    first = settle(None, None, "a", 2, 10)
    after = settle(first, told(first, 7), "b", 2, 4)
    assert (after.frame, after.revision, after.known) == (2, 1, 2)


def test_what_is_no_frame_changes_nothing() -> None:
    for junk in [None, 3, "x", [], {}, {"frame": 3}]:
        assert read_frame(junk, Sent("a", 1, 2, 2, 2), 10) == 2


def test_a_number_that_is_no_frame_changes_nothing() -> None:
    for frame in [None, -1, 10, 3.0, "3", True, [3], {}]:
        sent = Sent("a", 1, 2, 4, 2)
        assert read_frame(told(sent, frame), sent, 10) == 4


def test_script_and_style_ask_for_nothing_and_make_no_html() -> None:
    script = read_script("player")
    assert "export default player" in script
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "fetch(", "import ", "eval("):
        assert word not in script
    style = read_style("player")
    assert "url(" not in style and "@import" not in style and "transition" not in style and "animation" not in style
