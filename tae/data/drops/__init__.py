"""Simulated drops that slide down a tilted plate, filmed from the side.

- shape: outlines, from contact angles and the length of the tail
- motion: recordings; where and how a drop is at a time
- render: pixels
- source: single frames as strips, crops and squares, and the source that trains on them
- measure: what a frame tells, measured on its pixels
"""

from tae.data.drops.source import DropSource
