"""The page Compare: any two attention maps side by side, under one pointer and in one colour range."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from tae import agreement, export, plots, ui
from tae.checkpoint import CheckpointError
from tae.config import PARTS, size_in_words
from tae.explorer.payload import Note, Side
from tae.export_pair import pair_figure
from tae.images import Fitted, ImageError, escape_markdown, safe_name
from tae.maps import MapChoice, all_choices
from tae.ui import causal, explorer
from tae.ui.attention import measure

SAME, TWIN = "same", "twin"
HEADS = {
    "mean": "Mean of heads",
    "max": "Largest of heads",
    "min": "Smallest of heads",
    "spread": "Spread between heads",
}


@dataclass(frozen=True)
class Half:
    """One of the two maps.

    Attributes:
        active: Its model.
        chosen: Its picture.
        fitted: The picture as the model sees it.
        choice: Which map.
        weights: (N, N).
        grid: (rows, columns) of patches.
    """

    active: ui.Active
    chosen: ui.Chosen
    fitted: Fitted
    choice: MapChoice
    weights: np.ndarray
    grid: tuple[int, int]

    @property
    def title(self) -> str:
        """A stranger's text."""
        untrained = "" if self.active.is_trained else "UNTRAINED: "
        return f"{untrained}{self.choice.title(self.active.config)} · {self.chosen.title} · {self.active.title}"


def main() -> None:
    active, chosen = ui.setup("Compare")
    st.title("Compare")
    ui.prose(
        "Two [[attention maps]] **under one pointer and in one colour range**: [[layers]], [[heads]], pictures, checkpoints, a "
        "trained model and its untrained twin. How alike two maps are does not say which of them is of use."
    )
    shortcuts(active)
    with st.container(key="expert_compare"), st.container(key="attention_panels"):
        first, second = st.columns(2)
    with first, st.container(border=True):
        a = half_a(active, chosen)
    with second, st.container(border=True):
        b = half_b(active, chosen)
    if a is not None and b is not None:
        for active, part in {
            (half.active.loaded.digest, half.choice.part): (half.active, half.choice.part) for half in (a, b)
        }.values():
            if active.is_trained:
                causal.verdict(active, part)
        side_by_side(a, b)
    ui.write_link()


# --------------------------------------------------------------------------------------------------------- what to compare


def shortcuts(active: ui.Active) -> None:
    """Questions that people come with, one click each."""
    last = str(active.config.encoder_layers - 1)
    plain = {"part": "encoder", "layer": "average", "head": "mean"}
    same = {"b_checkpoint": SAME, "b_image": SAME, "b_part": "encoder", "b_layer": "average", "b_head": "mean"}
    questions = {
        "First and last layer": {**plain, **same, "layer": "0", "b_layer": last},
        "Encoder and decoder": {**plain, **same, "b_part": "decoder"},
        "Another picture": {**plain, **same, "b_image": another_picture(active)},
        "Before and after training": {**plain, **same, "b_checkpoint": TWIN},
        "Mean and largest of heads": {**plain, **same, "layer": last, "b_layer": last, "b_head": "max"},
    }
    with st.container(horizontal=True, key="expert_questions"):
        for label, view in questions.items():
            st.button(label, on_click=st.session_state.update, args=(view,), key=f"compare_{safe_name(label)}")


def another_picture(active: ui.Active) -> str:
    """The first sample that is not on display."""
    return next(key for key in ui.offered(active.config).samples if key != st.session_state.image)


def half_a(active: ui.Active, chosen: ui.Chosen) -> Half | None:
    st.markdown("**A**: checkpoint and picture of the sidebar")
    return complete(active, chosen, "")


def half_b(active: ui.Active, chosen: ui.Chosen) -> Half | None:
    """Whatever is not chosen is that of A; to begin with, the last layer."""
    state = st.session_state
    st.markdown("**B**")
    files = [key for key in ui.checkpoint_files() if key != active.key]
    others = [*files, *(key for key in (*state.uploaded_models, *state.untrained) if key != active.key)]
    named = {SAME: "The same checkpoint", TWIN: "Its untrained twin: random weights"}
    with st.container(key="attention_small"):
        for_checkpoint, for_image = st.columns(2)
    key = ui.choose(
        "b_checkpoint",
        for_checkpoint.selectbox,
        "Checkpoint",
        [SAME, *([TWIN] if active.is_trained else []), *others],
        format_func=lambda key: named.get(key) or ui.model_title(key),
    )
    try:
        other = active if key == SAME else ui.twin(active) if key == TWIN else ui.load_model(key)
    except (CheckpointError, OSError) as error:
        st.error(f"{escape_markdown(ui.model_title(key))}: {escape_markdown(str(error))}")
        return None
    offer = ui.offered(other.config)
    picture = ui.choose(
        "b_image",
        for_image.selectbox,
        "Image",
        [SAME, *offer.own, *offer.samples],
        format_func=lambda key: "The same picture" if key == SAME else offer.title(key),
    )
    shown = chosen if picture == SAME else offer[picture]
    if not state.b_layer:
        state.b_layer = str(other.config.encoder_layers - 1)
    return complete(other, shown, "b_")


