"""All layers and heads: every head of a part in small, ordered by what is measured of it."""

import streamlit as st

from tae.analysis.heads import MEASURES
from tae.plots.heads import plot_overview, selected_head
from tae.ui.attention import measure
from tae.ui.attention.explore import Shown
from tae.ui.session.scene import Scene
from tae.ui.session.view import link
from tae.ui.widgets.charts import chosen_in


def overview(scene: Scene, shown: Shown) -> None:
    part = shown.choice.part
    effects = measure.effects_on_tests(scene.active, part)
    orders = {"layer": "by layer", **{name: MEASURES[name].label for name in ("entropy", "distance", "foreground")}}
    if effects is not None:
        orders["effect"] = "Effect: PSNR lost without the head"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.selectbox(
            "Order",
            list(orders),
            format_func=lambda name: orders[name],
            key="attention_order",
            persist_state="session",
            width=260,
        )
        own = st.toggle(
            "Each head in its own colour range",
            key="attention_own_ranges",
            persist_state="session",
            help="Makes faint patterns visible, and makes them look strong: heads can then not be compared by eye.",
        )
    cells = measure.thumbnails(scene, part, shown.choice.weighting)
    values, label = None, ""
    if order == "effect":
        values, label = effects, "PSNR lost without the head (dB, median of test images)"
    elif order != "layer":
        values = measure.head_statistics(scene, part)[order]
        label = f"{MEASURES[order].label} ({MEASURES[order].unit})"
    figure = plot_overview(
        cells,
        None if own else measure.range_tops(scene, shown.choice.weighting)["shared"],
        values,
        label,
        merged=-(-len(shown.weights) // measure.THUMBNAIL),
    )
    alt = f"All heads of the {part}, one small map each; click one to open it"
    picked = chosen_in(figure, "attention_overview", alt, selected_head)
    st.caption(
        f"Every head of the {part} ({scene.config.num_heads} in each of {scene.config.num_layers(part)} layers), rows = query, "
        "columns = key, dark = high; click one to open it."
    )
    st.page_link(
        "pages/layers.py",
        label="What each does over test images",
        icon=":material/account_tree:",
        query_params=link("Layers") | {"depths": "heads"},
    )
    if picked is not None:
        layer, head = picked
        st.session_state.layer, st.session_state.head = str(layer), str(head)
        st.rerun(scope="fragment")
