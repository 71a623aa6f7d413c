"""What the pages share: the view and its link, cached models and results, uploads, the sidebar.

The view (which checkpoint, picture, layer, head, patch) lives under its own keys in session state, because a widget's
value dies when its page is left, and is written to the URL, so that a copied link restores it.

The environment variable TAE_CHECKPOINTS names a folder to use in place of `checkpoints/`, runs included.
"""

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from PIL import Image

from tae.config import ModelConfig, config_to_dict, size_in_words
from tae.gallery import OTHERS, Sample, gallery
from tae.images import FIT_MODES, Fitted, ImageError, Picture, escape_markdown, fit_image, plain_text, read_image

if TYPE_CHECKING:  # PyTorch takes seconds to import: the first screen does not wait for it
    from torch import Tensor

    from tae.checkpoint import Loaded
    from tae.metrics import Quality
    from tae.plan import Pace

CHECKPOINTS = Path(os.environ.get("TAE_CHECKPOINTS") or Path(__file__).parent.parent / "checkpoints").absolute()
MAX_UPLOADS = 200
MAX_UPLOAD_BYTES = 300 * 1024**2
MAX_MAP_BYTES = 2 * 10**9
"""Of attention maps that are held at once for one view."""
PAGES = {
    "Reconstruct": ("app.py", ":material/compare:"),
    "Attention": ("pages/attention.py", ":material/grid_on:"),
    "Models": ("pages/models.py", ":material/deployed_code:"),
    "Train": ("pages/train.py", ":material/model_training:"),
}
DEFAULTS: dict[str, str] = {
    "checkpoint": "",
    "image": "",
    "fit": "pad",
    "part": "encoder",
    "layer": "average",
    "head": "mean",
    "query": "",
    "direction": "from",
    "task": "",
    "run": "",
}
"""The view's fields and what they are until somebody chooses; all are texts, as in a link."""

_MODEL_LOCK = threading.Lock()
"""Sessions share two cores: one forward pass at a time is faster for everybody than many at once."""


@dataclass(frozen=True)
class Active:
    """The model that the pages show.

    Attributes:
        key: What the link calls it: a file name, "upload-..." or "untrained-...".
        title: What the page calls it; a stranger's text, to be escaped.
        loaded: Model, card and digest.
    """

    key: str
    title: str
    loaded: "Loaded"

    @property
    def config(self) -> ModelConfig:
        return self.loaded.model.config

    @property
    def is_trained(self) -> bool:
        return self.loaded.card.is_trained

    @property
    def test_percentiles(self) -> dict[str, list[float]]:
        """{metric: 101 values} over this checkpoint's held-out images; empty where its card has none."""
        percentiles = self.loaded.card.metrics.get("percentiles", {})
        return {metric: values for metric, values in percentiles.items() if len(values) == 101}


@dataclass(frozen=True)
class Chosen:
    """The picture that the pages show.

    Attributes:
        key: What the link calls it: a sample's key or "upload-...".
        title: What the page calls it; a stranger's text, to be escaped.
        digest: SHA-256 of its pixels or file.
        picture: As it came.
        sample: Where it is from, if it is of the gallery.
    """

    key: str
    title: str
    digest: str
    picture: Picture
    sample: Sample | None = None


@dataclass(frozen=True)
class Result:
    """One picture through one model.

    Attributes:
        fitted: What the model saw, and notes on how it came about.
        recon: (H, W) float32 in [0, 1].
        quality: How far the two are apart.
    """

    fitted: Fitted
    recon: np.ndarray
    quality: "Quality"


# ---------------------------------------------------------------------------------------------- the view and its link


def init_state() -> None:
    """Fill in defaults, and take over what the URL says where somebody opened or edited a link."""
    state = st.session_state
    for field, value in DEFAULTS.items():
        state.setdefault(field, value)
    state.setdefault("uploads", {})
    state.setdefault("uploaded_models", {})
    state.setdefault("untrained", {})
    state.setdefault("upload_round", 0)
    if st.query_params.to_dict() != state.get("written_link"):
        for field in DEFAULTS:
            if field in st.query_params:
                state[field] = st.query_params[field][:200]


def link() -> dict[str, str]:
    """The view as URL parameters; what stands at its default is left out."""
    return {field: st.session_state[field] for field, default in DEFAULTS.items() if st.session_state[field] != default}


