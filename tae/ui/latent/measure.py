"""Measurements of the page Latent space: the test set embedded once for all sessions, its map, ways through it."""

from dataclasses import dataclass, field

import numpy as np

from tae.analysis import facts, latent
from tae.analysis.evaluate import reconstruct
from tae.analysis.latent import LatentMap
from tae.data.built_in import source_for
from tae.data.composed import BuiltIn
from tae.data.fit import Fitted
from tae.model.config import ModelConfig
from tae.model.metrics import psnr_of
from tae.plots.latent import contact_sheet
from tae.sequence.drops import DROPS, drop_table
from tae.store.checkpoint import Loaded
from tae.ui.session.cache import MODEL_LOCK, kept, read_only
from tae.ui.session.models import Active
from tae.ui.session.results import as_batch, pass_seconds
from tae.ui.session.scene import Scene
from tae.ui.session.work import Progress, measured

TEST_IMAGES = 1000  # demo test images of the map; as many as the figures in the README are of
COLUMNS = 25  # cells across in a sheet of thumbnails
BATCH = 16
FRAMES = 21  # images on the way from one to another


@dataclass(frozen=True)
class TestSet:
    """The demo test images of a model's size."""

    __test__ = False  # no class of tests, whatever its name

    latents: np.ndarray  # (n, D) float32; read only
    kinds: list[str]  # what each shows
    ink: np.ndarray  # (n,) share of black in each
    sheet: np.ndarray  # small copies, `COLUMNS` across; read only
    cell: tuple[int, int]  # (height, width) of a small copy
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """{header: (n,)} of the table beside simulated drops."""

    def __len__(self) -> int:
        return len(self.latents)

    def thumbnail(self, number: int) -> np.ndarray:
        """(height, width) uint8 of one image."""
        height, width = self.cell
        row, column = divmod(number, COLUMNS)
        return self.sheet[row * height :, column * width :][:height, :width]


@dataclass(frozen=True)
class SpaceScene(Scene):
    """A model, an image, and the test set in the model's latent space."""

    tests: TestSet

    @property
    def latent(self) -> np.ndarray:
        """(D,) of the image."""
        return latent_of(self.active.loaded, self.fitted)

    @property
    def about(self) -> str:
        """Caption of an export; a stranger's text."""
        return f"{super().about} · latent of {self.config.latent_dim} numbers"

    def draw(self, latents: np.ndarray) -> np.ndarray:
        """Latents (n, D) as images (n, H, W) in [0, 1]."""
        return draw(self.active, latents, self.width)


def find_tests(active: Active) -> TestSet | None:
    """The test set in latent space; None while that is not computed."""

    def compute(progress: Progress) -> TestSet:
        source = _source(active)
        images = source.test(TEST_IMAGES)
        found = latent.embed_images(active.loaded.model, images, BATCH, progress)
        cell = cell_of(active.config)
        sheet = contact_sheet(images, cell[1], COLUMNS, cell[0])
        kinds = [source.kind("test", number) for number in range(TEST_IMAGES)]
        ink = np.array([1 - image.mean() / 255 for image in images])
        columns = drop_table("test", TEST_IMAGES) if source.name == DROPS else {}
        return TestSet(read_only(found), kinds, read_only(ink), read_only(sheet), cell, columns)

    words = f"Embedding {TEST_IMAGES} test images"
    return measured(
        "latents",
        f"{active.loaded.digest}|{TEST_IMAGES}",
        words,
        lambda: TEST_IMAGES * pass_seconds(active.config) / 2,
        compute,
        lasting=active.lasts and TestSet,
    )


def find_psnrs(active: Active) -> np.ndarray | None:
    """(n,) PSNR in dB of each image of the test set; None while that is not computed."""

    def compute(progress: Progress) -> np.ndarray:
        images = _source(active).test(TEST_IMAGES)
        order = sorted(range(len(images)), key=lambda number: images[number].shape[1])
        psnrs = np.empty(len(images))
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            recons = reconstruct(active.loaded.model, [images[number] for number in numbers], BATCH)
            for number, recon in zip(numbers, recons, strict=True):
                psnrs[number] = psnr_of(float(np.mean((images[number] / 255 - recon) ** 2)))
            progress((start + len(numbers)) / len(order))
        return read_only(psnrs)

    words = f"Reconstructing {TEST_IMAGES} test images"
    return measured(
        "psnrs",
        f"{active.loaded.digest}|{TEST_IMAGES}",
        words,
        lambda: TEST_IMAGES * pass_seconds(active.config),
        compute,
        lasting=active.lasts and np.ndarray,
    )


@kept()
def test_image(active: Active, number: int) -> np.ndarray:
    """(H, W) float32 in [0, 1] of one image of the test set."""
    return read_only((_source(active).compose("test", number) / 255).astype(np.float32))


def cell_of(config: ModelConfig) -> tuple[int, int]:
    """(height, width) of small copies in pixels: wide images get wide cells."""
    height, width = config.input_size
    wide = width or config.max_width
    return (max(16, round(256 * height / wide)), 256) if facts.is_wide((height, wide)) else (64, 64)


def layout(active: Active, tests: TestSet, method: str) -> LatentMap:
    """The test set on a plane, by "pca" or "tsne". Raises ValueError if all latents are the same."""
    return (_tsne if method == "tsne" else _pca)(active, tests.latents)


@kept()
def _pca(active: Active, _latents: np.ndarray) -> LatentMap:
    return latent.map_pca(_latents)


@kept("Laying out by t-SNE, some seconds…")
def _tsne(active: Active, _latents: np.ndarray) -> LatentMap:
    return latent.map_tsne(_latents)


@kept()
def latent_of(loaded: Loaded, fitted: Fitted) -> np.ndarray:
    """(D,) of an image; read only."""
    import torch

    with MODEL_LOCK, torch.inference_mode():
        return read_only(loaded.model.embed(as_batch(fitted))[0].float().numpy())


def draw(active: Active, latents: np.ndarray, width: int) -> np.ndarray:
    """Latents (n, D) as images (n, H, W) in [0, 1], `width` wide where the model takes any width."""
    with MODEL_LOCK:
        return latent.decode_latents(active.loaded.model, latents, width, BATCH)


@kept("Drawing the way…")
def way(active: Active, start: Fitted, end: Fitted, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Latents (`FRAMES`, D) from one image to another of the same size, and what is drawn from them; read only.

    Raises ValueError if the way is spherical and the two lie in opposite directions.
    """
    ends = [latent_of(active.loaded, one) for one in (start, end)]
    points = latent.interpolate(ends[0], ends[1], FRAMES, path)
    return read_only(points), read_only(draw(active, points, start.pixels.shape[1]))


@kept()
def usual_distance(active: Active, _tests: TestSet, metric: str) -> float:
    """Median distance of a test image to the nearest other one."""
    return float(np.median(latent.neighbours(_tests.latents, _tests.latents, 2, metric)[1][:, 1]))


def _source(active: Active) -> BuiltIn:
    return source_for(active.config, active.data)
