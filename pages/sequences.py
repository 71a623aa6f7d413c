"""The page Sequences: frames, what the model makes of each, and what a sequence model says comes next, beside the truth."""

import shlex
from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae import export, ui
from tae.animation import encode_gif
from tae.checkpoint import CheckpointError
from tae.export_strip import strips_figure
from tae.film import MAX_FRAMES, Film, ordinal
from tae.forecast import BASELINES, CEILING, COPY, LAST, LINEAR, LSTM, MEAN, SEEN, STEPS, Forecast, mean_errors
from tae.images import ImageError, escape_markdown, safe_name
from tae.metrics import psnr_of
from tae.player.payload import Row
from tae.plots import plot_curves
from tae.plots.sequence import plot_influence, plot_trajectory
from tae.sequencedata import DemoSequences
from tae.sequencefile import LoadedSequence
from tae.ui import sequences
from tae.ui.player import player

FORECASTS = {"step": "One step ahead", "roll": "Roll-out"}
RECONSTRUCTION = "Reconstruction"
EVERY = ["1", "2", "3", "4", "5", "8", "10", "15", "30"]
HELP = {
    LSTM: "What the sequence model predicts, drawn by the decoder.",
    COPY: "The frame before, taken for the next: needs no model at all.",
    MEAN: "The mean of all frames before.",
    LAST: "The latent of the frame before, drawn by the decoder.",
    LINEAR: "The latents' last change, gone on with, drawn by the decoder.",
}


@dataclass(frozen=True)
class Scene:
    """What everything on the page is about.

    Attributes:
        active: The autoencoder.
        lstm: The sequence model, where one belongs to it.
        clip: The sequence.
        film: Its frames.
        seen: What the autoencoder makes of them.
        frames_seen: Before the first frame that is predicted in a roll-out; None: one step ahead, all the way.
    """

    active: ui.Active
    lstm: LoadedSequence | None
    clip: sequences.Clip
    film: Film
    seen: sequences.Seen
    frames_seen: int | None

    @property
    def count(self) -> int:
        return len(self.film.frames)

    @property
    def is_trained(self) -> bool:
        """Both models, where there are two."""
        return self.active.is_trained and (self.lstm is None or self.lstm.card.is_trained)

    @property
    def stem(self) -> str:
        """Of file names."""
        return f"{'' if self.is_trained else 'UNTRAINED_'}{safe_name(self.clip.title)}"

    @property
    def about(self) -> str:
        """What an export is of; a stranger's text."""
        untrained = "" if self.is_trained else "UNTRAINED MODEL: random weights · "
        told = "one step ahead" if self.frames_seen is None else f"roll-out after {self.frames_seen} frames"
        model = f" · {self.lstm.card.name}, {told}" if self.lstm else ""
        return f"{untrained}{self.clip.title} · {self.active.title}{model}"


def main() -> None:
    active = ui.setup_without_picture("Sequences")
    st.title("Sequences")
    ui.prose(
        "Each frame is squeezed into its [[latent]]; an LSTM, a network with a memory, reads these one after the other and says "
        "what the next one will be; the [[decoder]] draws it. So a prediction can be looked at, beside the truth and beside "
        "guesses that need no model."
    )
    with st.container(key="expert_drop"):
        drop_zone(active)
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    with controls:
        clip, every = choose_clip()
    try:
        film = sequences.film(active, clip, every)
    except ImageError as error:
        st.error(f"{escape_markdown(clip.title)}: {escape_markdown(str(error))}", icon=":material/broken_image:")
    else:
        with controls:
            frames_seen = choose_forecast(len(film.frames))
        show(active, clip, film, frames_seen)
    ui.write_link()


def drop_zone(active: ui.Active) -> None:
    state = st.session_state
    files = st.file_uploader(
        "Your sequence: a GIF, WebP, TIFF or .npy stack, a video, several pictures as frames in the order of their names, or "
        "one wide strip. It stays on this machine.",
        type=[suffix.lstrip(".") for suffix in sequences.ENDINGS],
        accept_multiple_files=True,
        key=f"sequences_files_{state.upload_round}",
        help=f"The first {MAX_FRAMES} frames are shown, fewer where they are large.",
    )
    if files:
        with st.spinner("Reading the frames…"):
            state.sequence_problems = sequences.add_sequences(files, active.config, state.fit)
        state.upload_round += 1
        st.rerun()
    for problem in state.get("sequence_problems", []):
        st.error(escape_markdown(problem), icon=":material/broken_image:")
    own = sequences.own_clips()
    if own and st.button(
        f"Forget my {len(own)} sequence{'s' * (len(own) > 1)}", icon=":material/delete:", type="tertiary"
    ):
        forget_dialog()