def write_link() -> None:
    """Put the view into the URL; called at the end of a page, when every field has been checked."""
    current = link()
    if st.query_params.to_dict() != current:
        st.query_params.from_dict(current)
    st.session_state["written_link"] = current


def choose(field: str, widget: Any, label: str, options: Sequence[str], **settings: Any) -> str:
    """A selection widget that is bound to one field of the view.

    Args:
        field: Of `DEFAULTS`; a value that is not among the options becomes the first option.
        widget: `st.selectbox`, `st.segmented_control` or a column's.
        label: Shown above it.
        options: Texts; `format_func` in `settings` makes them readable.
        settings: Handed on to the widget.

    Returns:
        The chosen option.
    """
    state = st.session_state
    if state[field] not in options:
        state[field] = options[0]
    key = f"choose_{field}"
    state[key] = state[field]

    def keep() -> None:
        if state[key] is not None:  # a second click on a segment would empty it
            state[field] = state[key]

    widget(label, options, key=key, on_change=keep, **settings)
    return state[field]


# -------------------------------------------------------------------------------------------------- models and results


@st.cache_data(max_entries=64, show_spinner=False)
def _file_digest(path: str, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@st.cache_resource(max_entries=4, show_spinner="Loading the model…")
def _load_file(digest: str, _path: Path) -> "Loaded":
    from tae.checkpoint import load_checkpoint

    return load_checkpoint(_path)


@st.cache_resource(max_entries=4, show_spinner="Loading the model…")
def _load_bytes(digest: str, _data: bytes, _name: str) -> "Loaded":
    from tae.checkpoint import read_checkpoint

    return read_checkpoint(_data, _name)


@st.cache_resource(max_entries=4, show_spinner="Building the model…")
def _build(config_text: str, _config: ModelConfig) -> "Loaded":
    import torch

    from tae.checkpoint import Card, Loaded
    from tae.model import TransformerAutoencoder

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerAutoencoder(_config).eval()
    card = Card(name="untrained", training={}, metrics={}, data="", licence="", notes="Random weights, seed 0.")
    digest = hashlib.sha256(config_text.encode()).hexdigest()
    return Loaded(model=model, card=card, digest=digest, size_bytes=0)


def checkpoint_files() -> dict[str, Path]:
    """{file name: path} of the checkpoints in `checkpoints/`, readable or not."""
    from tae.checkpoint import list_checkpoints

    return {listed.path.name: listed.path for listed in list_checkpoints(CHECKPOINTS)}


def add_model(data: bytes, name: str) -> str:
    """Check an uploaded checkpoint and keep it for the session; returns its key.

    Raises:
        CheckpointError: If it is refused.
    """
    digest = hashlib.sha256(data).hexdigest()
    _load_bytes(digest, data, name)
    key = f"upload-{digest[:12]}"
    st.session_state.uploaded_models[key] = (digest, data, name)
    return key


def add_untrained(config: ModelConfig) -> str:
    """Keep an untrained model for the session; returns its key."""
    patch = "one-token" if config.patch_size is None else f"p{config.patch_size}"
    key = f"untrained-{config.preset}-{size_in_words(config.input_size)}-{patch}"
    st.session_state.untrained[key] = config
    return key


def load_model(key: str) -> Active:
    """The model that a key names.

    Raises:
        CheckpointError: If its file is refused.
        KeyError: If there is no such model.
    """
    state = st.session_state
    if key in state.untrained:
        config = state.untrained[key]
        return Active(key, model_title(key), _build(repr(config_to_dict(config)), config))
    if key in state.uploaded_models:
        digest, data, name = state.uploaded_models[key]
        loaded = _load_bytes(digest, data, name)
    else:
        path = checkpoint_files()[key]
        info = path.stat()
        loaded = _load_file(_file_digest(str(path), info.st_size, info.st_mtime_ns, info.st_ino), path)
    return Active(key, loaded.card.name, loaded)


def model_title(key: str) -> str:
    """What the list of models calls a key, without loading it."""
    from tae.checkpoint import list_checkpoints

    state = st.session_state
    if key in state.untrained:
        config = state.untrained[key]
        patch = "one token" if config.patch_size is None else f"patch {config.patch_size}"
        return f"UNTRAINED {config.preset}, {size_in_words(config.input_size)}, {patch}"
    if key in state.uploaded_models:
        return f"Yours: {plain_text(state.uploaded_models[key][2])}"
    return next((listed.name for listed in list_checkpoints(CHECKPOINTS) if listed.path.name == key), key)


def fit(active: Active, chosen: Chosen) -> Fitted:
    """The picture as the model sees it.

    Raises:
        ImageError: If it cannot be brought to the model's size.
    """
    config = active.config
    return _fit(config.input_size, config.max_width, st.session_state.fit, chosen.digest, chosen.picture)


@st.cache_data(max_entries=256, show_spinner=False)
def _fit(input_size: tuple[int, int | None], max_width: int, mode: str, digest: str, _picture: Picture) -> Fitted:
    return fit_image(_picture.pixels, input_size, mode, max_width)


def reconstruct(active: Active, chosen: Chosen) -> Result:
    """The picture through the model, measured.

    Raises:
        ImageError: If it cannot be brought to the model's size.
    """
    fitted = fit(active, chosen)
    return _reconstruct(active.loaded.digest, chosen.digest, st.session_state.fit, active.loaded, fitted)


@st.cache_data(max_entries=256, show_spinner=False)
def _reconstruct(model_digest: str, digest: str, mode: str, _loaded: "Loaded", _fitted: Fitted) -> Result:
    import torch

    from tae.metrics import measure

    with _MODEL_LOCK, torch.inference_mode():
        recon = _loaded.model(_as_batch(_fitted))[0].clamp(0, 1)[0, 0].numpy()
    return Result(_fitted, recon, measure(_fitted.pixels, recon))


def attention_maps(active: Active, fitted: Fitted, part: str) -> dict[str, np.ndarray]:
    """{"layer_0": (N, N), ..., "average": (N, N)} float32, rows = query; read only."""
    return _attention_maps(active.loaded.digest, _digest(fitted), part, active.loaded, fitted)


@st.cache_resource(max_entries=8, show_spinner="Computing attention…")
def _attention_maps(
    model_digest: str, digest: str, part: str, _loaded: "Loaded", _fitted: Fitted
) -> dict[str, np.ndarray]:
    with _MODEL_LOCK:
        maps = _loaded.model.get_attention_maps(_as_batch(_fitted), part=part)
    return {name: _read_only(attention_map[0].numpy()) for name, attention_map in maps.items()}


def attention_heads(active: Active, fitted: Fitted, part: str, layer: int) -> np.ndarray:
    """(heads, N, N) float32 of one layer, read only."""
    return _attention_heads(active.loaded.digest, _digest(fitted), part, layer, active.loaded, fitted)


@st.cache_resource(max_entries=4, show_spinner="Computing the heads…")
def _attention_heads(
    model_digest: str, digest: str, part: str, layer: int, _loaded: "Loaded", _fitted: Fitted
) -> np.ndarray:
    with _MODEL_LOCK:
        return _read_only(_loaded.model.get_attention_heads(_as_batch(_fitted), layer, part=part)[0].numpy())


def recomputation_error(active: Active, fitted: Fitted, part: str, layer: int) -> float:
    """Largest difference between recomputed weights @ V and the fused output, in one layer."""
    return _recomputation_error(active.loaded.digest, _digest(fitted), part, layer, active.loaded, fitted)


@dataclass(frozen=True)
class MapSummary:
    """One map in four numbers.

    Attributes:
        largest: Its largest weight, in x uniform.
        entropy_share: Mean entropy of its queries over log N, in [0, 1]; 1: all weight is spread evenly.
        distance: Mean attention distance in pixels.
        on_itself: Mean weight of a patch on itself, in x uniform.
    """

    largest: float
    entropy_share: float
    distance: float
    on_itself: float


def map_summaries(active: Active, fitted: Fitted, part: str) -> dict[str, MapSummary]:
    """Each map of `attention_maps` in four numbers."""
    return _map_summaries(active.loaded.digest, _digest(fitted), part, active, fitted)


@st.cache_data(max_entries=64, show_spinner=False)
def _map_summaries(
    model_digest: str, digest: str, part: str, _active: Active, _fitted: Fitted
) -> dict[str, MapSummary]:
    from tae import attention

    config = _active.config
    grid = config.grid_for(_fitted.pixels.shape[1])
    return {
        name: MapSummary(
            largest=float(one.max()) * len(one),
            entropy_share=float(attention.entropy(one).mean()) / float(np.log(len(one))),
            distance=float(attention.distance(one, grid, config.tile_size[0]).mean()),
            on_itself=float(one.diagonal().mean()) * len(one),
        )
        for name, one in attention_maps(_active, _fitted, part).items()
    }


@st.cache_data(max_entries=256, show_spinner=False)
def _recomputation_error(
    model_digest: str, digest: str, part: str, layer: int, _loaded: "Loaded", _fitted: Fitted
) -> float:
    from tae import attention

    with _MODEL_LOCK:
        return attention.recomputation_error(_loaded.model, _as_batch(_fitted), layer, part)


def without_attention(
    active: Active, chosen: Chosen, fitted: Fitted, part: str, layers: list[int] | None
) -> dict[str, Result]:
    """{what stood in for a picture's attention: the reconstruction}; layers None: all of the part."""
    samples = gallery(active.config.input_size, active.config.max_width)
    other = sample(*next((key, one) for key, one in samples.items() if key != chosen.key))
    height, width = fitted.pixels.shape
    other_fitted = fit_image(other.picture.pixels, (height, width))
    where = None if layers is None else tuple(layers)
    results = _without_attention(
        active.loaded.digest, _digest(fitted), _digest(other_fitted), part, where, active.loaded, fitted, other_fitted
    )
    return dict(zip(("Uniform weights", f"Attention of: {other.title}"), results, strict=True))


@st.cache_data(max_entries=64, show_spinner="Reconstructing without it…")
def _without_attention(
    model_digest: str,
    digest: str,
    other_digest: str,
    part: str,
    layers: tuple[int, ...] | None,
    _loaded: "Loaded",
    _fitted: Fitted,
    _other: Fitted,
) -> list[Result]:
    from tae import causal
    from tae.metrics import measure

    results = []
    with _MODEL_LOCK:
        for replace in (causal.uniform, causal.from_images(_loaded.model, _as_batch(_other), part)):
            recon = causal.reconstruct_with(_loaded.model, _as_batch(_fitted), replace, part, layers)
            pixels = recon.clamp(0, 1)[0, 0].numpy()
            results.append(Result(_fitted, pixels, measure(_fitted.pixels, pixels)))
    return results


def forward_seconds(config: ModelConfig) -> float:
    """Seconds that one image takes through all blocks: one real block is timed, three runs, the fastest counts."""
    import time

    import torch

    from tae.layers import TransformerBlock

    with _MODEL_LOCK, torch.inference_mode():
        block = TransformerBlock(config.latent_dim, config.num_heads, config.mlp_ratio, 0.0, config.use_flash_attention)
        tokens = torch.randn(1, config.num_tokens, config.latent_dim)
        seconds = []
        for _ in range(4):  # the first warms up
            started = time.perf_counter()
            block.eval()(tokens)
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) * (config.encoder_layers + config.decoder_layers)


