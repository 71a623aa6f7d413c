"""Measurements of a frame of a drop, on its pixels: contour, contact line, angles, centre; and how two frames differ.

Images are (H, W) uint8, a dark drop on a white page and a dark line. Lengths are pixels, x from the left edge of the image, y
up from the top of the line. Angles lie inside the liquid, in degrees. A square is measured as it is, stretched.
"""

from dataclasses import dataclass

import numpy as np

MARGIN = 16
"""White columns on either side of the drop in `crop_columns`."""
LONGEST = 7
"""A crop is at most so many times as wide as it is high; what is wider is a whole frame, or several of them."""
REACH = 12.0
"""Pixels of the contour from which a tangent is taken."""
HALF = 127.5
OUTLINE = ("outline_distance_px", "contact_length_error_px", "left_angle_error_deg", "right_angle_error_deg")
"""Columns of `outline_columns`."""


@dataclass(frozen=True)
class Measured:
    """One drop."""

    points: np.ndarray
    """(N, 2), x and y of the contour at half ink, in no order."""
    contacts: tuple[float, float]
    """Where the contour meets the line, left and right."""
    angles: tuple[float, float]
    """Contact angles, left and right: of a parabola through the contour's first `REACH` pixels."""
    middles: tuple[float, float]
    """Angles of the contour at half the drop's height, left and right."""
    centre: tuple[float, float]
    """Centre of the area."""

    @property
    def contact_length(self) -> float:
        """Length of the contact line, in pixels."""
        return self.contacts[1] - self.contacts[0]


@dataclass(frozen=True)
class Difference:
    """How the drop in an image differs from the same in another."""

    distance: float
    """Mean distance from the points of either contour to the other, in pixels."""
    contact_length: float
    """The other's minus the first's, in pixels."""
    angles: tuple[float, float]
    """The other's minus the first's, left and right, in degrees."""


def base_row(image: np.ndarray) -> int:
    """First row of the dark line at the bottom; H where there is none."""
    is_dark = (image < HALF).mean(axis=1) > 0.95
    row = len(is_dark)
    while row > 0 and is_dark[row - 1]:
        row -= 1
    return row


def crop_columns(image: np.ndarray, margin: int = MARGIN) -> tuple[int, int]:
    """Columns (first, one behind the last) of the drops on the line, and a margin where the image has one.

    Ink counts where it is at least 12 columns wide: satellites are no drops. All columns where there is no drop.
    """
    runs = [run for run in _runs((image[: base_row(image)] < HALF).sum(axis=0) >= 2) if run[1] - run[0] >= 12]
    if not runs:
        return 0, image.shape[1]
    return max(0, runs[0][0] - margin), min(image.shape[1], runs[-1][1] + margin)


def shows_drop(image: np.ndarray) -> bool:
    """Whether there is a dark line at the bottom, and on it drops that a crop of `LONGEST` holds, with room beside them."""
    first, last = crop_columns(image, 0)
    return base_row(image) < len(image) and last - first < min(image.shape[1], LONGEST * len(image))


def measure(image: np.ndarray) -> Measured:
    """The drop with the longest contact line.

    Raises:
        ValueError: If there is no drop on the line, or none of a pixel's height.
    """
    page = image[: base_row(image)].astype(np.float64)
    ink = page < HALF
    runs = _runs(ink[-1]) if len(ink) else []
    if not runs:
        raise ValueError("the image must show a dark drop on its bottom line, got none")
    first, last = max(runs, key=lambda run: run[1] - run[0])
    seed = np.zeros(ink.shape[1], bool)
    seed[first:last] = True
    drop = _reached(ink[::-1], seed)[::-1]
    drop = ~_reached(~drop, ~drop[0])  # highlights are of the drop
    page = np.where(drop & ~ink, 0.0, np.where(ink & ~drop, 255.0, page))
    rows, columns = np.nonzero(drop)
    shift = _base_shift(image, len(page))
    centre = float(columns.mean()) + 0.5, len(page) - float(rows.mean()) - 0.5 + shift
    return measure_points(_contour(page, drop) + [0, shift], centre)


