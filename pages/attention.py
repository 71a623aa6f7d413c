"""The page Attention: where each layer and head places weight, under the pointer and in numbers."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from tae import export, plots, ui
from tae.attention import is_practically_uniform, sinks
from tae.config import PARTS
from tae.explorer.payload import Note, View
from tae.export_heads import measures_figure, overview_figure
from tae.headstats import MEASURES, locality
from tae.images import Fitted, encode_png, escape_markdown, safe_name
from tae.maps import MapChoice
from tae.report.findings import differs, query_of
from tae.report.view import DIRECTIONS, RANGES, ReportView
from tae.ui import attention, causal, explorer

SECTIONS = {
    "overview": "All layers and heads",
    "heatmap": "Heatmap",
    "numbers": "In numbers",
    "cause": "Take it away",
}
WEIGHTINGS = {"weights": "Weights", "values": "Weighted by value norms"}
DISCARDS = ["0", "0.5", "0.7", "0.8", "0.9", "0.95"]


@dataclass(frozen=True)
class Shown:
    """The map on display.

    Attributes:
        view: What the explorer shows.
        choice: Which map that is.
        weights: (N, N).
        hidden_mass: Share of all weight that was discarded.
        grid: (rows, columns) of patches.
        zmax: End of the colour range in x uniform.
        title: The choice in words.
        status: The choice, its range and its check in one line.
    """

    view: View
    choice: MapChoice
    weights: np.ndarray
    hidden_mass: float
    grid: tuple[int, int]
    zmax: float
    title: str
    status: str

    @property
    def quantity(self) -> plots.Quantity:
        return "spread" if self.choice.head == "spread" else "weight"

    @property
    def layers(self) -> list[int] | None:
        """The layer that the map is of; None: all."""
        return [int(self.choice.layer)] if self.choice.layer.isdecimal() else None


def main() -> None:
    active, chosen = ui.setup("Attention")
    st.title("Attention")
    ui.prose(
        "Each [[patch]] of the picture gathers information from the others. **Move the pointer over the picture** to see "
        "where that patch, the [[query]], places [[weight]], and on which others, its [[keys]], in multiples of the uniform "
        "weight ([[x uniform]]); click to pin it. Each [[layer]] does so in several [[heads]]; [[rollout]] chains the layers. "
        "Weight is not importance: it says what was read, not what it was good for."
    )
    fitted = ui.fit_or_stop(active, chosen)
    if active.config.grid_for(fitted.pixels.shape[1]) == (1, 1):
        one_token_notice(active)
        ui.write_link()
    else:
        explore(active, chosen, fitted)


def one_token_notice(active: ui.Active) -> None:
    st.info(
        "**This model has one token, the whole image.** Each attention matrix is 1x1 and its only weight is exactly 1, "
        "whatever the picture: there is nothing to see, so no heatmap is shown. Choose a checkpoint with patches, or look "
        "at what this one still tells: its reconstruction and its errors.",
        icon=":material/info:",
    )
    st.page_link("app.py", label="Go to Reconstruct", icon=":material/compare:", query_params=ui.link())


@st.fragment
def explore(active: ui.Active, chosen: ui.Chosen, fitted: Fitted) -> None:
    rows, columns = active.config.grid_for(fitted.pixels.shape[1])
    needed = (max(map(active.config.num_layers, PARTS)) + 1) * (rows * columns) ** 2 * 4
    if needed > attention.MAX_MAP_BYTES:
        st.error(
            f"The maps of this picture, {rows * columns} patches, would take {needed / 1e9:.2g} GB; at most "
            f"{attention.MAX_MAP_BYTES / 1e9:.2g} GB are held. Choose a narrower picture, or a model with larger patches."
        )
        ui.write_link()
        return
    if active.is_trained:
        causal.verdict(active, ui.checked("part", PARTS))
    height, width = fitted.pixels.shape
    with st.container(key="attention_panels"):
        left, right = st.columns(2) if width <= 2 * height else (st.container(), st.container())
    with left:
        shown = explorer_panel(active, chosen, fitted)
        badges(active, shown)
        pinned(shown)
    with right:
        look_closer(active, chosen, fitted, shown)
    settings(shown)
    with st.container(key="expert_exports"):
        exports(active, chosen, fitted, shown)
        how_to_read()
    ui.write_link()


def look_closer(active: ui.Active, chosen: ui.Chosen, fitted: Fitted, shown: Shown) -> None:
    whole = plots.Region.whole(len(shown.weights))
    region = plots.Region.from_text(st.session_state.region, len(shown.weights))
    st.session_state.region = "" if region == whole else region.to_text()
    section = ui.choose(
        "section",
        st.segmented_control,
        "Look closer",
        list(SECTIONS),
        format_func=lambda section: SECTIONS[section],
        label_visibility="collapsed",
    )
    if section == "overview":
        overview(active, fitted, shown)
    elif section == "heatmap":
        heatmap(active, fitted, shown, region)
    elif section == "numbers":
        in_numbers(active, fitted, shown)
    else:
        against_cause(active, chosen, fitted, shown)


# ---------------------------------------------------------------------------------------------------- under the pointer


def explorer_panel(active: ui.Active, chosen: ui.Chosen, fitted: Fitted) -> Shown:
    grid = active.config.grid_for(fitted.pixels.shape[1])
    notes = [] if active.is_trained else [Note("UNTRAINED MODEL: random weights", "error")]
    head_dim = active.config.head_dim
    weighting, discard = ui.checked("weighting", list(WEIGHTINGS)), float(ui.checked("discard", DISCARDS))
    told = f"head_dim {head_dim}" + (" · weighted by value norms" if weighting == "values" else "")
    status = {part: told for part in PARTS}
    average = attention.one_map(active, fitted, MapChoice()).weights
    foreground = attention.foreground(active, fitted)
    query = query_of(ReportView(), average, foreground)
    view = explorer.explore(active, fitted, chosen.title, query, notes, status)
    choice = MapChoice.named(view.name, weighting, discard)
    one = attention.one_map(active, fitted, choice)
    num_tokens = len(one.weights)
    tops = {
        **attention.range_tops(active, fitted, choice.weighting),
        "own": max(1.5, float(one.weights.max()) * num_tokens),
    }
    zmax = tops[view.range]
    errors = attention.recomputation_errors(active, fitted, choice.part)
    error = errors[int(choice.layer)] if choice.layer.isdecimal() else max(errors)
    title = choice.title(active.config)
    row, column = divmod(view.query, grid[1])
    low, high = float(one.weights.min()) * num_tokens, float(one.weights.max()) * num_tokens
    hidden = f"{one.hidden_mass:.1%} of all weight hidden · " if choice.discard else ""
    untrained = "" if active.is_trained else "UNTRAINED MODEL · "
    text = (
        f"{untrained}{title} · query patch {view.query} (row {row}, column "
        f"{column}) · N {num_tokens} · head_dim {head_dim} · {low:.2g} to {high:.3g} x uniform, colours to {zmax:.3g} "
        f"({RANGES[view.range]}) · {hidden}{differs(error)} · "
        "drawn patch by patch, not smoothed"
    )
    st.caption(
        f"{untrained}{title} · N {num_tokens} · colours to {zmax:.3g} x uniform ({RANGES[view.range]}) · {hidden}"
        f"{differs(error)}."
    )
    return Shown(view, choice, one.weights, one.hidden_mass, grid, zmax, title, text)


def badges(active: ui.Active, shown: Shown) -> None:
    """What a reader must know before believing the picture."""
    num_tokens = len(shown.weights)
    head_dim = active.config.head_dim
    columns = shown.grid[1]
    with st.container(horizontal=True):
        if shown.choice.head != "spread" and is_practically_uniform(shown.weights):
            st.badge("practically uniform: no weight reaches 1.5 x uniform", icon=":material/blur_on:", color="orange")
        if num_tokens > head_dim:
            st.badge(
                f"N {num_tokens} > head_dim {head_dim}: other weights could give the same output",
                icon=":material/info:",
                color="gray",
                help="Brunner 2020, On identifiability in transformers: with more tokens than dimensions in a head, "
                "attention weights are not determined by what the layer computes.",
            )
        if shown.choice.head != "spread":
            tokens, mass = sinks(shown.weights)
            if len(tokens):
                st.badge(
                    f"{len(tokens)} sink patch{'es take' if len(tokens) > 1 else ' takes'} {mass:.0%} of all weight",
                    icon=":material/vertical_align_bottom:",
                    color="violet",
                    help="Patches that receive more than 5 x uniform, averaged over all queries: "
                    + ", ".join(f"row {token // columns} column {token % columns}" for token in tokens.tolist()[:12]),
                )
        if shown.choice.layer == "rollout":
            st.badge(
                "rollout assumes that half of each layer's flow passes beside attention",
                icon=":material/info:",
                color="gray",
                help="Abnar & Zuidema 2020: layers are chained as if weights alone moved information. What a patch is "
                "good for shows only when it is taken away.",
            )
        if shown.view.range == "own":
            st.badge("colour range of this map only", icon=":material/contrast:", color="orange")


def pinned(shown: Shown) -> None:
    """The pinned patches' weights to and from the selected one, from the map itself."""
    if not shown.view.pins:
        return
    num_tokens, columns = len(shown.weights), shown.grid[1]
    key = shown.view.query
    rows = [
        {
            "Pinned patch": f"{pin} (row {pin // columns}, column {pin % columns})",
            f"places on patch {key}": float(shown.weights[pin, key]) * num_tokens,
            f"gets from patch {key}": float(shown.weights[key, pin]) * num_tokens,
            "places most on": f"patch {int(shown.weights[pin].argmax())}",
            "which is": float(shown.weights[pin].max()) * num_tokens,
        }
        for pin in shown.view.pins
    ]
    numbers = {
        name: st.column_config.NumberColumn(format="%.4g x uniform")
        for name, value in rows[0].items()
        if isinstance(value, float)
    }
    st.dataframe(rows, hide_index=True, column_config=numbers)