@st.cache_data(max_entries=64, show_spinner="Timing a piece of a step…")
def training_pace(config: ModelConfig, batch_size: int, precision: str, accumulate: int, device: str) -> "Pace":
    """How long a training step takes here.

    Raises:
        ValueError: If a value does not fit.
    """
    from tae.plan import calibrate

    with _MODEL_LOCK:
        return calibrate(config, batch_size, precision, accumulate, device=device, seconds=2)  # type: ignore[arg-type]


def _as_batch(fitted: Fitted) -> "Tensor":
    import torch

    return torch.from_numpy(np.array(fitted.pixels, np.float32))[None, None]


def _digest(fitted: Fitted) -> str:
    return hashlib.sha256(fitted.pixels.tobytes() + str(fitted.pixels.shape).encode()).hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


# ------------------------------------------------------------------------------------------------------------ pictures


def add_pictures(files: Sequence[Any]) -> list[str]:
    """Read dropped files and keep them for the session; shows the first of them.

    Returns:
        One sentence for each file that could not be read; the others are kept.
    """
    uploads = st.session_state.uploads
    problems, added = [], []
    bar = st.progress(0.0, "Reading…") if len(files) > 5 else None
    for number, file in enumerate(files, start=1):
        name = plain_text(file.name)
        data = file.getvalue()
        used = sum(size for _, size in uploads.values())
        digest = hashlib.sha256(data).hexdigest()
        key = f"upload-{digest[:12]}"
        if key in uploads:
            added.append(key)
        elif len(uploads) >= MAX_UPLOADS or used + len(data) > MAX_UPLOAD_BYTES:
            problems.append(
                f"{name}: a session keeps at most {MAX_UPLOADS} pictures and {MAX_UPLOAD_BYTES // 1024**2} MB; "
                "remove some first."
            )
        else:
            try:
                picture = read_image(data, file.name)
            except ImageError as error:
                problems.append(f"{name}: {error}")
            else:
                uploads[key] = (Chosen(key, name, digest, picture), len(data))
                added.append(key)
        if bar:
            bar.progress(number / len(files), f"Reading… {number} of {len(files)}")
    if bar:
        bar.empty()
    if added:
        st.session_state.image = added[0]
    return problems


