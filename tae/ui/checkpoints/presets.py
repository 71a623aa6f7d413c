"""The presets, counted."""

import streamlit as st

from tae import ui
from tae.model.config import PRESETS, ModelConfig, preset_config
from tae.store.names import escape_markdown
from tae.ui.widgets.downloads import download_table, export

TRAINING_BATCH = 16


def presets() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        width = st.number_input("Width (pixels)", 16, 4096, 201, key="models_width", width=140)
        height = st.number_input("Height (pixels)", 16, 1024, 201, key="models_height", width=140)
        patch = st.selectbox(
            "Patch",
            ["16", "8", "32", "none"],
            format_func=lambda side: "one token (as drawn)" if side == "none" else f"{side} pixels",
            key="models_patch",
            width=180,
        )
    patch_size = None if patch == "none" else int(patch)
    try:
        configs = {name: preset_config(name, input_size=(height, width), patch_size=patch_size) for name in PRESETS}
        table = preset_table(tuple(configs.items()))
    except ValueError as error:
        st.error(escape_markdown(str(error)))
        return
    if st.button(
        "Measure the time on this machine",
        icon=":material/timer:",
        help="Runs one real block of each preset and multiplies by the number of blocks.",
    ):
        bar = st.progress(0.0)
        for number, (name, config) in enumerate(configs.items(), start=1):
            bar.progress((number - 1) / len(configs), f"Measuring {name}…")
            st.session_state.setdefault("models_times", {})[config] = ui.forward_seconds(config)
        bar.empty()
    times = st.session_state.get("models_times", {})
    for row, config in zip(table, configs.values(), strict=True):
        row["Time (s)"] = times.get(config)
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Time (s)": st.column_config.NumberColumn(
                format="%.3f", help="One image forward, float32, blocks only; press the button above to measure."
            ),
        },
    )
    with export():
        download_table("Presets (CSV)", table, "presets")
    st.caption(
        f"Counted, beside the architecture diagram. Training: peak of a step of {TRAINING_BATCH} images, float32.",
        help="The diagram's counts cannot be reached: a block with a fourfold MLP alone has 12 x latent² weights; for training "
        "medium at 201x201 it says 630 MB. GFLOP: one image forward, a multiplication and an addition counted as two.",
    )


@st.cache_data(max_entries=32, show_spinner="Counting…")
def preset_table(configs: tuple[tuple[str, ModelConfig], ...]) -> list[dict]:
    from tae.model.counts import DIAGRAM_PARAMETERS, count
    from tae.training.planning.plan import plan

    rows = []
    for name, config in configs:
        counts = count(config)
        rows.append(
            {
                "Preset": name,
                "Latent": config.latent_dim,
                "Heads": config.num_heads,
                "Layers": f"{config.encoder_layers} + {config.decoder_layers}",
                "Tokens": counts.num_tokens,
                "Parameters": counts.parameters,
                "Diagram": f"~{DIAGRAM_PARAMETERS[name] / 1e6:g} M",
                "Weights (MB)": round(counts.weight_bytes / 1e6, 1),
                "Training (MB)": round(plan(config, TRAINING_BATCH).peak / 1e6),
                "GFLOP": round(counts.forward_flops / 1e9, 2),
                "Maps (MB)": round(counts.map_bytes / 1e6, 2),
            }
        )
    return rows
