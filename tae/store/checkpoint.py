"""Checkpoints: weights, config and model card in one safetensors file; the only code that knows the format.

Format 1 is a plain safetensors file whose metadata are five texts:

    program          "tae"
    format_version   "1"
    config           the fields of `ModelConfig`, as JSON
    card             the fields of `Card`, as JSON
    sha256           `tae.store.sealed.seal` of format_version, config, card and every tensor

Files come from strangers: `tae.store.sealed` reads them, and all that the header says is checked against the model's
shapes before memory is set aside for it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, config_from_dict, config_to_dict
from tae.store.card import Card, clean_text
from tae.store.names import natural_order
from tae.store.refusals import refusals_logged
from tae.store.regular import to_json
from tae.store.sealed import Sealed, SealedFile, check_tensors, describe, dtype_name

WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DistributedDataParallel add to the names of tensors
COMPANIONS = (".lens.safetensors",)
"""Endings of files that belong to a checkpoint, lie beside it, and are none themselves: `tae.lens`."""


class CheckpointError(ValueError):
    """A checkpoint is refused; one sentence that names the file, never its folder, and the reason."""


FILE = SealedFile(
    program="tae", texts=("config", "card"), what="a checkpoint of this program", error=CheckpointError, is_finite=True
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, independent of its file from here on."""

    model: TransformerAutoencoder  # in eval mode, on the CPU, float32
    card: Card  # its model card
    digest: str  # SHA-256 of the file's bytes, in hex: what caches should go by
    size_bytes: int  # size of the file


@dataclass(frozen=True)
class Listed:
    """A checkpoint file as its header describes it."""

    path: Path  # the file
    name: str  # the card's name; the file's, where it is broken
    card: Card | None  # its model card; None where it is broken
    config: ModelConfig | None  # its model's config; None where it is broken
    error: str | None  # why it would not load, as far as the header tells; None where it would
    size_bytes: int  # size of the file


def save_checkpoint(path: Path | str, model: nn.Module, card: Card, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint, whole or not at all: if it fails, a file that was there before stays as it was.

    Args:
        path: Where it goes; `list_checkpoints` finds names that end in .safetensors.
        model: A `TransformerAutoencoder`, also one wrapped by torch.compile or DistributedDataParallel.
        card: Its model card.
        dtype: Type of the stored weights: float32, or float16 or bfloat16 for half the size.

    Raises:
        CheckpointError: If a weight is NaN or infinite, or the model is not what its config says.
        ValueError: If the model or dtype is of another kind, the header grows too large, or the path exists and is no
            regular file.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    dtype_name(dtype)  # refuses what cannot be stored before anything is copied
    config = _unwrapped(model).config
    # A copy, so that what is sealed is what is written, even while another thread trains the model.
    weights = {
        unprefixed(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in sorted(model.state_dict().items())
    }
    with FILE.refusing(path.name):
        check_tensors(describe(weights), expected_shapes(config))
    FILE.write(path, [to_json(config_to_dict(config)), to_json(asdict(card))], weights)
    return path


def load_checkpoint(path: Path | str, name: str | None = None) -> Loaded:
    """Read a checkpoint file, once; `name` is shown in place of the file's.

    Raises CheckpointError if it cannot be read, or is not a whole and sound checkpoint of this program.
    """
    return _load(Path(path), name)


@refusals_logged(lambda _: "checkpoint")
def read_checkpoint(data: bytes, name: str = "checkpoint") -> Loaded:
    """`load_checkpoint` for bytes, an upload for example; `name` is only shown.

    Raises CheckpointError if they are not a whole and sound checkpoint of this program.
    """
    return _load(data, name)


def list_checkpoints(folder: Path | str) -> list[Listed]:
    """The checkpoint files of a folder, by their headers alone, in the natural order of their names.

    Regular files named *.safetensors, and links to such in the same folder, without `COMPANIONS`; [] where there is no folder.
    """
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: natural_order(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    home = Path(folder).resolve()
    names = [path for path in paths if path.suffix.lower() == ".safetensors" and not path.name.endswith(COMPANIONS)]
    return [_list_one(path) for path in names if _is_file_in(path, home)]


def _list_one(path: Path) -> Listed:
    try:
        with FILE.refusing(path.name):
            info = path.stat()
    except CheckpointError as error:
        return _refused(path, error)
    return _listed(path, info.st_size, info.st_ctime_ns, info.st_ino)


@lru_cache(maxsize=256)
def _listed(path: Path, size: int, _changed_ns: int, _number: int) -> Listed:
    """Read once, until the file changes: every run of a page asks."""
    try:
        with FILE.open(path) as sealed:
            config, card = _inspect(sealed)
    except CheckpointError as error:
        return _refused(path, error, size)
    return Listed(path, card.name, card, config, None, size)


def _refused(path: Path, error: CheckpointError, size: int = 0) -> Listed:
    return Listed(path, clean_text(path.name, 80), None, None, str(error), size)


def _load(source: Path | bytes, name: str | None = None) -> Loaded:
    with FILE.open(source, name) as sealed:
        config, card = _inspect(sealed)
        tensors, digest = sealed.read()
        model = _meta_model(config)
        model.load_state_dict({unprefixed(name): tensor.float() for name, tensor in tensors.items()}, assign=True)
        return Loaded(model.eval(), card, digest, sealed.size)


def _inspect(sealed: Sealed) -> tuple[ModelConfig, Card]:
    """Everything that can be known before a tensor is read."""
    config = config_from_dict(sealed.json("config"))
    card = Card(**sealed.fields("card", Card, ["name"]))
    found = {unprefixed(name): kind for name, kind in sealed.described.items()}
    if len(found) < len(sealed.described):
        raise ValueError("two of its tensors have the same name but for a prefix")
    check_tensors(found, expected_shapes(config))
    return config, card


def _meta_model(config: ModelConfig) -> TransformerAutoencoder:
    """The model's names and shapes, without memory behind them."""
    with torch.device("meta"):
        return TransformerAutoencoder(config)


@lru_cache(maxsize=64)
def expected_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors."""
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in _meta_model(config).state_dict().items()})


def _unwrapped(model: nn.Module) -> TransformerAutoencoder:
    while not isinstance(model, TransformerAutoencoder):
        inner = next((getattr(model, name) for name in WRAPPERS if hasattr(model, name)), None)
        if inner is None:
            raise ValueError(f"model must be a TransformerAutoencoder, got {type(model).__name__}")
        model = inner
    return model


def unprefixed(name: str) -> str:
    """A tensor's name without what `WRAPPERS` added."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_file_in(path: Path, home: Path) -> bool:
    try:
        if not path.is_symlink():  # every run of a page asks, and following links takes ten times as long
            return path.is_file()
        resolved = path.resolve(strict=True)
        return resolved.is_relative_to(home) and resolved.is_file()
    except (OSError, RuntimeError):  # a dangling link, a loop
        return False
