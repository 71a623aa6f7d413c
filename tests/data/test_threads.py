"""Threads that run ahead keep the order, stay near, pass errors on, and end."""

import threading
import time

import pytest

from tae.data.threads import in_order


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order_however_long_each_takes(workers: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * number

    assert list(in_order(slow_at_first, range(23), workers)) == [number**2 for number in range(23)]
    assert not running()


def test_threads_never_run_further_ahead_than_asked() -> None:
    begun: list[int] = []
    results = in_order(lambda number: begun.append(number), range(100), workers=2, ahead=3)
    for taken in range(10):
        next(results)
        assert len(begun) <= taken + 1 + 2 + 3
    results.close()
    assert len(begun) <= 10 + 2 + 3 and not running()


def test_calls_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)  # broken, an error, unless three calls wait at once
    list(in_order(lambda _: meeting.wait(), range(6), workers=3, ahead=0))


def test_error_comes_up_in_its_place_and_ends_the_threads() -> None:
    def divide(number: int) -> float:
        return 1 / (number - 3)

    results = in_order(divide, range(10), workers=4)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not running()


def test_nothing_to_do_starts_nothing() -> None:
    assert list(in_order(str, [], workers=2)) == []
    in_order(str, range(3), workers=2).close()
    assert not running()
