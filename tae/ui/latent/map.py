"""Map: the test set as points, the image's place among them, what was chosen, and the nearest."""

import re
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from tae.analysis import facts
from tae.analysis.latent import LatentMap, neighbours
from tae.data.decode import ImageError
from tae.data.encode import encode_png
from tae.data.fit import Fitted
from tae.plots.export import render, tables
from tae.plots.export.curves import points_figure
from tae.plots.latent import contact_sheet, plot_latent_map, selected_points
from tae.sequence import table
from tae.store.names import escape_markdown, plain_text
from tae.ui.latent import measure
from tae.ui.latent.hover import hover
from tae.ui.latent.measure import SpaceScene
from tae.ui.session.images import uploaded
from tae.ui.session.results import fit
from tae.ui.session.view import choose, write_link
from tae.ui.shell.guide import prose
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.downloads import download, download_figure, export
from tae.ui.widgets.drop import drop

LAYOUTS = {"pca": "PCA", "tsne": "t-SNE"}
COLOURS = {"kind": "Kind", "ink": "Mean darkness", "psnr": "PSNR"}
UNITS = {"psnr": "PSNR (dB)", "ink": "mean darkness, 0 to 1"}
METRIC_NAMES = {"euclidean": "Euclidean", "cosine": "Cosine"}
NEAREST = 6
MAX_GALLERY = 60
MAX_RINGS = 12


def map_section(scene: SpaceScene) -> None:
    kinds = dict.fromkeys(scene.tests.kinds)
    colours = [name for name in COLOURS if name != "kind" or len(kinds) > 1]
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_latent_map"):
        method = choose(
            "layout",
            st.segmented_control,
            "Layout",
            LAYOUTS,
            help="PCA: the two directions in which the latents vary most. t-SNE: neighbours stay neighbours, and nothing "
            "else is kept.",
        )
        place = st.container(width="content")
        own, refused = own_images(scene)
        told, problem = own_table([title for title, _ in own], scene.chosen.sample is None)
        headers = dict.fromkeys([*scene.tests.columns, *told])
        titles = {name: COLOURS[name] for name in colours} | {header: header for header in headers}
        with place:
            colour = choose("colour", st.selectbox if headers else st.segmented_control, "Colour", titles)
    values = scene.tests.columns.get(colour)
    if values is None:
        values = scene.tests.ink if colour == "ink" else measure.find_psnrs(scene.active) if colour == "psnr" else None
    for sentence in [*refused, *([problem] if problem else [])]:
        st.caption(sentence)
    explore(scene, measure.layout(scene.active, scene.tests, method), colour, values, own, told.get(colour))


def own_table(titles: list[str], is_first_own: bool) -> tuple[dict[str, np.ndarray], str]:
    """({header: (n,) a number for each image, NaN where there is none} of a table beside one's own images, what is wrong).

    Args:
        titles: Names of the sidebar's image, then of the others, which were dropped.
        is_first_own: Whether the sidebar's was dropped, too.
    """
    names = titles if is_first_own else titles[1:]
    if not names:
        return {}, ""
    with st.container(width=300):
        files, refused = drop("A table of your images", "latent_table", "CSV or Parquet", many=False)
    if not files:
        return {}, escape_markdown(" ".join(refused))
    (file,) = files
    with tempfile.TemporaryDirectory() as folder:
        ending = Path(file.name).suffix.lower()
        path = Path(folder) / f"table{ending if ending in table.SUFFIXES else ''}"
        path.write_bytes(file.getvalue())
        try:
            found = table.read_table(path)
            match = found.match("", names, True)
        except table.TableError as error:
            return {}, escape_markdown(str(error).replace(path.name, plain_text(file.name)))
    if match is None or (match.rows < 0).all():
        return {}, escape_markdown(f"{plain_text(file.name)}: no row tells of one of your images by its name")
    rows = match.rows if is_first_own else np.append(-1, match.rows)
    numbers = (column for column in found.columns if column.is_number)
    return {column.header: np.append(column.numbers, np.nan)[rows] for column in numbers}, ""


def own_images(scene: SpaceScene) -> tuple[list[tuple[str, Fitted]], list[str]]:
    """(title, fitted) of the sidebar's image and the uploaded ones; a sentence for each that cannot be fitted."""
    own, refused = [(scene.chosen.title, scene.fitted)], []
    for one in uploaded():
        if one.key != scene.chosen.key:
            try:
                own.append((one.title, fit(scene.active, one)))
            except ImageError as error:
                refused.append(f"Not on the map: {escape_markdown(one.title)}: {escape_markdown(str(error))}")
    return own, refused


