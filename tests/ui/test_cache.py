"""Results kept for all sessions: by what it is known, how much of it, and that nobody computes it twice."""

import threading
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from tae.ui.session import cache
from tae.ui.session.cache import Store, kept, key_of, size_of


@dataclass(frozen=True)
class Point:
    x: float
    name: str = ""


def plainly(count: int) -> int:
    return count


def test_the_store_holds_no_more_than_its_bytes_and_lets_go_what_was_not_used_for_longest() -> None:
    store = Store(max_bytes=3500)
    for name in "abc":
        store.put(name, np.zeros(1000, np.uint8))
    assert store.get("a") is not None  # used again
    store.put("d", np.zeros(1000, np.uint8))
    assert [name for name in "abcd" if store.get(name) is not None] == ["a", "c", "d"]
    store.put("large", np.zeros(10_000, np.uint8))
    for name in "efgh":
        store.put(name, np.zeros(1000, np.uint8))
    assert store.get("large").size == 10_000 and [name for name in "defgh" if store.get(name) is not None] == [*"fgh"]
    store.put("larger", np.zeros(20_000, np.uint8))
    assert store.get("large") is None and store.get("larger").size == 20_000
    for name in ("larger", *"fgh"):
        store.drop(name)
    assert store.num_bytes == 0


def test_what_is_asked_for_while_it_is_computed_is_computed_once() -> None:
    store, computed, entered, go_on = Store(1000), [], threading.Event(), threading.Event()

    def compute() -> int:
        computed.append(1)
        entered.set()
        go_on.wait()
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(store.find("x", compute))) for _ in range(5)]
    for thread in threads:
        thread.start()
    entered.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 5 and len(computed) == 1


def test_what_fails_is_not_kept() -> None:
    store = Store(1000)
    with pytest.raises(ZeroDivisionError):
        store.find("x", lambda: 1 // 0)
    assert store.find("x", lambda: 2) == 2


def test_arguments_that_mean_the_same_share_a_result_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "STORE", Store(10**6))
    calls: list[object] = []

    @kept()
    def found(value: object, times: int = 2, _name: str = "") -> int:
        calls.append(value)
        return len(calls)

    assert found(1) == found(1, 2) == found(value=1, times=2) == found(1, _name="other") == 1
    different = [True, 1.0, "1", b"1", None, (1,), [1], {"a": 1}, Point(1.0), Point(1.0, "a"), np.array([1]), plainly]
    assert [found(one) for one in different] == [*range(2, 2 + len(different))]
    assert found(np.array([1])) == found(np.ones(1, np.int64)) and found(np.array([1], np.int32)) == len(calls)
    with pytest.raises(TypeError, match="cannot be kept by a Linear"):
        found(torch.nn.Linear(1, 1))


def test_sizes_are_those_of_what_is_held_each_thing_once() -> None:
    array = np.zeros((100, 100), np.float32)
    assert 40_000 <= size_of({"a": array, "b": [array, Point(1.0)]}) < 42_000
    assert 4_000_000 <= size_of(torch.nn.Linear(1000, 1000)) < 4_200_000
    assert 80_000 <= size_of(go.Figure(go.Scatter(y=np.zeros(10_000)))) < 200_000
    assert key_of("x") == "x"
