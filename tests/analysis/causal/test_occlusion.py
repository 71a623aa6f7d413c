"""Patches covered: agrees with a plain loop over patches; regions, gradients, foreground."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.analysis.causal import occlusion
from tae.analysis.causal.occlusion import Box
from tests.analysis.reference import build, draw, draw_images
from tests.configs import CONFIGS, SQUARE


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("baseline", [1.0, 0.25, "mean", "image"])
def test_occlusion_agrees_with_covering_each_patch_by_hand(config, baseline):
    model, image = build(config), draw_images(config, 1)
    other = draw_images(config, 1, seed=2)
    cover = {"mean": torch.full_like(image, image.mean().item()), "image": other}.get(
        baseline, torch.full_like(image, baseline if isinstance(baseline, float) else 0)
    )
    rows, columns = config.grid_for(image.shape[3])
    height, width = config.tile_size
    expected, inside = [], []
    for row in range(rows):
        for column in range(columns):
            covered = image.clone()
            place = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
            covered[place] = cover[place]
            change = (model(covered)[0] - model(image)[0]).square()
            expected.append(change.mean())
            inside.append(change[place].sum() / change.numel())
    effect = occlusion.occlude(model, image, other if baseline == "image" else baseline, batch_size=3)
    assert_close(effect.total, torch.stack(expected))
    assert_close(effect.inside, torch.stack(inside))
    assert effect.total.min() > 0 and effect.share_inside == pytest.approx(float(sum(inside) / sum(expected)))


def test_occlusion_of_some_tokens_is_that_part_of_all_in_their_order():
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    everywhere = occlusion.occlude(model, image).total
    tokens = [9, 0, 9, 15]
    assert everywhere.shape == (16,)
    for chosen in (tokens, torch.tensor(tokens)):
        assert_close(occlusion.occlude(model, image, tokens=chosen, batch_size=2).total, everywhere[tokens])
    assert occlusion.occlude(model, image, tokens=[]).total.shape == (0,)


def test_covering_blank_with_blank_has_exactly_no_effect():
    model = TransformerAutoencoder(SQUARE).eval()  # float32, where rounding would show
    image = torch.ones(1, 1, 32, 32)
    image[..., 8:16, 16:24] = 0.3
    effect = occlusion.occlude(model, image).total
    assert effect.nonzero().flatten().tolist() == [6]
    assert occlusion.occlude(model, image, baseline=image).total.abs().max() == 0


def imputed_by_the_paper(pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Rong 2022's equations, pixel by pixel: each unknown one is the weighted mean of the neighbours that there are."""
    weights = {(0, 1): 1 / 6, (0, -1): 1 / 6, (1, 0): 1 / 6, (-1, 0): 1 / 6}
    weights |= {(1, 1): 1 / 12, (1, -1): 1 / 12, (-1, 1): 1 / 12, (-1, -1): 1 / 12}
    unknown = [tuple(place) for place in np.argwhere(hole)]
    matrix, right = np.zeros((len(unknown),) * 2), np.zeros(len(unknown))
    for number, (row, column) in enumerate(unknown):
        for (down, across), weight in weights.items():
            place = (row + down, column + across)
            if not (0 <= place[0] < pixels.shape[0] and 0 <= place[1] < pixels.shape[1]):
                continue
            matrix[number, number] += weight
            if hole[place]:
                matrix[number, unknown.index(place)] -= weight
            else:
                right[number] += weight * pixels[place]
    filled = pixels.copy()
    filled[hole] = np.linalg.solve(matrix, right)
    return filled


def test_imputation_solves_the_equations_of_its_paper(monkeypatch):
    monkeypatch.setattr(occlusion, "IMPUTED_NOISE", 0)
    image = draw_images(SQUARE, 1)
    pixels, owner = image[0, 0].numpy(), occlusion.tokens_of_pixels(image, SQUARE)
    alone = occlusion.cover_of(image, "imputed", SQUARE)[0, 0].numpy()
    for token in (0, 5, 7, 15):  # corners, an edge, the middle
        hole = (owner == token).numpy()
        np.testing.assert_allclose(alone[hole], imputed_by_the_paper(pixels, hole)[hole])
    sets = torch.zeros(2, 16, dtype=torch.bool)
    sets[0, [5, 6, 12]] = sets[1] = True
    some, everything = occlusion.covered_images(image, sets, "imputed", SQUARE)
    hole = torch.isin(owner, torch.tensor([5, 6, 12])).numpy()
    np.testing.assert_allclose(some[0].numpy(), imputed_by_the_paper(pixels, hole))  # neighbours as one hole
    assert_close(everything[0], torch.full_like(image[0, 0], image.mean().item()))


def test_imputation_leaves_a_little_noise_the_same_each_time():
    black = torch.zeros(1, 1, 32, 32)
    grey = torch.full((1, 1, 32, 32), 0.5)
    for image in (black, grey):
        first, again = (occlusion.cover_of(image, "imputed", SQUARE) for _ in range(2))
        assert torch.equal(first, again) and first.min() >= 0
    assert (first - grey).std().item() == pytest.approx(0.01, rel=0.1) and first.mean().item() == pytest.approx(
        0.5, abs=1e-3
    )


