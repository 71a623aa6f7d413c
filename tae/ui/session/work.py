"""Long work on a page: its progress is drawn, it can be stopped, and what it finds is kept for all sessions.

Whatever its bar draws is where Streamlit interrupts it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from tae.ui.session import logs
from tae.ui.session.cache import MODEL_LOCK, STORE
from tae.ui.session.lasting import load, save

T = TypeVar("T")
Progress = Callable[[float], None]

LONG_S = 20.0  # work that is expected to take longer begins with a click only


def measured(
    name: str,
    key: str,
    words: str,
    seconds: Callable[[], float],
    compute: Callable[[Progress], T],
    ask: bool = False,
    lasting: Any = None,
) -> T | None:
    """The result of a computation, kept by its key; where it is not known yet, it is drawn with progress and a stop button.

    None while it has not been asked for, and when it was stopped.

    Args:
        name: The computation's, for widgets.
        key: Names all that it depends on.
        words: The work, such as "Covering patches".
        seconds: Tells about how long it takes, asked where it is not known yet; if long, it waits for a click.
        compute: Gets a function to call with the share that is done, between pieces that are as short as can be: others have
            their turn there, and there it ends when its page is closed.
        ask: Whether it waits for a click however short it is.
        lasting: The result's type, where it is kept on this machine for the next start, too: see `lasting`.
    """
    found = known(name, key)
    if found is None and lasting:
        found = load(name, key, lasting)
        if found is not None:
            STORE.put((name, key), found)
    if found is not None:
        return found
    state = st.session_state
    stopped, wanted = state.setdefault("work_stopped", set()), state.setdefault("work_wanted", set())
    mark = f"{name}|{key}"
    place = st.empty()
    takes = seconds()
    if mark in stopped or ((ask or takes > LONG_S) and mark not in wanted):
        with place.container(horizontal=True, vertical_alignment="center"):
            st.button(
                f"{words} ({duration(takes)})",
                key=f"work_start_{name}",
                icon=":material/play_arrow:",
                on_click=_want,
                args=(mark,),
            )
            if mark in stopped:
                st.caption("Stopped. Nothing of it was kept.")
        return None
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, f"{words}…", width="stretch")
        st.button("Stop", key=f"work_stop_{name}", icon=":material/stop:", on_click=_stop, args=(mark,))

    def step(share: float) -> None:
        bar.progress(min(1.0, share), f"{words}…")
        MODEL_LOCK.next_piece()

    stand_back()
    try:
        with MODEL_LOCK.piece():
            found = known(name, key)
            is_new = found is None  # another session may have found it while this one waited
            if is_new:
                began = time.perf_counter()
                found = compute(step)
                logs.took(name, time.perf_counter() - began)
                STORE.put((name, key), found)
        if is_new and lasting:  # others have their turn with the models while it is written
            save(name, key, found)
    except ValueError:  # the page says it; a bar that stands still would say that there is more to come
        place.empty()
        raise
    place.empty()
    return found


def stand_back() -> None:
    """Let the clicks of others go first for the rest of this thread, and of those that PyTorch starts for it.

    Beside a pass over 3,040 patches a click took twice as long, as its share of two cores had it; so it takes 1.3 times.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(5, os.getpriority(os.PRIO_PROCESS, thread)))


def known(name: str, key: str) -> Any:
    """The result of `measured` under this name and key, for any session; None where it is not known yet."""
    return STORE.get((name, key))


def _want(mark: str) -> None:
    st.session_state.work_stopped.discard(mark)
    st.session_state.work_wanted.add(mark)


def _stop(mark: str) -> None:
    st.session_state.work_wanted.discard(mark)
    st.session_state.work_stopped.add(mark)


def duration(seconds: float) -> str:
    """In words, such as "about 2 min"."""
    return f"about {max(1, round(seconds))} s" if seconds < 90 else f"about {round(seconds / 60)} min"
