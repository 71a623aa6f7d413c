"""The held-out split: a function of the files' names alone, so that it stays as other files come and go."""

import hashlib
from collections.abc import Sequence

import numpy as np

SHARE = 0.1
"""Share of the files that is held out, about."""


def held_out(names: Sequence[str]) -> np.ndarray:
    """(n,) bool, which of two or more files are held out: one in ten by the hash of its name, at least one, never all."""
    hashes = np.array([_share_of(name) for name in names])
    count = min(max(int((hashes < SHARE).sum()), 1), len(names) - 1)
    found = np.zeros(len(names), bool)
    found[np.argsort(hashes, kind="stable")[:count]] = True
    return found


def _share_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8], 16) / 2**32
