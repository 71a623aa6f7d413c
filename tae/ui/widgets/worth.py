"""A figure in dB beside what simple codes reach on the same images."""

from collections.abc import Sequence

import streamlit as st

from tae.analysis.yardsticks import Yardstick, verdict


def say_worth(psnr: object, yardsticks: Sequence[Yardstick]) -> None:
    """A sentence, green where the model is ahead of all; nothing where there is nothing to compare."""
    if not isinstance(psnr, (int, float)) or not yardsticks:
        return
    is_ahead, sentence = verdict(psnr, yardsticks)
    (st.success if is_ahead else st.warning)(sentence, icon=":material/straighten:")
