"""Two maps compared: by hand, against SciPy, at the ends of each scale, and where a number is undefined."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from tae.analysis import agreement
from tae.analysis.agreement import compare
from tae.analysis.numbers import percent


def random_map(seed: int, num_tokens: int, dtype: type = np.float64) -> np.ndarray:
    """(N, N), rows sum to 1; read-only, as caches hand it out."""
    logits = 2 * np.random.default_rng(seed).standard_normal((num_tokens, num_tokens))
    weights = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(dtype)
    weights.flags.writeable = False
    return weights


sizes, seeds = st.integers(2, 14), st.integers(0, 2**32 - 1)


def test_two_keys_by_hand():
    found = compare(np.eye(2), np.array([[0.0, 1.0], [0.5, 0.5]]), top_keys=1)
    # Query 0 shares no key: 1. Query 1: p = (0, 1), q = (.5, .5), m = (.25, .75); (log2(4/3) + .5 + .5 log2(2/3)) / 2.
    second = np.sqrt((np.log2(4 / 3) + 0.5 * 1 + 0.5 * np.log2(2 / 3)) / 2)
    np.testing.assert_allclose(found.distance, [1, second])
    assert found.mean_distance == pytest.approx((1 + second) / 2)
    np.testing.assert_array_equal(found.difference, [[2, -2], [-1, 1]])  # times 2: in x uniform
    # Both around 1/2: (.5, -.5, -.5, .5) and (-.5, .5, 0, 0).
    assert found.correlation == pytest.approx(-0.5 / np.sqrt(1 * 0.5))
    assert found.overlap[0] == 0 and np.isnan(found.overlap[1])  # the second map's strongest key of query 1 is a tie
    assert found.mean_overlap == 0 and found.chance_overlap == 0.5


@given(seeds, sizes, st.sampled_from([np.float32, np.float64]))
def test_a_map_agrees_with_itself_in_everything(seed, num_tokens, dtype):
    one = random_map(seed, num_tokens, dtype)
    found = compare(one, one.copy())
    assert found.correlation == pytest.approx(1)
    assert np.array_equal(found.distance, np.zeros(num_tokens))
    assert np.array_equal(found.overlap, np.ones(num_tokens))
    assert not found.difference.any()


@given(seeds, sizes)
def test_measures_agree_with_numpy_and_scipy(seed, num_tokens):
    a, b = random_map(seed, num_tokens), random_map(seed + 1, num_tokens)
    found = compare(a, b, top_keys=3)
    assert found.correlation == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    np.testing.assert_allclose(found.distance, jensenshannon(a, b, base=2, axis=1), atol=1e-7)  # type: ignore[call-arg]
    np.testing.assert_allclose(found.difference, (a - b) * num_tokens, rtol=1e-5, atol=1e-6)
    count = min(3, num_tokens)
    for query in range(num_tokens):
        shared = set(np.argsort(a[query])[-count:]) & set(np.argsort(b[query])[-count:])
        assert found.overlap[query] == pytest.approx(len(shared) / count)
    assert found.chance_overlap == count / num_tokens


@given(seeds, sizes)
def test_swapping_two_maps_changes_the_sign_of_the_difference_alone(seed, num_tokens):
    a, b = random_map(seed, num_tokens), random_map(seed + 1, num_tokens)
    there, back = compare(a, b), compare(b, a)
    np.testing.assert_array_equal(there.difference, -back.difference)
    np.testing.assert_allclose(there.distance, back.distance)
    assert there.correlation == pytest.approx(back.correlation)
    np.testing.assert_array_equal(there.overlap, back.overlap)


def test_nearly_equal_maps_have_a_distance_that_is_a_number():
    a = random_map(0, 30)
    found = compare(a, a * (1 + 1e-15 * np.arange(30)))  # SciPy's own gives nan for some of these
    assert np.isfinite(found.distance).all()
    assert found.mean_distance < 1e-6


def test_maps_without_a_common_key_are_at_distance_one():
    found = compare(np.eye(4), np.eye(4)[[1, 2, 3, 0]], top_keys=1)
    np.testing.assert_array_equal(found.distance, np.ones(4))
    assert found.mean_overlap == 0
    assert found.correlation == pytest.approx(-1 / 3)


def test_a_constant_map_has_no_correlation_and_the_sentence_says_so():
    uniform = np.full((12, 12), 1 / 12, np.float32)
    found = compare(uniform, random_map(1, 12))
    assert np.isnan(found.correlation) and found.constant == (True, False)
    assert np.isnan(found.mean_overlap)  # which ten of twelve equal keys are the strongest?
    assert 0 < found.mean_distance < 1
    sentence = found.sentence("layer 0", "layer 1")
    assert "Correlation undefined, the same weight everywhere in layer 0;" in sentence
    assert "weights tie" in sentence and "nan" not in sentence
    both = compare(uniform, uniform)
    assert both.constant == (True, True) and both.mean_distance == 0
    assert "everywhere in A and in B;" in both.sentence("A", "B")


def test_rounding_makes_no_uniform_map_varied():
    noise = np.random.default_rng(0).standard_normal((50, 50)) * 1e-9
    assert np.isnan(compare((1 / 50 + noise).astype(np.float32), random_map(0, 50)).correlation)


def test_the_sentence_has_the_numbers():
    a, b = random_map(2, 20), random_map(3, 20)
    found = compare(a, b)
    query = int(found.distance.argmax())
    assert found.sentence() == (
        f"Correlation {found.correlation:.2f}; Jensen-Shannon distance {found.mean_distance:.2f} "
        f"(largest {found.distance[query]:.2f}, query patch {query}); top-10 overlap {percent(found.mean_overlap)} (chance 50%)."
    )


def test_padding_counts_nowhere():
    a, b = random_map(4, 6), random_map(5, 6)
    real = np.array([0, 1, 2, 4, 5, 6])
    wide = [np.zeros((8, 8)), np.zeros((8, 8))]
    for padded, one in zip(wide, (a, b), strict=True):
        padded[np.ix_(real, real)] = one
    found, alone = compare(*wide, top_keys=2), compare(a, b, top_keys=2)
    assert found.correlation == pytest.approx(alone.correlation)
    np.testing.assert_allclose(found.distance[real], alone.distance)
    np.testing.assert_array_equal(found.overlap[real], alone.overlap)
    np.testing.assert_array_equal(found.difference[np.ix_(real, real)], alone.difference)
    assert np.isnan(found.distance[[3, 7]]).all() and not found.difference[[3, 7]].any()
    assert found.mean_distance == pytest.approx(alone.mean_distance)
    assert found.chance_overlap == 2 / 6


def test_a_query_without_weight_has_no_distance():
    a, b = random_map(6, 5).copy(), random_map(7, 5)
    a[3] = 0  # as "min" of heads leaves it that have no key in common
    found = compare(a, b, top_keys=2)
    assert np.isnan(found.distance[3]) and np.isfinite(np.delete(found.distance, 3)).all()
    assert np.isfinite(found.mean_distance)


def test_a_map_of_zeros_can_be_compared():
    found = compare(np.zeros((4, 4)), random_map(0, 4))  # the spread between heads that all agree
    assert np.isnan(found.mean_distance) and found.constant == (True, False)
    sentence = found.sentence()
    assert "no query places weight in both maps" in sentence and "nan" not in sentence


def test_one_token_agrees_and_has_no_correlation():
    found = compare(np.ones((1, 1)), np.ones((1, 1)))
    assert found.mean_distance == 0 and found.mean_overlap == found.chance_overlap == 1
    assert np.isnan(found.correlation)


def test_blocks_of_rows_change_nothing(monkeypatch):
    a, b = random_map(8, 11), random_map(9, 11)
    whole = compare(a, b, top_keys=3)
    monkeypatch.setattr(agreement, "ROWS_AT_ONCE", 4)
    blocks = compare(a, b, top_keys=3)
    assert blocks.correlation == pytest.approx(whole.correlation)
    for name in ("distance", "overlap", "difference"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


def test_tensors_count_as_arrays():
    a, b = random_map(10, 6), random_map(11, 6)
    found = compare(torch.tensor(a), torch.tensor(b))
    np.testing.assert_array_equal(found.difference, compare(a, b).difference)


def test_maps_of_other_sizes_are_refused_with_what_to_do():
    expected = "same number of patches .* got 4 and 6; choose two images of the same size, or look at them side by side"
    with pytest.raises(ValueError, match=expected):
        compare(random_map(0, 4), random_map(0, 6))
    padded = np.zeros((6, 6))
    padded[:4, :4] = random_map(0, 4)
    with pytest.raises(ValueError, match=expected):
        compare(padded, random_map(0, 6))
    with pytest.raises(ValueError, match=r"first map must be \(N, N\), got \(2, 3\)"):
        compare(np.zeros((2, 3)), random_map(0, 2))
    with pytest.raises(ValueError, match="top_keys must be at least 1, got 0"):
        compare(random_map(0, 4), random_map(1, 4), top_keys=0)
