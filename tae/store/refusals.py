"""One line in the log for each file of a stranger that is refused: its digest, format, size and the reason, never its content."""

import hashlib
import logging
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from tae.store.names import plain_text

T = TypeVar("T", bound=Callable)
LOGGER = logging.getLogger(__name__)


def refusals_logged(format_of: Callable[[bytes], str | None]) -> Callable[[T], T]:
    """Decorates a reader, the first argument of which are a file's bytes: what it refuses by a ValueError is logged."""

    def decorate(read: T) -> T:
        @wraps(read)
        def reading(data: bytes, *args: object, **named: object) -> object:
            try:
                return read(data, *args, **named)
            except ValueError as error:
                if LOGGER.isEnabledFor(logging.INFO):
                    log_refused(hashlib.sha256(data).hexdigest(), format_of(data) or "unknown", len(data), error)
                raise

        return reading  # type: ignore[return-value]

    return decorate


def log_refused(digest: str, kind: str, size: int, error: ValueError) -> None:
    """The line of one file: its SHA-256 in hex, what it is or calls itself, its bytes, and why it is refused, on one line."""
    LOGGER.info("refused: sha256 %s, %s, %d bytes: %s", digest, plain_text(kind, 12), size, plain_text(str(error), 300))
