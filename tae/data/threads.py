"""Work done ahead by threads, its results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(call: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 1) -> Generator[Result]:
    """`map(call, items)`, by threads that run ahead of whoever takes the results; items are taken in the consumer's thread.

    At most `workers + ahead` results are made and not yet taken: `ahead` of them may lie ready while every thread is at work.
    What a call raises comes up where its result would have. When the consumer stops early (`close`), calls that began are
    waited for, the rest never begin.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    try:
        waiting: deque[Future[Result]] = deque(pool.submit(call, item) for item in islice(rest, workers + ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(call, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
