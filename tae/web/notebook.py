"""The explorer in a notebook: Jupyter, VS Code, Colab; nothing to install, nothing fetched.

tae.show(load_checkpoint("checkpoints/x.safetensors"), "photograph.png")
"""

import copy
import html
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.occlusion import foreground_tokens
from tae.analysis.maps import MapChoice, colour_tops, compute
from tae.data.decode import read_image
from tae.data.fit import FitMode, fit_image
from tae.data.white import AS_FILE, White
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig
from tae.store.atomic import write_whole
from tae.store.checkpoint import Loaded
from tae.store.names import plain_text
from tae.web.explorer import standalone
from tae.web.explorer.payload import Direction, Note, Payload, Range
from tae.web.report.caveats import NOT_EXPLANATION, ONE_TOKEN, UNKNOWN, about_image, about_map, of_origin
from tae.web.report.findings import as_batch, errors_of_parts, explorable, query_of, statuses, verdicts_on
from tae.web.report.markup import notes_page
from tae.web.report.pair import find_pair, pair_page
from tae.web.report.request import ReportImage, ReportMap

MAX_BYTES = 4_000_000  # of the page: a notebook keeps it in its file


@dataclass(frozen=True, repr=False)
class Shown:
    """The result of `show`; a notebook displays it where it is the last line of a cell."""

    page: str  # a complete HTML page
    title: str  # what it shows
    height: int  # of the frame in the notebook, in pixels

    def _repr_html_(self) -> str:
        # A frame of its own: the notebook's style and scripts and the explorer's do not reach each other. In ASCII, so
        # that whatever encoding the notebook is shown in, the script keeps the hash that its policy names.
        texts = (self.page, self.title)
        page, title = (html.escape(text).encode("ascii", "xmlcharrefreplace").decode() for text in texts)
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{page}" title="{title}" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<{self.title}; shows in a notebook, .save(path) writes it as HTML>"

    def save(self, path: str | Path) -> Path:
        """Write the page, which a browser opens without a server; a file that was there is replaced."""
        path = Path(path)
        write_whole(path, [self.page.encode()])
        return path


