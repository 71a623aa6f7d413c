"""Ablate it: the reconstruction without the attention of the map on display."""

import streamlit as st

from tae.data.encode import encode_png
from tae.store.names import escape_markdown
from tae.ui.attention import measure
from tae.ui.attention.explore import Shown
from tae.ui.session.results import reconstruct
from tae.ui.session.scene import Scene
from tae.ui.session.view import link
from tae.ui.shell.sidebar import panels


def against_cause(scene: Scene, shown: Shown) -> None:
    """The reconstruction with this view's attention ablated: weight placed is one thing, its effect another."""
    part, layers = shown.choice.part, shown.layers
    where = f"every layer of the {part}" if layers is None else f"layer {layers[0]} of the {part}, all its heads,"
    st.markdown(
        f"The attention of **{where}** is ablated, to see what the image loses. If nothing is lost, the maps above are "
        "decoration."
    )
    own = reconstruct(scene.active, scene.chosen)
    others = measure.without_attention(scene, part, layers)
    cells = [("Its own attention", own.recon, own.quality.psnr, None)]
    cells += [(name, one.recon, one.quality.psnr, one.quality.psnr - own.quality.psnr) for name, one in others.items()]
    with st.container(key="attention_small"):
        places = panels(scene.fitted.pixels, len(cells))
    for place, (name, recon, psnr, change) in zip(places, cells, strict=True):
        with place:
            st.image(encode_png(recon), width="stretch", alt=f"Reconstruction with: {name}")
            st.metric(escape_markdown(name), f"{psnr:.1f} dB", None if change is None else f"{change:+.1f} dB")
    st.caption(
        "PSNR against what the model saw. Both replacements leave what the model was trained on: they show that the "
        "weights are used, not how. The other image's weights come from its own undisturbed pass, head by head."
    )
    st.page_link(
        "pages/causal.py",
        label="Every head, every layer, every patch: Does it matter?",
        icon=":material/science:",
        query_params=link(),
    )
