"""Sequence models: those that belong to the autoencoder that is shown, and the choice of one."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from tae.sequence.checkpoint import ListedSequence, LoadedSequence, autoencoder_digest, list_sequences, load_sequence
from tae.store.checkpoint import CheckpointError, list_checkpoints
from tae.store.names import escape_markdown, plain_text
from tae.ui.session.cache import MODEL_LOCK, kept
from tae.ui.session.deletion import offer_deletion
from tae.ui.session.models import Active, checkpoints_folder
from tae.ui.session.view import choose


@dataclass(frozen=True)
class OfferedModels:
    """Checkpoints of sequence models."""

    fitting: Mapping[str, ListedSequence]
    """{file name: as its header tells} of those that read the embeddings of the model that is shown."""
    others: Mapping[str, str]
    """{file name: name of the autoencoder that it belongs to}, of the others that predict embeddings or a target."""
    problems: Sequence[str]  # one sentence for each that cannot be shown
    broken: Mapping[str, Path]  # {one sentence for each that cannot be read: its file}


def sequence_models(active: Active) -> OfferedModels:
    """Those in `checkpoints/sequences/`."""
    fitting, others, problems, broken = {}, {}, [], {}
    own, folder = _autoencoder_digest(active), checkpoints_folder() / "sequences"
    found = list_sequences(folder)
    odd = any(listed.error for listed in found)
    autoencoders = {one.path.name for one in list_checkpoints(folder) if one.config} if odd else set()
    for listed in found:
        if listed.belongs is None or listed.config is None:
            moved = f"{plain_text(listed.path.name)}: it is an autoencoder; move it to checkpoints/, to choose it there"
            is_left = listed.path.name in autoencoders  # by an older version, beside its LSTM
            if is_left:
                problems.append(moved)
            else:
                broken[str(listed.error)] = listed.path
        elif listed.config.head != "next" and listed.config.target is None:
            problems.append(f"{plain_text(listed.path.name)}: it predicts no frames, so there is nothing to draw")
        elif listed.belongs.is_inside and (listed.config.target is None or listed.belongs.sha256 != own):
            problems.append(
                f"{plain_text(listed.path.name)}: it has an autoencoder of its own inside; "
                + (
                    "choose that one as the checkpoint, its name ends in _encoder"
                    if listed.config.target
                    else "the page shows none of these"
                )
            )
        elif listed.belongs.sha256 == own:
            fitting[listed.path.name] = listed
        else:
            others[listed.path.name] = listed.belongs.name
    return OfferedModels(fitting, others, problems, broken)


@kept()
def _autoencoder_digest(active: Active) -> str:
    return autoencoder_digest(active.loaded.model)


def load_lstm(active: Active, listed: ListedSequence) -> LoadedSequence:
    """A sequence model with the autoencoder that is shown. Raises CheckpointError if its file is refused."""
    try:
        info = listed.path.stat()
    except OSError as error:
        raise CheckpointError(f"{plain_text(listed.path.name)}: the file can no longer be read") from error
    return _load(str(listed.path), info.st_size, info.st_mtime_ns, info.st_ino, active)


@kept()
def _load(path: str, size: int, changed: int, inode: int, active: Active) -> LoadedSequence:
    with MODEL_LOCK:
        return load_sequence(path, active.loaded.model)


def is_target(lstm: LoadedSequence | None) -> bool:
    """Whether a sequence model predicts a column of a table rather than frames."""
    return lstm is not None and lstm.model.config.target is not None


def choose_lstm(active: Active) -> LoadedSequence | None:
    """The sequence model; where none belongs to the autoencoder, how to come by one."""
    offer = sequence_models(active)
    for problem in (*offer.problems, *offer.broken):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.warning(escape_markdown(problem), icon=":material/broken_image:")
            if problem in offer.broken:
                offer_deletion(offer.broken[problem])
    if not offer.fitting:
        there = ", ".join(sorted({escape_markdown(name) for name in offer.others.values()}))
        st.info(
            "**No sequence model belongs to this checkpoint**, so that nothing is predicted here but by guesses."
            + (f" There is one for: {there}; choose that checkpoint in the sidebar." if there else "")
            + (" This one trains one:" if not active.is_random and active.key.endswith(".safetensors") else ""),
            icon=":material/timeline:",
        )
        if not active.is_random and active.key.endswith(".safetensors"):
            st.code(
                f"python -m tae.train_sequence --checkpoint {shlex.quote(f'checkpoints/{active.key}')}", language="bash"
            )
        return None
    titles = {name: listed.card.name if listed.card else name for name, listed in offer.fitting.items()}
    if len(set(titles.values())) < len(titles):
        titles = {name: f"{title} ({plain_text(name)})" for name, title in titles.items()}
    name = next(iter(titles))
    if len(titles) > 1:
        name = choose("lstm", st.selectbox, "Sequence model", list(titles), format_func=titles.get, width=320)
    try:
        return load_lstm(active, offer.fitting[name])
    except CheckpointError as error:
        st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
        return None
