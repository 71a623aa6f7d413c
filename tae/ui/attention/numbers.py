"""Statistics: how sharp, far and wide each head's attention is, beside test images and uniform attention."""

import numpy as np
import streamlit as st

from tae.analysis.heads import MEASURES, locality
from tae.plots.heads import plot_measure_over_layers
from tae.ui.attention.explore import Shown
from tae.ui.attention.measure import head_statistics, statistics_of_tests, uniform_statistics
from tae.ui.session.scene import Scene
from tae.ui.widgets.charts import chart


def in_numbers(scene: Scene, shown: Shown) -> None:
    part = shown.choice.part
    own = head_statistics(scene, part)
    uniform = uniform_statistics(scene)
    spread = statistics_of_tests(scene.active, part)
    bands = ""
    if spread is not None:
        st.markdown(locality(spread).sentence)
        bands = f" Bands: 5 to 95% and 25 to 75% of {spread.num_images} test images, heads averaged."
    st.caption(
        f"Dots: the heads of this image; line: their mean.{bands} Dashed: what uniform attention would have. Weights, not "
        "weighted by value norms."
    )
    with st.container(key="attention_small"):
        columns = st.columns(2)
    for number, (name, measure) in enumerate(MEASURES.items()):
        with columns[number % 2]:
            st.markdown(f"**{measure.label}**", help=measure.help)
            figure = plot_measure_over_layers(
                own[name], spread.of_layers(name) if spread else None, measure, uniform[name]
            )
            alt = f"{measure.label} of each head over the layers" + (", beside the test images" if spread else "")
            chart(figure, f"attention_measure_{name}", alt)
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(rows_of(own), hide_index=True)


def rows_of(statistics: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """One row for each head."""
    layers, heads = statistics["entropy"].shape
    return [
        {
            "Layer": layer,
            "Head": head,
            **{MEASURES[name].label: float(statistics[name][layer, head]) for name in MEASURES},
        }
        for layer in range(layers)
        for head in range(heads)
    ]
