"""Infidelity and sensitivity: hand-worked values, and maps that must do well or badly."""

import math

import numpy as np
import pytest
import torch

from tae.analysis.causal.faithfulness import infidelity, max_sensitivity
from tests.analysis.reference import draw
from tests.configs import SQUARE


def test_infidelity_by_hand(small_model):
    model, image = small_model(), draw()
    maps = {"map": torch.rand(12, dtype=torch.float64), "flat": torch.full((12,), 7.0, dtype=torch.float64)}
    tokens = torch.tensor([1, 4, 7, 10])
    found = infidelity(model, image, maps, tokens, 0.5, sets=5)
    random, sums, changes = np.random.default_rng(0), [], []
    for _ in range(5):
        chosen = random.permutation(tokens.numpy())[:1]  # a tenth of four
        covered = image.clone()
        for token in chosen:
            covered[..., token // 4 * 8 :, token % 4 * 8 :][..., :8, :8] = 0.5
        with torch.no_grad():
            changes.append(float(((model(covered)[0] - model(image)[0]) ** 2).mean()))
        sums.append(float(maps["map"][chosen].sum()))
    fit = np.linalg.lstsq(np.array(sums)[:, None], changes, rcond=None)
    spread = np.square(changes - np.mean(changes)).sum()
    assert found == {"map": pytest.approx(float(fit[1][0]) / spread), "flat": pytest.approx(1)}
    assert math.isnan(infidelity(model, image, maps, tokens, image)["map"])  # the image covers itself


def test_a_map_of_effects_that_add_up_tells_all_of_them():
    """A network that hands pixels on: what a cover changes is its effect, exactly, and nothing else is as faithful."""

    class Through(torch.nn.Module):
        config = SQUARE

        def forward(self, image):
            return image, None

    model = Through()
    image = draw(size=(32, 32))
    change = torch.nn.functional.avg_pool2d((1 - image) ** 2, 8).flatten()
    maps = {"change": change, "opposite": change.max() - change}
    found = infidelity(model, image, maps, torch.arange(16))
    assert found["change"] < 1e-12 and found["opposite"] > 1


def test_sensitivity_is_the_largest_change_of_a_map_and_none_of_a_fixed_one():
    image = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    seen = []

    def explain(given):
        seen.append(given)
        return {"fixed": torch.ones(3), "sum": given.sum()[None] - 7, "zero": given[0, 0] - 0.5}

    found = max_sensitivity(explain, image, radius=0.1, draws=4)
    assert len(seen) == 5 and torch.equal(seen[0], image)
    away = [float((one - image).abs().max()) for one in seen[1:]]
    assert 0.08 < max(away) <= 0.1 and len({*away}) == 4
    assert found["fixed"] == 0 and math.isnan(found["zero"])
    assert found["sum"] == pytest.approx(max(abs(float(one.sum()) - 8) for one in seen[1:]))