def measure_points(points: np.ndarray, centre: tuple[float, float]) -> Measured:
    """The same of a contour (N, 2), in any order, a pixel or less from point to point, and its area's centre."""
    points = points[points[:, 1] > 0.4]  # below it, a film that no pixel shows
    if not len(points):
        raise ValueError("the image must show a drop of a pixel's height or more, got a film")
    low = points[points[:, 1] < max(2.5, points[:, 1].min() + 1)]
    high = points[points[:, 1] >= points[:, 1].max() / 2]
    contacts, angles, middles = [], [], []
    for is_right in (False, True):
        pick = np.argmax if is_right else np.argmin
        foot = low[pick(low[:, 0])]
        direction = _direction(points, foot)
        away = foot[1] / np.tan(np.radians(direction)) if 10 < direction < 170 else 0.0
        contacts.append(float(foot[0] - away))
        angles.append(180 - direction if is_right else direction)
        direction = _direction(points, high[pick(high[:, 0] - high[:, 1] * (1 if is_right else -1))])
        middles.append(180 - direction if is_right else direction)
    return Measured(points, (contacts[0], contacts[1]), (angles[0], angles[1]), (middles[0], middles[1]), centre)


def compare(image: np.ndarray, other: np.ndarray) -> Difference:
    """How `other`, a reconstruction, differs from an image of the same size.

    Raises:
        ValueError: If either shows no drop.
    """
    from scipy.spatial import KDTree  # it takes a third of a second, for which no page's first image waits

    one, two = measure(image), measure(other)
    left, right = (after - before for before, after in zip(one.angles, two.angles, strict=True))
    away = [KDTree(b.points).query(a.points)[0].mean() for a, b in ((one, two), (two, one))]
    return Difference(float(np.mean(away)), two.contact_length - one.contact_length, (left, right))


def outline_columns(image: np.ndarray, recon: np.ndarray) -> dict[str, float | None]:
    """What a table says of an image and its reconstruction, (H, W) in [0, 1] each: `compare`, by columns.

    None in each where the image has no dark line at its bottom, or one of them no dark drop on it.
    """
    shown, drawn = (np.rint(np.clip(one, 0, 1) * 255).astype(np.uint8) for one in (image, recon))
    if base_row(shown) == len(shown):
        return dict.fromkeys(OUTLINE)
    try:
        found = compare(shown, drawn)
    except ValueError:
        return dict.fromkeys(OUTLINE)
    return dict(zip(OUTLINE, (found.distance, found.contact_length, *found.angles), strict=True))


def _base_shift(image: np.ndarray, row: int) -> float:
    """By how much of a pixel the line's true top lies below the top of `row`: it may cover a part of a row."""
    if not 0 < row < len(image):
        return 0.0
    lightest = image.max(axis=1).astype(float)
    cover = (255 - lightest[row - 1 : row + 1]) / (255 - min(lightest[-1], HALF))
    return float(1 - np.clip(cover, 0, 1).sum())


def _runs(is_on: np.ndarray) -> list[tuple[int, int]]:
    """(first, one behind the last) of each run in a row (W,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]]).astype(np.int8)))
    return [(first, last) for first, last in edges.reshape(-1, 2).tolist()]


def _reached(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Pixels of a mask (H, W) that are joined to those of its first row in `seed` (W,), going down and sideways only."""
    reached = np.zeros_like(mask)
    above = seed
    for row, place in zip(mask, reached, strict=True):
        run = np.cumsum(row & ~np.concatenate([[False], row[:-1]]))  # numbers the row's runs from 1
        is_touched = np.zeros(run[-1] + 1, bool)
        is_touched[run[row & above]] = True
        place[:] = row & is_touched[run]
        above = place
    return reached


def _contour(page: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """(N, 2): where the grey between a pixel of the drop and a neighbour outside it is half way."""
    found = []
    for axis in (0, 1):
        before, after = (slice(None), slice(-1)), (slice(None), slice(1, None))
        if axis == 0:
            before, after = before[::-1], after[::-1]
        rows, columns = np.nonzero(drop[before] != drop[after])
        first, second = page[before][rows, columns], page[after][rows, columns]
        share = np.clip((HALF - first) / np.where(first == second, 1, second - first), 0, 1)
        x, y = columns + 0.5, len(page) - rows - 0.5
        found.append(np.stack([x, y - share] if axis == 0 else [x + share, y], axis=1))
    return np.concatenate(found)


def _direction(points: np.ndarray, at: np.ndarray) -> float:
    """Direction of the contour at one of its points, in degrees, (0, 180): that of a parabola through what is near."""
    near = points[np.hypot(*(points - at).T) < REACH]
    if len(near) < 4:
        return 90.0
    middle = near.mean(axis=0)
    across, up = np.linalg.svd(near - middle, full_matrices=False)[2]
    along = (near - middle) @ across
    fit = np.polyfit(along, (near - middle) @ up, 2)
    slope = np.polyval(np.polyder(fit), (at - middle) @ across)
    direction = across + slope * up
    return float(np.degrees(np.arctan2(direction[1], direction[0])) % 180)
