"""What was measured of a checkpoint, from one start to the next."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.knockouts import Baseline
from tae.analysis.cka import Cka
from tae.analysis.heads import Spread
from tae.analysis.kinds import HeadTable, Tree
from tae.ui.latent.measure import TestSet
from tae.ui.layers.heads import Heads
from tae.ui.session import lasting, work
from tae.ui.session.cache import Store

RANDOM = np.random.default_rng(0)
MEASURED = (
    (np.ndarray, RANDOM.random(7)),
    (
        TestSet,
        TestSet(
            RANDOM.random((3, 4), np.float32),
            ["to the left", "two drops", "…"],
            RANDOM.random(3),
            RANDOM.integers(0, 256, (8, 8), np.uint8),
            (4, 4),
            {"velocity (cm/s)": np.array([1.5, np.nan, 2])},
        ),
    ),
    (dict[str, Cka], {"mean": Cka(("a", "b"), np.eye(2), np.full((2, 2), np.nan), np.zeros((2, 2)), 64)}),
    (Spread, Spread("encoder", {"entropy": RANDOM.random((5, 3, 4))}, {"entropy": RANDOM.random(5)})),
    (Baseline, Baseline("mean", 64, {("encoder", 0): torch.rand(1, 2, 3)}, {("decoder", 1): torch.rand(2)})),
    (
        Heads,
        Heads(
            HeadTable(
                (Knockout("encoder", 0, 1), Knockout("decoder", 2, "mlp")), {"entropy": np.ones(2)}, np.eye(2), 8
            ),
            RANDOM.random((2, 2)),
            Tree(RANDOM.random((1, 4)), (1, 0), 0.25, (0, 1)),
        ),
    ),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAE_CACHE", str(tmp_path))
    return tmp_path / "measured"


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        one, other = one.numpy(), other.numpy()
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif hasattr(one, "__dict__"):
        assert_same(vars(one), vars(other))
    else:
        assert one == other


@pytest.mark.parametrize(("kind", "value"), MEASURED, ids=str)
def test_it_comes_back_as_it_was_and_cannot_be_changed(kind: Any, value: Any) -> None:
    assert lasting.load("what", "of which", kind) is None
    lasting.save("what", "of which", value)
    found = lasting.load("what", "of which", kind)
    assert_same(found, value)
    if kind is np.ndarray:
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 1


def test_another_checkpoint_measurement_or_version_of_the_code_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lasting.save("what", "of which", np.ones(2))
    assert lasting.load("what", "of another", np.ndarray) is lasting.load("else", "of which", np.ndarray) is None
    monkeypatch.setattr(torch, "__version__", "another")
    lasting._code.cache_clear()
    assert lasting.load("what", "of which", np.ndarray) is None
    monkeypatch.undo()
    lasting._code.cache_clear()


def test_what_is_damaged_or_of_another_kind_is_measured_anew(folder: Path) -> None:
    lasting.save("what", "of which", np.arange(1000.0))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:200], whole[:-30], b"no archive", whole.replace(b"arr_0", b"arr_x")):
        file.write_bytes(damaged)
        assert lasting.load("what", "of which", np.ndarray) is None
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    file.write_bytes(flipped)
    assert lasting.load("what", "of which", np.ndarray) is None
    file.write_bytes(whole)
    assert lasting.load("what", "of which", Spread) is None
    assert lasting.load("what", "of which", np.ndarray) is not None


def test_together_they_stay_within_a_bound_and_the_oldest_go_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        lasting.save("what", str(number), RANDOM.random(1000))
    first, second, third = (lasting._path("what", str(number)) for number in range(3))
    for age, path in enumerate((third, first, second)):
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(lasting, "MAX_BYTES", int(3.5 * first.stat().st_size))
    assert lasting.load("what", "1", np.ndarray) is not None  # now it is the newest
    lasting.save("what", "3", RANDOM.random(1000))
    assert not first.exists() and second.exists() and third.exists()


def test_where_nothing_can_be_written_it_is_measured_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAE_CACHE", str(tmp_path / "file"))
    lasting.save("what", "of which", np.ones(2))
    assert lasting.load("what", "of which", np.ndarray) is None and "could not be kept" in caplog.text


def test_a_new_start_finds_what_an_earlier_one_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compute(_: work.Progress) -> np.ndarray:
        asked.append(1)
        return np.ones(3)

    for _ in range(2):
        monkeypatch.setattr(work, "STORE", Store(10**6))
        found = work.measured("what", "of which", "Measuring", lambda: 0.0, compute, lasting=np.ndarray)
        np.testing.assert_array_equal(found, np.ones(3))
    assert len(asked) == 1
