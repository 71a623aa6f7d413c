"""Pairs of images: both ways beside a third image's states, and means with intervals over pairs, worked by hand."""

import json
import math

import numpy as np
import pytest

from tae.analysis.causal.pairs import GROUPS, against_third, in_percent, over_pairs, pair_record, pairs_in_words
from tae.analysis.causal.patching import Way, activation_patching, attribution_patching, head_cells, patched
from tae.analysis.causal.predictors import Interval, bootstrap_mean
from tae.analysis.causal.prefix import make_prefix
from tests.analysis.causal.test_knockouts import draw


def test_the_control_is_a_third_image_along_the_same_way(small_model):
    model = small_model()
    base, source, third = (draw(model, seed=seed) for seed in (1, 2, 3))
    cells, told = head_cells(model.config), []
    both = against_third(model, base, source, third, cells, told.append)
    np.testing.assert_allclose(both.found.share, activation_patching(model, base, source, cells).share)
    runs = [make_prefix(model, image) for image in (base, source, third)]
    way = Way(runs[0].recon, runs[1].recon)
    assert both.control.share[2] == pytest.approx(float(way.share(patched(model, runs[0], runs[2], [[cells[2]]]))))
    assert told == sorted(told) and told[-1] == 1


def test_a_pair_is_measured_both_ways_and_equal_images_are_none(small_model):
    model = small_model()
    one, other, third = (draw(model, seed=seed) for seed in (1, 2, 3))
    cells = head_cells(model.config)
    ways = [activation_patching(model, *pair, cells) for pair in ((one, other), (other, one))]
    errors = [
        found.error_of(attribution_patching(model, *pair, cells)).correlation
        for found, pair in zip(ways, ((one, other), (other, one)), strict=True)
    ]
    record = pair_record(model, one, other, third)
    assert record["share"]["decoder/1/mlp"] == pytest.approx((ways[0].share[-1] + ways[1].share[-1]) / 2)
    assert record["apart"]["decoder/1/mlp"] == pytest.approx(abs(ways[0].share[-1] - ways[1].share[-1]))
    assert record["estimate"]["correlation"] == pytest.approx(np.mean(errors))
    assert pair_record(model, other, one, third)["share"] == pytest.approx(record["share"])  # no matter which is first
    assert pair_record(model, one, one, third) == {}


def test_means_have_intervals_over_pairs_and_the_farthest_is_named():
    shares = [0.5, 0.6, 0.7, 0.8, 0.9, 0.7]
    records = [
        {
            **{group: {"encoder/0/0": share, "decoder/0/mlp": 0.2} for group in GROUPS},
            "control": {"encoder/0/0": 0.1, "decoder/0/mlp": None},
            "estimate": {"correlation": 0.9, "rank correlation": 0.8, "deviation": 0.1},
        }
        for share in shares
    ]
    found = over_pairs(json.loads(json.dumps(records)))
    mean = bootstrap_mean(np.array(shares))
    assert found["count"] == 6 and found["share"]["encoder/0/0"]["low"] == pytest.approx(mean.low, rel=1e-5)
    assert found["control"]["decoder/0/mlp"] == {"value": None, "low": None, "high": None}
    said = pairs_in_words(found)
    assert (
        f"Encoder, layer 0, head 0 goes farthest: 70% ({100 * mean.low:.0f} to {100 * mean.high:.0f}) of the way"
        in said
    )
    assert "a third image's 10% (10 to 10) (mean over 6 pairs" in said and "at 0.90 (0.90 to 0.90)" in said
    assert "(one pair, both ways)" in pairs_in_words(over_pairs(records[:1]))  # of one there is no interval
    assert in_percent(Interval(math.nan, math.nan, math.nan)) == "not defined"
    assert in_percent(Interval(-0.001, math.nan, math.nan)) == "0%"
