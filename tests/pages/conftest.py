"""Fixtures that the tests of pages share: an empty shelf of checkpoints, and small models on it."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.pages_manager import PagesManager

from tae.data.demo import DemoSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.store.checkpoint import save_checkpoint
from tae.ui.session import work
from tests.pages import COUNT, card, very_small

# Each page opened here would read the description of every package installed, in search of components.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(autouse=True)
def no_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether work waits for a click hangs on this machine's speed, and on what else it does."""
    monkeypatch.setattr(work, "LONG_S", math.inf)


@pytest.fixture(autouse=True)
def few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all pages alike: what is measured is kept for the tests that follow."""
    monkeypatch.setattr("tae.ui.latent.measure.TEST_IMAGES", COUNT)
    monkeypatch.setattr("tae.ui.causal.measure.MEAN_OVER", 8)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of `checkpoints/`."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setenv("TAE_CHECKPOINTS", str(folder))
    return folder


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, bytes]]:
    """Gives the file that a page's download of this label hands over: its name and content."""
    offered: dict[str, tuple[str, Any]] = {}
    plain: Any = st.download_button

    def note(label: str, data: Any, file_name: str, *others: Any, **settings: Any) -> bool:
        offered[label] = file_name, data
        return plain(label, data, file_name, *others, **settings)

    monkeypatch.setattr(st, "download_button", note)

    def made(label: str) -> tuple[str, bytes]:
        name, data = offered[label]
        return name, data.encode() if isinstance(data, str) else data()

    return made


@pytest.fixture
def store(shelf: Path) -> Callable[..., Path]:
    """Saves a small model there."""

    def save(file: str, change: Callable[[TransformerAutoencoder], None] | None = None, **fields: object) -> Path:
        model = TransformerAutoencoder(preset_config("tiny", encoder_layers=1, decoder_layers=1)).eval()
        if change:
            with torch.no_grad():
                change(model)
        return save_checkpoint(shelf / file, model, card(**fields))

    return save


@pytest.fixture
def keep(shelf: Path) -> Callable[..., TransformerAutoencoder]:
    """Saves a very small model there, its latents spread out; fields of its shape may differ, and those of its card."""

    def save(
        change: Callable[[TransformerAutoencoder], None] | None = None,
        file: str = "small.safetensors",
        about: dict | None = None,
        **fields: Any,
    ) -> TransformerAutoencoder:
        model = very_small(**fields)
        if change:
            with torch.no_grad():
                change(model)
        save_checkpoint(shelf / file, model, card(**{"name": "small", "data": DemoSource.data, **(about or {})}))
        return model

    return save


@pytest.fixture
def pages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session knows its pages from one run to the next; AppTest forgets them, and a callback would find none."""
    known: dict = {}
    own = PagesManager.get_pages

    def get_pages(manager: PagesManager) -> dict:
        if len(pages := own(manager)) > 1:  # before its first run a manager knows the entry point only
            known.update(pages)
        return known or pages

    monkeypatch.setattr(PagesManager, "get_pages", get_pages)
