"""The page Latent space: a map of the test set, neighbours, ways between pictures, sliders along directions, the spectrum."""

import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from tae import export, plots, ui
from tae.datasets import DemoSource
from tae.export_strip import strips_figure
from tae.images import Fitted, ImageError, encode_png, escape_markdown, fit_image, safe_name
from tae.latent import (
    METRICS,
    PATHS,
    LatentMap,
    Pca,
    dimensions_for,
    effective_rank,
    interpolation_gif,
    neighbours,
    participation_ratio,
)
from tae.plots.latent import contact_sheet, plot_latent_map, plot_spectrum, selected_points
from tae.ui import latent
from tae.ui.latent import FRAMES, TestSet

SECTIONS = {
    "map": "Map",
    "between": "Between two pictures",
    "directions": "Directions",
    "spectrum": "How many dimensions",
}
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE"}
COLOURS = {"kind": "Kind", "ink": "Ink", "psnr": "PSNR"}
UNITS = {"psnr": "PSNR (dB)", "ink": "ink, share of the page"}
METRIC_NAMES = {"euclidean": "Euclidean", "cosine": "Cosine"}
PATH_NAMES = {"linear": "Straight", "spherical": "Along the sphere"}
POSITIONS = [str(round(100 * number / (FRAMES - 1))) for number in range(FRAMES)]
NEAREST = 6
MAX_GALLERY = 60
MAX_RINGS = 12
SLIDERS = 8


@dataclass(frozen=True)
class Scene:
    """What everything on the page is about.

    Attributes:
        active: The model.
        chosen: The picture of the sidebar.
        fitted: That picture as the model sees it.
        tests: The test set.
    """

    active: ui.Active
    chosen: ui.Chosen
    fitted: Fitted
    tests: TestSet

    @property
    def latent(self) -> np.ndarray:
        """(D,) of the picture."""
        return latent.latent_of(self.active, self.fitted)

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self.fitted.pixels.shape[1]

    @property
    def is_wide(self) -> bool:
        return self.width > 2 * self.fitted.pixels.shape[0]

    @property
    def stem(self) -> str:
        """Of file names."""
        return f"{'' if self.active.is_trained else 'UNTRAINED_'}{safe_name(self.chosen.title)}"

    @property
    def about(self) -> str:
        """What an export is of; a stranger's text."""
        untrained = "" if self.active.is_trained else "UNTRAINED MODEL: random weights · "
        return (
            f"{untrained}{self.chosen.title} · {self.active.title} · latent of {self.active.config.latent_dim} numbers"
        )

    def draw(self, latents: np.ndarray) -> np.ndarray:
        return latent.draw(self.active, latents, self.width)


def main() -> None:
    active, chosen = ui.setup("Latent space")
    st.title("Latent space")
    ui.prose(
        f"The [[encoder]] squeezes each picture into {active.config.latent_dim} numbers, its [[latent]]: a point in a space of "
        "as many dimensions. What lies near what there, and what does the [[decoder]] draw from points that no picture has?"
    )
    fitted = ui.fit_or_stop(active, chosen)
    tests = latent.find_tests(active)
    if tests is not None:
        try:
            latent.layout(active, tests, "pca")
        except ValueError:
            st.error("This model gives every test image the same latent: there is no space to look at.")
        else:
            section(Scene(active, chosen, fitted, tests))
    ui.write_link()


def section(scene: Scene) -> None:
    card = scene.active.loaded.card
    if scene.active.is_trained and card.data != DemoSource.data:
        st.info(
            f"The test set here is of {escape_markdown(DemoSource.data)}. This model was trained on other images, for which "
            "the map may look quite different.",
            icon=":material/info:",
        )
    name = ui.choose(
        "latent",
        st.segmented_control,
        "Section",
        list(SECTIONS),
        format_func=lambda name: SECTIONS[name],
        label_visibility="collapsed",
    )
    {"map": map_section, "between": between, "directions": directions, "spectrum": spectrum}[name](scene)


