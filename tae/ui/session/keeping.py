"""A session's uploads, kept on disk for a day and found again after a reload by a cookie, which no link holds."""

import re
import secrets
from collections.abc import Sequence

import streamlit as st

from tae.store.locker import Batch, Locker, LockerError, hours_kept
from tae.store.names import plain_text
from tae.store.places import cache_folder

COOKIE = "tae_uploads"


def _secret() -> str:
    state = st.session_state
    if "locker" not in state:
        brought = str(st.context.cookies.get(COOKIE, ""))
        state.locker = brought if re.fullmatch("[0-9a-f]{32}", brought) else secrets.token_hex(16)
    return state.locker


def locker() -> Locker:
    """The session's own. Raises LockerError where there is no place for any."""
    try:
        return Locker(cache_folder() / "uploads", _secret())
    except OSError as error:
        raise LockerError(f"cannot be kept on the disk: {error.strerror or 'it failed'}") from error


def hand_out_cookie() -> None:
    """Tell the browser the session's secret; drawn where an element without height changes nothing."""
    age = round(2 * 3600 * hours_kept())  # the files decide how long; the cookie must only not go first
    st.html(
        f"<script>document.cookie = '{COOKIE}={_secret()}; max-age={age}; path=/; samesite=strict' + "
        "(location.protocol === 'https:' ? '; secure' : '')</script>",
        unsafe_allow_javascript=True,
    )


def keep(kind: str, files: Sequence[tuple[str, bytes]]) -> str | None:
    """Keep one drop for the session's next page load; returns why it is not, None where it is."""
    try:
        locker().put(kind, files)
    except LockerError as error:
        others = f" and {len(files) - 1} more" * (len(files) > 1)
        return f"{plain_text(files[0][0])}{others}: it is shown until the page is loaded anew: {error}."
    return None


def brought_before(kind: str) -> list[Batch]:
    """What the visitor dropped before this page was loaded; from the second time on that a session asks, nothing."""
    asked = st.session_state.setdefault("kinds_brought", set())
    if kind in asked:
        return []
    asked.add(kind)
    try:
        return locker().batches(kind)
    except LockerError:
        return []


def forget(kind: str) -> None:
    """Delete what is kept of a kind."""
    try:
        locker().remove(kind)
    except LockerError:
        return


def how_long() -> str:
    """What a drop zone says of it."""
    return f"Kept where the app runs for {hours_kept():g} hours, or until you remove them; nobody else sees them."
