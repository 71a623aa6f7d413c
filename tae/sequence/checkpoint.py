"""Checkpoints of sequence models: like those of autoencoders (`tae.store.checkpoint`), and each tells whose embeddings it reads.

Format 1 is a plain safetensors file whose metadata are six texts:

    program          "tae sequence"
    format_version   "1"
    config           the fields of `SequenceConfig`, as JSON
    autoencoder      {"name", "sha256", "config", "is_inside"}, as JSON
    card             the fields of `Card`, as JSON
    sha256           `tae.store.sealed.seal` of the other texts and every tensor

The autoencoder's own weights are inside only where they were trained too; else they are those of its checkpoint, which must
be given, and must have the SHA-256 that is written here. That one is of shapes and weights, not of a file: a new card or name
does not change it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import torch

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, config_from_dict, config_to_dict
from tae.sequence.model import SequenceConfig, SequenceModel
from tae.store.card import Card, clean_text
from tae.store.checkpoint import CheckpointError, refusing
from tae.store.names import natural_order
from tae.store.sealed import (
    DTYPES,
    Header,
    describe,
    digests_of,
    open_regular,
    parse_json,
    read_contents,
    read_header,
    seal,
    shown,
    to_json,
    write_tensors,
)

PROGRAM = "tae sequence"
FORMAT_VERSION = 1
_TEXTS = ("format_version", "config", "autoencoder", "card")
_SHAPES = ("input_size", "patch_size", "latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio")


@dataclass(frozen=True)
class Belongs:
    """The autoencoder that a sequence model reads the embeddings of.

    Attributes:
        name: Its card's.
        sha256: `autoencoder_digest` of it, in hex; where it was trained too, of what it became.
        config: Its shape.
        is_inside: Whether its weights are in the file.
    """

    name: str
    sha256: str
    config: ModelConfig
    is_inside: bool


@dataclass(frozen=True)
class LoadedSequence:
    """A checkpoint in memory, independent of its file from here on.

    Attributes:
        model: In eval mode, on the CPU, float32; holds its autoencoder.
        card: Its model card.
        belongs: Its autoencoder, as the file tells.
        digest: SHA-256 of the file's bytes, in hex.
    """

    model: SequenceModel
    card: Card
    belongs: Belongs
    digest: str


@dataclass(frozen=True)
class ListedSequence:
    """A checkpoint file as its header describes it; what is None could not be read, and `error` says why."""

    path: Path
    card: Card | None
    config: SequenceConfig | None
    belongs: Belongs | None
    error: str | None


def autoencoder_digest(model: TransformerAutoencoder) -> str:
    """SHA-256, in hex, of what an autoencoder computes: its shape and its weights as float32."""
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in model.state_dict().items()
    }
    shape = {name: config_to_dict(model.config)[name] for name in _SHAPES}
    return seal([json.dumps(shape)], describe(weights), digests_of(weights))


def save_sequence(path: Path | str, model: SequenceModel, card: Card, autoencoder_name: str) -> Path:
    """Write a checkpoint, whole or not at all.

    Args:
        path: Where it goes.
        model: Its autoencoder's weights are written only where it is fine-tuned.
        card: Its model card.
        autoencoder_name: What the autoencoder is called, for whoever looks for it.

    Raises:
        CheckpointError: If a number is NaN or infinite.
        ValueError: If the path exists and is no regular file.
        OSError: If the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a new or a regular file, got {path}")
    tensors = {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in sorted(model.own_state().items())
    }
    belongs = {
        "name": clean_text(autoencoder_name, 80),
        "sha256": autoencoder_digest(model.autoencoder),
        "config": config_to_dict(model.autoencoder.config),
        "is_inside": model.fine_tune,
    }
    metadata = {
        "program": PROGRAM,
        "format_version": str(FORMAT_VERSION),
        "config": to_json(asdict(model.config)),
        "autoencoder": to_json(belongs),
        "card": to_json(asdict(card)),
    }
    with refusing(path.name):
        _check_finite(tensors)
    texts = [metadata[name] for name in _TEXTS]
    write_tensors(path, tensors, {**metadata, "sha256": seal(texts, describe(tensors), digests_of(tensors))})
    return path


def load_sequence(path: Path | str, autoencoder: TransformerAutoencoder | None = None) -> LoadedSequence:
    """Read a checkpoint file, once.

    Args:
        path: The file.
        autoencoder: The one that it belongs to; may be left out where its weights are inside, and then is not used.

    Raises:
        CheckpointError: If it cannot be read, is not a whole and sound checkpoint of a sequence model, or belongs to another
            autoencoder.
    """
    with refusing(Path(path).name), open_regular(Path(path)) as (file, size):
        header, config, belongs, card = _inspect(file, size)
        if not belongs.is_inside:
            _check_belongs(belongs, autoencoder)
        contents = read_contents(file, header)
        found = {entry.name: (entry.dtype, entry.shape) for entry in header.entries}
        if seal([header.metadata[name] for name in _TEXTS], found, contents.digests) != header.metadata["sha256"]:
            raise ValueError("the file is damaged: its content does not have the SHA-256 that it was saved with")
        _check_finite(contents.tensors)
        tensors = {name: tensor.float() for name, tensor in contents.tensors.items()}
        if belongs.is_inside or autoencoder is None:
            autoencoder = _meta_autoencoder(belongs.config)
        with torch.device("meta"):
            model = _model(autoencoder, config, belongs.is_inside)
        model.load_state_dict(tensors, strict=False, assign=True)  # the names are known to be all of its own
        if belongs.is_inside and autoencoder_digest(model.autoencoder) != belongs.sha256:
            raise ValueError("the autoencoder inside is not the one that it names")
        return LoadedSequence(model.eval(), card, belongs, contents.file_digest)


