"""The held-out split: a function of the files' names alone, so that it stays as other files come and go.

Only where fewer than eight of forty or more would be held out do some change sides with what is added.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from tae.training.config import Grouping

SHARE = 0.1
"""Share of the files that is held out, about."""
LEAST, FROM = 8, 40
"""So many files at least are held out where there are so many."""


def held_out(names: Sequence[str], by: Grouping = "file") -> np.ndarray:
    """Which of two or more files are held out: about one in ten, by the hash of its name or of its group's, never all.

    Args:
        names: Paths with forward slashes.
        by: What stays together on one side: a file; files whose names differ only in their last number and ending, such as
            crops of one photograph; the files of a folder.

    Returns:
        (n,) bool.

    Raises:
        ValueError: If all files are of one group.
    """
    groups = [_group_of(name, by) for name in names]
    sizes, least = Counter(groups), LEAST if len(names) >= FROM else 1
    if len(sizes) < 2:
        raise ValueError(f"files must be of at least two groups to hold some out by {by}, got one; hold out by file")
    chosen: set[str] = set()
    for group in sorted(sizes, key=_share_of)[:-1]:
        if _share_of(group) >= SHARE and sum(sizes[one] for one in chosen) >= least:
            break
        chosen.add(group)
    return np.array([group in chosen for group in groups])


def _group_of(name: str, by: Grouping) -> str:
    path = PurePosixPath(name)
    if by == "folder":
        return str(path.parent)
    return str(path.parent / (re.sub(r"[\W_]*\d+$", "", path.stem) or path.stem)) if by == "stem" else name


def _share_of(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8], 16) / 2**32
