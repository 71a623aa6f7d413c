"""The page Models: every checkpoint with its card, the presets with true figures, your own checkpoint, an untrained model."""

import json
from dataclasses import asdict

import streamlit as st

from tae import plots, ui
from tae.card import Card
from tae.config import PRESETS, ModelConfig, preset_config, size_in_words
from tae.images import escape_markdown
from tae.ui.downloads import download

FIGURES = {
    "psnr": ("Test PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
    "foreground_mse": ("Foreground MSE", "{:.4f}"),
    "r2": ("R²", "{:.3f}"),
}
GROUPS = {"by_garments": "Garments on the rail", "by_width": "Width (pixels)"}
TRAINING_BATCH = 16
VIEWS = ["Checkpoints", "Presets", "Bring a checkpoint", "Untrained model"]


def main() -> None:
    active, _ = ui.setup("Models")
    st.title("Models")
    view = st.segmented_control(
        "View", VIEWS, default=VIEWS[0], required=True, key="models_view", label_visibility="collapsed"
    )
    {
        VIEWS[0]: lambda: checkpoints(active),
        VIEWS[1]: presets,
        VIEWS[2]: bring,
        VIEWS[3]: untrained,
    }[view]()
    ui.write_link()


def checkpoints(active: ui.Active) -> None:
    from tae.checkpoint import list_checkpoints

    st.markdown("Every file in `checkpoints/`, and what its card says about it.")
    for listed in list_checkpoints(ui.checkpoints_folder()):
        with st.container(border=True):
            if listed.card is None or listed.config is None:
                st.markdown(f"#### {escape_markdown(listed.path.name)}")
                st.error(escape_markdown(listed.error or ""))
                continue
            key = listed.path.name
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"#### {escape_markdown(listed.name)}")
                if key == active.key:
                    st.badge("in use", icon=":material/check:", color="green")
                else:
                    st.button("Use this one", key=f"use_{key}", on_click=use, args=(key,))
            model_card(listed.card, listed.config, listed.size_bytes, key)
    for key in [*st.session_state.uploaded_models, *st.session_state.untrained]:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{escape_markdown(ui.model_title(key))}** (this session only)")
            if key == active.key:
                st.badge("in use", icon=":material/check:", color="green")
            else:
                st.button("Use this one", key=f"use_{key}", on_click=use, args=(key,))


def use(key: str) -> None:
    st.session_state.checkpoint = key


def model_card(card: Card, config: ModelConfig, size_bytes: int, key: str) -> None:
    """A card as the page shows it: shape, origin, figures, learning curve."""
    patch = "one token" if config.patch_size is None else f"patch {config.patch_size}, {config.num_tokens} tokens"
    if not card.is_trained:
        st.error("Untrained: random weights.")
    st.markdown(
        f"{config.preset or 'own shape'} · {size_in_words(config.input_size)} · {patch} · latent {config.latent_dim} · "
        f"{config.encoder_layers} + {config.decoder_layers} layers · {config.num_heads} heads · {size_bytes / 1e6:.1f} MB"
    )
    metrics = card.metrics
    for column, (name, (label, pattern)) in zip(st.columns(4), FIGURES.items(), strict=True):
        value = metrics.get(name)
        column.metric(label, pattern.format(value) if isinstance(value, float) else "–")
    facts, curve = st.columns([3, 2])
    with facts:
        training = card.training
        lines = [
            (
                "Measured on",
                f"{metrics.get('count', '?')} images, {metrics.get('split', '?')} split" if metrics else None,
            ),
            ("Data", card.data),
            ("Licence", card.licence),
            ("Seed", training.get("seed")),
            ("Training", training_words(training)),
            ("Notes", card.notes),
        ]
        st.markdown(
            "  \n".join(
                f"**{name}**: {escape_markdown(str(value))}" for name, value in lines if value not in (None, "")
            )
        )
        if training.get("command"):
            st.code(str(training["command"]), language=None, wrap_lines=True)
    with curve:
        points = training.get("curve")
        if points:
            st.plotly_chart(
                plots.plot_training_curve(points),
                key=f"curve_{key}",
                config={"displayModeBar": False},
                alt="Loss and held-out PSNR over the steps of the training",
            )
    grouped = {name: metrics[name] for name in GROUPS if metrics.get(name)}
    if grouped:
        for column, (name, groups) in zip(st.columns(2), grouped.items(), strict=False):
            column.plotly_chart(
                plots.plot_by_group(groups, GROUPS[name]),
                key=f"{name}_{key}",
                config={"displayModeBar": False},
                alt=f"Test PSNR against: {GROUPS[name].lower()}",
            )
        if any(one["unseen"] for groups in grouped.values() for one in groups):
            st.caption("Open points: test images of a kind that training never showed.")
    download("Card (JSON)", json.dumps(asdict(card), indent=1), "card.json", key=f"card_{key}", type="tertiary")


