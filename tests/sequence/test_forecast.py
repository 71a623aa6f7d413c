"""Forecasts: each baseline is what its name says, nothing comes from the future, and horizons are counted by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tae import TransformerAutoencoder
from tae.sequence.forecast import (
    BASELINES,
    CEILING,
    COPY,
    LAST,
    LINEAR,
    LSTM,
    MEAN,
    METHODS,
    Forecast,
    _horizon,
    evaluate_forecasts,
    forecast_frames,
    influence,
    mean_errors,
    one_step,
)
from tae.sequence.model import SequenceModel, embed_sequence


@pytest.fixture
def model(
    small_model: Callable[..., TransformerAutoencoder], scramble: Callable[[nn.Module], nn.Module]
) -> SequenceModel:
    made = SequenceModel(small_model(), 12, 2).double()
    for part in (made.lstm, made.head):
        scramble(part)
    return made.eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(7, 1, 24, 32, dtype=torch.float64)


def test_a_forecast_stands_beside_what_each_baseline_s_name_says(model: SequenceModel, frames: Tensor) -> None:
    found = forecast_frames(model, frames, seen=3, steps=6)
    latents = embed_sequence(model.autoencoder, frames)
    change = latents[2] - latents[1]
    expected = {
        LSTM: model.decode(model.forecast(latents[None, :3], 6)[0]),
        COPY: frames[2].expand(6, -1, -1, -1),
        MEAN: frames[:3].mean(dim=0).expand(6, -1, -1, -1),
        LAST: model.decode(latents[2].expand(6, -1)),
        LINEAR: model.decode(torch.stack([latents[2] + k * change for k in range(1, 7)])),
        CEILING: model.decode(latents[3:]),
    }
    for name in METHODS:
        images = expected[name][:, 0].clamp(0, 1).detach()
        np.testing.assert_allclose(found.images[name], images, atol=1e-6)
        errors = ((images[:4] - frames[3:, 0]) ** 2).mean(dim=(1, 2))  # four true frames are left
        np.testing.assert_allclose(found.mse[name], errors, rtol=1e-5)


def test_one_step_predictions_follow_from_the_true_frames_before(model: SequenceModel, frames: Tensor) -> None:
    found = one_step(model, frames)
    for t in range(1, 7):
        alone = forecast_frames(model, frames[: t + 1], seen=t, steps=1)
        for name in METHODS:
            np.testing.assert_allclose(found.images[name][t - 1], alone.images[name][0], atol=1e-5)
            np.testing.assert_allclose(found.mse[name][t - 1], alone.mse[name][0], rtol=1e-4)


def test_an_autoencoder_alone_has_what_needs_no_lstm_and_the_same(model: SequenceModel, frames: Tensor) -> None:
    for alone, beside in (
        (forecast_frames(model.autoencoder, frames, 3, 6), forecast_frames(model, frames, 3, 6)),
        (one_step(model.autoencoder, frames), one_step(model, frames)),
    ):
        assert list(alone.images) == [*BASELINES, CEILING] == list(alone.mse)
        for name in (*BASELINES, CEILING):
            np.testing.assert_array_equal(alone.images[name], beside.images[name])
        assert {*beside.latents} - {*alone.latents} == {LSTM} and {*alone.latents} == {LAST, LINEAR, CEILING}


def test_the_latents_beside_the_images_are_what_these_were_decoded_from(model: SequenceModel, frames: Tensor) -> None:
    found = forecast_frames(model, frames, 3, 6)
    for name, latents in found.latents.items():
        images = model.decode(torch.from_numpy(latents).double())[:, 0].clamp(0, 1)
        np.testing.assert_allclose(found.images[name], images, atol=1e-5)


def test_no_prediction_knows_a_frame_that_comes_later(model: SequenceModel, frames: Tensor) -> None:
    other = frames.clone()
    other[4:] = torch.rand(3, 1, 24, 32, dtype=torch.float64)
    first, second = forecast_frames(model, frames, 4, 3), forecast_frames(model, other, 4, 3)
    for name in (LSTM, *BASELINES):
        np.testing.assert_array_equal(first.images[name], second.images[name])
    assert not np.allclose(first.images[CEILING], second.images[CEILING])


def test_after_the_last_frame_there_is_a_prediction_and_nothing_to_compare_it_with(
    model: SequenceModel, frames: Tensor
) -> None:
    found = forecast_frames(model, frames, seen=7, steps=5)
    assert found.images[LSTM].shape == (5, 24, 32) and found.mse[LSTM].shape == (0,)
    assert found.images[CEILING].shape == (0, 24, 32)
    with pytest.raises(ValueError, match="seen must be from 1 to the sequence's 7 frames, got 8"):
        forecast_frames(model, frames, seen=8)


def test_a_model_that_predicts_no_numbers_is_refused(model: SequenceModel, frames: Tensor) -> None:
    with torch.no_grad():
        model.head.bias.fill_(1e308)
    with pytest.raises(ValueError, match="predictions must be finite numbers, and those of 'LSTM' are not"):
        forecast_frames(model, frames, 3, 6)


def test_means_are_of_the_frames_that_come_after_those_seen() -> None:
    step = Forecast(1, {}, {}, {COPY: np.array([9.0, 9, 1, 3]), MEAN: np.array([0.0, 0, 5, 7])})  # of frames 1 to 4
    assert mean_errors(step, 3) == {COPY: 2.0, MEAN: 6.0}
    assert mean_errors(step) == {COPY: 5.5, MEAN: 3.0}
    rolled = Forecast(6, {}, {}, {COPY: np.array([2.0, 4]), MEAN: np.array([])})
    assert mean_errors(rolled, 6) == {COPY: 3.0}


def test_figures_over_sequences_are_means_and_count_who_wins(model: SequenceModel) -> None:
    sequences = [torch.rand(count, 1, 24, 32, dtype=torch.float64) for count in (6, 5, 3, 6)]
    found = evaluate_forecasts(model, sequences, seen=3, steps=4)
    assert found["count"] == 3 and found["seen"] == 3  # the third sequence has nothing left to predict
    kept = [sequences[0], sequences[1], sequences[3]]
    singles = [one_step(model, one) for one in kept]
    rolled = [forecast_frames(model, one, 3, 4) for one in kept]
    for name in METHODS:
        assert found["one_step"][name] == pytest.approx(np.mean([one.mse[name][2:].mean() for one in singles]))
        for step, count in enumerate((3, 3, 2)):
            errors = [one.mse[name][step] for one in rolled if step < len(one.mse[name])]
            assert len(errors) == count
            assert found["roll_out"][name][step] == pytest.approx(np.mean(errors))
        assert len(found["roll_out"][name]) == 3  # nobody has a fourth
    for name in BASELINES:
        wins = [one.mse[LSTM][2:].mean() < one.mse[name][2:].mean() for one in singles]
        assert found["wins"][name] == sum(wins)
    with pytest.raises(ValueError, match="a sequence must have more than 3 frames to be measured, got none"):
        evaluate_forecasts(model, sequences[2:3], seen=3)


def test_the_horizon_ends_where_being_better_is_no_longer_sure() -> None:
    random = np.random.default_rng(1)
    sure, unsure = -1 + 0.1 * random.standard_normal(40), random.standard_normal(40)
    worse = np.ones(40)
    assert _horizon(np.stack([sure, sure, unsure, sure], axis=1)) == 2
    assert _horizon(np.stack([worse, sure], axis=1)) == 0
    assert _horizon(np.stack([sure, sure, sure], axis=1)) == 3
    assert _horizon(np.stack([sure, np.full(40, np.nan)], axis=1)) == 1


def test_influence_is_the_change_of_the_next_picture(model: SequenceModel, frames: Tensor) -> None:
    latents = embed_sequence(model.autoencoder, frames[:4])
    found = influence(model, latents)

    def picture(order: list[int]) -> Tensor:
        return model.decode(model.forecast(latents[None, order], 1)[0]).clamp(0, 1).detach()

    whole = picture([0, 1, 2, 3])

    def change(order: list[int]) -> float:
        return float((picture(order) - whole).square().mean())

    dropped = [change([1, 2, 3]), change([0, 2, 3]), change([0, 1, 3]), change([0, 1, 2])]
    np.testing.assert_allclose(found.dropped, dropped)
    np.testing.assert_allclose(found.swapped, [change([1, 0, 2, 3]), change([0, 2, 1, 3]), change([0, 1, 3, 2])])
    random = np.random.default_rng(0)
    orders = [[*random.permutation(3).tolist(), 3] for _ in range(16)]
    assert found.shuffled == pytest.approx(np.mean([change(order) for order in orders])) and found.shuffled > 0


def test_frames_that_do_not_matter_have_no_influence(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model = SequenceModel(small_model(), 12).double().eval()  # untrained: the next frame is the last one
    found = influence(model, torch.randn(5, 16, dtype=torch.float64))
    np.testing.assert_allclose(found.dropped[:-1], 0, atol=1e-20)
    np.testing.assert_allclose(found.swapped[:-1], 0, atol=1e-20)
    assert found.dropped[-1] > 0 and found.swapped[-1] > 0 and found.shuffled == pytest.approx(0, abs=1e-20)