@st.dialog("Forget your sequences?")
def forget_dialog() -> None:
    st.write("They are removed from this session; your files stay where they are.")
    if st.button("Forget them", type="primary"):
        sequences.forget_sequences()
        st.session_state.sequence_problems = []
        st.rerun()


def choose_clip() -> tuple[sequences.Clip, int]:
    offer = sequences.clips()
    if st.session_state.sequence.startswith("sequence-") and st.session_state.sequence not in offer:
        st.warning("The link names a sequence that was dropped in another session; showing another.")
    key = ui.choose(
        "sequence",
        st.selectbox,
        "Sequence",
        list(offer),
        format_func=lambda key: offer[key].title if offer[key].found is None else f"Yours: {offer[key].title}",
        width=280,
        help="Glides: a camera moves evenly along a rail of garments that no demo checkpoint was trained on.",
    )
    with st.container(key="expert_every", width=150):
        every = ui.choose(
            "every",
            st.selectbox,
            "Take every … frame",
            EVERY,
            format_func=lambda every: "every frame" if every == "1" else f"every {ordinal(int(every))} frame",
            help="For videos, whose frames hardly differ from one to the next. A wide strip keeps all of its windows.",
        )
    return offer[key], int(every)


def show(active: ui.Active, clip: sequences.Clip, film: Film, frames_seen: int | None) -> None:
    lstm = choose_lstm(active)
    try:
        seen = sequences.see(active, film)
        forecast = seen and sequences.forecast(active, lstm, film, seen, frames_seen)
    except ValueError as error:
        st.error(f"Nothing can be shown: {escape_markdown(str(error))}", icon=":material/error:")
        return
    if seen is None or forecast is None:
        return
    scene = Scene(active, lstm, clip, film, seen, frames_seen)
    caveats(scene)
    verdict(scene, forecast)
    frame = play(scene, forecast)
    left, right = st.columns(2)
    with left:
        errors(scene, forecast)
    with right:
        trajectory(scene, forecast)
    if lstm is not None:
        order_matters(scene)
    with st.container(key="expert_exports"):
        take_along(scene, forecast, frame)


def choose_lstm(active: ui.Active) -> LoadedSequence | None:
    """The sequence model; where none belongs to the autoencoder, how to come by one."""
    offer = sequences.sequence_models(active)
    for problem in offer.problems:
        st.warning(escape_markdown(problem), icon=":material/broken_image:")
    if not offer.fitting:
        there = ", ".join(sorted({escape_markdown(name) for name in offer.others.values()}))
        st.info(
            "**No sequence model belongs to this checkpoint**, so that nothing is predicted here but by guesses."
            + (f" There is one for: {there}; choose that checkpoint in the sidebar." if there else "")
            + (" This one trains one:" if active.is_trained and active.key.endswith(".safetensors") else ""),
            icon=":material/timeline:",
        )
        if active.is_trained and active.key.endswith(".safetensors"):
            st.code(
                f"python -m tae.train_sequence --checkpoint {shlex.quote(f'checkpoints/{active.key}')}", language="bash"
            )
        return None
    titles = {name: listed.card.name if listed.card else name for name, listed in offer.fitting.items()}
    name = next(iter(titles))
    if len(titles) > 1:
        name = ui.choose("lstm", st.selectbox, "Sequence model", list(titles), format_func=titles.get, width=320)
    try:
        return sequences.load_lstm(active, offer.fitting[name])
    except CheckpointError as error:
        st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
        return None