def training_words(training: dict) -> str | None:
    if not training:
        return None
    parts = [
        f"{training.get('steps', '?')} steps of {training.get('batch_size', '?')} images",
        f"{training['cpu_seconds'] / 60:.0f} minutes of processor time" if "cpu_seconds" in training else "",
        str(training.get("hardware", "")),
        str(training.get("precision", "")),
        "" if training.get("finished", True) else "stopped early",
    ]
    return ", ".join(part for part in parts if part)


def presets() -> None:
    st.markdown(
        "What each preset really is, counted without building it, beside what the architecture diagram says. The diagram "
        "counts cannot be reached: a block with a fourfold MLP alone has 12 x latent² weights."
    )
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
    st.caption(
        f"Diagram: its parameters. Weights: float32. Training: the most that a step of {TRAINING_BATCH} images takes in "
        "float32, weights and optimizer included; for medium at 201x201 the diagram says 630 MB. The page Train plans any "
        "other setting. GFLOP: one image forward, a multiplication and an addition counted as two."
    )


@st.cache_data(max_entries=32, show_spinner="Counting…")
def preset_table(configs: tuple[tuple[str, ModelConfig], ...]) -> list[dict]:
    from tae.counts import DIAGRAM_PARAMETERS, count
    from tae.plan import plan

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


def bring() -> None:
    from tae.checkpoint import CheckpointError

    st.markdown(
        "Drop a checkpoint made by `tae`: a `.safetensors` file. It is checked before anything is loaded and kept for this "
        "session. Other formats, pickles above all, can run code when they are opened: they are refused."
    )
    file = st.file_uploader(
        "Checkpoint (.safetensors)", type=["safetensors"], key="models_upload", max_upload_size=2000
    )
    if file is None:
        return
    try:
        key = ui.add_model(file.getvalue(), file.name)
    except CheckpointError as error:
        st.error(escape_markdown(str(error)), icon=":material/block:")
        return
    active = ui.load_model(key)
    st.success(f"{escape_markdown(active.title)} is fine.", icon=":material/check:")
    model_card(active.loaded.card, active.config, active.loaded.size_bytes, key)
    st.button("Use this one", type="primary", key="models_use_upload", on_click=use, args=(key,))


def untrained() -> None:
    st.markdown(
        "Build a preset with random weights, to look at its architecture: the shapes of its maps, its patches, its speed. "
        "It is marked :red[**untrained**] wherever it shows."
    )
    with st.form("models_untrained", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        preset = st.selectbox("Preset", ["tiny", "small", "medium"], width=140)
        shape = st.selectbox("Input", ["201x201", "1280x152", "Xx152 (any width)"], width=190)
        patch = st.selectbox(
            "Patch",
            ["16", "8", "none"],
            format_func=lambda side: "one token (as drawn)" if side == "none" else f"{side} pixels",
            width=190,
        )
        build = st.form_submit_button("Build and use", type="primary")
    st.caption("large and xlarge would take gigabytes; their figures stand under Presets.")
    if build:
        sizes = {"201x201": (201, 201), "1280x152": (152, 1280), "Xx152 (any width)": (152, None)}
        config = preset_config(preset, input_size=sizes[shape], patch_size=None if patch == "none" else int(patch))
        st.session_state.checkpoint = ui.add_untrained(config)
        st.rerun()


main()
