"""Buckets: every number once, like widths together, the same on every call."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tae.data.batches import WINDOW, bucketed_draws

WIDTHS = np.random.default_rng(0).integers(120, 1281, 100_000)


def width_of(number: int) -> int:
    return int(WIDTHS[number])


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 5), st.one_of(st.none(), st.integers(1, 500)))
def test_each_running_number_comes_once(batch_size: int, seed: int, num_images: int | None) -> None:
    batches = WINDOW if num_images is None else min(WINDOW, max(1, num_images // batch_size))
    steps = range(2 * batches)
    numbers = [n for step in steps for n in bucketed_draws(step, batch_size, seed, width_of, num_images)]
    assert sorted(numbers) == list(range(len(steps) * batch_size))


def test_batches_hold_like_widths_and_come_in_no_order_of_width() -> None:
    batches = [[width_of(n) for n in bucketed_draws(step, 16, 0, width_of)] for step in range(2 * WINDOW)]
    padding = 1 - sum(map(sum, batches)) / sum(16 * max(batch) for batch in batches)
    assert padding < 0.12  # 45% without buckets
    means = [np.mean(batch) for batch in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.4


def test_images_of_a_small_set_meet_others_in_every_epoch() -> None:
    def epoch(number: int) -> set[frozenset[int]]:
        steps = range(5 * number, 5 * number + 5)
        return {frozenset(n % 20 for n in bucketed_draws(step, 4, 0, lambda n: 200 + n % 20, 20)) for step in steps}

    assert epoch(0) != epoch(1) and set().union(*epoch(0)) == set().union(*epoch(1)) == set(range(20))


def test_seed_changes_the_order() -> None:
    assert (
        bucketed_draws(0, 16, 0, width_of) == bucketed_draws(0, 16, 0, width_of) != bucketed_draws(0, 16, 1, width_of)
    )