def choose_forecast(count: int) -> int | None:
    """How many frames come before a roll-out; None: one step ahead."""
    way = ui.choose(
        "forecast",
        st.segmented_control,
        "What is predicted",
        list(FORECASTS),
        format_func=lambda way: FORECASTS[way],
        help=f"One step ahead: each frame from the true ones before it. Roll-out: {STEPS} frames in a row, each prediction "
        "taken for the truth by the next.",
    )
    if way == "step":
        return None
    options = [str(number) for number in range(1, count + 1)]
    if st.session_state.seen not in options:
        st.session_state.seen = str(min(SEEN, count - 1))
    with st.container(width=240):
        seen = ui.choose("seen", st.select_slider, "After frame", options)
    return int(seen)


def caveats(scene: Scene) -> None:
    if scene.clip.found is None:
        st.caption("Composed from garment photographs of the test split, which no demo checkpoint was trained on.")
    if scene.film.notes or scene.film.skipped:
        names = scene.clip.names
        left_out = (f"{names.get(name, name)} is left out: {reason}" for name, reason in scene.film.skipped[:3])
        told = [*scene.film.notes, *left_out]
        more = f"; {len(scene.film.skipped) - 3} more left out" if len(scene.film.skipped) > 3 else ""
        st.caption(escape_markdown("; ".join(told)) + more)
    if scene.lstm is not None and not scene.lstm.card.is_trained:
        st.error(
            "**Untrained.** This sequence model has random weights: what it predicts is not anything learnt.",
            icon=":material/warning:",
        )
    elif scene.lstm is not None and (scene.clip.found is not None or scene.lstm.card.data != DemoSequences.data):
        st.caption(
            f"The sequence model learnt from {escape_markdown(scene.lstm.card.data)}. What moves otherwise, it never saw."
        )


def verdict(scene: Scene, forecast: Forecast) -> None:
    """One sentence: whether the model is better than guessing."""
    seen = min(SEEN, scene.count - 2) if scene.frames_seen is None else scene.frames_seen
    means = mean_errors(forecast, seen)
    if not means:
        st.info(
            "No true frame is left to compare the prediction with: it goes on after the last one.",
            icon=":material/info:",
        )
        return
    best = min(BASELINES, key=lambda name: means[name])
    where = (
        f"one step ahead, frames {max(seen, 1) + 1} to {scene.count}"
        if scene.frames_seen is None
        else f"rolled out over frames {seen + 1} to {min(scene.count, seen + STEPS)}"
    )
    ceiling = f"The autoencoder of the true frames, a ceiling and no prediction: {told(means[CEILING])}."
    if LSTM not in means:
        st.info(f"**Best guess, {where}: {best}, {told(means[best])}.** {ceiling}", icon=":material/info:")
    elif told(means[LSTM]) == told(means[best]):
        st.info(
            f"**LSTM, {where}: {told(means[LSTM])}, no better and no worse than {best}.** {ceiling}",
            icon=":material/info:",
        )
    elif means[LSTM] < means[best]:
        st.success(
            f"**LSTM, {where}: {told(means[LSTM])}**, better than the best guess that needs no LSTM ({best}: "
            f"{told(means[best])}). {ceiling}",
            icon=":material/check:",
        )
    else:
        st.warning(
            f"**LSTM, {where}: {told(means[LSTM])}, worse than {best} ({told(means[best])}).** Here the LSTM adds "
            f"nothing to a guess. {ceiling}",
            icon=":material/trending_down:",
        )


def told(mse: float) -> str:
    return f"error {mse:.4f} ({psnr_of(mse):.1f} dB)" if mse > 0 else "error 0"


def rows_of(scene: Scene, forecast: Forecast) -> list[Row]:
    rows = [
        Row("True frames", "What came, at the model's size.", scene.film.frames),
        Row(
            RECONSTRUCTION,
            "The autoencoder of this very frame: what no prediction through a latent can be much better than.",
            scene.seen.recons,
            errors=scene.seen.mse,
        ),
    ]
    rows += [
        Row(
            name if name == LSTM else name[0].upper() + name[1:],
            HELP[name],
            forecast.images[name],
            forecast.first,
            forecast.mse[name],
            is_shown=name == (LSTM if scene.lstm else COPY),
        )
        for name in (LSTM, *BASELINES)
        if name in forecast.images
    ]
    return rows


