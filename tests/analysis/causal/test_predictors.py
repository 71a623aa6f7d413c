"""Regions, gradients, predictors and their scores, deletion and insertion: hand-worked values and plain references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tae.analysis import causal
from tae.analysis.attention import received, rollout
from tae.analysis.causal import Box
from tae.analysis.causal.predictors import DRAWS, Interval, Scores, agreement, bootstrap_mean
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.store.checkpoint import load_checkpoint

NAN = float("nan")


def draw(count: int = 1, seed: int = 1, size: tuple[int, int] = (24, 32)) -> Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [{}, {"input_size": (19, 37)}, {"input_size": (16, None), "max_width": 64}])
def test_occlusion_of_a_region_in_batches_is_that_of_one_patch_after_another(small_model, shape):
    model = small_model(**shape)
    height, width = model.config.input_size
    image = draw(size=(height, width or 40))
    region = Box(3, 5, 14, 30)
    rows, columns = model.config.grid_for(image.shape[3])
    with torch.no_grad():
        plain, plain_latent = model(image)[0], model.embed(image)
        expected, of_latent = [], []
        for token in range(rows * columns):
            covered = image.clone()
            top, left = token // columns * 8, token % columns * 8
            covered[..., top : top + 8, left : left + 8] = 1
            change = (model(covered)[0] - plain) ** 2
            expected.append(change[..., 3:14, 5:30].mean())
            of_latent.append(((model.embed(covered) - plain_latent) ** 2).mean())
    for batch_size in (1, 5, 64):
        effect = causal.occlusion_effect(model, image, batch_size=batch_size, region=region)
        assert_close(effect, torch.stack(expected))
        latent = causal.occlusion_effect(model, image, batch_size=batch_size, output="latent")
        assert_close(latent, torch.stack(of_latent))
    assert_close(causal.region_inputs(model, image, region, "occlusion"), torch.stack(expected))


def test_a_blurred_cover_keeps_the_mean_and_flattens_the_contrast(small_model):
    config, image = small_model().config, draw()
    cover = causal.cover_of(image, "blur", config)
    assert cover.shape == image.shape and cover.dtype == image.dtype
    assert cover.std() < 0.2 * image.std()
    assert cover.mean() == pytest.approx(image.mean().item(), abs=0.02)
    flat = torch.full_like(image, 0.3)
    assert_close(causal.cover_of(flat, "blur", config), flat)


def test_progress_of_occlusion_counts_up(small_model):
    shares = []
    causal.occlusion_effect(small_model(), draw(), batch_size=5, progress=shares.append)
    assert shares == pytest.approx([5 / 12, 10 / 12, 1])


def test_regions_and_outputs_that_do_not_fit_are_refused(small_model):
    model, image = small_model(), draw()
    for region in (Box(0, 0, 25, 5), Box(5, 0, 5, 5), Box(0, -1, 5, 5)):
        for call in (causal.occlusion_effect, causal.gradient_x_input):
            with pytest.raises(ValueError, match="region must be .* inside 24 rows and 32 columns"):
                call(model, image, region=region)
    with pytest.raises(ValueError, match="output must be reconstruction, or latent"):
        causal.occlusion_effect(model, image, output="tokens")
    with pytest.raises(ValueError, match="latent where there is no region"):
        causal.occlusion_effect(model, image, output="latent", region=Box(0, 0, 5, 5))
    with pytest.raises(ValueError, match="how must be gradient or occlusion, got 'guess'"):
        causal.region_inputs(model, image, Box(0, 0, 5, 5), "guess")


@pytest.mark.parametrize("region", [None, Box(3, 5, 14, 30)])
def test_gradient_x_input_is_the_slope_along_the_ink_of_each_patch(small_model, region):
    model, image = small_model(), draw()
    rows, columns = (slice(None), slice(None)) if region is None else (slice(3, 14), slice(5, 30))

    def ink(images: Tensor) -> float:
        with torch.no_grad():
            return (1 - model(images)[0][..., rows, columns]).mean().item()

    found = causal.gradient_x_input(model, image, region)
    for token in (0, 6, 11):  # central differences, as the ink of one patch is scaled
        step, place = 1e-5, torch.zeros_like(image)
        top, left = token // 4 * 8, token % 4 * 8
        place[..., top : top + 8, left : left + 8] = 1
        slope = (ink(1 - (1 - image) * (1 + step * place)) - ink(1 - (1 - image) * (1 - step * place))) / (2 * step)
        assert found.signed[token].item() == pytest.approx(slope, rel=1e-5)
    assert (found.absolute >= found.signed.abs()).all()
    if region is not None:
        assert torch.equal(causal.region_inputs(model, image, region), found.absolute)


def test_white_paper_has_no_gradient_x_input_and_nothing_is_left_in_the_model(small_model):
    model, image = small_model(), draw()
    image[..., :8, :8] = 1
    with torch.inference_mode():
        found = causal.gradient_x_input(model, image)
    assert found.signed[0] == found.absolute[0] == 0
    assert (found.absolute[1:] > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not image.requires_grad and not found.signed.requires_grad


def test_predictors_are_what_each_patch_receives(small_model):
    model, image = small_model(), draw()
    found = causal.predictors(model, image)
    maps = model.get_attention_maps(image)
    assert_close(found["received attention, average"], received(maps["average"])[0])
    assert_close(found["rollout"], received(rollout([maps["layer_0"], maps["layer_1"]]))[0])
    assert found["value-weighted attention"].sum().item() == pytest.approx(1)
    assert_close(found["gradient x input"], causal.gradient_x_input(model, image).absolute)
    assert set(found) == {*causal.ATTENTION, causal.GRADIENT}
    assert set(causal.trivial_predictors(image, model.config)) == set(causal.TRIVIAL)


def test_overlap_of_the_strongest_by_hand():
    a = np.arange(10.0)
    assert causal.top_overlap(a, a, 0.2) == 1
    assert causal.top_overlap(a, -a, 0.2) == 0
    assert causal.top_overlap(a, np.array([0, 0, 0, 0, 0, 0, 0, 9, 0, 8]), 0.2) == 0.5  # 9 and 8 against 7 and 9
    # The last place is shared: 9 is in, 8 and 7 are in by half.
    assert causal.top_overlap(a, np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 9]), 0.2) == 0.75
    # A constant ranking knows nothing.
    assert math.isnan(causal.top_overlap(a, np.ones(10), 0.2)) and math.isnan(
        causal.top_overlap(np.ones(10), np.ones(10))
    )
    assert causal.top_overlap(a, torch.from_numpy(a), 0.01) == 1  # at least one patch
    assert math.isnan(causal.top_overlap(np.ones(0), np.ones(0)))


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.sampled_from([0.1, 0.3, 1.0]), st.integers(0, 2**32 - 1)
)
def test_overlap_is_symmetric_and_between_0_and_1(values, share, seed):
    a = np.array(values, float)
    b = np.random.default_rng(seed).permutation(a)
    overlap = causal.top_overlap(a, b, share)
    assert overlap == pytest.approx(causal.top_overlap(b, a, share), nan_ok=True)
    assert math.isnan(overlap) == (len(set(values)) == 1)
    if math.isnan(overlap):
        return
    assert -1e-12 <= overlap <= 1 + 1e-12
    assert causal.top_overlap(a, a, share) == pytest.approx(1)


def test_a_score_is_spearman_and_overlap_with_intervals_around_them():
    random = np.random.default_rng(0)
    effect = torch.from_numpy(random.random(60))
    predicted = {
        "rollout": effect + 0.2 * torch.from_numpy(random.random(60)),
        "ink in the patch": torch.from_numpy(random.random(60)),
        "random": torch.ones(60, dtype=torch.float64),
    }
    scores = causal.score(predicted, effect)
    for name, one in predicted.items():
        assert scores.spearman[name].value == pytest.approx(causal.spearman(one, effect), nan_ok=True)
        assert scores.overlap[name].value == pytest.approx(causal.top_overlap(one, effect), nan_ok=True)
    rank = scores.spearman["rollout"]
    assert 0.8 < rank.low < rank.value < rank.high <= 1
    chance = scores.spearman["ink in the patch"]
    assert chance.low < 0 < chance.high and chance.high - chance.low == pytest.approx(4 / math.sqrt(60), rel=0.3)
    assert all(math.isnan(value) for value in (scores.spearman["random"].value, scores.spearman["random"].low))
    assert (scores.count, scores.unit) == (60, "patches")
    assert scores.best_attention == "rollout" and scores.best_trivial == "ink in the patch"
    assert scores.lead.value == pytest.approx(rank.value - chance.value) and scores.lead.low > 0
    assert str(causal.score(predicted, effect)) == str(causal.score(predicted, effect, range(60)))


def test_a_score_of_some_patches_takes_their_predictions():
    values = torch.tensor([5.0, 1.0, 9.0, 3.0, 7.0])
    scores = causal.score({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]), [1, 3, 0])
    assert scores.spearman["rollout"].value == pytest.approx(1)
    assert agreement({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]), [1, 3, 0]) == (
        {"rollout": 1.0},
        {"rollout": 1.0},
    )
    with pytest.raises(ValueError, match="rollout must be of the 3 patches of the effect"):
        causal.score({"rollout": values}, torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_too_few_patches_have_no_score_and_no_winner(count):
    predicted = {"rollout": torch.arange(count), "ink in the patch": torch.arange(count)}
    scores = causal.score(predicted, torch.arange(count))
    assert math.isnan(scores.spearman["rollout"].low)
    assert f"cannot be said from {count} patches" in causal.which_wins(scores)


def test_scores_over_images_are_means_of_those_where_they_are_defined():
    scores = causal.score_over(
        {"rollout": np.array([0.5, NAN, 0.7] * 2), "ink in the patch": np.array([0.1, 0.2, 0.3] * 2)},
        {"rollout": np.array([0.5, 0.5, 0.2] * 2), "ink in the patch": np.zeros(6)},
    )
    assert scores.spearman["rollout"].value == pytest.approx(0.6)
    assert scores.spearman["ink in the patch"].value == pytest.approx(0.2)
    assert scores.overlap["rollout"].value == pytest.approx(0.4)
    assert 0.1 <= scores.spearman["ink in the patch"].low < 0.2 < scores.spearman["ink in the patch"].high <= 0.3
    assert (scores.count, scores.unit) == (6, "images")
    with pytest.raises(ValueError, match="images must be at least one"):
        causal.score_over({}, {})


def test_a_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bootstrap_mean(values)
    error = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    # The ends of 1000 draws scatter by about 5 % of the interval.
    assert found.low == pytest.approx(values.mean() - error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.2 * error)
    alone = bootstrap_mean(np.array([3.0]))
    assert alone.value == 3 and math.isnan(alone.low)
    assert bootstrap_mean(values) == found and DRAWS == 1000


def scores_with(attention: float, trivial: float, low: float, high: float) -> Scores:
    values = {"rollout": attention, "ink in the patch": trivial, "gradient x input": 0.9}
    intervals = {name: Interval(value, value - 0.1, value + 0.1) for name, value in values.items()}
    return Scores(intervals, {}, Interval(attention - trivial, low, high), 64, "images")


def test_who_wins_is_said_with_the_numbers():
    wins = causal.which_wins(scores_with(0.7, 0.5, 0.1, 0.3))
    assert wins.startswith("Attention tells more than any trivial predictor: rollout 0.70 (0.60 to 0.80)")
    loses = causal.which_wins(scores_with(0.5, 0.8, -0.4, -0.2))
    assert loses.startswith("The trivial predictor wins: ink in the patch 0.80 (0.70 to 0.90)")
    draws = causal.which_wins(scores_with(0.5, 0.5, -0.1, 0.1))
    assert "cannot be told apart" in draws
    for said in (wins, loses, draws):
        assert "64 images" in said and "Gradient x input: 0.90" in said


def test_deletion_and_insertion_by_hand(small_model):
    model, image = small_model(), torch.ones(1, 1, 24, 32, dtype=torch.float64)
    image[..., :8, :8], image[..., 8:16, 16:24] = 0.2, 0.5  # tokens 0 and 6
    order = torch.zeros(12, dtype=torch.float64)
    order[6], order[0], order[3] = 3, 2, 9  # 3 is blank and takes no part
    without = {}
    with torch.no_grad():
        plain = model(image)[0]
        for name, tokens in {"6": [6], "0": [0], "both": [0, 6]}.items():
            covered = image.clone()
            for token in tokens:
                covered[..., token // 4 * 8 :, token % 4 * 8 :][..., :8, :8] = 1
            without[name] = ((model(covered)[0] - plain) ** 2).mean().item()
    curves = causal.deletion_insertion(model, image, {"map": order}, random_orders=0)
    assert list(curves) == ["map"]
    one = curves["map"]
    assert one.share.tolist() == [0, 0.5, 1]
    assert one.deletion == pytest.approx([1, 1 - without["6"] / without["both"], 0])
    assert one.insertion == pytest.approx([0, 1 - without["0"] / without["both"], 1])
    assert one.deletion_area == pytest.approx(one.deletion @ [0.25, 0.5, 0.25])
    assert one.insertion_area == pytest.approx(one.insertion @ [0.25, 0.5, 0.25])


def test_curves_of_a_region_count_its_own_change(small_model):
    model, image = small_model(), torch.ones(1, 1, 24, 32, dtype=torch.float64)
    image[..., :8, :8], image[..., 8:16, 16:24] = 0.2, 0.5  # tokens 0 and 6
    order = -torch.arange(12, dtype=torch.float64)
    box = Box(3, 5, 20, 11)
    with torch.no_grad():
        plain, without, blank = (
            model(one)[0][0, 0, 3:20, 5:11]
            for one in (image, torch.cat([torch.ones(1, 1, 24, 8).double(), image[..., 8:]], dim=3), image * 0 + 1)
        )
    curves = causal.deletion_insertion(model, image, {"map": order}, random_orders=0, region=box)
    expected = 1 - ((without - plain) ** 2).mean().item() / ((blank - plain) ** 2).mean().item()
    assert curves["map"].deletion == pytest.approx([1, expected, 0])
    with pytest.raises(ValueError, match="region must be"):
        causal.deletion_insertion(model, image, {"map": order}, region=Box(0, 0, 25, 8))


def test_the_measured_effect_itself_beats_random_orders_and_their_opposite():
    model = load_checkpoint("checkpoints/demo_tiny_201x201_p16.safetensors").model
    image, _ = to_batch(DemoSource((201, 201)).test(1))
    effect = causal.occlusion_effect(model, image)
    maps = {"effect": effect, "opposite": -effect}
    curves = causal.deletion_insertion(model, image, maps, steps=6, random_orders=3)
    assert list(curves) == ["effect", "opposite", "random order"]
    areas = [curves[name].deletion_area for name in ("effect", "random order", "opposite")]
    assert areas == sorted(areas)
    areas = [curves[name].insertion_area for name in ("opposite", "random order", "effect")]
    assert areas == sorted(areas)
    for one in curves.values():
        assert (one.deletion[0], one.insertion[-1]) == (1, 1)
        assert (one.deletion[-1], one.insertion[0]) == (0, 0)


def test_ties_come_in_random_order_the_same_for_the_same_seed(small_model):
    model, image = small_model(), draw()
    maps = {"constant": torch.ones(12), "also": torch.ones(12)}
    first, again = (causal.deletion_insertion(model, image, maps) for _ in range(2))
    assert first["constant"].deletion.tolist() == again["constant"].deletion.tolist()
    assert first["constant"].deletion.tolist() != first["also"].deletion.tolist()
    alone = causal.deletion_insertion(model, image, {"also": maps["also"]})  # whatever other maps there are
    for name in ("also", "random order"):
        assert alone[name].deletion == pytest.approx(first[name].deletion, abs=1e-12)  # in other batches
    other = causal.deletion_insertion(model, image, maps, seed=1)
    assert first["constant"].deletion.tolist() != other["constant"].deletion.tolist()


def test_steps_cut_the_patches_into_parts(small_model):
    shares = []
    curves = causal.deletion_insertion(
        small_model(), draw(), {"map": torch.arange(12)}, steps=4, progress=shares.append
    )
    assert curves["map"].share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert shares[-1] == 1


def test_curves_refuse_what_does_not_fit(small_model):
    model = small_model()
    with pytest.raises(ValueError, match=r"map ink must be \(12,\), got \(11,\)"):
        causal.deletion_insertion(model, draw(), {"ink": torch.ones(11)})
    with pytest.raises(ValueError, match="baseline must change the image"):
        causal.deletion_insertion(model, torch.ones(1, 1, 24, 32, dtype=torch.float64), {})