def show(
    model: TransformerAutoencoder | Loaded,
    image: np.ndarray | Tensor | str | Path,
    *,
    part: Literal["encoder", "decoder"] = "encoder",
    layer: str | int = "average",
    head: str | int = "mean",
    weighting: Literal["weights", "values"] = "weights",
    discard: float = 0.0,
    query: int | None = None,
    direction: Direction = "from",
    range: Range = "shared",
    fit: FitMode = "pad",
    height: int | None = None,
    other: np.ndarray | Tensor | str | Path | None = None,
) -> Shown:
    """Explore with the pointer where a model places attention in one image.

    Args:
        model: What `load_checkpoint` returned, whose card tells whether it was trained; or a model alone. It is not
            changed, whatever its device, type and mode.
        image: (H, W) float in [0, 1] or uint8 in [0, 255]; a tensor (1, 1, H, W) alike; or the path of an image. It is
            brought to the model's size.
        part: "encoder" or "decoder", shown first as the following are.
        layer: "average", "rollout", or a layer's number.
        head: "mean", "max", "min", "spread", or a head's number.
        weighting: One of `tae.analysis.attention.WEIGHTINGS`, for all maps.
        discard: For rollout, as in `tae.analysis.maps.MapChoice`.
        query: Token number; None: the patch of the foreground that has the strongest weight.
        direction: "from" or "to".
        range: "shared", "full" or "own".
        fit: One of `tae.data.fit.FIT_MODES`.
        height: Height of the frame in pixels; None: what the explorer needs.
        other: A second image: in place of the explorer comes what is measured of two, states of each in the other's run.
            `model` is what `load_checkpoint` returned then.

    Raises:
        ImageError: If the file is no image, or cannot be brought to the model's size.
        ValueError: If another argument does not fit.
        OSError: If the file cannot be read.
    """
    choice = MapChoice(part=part, layer=str(layer), head=str(head), weighting=weighting, discard=discard)
    view = ReportMap(choice=choice, query=query, direction=direction, range=range)
    own = _on_cpu(model.model if isinstance(model, Loaded) else model)
    config = own.config
    choice.check(config)
    white = White.chosen("file", model.card.training) if isinstance(model, Loaded) else AS_FILE
    given = _fitted(image, config, fit, white)
    pixels, title, notes = given.fitted.pixels, given.title, [UNKNOWN]
    data = model.card.data if isinstance(model, Loaded) else ""
    if isinstance(model, Loaded):
        notes = of_origin(model.card)
        title = f"{title}, {plain_text(model.card.name)}"
    if other is not None:
        if not isinstance(model, Loaded):
            raise ValueError("model must be what load_checkpoint returned where there is another image")
        pair = find_pair(replace(model, model=own), given, _fitted(other, config, fit, white))
        return Shown(pair_page(model, pair), f"Two images: {title}", height or 900)
    grid = config.grid_for(pixels.shape[1])
    notes += about_image(given.fitted.notes, None)
    if grid == (1, 1):
        return Shown(notes_page([*notes, ONE_TOKEN], title), title, height or 240)
    batch = as_batch(pixels)
    notes += [Note(one.sentence, "warning") for one in verdicts_on(own, [pixels], data) if one.tells_little]
    computed = compute(own, batch, choice)
    weights = computed.weights.numpy()
    notes += about_map(weights, view, config, grid, computed.hidden_mass)
    opened = query_of(view, weights, foreground_tokens(batch, config).numpy())
    tops = colour_tops(own, batch, weighting)
    status = statuses(config, errors_of_parts(own, pixels))
    made, _ = explorable(own, given, view, opened, tops, [*notes, NOT_EXPLANATION], status, MAX_BYTES)
    return Shown(standalone.page(made, title), title, height or _height(made))


def _height(made: Payload) -> int:
    """Height of a frame for all of an explorer, in pixels: notes take a line for each hundred characters or less."""
    return 790 + sum(28 + 20 * math.ceil(len(note["text"]) / 90) for note in made["notes"])


def _on_cpu(model: TransformerAutoencoder) -> TransformerAutoencoder:
    """The model, or a copy where it is elsewhere, of another type, or training."""
    parameter = next(model.parameters())
    if parameter.device.type == "cpu" and parameter.dtype == torch.float32 and not model.training:
        return model
    return copy.deepcopy(model).to("cpu", torch.float32).eval()


def _fitted(image: np.ndarray | Tensor | str | Path, config: ModelConfig, fit: FitMode, white: White) -> ReportImage:
    """The image at the model's size."""
    title, origin = "image", ()
    if isinstance(image, (str, Path)):
        path = Path(image).expanduser()
        found = read_image(path.read_bytes(), path.name, white)
        title, origin, pixels = plain_text(path.name), found.notes, found.pixels
    else:
        if isinstance(image, Tensor):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()  # numpy has no bfloat16
        pixels = _grey(np.asarray(image))
    fitted = fit_image(pixels, config.input_size, fit, config.max_width)
    return ReportImage(title=title, fitted=fitted, origin=origin, fit=fit)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1] of what may be (1, 1, H, W), uint8, or none of these, which raises ValueError."""
    shape = pixels.shape
    if pixels.ndim == 4 and shape[:2] == (1, 1):
        pixels = pixels[0, 0]
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"image must be (H, W) or (1, 1, H, W), one grayscale image, got shape {shape}")
    if pixels.dtype == np.uint8:
        return (pixels / 255).astype(np.float32)
    if pixels.dtype.kind != "f":
        raise ValueError(f"image must be float in [0, 1] or uint8 in [0, 255], got {pixels.dtype}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # NaN is in no range
        raise ValueError(f"image must be in [0, 1], 0 black, got {low:.3g} to {high:.3g}; scale it")
    return pixels.astype(np.float32)
