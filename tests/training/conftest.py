"""Fixtures that the tests of training share."""

from functools import partial

import pytest

from tae.training import planning
from tae.training.plan import calibrate


@pytest.fixture(autouse=True)
def brief_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four seconds of timing make an estimate better, and no claim truer."""
    monkeypatch.setattr(planning, "calibrate", partial(calibrate, seconds=0.05))
