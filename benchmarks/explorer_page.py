"""The page that `benchmarks.explorer` measures: one picture's maps in the explorer, or as Plotly heatmaps in float32.

    PYTHONPATH=. streamlit run benchmarks/explorer_page.py

`?method=explorer&tokens=169` or `?method=plotly&tokens=800` choose what it shows. Both get the same maps.
"""

import numpy as np
import streamlit as st
import torch
from streamlit.components.v2 import component

from tae.analysis.maps import MapChoice, colour_tops, compute_map
from tae.data.demo import DemoSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, preset_config
from tae.plots.maps import plot_attention_map, plot_patch_attention, selected_token
from tae.web.component import read_script, read_style
from tae.web.explorer.payload import View, for_streamlit, payload, side

SHAPES: dict[int, ModelConfig] = {
    169: preset_config("tiny", input_size=(201, 201), patch_size=16),
    800: preset_config("tiny", input_size=(152, 1280), patch_size=16),
    3040: preset_config("tiny", input_size=(152, 1280), patch_size=8),
}
"""By number of tokens; random weights, which take the same time and as many bytes as trained ones."""
mount = component("benchmark_explorer", css=read_style("explorer"), js=read_script("explorer"))


def maps_of(tokens: int) -> list[str]:
    """The average and each layer; of 3040 patches the average only, more of it than a browser takes from Plotly."""
    return ["average"] if tokens > 1000 else ["average", "0", "1", "2"]


@st.cache_resource
def prepared(tokens: int) -> tuple[TransformerAutoencoder, list[np.ndarray]]:
    torch.manual_seed(0)
    model = TransformerAutoencoder(SHAPES[tokens]).eval()
    return model, DemoSource(SHAPES[tokens].input_size).test(8)


@st.cache_resource
def computed(tokens: int, number: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Maps and colour range, before anything is measured: this is about the way to the screen."""
    model, pictures = prepared(tokens)
    image = torch.from_numpy(pictures[number] / np.float32(255))[None, None]
    maps = {
        f"encoder/{name}/mean": compute_map(model, image, MapChoice(layer=name)).numpy() for name in maps_of(tokens)
    }
    return maps, colour_tops(model, image)


def main() -> None:
    st.set_page_config(layout="wide")
    method, tokens = st.query_params["method"], int(st.query_params["tokens"])
    state = st.session_state
    state.setdefault("number", 0)
    state.setdefault("query", 0)
    model, pictures = prepared(tokens)
    for number in range(len(pictures)):
        computed(tokens, number)
    if st.button("Next picture"):
        state.number = (state.number + 1) % len(pictures)
    pixels = pictures[state.number] / np.float32(255)
    maps, tops = computed(tokens, state.number)
    grid, patch = model.config.grid_for(pixels.shape[1]), model.config.tile_size[0]
    st.title(f"{method} {tokens} {state.number}")
    if method == "explorer":
        one = side(f"Image {state.number}", pixels, grid, patch, maps, digest=f"{tokens}-{state.number}")
        mount(key="explorer", data=for_streamlit(payload([one], View(), tops)))
        return
    average = maps["encoder/average/mean"]
    with st.container(key=f"patch_{state.number}_{state.query}"):
        event = st.plotly_chart(
            plot_patch_attention(pixels, average[state.query], grid, patch, state.query, tops["shared"]),
            key=f"patch_chart_{state.number}_{state.query}",
            on_select="rerun",
            selection_mode="points",
        )
    with st.container(key=f"maps_{state.number}"):
        for name, one in maps.items():
            whole = plot_attention_map(one[:1, :1], grid, tops["shared"])  # all but the numbers, which follow uncut
            whole.data[0].update(z=one * len(one), x=None, y=None, customdata=None)
            whole.update_xaxes(tickvals=None, ticktext=None, tickmode=None)
            whole.update_yaxes(tickvals=None, ticktext=None, tickmode=None)
            st.plotly_chart(whole, key=f"map_{state.number}_{name}")
    token = selected_token(event.get("selection", {}))
    if token is not None and token != state.query:
        state.query = token
        st.rerun()


main()
