"""A report is asked for by its images, and the map and patch to show of each."""

from dataclasses import dataclass, field

from tae.analysis.maps import MapChoice
from tae.data.fit import FitMode, Fitted
from tae.web.explorer.payload import DIRECTIONS, RANGES, Direction, Range


@dataclass(frozen=True, kw_only=True)
class ReportImage:
    """One image as the model sees it, and how that came about."""

    title: str  # a file's name or a sample's title; may be a stranger's text
    fitted: Fitted  # from `tae.data.fit.fit_image`
    origin: tuple[str, ...] = ()  # phrases about where it comes from and what was done on reading
    fit: FitMode = "pad"  # how it came to the model's size, one of `tae.data.fit.FIT_MODES`


@dataclass(frozen=True, kw_only=True)
class ReportMap:
    """Which map and patch are shown first, and as figures."""

    choice: MapChoice = field(default_factory=MapChoice)
    query: int | None = None
    """Token number; None, or one that an image does not have: the patch of the foreground that has the strongest
    weight."""
    direction: Direction = "from"  # where the patch places weight ("from"), or who places weight on it ("to")
    range: Range = "shared"  # where the colours end

    def __post_init__(self) -> None:
        for name, choices in (("direction", DIRECTIONS), ("range", RANGES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {str(getattr(self, name))[:80]!r}")
        if self.query is not None and self.query < 0:
            raise ValueError(f"query must be a patch number from 0, or None, got {self.query}")
