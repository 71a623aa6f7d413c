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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, config_from_dict, config_to_dict
from tae.sequence.model import SequenceConfig, SequenceModel
from tae.store.card import Card, clean_text
from tae.store.checkpoint import CheckpointError
from tae.store.names import natural_order
from tae.store.regular import to_json
from tae.store.sealed import Sealed, SealedFile, check_tensors, seal

FILE = SealedFile(
    program="tae sequence",
    texts=("config", "autoencoder", "card"),
    what="a checkpoint of a sequence model",
    error=CheckpointError,
    is_finite=True,
)
_SHAPES = ("input_size", "patch_size", "latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio")


@dataclass(frozen=True)
class Belongs:
    """The autoencoder that a sequence model reads the embeddings of."""

    name: str  # its card's
    sha256: str  # `autoencoder_digest` of it, in hex; where it was trained too, of what it became
    config: ModelConfig  # its shape
    is_inside: bool  # whether its weights are in the file


@dataclass(frozen=True)
class LoadedSequence:
    """A checkpoint in memory, independent of its file from here on."""

    model: SequenceModel  # in eval mode, on the CPU, float32; holds its autoencoder
    card: Card
    belongs: Belongs  # its autoencoder, as the file tells
    digest: str  # SHA-256 of the file's bytes, in hex


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
    return seal([json.dumps(shape)], weights)


def save_sequence(path: Path | str, model: SequenceModel, card: Card, autoencoder_name: str) -> Path:
    """Write a checkpoint, whole or not at all; with the autoencoder's weights only where it is fine-tuned.

    Raises:
        CheckpointError: If a number is NaN or infinite.
        ValueError: If the path exists and is no regular file.
        OSError: If the file cannot be written; nothing is left behind.
    """
    path = Path(path)
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
    config = {name: value for name, value in asdict(model.config).items() if name != "target" or value is not None}
    FILE.write(path, [to_json(config), to_json(belongs), to_json(asdict(card))], tensors)
    return path


def load_sequence(path: Path | str, autoencoder: TransformerAutoencoder | None = None) -> LoadedSequence:
    """Read a checkpoint file, once.

    The autoencoder that it belongs to may be left out where its weights are inside, and then is not used.

    Raises:
        CheckpointError: If it cannot be read, is not a whole and sound checkpoint of a sequence model, or belongs to another
            autoencoder.
    """
    with FILE.open(Path(path)) as sealed:
        config, belongs, card = _inspect(sealed)
        if not belongs.is_inside:
            _check_belongs(belongs, autoencoder)
        contents = sealed.read()
        tensors = {name: tensor.float() for name, tensor in contents.tensors.items()}
        with torch.device("meta"):
            if belongs.is_inside or autoencoder is None:
                autoencoder = TransformerAutoencoder(belongs.config)
            model = _model(autoencoder, config, belongs.is_inside)
        model.load_state_dict(tensors, strict=False, assign=True)  # the names are known to be all of its own
        if belongs.is_inside and autoencoder_digest(model.autoencoder) != belongs.sha256:
            raise ValueError("the autoencoder inside is not the one that it names")
        return LoadedSequence(model.eval(), card, belongs, contents.digest)


def inspect_sequence(path: Path | str) -> ListedSequence:
    """A checkpoint as its header tells, for lists; never raises for what is in the file."""
    path = Path(path)
    try:
        with FILE.open(path) as sealed:
            config, belongs, card = _inspect(sealed)
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
    fields_of: dict[str, Any] = {name: value for name, value in asdict(config).items() if name != "latent_dim"}
    return SequenceModel(autoencoder, **fields_of, fine_tune=fine_tune)


def _check_belongs(belongs: Belongs, autoencoder: TransformerAutoencoder | None) -> None:
    if autoencoder is None:
        raise ValueError(f"it needs its autoencoder, {belongs.name}, beside it")
    if autoencoder_digest(autoencoder) != belongs.sha256:
        raise ValueError(
            f"it belongs to the autoencoder {belongs.name} (SHA-256 {belongs.sha256[:12]}…), and the one given is another "
            f"({autoencoder_digest(autoencoder)[:12]}…); choose that one, or train on this one"
        )


def _inspect(sealed: Sealed) -> tuple[SequenceConfig, Belongs, Card]:
    """Everything that can be known before a tensor is read."""
    config = SequenceConfig(**sealed.fields("config", SequenceConfig, ["latent_dim"]))
    belongs = _belongs(sealed)
    card = Card(**sealed.fields("card", Card, ["name"]))
    if belongs.config.latent_dim != config.latent_dim:
        raise ValueError(
            f"its latent_dim must be its autoencoder's {belongs.config.latent_dim}, got {config.latent_dim}"
        )
    with torch.device("meta"):
        model = _model(TransformerAutoencoder(belongs.config), config, belongs.is_inside)
    check_tensors(sealed.described, {name: tuple(tensor.shape) for name, tensor in model.own_state().items()})
    return config, belongs, card


def _belongs(sealed: Sealed) -> Belongs:
    values = sealed.fields("autoencoder", Belongs, ["name", "sha256", "config", "is_inside"])
    name, digest, is_inside = values["name"], values["sha256"], values["is_inside"]
    if not isinstance(name, str) or not isinstance(is_inside, bool):
        raise ValueError("its autoencoder must have a name, and say whether it is inside")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("its autoencoder's sha256 must be 64 hexadecimal digits")
    return Belongs(clean_text(name, 80) or "unnamed", digest, config_from_dict(values["config"]), is_inside)
