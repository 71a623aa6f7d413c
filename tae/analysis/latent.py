"""The latent space of a set of images: its map, its directions, neighbours in it, ways through it.

Latents here are arrays (n, D), as `embed_images` gives them; numbers are computed in float64. An image that is drawn
from a latent which no image has says what the decoder makes of it, not that such an image exists. Latents that do not
fit, or are not finite, raise ValueError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tae.analysis.numbers import percent
from tae.data.batches import to_batch
from tae.data.encode import encode_gif
from tae.model.autoencoder import TransformerAutoencoder

METRICS = ("euclidean", "cosine")
PATHS = ("linear", "spherical")
PLACED_FROM = 5  # neighbours that place an image in a t-SNE map


@torch.no_grad()
def embed_images(
    model: TransformerAutoencoder,
    images: Sequence[np.ndarray],
    batch_size: int = 16,
    progress: Callable[[float], object] = lambda share: None,
) -> np.ndarray:
    """Embed uint8 images (H, W), `batch_size` at once: (n, latent_dim) float32 in their order.

    Widths may differ where the model takes any.
    """
    parameter = next(model.parameters())
    latents = np.empty((len(images), model.config.latent_dim), np.float32)
    order = sorted(range(len(images)), key=lambda number: images[number].shape[1])  # little of a batch is padding
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch, widths = to_batch([images[number] for number in chosen])
        latents[chosen] = model.embed(batch.to(parameter), widths).float().cpu().numpy()
        progress((start + len(chosen)) / len(order))
    return latents


@torch.no_grad()
def decode_latents(
    model: TransformerAutoencoder, latents: np.ndarray, width: int | None = None, batch_size: int = 16
) -> np.ndarray:
    """Draw latents (n, D), `batch_size` at once, as images (n, H, W) float32 of one width, clipped to [0, 1].

    The width is in pixels; None is the one that the model fixes.
    """
    parameter = next(model.parameters())
    parts = torch.from_numpy(np.array(latents)).to(parameter).split(batch_size)
    return torch.cat([model.decode(part, width)[:, 0].clamp(0, 1).float().cpu() for part in parts]).numpy()


@dataclass(frozen=True)
class Pca:
    """The principal directions of a set of latents, the strongest first.

    Only directions in which the set varies are kept, so with fewer images than dimensions there are fewer of them.
    """

    mean: np.ndarray  # (D,) float64
    directions: np.ndarray
    """(k, D) float64, of length 1; each one's largest number is positive, so that its sign is settled."""
    variances: np.ndarray  # (k,) float64, of the set along them (divided by n - 1), all above 0
    low: np.ndarray  # (k,) least scores of the set, in standard deviations
    high: np.ndarray  # (k,) greatest scores
    num_images: int

    def project(self, latents: np.ndarray, count: int | None = None) -> np.ndarray:
        """Coordinates (n, count) of latents (n, D) along the first directions; None: all of them."""
        return (np.asarray(latents, np.float64) - self.mean) @ self.directions[:count].T

    def scores(self, latents: np.ndarray, count: int | None = None) -> np.ndarray:
        """The coordinates of `project` in standard deviations of the set: what the sliders show."""
        return self.project(latents, count) / np.sqrt(self.variances[:count])

    def moved(self, latent: np.ndarray, scores: dict[int, float]) -> np.ndarray:
        """A latent (D,) with the scores of some directions, in standard deviations, set to others.

        float64; the rest of it is left alone, and so is all of it where a score is its own.
        """
        latent = np.asarray(latent, np.float64)
        own = self.scores(latent[None])[0]
        for number, score in scores.items():
            if number not in range(len(own)) or not np.isfinite(score):
                raise ValueError(
                    f"scores must be finite numbers of directions 0 to {len(own) - 1}, got {score} of {number}"
                )
            latent = latent + (score - own[number]) * np.sqrt(self.variances[number]) * self.directions[number]
        return latent

    def beyond(self, scores: np.ndarray) -> list[int]:
        """Directions in which scores (k',) lie beyond every image of the set: where the decoder is on its own."""
        count = len(scores)
        return np.flatnonzero((scores < self.low[:count]) | (scores > self.high[:count])).tolist()

    def truncated(self, latents: np.ndarray, count: int) -> np.ndarray:
        """Latents (n, D) of which only the first `count` directions are kept, the rest being the set's mean."""
        return self.mean + self.project(latents, count) @ self.directions[:count]


