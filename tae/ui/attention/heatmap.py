"""Heatmap: the map as rows of queries and columns of keys, a part of it in exact values, and all layers beside it."""

import streamlit as st

from tae.analysis.maps import MapChoice
from tae.plots.maps import Region, plot_attention_map, plot_layer_grid, selected_region
from tae.ui.attention import measure
from tae.ui.attention.explore import Shown
from tae.ui.session.scene import Scene
from tae.ui.widgets.charts import chart


def heatmap(scene: Scene, shown: Shown, region: Region) -> None:
    state = st.session_state
    st.markdown(f"**{shown.title}**")
    spread = None
    if shown.choice.head == "mean" and shown.layers is not None and shown.choice.weighting == "weights":
        name = f"{shown.choice.part}/{shown.choice.layer}/spread"
        spread = measure.one_map(scene, MapChoice.from_name(name)).weights
    event = chart(
        plot_attention_map(shown.weights, shown.grid, shown.zmax, shown.quantity, spread, region),
        f"attention_map_{state.get('attention_boxes', 0)}",
        f"Attention map: {shown.title}",
        tools=True,
        width=640 if spread is None else "stretch",  # one map is square: its colour bar stays beside it
        on_select="rerun",
        selection_mode="box",
    )
    box = selected_region(event.get("selection", {}), region)
    if box is not None:
        set_region(box.to_text())
        st.rerun(scope="fragment")
    if state.region:
        st.button("Show the whole map", icon=":material/zoom_out_map:", on_click=set_region, args=("",))
    st.caption(
        "Draw a box to look at a part of the map in exact values."
        if region.cell_side == 1
        else f"Each cell is the strongest of {region.cell_side} x {region.cell_side} pairs. Draw a box to look at a part "
        "in exact values."
    )
    all_layers(scene, shown)


def all_layers(scene: Scene, shown: Shown) -> None:
    part = shown.choice.part
    top = measure.range_tops(scene, "weights")["shared"]
    st.markdown(f"**All layers of the {part} and their average**, heads averaged")
    figure = plot_layer_grid(measure.attention_maps(scene, part), shown.grid, top)
    alt = f"Attention maps of all layers of the {part} and their average, side by side"
    chart(figure, "attention_grid", alt, tools=True)
    st.caption(f"Weights, on one colour range: 0 to {top:.3g} x uniform.")


def set_region(text: str) -> None:
    st.session_state.region = text
    st.session_state.attention_boxes = st.session_state.get("attention_boxes", 0) + 1
