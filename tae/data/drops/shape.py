"""The outline of a drop on a plate, from the side.

The outline is told by its tangent, an angle that falls with the arc from the advancing contact angle at the front, over the
top, to minus the receding angle at the rear. Capillarity makes that fall smooth: along the head the curvature is that of an
arc, changed by three cosines (gravity flattens the top, the air in front steepens one side). Where viscosity holds the rear
back, the fall stops at the shoulder, turns over (the waist) and runs out into a tail of a given length, which ends in a
foot, high or thin as a film. A front above 90 degrees leans over: the outline is no function of x.
"""

from dataclasses import dataclass

import numpy as np

POINTS = 320


@dataclass(frozen=True, kw_only=True)
class Character:
    """The traits that a drop keeps as it moves, whatever its angles and its tail are; drawn by `draw_character`."""

    head: tuple[float, float, float]
    """Shares of three cosines in the curvature along the head; 0: an arc of a circle."""
    shoulder: float
    """Steepest slope behind the top where there is a tail, in degrees."""
    fall: float
    """Share of the head's height that is lost from the shoulder to the tail."""
    foot: float
    """Share of it that the foot keeps at the end of the tail."""
    sag: float
    """How much steeper the tail is at its end than at its beginning, in degrees; above its slope there is a waist."""
    rear: float
    """Share of a cosine in the curvature of the foot."""
    softness: float
    """Arc over which the tangent is averaged, as a share of the head's."""
    ripples: tuple[float, ...]
    """Waves of the tangent along the outline, in degrees: 1, 2, 3, ... half waves."""
    curls: tuple[tuple[float, float, float], ...]
    """(place, degrees, length) of lobes that stand out, as after a splash; place and length are shares of the arc."""


def draw_character(random: np.random.Generator) -> Character:
    """A drop's own features. One in three is calm, that is close to smooth arcs; one in sixteen has been splashed."""
    calm = random.random() < 0.35
    ripple = random.uniform(0, 2.0 if calm else 7.0)
    curls = int(random.integers(1, 4)) if random.random() < 0.06 else 0
    return Character(
        head=tuple((random.uniform(-1, 1, 3) * ([0.3, 0.3, 0.15] if calm else [0.65, 0.6, 0.3])).tolist()),
        shoulder=random.uniform(12, 62),
        fall=random.uniform(0.3, 0.85),
        foot=random.uniform(0.02, 0.98) ** 2,
        sag=random.uniform(-4, 16),
        rear=random.uniform(-0.9, 0.9),
        softness=random.uniform(0.05, 0.5),
        ripples=tuple((ripple * random.normal(0, 1, 6) / (1 + 0.35 * np.arange(6))).tolist()),
        curls=tuple(
            (random.uniform(0.15, 0.9), random.uniform(40, 190), 0.01 * 12.0 ** random.random()) for _ in range(curls)
        ),
    )


def outline(character: Character, advancing: float, receding: float, tail: float) -> np.ndarray:
    """The outline from the front contact, at (0, 0), over the top to the rear contact: (POINTS, 2), x and y.

    The drop moves to the left; y goes up from the plate. The volume is 1 (see `volume_of`).

    Args:
        character: The drop's own features.
        advancing: Angle inside the liquid at the front, in degrees, 60 to 170.
        receding: The same at the rear, 10 to 120.
        tail: Length of the tail as a multiple of the head's height, from 0.
    """
    tangent, head = _tangent(character, advancing, receding, tail)
    share = np.linspace(0, 1, POINTS)
    waves = np.arange(1, len(character.ripples) + 1)
    tangent += np.sin(np.pi * share[:, None] * waves) @ np.array(character.ripples)  # none at the contacts
    points = _walk(tangent)
    behind = np.maximum(share - head / 2, 0) / (1 - head / 2)
    points[:, 1] -= points[-1, 1] * behind  # what is left to close
    for curl in character.curls:
        points += _lobe(tangent, share, *curl)
    points[:, 1] = np.maximum(points[:, 1], 0)
    return points / volume_of(points) ** (1 / 3)