def fit_pca(latents: np.ndarray) -> Pca:
    """The principal components of latents (n, D) (Pearson 1901), by a singular value decomposition in float64.

    ValueError if there are fewer than 3 latents, not finite ones, or no two different ones.
    """
    latents = _checked(latents, least=3)
    mean = latents.mean(axis=0)
    _, singular, directions = np.linalg.svd(latents - mean, full_matrices=False)
    # Below this, NumPy's matrix_rank too takes what is left for rounding.
    kept = singular > max(latents.shape) * np.finfo(np.float64).eps * max(singular.max(), np.abs(mean).max())
    if not kept.any():
        raise ValueError("latents must differ, got the same for every image")
    singular, directions = singular[kept], directions[kept]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    directions = directions * np.sign(largest)
    variances = singular**2 / (len(latents) - 1)
    scores = (latents - mean) @ directions.T / np.sqrt(variances)
    return Pca(mean, directions, variances, scores.min(axis=0), scores.max(axis=0), len(latents))


def participation_ratio(variances: np.ndarray) -> float:
    """How many dimensions are in use: (sum of variances)^2 / sum of their squares; k for k equal ones.

    From few images it comes out too low. It counts variance in the latent, not what the decoder makes of it.
    """
    variances = np.asarray(variances, np.float64)
    return float(variances.sum() ** 2 / (variances**2).sum())


def effective_rank(variances: np.ndarray) -> float:
    """The exponential of the entropy of the variances' shares (Roy & Vetterli 2007, of the covariance matrix)."""
    shares = np.asarray(variances, np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def dimensions_for(variances: np.ndarray, share: float) -> int:
    """The least number of principal directions that hold a share of the variance, 0 < share <= 1."""
    cumulative = np.cumsum(np.asarray(variances, np.float64))
    return int(np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))) + 1


@dataclass(frozen=True)
class LatentMap:
    """A set of latents laid out on a plane."""

    method: str  # "pca" or "tsne"
    latents: np.ndarray  # (n, D), the set
    coordinates: np.ndarray  # (n, 2) float64
    pca: Pca  # the set's

    @property
    def axes(self) -> tuple[str, str]:
        """Titles of the axes."""
        if self.method == "tsne":
            return "t-SNE 1", "t-SNE 2"
        shares = self.pca.variances / self.pca.variances.sum()
        x, y = (f"{percent(share)} of the variance" for share in [*shares[:2], 0.0][:2])
        return f"Component 1 ({x})", f"Component 2 ({y})"

    @property
    def note(self) -> str:
        """A sentence that a reader must know about where points lie."""
        if self.method == "tsne":
            return (
                "t-SNE keeps neighbours together; distances between groups, their sizes and their directions mean "
                f"nothing. Your own images lie at the weighted mean of their {PLACED_FROM} nearest test images, "
                "which is a guess: t-SNE itself places no new points."
            )
        return "Points that lie apart are apart; points together may differ in other directions."

    def place(self, latents: np.ndarray) -> np.ndarray:
        """The places (m, 2) of other latents (m, D) on the map: in PCA exact, in t-SNE by their neighbours."""
        if self.method == "pca":
            return _plane(self.pca, latents)
        return place_by_neighbours(latents, self.latents, self.coordinates)


def map_pca(latents: np.ndarray) -> LatentMap:
    """A map of latents (n, D) on their first two principal directions; raises as `fit_pca`."""
    pca = fit_pca(latents)
    return LatentMap("pca", latents, _plane(pca, latents), pca)


def map_tsne(latents: np.ndarray, perplexity: float = 30) -> LatentMap:
    """A map of latents (n, D) by t-SNE, started from their PCA (van der Maaten & Hinton 2008, Barnes-Hut).

    About `perplexity` neighbours of a point count, above 0, at most a third of the others; raises as `fit_pca`.
    """
    from sklearn.manifold import TSNE  # a second of import that only this map needs

    if not perplexity > 0:
        raise ValueError(f"perplexity must be above 0, got {perplexity}")
    pca = fit_pca(latents)
    start = _plane(pca, latents)
    start = start / start[:, 0].std() * 1e-4  # Kobak & Berens 2019
    perplexity = min(perplexity, (len(latents) - 1) / 3)
    tsne = TSNE(init=start.astype(np.float32), perplexity=perplexity, random_state=0, learning_rate="auto")
    return LatentMap("tsne", latents, tsne.fit_transform(np.asarray(latents, np.float32)).astype(np.float64), pca)