def settings(shown: Shown) -> None:
    """What the maps are made of; both change all of them."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_attention"):
        ui.choose(
            "weighting",
            st.segmented_control,
            "What a map shows",
            list(WEIGHTINGS),
            format_func=lambda name: WEIGHTINGS[name],
            help="Weights say where a patch reads. A large weight on a patch whose value vector is short moves little: "
            "weighted by value norms (Kobayashi 2020), a map shows the share of what is moved.",
        )
        ui.choose(
            "discard",
            st.select_slider,
            "Rollout: smallest weights to discard",
            DISCARDS,
            format_func=lambda share: f"{float(share):.0%}",
            disabled=shown.choice.layer != "rollout",
            width=280,
            help="Of each row, before the layers are chained. How much weight that hides is printed below the map.",
        )


# -------------------------------------------------------------------------------------------------------- looking closer


def overview(active: ui.Active, fitted: Fitted, shown: Shown) -> None:
    part = shown.choice.part
    effects = attention.effects_on_tests(active, part)
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
    cells = attention.thumbnails(active, fitted, part, shown.choice.weighting)
    values, label = None, ""
    if order == "effect":
        values, label = effects, "PSNR lost without the head (dB, median of test images)"
    elif order != "layer":
        values = attention.head_statistics(active, fitted, part)[order]
        label = f"{MEASURES[order].label} ({MEASURES[order].unit})"
    figure = plots.plot_overview(
        cells,
        None if own else attention.range_tops(active, fitted, shown.choice.weighting)["shared"],
        values,
        label,
        merged=-(-len(shown.weights) // attention.THUMBNAIL),
    )
    event = st.plotly_chart(
        figure,
        key=f"attention_overview_{st.session_state.get('attention_clicks', 0)}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"All heads of the {part}, one small map each; click one to open it",
    )
    st.caption(
        f"Every head of the {part} ({active.config.num_heads} in each of {active.config.num_layers(part)} layers), rows = query, "
        "columns = key, dark = high; click one to open it above."
    )
    picked = plots.selected_head(event.get("selection", {}))
    if picked is not None:
        layer, head = picked
        st.session_state.layer, st.session_state.head = str(layer), str(head)
        st.session_state.attention_clicks = st.session_state.get("attention_clicks", 0) + 1
        st.rerun(scope="fragment")


def heatmap(active: ui.Active, fitted: Fitted, shown: Shown, region: plots.Region) -> None:
    state = st.session_state
    st.markdown(f"**{shown.title}**")
    spread = None
    if shown.choice.head == "mean" and shown.layers is not None and shown.choice.weighting == "weights":
        name = f"{shown.choice.part}/{shown.choice.layer}/spread"
        spread = attention.one_map(active, fitted, MapChoice.from_name(name)).weights
    event = st.plotly_chart(
        plots.plot_attention_map(shown.weights, shown.grid, shown.zmax, shown.quantity, spread, region),
        key=f"attention_map_{state.get('attention_boxes', 0)}",
        on_select="rerun",
        selection_mode="box",
        config={"displaylogo": False},
        alt=f"Attention map: {shown.title}",
    )
    box = plots.selected_region(event.get("selection", {}), region)
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
    all_layers(active, fitted, shown)


def all_layers(active: ui.Active, fitted: Fitted, shown: Shown) -> None:
    part = shown.choice.part
    top = attention.range_tops(active, fitted, "weights")["shared"]
    st.markdown(f"**All layers of the {part} and their average**, heads averaged")
    st.plotly_chart(
        plots.plot_layer_grid(attention.attention_maps(active, fitted, part), shown.grid, top),
        key="attention_grid",
        config={"displaylogo": False},
        alt=f"Attention maps of all layers of the {part} and their average, side by side",
    )
    st.caption(f"Weights, on one colour range: 0 to {top:.3g} x uniform.")


def set_region(text: str) -> None:
    st.session_state.region = text
    st.session_state.attention_boxes = st.session_state.get("attention_boxes", 0) + 1


def in_numbers(active: ui.Active, fitted: Fitted, shown: Shown) -> None:
    part = shown.choice.part
    own = attention.head_statistics(active, fitted, part)
    uniform = attention.uniform_statistics(active.config, fitted)
    bar = st.progress(0.0, "Measuring test images…")
    spread = attention.statistics_of_tests(active, part, partial(bar.progress, text="Measuring test images…"))
    bar.empty()
    st.markdown(locality(spread).sentence)
    st.caption(
        f"Dots: the heads of this picture; line: their mean. Bands: 5 to 95 % and 25 to 75 % of {spread.num_images} demo "
        "test images, heads averaged; dashed: what uniform attention would have. Weights, not weighted by value norms."
    )
    with st.container(key="attention_small"):
        columns = st.columns(2)
    for number, (name, measure) in enumerate(MEASURES.items()):
        with columns[number % 2]:
            st.markdown(f"**{measure.label}**", help=measure.help)
            st.plotly_chart(
                plots.plot_measure_over_layers(own[name], spread.of_layers(name), measure, uniform[name]),
                key=f"attention_measure_{name}",
                config={"displayModeBar": False},
                alt=f"{measure.label} of each head over the layers, beside the test images",
            )
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


def against_cause(active: ui.Active, chosen: ui.Chosen, fitted: Fitted, shown: Shown) -> None:
    """The reconstruction with this view's attention taken away: weight placed is one thing, its effect another."""
    part, layers = shown.choice.part, shown.layers
    where = f"every layer of the {part}" if layers is None else f"layer {layers[0]} of the {part}"
    st.markdown(
        f"The attention of **{where}** is taken away, to see what the picture loses. If nothing is lost, the maps above are "
        "decoration."
    )
    own = ui.reconstruct(active, chosen)
    others = attention.without_attention(active, chosen, fitted, part, layers)
    cells = [("Its own attention", own.recon, own.quality.psnr, None)]
    cells += [(name, one.recon, one.quality.psnr, one.quality.psnr - own.quality.psnr) for name, one in others.items()]
    with st.container(key="attention_small"):
        places = ui.panels(fitted.pixels, len(cells))
    for place, (name, recon, psnr, change) in zip(places, cells, strict=True):
        with place:
            st.image(encode_png(recon), width="stretch", alt=f"Reconstruction with: {name}")
            st.metric(escape_markdown(name), f"{psnr:.1f} dB", None if change is None else f"{change:+.1f} dB")
    st.caption(
        "PSNR against what the model saw. Both replacements leave what the model was trained on: they show that the "
        "weights are used, not how. The other picture's weights come from its own undisturbed pass, head by head."
    )
    st.page_link(
        "pages/causal.py",
        label="Every head, every layer, every patch: Does it matter?",
        icon=":material/science:",
        query_params=ui.link(),
    )


