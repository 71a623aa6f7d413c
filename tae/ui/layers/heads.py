"""All heads over test images: how far they are apart, what each does and its name, and a card of one of them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from tae.analysis import facts
from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.pairs import in_percent, means_over
from tae.analysis.causal.predictors import interval_of
from tae.analysis.causal.study import Study
from tae.analysis.kinds import KINDS, NUMBERS, HeadTable, Tree, attributions, cluster, heads_over, received_over
from tae.analysis.numbers import percent
from tae.plots.causal import PatchMap, plot_patch_maps
from tae.plots.export import render
from tae.plots.export.glance import matrix_figure
from tae.plots.glance import MAX_NAMES, plot_heads_apart
from tae.plots.patching import selected_cell
from tae.ui.layers.patches import token_of
from tae.ui.session.cache import MODEL_LOCK, kept, read_only
from tae.ui.session.models import Active
from tae.ui.session.results import NO_NUMBERS, pass_seconds
from tae.ui.session.scene import Scene
from tae.ui.session.verdicts import lost_over_tests, study_of, test_images, usual_width
from tae.ui.session.view import choose, link
from tae.ui.session.work import Progress, measured
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import chosen_in, drawn, image_chart
from tae.ui.widgets.downloads import download_arrays, download_figure, download_table, export

IMAGES = 32
SECONDS_A_WEIGHT = 4e-9  # about, for each weight of two heads that are compared
EXAMPLES = 6  # of them, on which a card shows the head's maps
ASKED = {"all": "Received from all patches", "one": "From one patch"}


@dataclass(frozen=True)
class Heads:
    """All heads of a model."""

    table: HeadTable
    attribution: np.ndarray  # (EXAMPLES, K) share of the way, by gradient
    tree: Tree

    def shares_of(self, number: int) -> np.ndarray:
        """A head's attribution for each pair of images that has one."""
        shares = self.attribution[:, number]
        return shares[np.isfinite(shares)]

    @property
    def kinds(self) -> list[str]:
        return [", ".join(self.table.kinds_of(number)) for number in range(len(self.table.heads))]


def all_heads(scene: Scene) -> None:
    active = scene.active
    prose(
        f"Every [[head]] over {IMAGES} test images: what it does on average ([[kind of head]]), and how far its maps are from "
        "those of others ([[Jensen-Shannon distance]])."
    )
    try:
        found = _find(active)
    except ValueError:  # its maps are no numbers: there is no distance between them
        st.warning(NO_NUMBERS.capitalize() + ".", icon=":material/broken_image:")
        return
    if found is None:
        return
    heads = found.table.heads
    number = chosen_head(found)
    figure = drawn(
        plot_heads_apart,
        found.table.distance,
        found.tree.merges,
        found.tree.groups,
        found.tree.cut,
        [short(one) for one in heads],
        found.kinds,
        number,
    )
    alt = f"Distances of all heads, alike ones side by side: {groups_in_words(found)}"
    picked = chosen_in(figure, "layers_heads", alt, partial(selected_cell, count=len(heads)))
    if picked is not None:
        st.session_state.card = heads[picked].name
        st.rerun()
    told = (
        f"Tree: mean distance. Dashed and framed: heads nearer to each other than {found.tree.cut:.2f}, which is what the median "
        "head's own map changes from image to image. Click "
        f"{'a row' if len(heads) <= MAX_NAMES else 'the diagonal'} for its head."
    )
    st.caption(facts.marked(told, active.warning))
    with export():
        _exports(active, found)
    card(scene, found, number)
    with st.expander("What the names mean, and all numbers", icon=":material/table:"):
        st.dataframe([{"Name": one.name, "Where": one.rule, "Why": one.why} for one in KINDS], hide_index=True)
        st.caption(" ".join(f"**{name}**: {told}." for name, told in NUMBERS.items()))
        st.dataframe(_rows(active, found), hide_index=True)


def chosen_head(found: Heads) -> int:
    """The head of the card, from the link, a list, or the first in the order of the figure."""
    heads = found.table.heads
    titles = {heads[number].name: f"{heads[number].title}: {found.kinds[number]}" for number in found.tree.order}
    name = choose("card", st.selectbox, "Head", titles, help="A click in the figure chooses it, too.")
    return [one.name for one in heads].index(name)


