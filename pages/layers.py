"""The page Layers: what the model makes of an image after each layer, drawn by the network's own last steps."""

import streamlit as st

from tae import ui
from tae.model.config import PARTS
from tae.store.names import escape_markdown
from tae.ui.layers import measure
from tae.ui.layers.exports import exports, how_to_read
from tae.ui.layers.fitted import find_lens, provenance
from tae.ui.layers.strips import WAYS, by_depth, strip, warn
from tae.ui.layers.training import over_training


def main() -> None:
    active, chosen = ui.setup("Layers")
    ui.heading("Layers")
    ui.prose(
        "The [[state]] after each [[layer]], drawn as an image through a [[lens]]: raw as it is, or tuned by the best linear map "
        "to the last layer's."
    )
    scene = ui.scene_or_stop(active, chosen)
    found = find_lens(active)
    way = "raw"
    if found is not None:
        way = ui.choose("lens", st.segmented_control, "State of a layer", WAYS, label_visibility="collapsed")
    ways = ("raw",) if found is None else tuple(WAYS)
    seen = {
        (part, one): measure.seen(active, scene.fitted, part, found, one == "tuned") for part in PARTS for one in ways
    }
    warn([seen[part, way] for part in PARTS], way)
    for part in PARTS:
        strip(active, seen[part, way], found, way)
    if found is not None:
        st.caption(f"The lens was {escape_markdown(provenance(found))}.")
    with st.container(key="layers_columns"):
        places = st.columns(2)
    for part, place in zip(PARTS, places, strict=True):
        with place:
            by_depth(seen[part, "raw"], seen.get((part, "tuned")), found)
    over_training(scene)
    with st.container(key="expert_exports"):
        exports(scene, seen, found, way)
        how_to_read()
    ui.write_link()


main()