# -------------------------------------------------------------------------------------------------------- take it along


def exports(active: ui.Active, chosen: ui.Chosen, fitted: Fitted, shown: Shown) -> None:
    untrained = not active.is_trained
    choice, view, grid = shown.choice, shown.view, shown.grid
    stem = f"{'UNTRAINED_' * untrained}{safe_name(chosen.title)}_{choice.part}"
    one = f"{stem}_{choice.layer}_{choice.head}"
    caption = f"{chosen.title} · {active.title} · {shown.status}"
    top = attention.range_tops(active, fitted, "weights")["shared"]
    maps_caption = (
        f"{chosen.title} · {active.title} · {'UNTRAINED MODEL · ' * untrained}{choice.part.capitalize()}, all layers and "
        f"their average, mean of {active.config.num_heads} heads · N {len(shown.weights)} · colours to {top:.3g} x uniform"
    )

    def one_heatmap(fmt: export.Format) -> bytes:
        return export.attention_figure(shown.weights, grid, caption, shown.zmax, fmt, untrained, shown.quantity)

    def all_layers(fmt: export.Format) -> bytes:
        maps = attention.attention_maps(active, fitted, choice.part)
        return export.layer_grid_figure(maps, grid, maps_caption, top, fmt, untrained)

    def on_image(fmt: export.Format) -> bytes:
        weights = shown.weights[:, view.query] if view.direction == "to" else shown.weights[view.query]
        return export.patch_figure(
            fitted.pixels,
            weights,
            grid,
            active.config.tile_size[0],
            view.query,
            f"{DIRECTIONS[view.direction]} · {caption}",
            shown.zmax,
            fmt,
            untrained,
            shown.quantity,
        )

    about = f"{chosen.title} · {active.title} · {'UNTRAINED MODEL · ' * untrained}{choice.part.capitalize()}"

    def all_heads(fmt: export.Format) -> bytes:
        top = attention.range_tops(active, fitted, choice.weighting)["shared"]
        merged = -(-len(shown.weights) // attention.THUMBNAIL)
        caption = f"{about}, every head · {WEIGHTINGS[choice.weighting].lower()} · colours to {top:.3g} x uniform"
        cells = attention.thumbnails(active, fitted, choice.part, choice.weighting)
        return overview_figure(cells, caption, top, fmt, untrained, merged)

    def statistics() -> dict[str, np.ndarray]:
        return attention.head_statistics(active, fitted, choice.part)

    def measures(fmt: export.Format) -> bytes:
        uniform = attention.uniform_statistics(active.config, fitted)
        return measures_figure(statistics(), uniform, f"{about}, heads in numbers", fmt, untrained)

    figures = {
        "Heatmap": one_heatmap,
        "On the image": on_image,
        "All layers": all_layers,
        "All heads": all_heads,
        "In numbers": measures,
    }
    with st.popover("Take it with you", icon=":material/download:"):
        st.download_button(
            "Report (HTML)",
            attention.report_maker(active, chosen, fitted, choice, view),
            f"{stem}_report.html",
            "text/html",
            icon=":material/description:",
            type="primary",
            on_click="ignore",
            help="Picture, reconstruction, the explorer with all maps, figures, settings and what to mind, in one file that "
            "opens offline.",
        )
        st.caption("Drawn again from the same numbers; every file names what it shows.")
        for label, make in figures.items():
            with st.container(horizontal=True):
                for fmt, mime in export.FORMATS:
                    st.download_button(
                        f"{label} ({fmt.upper()})",
                        lambda make=make, fmt=fmt: make(fmt),
                        f"{one if make in (one_heatmap, on_image) else stem}_{safe_name(label)}.{fmt}",
                        mime,
                        on_click="ignore",
                        key=f"attention_{label}_{fmt}",
                    )
        with st.container(horizontal=True):
            st.download_button(
                "All maps (NPZ)",
                lambda: export.maps_npz(attention.attention_maps(active, fitted, choice.part), caption=maps_caption),
                f"{stem}_maps.npz",
                "application/octet-stream",
                on_click="ignore",
            )
            st.download_button(
                "Heads in numbers (CSV)",
                lambda: export.metrics_csv(rows_of(statistics())),
                f"{stem}_heads.csv",
                "text/csv",
                on_click="ignore",
            )
            if len(shown.weights) <= 400:
                st.download_button(
                    "This map (CSV)",
                    lambda: export.maps_csv(shown.weights, grid, shown.quantity),
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