def complete(active: ui.Active, chosen: ui.Chosen, prefix: str) -> Half | None:
    """The rest of one side's controls, and its map; None, and a sentence, where there is no map to see."""
    choices = [choice for part in PARTS for choice in all_choices(active.config, part)]
    with st.container(horizontal=True, vertical_alignment="bottom"):

        def pick(field: str, widget: Callable, label: str, options: list[str], words: Callable[[str], str]) -> str:
            options = list(dict.fromkeys(options))
            return ui.choose(f"{prefix}{field}", widget, label, options, format_func=words)

        part = pick("part", st.segmented_control, "Part", list(PARTS), str.capitalize)
        layers = [choice.layer for choice in choices if choice.part == part]
        layer = pick("layer", st.segmented_control, "Layer", layers, str.capitalize)
        heads = [choice.head for choice in choices if (choice.part, choice.layer) == (part, layer)]
        head = pick("head", st.selectbox, "Head", heads, lambda head: HEADS.get(head, f"Head {head}"))
    try:
        fitted = ui.fit(active, chosen)
    except ImageError as error:
        st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}")
        return None
    grid = active.config.grid_for(fitted.pixels.shape[1])
    if grid == (1, 1):
        st.info("This model has one token: its only weight is exactly 1, and there is nothing to compare.")
        return None
    if grid[0] ** 2 * grid[1] ** 2 * 4 > measure.MAX_MAP_BYTES / 4:
        st.error(f"A map of {grid[0] * grid[1]} patches is too large to compare; choose a narrower picture.")
        return None
    facts = [f"{size_in_words(active.config.input_size)}, {grid[0] * grid[1]} patches", *fitted.notes]
    st.caption(escape_markdown("; ".join(facts)))
    choice = MapChoice(part=part, layer=layer, head=head)
    return Half(active, chosen, fitted, choice, measure.one_map(active, fitted, choice).weights, grid)


# ------------------------------------------------------------------------------------------------------ beside each other


@st.fragment
def side_by_side(a: Half, b: Half) -> None:
    notes = [
        Note(f"{name} is UNTRAINED: random weights", "error")
        for name, half in (("A", a), ("B", b))
        if not half.active.is_trained
    ]
    sides = tuple(side_of(half) for half in (a, b))
    tops = {
        "shared": max(float(np.percentile(half.weights, 99.5)) * len(half.weights) for half in (a, b)),
        "full": max(float(half.weights.max()) * len(half.weights) for half in (a, b)),
    }
    view = explorer.compare((sides[0], sides[1]), int(a.weights.max(axis=1).argmax()), tops, notes)
    st.subheader("How alike are they?")
    if a.grid != b.grid:
        st.info(
            f"A has {a.grid[1]}x{a.grid[0]} patches, B {b.grid[1]}x{b.grid[0]}: pairs of patches cannot be set against each "
            "other. The pointer shows the same place in both.",
            icon=":material/info:",
        )
        found = None
    else:
        found = agreement.compare(a.weights, b.weights)
        st.markdown(found.sentence("A", "B"))
        figures(a, found, view.query)
    with st.container(key="expert_exports"):
        exports(a, b, found, max(1.5, tops["full" if view.range == "full" else "shared"]))
    ui.write_link()


def side_of(half: Half) -> Side:
    name = half.choice.name
    return measure.explorer_side(
        half.active,
        half.fitted,
        half.title,
        (name,),
        (name,),
        half.choice.weighting,
        half.choice.discard,
    )


def figures(a: Half, found: agreement.Agreement, query: int) -> None:
    on_image, on_map = ui.panels(a.fitted.pixels, 2)
    with on_image:
        st.markdown(
            "**Where they differ**: Jensen-Shannon distance of each query",
            help="0: the patch places its weight the same way in A and B; 1: on patches that have none in common. It is "
            "the square root of the divergence to base 2 (Endres & Schindelin 2003).",
        )
        st.plotly_chart(
            plots.plot_agreement_on_image(a.fitted.pixels, found.distance, a.grid, a.active.config.tile_size[0]),
            key="compare_distance",
            config={"displayModeBar": False},
            alt="The picture of A with the distance of each query's weights laid over it",
        )
        distance = found.distance[query]
        st.caption(
            f"Query patch {query}: {distance:.3f}" if np.isfinite(distance) else f"Query patch {query}: no weight"
        )
    with on_map:
        st.markdown("**A − B**, rows = query, columns = key")
        st.plotly_chart(
            plots.plot_difference_map(found.difference, a.grid),
            key="compare_difference",
            config={"displaylogo": False},
            alt="Difference of the two maps on colours centred on zero",
        )


def exports(a: Half, b: Half, found: agreement.Agreement | None, zmax: float) -> None:
    untrained = not (a.active.is_trained and b.active.is_trained)
    stem = f"{'UNTRAINED_' * untrained}{safe_name(a.chosen.title)}_A_minus_B"
    about = f"A: {a.title}. B: {b.title}."
    arrays = {"a": a.weights, "b": b.weights}
    if found is not None:
        arrays |= {"difference_x_uniform": found.difference, "jensen_shannon_distance": found.distance}

    def figure(fmt: export.Format) -> bytes:
        patch = a.active.config.tile_size[0]
        caption = f"{about} Colours to {zmax:.3g} x uniform."
        return pair_figure(a.weights, b.weights, found, a.fitted.pixels, a.grid, patch, caption, zmax, fmt, untrained)

    with st.popover("Take it with you", icon=":material/download:"):
        with st.container(horizontal=True):
            for fmt, mime in export.FORMATS:
                st.download_button(
                    f"Side by side ({fmt.upper()})", partial(figure, fmt), f"{stem}.{fmt}", mime, on_click="ignore"
                )
        st.download_button(
            "Both maps (NPZ)",
            lambda: export.maps_npz(arrays, caption=about),
            f"{stem}.npz",
            "application/octet-stream",
            on_click="ignore",
        )
        if found is None:
            return
        rows = [
            {"query": query, "row": query // a.grid[1], "column": query % a.grid[1], "jensen_shannon_distance": value}
            for query, value in enumerate(found.distance.tolist())
        ]
        st.download_button(
            "Distance of each query (CSV)",
            lambda: export.metrics_csv(rows),
            f"{stem}.csv",
            "text/csv",
            on_click="ignore",
        )


main()
