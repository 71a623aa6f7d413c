"""Regions, gradients, predictors and their scores, deletion and insertion: hand-worked values and plain references."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tae.analysis.attention import received, rollout
from tae.analysis.causal import occlusion, predictors
from tae.analysis.causal.predictors import DRAWS, Interval, Scores, agreement, bootstrap_mean
from tests.analysis.reference import draw, draw_images
from tests.configs import SQUARE

NAN = float("nan")


def test_predictors_are_what_each_patch_receives(small_model):
    model, image = small_model(), draw()
    found = predictors.predictors(model, image)
    maps = model.get_attention_maps(image)
    assert_close(found["received attention, average"], received(maps["average"])[0])
    assert_close(found["rollout"], received(rollout([maps["layer_0"], maps["layer_1"]]))[0])
    assert found["value-weighted attention"].sum().item() == pytest.approx(1)
    assert_close(found["gradient x input"], occlusion.gradient_x_input(model, image).absolute)
    assert set(found) == {*predictors.ATTENTION, predictors.GRADIENT}
    others = draw(3, seed=5)
    fixed = predictors.predictors(model, image, others)[predictors.FIXED]
    assert_close(fixed, received(model.get_attention_maps(others)["average"]).mean(dim=0))
    trivial = predictors.trivial_predictors(image, model.config)
    assert {*trivial, predictors.FIXED} == set(predictors.TRIVIAL)


def test_overlap_of_the_strongest_by_hand():
    a = np.arange(10.0)
    assert predictors.top_overlap(a, a, 0.2) == 1
    assert predictors.top_overlap(a, -a, 0.2) == 0
    assert predictors.top_overlap(a, np.array([0, 0, 0, 0, 0, 0, 0, 9, 0, 8]), 0.2) == 0.5  # 9 and 8 against 7 and 9
    # The last place is shared: 9 is in, 8 and 7 are in by half.
    assert predictors.top_overlap(a, np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 9]), 0.2) == 0.75
    # A constant ranking knows nothing.
    assert math.isnan(predictors.top_overlap(a, np.ones(10), 0.2)) and math.isnan(
        predictors.top_overlap(np.ones(10), np.ones(10))
    )
    assert predictors.top_overlap(a, torch.from_numpy(a), 0.01) == 1  # at least one patch
    assert math.isnan(predictors.top_overlap(np.ones(0), np.ones(0)))


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.sampled_from([0.1, 0.3, 1.0]), st.integers(0, 2**32 - 1)
)
def test_overlap_is_symmetric_and_between_0_and_1(values, share, seed):
    a = np.array(values, float)
    b = np.random.default_rng(seed).permutation(a)
    overlap = predictors.top_overlap(a, b, share)
    assert overlap == pytest.approx(predictors.top_overlap(b, a, share), nan_ok=True)
    assert math.isnan(overlap) == (len(set(values)) == 1)
    if math.isnan(overlap):
        return
    assert -1e-12 <= overlap <= 1 + 1e-12
    assert predictors.top_overlap(a, a, share) == pytest.approx(1)


def test_a_score_is_spearman_and_overlap_with_intervals_around_them():
    random = np.random.default_rng(0)
    effect = torch.from_numpy(random.random(60))
    predicted = {
        "rollout": effect + 0.2 * torch.from_numpy(random.random(60)),
        "darkness of the patch": torch.from_numpy(random.random(60)),
        "random": torch.ones(60, dtype=torch.float64),
    }
    scores = predictors.score(predicted, effect)
    for name, one in predicted.items():
        assert scores.spearman[name].value == pytest.approx(predictors.spearman(one, effect), nan_ok=True)
        assert scores.overlap[name].value == pytest.approx(predictors.top_overlap(one, effect), nan_ok=True)
    rank = scores.spearman["rollout"]
    assert 0.8 < rank.low < rank.value < rank.high <= 1
    chance = scores.spearman["darkness of the patch"]
    assert chance.low < 0 < chance.high and chance.high - chance.low == pytest.approx(4 / math.sqrt(60), rel=0.3)
    assert all(math.isnan(value) for value in (scores.spearman["random"].value, scores.spearman["random"].low))
    assert (scores.count, scores.unit) == (60, "patches")
    assert scores.best_attention == "rollout" and scores.best_trivial == "darkness of the patch"
    assert scores.lead.value == pytest.approx(rank.value - chance.value) and scores.lead.low > 0
    assert str(predictors.score(predicted, effect)) == str(predictors.score(predicted, effect, range(60)))


def test_a_score_of_some_patches_takes_their_predictions():
    values = torch.tensor([5.0, 1.0, 9.0, 3.0, 7.0])
    scores = predictors.score({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]), [1, 3, 0])
    assert scores.spearman["rollout"].value == pytest.approx(1)
    assert agreement({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]), [1, 3, 0]) == (
        {"rollout": 1.0},
        {"rollout": 1.0},
    )
    with pytest.raises(ValueError, match="rollout must be of the 3 patches of the effect"):
        predictors.score({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]))


def test_too_few_patches_have_no_score_and_no_winner():
    for count in [0, 1, 2, 4]:
        predicted = {"rollout": torch.arange(count), "darkness of the patch": torch.arange(count)}
        scores = predictors.score(predicted, torch.arange(count))
        assert math.isnan(scores.spearman["rollout"].low)
        assert f"cannot be said from {count} patches" in predictors.which_wins(scores, "white")


def test_scores_over_images_are_means_of_those_where_they_are_defined():
    scores = predictors.score_over(
        {"rollout": np.array([0.5, NAN, 0.7] * 2), "darkness of the patch": np.array([0.1, 0.2, 0.3] * 2)},
        {"rollout": np.array([0.5, 0.5, 0.2] * 2), "darkness of the patch": np.zeros(6)},
    )
    assert scores.spearman["rollout"].value == pytest.approx(0.6)
    assert scores.spearman["darkness of the patch"].value == pytest.approx(0.2)
    assert scores.overlap["rollout"].value == pytest.approx(0.4)
    assert (
        0.1 <= scores.spearman["darkness of the patch"].low < 0.2 < scores.spearman["darkness of the patch"].high <= 0.3
    )
    assert (scores.count, scores.unit) == (6, "images")
    with pytest.raises(ValueError, match="images must be at least one"):
        predictors.score_over({}, {})


def test_a_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bootstrap_mean(values)
    error = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    # The ends of 1000 draws scatter by about 5% of the interval.
    assert found.low == pytest.approx(values.mean() - error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.2 * error)
    alone = bootstrap_mean(np.array([3.0]))
    assert alone.value == 3 and math.isnan(alone.low)
    assert bootstrap_mean(values) == found and DRAWS == 1000


def scores_with(attention: float, trivial: float, low: float, high: float) -> Scores:
    values = {"rollout": attention, "darkness of the patch": trivial, "gradient x input": 0.9}
    intervals = {name: Interval(value, value - 0.1, value + 0.1) for name, value in values.items()}
    return Scores(intervals, {}, Interval(attention - trivial, low, high), 64, "images")


def test_who_wins_is_said_with_the_numbers():
    wins = predictors.which_wins(scores_with(0.7, 0.5, 0.1, 0.3), "grey")
    assert wins.startswith("Attention tells more than any simple baseline: rollout 0.70 (0.60 to 0.80)")
    loses = predictors.which_wins(scores_with(0.5, 0.8, -0.4, -0.2), "grey")
    assert loses.startswith("A simple baseline wins: darkness of the patch 0.80 (0.70 to 0.90)")
    draws = predictors.which_wins(scores_with(0.5, 0.5, -0.1, 0.1), "grey")
    assert "cannot be told apart" in draws
    for said in (wins, loses, draws):
        assert "64 images" in said and "Gradient x input: 0.90" in said and "covering with grey" in said
    ahead, behind, even = (scores_with(0.5, 0.5, low, high) for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)))
    assert predictors.over_covers({"white": behind, "grey": even, "blur": ahead, "black": behind}) == (
        "Over 4 covers the best attention map, beside the best simple baseline (darkness of the patch), is ahead of it under "
        "blur; behind it under white, black; not to be told from it under grey."
    )


def test_nothing_is_said_of_covers_whose_scores_are_undefined():
    undefined = scores_with(0.5, 0.5, NAN, NAN)
    assert predictors.over_covers({"white": undefined}) == ""
    said = predictors.over_covers({"white": undefined, "blur": scores_with(0.5, 0.1, 0.3, 0.5)})
    assert said.startswith("Over 1 cover the best") and "white" not in said


def test_trivial_predictors_by_hand():
    config = replace(SQUARE, input_size=(8, 16))  # two patches
    image = torch.ones(1, 1, 8, 16)
    image[..., :4, 8:] = 0.2
    found = predictors.trivial_predictors(image, config)
    assert_close(found["darkness of the patch"], torch.tensor([0.0, 0.4]))
    assert_close(found["what the cover changes"], torch.tensor([0.0, 0.32]))  # half the pixels, by .8 each
    grey = predictors.trivial_predictors(image, config, 0.6)["what the cover changes"]
    assert_close(grey, torch.tensor([0.16, 0.16]))
    assert_close(found["contrast in the patch"], torch.tensor([0.0, 0.4]))
    assert_close(found["nearness to the centre"], torch.tensor([-4.0, -4.0]))


def test_the_patch_in_the_middle_is_nearest_to_the_centre_of_the_image_not_of_the_padded_grid():
    config = replace(SQUARE, input_size=(24, 33))  # 3 x 5 patches, the last column one pixel wide
    nearness = predictors.trivial_predictors(torch.ones(1, 1, 24, 33), config)["nearness to the centre"]
    assert nearness.reshape(3, 5)[1].tolist() == [-12.5, -4.5, -3.5, -11.5, -19.5]
    assert nearness[0].item() == pytest.approx(-np.hypot(8, 12.5))


def test_the_random_order_is_the_same_for_the_same_picture_and_new_for_another():
    one, other = draw_images(SQUARE, 2).split(1)
    first = predictors.trivial_predictors(one, SQUARE)["random"]
    assert torch.equal(first, predictors.trivial_predictors(one.clone(), SQUARE)["random"])
    assert not torch.equal(first, predictors.trivial_predictors(other, SQUARE)["random"])
    assert not torch.equal(first, predictors.trivial_predictors(one, SQUARE, seed=1)["random"])


def test_spearman_compares_orders():
    values = torch.tensor([0.1, 3.0, 2.0, 10.0])
    assert predictors.spearman(values, values.exp()) == pytest.approx(1)
    assert predictors.spearman(values, -values.numpy()) == pytest.approx(-1)
    # Ranks 1 2 3 4 and 1.5 1.5 3 4: covariance 4.5, variances 5 and 4.5.
    assert predictors.spearman(torch.arange(4), torch.tensor([5, 5, 6, 7])) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_spearman_is_symmetric_and_knows_only_ranks(values, seed):
    a = np.array(values, float)
    b = np.random.default_rng(seed).permutation(a)
    score = predictors.spearman(a, b)
    assert score == pytest.approx(predictors.spearman(b, a), nan_ok=True)
    assert score == pytest.approx(predictors.spearman(a**3 + 7, b), nan_ok=True)
    assert np.isnan(score) == (len(set(values)) == 1)


def test_spearman_is_undefined_for_a_constant_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(predictors.spearman(torch.ones(3), torch.arange(3)))
        assert np.isnan(predictors.spearman(torch.ones(1), torch.ones(1)))
        assert np.isnan(predictors.spearman(torch.ones(0), torch.ones(0)))
