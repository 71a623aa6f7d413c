"""The instrument of the page Explore: the image under its attention, its reconstruction, every head in small, ablations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tae.analysis.causal.interventions import Intervention
from tae.data.encode import png_url
from tae.ui.attention.explore import Shown, explorer_panel
from tae.ui.attention.explorer import digest_now, feed, taken_act
from tae.ui.causal import history, measure
from tae.ui.causal.controls import words_of
from tae.ui.causal.measure import BASELINES, Changed, PairScene
from tae.ui.explore.windows import decibels
from tae.ui.session.results import Result, reconstruct
from tae.ui.session.scene import Scene
from tae.ui.session.view import checked


@dataclass(frozen=True)
class Staged:
    """What stands on the stage."""

    scene: PairScene
    shown: Shown  # the map on display
    plain: Result  # the undisturbed reconstruction
    active: tuple[Intervention, ...]  # what is ablated
    changed: Changed | None  # with that; None where nothing is, or its baseline is not known yet


def ablated(pair: PairScene) -> tuple[Intervention, ...]:
    """What is ablated: the link's changes, and what was clicked in the explorer since the last run."""
    history.say_refused(history.current(pair)[1])  # the link's changes, before what was clicked is added to them
    apply(taken_act(), pair)
    return history.current(pair)[0]


def stage(scene: Scene, pair: PairScene, active: tuple[Intervention, ...]) -> Staged:
    """Draw the instrument, with what is ablated in it."""
    shown = explorer_panel(scene)
    plain = reconstruct(scene.active, scene.chosen)
    kind = checked("baseline", list(BASELINES))
    changed = measure.changed(pair, active, kind) if active else None
    staged = Staged(pair, shown, plain, active, changed)
    feed("outcome", {"digest": digest_now(scene), **outcome_of(staged, kind)})
    return staged


def apply(act: Mapping[str, Any], scene: Scene) -> None:
    """Do what was clicked in the explorer; see `taken_act`."""
    what, name = act.get("do"), act.get("name")
    if what == "toggle" and isinstance(name, str):
        try:
            history.toggle(name)
        except ValueError:  # no head's name: not from our buttons
            return
    elif what == "reset":
        history.set_changes(())
    elif what == "undo" and (back := history.way_back(scene.config, scene.num_tokens, history.held())):
        history.undo(*back)


def outcome_of(staged: Staged, kind: str) -> dict[str, object]:
    """What the explorer shows beside the image."""
    scene, changed, active = staged.scene, staged.changed, staged.active
    psnr = staged.plain.quality.psnr
    title, words = decibels(psnr), f"From {scene.config.latent_dim} numbers"
    if changed:
        lost = f"{-changed.damage.psnr_lost:+.1f}".replace("-", "−")
        title = f"{decibels(changed.quality.psnr)} ({lost})"
        what = active[0].title if len(active) == 1 else f"{len(active)} changes"
        words = f"{what}: replaced by {words_of(scene, kind)}"
    return {
        "recon": png_url(staged.plain.recon),
        "changed": png_url(changed.recon) if changed else "",
        "title": title,
        "words": words,
        "ablated_words": "; ".join(one.title for one in active),
        "ablated": [one.name for one in active],
        "can_undo": bool(history.way_back(scene.config, scene.num_tokens, active)),
    }


def losses(staged: Staged) -> None:
    """Measure what each head costs, and send it to the head grid; drawn last, since nothing waits for it."""
    scene = staged.scene
    kind = checked("baseline", list(BASELINES))
    sweep = measure.find_sweep(scene, kind)
    if sweep is None:
        return
    lost = {one.name: loss.psnr_lost for one, loss in sweep.damage.items() if np.isfinite(loss.psnr_lost)}
    feed("losses", {"digest": digest_now(scene), "losses": lost, "words": f"replaced by {words_of(scene, kind)}"})
