"""Drops that slide down a tilted plate: one recording, and where and how its drop is at a time.

Gravity along the plate drives a drop, the hysteresis of its contact angles (Furmidge 1962) and viscosity hold it back, so its
velocity goes exponentially from that of its release to a terminal one. Its capillary number, viscosity times velocity over
surface tension, opens the advancing angle and closes the receding one (Cox 1986, Voinov 1976: the cube of the angle changes
in proportion), and sets the tail that the drop comes to have. The volume is kept.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tae.data.composed import random_of
from tae.data.drops.render import STRIP, Look, draw_look
from tae.data.drops.shape import Character, draw_character, outline

CM_PER_PIXEL = 1 / 280
FRAMES_PER_SECOND = 4000
VISCOSITY = (1.0, 40.0)
"""Range of the viscosities, in mPa s; drawn evenly in their logarithm."""
HELD_OUT_VISCOSITY = (6.0, 10.0)
"""Viscosities that only the test split has: every third of its recordings."""
TENSION = 64.0  # mN/m, of water and glycerol
DENSITY = 1.15  # g/cm3
GRAVITY = 981.0  # cm/s2


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One drop from the moment it is wholly in sight until its front reaches the other end of the strip."""

    viscosity: float
    """mPa s."""
    volume: float
    """Microlitres."""
    tilt: float
    """Tilt of the plate, in degrees."""
    moves_left: bool
    release: float
    """Velocity at time 0, in cm/s."""
    terminal: float
    """Velocity that it tends to, in cm/s."""
    lag: float
    """Time in which the difference between the two falls to 1 / e, in seconds."""
    static: tuple[float, float]
    """Advancing and receding angle at rest, in degrees."""
    bending: float
    """How strongly the capillary number changes the angles."""
    stretch: float
    """Tail, in heights of the head, for a capillary number of 1."""
    stretched: tuple[float, float]
    """Share of its tail that the drop has at time 0, and the time in seconds in which the rest falls to 1 / e."""
    start: float
    """Pixels between the rear contact and the edge of the strip at time 0."""
    character: Character
    look: Look
    companion: tuple[Character, float, float, float, float] | None
    """A second drop: its character, volume, angles at both sides, and gap behind the first, in pixels."""
    margins: tuple[int, int]
    """White columns to the left and right of the drop in a crop."""

    def travel(self, time: float) -> float:
        """Centimetres that the front has gone."""
        return self.terminal * time + (self.terminal - self.release) * self.lag * float(np.expm1(-time / self.lag))

    def velocity(self, time: float) -> float:
        """Speed of the front, in cm/s."""
        return self.terminal + (self.release - self.terminal) * float(np.exp(-time / self.lag))

    def capillary_number(self, time: float) -> float:
        """Viscosity times speed over surface tension, at a time in seconds."""
        return self.viscosity * self.velocity(time) / 100 / TENSION

    def angles(self, time: float) -> tuple[float, float]:
        """Advancing and receding contact angle, in degrees."""
        advancing, receding = np.radians(self.static)
        change = 9 * self.bending * self.capillary_number(time)
        least = (0.42 * receding) ** 3
        opened = np.degrees(np.cbrt(advancing**3 + change))
        closed = np.degrees(np.cbrt(least + np.logaddexp(0, 3 * (receding**3 - change - least)) / 3))
        return min(float(opened), 165.0), float(closed)

    def tail(self, time: float) -> float:
        """Length of the tail, in heights of the head."""
        share, lag = self.stretched
        full = self.stretch * self.capillary_number(time)
        return 8 * float(np.tanh(full * (1 - (1 - share) * np.exp(-time / lag)) / 8))

    def outlines(self, time: float) -> list[np.ndarray]:
        """The drop's outline, and its companion's where it has one, (N, 2) each in pixels of the strip; front first."""
        drops = [self._own(time)]
        front = self.start + self._first_length + self.travel(time) / CM_PER_PIXEL
        drops[0][:, 0] += STRIP[1] - front
        if self.companion is not None:
            character, volume, advancing, receding, gap = self.companion
            other = outline(character, advancing, receding, 0.0) * _scale(volume)
            other[:, 0] += drops[0][:, 0].max() + gap - other[:, 0].min()
            drops.append(other)
        if not self.moves_left:
            for drop in drops:
                drop[:, 0] = STRIP[1] - drop[:, 0]
        return drops

    @property
    def duration(self) -> float:
        """Seconds until the front is 8 pixels from the other end."""
        left = (STRIP[1] - 8 - self.start - self._first_length) * CM_PER_PIXEL
        times = np.linspace(0, 0.2, 100)
        return float(np.interp(left, [self.travel(time) for time in times], times))

    @cached_property
    def _first_length(self) -> float:
        """Pixels from contact to contact at time 0."""
        return float(np.ptp(self._own(0.0)[[0, -1], 0]))

    def _own(self, time: float) -> np.ndarray:
        """The drop's outline in pixels, its front contact at x = 0."""
        return outline(self.character, *self.angles(time), self.tail(time)) * _scale(self.volume)