def play(scene: Scene, forecast: Forecast) -> int:
    state = st.session_state
    asked = int(state.frame) - 1 if state.frame.isascii() and state.frame.isdigit() else -1
    longest = max(scene.count, forecast.first + max(map(len, forecast.images.values())))
    if not 0 <= asked < longest:
        asked = min(SEEN if scene.frames_seen is None else scene.frames_seen, longest - 1)
    notes = [] if scene.is_trained else [("error", "Untrained model: random weights.")]
    frame = player(
        rows_of(scene, forecast),
        key="sequences_player",
        frame=asked,
        seen=scene.frames_seen,
        notes=notes,
        error_name="mean squared error",
    )
    state.frame = str(frame + 1)
    if frame < scene.count and st.button(
        f"Open frame {frame + 1} on the page Attention",
        icon=":material/grid_on:",
        help="The frame is added to your pictures, and the page shows where its patches place weight.",
        key="sequences_attention",
    ):
        refused = sequences.add_frame(scene.clip, scene.film, frame)
        if refused is None:
            st.switch_page("pages/attention.py")
        st.error(f"The frame is not added: {refused}")
    return frame


def errors(scene: Scene, forecast: Forecast) -> None:
    st.subheader("Error of each frame")
    curves = {name: (np.arange(len(mse)) + forecast.first + 1.0, mse) for name, mse in forecast.mse.items() if len(mse)}
    if not curves:
        st.caption("There is no true frame to compare with.")
        return
    st.plotly_chart(
        plot_curves(curves, "Frame", "Mean squared error"),
        key="sequences_errors",
        config={"displayModeBar": False},
        alt="Mean squared error of each method, frame by frame",
    )
    st.caption(
        "Lower is better; 0 is the true frame to the pixel. "
        + (
            "Early on, few frames have been seen, and nobody can know how fast the picture moves."
            if scene.frames_seen is None
            else "Errors add up: each prediction is made from the ones before."
        )
    )


def trajectory(scene: Scene, forecast: Forecast) -> None:
    st.subheader("The way through latent space")
    pca = sequences.plane(scene.seen)
    if pca is None:
        st.caption("All frames have the same latent, or lie on one line: there is no plane to draw.")
        return
    shares = pca.variances[:2] / pca.variances.sum()
    name = LSTM if scene.lstm else LINEAR
    st.plotly_chart(
        plot_trajectory(
            pca.project(scene.seen.latents, 2),
            pca.project(forecast.latents[name], 2),
            forecast.first,
            (f"Component 1 ({shares[0]:.0%} of the variance)", f"Component 2 ({shares[1]:.0%})"),
            scene.frames_seen is None,
            name,
        ),
        key="sequences_trajectory",
        config={"displaylogo": False},
        alt="Latents of the frames on the plane in which they vary most, with those predicted",
    )
    st.caption(
        f"Each point is a frame's latent, by number; crosses are predicted latents. Two of "
        f"{scene.active.config.latent_dim} dimensions, those in which this sequence varies most: {shares.sum():.0%} of its "
        "variance. Points that lie together here can be apart in the others."
    )


def order_matters(scene: Scene) -> None:
    st.subheader("Which frames does the prediction hang on?")
    assert scene.lstm is not None
    frames_seen = scene.frames_seen or scene.count
    if frames_seen < 2:
        st.caption("One frame has no order: let the roll-out begin later.")
        return
    found = sequences.influences(scene.active, scene.lstm, scene.film, scene.seen, frames_seen)
    if found is None:
        return
    st.plotly_chart(
        plot_influence(found.dropped, found.swapped, found.shuffled),
        key="sequences_influence",
        config={"displayModeBar": False},
        alt="Change of the predicted frame when a frame is dropped, or two are exchanged",
    )
    most = int(found.dropped.argmax()) + 1
    early = float(found.dropped[: max(1, frames_seen - 4)].max())
    st.caption(
        f"The prediction of frame {frames_seen + 1}, after {frames_seen} frames: how far its picture moves (mean squared "
        f"change) without each of them, and with neighbours exchanged. Frame {most} matters most ({found.dropped.max():.2g}); "
        f"of those more than four before the end, none moves it by more than {early:.2g}. Shuffling all but the last moves it "
        f"by {found.shuffled:.2g}. A frame that can be dropped may still have been used: its neighbours tell nearly the same."
        if frames_seen > 4
        else f"The prediction of frame {frames_seen + 1}: how far its picture moves (mean squared change) without each of the "
        f"{frames_seen} frames before it, and with neighbours exchanged."
    )


