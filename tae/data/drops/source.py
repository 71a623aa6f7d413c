"""Simulated frames to train on."""

import numpy as np

from tae.data.composed import BuiltIn
from tae.data.drops.frame import draw_frame


class DropSource(BuiltIn):
    """Single frames of simulated drops.

    Squares for a square `input_size`; where the width is None, crops as wide as their drop, `max_width` at most; else strips.
    Sizes other than 152 and 1280 are stretched. Every third recording of the test split has a viscosity that is never
    trained on.
    """

    name = "drops"
    data = "simulated liquid drops that slide down a tilted plate"
    licence = "made by tae"

    def compose(self, split: str, index: int) -> np.ndarray:
        """Image number `index` of a split: (H, W) uint8, 255 white."""
        return draw_frame(split, index, self.seed).at((self.height, self.width), self.max_width)

    def kind(self, split: str, index: int) -> str:
        """Which way the drop slides, or that there are two."""
        frame = draw_frame(split, index, self.seed)
        if len(frame.outlines) > 1:
            return "two drops"
        return f"to the {'left' if frame.recording.moves_left else 'right'}"

    def describe(self, draw: int) -> str:
        """The name of a training image, for messages."""
        return f"frame {draw}"

    def _compute_width(self, draw: int) -> int:
        return draw_frame("train", draw, self.seed).width_at(self.height, self.max_width)
