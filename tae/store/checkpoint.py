"""Checkpoints: weights, config and model card in one safetensors file; the only code that knows the format.

Format 1 is a plain safetensors file whose metadata are five texts:

    program          "tae"
    format_version   "1"
    config           the fields of `ModelConfig`, as JSON
    card             the fields of `Card`, as JSON
    sha256           `tae.store.sealed.seal` of format_version, config, card and every tensor

Files come from strangers. Nothing in them is executed, pickles are never opened, and all that the header says is
checked against the file's size and the model's shapes before memory is set aside for it. The SHA-256 finds damage;
it does not say who made the file.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from io import BufferedIOBase, BytesIO
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, config_from_dict, config_to_dict
from tae.store.card import Card, clean_text
from tae.store.names import natural_order
from tae.store.sealed import (
    DTYPES,
    Described,
    Header,
    describe,
    digests_of,
    dtype_name,
    open_regular,
    parse_json,
    read_contents,
    read_header,
    seal,
    shown,
    to_json,
    write_tensors,
)

PROGRAM = "tae"
FORMAT_VERSION = 1
WRAPPERS = ("_orig_mod", "module")
"""What torch.compile and DistributedDataParallel add to the names of tensors."""
COMPANIONS = (".lens.safetensors",)
"""Endings of files that belong to a checkpoint, lie beside it, and are none themselves: `tae.lens`."""


class CheckpointError(ValueError):
    """A checkpoint is refused; one sentence that names the file, never its folder, and the reason."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory, independent of its file from here on.

    Attributes:
        model: In eval mode, on the CPU, float32.
        card: Its model card.
        digest: SHA-256 of the file's bytes, in hex: what caches should go by.
        size_bytes: Of the file.
    """

    model: TransformerAutoencoder
    card: Card
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Listed:
    """A checkpoint file as its header describes it.

    Attributes:
        path: The file.
        name: The card's name; the file's, where it is broken.
        card: Its model card; None where it is broken.
        config: Its model's config; None where it is broken.
        error: Why it would not load, as far as the header tells; None where it would.
        size_bytes: Of the file.
    """

    path: Path
    name: str
    card: Card | None
    config: ModelConfig | None
    error: str | None
    size_bytes: int


def save_checkpoint(path: Path | str, model: nn.Module, card: Card, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint, whole or not at all: if it fails, a file that was there before stays as it was.

    Args:
        path: Where it goes; `list_checkpoints` finds names that end in .safetensors.
        model: A `TransformerAutoencoder`, also one wrapped by torch.compile or DistributedDataParallel.
        card: Its model card.
        dtype: Of the stored weights: float32, or float16 or bfloat16 for half the size.

    Raises:
        CheckpointError: If a weight is NaN or infinite, or the model is not what its config says.
        ValueError: If the model or dtype is of another kind, the header grows too large, or the path exists and is no
            regular file.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    dtype_name(dtype)  # refuses what cannot be stored before anything is copied
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a new or a regular file, got {path}")
    config = _unwrapped(model).config
    # A copy, so that what is sealed is what is written, even while another thread trains the model.
    weights = {
        _unprefixed(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in sorted(model.state_dict().items())
    }
    described = describe(weights)
    metadata = {
        "program": PROGRAM,
        "format_version": str(FORMAT_VERSION),
        "config": to_json(config_to_dict(config)),
        "card": to_json(asdict(card)),
    }
    with refusing(path.name):
        _check_tensors(config, described)
        _check_finite(weights)
    write_tensors(path, weights, {**metadata, "sha256": seal(_sealed_texts(metadata), described, digests_of(weights))})
    return path


def load_checkpoint(path: Path | str) -> Loaded:
    """Read a checkpoint file, once.

    Raises:
        CheckpointError: If it cannot be read, or is not a whole and sound checkpoint of this program.
    """
    with refusing(Path(path).name), open_regular(Path(path)) as (file, size):
        return _load(file, size)


def read_checkpoint(data: bytes, name: str = "checkpoint") -> Loaded:
    """`load_checkpoint` for bytes, an upload for example; `name` is only shown.

    Raises:
        CheckpointError: If they are not a whole and sound checkpoint of this program.
    """
    with refusing(name):
        return _load(BytesIO(data), len(data))


def list_checkpoints(folder: Path | str) -> list[Listed]:
    """The checkpoint files of a folder, by their headers alone, in the natural order of their names.

    Returns:
        Regular files named *.safetensors, and links to such in the same folder, without `COMPANIONS`; [] where there is
        no folder.
    """
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: natural_order(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    home = Path(folder).resolve()
    names = [path for path in paths if path.suffix.lower() == ".safetensors" and not path.name.endswith(COMPANIONS)]
    return [_list_one(path) for path in names if _is_file_in(path, home)]


def _list_one(path: Path) -> Listed:
    size = 0
    try:
        with refusing(path.name), open_regular(path) as (file, size):
            _, config, card = _inspect(file, size)
    except CheckpointError as error:
        return Listed(path, clean_text(path.name, 80), None, None, str(error), size)
    return Listed(path, card.name, card, config, None, size)


def _load(file: BufferedIOBase, size: int) -> Loaded:
    header, config, card = _inspect(file, size)
    contents = read_contents(file, header)
    described = {entry.name: (entry.dtype, entry.shape) for entry in header.entries}
    if seal(_sealed_texts(header.metadata), described, contents.digests) != header.metadata["sha256"]:
        raise ValueError("the file is damaged: its content does not have the SHA-256 that it was saved with")
    weights = {_unprefixed(name): tensor for name, tensor in contents.tensors.items()}
    _check_finite(weights)
    model = _meta_model(config)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return Loaded(model.eval(), card, contents.file_digest, size)


def _inspect(file: BufferedIOBase, size: int) -> tuple[Header, ModelConfig, Card]:
    """Everything that can be known before a tensor is read."""
    header = read_header(file, size)
    metadata = header.metadata
    if metadata.get("program") != PROGRAM:
        names = ", ".join(shown(entry.name) for entry in header.entries[:3])
        examples = f", such as {names}" if names else ""
        raise ValueError(f"not a checkpoint of this program; found {len(header.entries)} tensors{examples}")
    version = metadata.get("format_version", "")
    if not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise ValueError(f"its format version must be a number from 1, got {shown(version) or 'none'}")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"it has format {version}, and this program reads up to {FORMAT_VERSION}: update the program")
    lacking = [name for name in ("config", "card", "sha256") if name not in metadata]
    if lacking:
        raise ValueError(f"its metadata lack {', '.join(lacking)}")
    config = config_from_dict(parse_json(metadata["config"], "its config"))
    card = parse_json(metadata["card"], "its card")
    known = [field.name for field in fields(Card)]
    if not isinstance(card, dict) or "name" not in card or not card.keys() <= set(known):
        raise ValueError(f"its card must be a dict with a name, and with no fields but {', '.join(known)}")
    found = {_unprefixed(entry.name): (entry.dtype, entry.shape) for entry in header.entries}
    if len(found) < len(header.entries):
        raise ValueError("two of its tensors have the same name but for a prefix")
    _check_tensors(config, found)
    return header, config, Card(**card)


def _check_tensors(config: ModelConfig, found: Described) -> None:
    """Refuse tensors that are not exactly the model's; the first five differences of each kind are named."""
    expected = _expected_shapes(config)
    shared = [name for name in expected if name in found]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [shown(name) for name in found if name not in expected],
        "of another shape": [
            f"{name} (expected {[*expected[name]]}, found {[*found[name][1]]})"
            for name in shared
            if found[name][1] != expected[name]
        ],
        f"of a type other than {', '.join(DTYPES)}": [
            f"{name} ({shown(found[name][0])})" for name in shared if found[name][0] not in DTYPES
        ],
    }
    differences = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for kind, names in kinds.items()
        if names
    ]
    if differences:
        raise ValueError(f"its tensors are not those of its config; {'; '.join(differences)}")


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the weight {name} holds NaN or infinity as {dtype_name(tensor.dtype)}")


