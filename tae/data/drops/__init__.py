"""Simulated drops that slide down a tilted plate, filmed from the side.

- shape: outlines, from contact angles and the length of the tail
- motion: recordings; where and how a drop is at a time
- render: pixels
- frame: one moment as strip, crop, square and row of a table
- measure: what a frame tells, measured on its pixels; how two differ
- source: single frames to train on
"""

from tae.data.drops.source import DropSource
