"""From outlines to pixels: black drops with white highlights on a white page, on a dark line at the bottom.

Lengths are pixels of the strip, x to the right from its left edge, y up from the plate.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

STRIP = (152, 1280)
"""Height and width of a whole frame."""
SAMPLES = 4  # to a side of a pixel
PAD = 24  # pixels about a drop in which its light is worked out


@dataclass(frozen=True)
class Blob:
    """A soft ellipse: a highlight in a drop, or a speck on the page."""

    x: float
    y: float
    x_radius: float
    y_radius: float
    grey: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a recording is lit and filmed; greys are of 0 to 255. Drawn by `draw_look`."""

    page: float
    ink: float
    rims: tuple[tuple[float, float], ...]
    """(grey, radius): how much lighter than the ink the edge is from inside, and over how many pixels that fades."""
    blur: float
    """Standard deviation of the edge, in pixels."""
    base: float
    """Rows of the dark line at the bottom."""
    base_grey: float
    lights: tuple[Blob, ...]
    """Highlights; places as shares of the head: x from its front, y from the plate."""
    sheens: tuple[Blob, ...]
    """Wide, faint lights in the ink, placed alike; grey is added."""
    specks: tuple[Blob, ...]
    """Satellites, in pixels of the strip."""
    noise: float
    """Standard deviation, in greys."""
    lines: float
    """The same of each row's common grey inside the ink."""
    seed: int


def draw_look(random: np.random.Generator) -> Look:
    """Light, camera and dirt of one recording, more various than a laboratory's."""
    x, y, size = random.uniform(0.2, 0.75), random.uniform(0.08, 0.45), random.uniform(0.8, 2.6)
    lights = [Blob(x, y, size * random.uniform(0.8, 2.2), size, random.uniform(190, 255))]
    for _ in range(int(random.integers(0, 3))):
        x += random.choice([-1, 1]) * random.uniform(0.03, 0.11)
        y += random.uniform(-0.02, 0.02)
        lights.append(Blob(x, y, size * random.uniform(0.3, 1), size * random.uniform(0.4, 1), random.uniform(60, 255)))
    sheens = [
        Blob(
            random.uniform(0.1, 2),
            random.uniform(0, 0.6),
            random.uniform(5, 30),
            random.uniform(3, 16),
            random.uniform(4, 24),
        )
        for _ in range(int(random.integers(0, 3)))
    ]
    specks = [
        Blob(random.uniform(0, STRIP[1]), random.uniform(2, 140), radius, radius, random.uniform(20, 210))
        for radius in random.uniform(0.4, 2.2, int(random.integers(1, 25)) if random.random() < 0.35 else 0)
    ]
    clean = random.random() < 0.6
    return Look(
        page=255.0 if clean else random.uniform(250, 255),
        ink=random.uniform(4, 18),
        rims=((random.uniform(5, 50), random.uniform(1.5, 6)), (random.uniform(0, 24), random.uniform(6, 22))),
        blur=random.uniform(0.35, 1.1),
        base=float(random.choice([1, 1, 1, 2])) + (random.uniform(0, 0.9) if random.random() < 0.3 else 0.0),
        base_grey=random.uniform(0, 3) if random.random() < 0.7 else random.uniform(0, 60),
        lights=tuple(lights),
        sheens=tuple(sheens),
        specks=tuple(specks),
        noise=random.uniform(0.2, 0.8) if clean else random.uniform(0.5, 2.0),
        lines=random.uniform(0, 1.0),
        seed=int(random.integers(2**32)),
    )


