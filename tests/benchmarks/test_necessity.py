"""Correlation of maps between images."""

import numpy as np
import pytest
import torch

from benchmarks.necessity import map_correlation


def test_map_correlation_is_the_mean_of_pearson_over_pairs():
    maps = torch.rand(5, 6, 6, generator=torch.Generator().manual_seed(3))
    matrix = np.corrcoef(maps.flatten(1).numpy())
    assert map_correlation(maps) == pytest.approx(matrix[np.triu_indices(5, 1)].mean())
    assert map_correlation(maps[:1].expand(4, 6, 6)) == pytest.approx(1)
    assert map_correlation(torch.stack([maps[0], 1 - maps[0]])) == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        map_correlation(maps[:1])
