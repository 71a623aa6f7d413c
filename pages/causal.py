"""The page Ablation: attention, heads and patches ablated, and what that does to the reconstruction."""

import streamlit as st

from tae import ui
from tae.ui.attention.explore import one_token_notice
from tae.ui.causal.controls import pair_of
from tae.ui.causal.effect import against_effect
from tae.ui.causal.headline import Top, top_line
from tae.ui.causal.knockout import knock_out
from tae.ui.causal.measure import PairScene
from tae.ui.causal.necessity import is_it_needed
from tae.ui.causal.pair import two_images
from tae.ui.causal.ranking import ranking
from tae.ui.causal.region import ask_a_region

SECTIONS = {
    "needed": "Replace attention",
    "knock": "Heads",
    "ranking": "Heads ranked",
    "effect": "Maps against effect",
    "region": "Patches",
    "pair": "Two images",
}


def main() -> None:
    active, chosen = ui.setup("Ablation")
    ui.heading("Ablation")
    ui.prose("What each part is good for, by [[ablation]].")
    scene = ui.scene_or_stop(active, chosen)
    if scene.num_tokens == 1:
        one_token_notice("nothing can be put in its place. Choose a checkpoint with patches.")
    else:
        pair = pair_of(scene)
        section(pair, top_line(pair))
    ui.write_link()


def section(scene: PairScene, top: Top) -> None:
    name = ui.choose("causal", st.segmented_control, "Section", SECTIONS, label_visibility="collapsed")
    if name == "needed":
        if top.necessity is not None:
            is_it_needed(scene, top.necessity)
    elif name == "knock":
        knock_out(scene, top.sweep)
    elif name == "ranking":
        ranking(scene, top.sweep)
    elif name == "effect":
        against_effect(scene)
    elif name == "region":
        ask_a_region(scene)
    else:
        two_images(scene)


main()
