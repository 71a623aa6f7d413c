"""Fixtures that the tests of training share."""

from functools import partial

import pytest

from tae.training.planning import report
from tae.training.planning.plan import calibrate


@pytest.fixture(autouse=True)
def brief_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four seconds of timing make an estimate better, and no claim truer."""
    monkeypatch.setattr(report, "calibrate", partial(calibrate, seconds=0.05))
