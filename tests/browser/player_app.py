"""A page with nothing but the player, for tests/browser/test_player.py: every frame of every row has a grey of its own.

A field says what is shown, and begins anew: count=10&size=20x30&frame=3&pace=200&follow=no&text=...&error=MSE
So does the link, by ?begin=...
"""

from urllib.parse import parse_qsl

import numpy as np
import streamlit as st

from tae.ui.widgets.player import player
from tae.web.player.payload import Row

LSTM_FIRST = 4
ROWS = ("True frames", "Reconstruction", "LSTM", "Copy of the last frame")


def grey(row: int, frame: int, shift: int = 0) -> int:
    """Grey of the left half; the right half is the negative."""
    return (40 * row + 5 * frame + shift) % 256


def images(row: int, start: int, end: int, size: tuple[int, int], shift: int) -> np.ndarray:
    height, width = size
    made = np.zeros((end - start, height, width), np.uint8)
    for i, frame in enumerate(range(start, end)):
        made[i, :, : width // 2] = grey(row, frame, shift)
        made[i, :, width // 2 :] = 255 - grey(row, frame, shift)
    return made


def rows(count: int, size: tuple[int, int], shift: int) -> list[Row]:
    """The true frames end two before the predictions, whose errors are known as far as there is truth."""
    true = count - 2
    errors = np.arange(1, count + 1) / 1000
    return [
        Row(ROWS[0], "The frames as they are.", images(0, 0, true, size, shift)),
        Row(ROWS[1], "What the autoencoder makes of each.", images(1, 0, true, size, shift), errors=errors[:true]),
        Row(
            ROWS[2],
            "Predicted.",
            images(2, LSTM_FIRST, count, size, shift),
            LSTM_FIRST,
            errors[: true - LSTM_FIRST] / 1e5,
        ),
        Row(ROWS[3], "Again and again.", images(3, 0, count, size, shift), is_shown=False),
    ]


def main() -> None:
    st.set_page_config(layout="wide")
    st.title("Player")
    state = st.session_state
    words = st.text_input("Begin with", st.query_params.get("begin", ""))
    number, before = state.get("begun", (0, None))
    if words != before:  # as in a session of its own
        number += 1
        state.begun = (number, words)
        for name in ("frame", "runs"):
            state.pop(name, None)
    query = dict(parse_qsl(words))
    height, width = map(int, query.get("size", "20x30").split("x"))
    state.setdefault("frame", int(query.get("frame", "0")))
    st.button("Run again")
    if st.button("To frame 6"):
        state.frame = 5
    shift = 100 if st.toggle("Other sequence", key=f"other-{number}") else 0
    given = rows(int(query.get("count", "10")), (height, width), shift)
    notes = [("error", "Untrained model")]
    if "text" in query:
        given[0] = Row(query["text"], query["text"], given[0].images)
        notes.append(("note", query["text"]))
    if st.toggle("Show the player", value=True, key=f"shown-{number}"):
        frame = state.frame if query.get("follow") != "no" else int(query.get("frame", "0"))
        pace, name = int(query.get("pace", "200")), query.get("error", "MSE")
        state.frame = player(
            given, key=f"player-{number}", frame=frame, seen=LSTM_FIRST, frame_ms=pace, notes=notes, error_name=name
        )
    state.runs = state.get("runs", 0) + 1
    st.text(f"run {state.runs}, at frame {state.frame}")
    st.text(f"begun with {words}")


if __name__ == "__main__":
    main()
