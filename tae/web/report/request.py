"""A report is asked for by its images, and the map and patch to show of each."""

from dataclasses import dataclass, field

from tae.analysis.maps import MapChoice
from tae.data.fit import Fitted
from tae.web.explorer.payload import DIRECTIONS, RANGES, Direction, Range


@dataclass(frozen=True, kw_only=True)
class ReportImage:
    """One image as the model sees it, and how that came about.

    Attributes:
        title: A file's name or a sample's title; may be a stranger's text.
        fitted: From `tae.data.fit.fit_image`.
        origin: Phrases about where it comes from and what was done on reading: notes of what was read.
        fit: How it came to the model's size, one of `tae.data.fit.FIT_MODES`.
    """

    title: str
    fitted: Fitted
    origin: tuple[str, ...] = ()
    fit: str = "pad"


@dataclass(frozen=True, kw_only=True)
class ReportMap:
    """Which map and patch are shown first, and as figures.

    Attributes:
        choice: The map.
        query: Token number; None, or one that an image does not have: the patch of the foreground that has the
            strongest weight.
        direction: Where the patch places weight ("from"), or who places weight on it ("to").
        range: Where the colours end: "shared", "full" or "own", as in `tae.web.explorer.payload`.
    """

    choice: MapChoice = field(default_factory=MapChoice)
    query: int | None = None
    direction: Direction = "from"
    range: Range = "shared"

    def __post_init__(self) -> None:
        for name, choices in (("direction", DIRECTIONS), ("range", RANGES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {str(getattr(self, name))[:80]!r}")
        if self.query is not None and self.query < 0:
            raise ValueError(f"query must be a patch number from 0, or None, got {self.query}")