def uploaded() -> list[Chosen]:
    """The session's own pictures, in the order in which they came."""
    return [chosen for chosen, _ in st.session_state.uploads.values()]


def remove_pictures() -> None:
    """Forget the session's own pictures."""
    st.session_state.uploads = {}


@st.cache_data(max_entries=64, show_spinner=False)
def _sample_picture(key: str, note: str, _sample: Sample) -> tuple[Picture, str]:
    pixels = _sample.load()
    grey = pixels if pixels.ndim == 2 else np.round(pixels @ np.array([0.299, 0.587, 0.114]))
    notes = () if pixels.ndim == 2 else ("colour turned to grey (luma .299 R + .587 G + .114 B)",)
    picture = Picture((grey / 255).astype(np.float32), notes, "sample", pixels)
    return picture, hashlib.sha256(pixels.tobytes()).hexdigest()


def sample(key: str, one: Sample) -> Chosen:
    """A picture of the gallery."""
    picture, digest = _sample_picture(key, one.note, one)  # rails of one key differ in size, which their note tells
    return Chosen(key, one.title, digest, picture, one)


# ------------------------------------------------------------------------------------------------- sidebar and notices


def setup(page: str) -> tuple[Active, Chosen]:
    """What a page calls first: page settings, state, sidebar; stops the page with a sentence if nothing loads."""
    _begin(page)
    with st.sidebar:
        active = _choose_model()
        if active is None:
            st.stop()
            raise AssertionError("st.stop ends the script")
        chosen = _choose_picture(active)
    _warn_if_untrained(active)
    return active, chosen