def draw_recording(split: str, index: int, seed: int = 0) -> Recording:
    """Recording number `index` of a split; raises ValueError if the split is unknown."""
    random = random_of(split, index, seed, 152)
    viscosity = _draw_viscosity(random, is_held_out=split == "test" and index % 3 == 2)
    volume = 4.0 * 20.0 ** random.random()
    advancing = random.uniform(80, 132)
    static = (advancing, random.uniform(55, min(112, advancing - 4)))  # hysteresis
    release, terminal, lag, tilt = _draw_drive(random, viscosity, volume, static)
    companion = None
    if random.random() < 0.04:
        small = volume * random.uniform(0.02, 0.5)
        companion = (
            draw_character(random),
            small,
            random.uniform(70, 130),
            random.uniform(40, 100),
            random.uniform(3, 60),
        )
    return Recording(
        viscosity=viscosity,
        volume=volume,
        tilt=tilt,
        moves_left=bool(random.random() < 0.65),
        release=release,
        terminal=terminal,
        lag=lag,
        static=static,
        bending=random.uniform(0.5, 3.0),
        stretch=random.uniform(10, 45),
        stretched=(random.uniform(0, 1), random.uniform(0.02, 0.15)),
        start=random.uniform(8, 90),
        character=draw_character(random),
        look=draw_look(random),
        companion=companion,
        margins=(int(random.integers(8, 29)), int(random.integers(8, 29))),
    )


def _scale(volume: float) -> float:
    """Pixels for an outline of volume 1."""
    return (volume * 1e-3) ** (1 / 3) / CM_PER_PIXEL


def _draw_viscosity(random: np.random.Generator, is_held_out: bool) -> float:
    """Evenly in the logarithm, from the held-out band or from all but it."""
    low, gap, end, high = np.log([VISCOSITY[0], *HELD_OUT_VISCOSITY, VISCOSITY[1]])
    if is_held_out:
        return float(np.exp(random.uniform(gap, end)))
    place = random.uniform(low, high - (end - gap))
    return float(np.exp(place if place < gap else place + end - gap))


def _draw_drive(
    random: np.random.Generator, viscosity: float, volume: float, static: tuple[float, float]
) -> tuple[float, float, float, float]:
    """(release, terminal, lag, tilt) that keep the velocity of a crossing between 30 and 65 cm/s."""
    size = (volume * 1e-3) ** (1 / 3)  # cm
    advancing, receding = np.radians(static)
    hysteresis = TENSION * size * max(0.1, np.cos(receding) - np.cos(advancing)) / (DENSITY * volume * 1e-3)  # cm/s2
    for _ in range(50):
        # A crossing takes about a tenth of a second: velocities are drawn, and the tilt that they need follows.
        release, end = random.uniform(33, 60, 2)
        lag = DENSITY * size**2 / (random.uniform(0.4, 3) * viscosity * 0.01)  # viscosity in poise
        terminal = release + (end - release) / -np.expm1(-0.1 / lag)
        pull = (terminal / lag + random.uniform(0.1, 1.2) * hysteresis) / GRAVITY
        if 0.2 < pull < 0.95:
            break
    return float(release), float(terminal), lag, float(np.degrees(np.arcsin(np.clip(pull, 0.2, 0.95))))
