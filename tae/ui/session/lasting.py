"""What was measured of a checkpoint, kept on this machine from one start to the next: arrays and JSON, nothing that is executed.

Only what was computed from a checkpoint and the images that come with the package is kept so; never a visitor's image.
"""

import functools
import hashlib
import json
import logging
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import torch

from tae.store.atomic import write_whole
from tae.store.places import cache_folder
from tae.ui.session.cache import read_only

LOGGER = logging.getLogger(__name__)
MAX_BYTES = 512 * 1024**2
"""Of all files together; those that were not read for longest go first."""
DAMAGED = (OSError, EOFError, ValueError, TypeError, LookupError, zipfile.BadZipFile, zlib.error)


def load(name: str, key: str, kind: Any) -> Any:
    """What `save` kept under this name and key by this very code, as its type `kind` says; else None. Arrays are read only."""
    path = None
    try:
        path = _path(name, key)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            converter = _converter()
            converter.register_structure_hook(np.ndarray, lambda number, _: read_only(arrays[f"arr_{number}"]))
            found = converter.structure(json.loads(str(arrays["arr_0"])), kind)
        path.touch()
        return found
    except DAMAGED as error:  # it is measured anew, and written over
        LOGGER.warning("%s cannot be read: %s", path or "the user's cache", error)
        return None


def save(name: str, key: str, value: Any) -> None:
    """Keep what was measured: arrays, numbers, texts, and dataclasses, dicts and tuples of them."""
    arrays: list[np.ndarray] = []

    def number_of(array: np.ndarray) -> int:
        arrays.append(array)
        return len(arrays)

    converter = _converter()
    converter.register_unstructure_hook(np.ndarray, number_of)
    told, content = json.dumps(converter.unstructure(value)), BytesIO()
    np.savez_compressed(content, np.array(told), *arrays)
    try:
        path = _path(name, key)
        write_whole(path, [content.getvalue()])
        files = sorted(((one.stat().st_mtime, one) for one in path.parent.glob("*.npz")), reverse=True)
        total = 0
        for _, one in files:
            total += one.stat().st_size
            if total > MAX_BYTES:
                one.unlink()
    except OSError as error:  # another start measures it again
        LOGGER.warning("what was measured could not be kept in the user's cache: %s", error)


def _path(name: str, key: str) -> Path:
    folder = cache_folder() / "measured"
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha256(f'{name}|{key}|{_code()}'.encode()).hexdigest()}.npz"


@functools.cache
def _code() -> str:
    """Digest of this package with its data, and of the libraries that compute: another way to measure may give another result."""
    digest = hashlib.sha256(f"{torch.__version__} {np.__version__}".encode())
    for path in sorted((Path(__file__).parents[2]).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _converter() -> Any:
    import cattrs  # a tenth of a second that no page waits for before its first image

    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(int | str, lambda value, _: value)
    converter.register_unstructure_hook(torch.Tensor, lambda tensor: converter.unstructure(tensor.numpy(force=True)))
    converter.register_structure_hook(
        torch.Tensor, lambda number, _: torch.from_numpy(converter.structure(number, np.ndarray).copy())
    )
    converter.register_unstructure_hook_factory(
        _has_tuples_as_keys, lambda _: lambda found: [[*pair] for pair in converter.unstructure([*found.items()])]
    )
    converter.register_structure_hook_factory(
        _has_tuples_as_keys,
        lambda kind: lambda pairs, _: dict(converter.structure(pairs, list[tuple[get_args(kind)]])),  # type: ignore[misc]
    )
    return converter


def _has_tuples_as_keys(kind: Any) -> bool:
    return get_origin(kind) is dict and get_origin(get_args(kind)[0]) is tuple
