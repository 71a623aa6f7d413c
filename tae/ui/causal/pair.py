"""Two images: states of one put into the run of the other, cell by cell, measured and estimated by gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from tae.analysis.causal.interventions import Edit, Intervention
from tae.analysis.causal.pairs import Patched, in_percent, means_over
from tae.analysis.causal.predictors import interval_of
from tae.analysis.causal.study import Study
from tae.analysis.numbers import percent
from tae.data.encode import encode_png
from tae.model.config import PARTS
from tae.plots.causal import PatchMap, plot_change, plot_patch_maps
from tae.plots.patching import plot_cells, plot_paths, selected_cell
from tae.store.names import escape_markdown
from tae.ui.causal import measure
from tae.ui.causal.controls import no_study
from tae.ui.causal.measure import PairScene, PutIn
from tae.ui.session import verdicts
from tae.ui.session.view import choose
from tae.ui.shell.guide import prose
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.charts import chart, chosen_in, image_chart
from tae.ui.widgets.downloads import download, download_arrays, download_table, export

STATES = {"heads": "Heads and MLPs", "patches": "Patches"}
INTO = {"b": "A’s states into B’s run", "a": "B’s states into A’s run"}
MEASURED, ESTIMATED, CONTROL = "Measured", "By gradient", "Control: a third image"
OVER_PAIRS = "Over pairs of test images"
MAX_OFFERED = 200  # cells that the list offers, the strongest first; a click reaches all


def two_images(scene: PairScene) -> None:
    prose(
        f"**A**, {escape_markdown(scene.chosen.title)}, and **B**, {escape_markdown(scene.other_title)}: states of one are put "
        "into the run of the other, one at a time ([[activation patching]]). Whose image does the decoder then draw?"
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        states = choose("states", st.segmented_control, "States", STATES)
        into = choose(
            "into",
            st.segmented_control,
            "Direction",
            INTO,
            help="A’s into B’s run: what is enough to bring A back (denoising). B’s into A’s: what A cannot do without (noising; "
            "Heimersheim & Nanda 2024, arXiv:2404.15255).",
        )
        part = (
            choose("part", st.segmented_control, "Part", list(PARTS), format_func=str.capitalize)
            if states == "patches"
            else ""
        )
    try:
        estimate = measure.find_estimated(scene, states, into)
        found = measure.find_patched(scene, states, into)
    except ValueError:
        st.info("Both images give the same reconstruction: there is no way between them. Choose another image.")
        return
    if estimate is None:
        return
    cells = measure.cells_of(scene, states)
    shares = estimate if found is None else found.found.share
    number = chosen_cell(cells, shares, part)
    study = verdicts.study_of(scene.active)
    if states == "heads":
        table_of_cells(scene, cells, found, estimate, number, study)
    else:
        maps_of_cells(scene, cells, found, estimate, part, cells[number])
    if found is not None:
        slope = measure.find_estimated(scene, states, into, slope_alone=True) if states == "patches" else None
        say_error(found, estimate, slope)
    if states == "heads":
        over_pairs(scene, study, cells[number])
    result = measure.put_in(scene, into, cells[number])
    outcome(scene, into, cells[number], result)
    exports(scene, into, cells, found, estimate, result, study)


def chosen_cell(cells: list[Intervention], shares: np.ndarray, part: str) -> int:
    """The cell of a part, or of both, that is put in, from the link, a list, or the strongest; its number."""
    order = [
        number for number in np.argsort(-np.abs(shares), kind="stable").tolist() if part in ("", cells[number].part)
    ]
    names = [cell.name for cell in cells]
    offered = order[:MAX_OFFERED]
    offered += [number for number in order[MAX_OFFERED:] if names[number] == st.session_state.cell]
    name = choose(
        "cell",
        st.selectbox,
        "Put in",
        {names[number]: f"{title(cells[number])}: {percent(shares[number], 1)}" for number in offered},
        instead=names[order[0]],
        help="The strongest first. A click on a cell below chooses it, too.",
    )
    return names.index(name)


def title(cell: Intervention) -> str:
    """In words, such as "Encoder, layer 0, patch 84"."""
    if not isinstance(cell, Edit):
        return cell.title
    tokens = cell.tokens
    first, last = tokens[0], tokens[-1]
    what = f"patch {first}" if len(tokens) == 1 else f"block of {len(tokens)} patches from {first} to {last}"
    return f"{cell.part.capitalize()}, layer {cell.layer}, {what}"


def table_of_cells(
    scene: PairScene,
    cells: list[Intervention],
    found: Patched | None,
    estimate: np.ndarray,
    number: int,
    study: Study | None,
) -> None:
    """Layers by heads, all heads and the MLP, as `head_cells` lists them."""
    heads = scene.config.num_heads
    columns = [*map(str, range(heads)), "all", "MLP"]
    rows = [f"{part} {layer}" for part in PARTS for layer in range(scene.config.num_layers(part))]
    tables = {ESTIMATED: estimate}
    if found is not None:
        tables = {MEASURED: found.found.share, **tables, CONTROL: found.control.share}
    if study is not None and study.pairs is not None:
        shares = study.pairs["share"]
        tables[OVER_PAIRS] = np.array([interval_of(shares[cell.name]).value for cell in cells])
    top = max(0.01, *(float(np.nanmax(np.abs(values))) for values in tables.values()))
    said = [
        title(cell) + "".join(f"<br>{words}: {percent(values[place], 1)}" for words, values in tables.items())
        for place, cell in enumerate(cells)
    ]
    with st.container(key="causal_cells"):
        rows_of = [st.columns(2) for _ in range(2)] if len(tables) == 4 else [st.columns(len(tables))]
    places = [place for row in rows_of for place in row]
    for place, (words, values) in zip(places, tables.items(), strict=True):
        with place:
            st.markdown(f"**{words}**, ±{percent(top)} of the way")
            table = values.reshape(len(rows), len(columns))
            figure = plot_cells(table, rows, columns, top, said, divmod(number, len(columns)))
            take_click(figure, words, "Share of the way for each head, each layer’s attention and each MLP", cells)


def maps_of_cells(
    scene: PairScene,
    cells: list[Intervention],
    found: Patched | None,
    estimate: np.ndarray,
    part: str,
    chosen: Intervention,
) -> None:
    """A map over the image for each layer of a part, measured and by gradient."""
    here = [number for number, cell in enumerate(cells) if cell.part == part]
    drawn = {ESTIMATED: estimate} if found is None else {MEASURED: found.found.share, ESTIMATED: estimate}
    top = max(1e-6, *(float(np.abs(values[here]).max()) for values in drawn.values()))
    box = outline_of(scene, chosen)
    with st.container(key="causal_cells"):
        columns = [st.container() for _ in drawn] if scene.is_wide else st.columns(len(drawn))
    for place, (words, values) in zip(columns, drawn.items(), strict=True):
        maps = []
        for layer in range(scene.config.num_layers(part)):
            of_patch, owner = np.zeros(scene.num_tokens), np.zeros(scene.num_tokens, int)
            for number in here:
                cell = cells[number]
                if isinstance(cell, Edit) and cell.layer == layer:
                    of_patch[cell.tokens], owner[cell.tokens] = 100 * values[number], number
            maps.append(PatchMap(f"layer {layer}", of_patch, "% of the way", 100 * top, owner.tolist()))
        with place:
            st.markdown(f"**{words}**")
            figure = plot_patch_maps(scene.fitted.pixels, maps, scene.grid, scene.config.tile_size[0], box)
            alt = f"Share of the way for each patch of each layer of the {part}"
            take_click(figure, words, alt, cells, image_chart)


def outline_of(scene: PairScene, cell: Intervention) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) in pixels of the patches of a cell, inside the image."""
    if not isinstance(cell, Edit):
        return None
    (top, left), (bottom, right) = (divmod(token, scene.grid[1]) for token in (cell.tokens[0], cell.tokens[-1]))
    (tile_height, tile_width), (height, width) = scene.config.tile_size, scene.fitted.pixels.shape
    ends = min(height, (bottom + 1) * tile_height), min(width, (right + 1) * tile_width)
    return top * tile_height, left * tile_width, *ends


