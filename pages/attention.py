"""The page Attention: where each layer places weight, as heatmaps and on the image."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae import attention, export, plots, ui
from tae.images import Fitted, encode_png, escape_markdown, safe_name

RANGES = {
    "shared": "Shared, to 99.5 % of weights",
    "full": "Shared, to the largest weight",
    "own": "This view only",
}
DIRECTIONS = {"from": "Where this patch places weight", "to": "Who places weight on it"}
SPREAD = "spread"
FORMATS: tuple[tuple[export.Format, str], ...] = (("png", "image/png"), ("svg", "image/svg+xml"))


@dataclass(frozen=True)
class View:
    """What the controls say, and the maps that belong to it.

    Attributes:
        maps: {"layer_0": (N, N), ..., "average": (N, N)}.
        layer: A name among the maps.
        head: "mean", "spread", or a head's number as text.
        shown: (N, N), the map on display.
        scale: One of `RANGES`.
        zmax: Top of the colour range in x uniform.
        query: Token number.
        spread: (N, N) standard deviation between the heads, where their mean is shown and the maps are small.
    """

    maps: dict[str, np.ndarray]
    part: str
    layer: str
    head: str
    shown: np.ndarray
    scale: str
    zmax: float
    query: int
    spread: np.ndarray | None = None

    @property
    def quantity(self) -> plots.Quantity:
        return "spread" if self.head == SPREAD else "weight"

    @property
    def layer_number(self) -> int | None:
        return None if self.layer == "average" else int(self.layer.removeprefix("layer_"))


def main() -> None:
    active, chosen = ui.setup("Attention")
    st.title("Attention")
    st.markdown(
        "Each patch of the picture gathers information from the others. The maps show **where weight was placed**: "
        "one row for each patch that asks (*query*), one column for each patch that is asked (*key*). "
        "Weight is not importance: it says what was read, not what it was good for."
    )
    fitted = ui.fit_or_stop(active, chosen)
    if active.config.grid_for(fitted.pixels.shape[1]) == (1, 1):
        one_token_notice(active)
    else:
        explore(active, chosen, fitted)
    ui.write_link()


def one_token_notice(active: ui.Active) -> None:
    st.info(
        "**This model has one token, the whole image.** Each attention matrix is 1x1 and its only weight is exactly 1, "
        "whatever the picture: there is nothing to see, so no heatmap is shown. Choose a checkpoint with patches, or look "
        "at what this one still tells: its reconstruction and its errors.",
        icon=":material/info:",
    )
    st.page_link("app.py", label="Go to Reconstruct", icon=":material/compare:", query_params=ui.link())


def explore(active: ui.Active, chosen: ui.Chosen, fitted: Fitted) -> None:
    config = active.config
    rows, columns = config.grid_for(fitted.pixels.shape[1])
    needed = (max(config.encoder_layers, config.decoder_layers) + 1) * (rows * columns) ** 2 * 4
    if needed > ui.MAX_MAP_BYTES:
        st.error(
            f"The maps of this picture, {rows * columns} patches, would take {needed / 1e9:.2g} GB; at most "
            f"{ui.MAX_MAP_BYTES / 1e9:.2g} GB are held. Choose a narrower picture, or a model with larger patches."
        )
        return
    view = controls(active, fitted)
    grid = active.config.grid_for(fitted.pixels.shape[1])
    with st.container(key="attention_panels"):
        on_image, heatmap = ui.panels(fitted.pixels, 2)
    with on_image:
        patch_panel(active, fitted, view, grid)
    with heatmap:
        map_panel(active, view, grid)
    status = status_line(active, fitted, view, grid)
    st.caption(status)
    badges(active, view, grid)
    st.subheader("All layers and their average")
    grid_top = colour_top(list(view.maps.values()), 100 if view.scale == "full" else 99.5)
    st.caption(f"One colour range for all, 0 to {grid_top:.3g} times the uniform weight 1/N. Heads averaged.")
    st.plotly_chart(
        plots.plot_layer_grid(view.maps, grid, grid_top),
        key="attention_grid",
        config={"displaylogo": False},
        alt="Attention maps of all layers and their average, side by side",
    )
    in_numbers(active, fitted, view)
    against_cause(active, chosen, fitted, view)
    exports(active, chosen, fitted, view, grid, status, grid_top)
    how_to_read()


def controls(active: ui.Active, fitted: Fitted) -> View:
    state = st.session_state
    with st.container(horizontal=True, vertical_alignment="bottom"):
        part = ui.choose(
            "part",
            st.segmented_control,
            "Part",
            ["encoder", "decoder"],
            format_func=str.capitalize,
            help="The encoder reads the picture; the decoder draws it from the latent.",
        )
        maps = ui.attention_maps(active, fitted, part)
        layers = ["average", *(name for name in maps if name != "average")]
        if state.layer not in layers:
            st.toast(f"This model's {part} has {len(layers) - 1} layers; showing their average.")
        layer = ui.choose(
            "layer",
            st.segmented_control,
            "Layer",
            layers,
            format_func=lambda name: "Average" if name == "average" else name.removeprefix("layer_"),
            help="0 is the first. Keys: ← and → step through the layers.",
        )
        position = layers.index(layer)
        st.button("−", key="attention_previous", shortcut="Left", on_click=step, args=(layers, position - 1))
        st.button("+", key="attention_next", shortcut="Right", on_click=step, args=(layers, position + 1))
        heads = ["mean"] if layer == "average" else ["mean", SPREAD, *map(str, range(active.config.num_heads))]
        head = ui.choose(
            "head",
            st.selectbox,
            "Head",
            heads,
            format_func=lambda head: {"mean": "Mean of heads", SPREAD: "Spread between heads"}.get(
                head, f"Head {head}"
            ),
            help="A layer has several heads that attend separately. Their mean hides differences: the spread "
            "(standard deviation) shows them. For single heads choose one layer.",
            width=180,
        )
        scale = st.selectbox(
            "Colour range",
            list(RANGES),
            format_func=lambda scale: RANGES[scale],
            key="attention_range",
            persist_state="session",
            width=215,
            help="A shared range lets layers be compared. A few strong weights would leave all others pale: by default "
            "the colours end where 99.5 % of the weights do, and what is stronger looks as dark as that. A range of its "
            "own makes a faint pattern look strong.",
        )
    shown, spread = maps[layer], None
    if layer != "average" and (head != "mean" or len(shown) <= plots.EXACT_TOKENS):
        number = int(layer.removeprefix("layer_"))
        needed = active.config.num_heads * shown.nbytes
        if needed > ui.MAX_MAP_BYTES:
            st.error(f"The heads of this layer would take {needed / 1e9:.2g} GB; choose the mean of heads.")
            st.stop()
        all_heads = ui.attention_heads(active, fitted, part, number)
        spread = all_heads.std(axis=0)
        if head != "mean":
            shown = spread if head == SPREAD else all_heads[int(head)]
    num_tokens = len(shown)
    everything = [shown] if scale == "own" else list(maps.values()) + ([shown] if head != "mean" else [])
    top = colour_top(everything, 99.5 if scale == "shared" else 100)
    query = (
        int(state.query) if state.query.isdecimal() and int(state.query) < num_tokens else strongest(maps["average"])
    )
    return View(maps, part, layer, head, shown, scale, top, query, spread if head == "mean" else None)


def step(layers: list[str], position: int) -> None:
    st.session_state.layer = layers[position % len(layers)]


def colour_top(maps: list[np.ndarray], percentile: float) -> float:
    """Where the colours end, in x uniform: the highest percentile among the maps, at least 1.5."""
    return max(1.5, *(float(np.percentile(one, percentile)) * len(one) for one in maps))


def strongest(attention_map: np.ndarray) -> int:
    """A patch worth opening with: the one that places its weight most unevenly."""
    return int(attention_map.max(axis=1).argmax())


def patch_panel(active: ui.Active, fitted: Fitted, view: View, grid: tuple[int, int]) -> None:
    direction = ui.choose(
        "direction",
        st.segmented_control,
        "On the image: click a patch",
        list(DIRECTIONS),
        format_func=lambda direction: DIRECTIONS[direction],
    )
    figure = plots.plot_patch_attention(
        fitted.pixels,
        view.shown[view.query] if direction == "from" else view.shown[:, view.query],
        grid,
        patch_size=active.config.tile_size[0],
        query=view.query,
        zmax=view.zmax,
        incoming=direction == "to",
        quantity=view.quantity,
    )
    event = st.plotly_chart(
        figure,
        key=f"attention_patch_{st.session_state.get('attention_clicks', 0)}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt="The picture with the weights of the chosen patch laid over it",
    )
    token = plots.selected_token(event.get("selection", {}))
    if token is not None and token != view.query:
        st.session_state.query = str(token)
        st.session_state.attention_clicks = st.session_state.get("attention_clicks", 0) + 1
        st.rerun()


def map_panel(active: ui.Active, view: View, grid: tuple[int, int]) -> None:
    st.markdown(f"**{map_title(view, active)}**")
    st.plotly_chart(
        plots.plot_attention_map(view.shown, grid, view.zmax, view.quantity, view.spread),
        key="attention_map",
        config={"displaylogo": False},
        alt=f"Attention map: {map_title(view, active)}",
    )


def map_title(view: View, active: ui.Active) -> str:
    heads = active.config.num_heads
    layer = f"average of {len(view.maps) - 1} layers" if view.layer == "average" else f"layer {view.layer_number}"
    head = {"mean": f"mean of {heads} heads", SPREAD: f"spread between {heads} heads"}.get(
        view.head, f"head {view.head}"
    )
    return f"{view.part.capitalize()}, {layer}, {head}"


def status_line(active: ui.Active, fitted: Fitted, view: View, grid: tuple[int, int]) -> str:
    layers = range(len(view.maps) - 1) if view.layer_number is None else [view.layer_number]
    error = max(ui.recomputation_error(active, fitted, view.part, layer) for layer in layers)
    num_tokens = len(view.shown)
    row, column = divmod(view.query, grid[1])
    low, high = float(view.shown.min()) * num_tokens, float(view.shown.max()) * num_tokens
    untrained = "" if active.is_trained else "UNTRAINED MODEL · "
    spread = "" if view.spread is None else f"spread between heads up to {view.spread.max() * num_tokens:.2g} · "
    return (
        f"{untrained}{map_title(view, active)} · query patch {view.query} (row {row}, column {column}) · N {num_tokens} · "
        f"head_dim {active.config.latent_dim // active.config.num_heads} · {low:.2g} to {high:.3g} x uniform, "
        f"colours to {view.zmax:.3g} ({RANGES[view.scale].lower()}) · {spread}"
        f"recomputed weights @ V differ from the fused output by at most {error:.1e} · "
        "drawn patch by patch, not smoothed"
    )


def badges(active: ui.Active, view: View, grid: tuple[int, int]) -> None:
    """What a reader must know before believing the picture."""
    num_tokens = len(view.shown)
    head_dim = active.config.latent_dim // active.config.num_heads
    with st.container(horizontal=True):
        if view.head != SPREAD and attention.is_practically_uniform(view.shown):
            st.badge("practically uniform: no weight reaches 1.5 x uniform", icon=":material/blur_on:", color="orange")
        if num_tokens > head_dim:
            st.badge(
                f"N {num_tokens} > head_dim {head_dim}: other weights could give the same output",
                icon=":material/info:",
                color="gray",
                help="Brunner 2020, On identifiability in transformers: with more tokens than dimensions in a head, "
                "attention weights are not determined by what the layer computes.",
            )
        if view.head != SPREAD:
            tokens, mass = attention.sinks(view.shown)
            if len(tokens):
                st.badge(
                    f"{len(tokens)} sink patch{'es take' if len(tokens) > 1 else ' takes'} {mass:.0%} of all weight",
                    icon=":material/vertical_align_bottom:",
                    color="violet",
                    help="Patches that receive more than 5 x uniform, averaged over all queries: "
                    + ", ".join(f"row {token // grid[1]} column {token % grid[1]}" for token in tokens.tolist()[:12]),
                )
        if view.scale == "own":
            st.badge("colour range of this view only", icon=":material/contrast:", color="orange")


def in_numbers(active: ui.Active, fitted: Fitted, view: View) -> None:
    st.subheader("In numbers")
    rows = [
        {
            "Layer": "Average" if name == "average" else name.removeprefix("layer_"),
            "Largest weight (x uniform)": summary.largest,
            "Entropy (share of uniform)": summary.entropy_share,
            "Mean distance (pixels)": summary.distance,
            "Weight on itself (x uniform)": summary.on_itself,
        }
        for name, summary in ui.map_summaries(active, fitted, view.part).items()
    ]
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "Largest weight (x uniform)": st.column_config.NumberColumn(format="%.1f"),
            "Entropy (share of uniform)": st.column_config.ProgressColumn(
                format="%.3f", min_value=0, max_value=1, help="1: each patch spreads its weight evenly over all."
            ),
            "Mean distance (pixels)": st.column_config.NumberColumn(
                format="%.0f", help="How far away the patches are that weight is placed on, on average."
            ),
            "Weight on itself (x uniform)": st.column_config.NumberColumn(format="%.2f"),
        },
    )


def against_cause(active: ui.Active, chosen: ui.Chosen, fitted: Fitted, view: View) -> None:
    """The reconstruction with this view's attention taken away: weight placed is one thing, its effect another."""
    st.subheader("Does it matter?")
    layers = None if view.layer_number is None else [view.layer_number]
    where = f"every layer of the {view.part}" if layers is None else f"layer {view.layer_number} of the {view.part}"
    st.markdown(
        f"Take the attention of **{where}** away and see what the picture loses. If nothing is lost, the maps above are "
        "decoration."
    )
    if not st.toggle("Replace it", key="attention_replace", persist_state="session"):
        return
    own = ui.reconstruct(active, chosen)
    others = ui.without_attention(active, chosen, fitted, view.part, layers)
    cells = [("Its own attention", own.recon, own.quality.psnr, None)]
    cells += [(name, one.recon, one.quality.psnr, one.quality.psnr - own.quality.psnr) for name, one in others.items()]
    for column, (name, recon, psnr, change) in zip(st.columns(len(cells)), cells, strict=True):
        with column:
            st.image(encode_png(recon), width="stretch", alt=f"Reconstruction with: {name}")
            st.metric(escape_markdown(name), f"{psnr:.1f} dB", None if change is None else f"{change:+.1f} dB")
    st.caption(
        "PSNR against what the model saw. Both replacements leave what the model was trained on: they show that the "
        "weights are used, not how. The other picture's weights come from its own undisturbed pass, head by head."
    )