def inspect_sequence(path: Path | str) -> ListedSequence:
    """A checkpoint as its header tells, for lists; never raises for what is in the file."""
    path = Path(path)
    try:
        with refusing(path.name), open_regular(path) as (file, size):
            _, config, belongs, card = _inspect(file, size)
    except CheckpointError as error:
        return ListedSequence(path, None, None, None, str(error))
    return ListedSequence(path, card, config, belongs, None)


def list_sequences(folder: Path | str) -> list[ListedSequence]:
    """The checkpoint files of a folder, in the natural order of their names; [] where there is no folder."""
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: natural_order(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [inspect_sequence(path) for path in paths if path.suffix.lower() == ".safetensors" and path.is_file()]


def _model(autoencoder: TransformerAutoencoder, config: SequenceConfig, fine_tune: bool) -> SequenceModel:
    fields_of = {name: value for name, value in asdict(config).items() if name != "latent_dim"}
    return SequenceModel(autoencoder, **fields_of, fine_tune=fine_tune)


def _meta_autoencoder(config: ModelConfig) -> TransformerAutoencoder:
    with torch.device("meta"):
        return TransformerAutoencoder(config)


def _check_belongs(belongs: Belongs, autoencoder: TransformerAutoencoder | None) -> None:
    if autoencoder is None:
        raise ValueError(f"it needs its autoencoder, {belongs.name}, beside it")
    if autoencoder_digest(autoencoder) != belongs.sha256:
        raise ValueError(
            f"it belongs to the autoencoder {belongs.name} (SHA-256 {belongs.sha256[:12]}…), and the one given is another "
            f"({autoencoder_digest(autoencoder)[:12]}…); choose that one, or train on this one"
        )


def _inspect(file: BufferedIOBase, size: int) -> tuple[Header, SequenceConfig, Belongs, Card]:
    """Everything that can be known before a tensor is read."""
    header = read_header(file, size)
    metadata = header.metadata
    if metadata.get("program") != PROGRAM:
        what = "; it is an autoencoder's" if metadata.get("program") == "tae" else ""
        raise ValueError(f"not a checkpoint of a sequence model{what}; found {len(header.entries)} tensors")
    version = metadata.get("format_version", "")
    if not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise ValueError(f"its format version must be a number from 1, got {shown(version) or 'none'}")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"it has format {version}, and this program reads up to {FORMAT_VERSION}: update the program")
    lacking = [name for name in (*_TEXTS, "sha256") if name not in metadata]
    if lacking:
        raise ValueError(f"its metadata lack {', '.join(lacking)}")
    config = SequenceConfig(**_fields_of(metadata["config"], SequenceConfig, "config", ("latent_dim",)))
    belongs = _belongs(metadata["autoencoder"])
    card = Card(**_fields_of(metadata["card"], Card, "card", ("name",)))
    if belongs.config.latent_dim != config.latent_dim:
        raise ValueError(
            f"its latent_dim must be its autoencoder's {belongs.config.latent_dim}, got {config.latent_dim}"
        )
    _check_tensors(header, _expected(config, belongs))
    return header, config, belongs, card


def _belongs(text: str) -> Belongs:
    values = _fields_of(text, Belongs, "autoencoder", ("name", "sha256", "config", "is_inside"))
    name, digest, is_inside = values["name"], values["sha256"], values["is_inside"]
    if not isinstance(name, str) or not isinstance(is_inside, bool):
        raise ValueError("its autoencoder must have a name, and say whether it is inside")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("its autoencoder's sha256 must be 64 hexadecimal digits")
    return Belongs(clean_text(name, 80) or "unnamed", digest, config_from_dict(values["config"]), is_inside)


def _fields_of(text: str, kind: Any, what: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """A JSON text as keyword arguments of a dataclass, with no others than it has."""
    values = parse_json(text, f"its {what}")
    known = [field.name for field in fields(kind)]
    if not isinstance(values, dict) or not set(needed) <= values.keys() <= set(known):
        raise ValueError(
            f"its {what} must be a dict with {', '.join(needed)}, and with no fields but {', '.join(known)}"
        )
    return values


def _expected(config: SequenceConfig, belongs: Belongs) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = _model(TransformerAutoencoder(belongs.config), config, belongs.is_inside)
    return {name: tuple(tensor.shape) for name, tensor in model.own_state().items()}


def _check_tensors(header: Header, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not exactly the model's; the first three differences are named."""
    found = {entry.name: entry for entry in header.entries}
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{shown(name)} is unexpected" for name in found if name not in expected]
    wrong += [
        f"{name} must be {[*expected[name]]}, found {[*entry.shape]}"
        for name, entry in found.items()
        if name in expected and entry.shape != expected[name]
    ]
    wrong += [
        f"{shown(entry.name)} is of type {shown(entry.dtype)}" for entry in header.entries if entry.dtype not in DTYPES
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"its tensors are not those of its config: {'; '.join(wrong[:3])}{more}")


def _check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the tensor {name} holds NaN or infinity")