def three(scene: Scene) -> list[DeltaGenerator]:
    """Places for three pictures: beside each other, however narrow the window, unless they are wide."""
    if scene.is_wide:
        return ui.panels(scene.fitted.pixels, 3)
    row = st.container(horizontal=True)
    return [row.container(width="stretch") for _ in range(3)]


# ------------------------------------------------------------------------------------------------------------------- map


def map_section(scene: Scene) -> None:
    kinds = dict.fromkeys(scene.tests.kinds)
    colours = [name for name in COLOURS if name != "kind" or len(kinds) > 1]
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_latent_map"):
        method = ui.choose(
            "layout",
            st.segmented_control,
            "Layout",
            list(LAYOUTS),
            format_func=lambda name: LAYOUTS[name],
            help="PCA: the two directions in which the latents vary most. t-SNE: neighbours stay neighbours, and nothing "
            "else is kept.",
        )
        colour = ui.choose("colour", st.segmented_control, "Colour", colours, format_func=lambda name: COLOURS[name])
    values = scene.tests.ink if colour == "ink" else latent.find_psnrs(scene.active) if colour == "psnr" else None
    own, refused = own_pictures(scene)
    for sentence in refused:
        st.caption(sentence)
    explore(scene, latent.layout(scene.active, scene.tests, method), colour, values, own)


def own_pictures(scene: Scene) -> tuple[list[tuple[str, Fitted]], list[str]]:
    """(title, fitted) of the sidebar's picture and the uploaded ones; a sentence for each that cannot be fitted."""
    own, refused = [(scene.chosen.title, scene.fitted)], []
    for one in ui.uploaded():
        if one.key != scene.chosen.key:
            try:
                own.append((one.title, ui.fit(scene.active, one)))
            except ImageError as error:
                refused.append(f"Not on the map: {escape_markdown(one.title)}: {escape_markdown(str(error))}")
    return own, refused


@st.fragment
def explore(
    scene: Scene, laid: LatentMap, colour: str, values: np.ndarray | None, own: list[tuple[str, Fitted]]
) -> None:
    """The map, what was chosen on it, and the picture's neighbours."""
    state = st.session_state
    total = len(scene.tests) + len(own)
    points = [int(one) for one in re.findall(r"[0-9]{1,7}", state.points) if int(one) < total]
    state.points = ",".join(map(str, points))
    with st.container(key="latent_columns"):
        left, right = (st.container(), st.container()) if scene.is_wide else st.columns([3, 2])
    with left:
        titles = [title for title, _ in own]
        latents = np.array([latent.latent_of(scene.active, fitted) for _, fitted in own])
        coordinates = laid.place(latents)
        figure = plot_latent_map(
            laid.coordinates,
            laid.axes,
            groups=scene.tests.kinds if colour == "kind" else None,
            values=values,
            value_title=UNITS.get(colour, ""),
            own=coordinates,
            own_titles=titles,
            ringed=points if len(points) <= MAX_RINGS else (),
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
                alt=f"{len(scene.tests)} test images and your pictures as points, laid out by {LAYOUTS[laid.method]}",
            )
        ui.prose(
            f"[[{LAYOUTS[laid.method]}]] of {len(scene.tests)} demo test images; diamonds: the sidebar's picture and your own. "
            f"{laid.note}" + (" Double-click lets what was chosen go." if points else ""),
            caption=True,
        )
        latent.hover(scene.active, scene.tests, [fitted.pixels for _, fitted in own], "latent_map", choose_point)
    with right:
        selection(scene, laid, points, own, coordinates, values if colour == "psnr" else None)
        nearest(scene)
    ui.write_link()


