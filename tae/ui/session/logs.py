"""The server's log, and what a visitor can send along with a question.

The environment variable TAE_LOG_LEVEL says how much is logged: "debug", "info" (default), "warning", "error".
"""

import logging
import os
import platform
import sys
import time
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

import tae
from tae.app import LEVELS
from tae.ui.session import access
from tae.ui.session.cache import STORE

if TYPE_CHECKING:
    from tae.ui.session.models import Active

PACKAGES = ("torch", "streamlit", "numpy", "pillow", "plotly", "safetensors")


class _Session(logging.Filter):
    """Tells a line's session, by the first letters of its id."""

    def filter(self, record: logging.LogRecord) -> bool:
        running = get_script_run_ctx(suppress_warning=True)
        record.session = running.session_id[:8] if running else "-"
        return True


@cache
def set_up() -> None:
    """Log to stderr, each line with its session; once for the process."""
    named = os.environ.get("TAE_LOG_LEVEL", "info").lower()
    handler = logging.StreamHandler()
    handler.addFilter(_Session())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s session=%(session)s %(message)s"))
    logger = logging.getLogger("tae")
    logger.addHandler(handler)
    logger.setLevel(named.upper() if named in LEVELS else "INFO")
    logger.propagate = False


def begin_run() -> None:
    """A run of a page begins; `end_run` says how long it took."""
    set_up()
    st.session_state.run_began = time.perf_counter()


def end_run() -> None:
    if began := st.session_state.pop("run_began", 0):
        took(f"page {st.session_state.page}", time.perf_counter() - began)


def took(what: str, seconds: float) -> None:
    """Note how long something took; the last ten are in the diagnostics."""
    timings = st.session_state.setdefault("timings", {})
    timings.pop(what, None)
    timings[what] = seconds
    if len(timings) > 10:
        del timings[next(iter(timings))]


def diagnostics(active: "Active | None") -> str:
    """Versions, settings, the model's hash and timings; nothing of images, names of files or the machine's paths."""
    state = st.session_state
    lines = [f"tae {tae.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    lines += [", ".join(f"{name} {version(name)}" for name in PACKAGES)]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        lines.append(
            f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
        )
    lines.append(f"mode {access.mode()}, kept {STORE.num_bytes / 1e6:.0f} of {STORE.max_bytes / 1e6:.0f} MB")
    if active is not None:
        lines.append(f"model sha256 {active.loaded.digest}, {active.config}")
    view = {name: state[name] for name in ("part", "layer", "head", "fit", "baseline") if name in state}
    lines.append(f"page {state.page}, " + ", ".join(f"{name} {value}" for name, value in view.items()))
    lines += [f"{what}: {seconds:.3f} s" for what, seconds in state.get("timings", {}).items()]
    return "\n".join(lines)


def offer_diagnostics(active: "Active | None") -> None:
    """Drawn in the sidebar's foot."""
    if st.button("Copy diagnostics", key="diagnostics", icon=":material/monitor_heart:", type="tertiary"):
        _show(active)


@st.dialog("Diagnostics", width="large")
def _show(active: "Active | None") -> None:
    st.write("For a question to whoever looks after this app: the button in the corner copies it.")
    st.code(diagnostics(active), language=None, wrap_lines=True)
