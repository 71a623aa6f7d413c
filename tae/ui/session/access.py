"""Who may do what: the app's mode, and who is logged in; see `.github/SERVING.md`.

The environment variable TAE_MODE names the mode. Nothing follows from an address: behind a proxy every visitor's is this
machine's own.
"""

import os

import streamlit as st

from tae.app import MODES

LOCAL = ("127.0.0.1", "localhost", "::1")


def mode() -> str:
    """A key of `MODES`; a word that is none is taken as the strictest."""
    named = os.environ.get("TAE_MODE") or "local"
    return named if named in MODES else "shared"


def may_type_folders() -> bool:
    """Whether folders of this machine may be read; of a server for others nobody's are."""
    return mode() == "local" and st.get_option("server.address") in LOCAL


def may_train() -> bool:
    """Whether this visitor may start, stop, resume and delete trainings."""
    return mode() == "local" or (mode() == "lab" and is_logged_in())


def is_logged_in() -> bool:
    return bool(st.user.get("is_logged_in", False))


def can_log_in() -> bool:
    """Whether there is a login to offer: secrets name who knows the visitors."""
    return mode() == "lab" and "is_logged_in" in st.user


def say_why_not() -> None:
    """In place of the training form: who may train here, and how to train elsewhere."""
    if can_log_in():
        st.info("Log in to train here: the button stands in the sidebar.", icon=":material/login:")
    else:
        st.info(
            "Nothing can be trained on this server. On a machine of your own, the first command of `tae plan --help` says what "
            "a training needs, and `python -m tae.train tiny --data path/to/images` begins it.",
            icon=":material/lock:",
        )


def login() -> None:
    """Log in and out, where a login is set up; drawn in the sidebar."""
    if not can_log_in():
        return
    if is_logged_in():
        st.button("Log out", key="access_out", icon=":material/logout:", type="tertiary", on_click=st.logout)
    else:
        st.button("Log in to train", key="access_in", icon=":material/login:", on_click=st.login)