def crossed(height: int, width: int) -> np.ndarray:
    """(H, W) of what stands where there is no picture: grey, and crossed out, as no picture is."""
    rows, columns = np.mgrid[0:height, 0:width]
    falling = rows * width - columns * height
    rising = rows * width - (width - 1 - columns) * height
    return np.where(np.minimum(abs(falling), abs(rising)) < max(height, width), 0.35, 0.7).astype(np.float32)


def take_along(scene: Scene, forecast: Forecast, frame: int) -> None:
    frames, recons = scene.film.frames, scene.seen.recons
    predicted = LSTM if scene.lstm else LINEAR
    longest = max(scene.count, forecast.first + len(forecast.images[predicted]))
    words = ("true", "reconstruction", predicted)

    def triple(number: int) -> list[tuple[np.ndarray, str]]:
        """A frame as it was, as it is reconstructed, and as it was predicted; crossed out where there is no such picture."""
        cells = []
        for word, images, first in zip(
            words, (frames, recons, forecast.images[predicted]), (0, 0, forecast.first), strict=True
        ):
            is_there = first <= number < first + len(images)
            pixels = images[number - first] if is_there else crossed(*frames.shape[1:])
            cells.append((pixels, f"frame {number + 1}, {word}" + ("" if is_there else ": none")))
        return cells

    def gif() -> bytes:
        axis = 0 if frames.shape[2] > 2 * frames.shape[1] else 1
        rows = [np.concatenate([pixels for pixels, _ in triple(number)], axis=axis) for number in range(longest)]
        return encode_gif(rows, frame_ms=200)

    def film_strip(fmt: export.Format) -> bytes:
        numbers = np.unique(np.linspace(0, longest - 1, min(8, longest)).round().astype(int)).tolist()
        rows = list(zip(*map(triple, numbers), strict=True))
        return strips_figure(rows, scene.about, fmt, not scene.is_trained)

    provenance = {
        "sequence": scene.clip.title,
        "checkpoint": scene.active.title,
        "sequence_model": scene.lstm.card.name if scene.lstm else "",
        "trained": scene.is_trained,
    }

    def embeddings() -> bytes:
        return export.metrics_csv(
            [
                provenance
                | {"frame": number + 1}
                | {f"latent_{place}": float(value) for place, value in enumerate(latent)}
                for number, latent in enumerate(scene.seen.latents)
            ]
        )

    def all_errors() -> bytes:
        return export.metrics_csv(
            [
                provenance
                | {"frame": number + 1}
                | {
                    name: float(mse[number - forecast.first]) if 0 <= number - forecast.first < len(mse) else None
                    for name, mse in forecast.mse.items()
                }
                for number in range(forecast.first, scene.count)
            ]
        )

    def arrays() -> bytes:
        found = {"frames": frames, "reconstructions": recons, "latents": scene.seen.latents}
        for name, images in forecast.images.items():
            word = name.replace(" ", "_")
            found[f"{word}_frames"] = images
            found[f"{word}_mse"] = forecast.mse[name]
            if name in forecast.latents:
                found[f"{word}_latents"] = forecast.latents[name]
        return export.maps_npz(found, caption=scene.about, first_predicted_frame=str(forecast.first + 1))

    stem = f"{scene.stem}_{'step' if scene.frames_seen is None else f'after_{scene.frames_seen}'}"
    files = [
        ("Animation (GIF)", f"{stem}.gif", "image/gif", gif),
        ("Film strip (PNG)", f"{stem}.png", "image/png", lambda: film_strip("png")),
        ("Film strip (SVG)", f"{stem}.svg", "image/svg+xml", lambda: film_strip("svg")),
        ("Embeddings (CSV)", f"{scene.stem}_embeddings.csv", "text/csv", embeddings),
        ("Errors (CSV)", f"{stem}_errors.csv", "text/csv", all_errors),
        ("All arrays (NPZ)", f"{stem}.npz", "application/octet-stream", arrays),
    ]
    with st.container(horizontal=True):
        for label, name, mime, make in files:
            st.download_button(label, make, name, mime, icon=":material/download:", on_click="ignore")
    st.caption(f"The animation shows, from the left or from above: true frame, reconstruction, {predicted}.")


main()