def volume_of(points: np.ndarray) -> float:
    """Volume under an outline (N, 2) whose slices across the plate are half discs: pi / 2 times the integral of y**2."""
    x, y = points.T
    squares = (y[1:] ** 2 + y[1:] * y[:-1] + y[:-1] ** 2) / 3
    return max(float(np.pi / 2 * (squares * np.diff(x)).sum()), 1e-9)


def _sin(degrees: np.ndarray) -> np.ndarray:
    return np.sin(np.radians(degrees))


def _tangent(character: Character, advancing: float, receding: float, tail: float) -> tuple[np.ndarray, float]:
    """Angles (POINTS,) in degrees, evenly along head, waist, tail and foot, about closed; and the head's share of the arc."""
    has_tail = min(1.0, tail) ** 2 * (3 - 2 * min(1.0, tail))  # a drop without one is a head and a foot
    steepest = character.shoulder * has_tail + min(receding, 60) * 0.6 * (1 - has_tail)
    arc = np.linspace(0, 1, 160)
    turned = arc + sum(share * np.sin(k * np.pi * arc) / (k * np.pi) for k, share in enumerate(character.head, 1))
    head = advancing - (advancing + steepest) * turned
    climb = np.cumsum(_sin(head)) / len(head)
    height, shoulder = climb.max(), max(climb[-1], 0.2 * climb.max())

    # The shoulder's height is lost in three parts; each part's length follows from its fall and its slope.
    waist = character.fall * has_tail
    foot = (1 - waist) * (1 - has_tail * (1 - character.foot))
    run = max(1 - waist - foot, 0)
    slope = np.degrees(np.arcsin(min(0.6, run * shoulder / max(tail * height, 1e-6)))) if tail > 0 else 0.0
    flat = slope * has_tail + steepest * (1 - has_tail)
    sag = min(character.sag, slope + 6) * has_tail
    begin, end = flat - sag / 2, flat + sag / 2
    turns = (
        head,
        -np.linspace(steepest, begin, 160),
        -np.linspace(begin, end, 160),
        -end - (receding - end) * (arc + character.rear * np.sin(np.pi * arc) / np.pi),
    )
    waist_length, foot_length = (
        part * shoulder / max(-_sin(turn).mean(), 0.08) for part, turn in ((waist, turns[1]), (foot, turns[3]))
    )
    lengths = (1.0, waist_length, tail * height, foot_length)
    starts = np.cumsum((0.0, *lengths[:-1]))
    place = np.concatenate([start + arc * length for start, length in zip(starts, lengths, strict=True)])
    along = np.linspace(0, sum(lengths), POINTS)
    tangent = np.interp(along, place, np.concatenate(turns))
    return _smooth(tangent, round(character.softness / along[1])), 1 / sum(lengths)


def _smooth(tangent: np.ndarray, width: int) -> np.ndarray:
    """Averages over `width` points, less and less towards the ends, which keep their angles."""
    if width < 2:
        return tangent
    total = np.concatenate([[0.0], np.cumsum(tangent)])
    middle = np.arange(len(tangent))
    half = np.minimum(width // 2, np.minimum(middle, len(tangent) - 1 - middle))
    return (total[middle + half + 1] - total[middle - half]) / (2 * half + 1)


def _walk(tangent: np.ndarray) -> np.ndarray:
    """(N, 2): points a step of 1 apart, from (0, 0) on."""
    radians = np.radians((tangent[1:] + tangent[:-1]) / 2)
    steps = np.stack([np.cos(radians), np.sin(radians)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def _lobe(tangent: np.ndarray, share: np.ndarray, place: float, degrees: float, length: float) -> np.ndarray:
    """(N, 2): by how much a curl moves the points of an outline; those before and behind it stay where they are."""
    away = (share - place) / length
    bent = tangent + degrees * (np.exp(-((away + 0.9) ** 2)) - np.exp(-((away - 0.9) ** 2)))
    moved = _walk(bent) - _walk(tangent)
    passed = np.clip((share - place) / min(5 * length, 2 * place, 2 - 2 * place) + 0.5, 0, 1)
    return moved - moved[-1] * (passed**2 * (3 - 2 * passed))[:, None]
