import numpy as np
import pytest
import torch

from tae.analysis.features import cosine_similarity, principal_colours, read_features
from tests.pages import very_small

MODEL = very_small()
IMAGE = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_features_are_the_tokens_between_the_layers(part: str) -> None:
    features = read_features(MODEL, IMAGE, part)
    assert features.shape == (2, 16, 16) and features.dtype == np.float32
    with torch.no_grad():
        before, mask = MODEL.layer_input(IMAGE, 0, part)
        after = MODEL.blocks(part)[0](before, mask)
    np.testing.assert_array_equal(features, torch.cat([before, after]).numpy())


def test_features_are_of_one_image() -> None:
    with pytest.raises(ValueError, match=r"image must be one, \(1, 1, H, W\), got \(2, 1, 32, 32\)"):
        read_features(MODEL, torch.cat([IMAGE, IMAGE]))


def test_similarity_is_the_cosine_whatever_the_lengths() -> None:
    features = np.array([[3, 0], [0, 0.5], [4, 4], [-1, 0], [0, 0]])
    half = 0.5**0.5
    expected = [
        [1, 0, half, -1, 0],
        [0, 1, half, 0, 0],
        [half, half, 1, -half, 0],
        [-1, 0, -half, 1, 0],
        [0, 0, 0, 0, 0],  # it points nowhere
    ]
    np.testing.assert_allclose(cosine_similarity(features), expected, atol=1e-7)


def test_colours_run_along_the_components_by_hand() -> None:
    """Along x the patches lie at -2, -1, 1, 2 with variance 10 / 3; along y at 1, -1, -1, 1 with 4 / 3; along z nowhere."""
    found = principal_colours(np.array([[-2, 1, 5], [-1, -1, 5], [1, -1, 5], [2, 1, 5]], float))
    np.testing.assert_allclose(found.rgb[:, 0], [0, 0.25, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(found.rgb[:, 1], [1, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(found.rgb[:, 2], 0.5)
    np.testing.assert_allclose(found.shares, [10 / 14, 4 / 14, 0])


def test_rounding_has_no_colour() -> None:
    found = principal_colours(np.outer(np.linspace(-1, 1, 20), np.random.default_rng(0).random(8)))
    assert (found.rgb[:, 1:] == 0.5).all() and found.shares == (pytest.approx(1), 0, 0)


@pytest.mark.parametrize("features", [np.ones((4, 3)), np.eye(2)])
def test_patches_that_do_not_vary_are_grey(features: np.ndarray) -> None:
    found = principal_colours(features)
    assert (found.rgb == 0.5).all() and found.shares == (0, 0, 0)
