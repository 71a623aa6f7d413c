"""Words that the parts of the page Train share: states, figures, durations, bytes, commands."""

import math
import shlex
from collections.abc import Sequence
from typing import TypeGuard

import streamlit as st

from tae.store.names import escape_markdown
from tae.training.config import TrainConfig
from tae.training.run import runs

BADGES = {
    "starting": ("blue", ":material/hourglass_top:"),
    "running": ("blue", ":material/play_arrow:"),
    "finished": ("green", ":material/check:"),
    "stopped": ("gray", ":material/pause:"),
    "failed": ("red", ":material/error:"),
    "died": ("orange", ":material/power_off:"),
}
"""Colour and icon of a run's status."""


def is_number(value: object) -> TypeGuard[float]:
    """Whether a log's value can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: object, pattern: str) -> str:
    return pattern.format(value) if is_number(value) else "–"


def psnrs_of(records: list[dict]) -> list[float]:
    """Held-out PSNR, wherever it was measured."""
    return [record["held_out_psnr"] for record in records if is_number(record.get("held_out_psnr"))]


def in_bytes(count: float) -> str:
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB" if count >= 1e3 else f"{count:.0f} bytes"
    if count < 1e8:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def clock(seconds: float) -> str:
    """A duration in words."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def reason(error: runs.RunError | OSError) -> str:
    """Without the path that an `OSError` names."""
    return str(error) if isinstance(error, runs.RunError) else error.strerror or "the disk failed"


def show_left_out(problems: Sequence[str]) -> None:
    """A line for each of the first, strangers' text, and how many more there are."""
    st.markdown("  \n".join(escape_markdown(problem) for problem in problems[:20]))
    if len(problems) > 20:
        st.caption(f"and {len(problems) - 20} more")


def command(config: TrainConfig) -> str:
    return shlex.join(["python", "-m", "tae.train", *config.command_line()])


def show_command(config: TrainConfig) -> None:
    st.code(command(config), language=None, wrap_lines=True)