def place_by_neighbours(
    latents: np.ndarray, known: np.ndarray, coordinates: np.ndarray, count: int = PLACED_FROM
) -> np.ndarray:
    """The places (m, 2) of latents (m, D) on a map that has no rule for new points.

    The nearest `count` of the known (n, D), euclidean, whose places are (n, 2), are averaged, each by one over its
    distance; what is known lies where it is known.
    """
    numbers, distances = neighbours(latents, known, min(count, len(known)))
    weights = 1 / np.maximum(distances, 1e-12 + 1e-9 * distances.max(axis=1, keepdims=True))
    weights[distances[:, 0] == 0, 1:] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, coordinates[numbers])


def neighbours(
    latents: np.ndarray, known: np.ndarray, count: int, metric: str = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest of a set (n, D) to each latent (m, D).

    The metric is "euclidean", or "cosine": 1 - the cosine of the angle at the origin; 1 where one of them is 0. Returns
    numbers (m, count) in the set, the nearest first and the lower number first where they are equally near; and
    distances (m, count) float64.
    """
    latents, known = _checked(latents, least=0), _checked(known, least=1)
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; choose from: {', '.join(METRICS)}")
    if not 1 <= count <= len(known):
        raise ValueError(f"count must be from 1 to {len(known)}, got {count}")
    if latents.shape[1] != known.shape[1]:
        raise ValueError(f"latents must have {known.shape[1]} numbers like the set, got {latents.shape[1]}")
    distances = np.empty((len(latents), len(known)))
    for row, latent in enumerate(latents):  # not all differences at once: they are n times as much
        if metric == "euclidean":
            distances[row] = np.linalg.norm(known - latent, axis=1)
        else:
            lengths = np.linalg.norm(known, axis=1) * np.linalg.norm(latent)
            cosines = np.divide(known @ latent, lengths, out=np.zeros(len(known)), where=lengths > 0)
            distances[row] = 1 - np.clip(cosines, -1, 1)
    numbers = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return numbers, np.take_along_axis(distances, numbers, axis=1)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int, path: str = "linear") -> np.ndarray:
    """Latents (steps, D) float64 on the way from one (D,) to another, evenly, both ends included to the bit.

    The path is "linear", or "spherical" (Shoemake 1985; for latents White 2016): along the great circle around the
    origin, the length changing evenly; straight where the two directions are the same or one of them is 0, and refused
    where they are opposite. Steps are at least 2.
    """
    start, end = (_checked(one, axes=1) for one in (start, end))
    if path not in PATHS:
        raise ValueError(f"unknown path {path!r}; choose from: {', '.join(PATHS)}")
    if steps < 2 or start.shape != end.shape:
        raise ValueError(
            f"steps must be at least 2 and the ends of one shape, got {steps}, {start.shape} and {end.shape}"
        )
    t = np.linspace(0, 1, steps)[:, None]
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    points = (1 - t) * start + t * end
    if path == "spherical" and all(lengths):
        one, other = start / lengths[0], end / lengths[1]
        angle = 2 * np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))  # exact for small ones too
        if np.pi - angle < 1e-6:
            raise ValueError("the ends must not lie in opposite directions for a spherical path; take a linear one")
        if angle > 1e-6:
            directions = (np.sin((1 - t) * angle) * one + np.sin(t * angle) * other) / np.sin(angle)
            points = directions * ((1 - t) * lengths[0] + t * lengths[1])
    points[0], points[-1] = start, end
    return points


def interpolation_gif(frames: np.ndarray) -> bytes:
    """Frames (n, H, W), uint8 or float in [0, 1], at least one, as an endless animation there and back, in 256 greys."""
    if len(frames) == 0:
        raise ValueError("frames must be at least one, got none")
    return encode_gif([*frames, *frames[-2:0:-1]], 80)


def _plane(pca: Pca, latents: np.ndarray) -> np.ndarray:
    """(n, 2), the second 0 where a set varies in one direction only."""
    coordinates = pca.project(latents, 2)
    return np.pad(coordinates, ((0, 0), (0, 2 - coordinates.shape[1])))


def _checked(latents: np.ndarray, least: int = 0, axes: int = 2) -> np.ndarray:
    latents = np.asarray(latents, np.float64)
    if latents.ndim != axes or (axes == 2 and len(latents) < least) or not np.isfinite(latents).all():
        wanted = f"finite (n, D) with n at least {least}" if axes == 2 else "finite (D,)"
        raise ValueError(f"latents must be {wanted}, got {latents.shape}")
    return latents
