"""The page Layers: an image after each layer, drawn or patch by patch; how alike all states are, and what all heads do."""

import streamlit as st

from tae import ui
from tae.model.config import PARTS
from tae.ui.attention.explore import one_token_notice
from tae.ui.layers import measure, patches
from tae.ui.layers.alike import alike
from tae.ui.layers.exports import exports, how_to_read
from tae.ui.layers.fitted import find_lens
from tae.ui.layers.heads import all_heads
from tae.ui.layers.strips import WAYS, by_depth, strip, warn
from tae.ui.layers.training import has_history, over_training
from tae.ui.widgets.downloads import export
from tae.ui.widgets.report import download_report

SECTIONS = {
    "": "Images by layer",
    "training": "Over training",
    "patches": "Patch features",
    "alike": "All states",
    "heads": "All heads",
}


def main() -> None:
    active, chosen = ui.setup("Layers")
    ui.heading("Layers")
    scene = ui.scene_or_stop(active, chosen)
    sections = SECTIONS if has_history(scene) else {name: SECTIONS[name] for name in SECTIONS if name != "training"}
    section = ui.choose("depths", st.segmented_control, "Section", sections, label_visibility="collapsed")
    if section == "patches":
        of_patches(scene)
    elif section == "alike":
        alike(scene.active)
    elif section == "heads":
        of_heads(scene)
    elif section == "training":
        over_training(scene)
    else:
        by_layer(scene)
    ui.write_link()


def of_patches(scene: ui.Scene) -> None:
    if scene.num_tokens == 1:
        one_token_notice("no other patch is there to be alike.")
        return
    depths = patches.patch_features(scene)
    if depths:
        with export():
            download_report(scene)
            patches.exports(scene, depths)


def of_heads(scene: ui.Scene) -> None:
    if scene.num_tokens == 1:
        one_token_notice("all heads are the same.")
        return
    all_heads(scene)


def by_layer(scene: ui.Scene) -> None:
    active = scene.active
    ui.prose("The [[state]] after each [[layer]], drawn as an image through a [[lens]].")
    found = find_lens(active)
    way = "raw"
    if found is not None:
        way = ui.choose("lens", st.segmented_control, "State of a layer", WAYS, label_visibility="collapsed")
    ways = ("raw",) if found is None else tuple(WAYS)
    seen = {
        (part, one): measure.seen(active, scene.fitted, part, found, one == "tuned") for part in PARTS for one in ways
    }
    with export():
        download_report(scene)
        exports(scene, seen, found, way)
    warn([seen[part, way] for part in PARTS], way)
    for part in PARTS:
        strip(active, seen[part, way], found, way)
    with st.container(key="layers_columns"):
        places = st.columns(2)
    for part, place in zip(PARTS, places, strict=True):
        with place:
            by_depth(seen[part, "raw"], seen.get((part, "tuned")), found)
    with st.container(key="expert_exports"):
        how_to_read(found)


main()
