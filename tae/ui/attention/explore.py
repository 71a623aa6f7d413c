"""The map on display: the explorer under the pointer, its status line, and what to know before believing it."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae.analysis import facts
from tae.analysis.attention import is_practically_uniform, sinks
from tae.analysis.maps import MapChoice
from tae.analysis.numbers import percent
from tae.model.config import PARTS
from tae.plots.style import Quantity
from tae.ui.attention import explorer, measure
from tae.ui.attention.controls import DISCARDS, WEIGHTINGS
from tae.ui.session.scene import Scene
from tae.ui.session.view import checked, link
from tae.web.explorer.payload import RANGES, Note, View
from tae.web.report.findings import differs, query_of
from tae.web.report.request import ReportMap


@dataclass(frozen=True)
class Shown:
    """The map on display."""

    view: View  # what the explorer shows
    choice: MapChoice  # which map that is
    weights: np.ndarray  # (N, N)
    grid: tuple[int, int]  # (rows, columns) of patches
    zmax: float  # end of the colour range in x uniform
    title: str  # the choice in words
    status: str  # the choice, its range and its check in one line

    @property
    def quantity(self) -> Quantity:
        return "spread" if self.choice.head == "spread" else "weight"

    @property
    def layers(self) -> list[int] | None:
        """The layer that the map is of; None: all."""
        return [int(self.choice.layer)] if self.choice.layer.isdecimal() else None


def has_maps(scene: Scene) -> bool:
    """Whether there are maps to show; says why where there are none."""
    rows, columns = scene.grid
    if (rows, columns) == (1, 1):
        one_token_notice(
            "there is nothing to see, so no heatmap is shown. Choose a checkpoint with patches, or look at what this one "
            "still tells: its reconstruction and its errors."
        )
        return False
    needed = (max(map(scene.config.num_layers, PARTS)) + 1) * (rows * columns) ** 2 * 4
    if needed > measure.MAX_MAP_BYTES:
        st.error(
            f"The maps of this image, {rows * columns} patches, would take {needed / 1e9:.2g} GB; at most "
            f"{measure.MAX_MAP_BYTES / 1e9:.2g} GB are held. Choose a narrower image, or a model with larger patches."
        )
        return False
    return True


def one_token_notice(said: str) -> None:
    st.info(f"{facts.ONE_TOKEN}: {said}", icon=":material/info:")
    st.page_link("app.py", label="Go to Explore", icon=":material/grid_on:", query_params=link("Explore"))


def explorer_panel(scene: Scene) -> Shown:
    grid = scene.grid
    notes = [Note(scene.active.warning, "error")] if scene.active.warning else []
    head_dim = scene.config.head_dim
    weighting, discard = checked("weighting", list(WEIGHTINGS)), float(checked("discard", DISCARDS))
    told = f"head_dim {head_dim}" + (" · weighted by value norms" if weighting == "values" else "")
    status = {part: f"{told} · {differs(max(measure.recomputation_errors(scene, part)))}" for part in PARTS}
    average = measure.one_map(scene, MapChoice()).weights
    foreground = measure.foreground(scene)
    query = query_of(ReportMap(), average, foreground)
    view = explorer.explore(scene, query, notes, status)
    choice = MapChoice.named(view.name, weighting, discard)
    one = measure.one_map(scene, choice)
    num_tokens = len(one.weights)
    tops = {
        **measure.range_tops(scene, choice.weighting),
        "own": max(facts.UNIFORM_LIMIT, float(one.weights.max()) * num_tokens),
    }
    zmax = tops[view.range]
    errors = measure.recomputation_errors(scene, choice.part)
    error = errors[int(choice.layer)] if choice.layer.isdecimal() else max(errors)
    title = choice.title(scene.config)
    row, column = divmod(view.query, grid[1])
    low, high = float(one.weights.min()) * num_tokens, float(one.weights.max()) * num_tokens
    hidden = f"{percent(one.hidden_mass, 1)} of all weight hidden · " if choice.discard else ""
    text = facts.marked(
        f"{title} · query patch {view.query} (row {row}, column "
        f"{column}) · N {num_tokens} · head_dim {head_dim} · {low:.2g} to {high:.3g} x uniform, colours to {zmax:.3g} "
        f"({RANGES[view.range]}) · {hidden}{differs(error)} · "
        "not smoothed",
        scene.active.warning,
    )
    return Shown(view, choice, one.weights, grid, zmax, title, text)


def badges(scene: Scene, shown: Shown) -> None:
    """What a reader must know before believing the image."""
    num_tokens = len(shown.weights)
    head_dim = scene.config.head_dim
    with st.container(horizontal=True):
        if shown.choice.head != "spread" and is_practically_uniform(shown.weights):
            st.badge(facts.PRACTICALLY_UNIFORM, icon=":material/blur_on:", color="orange")
        if num_tokens > head_dim:
            st.badge(
                f"N {num_tokens} > head_dim {head_dim}: {facts.OTHER_WEIGHTS}",
                icon=":material/info:",
                color="gray",
                help="Brunner 2020, On identifiability in transformers: with more tokens than dimensions in a head, "
                "attention weights are not determined by what the layer computes.",
            )
        if shown.choice.head != "spread":
            tokens, mass = sinks(shown.weights)
            if len(tokens):
                st.badge(
                    f"{len(tokens)} sink patch{'es take' if len(tokens) > 1 else ' takes'} {percent(mass)} of all weight",
                    icon=":material/vertical_align_bottom:",
                    color="violet",
                    help=f"Patches that receive {facts.IS_SINK}: {sinks_in_words(scene, shown, tokens.tolist())}. Weight on "
                    "a short value vector moves little.",
                )
        if shown.choice.layer == "rollout":
            st.badge(
                "rollout assumes that half of each layer's flow passes beside attention",
                icon=":material/info:",
                color="gray",
                help="Abnar & Zuidema 2020: layers are chained as if weights alone moved information. What a patch is "
                "good for shows only when it is ablated."
                + (f" {facts.ROLLOUT_OF_MIN}" if shown.choice.head == "min" else ""),
            )
        if shown.view.range == "own":
            st.badge("colour range of this map only", icon=":material/contrast:", color="orange")


def sinks_in_words(scene: Scene, shown: Shown, tokens: list[int]) -> str:
    """Where they are, and how long their value vectors and they themselves are."""
    value, length = measure.key_norms(scene, shown.choice.part, shown.choice.layer, shown.choice.head)
    columns = shown.grid[1]
    return ", ".join(
        f"row {token // columns} column {token % columns} (value vector {value[token]:.2g} x, token {length[token]:.2g} x as "
        "long as the median patch’s)"
        for token in tokens[:8]
    )


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
