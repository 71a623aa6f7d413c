"""Fixtures that the tests of reports share."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tae.data.encode import encode_png

DOT = encode_png(np.zeros((1, 1), np.uint8))


@pytest.fixture
def figures_are_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths of a report's time are figures; whoever asks for this says nothing of them."""
    monkeypatch.setattr(Figure, "savefig", lambda _, file, **__: file.write(DOT))