def _sealed_texts(metadata: Mapping[str, str]) -> list[str]:
    return [metadata["format_version"], metadata["config"], metadata["card"]]


def _meta_model(config: ModelConfig) -> TransformerAutoencoder:
    """The model's names and shapes, without memory behind them."""
    with torch.device("meta"):
        return TransformerAutoencoder(config)


@lru_cache(maxsize=64)
def _expected_shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in _meta_model(config).state_dict().items()})


def _unwrapped(model: nn.Module) -> TransformerAutoencoder:
    while not isinstance(model, TransformerAutoencoder):
        inner = next((getattr(model, name) for name in WRAPPERS if hasattr(model, name)), None)
        if inner is None:
            raise ValueError(f"model must be a TransformerAutoencoder, got {type(model).__name__}")
        model = inner
    return model


def _unprefixed(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_file_in(path: Path, home: Path) -> bool:
    try:
        resolved = path.resolve(strict=True)
        return resolved.is_relative_to(home) and resolved.is_file()
    except (OSError, RuntimeError):  # a dangling link, a loop
        return False


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn what goes wrong inside into a `CheckpointError` that names the file."""
    file_name = clean_text(re.split(r"[/\\]", name)[-1], 80) or "checkpoint"
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{file_name}: cannot be read ({error.strerror or 'input/output error'})") from error
    except ValueError as error:
        raise CheckpointError(clean_text(f"{file_name}: {error}", 2000)) from error
