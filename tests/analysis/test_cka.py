"""Linear CKA: the papers' formula on full matrices, what it does not see, and what chance leaves of it."""

import numpy as np
import pytest
import torch

from tae.analysis import cka
from tae.analysis.features import read_features
from tests.analysis.reference import build, draw_images
from tests.configs import SQUARE

COUNT = 20


def by_formula(x: np.ndarray, y: np.ndarray) -> float:
    """Song 2012, equation 5, of linear kernels without their diagonals; for rows of X and Y (n, p), (n, q)."""
    k, other = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(other, 0)
    n, one = len(x), np.ones(len(x))
    product = np.trace(k @ other) + one @ k @ one * (one @ other @ one) / ((n - 1) * (n - 2))
    return (product - 2 / (n - 2) * (one @ k @ other @ one)) / (n * (n - 3))


def test_all_states_are_compared_as_the_papers_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cka, "BATCH", COUNT // 2)
    model, images = build(SQUARE), draw_images(SQUARE, COUNT)
    found = cka.cka(model, images)
    encoder, decoder = (
        np.stack([read_features(model, one, part).astype(np.float64) for one in images.split(1)], axis=1)
        for part in ("encoder", "decoder")
    )
    latent = model.embed(images).detach().numpy()
    states = {
        "all": [*encoder.reshape(3, COUNT, -1), latent, *decoder.reshape(3, COUNT, -1)],
        "mean": [*encoder.mean(axis=2), latent, *decoder.mean(axis=2)],
    }
    for tokens, each in states.items():
        halves = [[state[half] for state in each] for half in (slice(0, 10), slice(10, 20))]
        products = sum(np.array([[by_formula(x, y) for y in half] for x in half]) for half in halves)
        lengths = np.sqrt(np.diag(products))
        # `read_features` gives float32
        np.testing.assert_allclose(found[tokens].value, products / np.outer(lengths, lengths), atol=1e-4)
        assert found[tokens].names[2:5] == ("encoder, after layer 1", "latent", "decoder, before layer 0")
        assert found[tokens].num_images == COUNT and (found[tokens].error >= 0).all()


def test_turning_scaling_and_moving_change_nothing_and_other_states_are_unrelated() -> None:
    random = torch.Generator().manual_seed(0)
    state, other = torch.randn(2, 400, 6, generator=random, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=random, dtype=torch.float64)).Q
    stretch = torch.diag(torch.tensor([30.0, 1, 1, 1, 1, 1], dtype=torch.float64))
    centred = torch.stack([cka.u_centred(one) for one in (state, 5 * state @ turn + 3, state @ stretch, other)])
    torch.testing.assert_close(centred.sum(dim=2), torch.zeros(4, 400, dtype=torch.float64), atol=1e-9, rtol=0)
    products = cka.hsic(centred, centred)
    value = products / products.diagonal().sqrt() / products.diagonal().sqrt()[:, None]
    assert value[0, 1] == pytest.approx(1, abs=1e-12)
    assert value[0, 2] < 0.6  # unlike CCA, it sees in which directions a state is large
    assert abs(value[0, 3]) < 0.02


def test_a_state_that_is_the_same_for_all_images_has_no_cka() -> None:
    model = build(SQUARE)
    with torch.no_grad():
        for parameter in (model.decoder.expand.weight, *(model.decoder.start.up.weight,) * bool(model.decoder.start)):
            parameter.zero_()
    value = cka.cka(model, draw_images(SQUARE, 8))["all"].value
    assert np.isnan(value[4:]).all() and np.isfinite(value[:4, :4]).all()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8, got 7"):
        cka.cka(build(SQUARE), draw_images(SQUARE, 7))
