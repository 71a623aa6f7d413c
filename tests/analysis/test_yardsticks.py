"""Simple codes, against numpy, scikit-learn's exact PCA and values by hand."""

import math

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from tae.analysis import yardsticks
from tae.analysis.yardsticks import Yardstick, Yardsticks, mean_psnr, thumbnail, verdict, yardsticks_in


def photographs(count: int, height: int = 12, width: int = 16, seed: int = 0) -> list[np.ndarray]:
    """Smooth images (H, W) uint8, no two alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 3, 4)).astype(np.uint8)
    return [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]


def reached(train: list[np.ndarray], test: list[np.ndarray], numbers: int) -> dict[str, float]:
    return {one.key: one.psnr for one in Yardsticks(train, numbers).measure(test)}


def test_mean_image_mean_grey_and_pca_are_those_of_numpy_and_scikit_learn() -> None:
    train, test = photographs(9), photographs(5, seed=1)
    found = reached(train, test, 4)
    shown = [image / 255 for image in test]
    flat = np.stack([image.ravel() for image in train]) / 255
    mean = flat.mean(axis=0).reshape(12, 16)
    assert list(found) == ["mean_image", "mean_grey", "pca", "thumbnail"]
    assert found["mean_image"] == pytest.approx(mean_psnr(shown, [mean] * 5))
    assert found["mean_grey"] == pytest.approx(np.mean([-10 * math.log10(image.var()) for image in shown]))
    exact = PCA(4).fit(flat)
    drawn = exact.inverse_transform(exact.transform(np.stack([image.ravel() for image in shown])))
    assert found["pca"] == pytest.approx(mean_psnr(shown, [*drawn.clip(0, 1).reshape(5, 12, 16)]), abs=1e-4)


@pytest.mark.parametrize("count", [3, 40, 400])  # fewer images than pixels, and more
def test_components_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(yardsticks, "PIXELS_AT_ONCE", 50)
    flat = np.stack([image.ravel() for image in photographs(count)])
    kept = min(6, count - 1)
    ours = yardsticks.principal_components(flat, kept)[::-1]
    theirs = np.asarray(PCA(kept).fit(flat / 255).components_)
    assert ours @ ours.T == pytest.approx(np.eye(kept), abs=1e-4)
    assert np.abs(ours @ theirs.T) == pytest.approx(np.eye(kept), abs=1e-3)


def test_where_widths_differ_rows_have_means_and_there_is_no_pca() -> None:
    train = [np.full((4, width), 10 * width, np.uint8) for width in (5, 7)]
    train[0][1] = 200
    test = [np.full((4, 9), 100, np.uint8)]
    measured = Yardsticks(train, 8)
    assert measured.mean_image is None
    assert measured.row_means * 255 == pytest.approx(
        [(5 * 50 + 7 * 70) / 12, (5 * 200 + 7 * 70) / 12, 740 / 12, 740 / 12]
    )
    assert [one.key for one in measured.measure(test)] == ["mean_image", "mean_grey", "thumbnail"]


def test_images_of_other_widths_than_all_that_were_trained_on_are_measured_by_rows() -> None:
    train = photographs(5)
    measured = Yardsticks(train, 4)
    found = measured.measure([train[0], train[1][:, :9]])
    assert [one.key for one in found] == ["mean_image", "mean_grey", "thumbnail"]
    rows = np.mean([image.mean(axis=1) for image in train], axis=0)[:, None] / 255
    shown = [train[0] / 255, train[1][:, :9] / 255]
    assert found[0].psnr == pytest.approx(mean_psnr(shown, [rows, rows]))


@pytest.mark.parametrize(
    ("size", "numbers", "pixels"),
    [((201, 201), 128, (11, 11)), ((152, 1280), 128, (4, 32)), ((16, 3), 128, (16, 3)), ((8, 9), 1, (1, 1))],
)
def test_a_thumbnail_has_the_image_s_proportions_and_no_more_numbers(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], numbers: int, pixels: tuple[int, int]
) -> None:
    seen = []
    resize = yardsticks.interpolate
    monkeypatch.setattr(yardsticks, "interpolate", lambda x, to, **how: seen.append(to) or resize(x, to, **how))
    image = np.linspace(0, 1, size[0])[:, None] * np.ones(size)
    small = thumbnail(image, numbers)
    assert seen == [pixels, size] and small.shape == size and pixels[0] * pixels[1] <= numbers
    if pixels == size:
        assert small == pytest.approx(image, abs=1e-6)


def test_a_thumbnail_is_the_library_s_bicubic() -> None:
    image = photographs(1, 40, 60)[0] / 255
    small = Image.fromarray(image.astype(np.float32)).resize((12, 8), Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((60, 40), Image.Resampling.BICUBIC)).clip(0, 1)
    assert mean_psnr([image], [thumbnail(image, 100)]) == pytest.approx(mean_psnr([image], [large]), abs=0.5)


def test_a_perfect_copy_counts_as_a_hundred() -> None:
    white = [np.full((4, 4), 255, np.uint8)]
    assert reached(white * 2, white, 2) == {"mean_image": 100, "mean_grey": 100, "pca": 100, "thumbnail": 100}


def test_without_an_image_there_is_no_yardstick() -> None:
    with pytest.raises(ValueError, match="at least one training image, got none"):
        Yardsticks([], 4)


def test_verdict_says_of_which_and_by_how_much() -> None:
    sticks = [Yardstick("mean_image", 12.0), Yardstick("mean_grey", 10.0), Yardstick("thumbnail", 21.05)]
    assert verdict(22.0, sticks) == (
        True,
        "22.00 dB, ahead of every yardstick: 0.95 dB ahead of a thumbnail of as many pixels",
    )
    assert verdict(21.05, sticks) == (False, "21.05 dB, 0.00 dB behind a thumbnail of as many pixels")
    said = "dB behind the mean of the training images and 10.05 dB behind a thumbnail of as many pixels"
    blank = ": worse than one average shown for every image"
    assert verdict(11.0, sticks) == (False, f"11.00 dB, 1.00 {said}{blank}")
    said = "8.00 dB, behind every yardstick, 13.05 dB behind a thumbnail of as many pixels"
    assert verdict(8.0, sticks) == (False, said + blank)


@pytest.mark.parametrize("values", [None, [], "pca", {"pca": "20"}, {"pca": math.nan}, {"other": 3.0}])
def test_strangers_values_are_no_yardsticks(values: object) -> None:
    assert yardsticks_in(values) == []
    assert yardsticks_in({"pca": 3, "mean_image": 1.5}) == [Yardstick("mean_image", 1.5), Yardstick("pca", 3.0)]
