"""The two maps beside each other, under one pointer, and how alike they are."""

import numpy as np
import streamlit as st

from tae.analysis import agreement, facts
from tae.plots.heads import plot_agreement_on_image, plot_difference_map
from tae.ui.attention import explorer, measure
from tae.ui.compare.exports import exports
from tae.ui.compare.halves import Half
from tae.ui.session.view import choose
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.charts import chart, drawn
from tae.web.explorer.payload import Note, Side


def side_by_side(a: Half, b: Half) -> None:
    notes = [
        Note(f"{name}: {half.active.warning}", "error") for name, half in (("A", a), ("B", b)) if half.active.warning
    ]
    sides = side_of(a, b), side_of(b, a)
    tops = {
        "shared": max(float(np.percentile(half.weights, 99.5)) * len(half.weights) for half in (a, b)),
        "full": max(float(half.weights.max()) * len(half.weights) for half in (a, b)),
    }
    view = explorer.compare(sides, int(a.weights.max(axis=1).argmax()), tops, notes)
    st.header("Similarity")
    if a.grid != b.grid:
        st.info(
            f"A has {a.grid[1]}x{a.grid[0]} patches, B {b.grid[1]}x{b.grid[0]}: pairs of patches cannot be set against each "
            "other. The pointer shows the same place in both.",
            icon=":material/info:",
        )
        found = None
    else:
        found = agreement.compare(a.weights, b.weights)
        st.markdown(found.sentence("A", "B"), help="Jensen-Shannon distance: 0 the same, 1 no key in common.")
        ways = {"": "In numbers", "charts": "By query and pair"}  # charts wait for a click: their script takes seconds
        if choose("similarity", st.segmented_control, "Similarity", ways, label_visibility="collapsed"):
            figures(a, found, view.query)
    exports(a, b, found, max(facts.UNIFORM_LIMIT, tops["full" if view.range == "full" else "shared"]))


def side_of(half: Half, other: Half) -> Side:
    name = half.choice.name
    return measure.explorer_side(
        half, half.title_beside(other), (name,), (name,), half.choice.weighting, half.choice.discard
    )


def figures(a: Half, found: agreement.Agreement, query: int) -> None:
    on_image, on_map = panels(a.fitted.pixels, 2)
    with on_image:
        st.markdown(
            "**Distance by query**",
            help="Jensen-Shannon distance. 0: the patch places its weight the same way in A and B; 1: nowhere in common. It is "
            "the square root of the divergence to base 2 (Endres & Schindelin 2003).",
        )
        figure = drawn(plot_agreement_on_image, a.fitted.pixels, found.distance, a.grid, a.active.config.tile_size[0])
        chart(figure, "compare_distance", "The image of A with the distance of each query's weights laid over it")
        distance = found.distance[query]
        st.caption(
            f"Query patch {query}: {distance:.2f}" if np.isfinite(distance) else f"Query patch {query}: no weight"
        )
    with on_map:
        st.markdown("**A − B**")
        figure = drawn(plot_difference_map, found.difference, a.grid)
        chart(figure, "compare_difference", "Difference of the two maps on colours centred on zero", tools=True)
