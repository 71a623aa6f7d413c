"""Whether the prediction is better than guessing, in a sentence, and what is to be minded beside it."""

import streamlit as st

from tae.model.metrics import psnr_of
from tae.sequence.drops import DATA
from tae.sequence.forecast import BASELINES, CEILING, LSTM, SEEN, STEPS, Forecast, mean_errors
from tae.store.names import escape_markdown
from tae.ui.sequences.measure import SequenceScene


def caveats(scene: SequenceScene) -> None:
    if scene.clip.found is None:
        st.caption("Simulated, test split.")
    if scene.film.notes or scene.film.skipped:
        left_out = (f"{name} is left out: {reason}" for name, reason in scene.film.skipped[:3])
        told = [*scene.film.notes, *left_out]
        more = f"; {len(scene.film.skipped) - 3} more left out" if len(scene.film.skipped) > 3 else ""
        st.caption(escape_markdown("; ".join(told)) + more)
    if scene.lstm is not None and scene.lstm.card.origin == "untrained":
        st.error(
            "**Untrained.** This sequence model has random weights: what it predicts is not anything learnt.",
            icon=":material/warning:",
        )
    elif scene.lstm is not None and (scene.clip.found is not None or scene.lstm.card.data != DATA):
        st.caption(f"The sequence model learnt from {escape_markdown(scene.lstm.card.data)} only.")


def verdict(scene: SequenceScene, forecast: Forecast) -> None:
    """One sentence: whether the model is better than guessing."""
    seen = min(SEEN, scene.count - 2) if scene.frames_seen is None else scene.frames_seen
    means = mean_errors(forecast, seen)
    if not means:
        st.info(
            "No true frame is left to compare the prediction with: it goes on after the last one.",
            icon=":material/info:",
        )
        return
    best = min(BASELINES, key=lambda name: means[name])
    where = (
        f"one step ahead, frames {max(seen, 1) + 1} to {scene.count}"
        if scene.frames_seen is None
        else f"several steps ahead, frames {seen + 1} to {min(scene.count, seen + STEPS)}"
    )
    ceiling = f"Upper bound (autoencoder, no prediction): {told(means[CEILING])}."
    if LSTM not in means:
        st.info(f"**Best baseline, {where}: {best}, {told(means[best])}.** {ceiling}", icon=":material/info:")
    elif told(means[LSTM]) == told(means[best]):
        st.info(
            f"**LSTM, {where}: {told(means[LSTM])}, no better and no worse than {best}.** {ceiling}",
            icon=":material/info:",
        )
    elif means[LSTM] < means[best]:
        st.success(
            f"**LSTM, {where}: {told(means[LSTM])}**, better than the best baseline ({best}: "
            f"{told(means[best])}). {ceiling}",
            icon=":material/check:",
        )
    else:
        st.warning(
            f"**LSTM, {where}: {told(means[LSTM])}, worse than {best} ({told(means[best])}).** {ceiling}",
            icon=":material/trending_down:",
        )


def told(mse: float) -> str:
    return f"{psnr_of(mse):.1f} dB" if mse > 0 else "exact"
