"""The models that a session can show: checkpoints of the folder, uploaded ones, untrained ones.

The environment variable TAE_CHECKPOINTS names a folder to use in place of `checkpoints/`, runs included.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from tae.analysis import facts
from tae.model.config import ModelConfig, config_to_dict, patch_in_names, patch_in_words, size_in_words
from tae.store.locker import Batch, LockerError, discard
from tae.store.names import plain_text
from tae.store.places import ROOT, SHIPPED
from tae.store.refusals import log_refused
from tae.ui.session import keeping
from tae.ui.session.cache import kept

if TYPE_CHECKING:  # PyTorch takes seconds to import: the first screen does not wait for it
    from tae.store.checkpoint import Listed, Loaded


def checkpoints_folder() -> Path:
    """Where checkpoints and runs lie."""
    return Path(os.environ.get("TAE_CHECKPOINTS") or ROOT / "checkpoints").absolute()


@dataclass(frozen=True)
class Active:
    """The model that the pages show."""

    key: str  # what the link calls it: a file name, "upload-..." or "untrained-..."
    title: str  # what the page calls it; a stranger's text, to be escaped
    loaded: "Loaded"  # model, card and digest
    stale: str = ""  # why it is no longer what its file holds; a sentence, with a stranger's text

    @property
    def config(self) -> ModelConfig:
        return self.loaded.model.config

    @property
    def is_random(self) -> bool:
        """Whether it is known that nothing was learnt."""
        return self.loaded.card.origin == "untrained"

    @property
    def lasts(self) -> bool:
        """Whether what is measured of it may stay on this machine; of what a visitor brought, nothing does."""
        return not self.key.startswith("upload-")

    @property
    def warning(self) -> str:
        """What is said of it wherever it shows; "": nothing."""
        return facts.WARNINGS[self.loaded.card.origin]

    @property
    def data(self) -> str:
        """What its card says of the images that it learnt from."""
        return self.loaded.card.data

    @property
    def test_percentiles(self) -> dict[str, list[float]]:
        """{metric: 101 values} over this checkpoint's held-out images; empty where its card has none."""
        percentiles = self.loaded.card.metrics.get("percentiles", {})
        return {metric: values for metric, values in percentiles.items() if len(values) == 101}


