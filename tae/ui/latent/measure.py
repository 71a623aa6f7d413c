"""What the page Latent space measures: the test set embedded once for all sessions, its map, ways through it."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from tae.analysis import facts, latent
from tae.analysis.evaluate import reconstruct
from tae.analysis.latent import LatentMap
from tae.data.demo import DemoSource
from tae.data.fit import Fitted
from tae.model.config import ModelConfig
from tae.model.metrics import psnr_of
from tae.plots.latent import contact_sheet
from tae.store.checkpoint import Loaded
from tae.ui.session.models import Active
from tae.ui.session.pictures import Chosen
from tae.ui.session.results import MODEL_LOCK, as_batch, digest_of, pass_seconds, read_only
from tae.ui.session.work import Progress, measured

TEST_IMAGES = 1000
"""Demo test images of the map; as many as the figures in the README are of."""
COLUMNS = 25
"""Cells across in a sheet of thumbnails."""
BATCH = 16
FRAMES = 21
"""Pictures on the way from one to another."""


@dataclass(frozen=True)
class TestSet:
    """The demo test images of a model's size.

    Attributes:
        latents: (n, D) float32; read only.
        kinds: What each shows.
        ink: (n,) share of black in each.
        sheet: Small copies, `COLUMNS` across; read only.
        cell: (height, width) of a small copy.
    """

    __test__ = False  # no class of tests, whatever its name

    latents: np.ndarray
    kinds: list[str]
    ink: np.ndarray
    sheet: np.ndarray
    cell: tuple[int, int]

    def __len__(self) -> int:
        return len(self.latents)

    def thumbnail(self, number: int) -> np.ndarray:
        """(height, width) uint8 of one image."""
        height, width = self.cell
        row, column = divmod(number, COLUMNS)
        return self.sheet[row * height :, column * width :][:height, :width]


@dataclass(frozen=True)
class Scene:
    """What everything on the page is about.

    Attributes:
        active: The model.
        chosen: The picture of the sidebar.
        fitted: That picture as the model sees it.
        tests: The test set.
    """

    active: Active
    chosen: Chosen
    fitted: Fitted
    tests: TestSet

    @property
    def latent(self) -> np.ndarray:
        """(D,) of the picture."""
        return latent_of(self.active, self.fitted)

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self.fitted.pixels.shape[1]

    @property
    def is_wide(self) -> bool:
        return facts.is_wide(self.fitted.pixels.shape)

    @property
    def stem(self) -> str:
        """Of file names."""
        return facts.file_stem(self.chosen.title, self.active.is_trained)

    @property
    def about(self) -> str:
        """What an export is of; a stranger's text."""
        about = f"{self.chosen.title} · {self.active.title} · latent of {self.active.config.latent_dim} numbers"
        return facts.marked(about, self.active.is_trained)

    def draw(self, latents: np.ndarray) -> np.ndarray:
        return draw(self.active, latents, self.width)


def find_tests(active: Active) -> TestSet | None:
    """The test set in latent space; None while that is not computed."""

    def compute(progress: Progress) -> TestSet:
        source = _source(active.config)
        images = source.test(TEST_IMAGES)
        found = latent.embed_images(active.loaded.model, images, BATCH, progress)
        cell = cell_of(active.config)
        sheet = contact_sheet(images, cell[1], COLUMNS, cell[0])
        kinds = [source.kind("test", number) for number in range(TEST_IMAGES)]
        ink = np.array([1 - image.mean() / 255 for image in images])
        return TestSet(read_only(found), kinds, read_only(ink), read_only(sheet), cell)

    def seconds() -> float:
        return TEST_IMAGES * pass_seconds(active.config) / 2

    return measured("latents", active.loaded.digest, f"Embedding {TEST_IMAGES} test images", seconds, compute)


