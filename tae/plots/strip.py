"""A long strip at a height at which it can be looked at: its images below each other, to be scrolled sideways together.

Shrunk to a page's width, a strip of 10,000 pixels is a hair line. HTML and CSS, so that the browser does the rest, and a few
lines of JavaScript for the keys that browsers keep for up and down.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tae.data.encode import encode_png
from tae.plots.style import ERROR_COLOURS, palette

PIECE = 8192  # strip pixels of one image file: some browsers draw none that is wider than 16,384 or 32,767
SHOWN_HEIGHTS = (120, 256)  # screen pixels: lower strips are enlarged by a whole number, higher ones shrunk
LANE = 22  # screen pixels of one line of the ruler

STYLE = """
.tae-strip {overflow-x: auto; overflow-y: hidden; container-type: inline-size; padding-bottom: 0.4rem;
  border-radius: 0.3rem}
.tae-strip:focus-visible {outline: 2px solid #0091d5; outline-offset: 2px}
.tae-strip > div {position: relative}
.tae-strip p {position: sticky; left: 0; width: max-content; max-width: 100cqw; margin: 0.7rem 0 0.2rem; font-size: 0.9rem;
  line-height: 1.4}
.tae-strip p:first-child {margin-top: 0}
.tae-strip .row {display: flex; outline: 1px solid rgba(128, 128, 128, 0.3); outline-offset: -1px}
.tae-strip img {display: block; flex: none; max-width: none; border-radius: 0; image-rendering: pixelated}
.tae-strip .ruler {position: relative}
.tae-strip .ruler span {position: absolute; box-sizing: border-box; padding: 0 0.3rem; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; font-size: 0.72rem; line-height: 1.15rem; border: solid currentColor; border-width: 0 1px 2px;
  background: color-mix(in srgb, currentColor 7%, transparent)}
.tae-strip .bar {display: inline-block; width: 7rem; height: 0.6rem; margin: 0 0.4rem; vertical-align: baseline}
"""

KEYS = """
for (const strip of document.querySelectorAll('.tae-strip')) strip.onkeydown = event => {
  const page = 0.9 * strip.clientWidth, end = strip.scrollWidth;
  const move = {Home: -end, End: end, PageUp: -page, PageDown: page, ArrowLeft: -80, ArrowRight: 80}[event.key];
  if (move === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  strip.scrollLeft += move;
};
"""
"""Home, End, Page up and Page down go sideways. So would the arrow keys by themselves, but smoothly, and what is still under way
would be added to the next key's way."""


@dataclass(frozen=True)
class StripRow:
    """One image of a strip."""

    title: str  # what it shows; any text
    pixels: np.ndarray  # (H, W): greys in [0, 1], or a signed error
    limit: float | None = None  # end of the error's colours on both sides; None: an image in greys
    ruled: bool = False  # whether the ruler stands below it


def error_png(error: np.ndarray, limit: float) -> bytes:
    """A signed error (H, W) as a PNG of the same size, every pixel, on colours centred on zero that end at `limit`."""
    image = Image.fromarray(np.round((np.clip(error / limit, -1, 1) + 1) * 127.5).astype(np.uint8), "P")
    image.putpalette(palette(ERROR_COLOURS, 256))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def lanes(starts: Sequence[int], window: int) -> list[int]:
    """The line of a ruler on which each window stands, so that none covers another: the first line that is free."""
    ends: list[int] = []
    chosen = []
    for start in starts:
        lane = next((number for number, end in enumerate(ends) if end <= start), len(ends))
        ends[lane : lane + 1] = [start + window]
        chosen.append(lane)
    return chosen


def shown_scale(height: int) -> float:
    """Screen pixels for each pixel of a strip of this height."""
    low, high = SHOWN_HEIGHTS
    return float(-(-low // height)) if height < low else min(1.0, high / height)


def strip_html(rows: Sequence[StripRow], label: str, starts: Sequence[int], window: int, marks: Sequence[str]) -> str:
    """Images of one strip, all of one size, and a ruler of its windows, as HTML with a script that scrolls sideways.

    Args:
        rows: From top to bottom.
        label: The whole in words, for those who cannot see it.
        starts: First column of each window.
        window: Their width in pixels.
        marks: What the ruler says of each window.
    """
    height, width = rows[0].pixels.shape
    scale = shown_scale(height)
    parts = []
    for row in rows:
        parts.append(f"<p>{_title(row)}</p><div class='row'>{_images(row, scale)}</div>")
        if row.ruled:
            parts.append(_ruler(starts, window, marks, scale))
    return (
        f"<style>{STYLE}</style><div class='tae-strip' tabindex='0' role='region' aria-label='{html.escape(label)}'>"
        f"<div style='width: {width * scale:.0f}px'>{''.join(parts)}</div></div><script>{KEYS}</script>"
    )


def _title(row: StripRow) -> str:
    title = f"<b>{html.escape(row.title)}</b>"
    if row.limit is None:
        return title
    colours = ", ".join(ERROR_COLOURS)
    return (
        f"{title}: −{row.limit:.2f}, too dark <span class='bar' style='background: linear-gradient(to right, {colours})'>"
        f"</span> too light, +{row.limit:.2f}"
    )


def _images(row: StripRow, scale: float) -> str:
    height, width = row.pixels.shape
    images = []
    for start in range(0, width, PIECE):
        piece = row.pixels[:, start : start + PIECE]
        png = encode_png(piece) if row.limit is None else error_png(piece, row.limit)
        images.append(
            f"<img src='data:image/png;base64,{base64.b64encode(png).decode()}' "
            f"alt='{'' if start else html.escape(row.title)}' "
            f"style='width: {piece.shape[1] * scale:g}px; height: {height * scale:g}px'>"
        )
    return "".join(images)


def _ruler(starts: Sequence[int], window: int, marks: Sequence[str], scale: float) -> str:
    placed = lanes(starts, window)
    spans = "".join(
        f"<span title='{html.escape(mark)}' style='left: {start * scale:g}px; width: {window * scale:g}px; "
        f"top: {lane * LANE}px'>{html.escape(mark)}</span>"
        for start, lane, mark in zip(starts, placed, marks, strict=True)
    )
    return f"<div class='ruler' style='height: {(max(placed) + 1) * LANE}px'>{spans}</div>"