def card(scene: Scene, found: Heads, number: int) -> None:
    """One head: what is measured of it, and its maps."""
    active, head = scene.active, found.table.heads[number]
    st.header(head.title)
    with st.container(horizontal=True):
        for kind in found.table.kinds_of(number):
            st.badge(kind, color="violet")
    numbers = found.table.numbers_of(number)
    shares = found.shares_of(number)
    study = study_of(active)
    with st.container(key="layers_card"):
        places = st.columns(5)
    places[0].metric("Entropy", f"{numbers['entropy']:.2f}", help="Mean over test images; 1 is uniform attention.")
    places[1].metric("Distance", f"{numbers['reach']:.2f} x", help="In multiples of that of uniform attention.")
    places[2].metric("On sinks", percent(numbers["sinks"]), help="Share of all weight.")
    value, spread = lost_over_tests(study, head)
    places[3].metric("PSNR without it", value, help=spread)
    places[4].metric(
        "Attribution",
        percent(shares.mean(), 1) if len(shares) else "–",
        help=f"Attribution patching: mean share of the way, over {len(shares)} pairs of test images"
        + (f" ({percent(shares.min(), 1)} to {percent(shares.max(), 1)})" if len(shares) else "")
        + f". To first order; {measured_over_pairs(study, head)}.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = choose("asked", st.segmented_control, "Maps", ASKED, label_visibility="collapsed")
        st.page_link(
            "app.py",
            label="Open it in Explore",
            icon=":material/grid_on:",
            query_params=link("Explore") | {"part": head.part, "layer": str(head.layer), "head": str(head.target)},
        )
    width = usual_width(scene.config)
    grid, tile = scene.config.grid_for(width), scene.config.tile_size[0]
    query = min(token_of(scene), grid[0] * grid[1] - 1) if asked == "one" else None
    images, values = _examples(active, head.name, query)
    maps = [PatchMap(f"test image {place}", one, "x uniform") for place, one in enumerate(values)]
    box = None
    if query is not None:
        row, column = divmod(query, grid[1])
        box = row * tile, column * tile, min(images.shape[1], (row + 1) * tile), min(width, (column + 1) * tile)
    figure = drawn(plot_patch_maps, images, maps, grid, tile, box)
    image_chart(figure, "layers_card_maps", f"Where {head.title} places weight on {EXAMPLES} test images")
    if query is not None:
        st.caption(f"Weights of query patch {query}, outlined; another is pinned under Patch features, or in Explore.")


def measured_over_pairs(study: Study | None, head: Knockout) -> str:
    """Its share of the way as the study measured it, or where that can be measured."""
    figures = study.pairs if study is not None else None
    if figures is None or head.name not in figures["share"]:
        return "measured under Ablation, Two images"
    return f"measured, {means_over(figures['count'])}: {in_percent(interval_of(figures['share'][head.name]))}"


def groups_in_words(found: Heads) -> str:
    """Which heads are in one group."""
    groups: dict[int, list[str]] = {}
    for number in found.tree.order:
        groups.setdefault(found.tree.groups[number], []).append(short(found.table.heads[number]))
    told = [", ".join(members) for members in groups.values() if len(members) > 1]
    return "; ".join(told) or "no two are nearer than the cut"


def short(head: Knockout) -> str:
    """Such as "E0.3" for head 3 of the encoder's layer 0."""
    return f"{head.part[0].upper()}{head.layer}.{head.target}"


def _find(active: Active) -> Heads | None:
    model, config = active.loaded.model, active.config
    width = usual_width(config)

    def compute(progress: Progress) -> Heads:
        images = test_images(active, width, IMAGES)
        table = heads_over(model, images, lambda share: progress(0.9 * share))
        share = attributions(model, images[:EXAMPLES], lambda share: progress(0.9 + 0.1 * share))
        return Heads(table, share, cluster(table.distance, float(np.median(table.numbers["own change"]))))

    def seconds() -> float:
        rows, columns = config.grid_for(width)
        heads = config.num_heads * (config.encoder_layers + config.decoder_layers)
        return IMAGES * (5 * pass_seconds(config) + SECONDS_A_WEIGHT * (heads * rows * columns) ** 2 / 2)

    words = f"Measuring all heads on {IMAGES} test images"
    return measured(
        "kinds", f"{active.loaded.digest}|{IMAGES}|{EXAMPLES}", words, seconds, compute, lasting=active.lasts and Heads
    )


@kept("Computing attention…")
def _examples(active: Active, name: str, query: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images (EXAMPLES, H, W) and what the head gives to their patches (EXAMPLES, N) in x uniform."""
    part, layer, head = name.split("/")
    images = test_images(active, usual_width(active.config), EXAMPLES)
    with MODEL_LOCK:
        values = received_over(active.loaded.model, images, Knockout(part, int(layer), int(head)), query)
    return read_only(images[:, 0].numpy()), read_only(values)


def _rows(active: Active, found: Heads) -> list[dict[str, object]]:
    """One row for each head."""
    study = study_of(active)
    return [
        {
            "head": head.name,
            "kind": found.kinds[number],
            "group": found.tree.groups[number],
            **{name.replace(" ", "_"): value for name, value in found.table.numbers_of(number).items()},
            "attribution": float(shares.mean()) if len(shares := found.shares_of(number)) else None,
            "psnr_lost_median_db": None if study is None else study.median_damage(head.name),
        }
        for number, head in enumerate(found.table.heads)
    ]


def _exports(active: Active, found: Heads) -> None:
    stem = "heads"
    names = [f"{head.name} {kind}" for head, kind in zip(found.table.heads, found.kinds, strict=True)]
    count = found.table.num_images
    about = f"{active.title} · Jensen-Shannon distance of heads' maps, mean of {count} test images · average linkage"

    def figure(fmt: render.Format) -> bytes:
        apart, merges = found.table.distance, found.tree.merges
        return matrix_figure(apart, names, "Jensen-Shannon distance", about, fmt, active.warning, merges)

    download_figure("Heads", figure, stem)
    arrays = {
        "distance": found.table.distance,
        "merges": found.tree.merges,
        "order": np.array(found.tree.order),
        "attribution": found.attribution,
        "heads": np.array([head.name for head in found.table.heads]),
        **{name.replace(" ", "_"): values for name, values in found.table.numbers.items()},
    }
    download_arrays("Heads (NPZ)", arrays, stem, about)
    rows = [
        {"model": active.title, "origin": active.loaded.card.origin, "images": found.table.num_images, **row}
        for row in _rows(active, found)
    ]
    download_table("Heads (CSV)", rows, stem)
