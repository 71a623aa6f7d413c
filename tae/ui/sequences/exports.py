"""A sequence and its forecast as files: animation, film strip, tables, arrays."""

import numpy as np
import streamlit as st

from tae.data.encode import encode_gif
from tae.plots.export import render, tables
from tae.plots.export.strips import strips_figure
from tae.sequence.forecast import LINEAR, LSTM, Forecast
from tae.ui.sequences.measure import SequenceScene, spread_over
from tae.ui.widgets.downloads import download, download_figure, export


def crossed(height: int, width: int) -> np.ndarray:
    """(H, W) of what stands where there is no image: grey, and crossed out, as no image is."""
    rows, columns = np.mgrid[0:height, 0:width]
    falling = rows * width - columns * height
    rising = rows * width - (width - 1 - columns) * height
    return np.where(np.minimum(abs(falling), abs(rising)) < max(height, width), 0.35, 0.7).astype(np.float32)


def take_along(scene: SequenceScene, forecast: Forecast) -> None:
    frames, recons = scene.film.frames, scene.embedded.recons
    predicted = LSTM if scene.lstm else LINEAR
    longest = max(scene.count, forecast.first + len(forecast.images[predicted]))
    words = ("true", "reconstruction", predicted)

    def triple(number: int) -> list[tuple[np.ndarray, str]]:
        """A frame as it was, as it is reconstructed, and as it was predicted; crossed out where there is no such image."""
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

    def film_strip(fmt: render.Format) -> bytes:
        numbers = spread_over(longest, 8)
        rows = list(zip(*map(triple, numbers), strict=True))
        return strips_figure(rows, scene.about, fmt, scene.warning)

    provenance = {
        "sequence": scene.clip.title,
        "checkpoint": scene.active.title,
        "sequence_model": scene.lstm.card.name if scene.lstm else "",
        "warning": scene.warning,
    }

    def embeddings() -> bytes:
        return tables.metrics_csv(
            [
                provenance
                | {"frame": number + 1}
                | {f"latent_{place}": float(value) for place, value in enumerate(latent)}
                for number, latent in enumerate(scene.embedded.latents)
            ]
        )

    def all_errors() -> bytes:
        return tables.metrics_csv(
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
        found = {"frames": frames, "reconstructions": recons, "latents": scene.embedded.latents}
        for name, images in forecast.images.items():
            word = name.replace(" ", "_")
            found[f"{word}_frames"] = images
            found[f"{word}_mse"] = forecast.mse[name]
            if name in forecast.latents:
                found[f"{word}_latents"] = forecast.latents[name]
        return tables.maps_npz(found, caption=scene.about, first_predicted_frame=str(forecast.first + 1))

    stem = f"{scene.stem}_{'step' if scene.frames_seen is None else f'after_{scene.frames_seen}'}"
    files = [
        ("Animation (GIF)", f"{stem}.gif", gif),
        ("Latents (CSV)", f"{scene.stem}_latents.csv", embeddings),
        ("Errors (CSV)", f"{stem}_errors.csv", all_errors),
        ("All arrays (NPZ)", f"{stem}.npz", arrays),
    ]
    with export():
        download_figure("Film strip", film_strip, stem)
        for label, name, make in files:
            download(label, make, name)
        st.caption(f"The animation shows, from the left or from above: true frame, reconstruction, {predicted}.")
