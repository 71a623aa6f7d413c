"""The image and the maps that the attention explorer gets, small enough for a browser and true to the colour scale.

A map is named "part/layer/head": "encoder/average/mean", "encoder/0/3", "decoder/rollout/max". Weights are sent as
16-bit square roots, so that weak ones keep their digits; the largest weight of a map is sent beside it. "x uniform" is
a weight times the number of tokens N.
"""

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from plotly.colors import unlabel_rgb

from tae.analysis.facts import UNIFORM_LIMIT
from tae.data.encode import png_url
from tae.plots.style import ERROR_COLOURS, OVERLAY, QUERY_COLOUR

MAX_TOKENS_EXACT = 1024  # up to here every patch is a cell of its own; above, k x k patches are merged
MAX_PINS = 6
FIRST_BYTES = 4_000_000  # of maps in one answer
HEADS_BYTES = 3_000_000  # of the head grid's maps; where they are more, patches are merged until they are not
LEVELS = 65_535  # highest number of a quantised map
DIFFERENCE_LIMIT = UNIFORM_LIMIT - 1
"""The colours of a difference never end below it, in x uniform, as those of weights never end below `UNIFORM_LIMIT`."""

Direction = Literal["from", "to"]  # where the chosen patch places weight, or who places weight on it
Range = Literal["shared", "full", "own"]
"""Where the colours end: at 99.5% of all weights, at the largest of all, at the largest of the map on display."""
RANGES: dict[Range, str] = {
    "shared": "to 99.5% of weights",
    "full": "to the largest weight",
    "own": "this map only",
}
DIRECTIONS: dict[Direction, str] = {"from": "Attends to", "to": "Attended by"}
Severity = Literal["info", "warning", "error"]
Payload = dict[str, Any]


@dataclass(frozen=True)
class View:
    """The explorer's view, and what it tells the server when a person changes it."""

    part: str = "encoder"
    layer: str = "average"
    head: str = "mean"
    query: int = 0  # token number of the selected patch
    direction: Direction = "from"
    range: Range = "shared"
    pins: tuple[int, ...] = ()  # token numbers of the pinned patches, at most `MAX_PINS`
    revision: int = 0  # the browser keeps its own view until it changes: count it up to set the view from the server

    @property
    def name(self) -> str:
        """Name of the map on display."""
        return f"{self.part}/{self.layer}/{self.head}"


@dataclass(frozen=True)
class Quantised:
    """A map as it is sent."""

    cells: np.ndarray  # (M, M) uint16, M cells of one or more patches; rows = query, columns = key
    smallest: float  # of the map's weights
    largest: float  # of the map's weights