@st.fragment
def explore(
    scene: SpaceScene,
    laid: LatentMap,
    colour: str,
    values: np.ndarray | None,
    own: list[tuple[str, Fitted]],
    own_values: np.ndarray | None,
) -> None:
    """The map, what was chosen on it, and the image's neighbours."""
    state = st.session_state
    total = len(scene.tests) + len(own)
    named = (int(one) for one in re.findall(r"[0-9]+", state.points) if len(one) < 8)
    points = list(dict.fromkeys(number for number in named if number < total))
    state.points = ",".join(map(str, points))
    with st.container(key="latent_columns"):
        left, right = (st.container(), st.container()) if scene.is_wide else st.columns([3, 2])
    with left:
        titles = [title for title, _ in own]
        latents = np.array([measure.latent_of(scene.active.loaded, fitted) for _, fitted in own])
        coordinates = laid.place(latents)
        figure = plot_latent_map(
            laid.coordinates,
            laid.axes,
            groups=scene.tests.kinds if colour == "kind" else None,
            values=values,
            value_title=UNITS.get(colour, colour),
            own=coordinates,
            own_titles=titles,
            ringed=points if len(points) <= MAX_RINGS else (),
            own_values=own_values,
        )
        figure.update_yaxes(constraintoward="top")  # what room is left over lies below, not under the legend
        spans = np.ptp(np.concatenate([laid.coordinates, coordinates]), axis=0)
        room = float(np.clip((840 if scene.is_wide else 470) * spans[1] / max(spans[0], 1e-9), 240, 500))
        figure.update_layout(height=room + figure.layout.margin.t + figure.layout.margin.b)  # type: ignore[union-attr]
        show_chosen(figure, points)
        with st.container(key="latent_map"):
            st.plotly_chart(
                figure,
                key="latent_chart",
                on_select=partial(keep_points, total),
                selection_mode=("points", "box", "lasso"),
                config={"displaylogo": False, "scrollZoom": True},
                alt=f"{len(scene.tests)} test images, and the sidebar's images, as points laid out by {LAYOUTS[laid.method]}",
            )
        prose(
            f"[[Latents|latent]] of {len(scene.tests)} test images by [[{LAYOUTS[laid.method]}]]. {laid.note}"
            + (" Double-click lets what was chosen go." if points else ""),
            caption=True,
        )
        hover(scene.active, scene.tests, [fitted.pixels for _, fitted in own], "latent_map", choose_point)
    with right:
        selection(scene, laid, points, own, coordinates, values if colour == "psnr" else None)
        nearest(scene)
    write_link()


def show_chosen(figure: go.Figure, points: list[int]) -> None:
    """Dim the points that were not chosen, also where a link names those that were."""
    chosen = set(points)
    for trace in figure.select_traces():
        if chosen and trace.customdata is not None:
            numbers = enumerate(map(int, trace.customdata))
            trace.update(selectedpoints=[place for place, number in numbers if number in chosen])


def choose_point(number: int | None) -> None:
    """A click chose a point, a double click let all go: while the lasso is at hand, Streamlit tells of neither."""
    st.session_state.points = "" if number is None else str(number)


def keep_points(total: int) -> None:
    """A box or a lasso chose points, or let them go."""
    event = st.session_state.latent_chart
    chosen = selected_points(event.get("selection", {}), total)
    st.session_state.points = ",".join(map(str, chosen))


def selection(
    scene: SpaceScene,
    laid: LatentMap,
    points: list[int],
    own: list[tuple[str, Fitted]],
    coordinates: np.ndarray,
    psnrs: np.ndarray | None,
) -> None:
    tests = scene.tests
    exports(scene, laid, points or range(len(tests) + len(own)), own, coordinates, psnrs)
    if not points:
        st.info(
            "**Hover** for an image, **click** for its reconstruction, **draw around points** for a gallery and a table.",
            icon=":material/gesture_select:",
        )
        return
    if len(points) == 1:
        one_point(scene, points[0], own)
    else:
        st.markdown(f"**{len(points)} chosen**" + (f", the first {MAX_GALLERY}" if len(points) > MAX_GALLERY else ""))
        height, width = tests.cell
        shown = [
            tests.thumbnail(number) if number < len(tests) else own[number - len(tests)][1].pixels
            for number in points[:MAX_GALLERY]
        ]
        columns = 6 if not scene.is_wide else 2 * facts.in_a_row(tests.cell, 2)
        sheet = contact_sheet(shown, width + 4, min(columns, len(shown)), height + 4)
        st.image(encode_png(sheet), width="stretch" if len(shown) >= columns else "content", alt="The chosen images")