def take_click(
    figure: go.Figure, words: str, alt: str, cells: list[Intervention], draw: Callable[..., Any] = chart
) -> None:
    """Draw the figure of what was measured, estimated or a control, in which a click puts a cell in."""
    read = partial(selected_cell, count=len(cells))
    picked = chosen_in(figure, f"causal_cells_{words[0].lower()}", f"{alt}: {words.lower()}", read, draw)
    if picked is not None:
        st.session_state.cell = cells[picked].name
        st.rerun()


def over_pairs(scene: PairScene, study: Study | None, cell: Intervention) -> None:
    """What a cell does over the study's pairs of images, with its interval."""
    if study is None:
        no_study(scene)
    elif study.pairs is None:
        st.caption("Not measured over pairs of images: `python -m tae.causal` does, made anew.")
    else:
        figures = study.pairs
        groups = ("share", "control", "apart")
        share, control, apart = (in_percent(interval_of(figures[group][cell.name])) for group in groups)
        correlation = interval_of(figures["estimate"]["correlation"])
        st.caption(
            f"Over test images ({escape_markdown(study.data)}; {means_over(figures['count'])}): {title(cell)} goes {share} of "
            f"the way, a third image’s {control}; both ways of a pair differ by {apart}. The estimate by gradient correlates at "
            f"{correlation}."
        )