@dataclass(frozen=True)
class Side:
    """An image and its maps; see `side`."""

    title: str
    image: np.ndarray
    grid: tuple[int, int]
    patch_size: int
    maps: dict[str, Quantised]
    names: tuple[str, ...]
    digest: str

    @property
    def num_tokens(self) -> int:
        """Patches of the image."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Note:
    """A sentence that stands above the image; "error" is red."""

    text: str
    severity: Severity = "info"


def quantise(weights: np.ndarray) -> Quantised:
    """Weights (M, M), finite and from 0 up, as 16-bit square roots, round(65535 * sqrt(weight / largest)).

    The error of a weight w is at most sqrt(w * largest) / 65535 + largest / (4 * 65535**2): the relative error grows
    only with the square root of 1 / w. So a weight inside a colour range that ends at T x uniform, T >= 1.5, is off by
    less than half of one of 256 colour steps, T / 512, whatever the map of up to `tae.model.config.MAX_TOKENS` tokens.
    Other weights raise ValueError.
    """
    weights = np.asarray(weights, np.float32)
    smallest, largest = float(weights.min()), float(weights.max())
    if not (smallest >= 0 and np.isfinite(largest)):
        raise ValueError(f"maps must hold finite weights from 0 up, got {smallest} to {largest}")
    if largest == 0:
        return Quantised(np.zeros(weights.shape, np.uint16), 0.0, 0.0)
    roots = np.sqrt(weights / np.float32(largest))
    return Quantised(np.round(roots * LEVELS).astype(np.uint16), smallest, largest)


def dequantise(quantised: Quantised) -> np.ndarray:
    """(M, M) float64 weights, as the browser decodes them."""
    return np.square(quantised.cells / LEVELS) * quantised.largest


def merged(grid: tuple[int, int]) -> int:
    """k: how many patches, in each direction, are one cell, so that there are at most `MAX_TOKENS_EXACT` of them."""
    k = 1
    while np.prod(cell_grid(grid, k)) > MAX_TOKENS_EXACT:
        k += 1
    return k


def cell_grid(grid: tuple[int, int], k: int) -> tuple[int, int]:
    """(rows, columns) of a map's cells where k x k patches are merged into one."""
    return -(-grid[0] // k), -(-grid[1] // k)


def map_bytes(grid: tuple[int, int]) -> int:
    """Bytes of one map of this grid as it is sent; as base64 a third more."""
    return 2 * int(np.prod(cell_grid(grid, merged(grid)))) ** 2


def coarsen(weights: np.ndarray, grid: tuple[int, int], k: int) -> np.ndarray:
    """Merge k x k patches of a map (N, N) into one cell, queries and keys alike: (M, M).

    Each pair of cells has its strongest pair of patches, which a mean would thin out and a stride would miss.
    """
    if k == 1:
        return weights
    rows, columns = cell_grid(grid, k)
    padding = [(0, rows * k - grid[0]), (0, columns * k - grid[1])]
    for _ in range(2):  # keys, then queries: each pass turns the map over
        by_patch = np.pad(weights.reshape(-1, *grid), [(0, 0), *padding])
        weights = by_patch.reshape(-1, rows, k, columns, k).max(axis=(2, 4)).reshape(-1, rows * columns).T
    return np.ascontiguousarray(weights)


def side(
    title: str,
    image: np.ndarray,
    grid: tuple[int, int],
    patch_size: int,
    maps: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    digest: str = "",
) -> Side:
    """An image with its maps, ready to be sent.

    Args:
        title: Shown above the image where there are two.
        image: (H, W) in [0, 1], as the model saw it, without the padding to whole patches.
        grid: (rows, columns) of patches; the last ones may be cut by the image's edge.
        patch_size: Side of a patch in pixels.
        maps: {"part/layer/head": (N, N) weights}, those that are sent now.
        names: All maps that there are, also those to be asked for; None: just `maps`.
        digest: Names checkpoint and image, so that the browser tells maps of one from those of another; "": made from
            what is given here, for pages on which nothing can be asked for.

    Raises:
        ValueError: If grid, image and maps do not fit, a name is none, or maps can be asked for without a digest.
    """
    if image.ndim != 2:
        raise ValueError(f"image must be (H, W), got shape {image.shape}")
    if grid != (-(-image.shape[0] // patch_size), -(-image.shape[1] // patch_size)):
        height, width = image.shape
        raise ValueError(f"grid must cover {width}x{height} in patches of {patch_size}, got {grid[1]}x{grid[0]}")
    num_tokens = grid[0] * grid[1]
    for name, weights in maps.items():
        if weights.shape != (num_tokens, num_tokens):
            raise ValueError(f"map {name!r} must be {num_tokens} x {num_tokens}, got shape {weights.shape}")
    every = tuple(dict.fromkeys([*(names or maps), *maps]))
    for name in every:
        if len(name.split("/")) != 3:
            raise ValueError(f"names must be part/layer/head, got {name!r}")
    k = merged(grid)
    quantised = {name: quantise(coarsen(weights, grid, k)) for name, weights in maps.items()}
    if k > 1:  # the smallest of the strongest is not the smallest
        quantised = {name: replace(one, smallest=float(maps[name].min())) for name, one in quantised.items()}
    if not digest:
        if set(every) > set(maps):
            raise ValueError("digest must be given where maps can be asked for later, got none")
        whole = hashlib.sha256(np.ascontiguousarray(image).tobytes())
        for name, one in quantised.items():
            whole.update(f"{name}{one.largest}".encode() + one.cells.tobytes())
        digest = whole.hexdigest()
    return Side(title, image, grid, patch_size, quantised, every, digest)


def payload(
    sides: Sequence[Side],
    view: View,
    tops: Mapping[str, float],
    notes: Sequence[Note] = (),
    status: Mapping[str, str] | None = None,
    on_demand: bool = False,
    memory: str = "",
    bare: bool = False,
) -> Payload:
    """All that the explorer needs; `for_streamlit` and `for_json` make it fit for the journey.

    Args:
        sides: One to explore, or two to compare; then each has exactly one map.
        view: How it opens. In Streamlit give the view that the server set last, not the one that the browser told: as
            long as nothing changes in what is given here, nothing is sent again.
        tops: Ends of the colour range in x uniform, {"shared": ..., "full": ...}.
        notes: Stand above the image.
        status: What to say below it of a part or a layer: {"encoder": "head_dim 32", "encoder/0": "..."}.
        on_demand: Whether maps that are missing can be asked for; without, their entries are disabled.
        memory: A person's view is kept under this name while the page is left and entered again; "": it is not.
        bare: Without controls, for showing.

    Raises:
        ValueError: If there are no or too many sides, sides to compare have more than one map, or a range is missing.
    """
    if len(sides) not in (1, 2):
        raise ValueError(f"sides must be one or two, got {len(sides)}")
    if len(sides) == 2 and any(len(one.maps) != 1 or len(one.names) != 1 for one in sides):
        raise ValueError(f"two sides must have one map each, got {[len(one.names) for one in sides]}")
    if set(tops) != {"shared", "full"}:
        raise ValueError(f"tops must have shared and full, got {sorted(tops)}")
    ends = {name: max(UNIFORM_LIMIT, float(top)) for name, top in tops.items()}
    return {
        "sides": [_side_entry(one) for one in sides],
        "maps": [
            {"side": number, "name": name, "smallest": one.smallest, "largest": one.largest, "data": one.cells.ravel()}
            for number, given in enumerate(sides)
            for name, one in given.maps.items()
        ],
        "view": {**asdict(view), "pins": list(view.pins)},
        "tops": {**ends, **_difference_tops(sides)},
        "colours": {
            "overlay": [[place, list(colour), opacity] for place, colour, opacity in OVERLAY],
            "difference": [list(map(round, unlabel_rgb(colour))) for colour in ERROR_COLOURS],
            "query": QUERY_COLOUR,
        },
        "notes": [asdict(note) for note in notes],
        "status": dict(status or {}),
        "limit": UNIFORM_LIMIT,
        "max_pins": MAX_PINS,
        "on_demand": on_demand,
        "memory": memory,
        "bare": bare,
    }


def in_head_grid(name: str) -> bool:
    """Whether a map stands in the head grid: single heads, the mean of each layer, average and rollout of means."""
    _, layer, head = name.split("/")
    return head == "mean" or (layer.isdecimal() and head.isdecimal())


def heads_merged(grid: tuple[int, int], count: int) -> int:
    """k: how many patches, in each direction, are one cell of `count` maps, so that they take at most `HEADS_BYTES`."""
    k = merged(grid)
    while 2 * count * int(np.prod(cell_grid(grid, k))) ** 2 > HEADS_BYTES and np.prod(cell_grid(grid, k)) > 1:
        k += 1
    return k


def heads_feed(maps: Mapping[str, np.ndarray], grid: tuple[int, int], digest: str, memory: str) -> Payload:
    """The maps of the head grid, for the explorer of this memory: sent once for an image, whatever is clicked later.

    Args:
        maps: {"part/layer/head": (M, M) weights}, coarsened with k = `heads_merged(grid, len(maps))`.
        grid: (rows, columns) of patches.
        digest: That of the explorer's side.
        memory: As for `payload`.
    """
    k = heads_merged(grid, len(maps))
    quantised = [quantise(one) for one in maps.values()]
    return {
        "feed": "heads",
        "memory": memory,
        "digest": digest,
        "names": list(maps),
        "shape": list(cell_grid(grid, k)),
        "merged": k,
        "largest": [one.largest for one in quantised],
        "smallest": [one.smallest for one in quantised],
        "cells": np.concatenate([one.cells.ravel() for one in quantised]),
    }


def for_streamlit(made: Payload) -> Payload:
    """The payload with its maps as arrays on the first level, where Streamlit sends them as binary Arrow columns."""
    flat = {f"map_{number}": entry["data"] for number, entry in enumerate(made["maps"])}
    maps = [{**_about(entry), "column": f"map_{number}"} for number, entry in enumerate(made["maps"])]
    return {**made, "maps": maps, **flat}


def for_json(made: Payload) -> Payload:
    """The payload with its maps as base64 of little-endian numbers: plain JSON."""
    maps = [
        {**_about(entry), "data": base64.b64encode(entry["data"].astype("<u2").tobytes()).decode()}
        for entry in made["maps"]
    ]
    return {**made, "maps": maps}


def read_view(state: object, default: View, names: Collection[str], num_tokens: int) -> View:
    """The view that the browser told, which may hold anything; the default, which was sent, fills what is no view.

    `state` is None before the first change, `names` are all maps that there are.
    """
    if not isinstance(state, Mapping) or state.get("revision") != default.revision:
        return default  # it has not been told, or is older than what the server has set since
    chosen = {field: state.get(field) for field in ("part", "layer", "head")}
    if "/".join(map(str, chosen.values())) not in names:
        chosen = {}

    def is_token(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < num_tokens

    if is_token(state.get("query")):
        chosen["query"] = state["query"]
    for field, choices in (("direction", get_args(Direction)), ("range", get_args(Range))):
        if state.get(field) in choices:
            chosen[field] = state[field]
    pins = state.get("pins")
    if isinstance(pins, Sequence) and not isinstance(pins, str) and all(map(is_token, pins)):
        chosen["pins"] = tuple(dict.fromkeys(pins))[:MAX_PINS]
    return replace(default, **chosen)  # type: ignore[arg-type]


def maps_to_send(
    state: object, view: View, names: Sequence[str], digest: str, grid: tuple[int, int], fed: Collection[str] = ()
) -> list[str]:
    """The maps for the payload of this run: that of the first view, or those that the browser asked for since.

    The answer stays the same from run to run until another question comes, so that nothing is sent twice. `state` is
    what the browser asked for, which may hold anything, or None; `view` the one that the server set last; `digest` that
    of the side that is shown now; `fed` are the maps that the browser has from elsewhere (`heads_feed`).
    """
    first = [] if view.name in fed else [view.name]
    if not isinstance(state, Mapping) or state.get("digest") != digest or view.name not in names:
        return first  # nothing was asked about this image
    asked = state.get("names")
    if state.get("revision") != view.revision or not isinstance(asked, Sequence):
        return first  # a view was set since: its map may be missing, the others are there
    known = [name for name in dict.fromkeys(map(str, asked)) if name in names]
    return known[: max(1, FIRST_BYTES // map_bytes(grid))] or first


def _about(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "data"}


def _side_entry(one: Side) -> dict[str, Any]:
    k = merged(one.grid)
    return {
        "title": one.title,
        "digest": one.digest,
        "image": png_url(one.image),
        "size": list(one.image.shape),
        "patch": one.patch_size,
        "grid": list(one.grid),
        "merged": k,
        "cells": list(cell_grid(one.grid, k)),
        "names": list(one.names),
    }


def _difference_tops(sides: Sequence[Side]) -> dict[str, list[float]]:
    """{"difference": [shared, full]}: ends of the colours of A - B in x uniform, where the two can be subtracted."""
    if len(sides) != 2 or sides[0].grid != sides[1].grid:
        return {}
    first, second = (dequantise(next(iter(one.maps.values()))) * one.num_tokens for one in sides)
    apart = np.abs(first - second)
    ends = [float(np.percentile(apart, 99.5)), float(apart.max())]
    return {"difference": [max(DIFFERENCE_LIMIT, end) for end in ends]}