def exports(
    scene: SpaceScene,
    laid: LatentMap,
    points: Sequence[int],
    own: list[tuple[str, Fitted]],
    coordinates: np.ndarray,
    psnrs: np.ndarray | None,
) -> None:
    """The map, and a table and the latents of the points: those that were chosen, or all."""
    tests, count = scene.tests, len(scene.tests)
    places = np.concatenate([laid.coordinates, coordinates])

    def figure(fmt: render.Format) -> bytes:
        where = laid.coordinates, laid.axes, tests.kinds, coordinates
        return points_figure(*where, scene.about, fmt, scene.active.warning, psnrs, UNITS["psnr"])

    def rows() -> bytes:
        return tables.metrics_csv(
            [
                {
                    "number": number,
                    "image": f"test image {number}" if number < count else own[number - count][0],
                    "kind": tests.kinds[number] if number < count else "image of the sidebar",
                    "mean_darkness": float(
                        tests.ink[number] if number < count else 1 - own[number - count][1].pixels.mean()
                    ),
                    "psnr_db": None if psnrs is None or number >= count else float(psnrs[number]),
                    "x": float(places[number, 0]),
                    "y": float(places[number, 1]),
                    "layout": laid.method,
                    "checkpoint": scene.active.title,
                }
                for number in points
            ]
        )

    def latents() -> bytes:
        found = [
            tests.latents[number] if number < count else measure.latent_of(scene.active.loaded, own[number - count][1])
            for number in points
        ]
        return tables.maps_npz({"numbers": np.array(points), "latents": np.array(found)}, caption=scene.about)

    stem = facts.file_stem("latent_selection" if len(points) < len(places) else "latent_map", scene.active.warning)
    with export():
        download_figure("Map", figure, facts.file_stem("latent_map", scene.active.warning))
        download("Table (CSV)", rows, f"{stem}.csv")
        download("Latents (NPZ)", latents, f"{stem}.npz")


def one_point(scene: SpaceScene, number: int, own: list[tuple[str, Fitted]]) -> None:
    """A point's image beside what is drawn from its latent."""
    tests = scene.tests
    if number < len(tests):
        title, pixels = f"Test image {number}: {tests.kinds[number]}", measure.test_image(scene.active, number)
        code = tests.latents[number]
    else:
        title, fitted = own[number - len(tests)]
        pixels, code = fitted.pixels, measure.latent_of(scene.active.loaded, fitted)
    recon = measure.draw(scene.active, code[None], pixels.shape[1])[0]
    st.markdown(f"**{escape_markdown(title)}**")
    for place, words, shown in zip(panels(pixels, 2), ("Image", "Reconstruction"), (pixels, recon), strict=True):
        with place:
            st.image(encode_png(shown), width="stretch", alt=f"{words} of the chosen point")
            st.caption(words)


def nearest(scene: SpaceScene) -> None:
    """The test images whose latents are nearest to that of the sidebar's image."""
    tests = scene.tests
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**Nearest to {escape_markdown(scene.chosen.title)}**", width="content")
        metric = choose("metric", st.segmented_control, "Distance", METRIC_NAMES, label_visibility="collapsed")
    numbers, distances = (one[0] for one in neighbours(scene.latent[None], tests.latents, NEAREST, metric))
    with st.container(horizontal=True):
        for number, distance in zip(numbers.tolist(), distances.tolist(), strict=True):
            with st.container(width=tests.cell[1] + 16, gap="xsmall"):
                image = measure.test_image(scene.active, number)
                st.image(encode_png(image), width="stretch", alt=f"Test image {number}")
                st.caption(f"{escape_markdown(tests.kinds[number])}: {distance:.2f}")
    usual = measure.usual_distance(scene.active, tests, metric)
    first = distances[0]
    words = (
        "Distances say little: most test images share their latent with another."
        if not usual
        else f"This is one of the test images; their nearest are {usual:.2g} away (median)."
        if first < 1e-3 * usual
        else f"As near as test images are to each other ({usual:.2g}, median)."
        if first <= 1.5 * usual
        else f"{first / usual:.1f} times as far as test images are from each other: nothing in the test set is like it."
    )
    st.caption(words, help=f"Distances in all {tests.latents.shape[1]} dimensions, not on the map.")
