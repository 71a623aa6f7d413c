"""Results kept for all sessions: one decorator, which knows models and images by their digests, and one bound in bytes."""

import hashlib
import inspect
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import streamlit as st

from tae.data.fit import Fitted
from tae.ui.session.turns import Turns

T = TypeVar("T", bound=Callable[..., Any])

MODEL_LOCK = Turns()
"""Sessions share a few cores: one click's pass at a time is faster for everybody than many at once."""


def digest_of(fitted: Fitted) -> str:
    """SHA-256 of what the model saw, in hex."""
    return hashlib.sha256(fitted.pixels.tobytes() + str(fitted.pixels.shape).encode()).hexdigest()


KNOWN_BY: dict[str, Callable[[Any], Any]] = {
    "tae.store.checkpoint.Loaded": lambda loaded: loaded.digest,
    "tae.sequence.checkpoint.LoadedSequence": lambda loaded: loaded.digest,
    "tae.ui.session.scene.Scene": lambda scene: scene.key,
    "tae.ui.causal.measure.PairScene": lambda scene: scene.key,
    "tae.ui.sequences.clips.Clip": lambda clip: clip.digest,
    "tae.ui.compare.halves.Half": lambda scene: scene.key,
    "tae.ui.session.models.Active": lambda active: active.loaded.digest,
    "tae.ui.session.images.Chosen": lambda chosen: chosen.digest,
    "tae.data.fit.Fitted": lambda fitted: (digest_of(fitted), fitted.notes),
}
"""By what the store knows an argument; all else by its value."""


class Store:
    """Results by what they depend on, together at most so many bytes: the one not used for longest goes first.

    What is larger than that alone is kept besides, until the next such comes: a large model is not read anew for each page.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._alone: Hashable = None  # the one that is larger than all may be
        self._lock = threading.Lock()
        self._computing: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, default: Any = None) -> Any:
        with self._lock:
            if key not in self._values:
                return default
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value, which nobody may change from here on."""
        size = size_of(value)
        with self._lock:
            self.num_bytes += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            if size > self.max_bytes:
                self._alone = key
            besides = self._values.get(self._alone, (None, 0))[1]
            while self.num_bytes > self.max_bytes + besides:
                oldest = next(iter(self._values))
                if oldest == self._alone:
                    self._values.move_to_end(oldest)
                else:
                    self.num_bytes -= self._values.pop(oldest)[1]

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self.num_bytes -= self._values.pop(key, (None, 0))[1]

    def find(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The value of a key; who asks for it while it is computed waits, and gets the same, unless there was an error."""
        found = self.get(key, self)
        if found is not self:
            return found
        with self._lock:
            mine = self._computing.setdefault(key, threading.Lock())
        try:
            with mine:
                found = self.get(key, self)
                if found is self:
                    found = compute()
                    self.put(key, found)
                return found
        finally:
            with self._lock:
                self._computing.pop(key, None)


STORE = Store(int(os.environ.get("TAE_CACHE_MB") or 2048) * 1024**2)


def kept(show_spinner: str = "") -> Callable[[T], T]:
    """Keep what a function finds for all sessions; nobody may change what it returns, so arrays are `read_only`.

    Arguments whose names begin with _ do not count. The spinner is what the page says meanwhile.
    """

    def decorate(function: T) -> T:
        signature, name = inspect.signature(function), f"{function.__module__}.{function.__qualname__}"

        @wraps(function)
        def found(*args: Any, **named: Any) -> Any:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            key = (name, *(key_of(value) for one, value in bound.arguments.items() if not one.startswith("_")))

            def compute() -> Any:
                with st.spinner(show_spinner) if show_spinner else nullcontext():
                    return function(*args, **named)

            return STORE.find(key, compute)

        return found  # type: ignore[return-value]

    return decorate


def key_of(value: Any) -> Hashable:
    """What an argument is known by. Raises TypeError where nothing tells two such apart."""
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (bool, int, float, Path, np.generic)):
        return type(value).__name__, repr(value)  # 1, 1.0 and True are three things
    kind = type(value)
    known = KNOWN_BY.get(f"{kind.__module__}.{kind.__qualname__}")
    if known is not None:
        return kind.__qualname__, known(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hashlib.sha256(np.ascontiguousarray(value).data).digest()
    if isinstance(value, (list, tuple)):
        return kind.__name__, tuple(map(key_of, value))
    if isinstance(value, dict):
        return tuple((key_of(name), key_of(one)) for name, one in value.items())
    if is_dataclass(value):
        return kind.__qualname__, tuple(key_of(getattr(value, field.name)) for field in fields(value))
    if inspect.isfunction(value) and value.__closure__ is None:
        return value.__module__, value.__qualname__
    raise TypeError(f"results cannot be kept by a {kind.__name__}")


def size_of(value: Any, seen: set[int] | None = None) -> int:
    """About how many bytes a result takes: of what it holds, each thing once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) + 64
    if (number := getattr(value, "nbytes", None)) is not None:  # arrays and tensors
        return int(number) + 128
    if isinstance(value, dict):
        return 64 + sum(size_of(name, seen) + size_of(one, seen) for name, one in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return 64 + sum(size_of(one, seen) for one in value)
    if parameters := getattr(value, "parameters", None):  # a model
        return 2**16 + sum(size_of(one, seen) for one in (*parameters(), *value.buffers()))
    if drawn := getattr(value, "to_plotly_json", None):
        return size_of(drawn(), seen)
    return 64 + (size_of(vars(value), seen) if hasattr(value, "__dict__") and not inspect.isroutine(value) else 0)


def read_only(array: np.ndarray) -> np.ndarray:
    """A cached array, which nobody may change."""
    array.flags.writeable = False
    return array