def render(outlines: list[np.ndarray], look: Look, left: int = 0, right: int = STRIP[1], number: int = 0) -> np.ndarray:
    """Columns `left` to `right` of the strip, (152, right - left) uint8; the same pixels whatever the columns asked for.

    Args:
        outlines: (N, 2) each, from contact to contact, x and y in pixels.
        look: Light and camera.
        left: First column, from 0.
        right: One behind the last.
        number: Of the frame in its recording: each has noise of its own.
    """
    height, width = STRIP[0], right - left
    page = np.full((height, width), look.page, np.float32)
    random = np.random.default_rng(look.seed)
    tile = random.standard_normal((height, STRIP[1] // 4), np.float32) * np.float32(look.noise)
    lines = random.standard_normal(height, np.float32) * np.float32(look.lines)
    for speck in look.specks:
        _lay_blob(page, left, look.base, speck)
    for outline in outlines:
        _lay_drop(page, left, outline, look, lines)
    rows = np.clip(np.arange(1, height + 1) - (height - look.base), 0, 1)[:, None].astype(np.float32)
    page += rows * (np.float32(look.base_grey) - page)
    page += tile[:, (np.arange(left, right) + 89 * number) % tile.shape[1]]
    return np.clip(page + 0.5, 0, 255).astype(np.uint8)


def _lay_drop(page: np.ndarray, left: int, outline: np.ndarray, look: Look, lines: np.ndarray) -> None:
    """Lay one drop on the page (152, W), whose first column is `left`."""
    height, width = page.shape
    first, last = int(outline[:, 0].min()) - PAD, int(outline[:, 0].max()) + PAD + 1
    if first >= left + width or last <= left:
        return
    top = max(0, int(height - look.base - outline[:, 1].max()) - PAD // 2)
    shape = (last - first, height + PAD - top)
    canvas = Image.new("L", (shape[0] * SAMPLES, shape[1] * SAMPLES))
    under = [(outline[-1, 0], -2 * PAD), (outline[0, 0], -2 * PAD)]  # no light comes from below
    corners = np.concatenate([outline, under])
    x, y = (corners[:, 0] - first) * SAMPLES - 0.5, (height - look.base - corners[:, 1] - top) * SAMPLES - 0.5
    ImageDraw.Draw(canvas).polygon(np.stack([x, y], 1).ravel().tolist(), fill=255)
    mask = canvas.reduce(SAMPLES)
    grey = np.full(shape[::-1], look.ink, np.float32)
    for light, radius in look.rims:
        blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius)), np.float32)
        grey += np.float32(light / 127) * (255 - blurred)
    head = outline[:, 1].max()
    is_left = outline[0, 0] < outline[-1, 0]
    for kind in (look.sheens, look.lights):
        for blob in kind:
            x = outline[0, 0] + (1 if is_left else -1) * blob.x * min(1.6 * head, np.ptp(outline[:, 0]))
            place = Blob(x, blob.y * head, blob.x_radius, blob.y_radius, blob.grey)
            _lay_blob(grey, first, look.base, place, top, is_added=kind is look.sheens)
    ink = np.asarray(mask.filter(ImageFilter.GaussianBlur(look.blur)), np.float32) / np.float32(255)
    inside = slice(max(first, left), min(last, left + width))
    of_page, of_drop = (slice(inside.start - start, inside.stop - start) for start in (left, first))
    under_page = page[top:, of_page]
    grey = grey[: height - top, of_drop] + lines[top:, None]
    under_page += ink[: height - top, of_drop] * (grey - under_page)


def _lay_blob(page: np.ndarray, left: int, base: float, blob: Blob, top: int = 0, is_added: bool = False) -> None:
    """Lay a soft ellipse on a page whose first column is `left` and first row is `top` of the strip."""
    x, y = blob.x - left, STRIP[0] - base - blob.y - top
    reach_x, reach_y = (3 * r + 3 if is_added else r + 3 for r in (blob.x_radius, blob.y_radius))
    rows = slice(max(0, int(y - reach_y)), max(0, int(y + reach_y) + 1))
    columns = slice(max(0, int(x - reach_x)), max(0, int(x + reach_x) + 1))
    place = page[rows, columns]
    if not place.size:
        return
    down = (np.arange(rows.start, rows.start + place.shape[0]) + 0.5 - y) / blob.y_radius
    across = (np.arange(columns.start, columns.start + place.shape[1]) + 0.5 - x) / blob.x_radius
    away = np.hypot(down[:, None], across)
    if is_added:
        place += blob.grey * np.exp(-(away**2))
    else:  # a pixel wide edge
        share = np.clip((1 - away) * min(blob.x_radius, blob.y_radius) + 0.5, 0, 1)
        place += share * (blob.grey - place)