def find_psnrs(active: Active) -> np.ndarray | None:
    """(n,) PSNR in dB of each image of the test set; None while that is not computed."""

    def compute(progress: Progress) -> np.ndarray:
        images = _source(active.config).test(TEST_IMAGES)
        order = sorted(range(len(images)), key=lambda number: images[number].shape[1])
        psnrs = np.empty(len(images))
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            recons = reconstruct(active.loaded.model, [images[number] for number in numbers], BATCH)
            for number, recon in zip(numbers, recons, strict=True):
                psnrs[number] = psnr_of(float(np.mean((images[number] / 255 - recon) ** 2)))
            progress((start + len(numbers)) / len(order))
        return read_only(psnrs)

    def seconds() -> float:
        return TEST_IMAGES * pass_seconds(active.config)

    return measured("psnrs", active.loaded.digest, f"Reconstructing {TEST_IMAGES} test images", seconds, compute)


def test_picture(active: Active, number: int) -> np.ndarray:
    """(H, W) float32 in [0, 1] of one image of the test set."""
    return (_source(active.config).compose("test", number) / 255).astype(np.float32)


def cell_of(config: ModelConfig) -> tuple[int, int]:
    """(height, width) of small copies in pixels: wide pictures get wide cells."""
    height, width = config.input_size
    wide = width or config.max_width
    return (max(16, round(256 * height / wide)), 256) if facts.is_wide((height, wide)) else (64, 64)


def layout(active: Active, tests: TestSet, method: str) -> LatentMap:
    """The test set on a plane, by "pca" or "tsne".

    Raises:
        ValueError: If all latents are the same.
    """
    return (_tsne if method == "tsne" else _pca)(active.loaded.digest, tests.latents)


@st.cache_resource(max_entries=8, show_spinner=False)
def _pca(model_digest: str, _latents: np.ndarray) -> LatentMap:
    return latent.map_pca(_latents)


@st.cache_resource(max_entries=8, show_spinner="Laying out by t-SNE, some seconds…")
def _tsne(model_digest: str, _latents: np.ndarray) -> LatentMap:
    return latent.map_tsne(_latents)


def latent_of(active: Active, fitted: Fitted) -> np.ndarray:
    """(D,) of a picture; read only."""
    return _latent_of(active.loaded.digest, digest_of(fitted), active.loaded, fitted)


@st.cache_resource(max_entries=512, show_spinner=False)
def _latent_of(model_digest: str, digest: str, _loaded: Loaded, _fitted: Fitted) -> np.ndarray:
    import torch

    with MODEL_LOCK, torch.inference_mode():
        return read_only(_loaded.model.embed(as_batch(_fitted))[0].float().numpy())


def draw(active: Active, latents: np.ndarray, width: int) -> np.ndarray:
    """Latents (n, D) as pictures (n, H, W) in [0, 1], `width` wide where the model takes any width."""
    with MODEL_LOCK:
        return latent.decode_latents(active.loaded.model, latents, width, BATCH)


def way(active: Active, start: Fitted, end: Fitted, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Latents (`FRAMES`, D) from one picture to another of the same size, and what is drawn from them; read only.

    Raises:
        ValueError: If the way is spherical and the two lie in opposite directions.
    """
    return _way(active.loaded.digest, digest_of(start), digest_of(end), path, active, start, end)


@st.cache_resource(max_entries=8, show_spinner="Drawing the way…")
def _way(
    model_digest: str, start: str, end: str, path: str, _active: Active, _start: Fitted, _end: Fitted
) -> tuple[np.ndarray, np.ndarray]:
    ends = [latent_of(_active, one) for one in (_start, _end)]
    points = latent.interpolate(ends[0], ends[1], FRAMES, path)
    return read_only(points), read_only(draw(_active, points, _start.pixels.shape[1]))


def usual_distance(active: Active, tests: TestSet, metric: str) -> float:
    """Median distance of a test image to the nearest other one."""
    return _usual_distance(active.loaded.digest, metric, tests.latents)


@st.cache_data(max_entries=32, show_spinner=False)
def _usual_distance(model_digest: str, metric: str, _latents: np.ndarray) -> float:
    return float(np.median(latent.neighbours(_latents, _latents, 2, metric)[1][:, 1]))


def _source(config: ModelConfig) -> DemoSource:
    return DemoSource(config.input_size, config.max_width)
