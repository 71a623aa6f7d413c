"""The latent space: plain references, hand-worked numbers, ends that are exact, pictures that come back."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tae.analysis.latent import (
    decode_latents,
    dimensions_for,
    effective_rank,
    embed_images,
    fit_pca,
    interpolate,
    interpolation_gif,
    map_pca,
    map_tsne,
    neighbours,
    participation_ratio,
    place_by_neighbours,
)
from tae.analysis.numbers import percent


def points(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """(count, dim) float64 of very different variances, away from the origin; read-only, as caches hand them out."""
    random = np.random.default_rng(seed)
    made = random.standard_normal((count, dim)) * np.logspace(0, -2, dim) @ random.standard_normal((dim, dim)) + 2
    made.flags.writeable = False
    return made


def images(widths: list[int], height: int = 24) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (height, width), np.uint8) for width in widths]


def test_latents_come_in_the_order_of_the_images_whatever_their_widths(small_model):
    for batch_size in [1, 2, 16]:
        model = small_model(input_size=(24, None), max_width=80)
        pictures = images([64, 21, 40, 64, 8])
        told: list[float] = []
        found = embed_images(model, pictures, batch_size, told.append)
        assert found.shape == (5, 16) and found.dtype == np.float32
        for latent, picture in zip(found, pictures, strict=True):
            alone = model.embed(torch.from_numpy(picture / 255)[None, None])
            np.testing.assert_allclose(latent, alone[0].detach().numpy(), atol=1e-5)
        assert told[-1] == 1 and told == sorted(told)


def test_decoded_latents_are_the_model_s_pictures_clipped(small_model):
    model = small_model()
    latents = points(5, 16) * 3
    found = decode_latents(model, latents, batch_size=2)
    plain = model.decode(torch.from_numpy(latents))[:, 0].detach()
    assert found.shape == (5, 24, 32) and plain.min() < 0
    np.testing.assert_allclose(found, plain.clamp(0, 1).numpy(), atol=1e-6)
    assert decode_latents(small_model(input_size=(24, None)), latents, width=40).shape == (5, 24, 40)


def test_pca_agrees_with_the_eigenvectors_of_the_covariance():
    for shape in [(60, 7), (5, 12), (3, 3)]:
        latents = points(*shape)
        pca = fit_pca(latents)
        values, vectors = np.linalg.eigh(np.cov(latents.T))
        count = min(shape[0] - 1, shape[1])
        assert len(pca.variances) == count
        np.testing.assert_allclose(pca.variances, values[::-1][:count], rtol=1e-6)
        for number in range(count):
            assert abs(pca.directions[number] @ vectors[:, ::-1][:, number]) == pytest.approx(1, abs=1e-6)
            assert pca.directions[number, np.abs(pca.directions[number]).argmax()] > 0
        np.testing.assert_allclose(pca.mean, latents.mean(axis=0))


def test_pca_is_a_rotation_that_goes_back():
    latents = points(60, 7)
    pca = fit_pca(latents)
    np.testing.assert_allclose(pca.directions @ pca.directions.T, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(pca.truncated(latents, 7), latents, atol=1e-12)
    np.testing.assert_allclose(pca.project(latents).var(axis=0, ddof=1), pca.variances)
    scores = pca.scores(latents)
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), 1)
    np.testing.assert_array_equal((pca.low, pca.high), (scores.min(axis=0), scores.max(axis=0)))


def test_truncated_latents_lose_the_variance_of_the_other_directions():
    latents = points(60, 7)
    pca = fit_pca(latents)
    lost = ((latents - pca.truncated(latents, 3)) ** 2).sum() / 59
    assert lost == pytest.approx(pca.variances[3:].sum())


def test_directions_without_variance_are_no_directions():
    latents = points(40, 6).copy()
    latents[:, 2:] = latents[:, :1] + 5  # two dimensions are left
    assert len(fit_pca(latents).variances) == 2


def test_latents_without_a_map_are_refused():
    for latents in [np.ones((9, 4)), np.ones((2, 4)), np.full((5, 3), np.nan), np.zeros((5, 2, 3)), np.zeros(7)]:
        with pytest.raises(ValueError, match="latents must"):
            fit_pca(latents)


def test_moving_sets_scores_and_leaves_the_others():
    latents = points(60, 7)
    pca = fit_pca(latents)
    moved = pca.moved(latents[4], {0: 1.5, 3: -2})
    own, scores = pca.scores(latents[4:5])[0], pca.scores(moved[None])[0]
    expected = own.copy()
    expected[[0, 3]] = 1.5, -2
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_moving_to_where_a_latent_is_moves_nothing():
    latents = points(60, 7)
    pca = fit_pca(latents)
    own = pca.scores(latents[4:5])[0]
    assert np.array_equal(pca.moved(latents[4], dict(enumerate(own.tolist()))), latents[4])
    assert np.array_equal(pca.moved(latents[4], {}), latents[4])


def test_a_direction_that_is_not_there_is_refused():
    pca = fit_pca(points(60, 7))
    for scores in ({7: 0.0}, {-1: 0.0}, {0: np.inf}):
        with pytest.raises(ValueError, match="scores must be finite numbers of directions 0 to 6"):
            pca.moved(np.zeros(7), scores)


def test_scores_beyond_every_image_are_told():
    pca = fit_pca(points(60, 7))
    assert pca.beyond((pca.low + pca.high) / 2) == []
    assert pca.beyond(pca.low) == pca.beyond(pca.high) == []
    scores = np.zeros(5)
    scores[1], scores[4] = pca.high[1] + 0.01, pca.low[4] - 0.01
    assert pca.beyond(scores) == [1, 4]


def test_k_equal_variances_are_k_dimensions_in_use():
    for k in [1, 2, 5, 128]:
        variances = np.array([3.0] * k + [0.0] * 4)
        assert participation_ratio(variances) == pytest.approx(k)
        assert effective_rank(variances) == pytest.approx(k)
        assert dimensions_for(variances, 1) == k


def test_dimensions_in_use_by_hand():
    variances = np.array([2.0, 1, 1])  # shares 1/2, 1/4, 1/4
    assert participation_ratio(variances) == pytest.approx(16 / 6)
    assert effective_rank(variances) == pytest.approx(2**1.5)  # entropy 1.5 bits
    assert [dimensions_for(variances, share) for share in (0.4, 0.5, 0.6, 0.75, 0.8, 1)] == [1, 1, 2, 2, 3, 3]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_dimensions_in_use_lie_between_one_and_all_and_do_not_depend_on_scale(variances):
    values = np.array(variances)
    for measure in (participation_ratio, effective_rank):
        assert 1 - 1e-9 <= measure(values) <= len(values) + 1e-9
        assert measure(7 * values) == pytest.approx(measure(values))
    assert participation_ratio(values) <= effective_rank(values) + 1e-9  # Renyi entropies fall with their order


def test_placing_in_a_pca_map_is_projecting():
    latents = points(60, 7)
    found = map_pca(latents)
    np.testing.assert_array_equal(found.place(latents), found.coordinates)
    np.testing.assert_allclose(
        found.place(latents[:2] + 1), (latents[:2] + 1 - latents.mean(axis=0)) @ found.pca.directions[:2].T
    )
    share = found.pca.variances[1] / found.pca.variances.sum()
    assert found.axes[1] == f"Component 2 ({percent(share)} of the variance)"


def test_a_set_along_one_line_has_a_map_too():
    found = map_pca(np.outer(np.arange(5.0), [1, 2, 3]))
    assert found.coordinates.shape == (5, 2) and not found.coordinates[:, 1].any()
    assert found.axes == ("Component 1 (100% of the variance)", "Component 2 (0% of the variance)")


def test_tsne_keeps_groups_together_and_is_the_same_each_time():
    random = np.random.default_rng(0)
    centres = 20 * random.standard_normal((3, 8))
    latents = np.concatenate([centre + random.standard_normal((20, 8)) for centre in centres])
    found, again = map_tsne(latents, perplexity=10), map_tsne(latents, perplexity=10)
    np.testing.assert_array_equal(found.coordinates, again.coordinates)
    nearest, _ = neighbours(found.coordinates, found.coordinates, 6)
    assert (nearest // 20 == np.arange(60)[:, None] // 20).all()
    placed = found.place(centres)
    assert (neighbours(placed, found.coordinates, 1)[0][:, 0] // 20).tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.place(latents[7:8])[0], found.coordinates[7])
    assert "guess" in found.note and found.axes == ("t-SNE 1", "t-SNE 2")


def test_tsne_of_few_images_lowers_its_perplexity_and_refuses_none():
    assert map_tsne(points(6, 4)).coordinates.shape == (6, 2)
    with pytest.raises(ValueError, match="perplexity must be above 0"):
        map_tsne(points(6, 4), perplexity=0)


def test_a_place_between_neighbours_by_hand():
    known, coordinates = np.array([[0.0], [3.0], [50.0]]), np.array([[0.0, 0], [10, 0], [0, 99]])
    # 1 from the first and 2 from the second: weights 2/3 and 1/3.
    np.testing.assert_allclose(place_by_neighbours(np.array([[1.0]]), known, coordinates, 2), [[10 / 3, 0]])
    np.testing.assert_array_equal(place_by_neighbours(known, known, coordinates, 3), coordinates)


def test_neighbours_are_those_of_a_search_pair_by_pair():
    for metric in ["euclidean", "cosine"]:
        latents, known = points(4, 6, seed=1), points(30, 6, seed=2)
        numbers, distances = neighbours(latents, known, 5, metric)
        for row, latent in enumerate(latents):
            plain = []
            for number, other in enumerate(known):
                apart = sum((a - b) ** 2 for a, b in zip(latent, other, strict=True)) ** 0.5
                product = sum(a * b for a, b in zip(latent, other, strict=True))
                lengths = sum(a * a for a in latent) ** 0.5 * sum(b * b for b in other) ** 0.5
                plain.append((apart if metric == "euclidean" else 1 - product / lengths, number))
            expected = sorted(plain)[:5]
            assert numbers[row].tolist() == [number for _, number in expected]
            np.testing.assert_allclose(distances[row], [distance for distance, _ in expected], atol=1e-12)


def test_equally_near_neighbours_come_by_their_number():
    known = np.array([[1.0, 0], [0, 1], [-1, 0], [0, 0.5]])
    assert neighbours(np.zeros((1, 2)), known, 4)[0].tolist() == [[3, 0, 1, 2]]
    assert neighbours(np.zeros((1, 2)), known, 4, "cosine")[1].tolist() == [[1, 1, 1, 1]]
    assert neighbours(np.zeros((0, 2)), known, 4)[0].shape == (0, 4)


def test_neighbours_refuse_what_does_not_fit():
    for change, words in [
        ({"count": 0}, "count must be from 1 to 3, got 0"),
        ({"count": 4}, "count must be from 1 to 3"),
        ({"metric": "manhattan"}, "unknown metric 'manhattan'; choose from: euclidean, cosine"),
        ({"latents": np.zeros((1, 5))}, "latents must have 2 numbers like the set, got 5"),
        ({"known": np.full((3, 2), np.inf)}, "latents must be finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            neighbours(**{"latents": np.zeros((1, 2)), "known": np.ones((3, 2)), "count": 1, **change})


@given(seed=st.integers(0, 99), steps=st.integers(2, 9))
def test_ways_begin_and_end_exactly(seed, steps):
    for path in ["linear", "spherical"]:
        start, end = np.random.default_rng(seed).standard_normal((2, 6)).astype(np.float32) * 3
        way = interpolate(start, end, steps, path)
        assert way.shape == (steps, 6)
        assert np.array_equal(way[0].astype(np.float32), start) and np.array_equal(way[-1].astype(np.float32), end)
        back = interpolate(end, start, steps, path)
        np.testing.assert_allclose(way[::-1], back, atol=1e-9)


def test_linear_way_by_hand():
    way = interpolate(np.array([0.0, 4]), np.array([4.0, 0]), 5)
    np.testing.assert_allclose(way, [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]])


def test_spherical_way_by_hand_turns_evenly_and_grows_evenly():
    way = interpolate(np.array([1.0, 0]), np.array([0.0, 3]), 4, "spherical")
    angles, lengths = np.radians([0, 30, 60, 90]), np.array([1, 5 / 3, 7 / 3, 3])
    np.testing.assert_allclose(way, lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-12)


def test_spherical_way_between_ends_of_one_direction_or_without_any_is_straight():
    start = np.array([1.0, 2, 3])
    for end in (start, 2 * start, np.zeros(3)):
        np.testing.assert_allclose(interpolate(start, end, 5, "spherical"), interpolate(start, end, 5))


def test_spherical_way_of_a_small_angle_agrees_with_the_straight_one():
    start, end = np.array([1.0, 0]), np.array([1.0, 1e-5])
    np.testing.assert_allclose(interpolate(start, end, 5, "spherical"), interpolate(start, end, 5), atol=1e-10)


def test_ways_that_are_none_are_refused():
    one = np.array([1.0, 2])
    with pytest.raises(ValueError, match="must not lie in opposite directions"):
        interpolate(one, -3 * one, 5, "spherical")
    with pytest.raises(ValueError, match="unknown path 'round'; choose from: linear, spherical"):
        interpolate(one, one, 5, "round")
    with pytest.raises(ValueError, match="steps must be at least 2"):
        interpolate(one, one, 1)
    with pytest.raises(ValueError, match="ends of one shape"):
        interpolate(one, np.zeros(3), 5)
    with pytest.raises(ValueError, match="latents must be finite"):
        interpolate(one, np.array([1, np.nan]), 5)


def frames_of(gif: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(gif)) as animation:
        found = []
        for number in range(getattr(animation, "n_frames", 1)):
            animation.seek(number)
            found.append(np.asarray(animation.convert("L")))
        return found


def test_animation_comes_back_grey_by_grey_and_runs_for_ever():
    frames = np.random.default_rng(0).integers(0, 256, (5, 20, 31), np.uint8)
    frames[1] = np.arange(620).reshape(20, 31) % 256  # every grey
    made = interpolation_gif(frames)
    for number, frame in zip([0, 1, 2, 3, 4, 3, 2, 1], frames_of(made), strict=True):
        np.testing.assert_array_equal(frame, frames[number])
    with Image.open(io.BytesIO(made)) as animation:
        assert (animation.info["loop"], animation.info["duration"]) == (0, 80)
    floats = np.random.default_rng(0).random((3, 8, 8), np.float32)
    np.testing.assert_array_equal(frames_of(interpolation_gif(floats))[0], np.round(floats[0] * 255))


def test_animation_of_one_frame_is_a_picture_and_of_none_is_refused():
    frame = np.random.default_rng(0).integers(0, 256, (1, 8, 8), np.uint8)
    np.testing.assert_array_equal(frames_of(interpolation_gif(frame)), frame)
    with pytest.raises(ValueError, match="frames must be at least one"):
        interpolation_gif(frame[:0])
