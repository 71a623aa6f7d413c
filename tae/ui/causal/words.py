"""What the sections of the page "Does it matter?" say alike, on the page and in exports."""

import streamlit as st

from tae.images import safe_name
from tae.ui.causal import measure
from tae.ui.causal.measure import Scene


def words_of(scene: Scene, kind: str) -> str:
    """A baseline in words; holds a stranger's text."""
    words = {"zero": "zero", "mean": f"its mean over {measure.MEAN_OVER} test images"}
    return words.get(kind, f"what it adds for “{scene.other_title}”")


def stem_of(scene: Scene) -> str:
    return f"{'' if scene.active.is_trained else 'UNTRAINED_'}{safe_name(scene.chosen.title)}"


def about(scene: Scene) -> str:
    """What an export is of; a stranger's text."""
    untrained = "" if scene.active.is_trained else "UNTRAINED MODEL: random weights · "
    return f"{untrained}{scene.chosen.title} · {scene.active.title}"


def no_study(scene: Scene) -> None:
    if scene.active.is_trained:
        st.caption(
            "These are of one picture. `python -m tae.causal --checkpoint <file>` measures the same over a test set; the "
            "page shows its figures where they lie beside the checkpoint."
        )
