"""Patch features: point at a patch, and see how alike all others are to it at every depth; principal components as colours."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from tae.analysis.features import Colours, cosine_similarity, principal_colours, read_features
from tae.analysis.lens import depth_names
from tae.analysis.numbers import percent
from tae.data.encode import png_url
from tae.model.config import PARTS
from tae.plots.export import render, tables
from tae.plots.export.strips import strips_figure
from tae.plots.style import QUERY_COLOUR
from tae.ui.session.cache import MODEL_LOCK, kept
from tae.ui.session.scene import Scene
from tae.ui.widgets.downloads import download, download_figure
from tae.web.component import read_script, read_style

_mount = component("tae_features", css=read_style("features"), js=read_script("features"))
MAX_BYTES = 24 * 1024**2  # of what goes to the browser


@dataclass(frozen=True)
class Depth:
    """The patches of one image at one depth of a part."""

    part: str
    name: str  # such as "after layer 0"
    features: np.ndarray  # (N, D)
    similar: np.ndarray  # (N, N) in [-1, 1]
    colours: Colours


def patch_features(scene: Scene) -> list[Depth]:
    """Draw the features of the scene's image; the pinned patch is the link's. Empty, and a sentence, where there are too many."""
    layers = scene.config.encoder_layers + scene.config.decoder_layers + len(PARTS)
    if layers * scene.num_tokens**2 > MAX_BYTES:
        st.info(
            f"The similarities of {scene.num_tokens} patches at {layers} depths are too many to point at; choose a narrower "
            "image, or larger patches.",
            icon=":material/info:",
        )
        return []
    depths = _depths(scene)
    token = token_of(scene)
    ramp = (render.colours("similarity")(np.linspace(0, 1, 64))[:, :3] * 255).round().astype(int).tolist()
    data = {
        "image": png_url(scene.fitted.pixels),
        "size": list(scene.fitted.pixels.shape),
        "tile": list(scene.config.tile_size),
        "grid": list(scene.grid),
        "token": token,
        "depths": [entry(scene, one) for one in depths],
        "parts": [{"title": part.capitalize(), "count": sum(one.part == part for one in depths)} for part in PARTS],
        "ramp": ramp,
        "query": QUERY_COLOUR,
    }
    _mount(key="layers_features", data=data, on_pinned_change=partial(_pin, scene.num_tokens), height="content")
    shares = [sum(one.colours.shares) for one in depths]
    st.caption(
        "Components: the first three principal components of the patches as red, green and blue, fitted on this image and layer "
        f"alone; {percent(min(shares))} to {percent(max(shares))} of the variance."
    )
    return depths


def entry(scene: Scene, one: Depth) -> dict[str, object]:
    """A depth, for the browser."""
    levels = ((one.similar + 1) * 127.5).round().astype(np.uint8)
    return {
        "title": "input" if one.name.startswith("before") else one.name.removeprefix("after "),
        "name": f"{one.part.capitalize()}, {one.name}",
        "similar": base64.b64encode(levels.tobytes()).decode(),
        "low": float(one.similar.min()),
        "colours": png_url((one.colours.rgb.reshape(*scene.grid, 3) * 255).round().astype(np.uint8)),
    }


@kept()
def _depths(scene: Scene) -> list[Depth]:
    with MODEL_LOCK:
        features = {part: read_features(scene.model, scene.batch, part) for part in PARTS}
    return [
        Depth(part, name, at, cosine_similarity(at), principal_colours(at))
        for part, all_of_them in features.items()
        for name, at in zip(depth_names(len(all_of_them) - 1), all_of_them, strict=True)
    ]


def token_of(scene: Scene) -> int:
    """The link's patch; the middle one where it names none."""
    text = st.session_state.query
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else -1
    rows, columns = scene.grid
    return number if 0 <= number < scene.num_tokens else rows // 2 * columns + columns // 2


def _pin(count: int) -> None:
    state = st.session_state.get("layers_features")
    told = state.get("pinned") if isinstance(state, Mapping) else None
    token: Any = told.get("token") if isinstance(told, Mapping) else None
    if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < count:
        st.session_state.query = str(token)


def exports(scene: Scene, depths: list[Depth]) -> None:
    """The features, their similarity to the pinned patch and their components, to take along."""
    token, stem = token_of(scene), f"{scene.stem}_features"
    caption = (
        f"{scene.about} · above: cosine similarity to patch {token} (dark = alike); below: first three principal components of "
        "the patches as red, green, blue, each depth fitted alone"
    )
    low = min(float(one.similar.min()) for one in depths)

    def shares_of(one: Depth) -> np.ndarray:
        return (one.similar[token] - low) / (1 - low) if low < 1 else np.ones(len(one.similar))

    def figure(fmt: render.Format) -> bytes:
        rows = []
        for part in PARTS:
            own = [one for one in depths if one.part == part]
            cells = [render.colours("similarity")(shares_of(one))[:, :3].reshape(*scene.grid, 3) for one in own]
            rows.append([(cell, f"{part}, {one.name}") for cell, one in zip(cells, own, strict=True)])
            rows.append([(one.colours.rgb.reshape(*scene.grid, 3), percent(sum(one.colours.shares))) for one in own])
        return strips_figure(rows, f"{caption}; colours from {low:.2f} to 1", fmt, scene.active.warning)

    def arrays() -> bytes:
        held = {"image": scene.fitted.pixels}
        for part in PARTS:
            own = [one for one in depths if one.part == part]
            held |= {
                f"{part}_features": np.stack([one.features for one in own]),
                f"{part}_similarity": np.stack([one.similar for one in own]),
                f"{part}_components_rgb": np.stack([one.colours.rgb for one in own]),
            }
        return tables.maps_npz(held, caption=caption)

    download_figure("Patch features", figure, stem)
    download("Patch features (NPZ)", arrays, f"{stem}.npz")