def setup_without_model(page: str) -> None:
    """The same for a page that works before there is any checkpoint."""
    _begin(page)
    active = None
    with st.sidebar:
        if checkpoint_files() or st.session_state.uploaded_models or st.session_state.untrained:
            active = _choose_model()
        else:
            st.caption("No checkpoint yet: the first training makes one.")
    if active is not None:
        _warn_if_untrained(active)


def _begin(page: str) -> None:
    st.set_page_config(page_title=f"{page} · tae", page_icon=_icon(), layout="wide")
    # Streamlit leaves a hand's breadth above every page; the first screen needs it for the pictures.
    st.html(
        "<style>.stMainBlockContainer {padding-top: 3.4rem; padding-bottom: 3rem; max-width: 1500px}"
        # Columns stand below each other where the window is narrow, instead of shrinking to nothing.
        " .stMain [data-testid='stColumn'] {min-width: 10.5rem}"
        # White pictures on a white page need an edge.
        " .stMain [data-testid='stImage'] img {outline: 1px solid rgba(128, 128, 128, 0.3); outline-offset: -1px}"
        " .st-key-attention_panels [data-testid='stColumn'], [class*='st-key-train_wide'] [data-testid='stColumn']"
        " {min-width: 22rem}"
        # What draws itself anew every few seconds must not fade each time.
        " .st-key-train_live [data-stale='true'] {opacity: 1 !important}"
        " .st-key-train_take [data-testid='stMetricValue'] {font-size: 1.5rem}</style>"
    )
    init_state()
    with st.sidebar:
        st.markdown("## tae\nSee, and test, what a transformer autoencoder does with an image.")
        for title, (path, icon) in PAGES.items():
            st.page_link(path, label=title, icon=icon, query_params=link(), width="stretch")


def _warn_if_untrained(active: Active) -> None:
    if not active.is_trained:
        st.error(
            "**Untrained.** This model has random weights: what it shows is its architecture, not anything learnt.",
            icon=":material/warning:",
        )