def test_occlusion_refuses_what_does_not_fit():
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    with pytest.raises(ValueError, match=r"image must be \(1, 1, H, W\), got \(2, 1, 32, 32\)"):
        occlusion.occlude(model, image.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match=r"tokens must be from 0 to 15, got \[3, 16\]"):
        occlusion.occlude(model, image, tokens=[3, 16])
    with pytest.raises(
        ValueError, match="baseline must be a grey, 'mean', 'blur', 'imputed', or an image, got 'black'"
    ):
        occlusion.occlude(model, image, baseline="black")
    with pytest.raises(ValueError, match=r"baseline must be \(1, 1, 32, 32\) like the image, got \(1, 1, 8, 8\)"):
        occlusion.occlude(model, image, baseline=torch.ones(1, 1, 8, 8))


def test_foreground_is_where_a_single_pixel_is_dark_enough():
    image = torch.ones(1, 1, 19, 37)  # 3 x 5 patches, the last row and column cut
    image[..., 18, 36] = 0.94
    image[..., 7, 8] = 0.0
    image[..., 12, 20] = 0.96
    assert occlusion.foreground_tokens(image, CONFIGS["odd size"]).tolist() == [1, 14]
    assert occlusion.foreground_tokens(torch.ones(1, 1, 19, 37), CONFIGS["odd size"]).tolist() == []


@pytest.mark.parametrize("shape", [{}, {"input_size": (19, 37)}, {"input_size": (16, None), "max_width": 64}])
def test_occlusion_of_a_region_in_batches_is_that_of_one_patch_after_another(small_model, shape):
    model = small_model(**shape)
    height, width = model.config.input_size
    image = draw(size=(height, width or 40))
    region = Box(3, 5, 14, 30)
    rows, columns = model.config.grid_for(image.shape[3])
    with torch.no_grad():
        plain, expected = model(image)[0], []
        for token in range(rows * columns):
            covered = image.clone()
            top, left = token // columns * 8, token % columns * 8
            covered[..., top : top + 8, left : left + 8] = 1
            change = (model(covered)[0] - plain) ** 2
            expected.append(change[..., 3:14, 5:30].mean())
    for batch_size in (1, 5, 64):
        effect = occlusion.occlude(model, image, batch_size=batch_size, region=region).total
        assert_close(effect, torch.stack(expected))
    assert_close(occlusion.region_inputs(model, image, region, "occlusion"), torch.stack(expected))


def test_a_blurred_cover_keeps_the_mean_and_flattens_the_contrast(small_model):
    config, image = small_model().config, draw()
    cover = occlusion.cover_of(image, "blur", config)
    assert cover.shape == image.shape and cover.dtype == image.dtype
    assert cover.std() < 0.2 * image.std()
    assert cover.mean() == pytest.approx(image.mean().item(), abs=0.02)
    flat = torch.full_like(image, 0.3)
    assert_close(occlusion.cover_of(flat, "blur", config), flat)


def test_progress_of_occlusion_counts_up(small_model):
    shares = []
    occlusion.occlude(small_model(), draw(), batch_size=5, progress=shares.append)
    assert shares == pytest.approx([5 / 12, 10 / 12, 1])


def test_regions_that_do_not_fit_are_refused(small_model):
    model, image = small_model(), draw()
    for region in (Box(0, 0, 25, 5), Box(5, 0, 5, 5), Box(0, -1, 5, 5)):
        for call in (occlusion.occlude, occlusion.gradient_x_input):
            with pytest.raises(ValueError, match="region must be .* inside 24 rows and 32 columns"):
                call(model, image, region=region)
    with pytest.raises(ValueError, match="how must be gradient or occlusion, got 'guess'"):
        occlusion.region_inputs(model, image, Box(0, 0, 5, 5), "guess")


@pytest.mark.parametrize("region", [None, Box(3, 5, 14, 30)])
def test_gradient_x_input_is_the_slope_along_the_ink_of_each_patch(small_model, region):
    model, image = small_model(), draw()
    rows, columns = (slice(None), slice(None)) if region is None else (slice(3, 14), slice(5, 30))

    def ink(images: Tensor) -> float:
        with torch.no_grad():
            return (1 - model(images)[0][..., rows, columns]).mean().item()

    found = occlusion.gradient_x_input(model, image, region)
    for token in (0, 6, 11):  # central differences, as the ink of one patch is scaled
        step, place = 1e-5, torch.zeros_like(image)
        top, left = token // 4 * 8, token % 4 * 8
        place[..., top : top + 8, left : left + 8] = 1
        slope = (ink(1 - (1 - image) * (1 + step * place)) - ink(1 - (1 - image) * (1 - step * place))) / (2 * step)
        assert found.signed[token].item() == pytest.approx(slope, rel=1e-5)
    assert (found.absolute >= found.signed.abs()).all()
    if region is not None:
        assert torch.equal(occlusion.region_inputs(model, image, region), found.absolute)


def test_white_paper_has_no_gradient_x_input_and_nothing_is_left_in_the_model(small_model):
    model, image = small_model(), draw()
    image[..., :8, :8] = 1
    with torch.inference_mode():
        found = occlusion.gradient_x_input(model, image)
    assert found.signed[0] == found.absolute[0] == 0
    assert (found.absolute[1:] > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not image.requires_grad and not found.signed.requires_grad