@kept()
def file_digest(path: str, size: int, mtime_ns: int, inode: int) -> str:
    """SHA-256 of a file, in hex; the rest of what is given says whether it is still the same file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@kept("Loading the model…")
def _load_file(digest: str, _path: Path, _name: str | None = None) -> "Loaded":
    from tae.store.checkpoint import CheckpointError, load_checkpoint

    loaded = load_checkpoint(_path, _name)
    if loaded.digest != digest:  # else another model would be kept under this name, for all sessions
        raise CheckpointError(f"{plain_text(_path.name)}: the file changed while it was read; open it again")
    return loaded


@kept("Building the model…")
def _build(config: ModelConfig) -> "Loaded":
    import torch

    from tae.model.autoencoder import TransformerAutoencoder
    from tae.store.checkpoint import Card, Loaded

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerAutoencoder(config).eval()
    card = Card(
        name="untrained", training={"steps": 0}, metrics={}, data="", licence="", notes="Random weights, seed 0."
    )
    digest = hashlib.sha256(repr(config_to_dict(config)).encode()).hexdigest()
    return Loaded(model=model, card=card, digest=digest, size_bytes=0)


def listed_checkpoints() -> "list[Listed]":
    """The checkpoints in `checkpoints/`, readable or not; the shipped ones first."""
    from tae.store.checkpoint import list_checkpoints

    places = {f"{stem}.safetensors": place for place, stem in enumerate(SHIPPED)}
    return sorted(list_checkpoints(checkpoints_folder()), key=lambda one: places.get(one.path.name, len(places)))


def checkpoint_files() -> dict[str, Path]:
    """{file name: path} of `listed_checkpoints`."""
    return {listed.path.name: listed.path for listed in listed_checkpoints()}


@dataclass(frozen=True)
class Brought:
    """A checkpoint that a visitor uploaded."""

    digest: str  # SHA-256 of the file, in hex
    path: Path  # where it is kept
    name: str  # as it was dropped; a stranger's text


def keep_model(data: bytes, name: str) -> Brought:
    """Keep an uploaded checkpoint on disk, unread. Raises CheckpointError if it cannot be kept."""
    from tae.store.checkpoint import CheckpointError

    digest = hashlib.sha256(data).hexdigest()
    known = st.session_state.uploaded_models.get(f"upload-{digest[:12]}")
    if known is not None:
        return known
    try:
        batch = keeping.locker().put("checkpoints", [(name, data), ("digest", digest.encode())])
    except LockerError as error:
        raise CheckpointError(f"{plain_text(name)}: {error}") from error
    return Brought(digest, batch.files[0].path, name)


def add_model(brought: Brought) -> str:
    """Check an uploaded checkpoint and offer it in the session; returns its key.

    Raises CheckpointError, and deletes it, if it is refused.
    """
    from tae.store.checkpoint import CheckpointError

    try:
        _load_file(brought.digest, brought.path, brought.name)
    except CheckpointError as error:
        size = brought.path.stat().st_size if brought.path.exists() else 0  # the day for which it is kept may be over
        log_refused(brought.digest, "checkpoint", size, error)
        discard(Batch(brought.path.parent, ()))
        raise
    key = f"upload-{brought.digest[:12]}"
    st.session_state.uploaded_models[key] = brought
    return key


def restore_models() -> None:
    """The checkpoints that a visitor uploaded before this page was loaded."""
    for batch in keeping.brought_before("checkpoints"):
        with suppress(OSError, ValueError):  # removed meanwhile in another window
            file, digest = batch.files
            brought = Brought(digest.getvalue().decode(), file.path, file.name)
            st.session_state.uploaded_models[f"upload-{brought.digest[:12]}"] = brought


def remove_model(key: str) -> None:
    """Forget an uploaded checkpoint, and delete its file."""
    brought = st.session_state.uploaded_models.pop(key)
    if st.session_state.checkpoint == key:
        st.session_state.checkpoint = ""
    st.session_state.pop("models_brought", None)
    discard(Batch(brought.path.parent, ()))


def twin(active: Active) -> Active:
    """A model of the same shape with random weights: what its maps show was not learnt."""
    config = active.config
    return Active("twin", f"Untrained twin of {active.title}", _build(config))


def add_untrained(config: ModelConfig) -> str:
    """Keep an untrained model for the session; returns its key."""
    key = f"untrained-{config.preset}-{size_in_words(config.input_size)}-{patch_in_names(config.patch_size)}"
    st.session_state.untrained[key] = config
    return key


def load_model(key: str) -> Active:
    """The model that a key names: where its file broke or went while it was in use, as it is in memory still.

    Raises CheckpointError if its file is refused, OSError if it cannot be read, KeyError if there is no such model.
    """
    from tae.store.checkpoint import CheckpointError

    state = st.session_state
    if key in state.untrained:
        config = state.untrained[key]
        return Active(key, model_title(key), _build(config))
    if key in state.uploaded_models:
        brought = state.uploaded_models[key]
        loaded = _load_file(brought.digest, brought.path, brought.name)
    else:
        try:
            path = checkpoint_files()[key]
            info = path.stat()
            digest = file_digest(str(path), info.st_size, info.st_mtime_ns, info.st_ino)
            loaded = _load_file(digest, path)
            state.models_in_use[key] = digest
        except (CheckpointError, OSError, KeyError) as error:
            if key not in state.models_in_use:
                raise
            why = (
                str(error)
                if isinstance(error, CheckpointError)
                else f"{plain_text(key)}: the file can no longer be read"
            )
            with suppress(CheckpointError):  # no longer in memory: it is the file's error then
                loaded = _load_file(state.models_in_use[key], checkpoints_folder() / key)
                return Active(key, loaded.card.name, loaded, f"{why}. The model stays as it was loaded before.")
            del state.models_in_use[key]
            raise
    return Active(key, loaded.card.name, loaded)


def model_title(key: str) -> str:
    """A model's name in the list, without loading it."""
    from tae.store.checkpoint import list_checkpoints

    state = st.session_state
    if key in state.untrained:
        config = state.untrained[key]
        return f"UNTRAINED {config.preset}, {size_in_words(config.input_size)}, {patch_in_words(config.patch_size)}"
    if key in state.uploaded_models:
        return f"Yours: {plain_text(state.uploaded_models[key].name)}"
    return next((listed.name for listed in list_checkpoints(checkpoints_folder()) if listed.path.name == key), key)


def model_summary(active: Active) -> str:
    """Preset, size, parameters and test PSNR in one line of Markdown."""
    config = active.config
    parameters = sum(parameter.numel() for parameter in active.loaded.model.parameters())
    psnr = active.loaded.card.metrics.get("psnr")
    quality = f"test PSNR **{psnr:.1f} dB**" if isinstance(psnr, (int, float)) else "no test figures"
    if active.is_random:
        quality = ":red[**untrained**]"
    elif active.warning:
        quality = ":orange[**origin unknown**]"
    return (
        f"{config.preset or 'own shape'} · {size_in_words(config.input_size)} · {patch_in_words(config.patch_size)} · "
        f"latent {config.latent_dim} · {parameters / 1e6:.1f} M parameters · {quality}"
    )