def _icon() -> Image.Image:
    """A small attention map as the browser tab's icon; Streamlit's own icons would be fetched from the internet."""
    cells = np.array([[9, 2, 1, 0], [3, 8, 3, 1], [1, 2, 9, 3], [6, 1, 2, 8]]) / 9
    ramp = (1 - cells)[..., None] * np.array([235, 222, 150]) + cells[..., None] * np.array([10, 40, 110])
    return Image.fromarray(ramp.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)


def _choose_model() -> Active | None:
    """The model that somebody chooses, or the first one that loads; None where none does, which the sidebar says."""
    from tae.checkpoint import CheckpointError

    state = st.session_state
    files = checkpoint_files()
    keys = [*files, *state.uploaded_models, *state.untrained]
    if not keys:
        st.error(
            "There is no checkpoint in `checkpoints/`. Make one on the page Train, or with `python -m tae.train tiny`."
        )
        return None
    if state.checkpoint and state.checkpoint not in keys:
        st.warning(
            "The link names a checkpoint that is not here (uploads last for one session only); showing the first one."
        )
        state.checkpoint = keys[0]
    titles = {key: model_title(key) for key in keys}
    key = choose(
        "checkpoint",
        st.selectbox,
        "Checkpoint",
        keys,
        format_func=lambda key: titles[key],
        help="Everything on the pages is done by this model.",
    )
    for candidate in [key, *(other for other in keys if other != key)]:
        try:
            active = load_model(candidate)
        except CheckpointError as error:
            st.error(escape_markdown(str(error)))
        except OSError:  # it went away since it was listed
            st.error(f"{escape_markdown(plain_text(candidate))}: the file can no longer be read")
        else:
            if candidate != key:
                st.info(f"Showing {escape_markdown(active.title)} instead.")
            st.caption(model_summary(active))
            return active
    return None


def model_summary(active: Active) -> str:
    """Preset, size, parameters and test PSNR in one line of Markdown."""
    config = active.config
    parameters = sum(parameter.numel() for parameter in active.loaded.model.parameters())
    patch = "one token" if config.patch_size is None else f"patch {config.patch_size}"
    psnr = active.loaded.card.metrics.get("psnr")
    quality = f"test PSNR **{psnr:.1f} dB**" if isinstance(psnr, float) else "no test figures"
    if not active.is_trained:
        quality = ":red[**untrained**]"
    return (
        f"{config.preset or 'own shape'} · {size_in_words(config.input_size)} · {patch} · "
        f"latent {config.latent_dim} · {parameters / 1e6:.1f} M parameters · {quality}"
    )


def _choose_picture(active: Active) -> Chosen:
    state = st.session_state
    samples = gallery(active.config.input_size, active.config.max_width)
    own = {chosen.key: chosen for chosen in uploaded()}
    if state.image and state.image not in own and state.image not in samples:
        if state.image.startswith("upload-"):
            st.warning("The link names a picture that was uploaded in another session; showing a sample.")
        state.image = ""
    keys = [*own, *samples]
    if not state.image:
        state.image = next(iter(samples))

    def titled(key: str) -> str:
        if key in own:
            return f"Yours: {own[key].title}"
        return samples[key].title if samples[key].kind != OTHERS else f"{samples[key].title} (unlike training)"

    key = choose("image", st.selectbox, "Image", keys, format_func=titled)
    chosen = own[key] if key in own else sample(key, samples[key])
    choose(
        "fit",
        st.selectbox,
        "Fit to the model's size",
        list(FIT_MODES),
        format_func=lambda mode: FIT_MODES[mode],
        help="Only matters for pictures whose size differs from the model's.",
    )
    return chosen


def panels(pixels: np.ndarray, count: int) -> list[Any]:
    """Places for figures of a picture (H, W): beside each other, two in a row or below each other, as its shape asks."""
    height, width = pixels.shape
    in_a_row = count if width <= 2 * height else 2 if width <= 5 * height else 1
    return [place for _ in range(0, count, in_a_row) for place in st.columns(in_a_row)][:count]


def fit_or_stop(active: Active, chosen: Chosen) -> Fitted:
    """`fit`, with the page ended by one sentence if the picture cannot be fitted."""
    try:
        return fit(active, chosen)
    except ImageError as error:
        st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}")
        write_link()
        st.stop()
        raise AssertionError("st.stop ends the script") from error