def show_chosen(figure: go.Figure, points: list[int]) -> None:
    """Dim the points that were not chosen, also where a link names those that were."""
    chosen = set(points)
    for trace in figure.data:
        if chosen and trace.customdata is not None:  # type: ignore[attr-defined]
            numbers = enumerate(map(int, trace.customdata))  # type: ignore[attr-defined]
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
    scene: Scene,
    laid: LatentMap,
    points: list[int],
    own: list[tuple[str, Fitted]],
    coordinates: np.ndarray,
    psnrs: np.ndarray | None,
) -> None:
    tests = scene.tests
    if not points:
        st.info(
            "**Hover over a point** to see its picture, **click** it to see what the model makes of it, or **draw around "
            "some** for a gallery and a table."
            + ("" if len(own) > 1 else " Pictures dropped on Reconstruct appear here."),
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
        columns = 6 if not scene.is_wide else 4
        sheet = contact_sheet(shown, width + 4, min(columns, len(shown)), height + 4)
        st.image(encode_png(sheet), width="stretch" if len(shown) >= columns else "content", alt="The chosen pictures")
    rows = [
        {
            "number": number,
            "image": f"demo test image {number}" if number < len(tests) else own[number - len(tests)][0],
            "kind": tests.kinds[number] if number < len(tests) else "your picture",
            "ink": float(tests.ink[number] if number < len(tests) else 1 - own[number - len(tests)][1].pixels.mean()),
            "psnr_db": None if psnrs is None or number >= len(tests) else float(psnrs[number]),
            "x": float(laid.coordinates[number, 0] if number < len(tests) else coordinates[number - len(tests), 0]),
            "y": float(laid.coordinates[number, 1] if number < len(tests) else coordinates[number - len(tests), 1]),
            "layout": laid.method,
            "checkpoint": scene.active.title,
        }
        for number in points
    ]
    latents = np.array(
        [
            tests.latents[number]
            if number < len(tests)
            else latent.latent_of(scene.active, own[number - len(tests)][1])
            for number in points
        ]
    )
    with st.container(horizontal=True, key="expert_latent_selection"):
        st.download_button(
            "Table (CSV)",
            lambda: export.metrics_csv(rows),
            f"{'' if scene.active.is_trained else 'UNTRAINED_'}latent_selection.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Latents (NPZ)",
            lambda: export.maps_npz({"numbers": np.array(points), "latents": latents}, caption=scene.about),
            f"{'' if scene.active.is_trained else 'UNTRAINED_'}latent_selection.npz",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
        )


def one_point(scene: Scene, number: int, own: list[tuple[str, Fitted]]) -> None:
    """A point's picture beside what is drawn from its latent."""
    tests = scene.tests
    if number < len(tests):
        title, pixels = f"Test image {number}: {tests.kinds[number]}", latent.test_picture(scene.active, number)
        code = tests.latents[number]
    else:
        title, fitted = own[number - len(tests)]
        pixels, code = fitted.pixels, latent.latent_of(scene.active, fitted)
    recon = latent.draw(scene.active, code[None], pixels.shape[1])[0]
    st.markdown(f"**{escape_markdown(title)}**")
    for place, words, shown in zip(ui.panels(pixels, 2), ("Image", "Reconstruction"), (pixels, recon), strict=True):
        with place:
            st.image(encode_png(shown), width="stretch", alt=f"{words} of the chosen point")
            st.caption(words)


def nearest(scene: Scene) -> None:
    """The test images whose latents are nearest to that of the sidebar's picture."""
    tests = scene.tests
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**Nearest to {escape_markdown(scene.chosen.title)}**", width="content")
        metric = ui.choose(
            "metric",
            st.segmented_control,
            "Distance",
            list(METRICS),
            format_func=lambda name: METRIC_NAMES[name],
            label_visibility="collapsed",
        )
    numbers, distances = (one[0] for one in neighbours(scene.latent[None], tests.latents, NEAREST, metric))
    with st.container(horizontal=True):
        for number, distance in zip(numbers.tolist(), distances.tolist(), strict=True):
            with st.container(width=tests.cell[1] + 16, gap="xsmall"):
                picture = latent.test_picture(scene.active, number)
                st.image(encode_png(picture), width="stretch", alt=f"Test image {number}")
                st.caption(f"{number}: {distance:.3g}")
    usual = latent.usual_distance(scene.active, tests, metric)
    first = distances[0]
    words = (
        "it is one of the test images"
        if first < 1e-3 * usual
        else "as near as test images are to each other"
        if first <= 1.5 * usual
        else f"{first / usual:.1f} times as far: nothing in the test set is like it"
    )
    st.caption(
        f"Test images by number, with their distance in all {tests.latents.shape[1]} dimensions, not on the map. A test "
        f"image's own nearest is {usual:.3g} away (median); for this picture: {words}."
    )


# ------------------------------------------------------------------------------------------------- between two pictures


def between(scene: Scene) -> None:
    offer = ui.offered(scene.active.config)
    with st.container(horizontal=True, vertical_alignment="bottom", key="expert_latent_between"):
        key = ui.choose(
            "other",
            st.selectbox,
            "To the picture",
            [key for key in (*offer.samples, *offer.own) if key != scene.chosen.key],
            format_func=offer.title,
            width=260,
        )
        path = ui.choose(
            "path",
            st.segmented_control,
            "Way",
            list(PATHS),
            format_func=lambda name: PATH_NAMES[name],
            help="Straight: every number changes evenly. Along the sphere: the direction turns evenly, and so does the "
            "length; the way does not cut through the middle, where few pictures are (White 2016).",
        )
    other = offer[key]
    try:
        # At the same size, or the pictures between would have none.
        end = fit_image(other.picture.pixels, scene.fitted.pixels.shape, st.session_state.fit)
        points, frames = latent.way(scene.active, scene.fitted, end, path)
    except ValueError as error:
        st.error(f"There is no such way: {escape_markdown(str(error))}")
        return
    walk(scene, other, points, frames, path)


@st.fragment
def walk(scene: Scene, other: ui.Chosen, points: np.ndarray, frames: np.ndarray, path: str) -> None:
    place = ui.choose(
        "at",
        st.select_slider,
        "Where on the way",
        POSITIONS,
        format_func=lambda share: f"{share} %",
    )
    at = POSITIONS.index(place)
    titles = (f"{scene.chosen.title}, reconstructed", f"{place} % of the way", f"{other.title}, reconstructed")
    for cell, title, number in zip(three(scene), titles, (0, at, FRAMES - 1), strict=True):
        with cell:
            st.image(encode_png(frames[number]), width="stretch", alt=title)
            st.markdown(escape_markdown(title))
    _, distances = neighbours(points[at][None], scene.tests.latents, 1)
    usual = latent.usual_distance(scene.active, scene.tests, "euclidean")
    st.caption(
        f"{PATH_NAMES[path]}, {place} % of the way. The nearest test image is {distances[0, 0] / usual:.1f} times as far from "
        "here as test images are from each other (median of nearest). No picture need exist for a point between two."
    )
    few = list(range(0, FRAMES, (FRAMES - 1) // 5))
    with st.container(horizontal=not scene.is_wide, gap="small"):
        for number in few:
            with st.container(width="stretch", gap="xsmall"):
                st.image(encode_png(frames[number]), width="stretch", alt=f"{POSITIONS[number]} % of the way")
                st.caption(f"{POSITIONS[number]} %")
    stem = f"{scene.stem}_to_{safe_name(other.title)}_{path}"
    about = f"{scene.about} · {PATH_NAMES[path].lower()} to {other.title}"
    row = [(frames[number], f"{POSITIONS[number]} %") for number in few]
    with st.container(horizontal=True, key="expert_latent_walk"):
        st.download_button(
            "Animation (GIF)",
            lambda: interpolation_gif(frames),
            f"{stem}.gif",
            "image/gif",
            icon=":material/download:",
            on_click="ignore",
        )
        for fmt, mime in export.FORMATS:
            st.download_button(
                f"Strip ({fmt.upper()})",
                lambda fmt=fmt: strips_figure([row], about, fmt, not scene.active.is_trained),
                f"{stem}.{fmt}",
                mime,
                icon=":material/download:",
                on_click="ignore",
            )
        st.download_button(
            "Pictures and latents (NPZ)",
            lambda: export.maps_npz({"frames": frames, "latents": points}, caption=about),
            f"{stem}.npz",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
        )
    ui.write_link()


# ------------------------------------------------------------------------------------------------------------ directions


@st.fragment
def directions(scene: Scene) -> None:
    pca = latent.layout(scene.active, scene.tests, "pca").pca
    count = min(SLIDERS, len(pca.variances))
    own = pca.scores(scene.latent[None])[0]
    ranges = [
        (float(np.floor(min(pca.low[one], own[one])) - 1), float(np.ceil(max(pca.high[one], own[one])) + 1))
        for one in range(count)
    ]
    asked = read_scores(st.session_state.scores, count)
    wanted = {one: min(ranges[one][1], max(ranges[one][0], score)) for one, score in asked.items()}
    st.session_state.scores = write_scores(wanted)
    moved = pca.moved(scene.latent, wanted)
    plain, changed = scene.draw(np.array([scene.latent, moved.astype(np.float32)]))
    ui.prose(
        "Move the picture along the [[principal components]] of the test images' latents, and see what the "
        "decoder draws there."
    )
    if scene.is_wide:
        pictures, *places = st.container(), *st.columns(2)
    else:
        with st.container(key="latent_columns"):
            pictures, *places = st.columns([3, 2])
    spread = [place for place in places for _ in range(-(-count // len(places)))]
    sliders(pca, own, wanted, ranges, spread[:count])
    with pictures:
        first, second, third = three(scene)
        for cell, title, pixels in ((first, "Reconstruction", plain), (second, "With the sliders", changed)):
            with cell:
                st.markdown(f"**{title}**")
                st.image(encode_png(pixels), width="stretch", alt=title)
        with third:
            st.markdown("**What changed**")
            st.plotly_chart(
                plots.plot_change(changed - plain),
                key="latent_change",
                config={"displayModeBar": False},
                alt="Signed difference of the two pictures on colours centred on zero",
            )
        moved_to = [one for one in pca.beyond(pca.scores(moved[None], count)[0]) if one in wanted]
        warn_outside(moved_to, pca.beyond(own[: dimensions_for(pca.variances, 0.95)]))
        st.caption(
            f"Principal directions of {pca.num_images} demo test images, the strongest first; numbers are standard deviations "
            "of these from their mean. Directions are of variance, not of meaning: one that looks like a single property "
            "may change others too."
        )
        told = ", ".join(f"component {one + 1} at {score:+.1f}" for one, score in wanted.items()) or "nothing moved"
        about = f"{scene.about} · {told}"
        arrays = {"latent": scene.latent, "moved": moved, "reconstruction": plain, "picture": changed}
        with st.container(horizontal=True, key="expert_latent_directions"):
            st.button(
                "Reset", icon=":material/restart_alt:", disabled=not wanted, on_click=reset_scores, key="latent_reset"
            )
            st.download_button(
                "Both pictures (PNG)",
                lambda: strips_figure(
                    [[(plain, "reconstruction"), (changed, "moved")]], about, "png", not scene.active.is_trained
                ),
                f"{scene.stem}_directions.png",
                "image/png",
                icon=":material/download:",
                on_click="ignore",
            )
            st.download_button(
                "Pictures and latents (NPZ)",
                lambda: export.maps_npz(arrays, caption=about),
                f"{scene.stem}_directions.npz",
                "application/octet-stream",
                icon=":material/download:",
                on_click="ignore",
            )
    ui.write_link()


def sliders(
    pca: Pca,
    own: np.ndarray,
    wanted: dict[int, float],
    ranges: list[tuple[float, float]],
    places: list[DeltaGenerator],
) -> None:
    """One in each place, for the strongest directions; one that nobody moved stands at the picture's own score."""
    state = st.session_state
    shares = pca.variances / pca.variances.sum()
    for one, (place, (least, most)) in enumerate(zip(places, ranges, strict=True)):
        key = f"latent_direction_{one}"
        state[key] = wanted.get(one, round(float(own[one]), 1))
        place.slider(
            f"Component {one + 1}: {shares[one]:.0%} of the variance" + (" · moved" if one in wanted else ""),
            least,
            most,
            step=0.1,
            format="%+.1f",
            key=key,
            on_change=keep_score,
            args=(one, key, len(places)),
            help=f"The picture's own: {own[one]:+.2f}. Test images: {pca.low[one]:+.1f} to {pca.high[one]:+.1f}.",
        )


def keep_score(one: int, key: str, count: int) -> None:
    scores = read_scores(st.session_state.scores, count)
    st.session_state.scores = write_scores({**scores, one: st.session_state[key]})


def reset_scores() -> None:
    st.session_state.scores = ""


def read_scores(text: str, count: int) -> dict[int, float]:
    """A link's {direction: score}, such as "0:1.5,3:-2.0"; what is no such thing is left out."""
    found = re.findall(r"(?:^|,)([0-9]{1,3}):(-?[0-9]{1,3}(?:\.[0-9])?)(?=,|$)", text, re.ASCII)
    return {int(one): float(score) for one, score in found if int(one) < count}


def write_scores(scores: dict[int, float]) -> str:
    return ",".join(f"{one}:{score:.1f}" for one, score in sorted(scores.items()))


def warn_outside(moved_to: list[int], own: list[int]) -> None:
    """Where the decoder draws what no test image has.

    Args:
        moved_to: Directions moved beyond every test image.
        own: Directions in which the picture itself lies beyond them, of those that hold most of the variance.
    """
    if moved_to:
        st.warning(
            f"**Outside the test set** in {components(moved_to)}: no test image lies so far out, and the decoder is on its "
            "own there.",
            icon=":material/explore_off:",
        )
    if own:
        st.info(
            f"The picture itself lies beyond every test image in {components(own)}: it is unlike all of them.",
            icon=":material/explore_off:",
        )


def components(numbers: list[int]) -> str:
    """In words, such as "component 3" and "components 1, 4 and 9 others"."""
    first = ", ".join(str(number + 1) for number in numbers[:8])
    more = f" and {len(numbers) - 8} others" if len(numbers) > 8 else ""
    return f"component{'s' * (len(numbers) > 1)} {first}{more}"


# -------------------------------------------------------------------------------------------------------------- spectrum


def spectrum(scene: Scene) -> None:
    pca = latent.layout(scene.active, scene.tests, "pca").pca
    dim = scene.active.config.latent_dim
    ratio, rank, most = (
        participation_ratio(pca.variances),
        effective_rank(pca.variances),
        dimensions_for(pca.variances, 0.95),
    )
    ui.prose(
        f"The latent has **{dim}** numbers; by variance, about **{ratio:.0f}** dimensions are in use (the "
        f"[[participation ratio]]), and {most} [[principal components]] hold 95 % of it. "
        + ("Most of the space is empty." if ratio < dim / 4 else "The test set fills much of the space.")
    )
    first, second, third = st.columns(3)
    first.metric(
        "Participation ratio",
        f"{ratio:.1f}",
        help="(sum of variances)² / sum of squared variances: k for k directions that vary alike.",
    )
    second.metric(
        "Effective rank",
        f"{rank:.1f}",
        help="The exponential of the entropy of the variances' shares (Roy & Vetterli 2007).",
    )
    third.metric("Directions for 95 %", f"{most}", help="The fewest principal directions with 95 % of the variance.")
    st.plotly_chart(
        plot_spectrum(pca.variances, ratio, pca.num_images),
        key="latent_spectrum",
        config={"displaylogo": False},
        alt="Share of the variance of each principal direction, and of all up to it",
    )
    st.caption(
        f"From {pca.num_images} demo test images: few images make these numbers too low. They count variance in the latent, not "
        "what the decoder makes of it: a direction of small variance can still matter in the picture."
    )
    rows = [
        {"component": one + 1, "variance": float(value), "share": float(value / pca.variances.sum())}
        for one, value in enumerate(pca.variances)
    ]
    with st.container(key="expert_latent_spectrum"):
        st.download_button(
            "Spectrum (CSV)",
            lambda: export.metrics_csv(rows),
            f"{'' if scene.active.is_trained else 'UNTRAINED_'}latent_spectrum.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


main()