def say_error(found: Patched, estimate: np.ndarray, slope: np.ndarray | None) -> None:
    """How far the estimate is off, also by slopes alone, and what a third image would do."""
    own, third = found.found, found.control
    error = own.error_of(estimate)
    strongest = int(np.abs(own.share).argmax())
    more = "" if slope is None else ", attention once more"
    alone = "" if slope is None else f" (by slopes alone {own.error_of(slope).correlation:.2f})"
    prose(
        f"By gradient ([[attribution patching]]: two passes forward and one back{more}, not {len(own.cells)}): correlation with "
        f"what was measured **{error.correlation:.2f}**{alone}, of ranks {error.rank_correlation:.2f}; largest deviation "
        f"**{percent(error.deviation, 1)}** ({title(error.worst)}). The strongest cell goes {percent(own.share[strongest])} "
        f"of the [[way|share of the way]] and closes {percent(own.closed[strongest])} of the squared distance; that of a "
        f"third image {percent(third.share[strongest])} and {percent(third.closed[strongest])}."
    )


def outcome(scene: PairScene, into: str, cell: Intervention, result: PutIn) -> None:
    """The patched image beside both reconstructions, and the paths of a head."""
    base, source = ("B", "A") if into == "b" else ("A", "B")
    places = panels(scene.fitted.pixels, 4)
    shown = {
        f"{base}’s reconstruction": result.base,
        f"{base}’s with {source}’s cell": result.recon,
        f"{source}’s reconstruction": result.source,
    }
    for place, (words, pixels) in zip(places, shown.items(), strict=False):
        with place:
            st.markdown(f"**{words}**")
            st.image(encode_png(pixels), width="stretch", alt=words)
    with places[3]:
        st.markdown("**What changed**")
        image_chart(plot_change(result.recon - result.base), "causal_put_in", "Signed difference that the cell makes")
    tokens = ""
    if isinstance(cell, Edit) and cell.part == "encoder":
        tokens = f" The latent is the mean of {scene.num_tokens} tokens; this cell is {len(cell.tokens)} of them."
    st.caption(
        f"{title(cell)}: {percent(result.share, 1)} of the way from {base} to {source}, {percent(result.closed, 1)} of the "
        f"squared distance closed.{tokens}"
    )
    if result.paths:
        prose("**Through which later place** ([[path patching]])")
        alt = "Share of the way through each later layer alone, and in all"
        ways = {
            f"straight to the {name}" if name in ("latent", "image") else name: one
            for name, one in result.paths.items()
        }
        chart(plot_paths(ways, result.share), "causal_paths", alt)


def exports(
    scene: PairScene,
    into: str,
    cells: list[Intervention],
    found: Patched | None,
    estimate: np.ndarray,
    result: PutIn,
    study: Study | None,
) -> None:
    arrays = {"share_by_gradient": estimate}
    if found is not None:
        arrays |= {
            "share": found.found.share,
            "closed": found.found.closed,
            "share_of_third_image": found.control.share,
        }
    pairs = study.pairs if study is not None else None
    if pairs is not None and cells[0].name in pairs["share"]:
        intervals = [interval_of(pairs["share"][cell.name]) for cell in cells]
        arrays |= {
            "share_over_pairs": np.array([one.value for one in intervals]),
            "share_over_pairs_low": np.array([one.low for one in intervals]),
            "share_over_pairs_high": np.array([one.high for one in intervals]),
        }
    told = f"{scene.about} · B: {scene.other_title} · {INTO[into]} · share of the way of each cell"
    about = {**scene.chosen.named(scene.active), "other_image": scene.other_title, "direction": INTO[into]}
    rows = [
        {**about, "cell": cell.name, **{name: float(values[number]) for name, values in arrays.items()}}
        for number, cell in enumerate(cells)
    ]
    images = {"base": result.base, "source": result.source, "put_in": result.recon}
    names = {"cells": np.array([cell.name for cell in cells])}
    with export():
        download_table("Cells (CSV)", rows, f"{scene.stem}_patching")
        download_arrays("Cells and images (NPZ)", {**arrays, **names, **images}, f"{scene.stem}_patching", told)
        if found is not None and (report := measure.pair_reporter(scene)) is not None:
            download("Report (HTML)", report, f"{scene.stem}_two_images.html")
        download("Put in (PNG)", lambda: encode_png(result.recon), f"{scene.stem}_put_in.png")