def exports(
    active: ui.Active,
    chosen: ui.Chosen,
    fitted: Fitted,
    view: View,
    grid: tuple[int, int],
    status: str,
    grid_top: float,
) -> None:
    untrained = not active.is_trained
    stem = f"{'UNTRAINED_' * untrained}{safe_name(chosen.title)}_{view.part}"
    one = f"{stem}_{view.layer}_{view.head}"
    caption = f"{chosen.title} · {active.title} · {status}"
    maps_caption = (
        f"{chosen.title} · {active.title} · {'UNTRAINED MODEL · ' * untrained}{view.part.capitalize()}, all layers and "
        f"their average, mean of {active.config.num_heads} heads · N {len(view.shown)} · colours to {grid_top:.3g} x uniform"
    )
    direction = st.session_state.direction

    def heatmap(fmt: export.Format) -> bytes:
        return export.attention_figure(view.shown, grid, caption, view.zmax, fmt, untrained, view.quantity)

    def all_layers(fmt: export.Format) -> bytes:
        return export.layer_grid_figure(view.maps, grid, maps_caption, grid_top, fmt, untrained)

    def on_image(fmt: export.Format) -> bytes:
        weights = view.shown[:, view.query] if direction == "to" else view.shown[view.query]
        return export.patch_figure(
            fitted.pixels,
            weights,
            grid,
            active.config.tile_size[0],
            view.query,
            f"{DIRECTIONS[direction]} · {caption}",
            view.zmax,
            fmt,
            untrained,
            view.quantity,
        )

    with st.popover("Take it with you", icon=":material/download:"):
        st.caption("Drawn again from the same numbers; every file names what it shows.")
        for label, make in (("Heatmap", heatmap), ("On the image", on_image), ("All layers", all_layers)):
            with st.container(horizontal=True):
                for fmt, mime in FORMATS:
                    st.download_button(
                        f"{label} ({fmt.upper()})",
                        lambda make=make, fmt=fmt: make(fmt),
                        f"{stem if label == 'All layers' else one}_{safe_name(label)}.{fmt}",
                        mime,
                        on_click="ignore",
                        key=f"attention_{label}_{fmt}",
                    )
        with st.container(horizontal=True):
            st.download_button(
                "All maps (NPZ)",
                lambda: export.maps_npz(view.maps, caption=maps_caption),
                f"{stem}_maps.npz",
                "application/octet-stream",
                on_click="ignore",
            )
            if len(view.shown) <= 400:
                st.download_button(
                    "This map (CSV)",
                    lambda: export.maps_csv(view.shown, grid, view.quantity),
                    f"{one}.csv",
                    "text/csv",
                    on_click="ignore",
                )
            else:
                st.caption("CSV up to 400 patches; this map has more, take the NPZ.")


def how_to_read() -> None:
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(
            """
- **Dark is high.** Colours count in *x uniform*: 1 is the weight that every patch would get if all were treated alike, 1/N.
- **A dark column** is a patch that many others read. **A dark diagonal**: patches read themselves. **Stripes beside the
  diagonal**: neighbours in the row or in the rows above and below.
- **Mean of heads** hides that heads differ. Look at the spread, then at single heads.
- **Where weight was placed is not why.** Two layers can undo each other, values can be near zero, and other weights can give
  the same output. What a patch or a head is good for shows only when it is taken away and the reconstruction is measured.
- **Padding** beside a picture that does not fill whole patches takes part only as far as its patch holds real pixels.
            """
        )


main()
